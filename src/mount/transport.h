// The connection to the kernel: /dev/fuse, the mount, the handshake, replies and notifications.
//
// Shapes:   a request is one read(2) of the descriptor, a reply one writev(2).
// Threads:  receive(), reply() and notify_*() may be called from any thread. A notification must never be
// sent
//           by a thread that owes a reply: the kernel may wait for that reply's directory lock.
// Errors:   errno as the kernel gives it; mount() names the cause and the remedy.
// Source:   docs/design/mount.md, docs/decisions/0003-own-transport.md.
#pragma once
#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "mount/options.h"

namespace indra {

/// Largest content of one READ or WRITE.
inline constexpr std::size_t kMaxTransfer = 1 << 20;

/// A page-aligned block in which the content of a WRITE starts on a page.
class Buffer {
 public:
  Buffer();
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  [[nodiscard]] MutableBytes request() noexcept;  ///< where a request is received
  [[nodiscard]] MutableBytes content() noexcept;  ///< kMaxTransfer bytes for a reply's content

 private:
  std::byte* base_;
  std::size_t size_;
};

/// What the handshake ended in.
struct Negotiated {
  std::uint32_t minor = 0;
  std::uint64_t flags = 0;
  [[nodiscard]] bool has(std::uint64_t flag) const noexcept { return (flags & flag) != 0; }
};

class Connection {
 public:
  /// Opens /dev/fuse, mounts and shakes hands. As root by mount(2), else (or with auto_unmount) through
  /// the setuid helper fusermount3.
  [[nodiscard]] static Result<std::unique_ptr<Connection>> mount(const MountOptions&);
  ~Connection();  ///< unmounts if still mounted (lazily)

  enum class Received { request, nothing, ended };
  /// Fills `into` with one request and sets `size`, or says that none waits.
  [[nodiscard]] Received receive(MutableBytes into, std::size_t& size) noexcept;
  /// Sleeps until a request waits or the mount ended, at most `ms` (-1: for ever).
  void wait(int ms) const noexcept;
  [[nodiscard]] bool request_waits() const noexcept;

  /// 0, or the errno of the write: ENOENT when nobody waits for the answer any more.
  [[nodiscard]] int reply(std::uint64_t unique, int error, std::span<const iovec> body = {}) noexcept;

  /// `from` < 0: attributes only. These return 0 or an errno; ENOENT: the kernel does not hold it.
  int notify_inode(std::uint64_t node, std::int64_t from = 0, std::int64_t n = 0) noexcept;
  /// `expire`: asked for again at the next use, where the kernel can; mounts and cwds below survive.
  int notify_entry(std::uint64_t parent, std::string_view name, bool expire) noexcept;
  int notify_delete(std::uint64_t parent, std::uint64_t child, std::string_view name) noexcept;
  /// All names are asked for again at their next use. ENOSYS on kernels before 6.16.
  int notify_all_entries() noexcept;

  /// Takes the mount away; EBUSY (named) while files are open, unless `lazy`.
  [[nodiscard]] Result<void> unmount(bool lazy);
  [[nodiscard]] const Negotiated& negotiated() const noexcept { return negotiated_; }
  [[nodiscard]] bool ended() const noexcept { return ended_.load(std::memory_order_acquire); }

 private:
  Connection() = default;
  [[nodiscard]] Result<void> mount_directly(const MountOptions&);
  [[nodiscard]] Result<void> mount_by_helper(const MountOptions&);
  [[nodiscard]] Result<void> handshake(const MountOptions&);
  int notify(int code, std::span<const iovec> body) noexcept;

  int fd_ = -1;
  int helper_socket_ = -1;  // auto_unmount: the helper unmounts when this closes
  pid_t helper_ = -1;
  bool by_helper_ = false;
  std::string mountpoint_;
  Negotiated negotiated_;
  std::atomic<bool> ended_{false}, unmounted_{false};
};

}  // namespace indra
