#include "mount/transport.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <new>

#include "base/log.h"
#include "mount/internal/prepare.h"
#include "mount/internal/wire.h"

namespace indra {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kWriteHeader = sizeof(fuse_in_header) + sizeof(fuse_write_in);

iovec piece(const void* p, std::size_t n) { return {const_cast<void*>(p), n}; }

/// In an option list `,` and `\` must be escaped.
std::string escaped(std::string_view s) {
  std::string out;
  for (const char c : s) {
    if (c == ',' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

/// Receives the descriptor that fusermount3 opened. -1 when it ended without one.
int receive_descriptor(int socket) {
  char byte = 0;
  iovec iov{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  ssize_t n = 0;
  while ((n = ::recvmsg(socket, &msg, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
  }
  const cmsghdr* c = n > 0 ? CMSG_FIRSTHDR(&msg) : nullptr;
  if (c == nullptr || c->cmsg_type != SCM_RIGHTS) return -1;
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
  return fd;
}

}  // namespace

Buffer::Buffer() : size_{kPage + kMaxTransfer + kPage} {
  void* p = ::mmap(nullptr, 2 * size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc{};
  base_ = static_cast<std::byte*>(p);
}
Buffer::~Buffer() { ::munmap(base_, 2 * size_); }
MutableBytes Buffer::request() noexcept {
  return {base_ + kPage - kWriteHeader, size_ - (kPage - kWriteHeader)};
}
MutableBytes Buffer::content() noexcept { return {base_ + size_, kMaxTransfer}; }

Result<std::unique_ptr<Connection>> Connection::mount(const MountOptions& options) {
  std::unique_ptr<Connection> c{new Connection};
  INDRA_LET(c->mountpoint_, prepare_mountpoint(options));
  c->by_helper_ = ::geteuid() != 0 || options.auto_unmount;
  if (c->by_helper_) {
    INDRA_TRY(c->mount_by_helper(options));
  } else {
    INDRA_TRY(c->mount_directly(options));
  }
  INDRA_TRY(c->handshake(options));
  return c;
}

Result<void> Connection::mount_directly(const MountOptions& options) {
  fd_ = ::open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) {
    const int why = errno;
    if (why == ENOENT || why == ENODEV || why == ENXIO)
      return fail(why,
                  "/dev/fuse is not there (load the kernel module: modprobe fuse; in a container: --device "
                  "/dev/fuse)");
    return fail(why, "open /dev/fuse");
  }
  std::string data = "fd=" + std::to_string(fd_) + ",rootmode=40000,user_id=" + std::to_string(::geteuid()) +
                     ",group_id=" + std::to_string(::getegid()) + ",default_permissions";
  if (options.allow_other) data += ",allow_other";
  unsigned long flags = options.dev_suid ? 0 : MS_NOSUID | MS_NODEV;
  if (options.read_only) flags |= MS_RDONLY;
  if (::mount(options.fsname.c_str(), mountpoint_.c_str(), "fuse.indrafs", flags, data.c_str()) != 0) {
    const int why = errno;
    ::close(fd_);
    fd_ = -1;
    if (why == ENODEV) return fail(why, "the kernel has no FUSE (modprobe fuse)");
    if (why == EPERM) return fail(why, "mount " + mountpoint_ + " (in a container: CAP_SYS_ADMIN is needed)");
    return fail(why, "mount " + mountpoint_);
  }
  return {};
}

Result<void> Connection::mount_by_helper(const MountOptions& options) {
  if (options.allow_other && ::geteuid() != 0 && !user_may_allow_other())
    return fail(EPERM, "allow_other needs the line user_allow_other in /etc/fuse.conf");
  std::string opts = options.read_only ? "ro" : "rw";
  opts += ",nosuid,nodev,default_permissions,subtype=indrafs,fsname=" + escaped(options.fsname);
  if (options.allow_other) opts += ",allow_other";
  if (options.auto_unmount) opts += ",auto_unmount";

  int pair[2], err[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return fail(errno, "socketpair");
  if (::pipe2(err, O_CLOEXEC) != 0) {
    const int why = errno;
    ::close(pair[0]);
    ::close(pair[1]);
    return fail(why, "pipe");
  }
  auto pid = spawn_fusermount({"-o", opts, "--", mountpoint_}, pair[0], err[1]);
  ::close(pair[0]);
  ::close(err[1]);
  if (!pid) {
    ::close(pair[1]);
    ::close(err[0]);
    return fail(std::move(pid).error());
  }
  fd_ = receive_descriptor(pair[1]);
  std::string errors;
  char buf[512];
  for (ssize_t n = 0; fd_ < 0 && (n = ::read(err[0], buf, sizeof buf)) > 0;)
    errors.append(buf, static_cast<std::size_t>(n));
  while (!errors.empty() && errors.back() == '\n') errors.pop_back();
  ::close(err[0]);
  if (fd_ >= 0 && options.auto_unmount) {
    helper_socket_ = pair[1];
    helper_ = *pid;
  } else {
    ::close(pair[1]);
    int status = 0;
    while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
    }
  }
  if (fd_ < 0) return fail(EPERM, errors.empty() ? "fusermount3 could not mount " + mountpoint_ : errors);
  if (::fcntl(fd_, F_SETFL, O_RDWR | O_NONBLOCK) != 0) return fail(errno, "/dev/fuse");
  return {};
}

Result<void> Connection::handshake(const MountOptions& options) {
  constexpr std::uint64_t wanted =
      FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC | FUSE_DONT_MASK | FUSE_DO_READDIRPLUS |
      FUSE_READDIRPLUS_AUTO | FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_MAX_PAGES |
      FUSE_CACHE_SYMLINKS | FUSE_EXPLICIT_INVAL_DATA | FUSE_SETXATTR_EXT |
      static_cast<std::uint64_t>(FUSE_INIT_EXT) | wire::kHasExpireOnly | wire::kDirectIoAllowMmap;
  const auto space = std::make_unique<std::array<std::byte, kPage + kMaxTransfer + kPage>>();
  for (;;) {
    std::size_t size = 0;
    const auto got = receive(*space, size);
    if (got == Received::ended) return fail(ENODEV, "the mount ended before the handshake");
    if (got == Received::nothing) {
      pollfd p{fd_, POLLIN, 0};
      const int n = ::poll(&p, 1, 10'000);
      if (n == 0) return fail(ETIMEDOUT, "the kernel sent no handshake");
      continue;
    }
    fuse_in_header in{};
    fuse_init_in init{};
    std::memcpy(&in, space->data(), sizeof in);
    if (in.opcode != FUSE_INIT) {
      (void)reply(in.unique, EIO);
      continue;
    }
    std::memcpy(&init, space->data() + sizeof in, std::min(sizeof init, size - sizeof in));
    fuse_init_out out{};
    out.major = FUSE_KERNEL_VERSION;
    out.minor = FUSE_KERNEL_MINOR_VERSION;
    if (init.major != FUSE_KERNEL_VERSION || init.minor < 31) {
      if (init.major > FUSE_KERNEL_VERSION) {  // it will ask again in our words
        const std::array body{piece(&out, sizeof out)};
        (void)reply(in.unique, 0, body);
        continue;
      }
      (void)reply(in.unique, EPROTO);
      return fail(EPROTO, "this kernel's FUSE is too old; Linux 5.4 or newer is needed");
    }
    std::uint64_t offered = init.flags;
    if (offered & FUSE_INIT_EXT) offered |= static_cast<std::uint64_t>(init.flags2) << 32;
    std::uint64_t flags = wanted;
    if (options.locks == LockMode::daemon) flags |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
    if (options.cache == CacheMode::exclusive) flags |= FUSE_WRITEBACK_CACHE;
    flags &= offered;
    negotiated_ = {init.minor, flags};
    out.max_readahead = init.max_readahead;
    out.flags = static_cast<std::uint32_t>(flags);
    out.flags2 = static_cast<std::uint32_t>(flags >> 32);
    out.max_background = 64;
    out.congestion_threshold = 48;
    out.max_write = kMaxTransfer;
    out.time_gran = 1;
    out.max_pages = kMaxTransfer / kPage;
    const std::array body{piece(&out, sizeof out)};
    if (const int e = reply(in.unique, 0, body)) return fail(e, "handshake with the kernel");
    break;
  }
  return {};
}

Connection::~Connection() {
  if (fd_ >= 0 && !ended() && !unmounted_)
    if (auto r = unmount(true); !r) log::warn("{}", r.error().text());
  if (fd_ >= 0) ::close(fd_);
  if (helper_socket_ >= 0) ::close(helper_socket_);
  if (helper_ > 0) {
    int status = 0;
    while (::waitpid(helper_, &status, 0) < 0 && errno == EINTR) {
    }
  }
}

Connection::Received Connection::receive(MutableBytes into, std::size_t& size) noexcept {
  for (;;) {
    const ssize_t n = ::read(fd_, into.data(), into.size());
    if (n >= static_cast<ssize_t>(sizeof(fuse_in_header))) {
      size = static_cast<std::size_t>(n);
      return Received::request;
    }
    if (n >= 0) continue;
    if (errno == EINTR || errno == ENOENT) continue;  // ENOENT: the caller was killed before we read
    if (errno == EAGAIN) return Received::nothing;
    if (errno != ENODEV && errno != ECONNABORTED) log::error("read from /dev/fuse: errno {}", errno);
    ended_.store(true, std::memory_order_release);
    return Received::ended;
  }
}

void Connection::wait(int ms) const noexcept {
  pollfd p{fd_, POLLIN, 0};
  (void)::poll(&p, 1, ms);
}

bool Connection::request_waits() const noexcept {
  pollfd p{fd_, POLLIN, 0};
  return ::poll(&p, 1, 0) > 0 && (p.revents & POLLIN) != 0;
}

int Connection::reply(std::uint64_t unique, int error, std::span<const iovec> body) noexcept {
  std::array<iovec, 4> iov;
  fuse_out_header head{};
  std::size_t n = 1, size = sizeof head;
  if (error == 0)
    for (const iovec& b : body) {
      iov[n++] = b;
      size += b.iov_len;
    }
  head.len = static_cast<std::uint32_t>(size);
  head.error = -error;
  head.unique = unique;
  iov[0] = piece(&head, sizeof head);
  for (;;) {
    if (::writev(fd_, iov.data(), static_cast<int>(n)) >= 0) return 0;
    if (errno != EINTR) return errno;
  }
}

int Connection::notify(int code, std::span<const iovec> body) noexcept {
  std::array<iovec, 4> iov;
  fuse_out_header head{};
  std::size_t n = 1, size = sizeof head;
  for (const iovec& b : body) {
    iov[n++] = b;
    size += b.iov_len;
  }
  head.len = static_cast<std::uint32_t>(size);
  head.error = code;
  iov[0] = piece(&head, sizeof head);
  for (;;) {
    if (::writev(fd_, iov.data(), static_cast<int>(n)) >= 0) return 0;
    if (errno != EINTR) return errno;
  }
}

int Connection::notify_inode(std::uint64_t node, std::int64_t from, std::int64_t n) noexcept {
  const fuse_notify_inval_inode_out out{node, from, n};
  const std::array body{piece(&out, sizeof out)};
  return notify(FUSE_NOTIFY_INVAL_INODE, body);
}

int Connection::notify_entry(std::uint64_t parent, std::string_view name, bool expire) noexcept {
  fuse_notify_inval_entry_out out{};
  out.parent = parent;
  out.namelen = static_cast<std::uint32_t>(name.size());
  if (expire && negotiated_.has(wire::kHasExpireOnly)) out.flags = wire::kExpireOnly;
  const std::array body{piece(&out, sizeof out), piece(name.data(), name.size()), piece("", 1)};
  return notify(FUSE_NOTIFY_INVAL_ENTRY, body);
}

int Connection::notify_delete(std::uint64_t parent, std::uint64_t child, std::string_view name) noexcept {
  fuse_notify_delete_out out{};
  out.parent = parent;
  out.child = child;
  out.namelen = static_cast<std::uint32_t>(name.size());
  const std::array body{piece(&out, sizeof out), piece(name.data(), name.size()), piece("", 1)};
  return notify(FUSE_NOTIFY_DELETE, body);
}

int Connection::notify_all_entries() noexcept {
  if (negotiated_.minor < wire::kMinorWithEpoch) return ENOSYS;
  return notify(wire::kNotifyIncEpoch, {});
}

Result<void> Connection::unmount(bool lazy) {
  if (ended() || unmounted_) return {};
  INDRA_TRY(unmount_path(mountpoint_, lazy));
  unmounted_ = true;
  return {};
}

}  // namespace indra
