// A Disk in memory that forgets: every write, punch, length and name since the last sync may be lost or torn
// by crash().
//
// Units:    bytes; blocks of 4 KiB, sectors of 512 bytes. A step is a call that changes something or syncs.
// Threads:  every member may be called from any thread; set_fault() before the others.
// Durable:  a file's bytes by its sync(), names by sync_dir(), as the contract of base/disk.h says and no
// more; a directory's own name by the sync_dir() of what it lies in. Directories that nobody made with
// make_dir() were always there.
// Errors:   EIO on a file that was open when the disk crashed, and on everything while the power is off;
// ENOSPC beyond the capacity; what the fault says.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "base/disk.h"

namespace indra {

/// The directory that a path lies in; "" without a slash.
[[nodiscard]] std::string dir_of(const std::string& path);

class MemDisk final : public Disk {
 public:
  enum class Op { open, create, remove, read, write, resize, sync, punch, make_dir, sync_dir };
  /// An errno for this call, 0 to let it pass, or a lie: what a broken disk or a broken program would do.
  using Fault = std::function<int(Op, const std::string& path)>;
  static constexpr int kSwallow = -1;  ///< answered as done, and not done
  static constexpr int kPutOff = -2;   ///< of a sync: done only after the next sync of another file
  static constexpr int kAtOnce = -3;   ///< durable without a sync

  explicit MemDisk(std::uint64_t capacity = 1ull << 40);
  ~MemDisk() override;
  /// A disk with what is durable on this one.
  [[nodiscard]] std::unique_ptr<MemDisk> copy() const;

  /// The power goes. Each unsynced write is done, lost or torn (some sectors of it), each unsynced name done
  /// or lost. The same seed on the same history gives the same disk. Open files are dead.
  void crash(std::uint64_t seed);
  /// As crash(), with nothing that was not synced.
  void crash_strictly();
  /// The process is gone, and the machine runs on: nothing is lost, and nothing becomes durable. Open files
  /// are dead.
  void kill();
  /// In the n-th step from now (1: the next) the power goes off, until crash() or kill() turn it on again. 0:
  /// never.
  void power_off_at(std::uint64_t n);
  void power_off();
  [[nodiscard]] bool power() const;
  [[nodiscard]] std::uint64_t steps() const;  ///< so far

  void set_fault(Fault);
  void set_capacity(std::uint64_t);
  /// Bytes written or punched, names made or removed, since their last sync.
  [[nodiscard]] std::size_t unsynced() const;
  [[nodiscard]] std::uint64_t count(Op) const;  ///< calls that succeeded
  /// Damages one byte of a file, durably.
  void flip(const std::string& path, std::uint64_t at);
  [[nodiscard]] Result<void> resize(const std::string& path, std::uint64_t size);
  /// Offsets of the blocks that take up room.
  [[nodiscard]] std::vector<std::uint64_t> blocks(const std::string& path) const;

  [[nodiscard]] Result<std::unique_ptr<DiskFile>> open(const std::string& path, bool create) override;
  [[nodiscard]] bool exists(const std::string& path) override;
  [[nodiscard]] Result<std::unique_ptr<DiskMap>> map(const std::string& path, std::size_t size) override;
  [[nodiscard]] std::uint64_t boot() const override;  ///< another one after each crash()
  [[nodiscard]] Result<void> make_dir(const std::string& path) override;
  [[nodiscard]] Result<void> remove(const std::string& path) override;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& dir) override;
  [[nodiscard]] Result<void> sync_dir(const std::string& path) override;
  [[nodiscard]] Result<Space> space(const std::string& path) override;

 private:
  struct State;
  class File;
  class Map;
  std::shared_ptr<State> state_;
};

}  // namespace indra
