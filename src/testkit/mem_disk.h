// A Disk in memory that forgets: every write, punch and name since the last sync may be lost or torn by
// crash().
//
// Units:    bytes; blocks of 4 KiB, sectors of 512 bytes.
// Threads:  every member may be called from any thread; set_fault() before the others.
// Durable:  a file's bytes by its sync(), names by sync_dir(), as the contract of base/disk.h says and no
// more. Errors:   EIO on a file that was open when the disk crashed; ENOSPC beyond the capacity; what the
// fault says.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "base/disk.h"

namespace indra {

class MemDisk final : public Disk {
 public:
  enum class Op { open, create, remove, read, write, sync, punch, sync_dir };
  /// An errno for this call, 0 to let it pass.
  using Fault = std::function<int(Op, const std::string& path)>;

  explicit MemDisk(std::uint64_t capacity = 1ull << 40);
  ~MemDisk() override;

  /// The power goes. Each unsynced write is done, lost or torn (some sectors of it); of a directory's
  /// unsynced names a prefix in order is kept. The same seed on the same history gives the same disk. Open
  /// files are dead.
  void crash(std::uint64_t seed);
  /// As crash(), with nothing that was not synced.
  void crash_strictly();
  void set_fault(Fault);
  void set_capacity(std::uint64_t);
  /// Bytes written or punched, names made or removed, since their last sync.
  [[nodiscard]] std::size_t unsynced() const;
  [[nodiscard]] std::uint64_t count(Op) const;  ///< calls that succeeded
  /// Damages one byte of a file, durably.
  void flip(const std::string& path, std::uint64_t at);

  [[nodiscard]] Result<std::unique_ptr<DiskFile>> open(const std::string& path, bool create) override;
  [[nodiscard]] Result<void> make_dir(const std::string& path) override;  ///< durable at once
  [[nodiscard]] Result<void> remove(const std::string& path) override;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& dir) override;
  [[nodiscard]] Result<void> sync_dir(const std::string& path) override;
  [[nodiscard]] Result<Space> space(const std::string& path) override;

 private:
  struct State;
  class File;
  std::shared_ptr<State> state_;
};

}  // namespace indra
