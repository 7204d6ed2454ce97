// Advisory locks of files (fcntl and flock) that hold for all mounts of a vault together (docs/design/fs.md,
// S11).
//
// Shapes:   a range is [first, last], both included; kEnd means "and whatever comes after". Locks of one
// owner
//           never conflict with each other: a later one replaces what it overlaps, byte by byte.
// Threads:  every member may be called from any thread. `done` is called once, in whichever thread it
// happens,
//           under the table's lock: it sends an answer and does nothing else.
// Errors:   errno values: EAGAIN (taken), EDEADLK (waiting would never end), EINTR (cancelled).
// Lasts:    in memory: locks end with their owner's file, its mount, or the process.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/sync.h"

namespace indra {

class FileLocks {
 public:
  static constexpr std::uint64_t kEnd = INT64_MAX;
  /// fcntl and flock locks of one file do not see each other, as on other Linux file systems.
  enum class Family : std::uint8_t { posix, flock };
  struct File {
    std::uint64_t space;  ///< the branch
    std::uint64_t node;
    Family family;
    auto operator<=>(const File&) const = default;
  };
  struct Owner {
    std::uint64_t front;  ///< the mount, from new_front()
    std::uint64_t id;     ///< what the kernel calls the owner
    auto operator<=>(const Owner&) const = default;
  };
  enum class Kind : std::uint8_t { read, write };
  struct Lock {
    Kind kind;
    std::uint64_t first, last;
    pid_t pid;
    std::uint64_t handle = 0;  ///< the open file it was taken through: it ends with it at the latest
  };
  using Done = std::function<void(int error)>;

  /// Tells mounts apart: their kernels' owners are numbers that may be equal.
  [[nodiscard]] std::uint64_t new_front() INDRA_EXCLUDES(mutex_);
  /// What stands in the way of `wanted`, if anything.
  [[nodiscard]] std::optional<Lock> conflict(const File&, Owner, const Lock& wanted) const
      INDRA_EXCLUDES(mutex_);
  /// 0 or EAGAIN.
  [[nodiscard]] int lock(const File&, Owner, const Lock&) INDRA_EXCLUDES(mutex_);
  /// Waits its turn. `ticket` names the wait for cancel(), one number at a time for each front.
  void lock_or_wait(const File&, Owner, const Lock&, std::uint64_t ticket, Done done) INDRA_EXCLUDES(mutex_);
  void unlock(const File&, Owner, std::uint64_t first, std::uint64_t last) INDRA_EXCLUDES(mutex_);
  /// Ends what was taken through an open file that is no more. fcntl locks of an open file (F_OFD_SETLK) end
  /// nowhere else: the kernel does not tell.
  void close(const File&, std::uint64_t front, std::uint64_t handle) INDRA_EXCLUDES(mutex_);
  /// True when there was such a wait: it ends with EINTR.
  bool cancel(std::uint64_t front, std::uint64_t ticket) INDRA_EXCLUDES(mutex_);
  /// Everything of a mount that ends. No `done` of its own is called afterwards.
  void forget(std::uint64_t front) INDRA_EXCLUDES(mutex_);
  [[nodiscard]] std::size_t files() const INDRA_EXCLUDES(mutex_);  ///< with locks or waits

  /// Who keeps the locks of a branch that is written: this table (front 0), or the kernel, for one mount
  /// alone. One of them at a time, until each write_through() has its wrote(): EBUSY for another, and the
  /// error names the mount at `where`.
  [[nodiscard]] Result<void> write_through(std::uint64_t space, std::uint64_t front, const std::string& where)
      INDRA_EXCLUDES(mutex_);
  void wrote(std::uint64_t space) INDRA_EXCLUDES(mutex_);

 private:
  struct Held {
    Owner owner;
    Lock lock;
  };
  struct Wait {
    Owner owner;
    Lock lock;
    std::uint64_t ticket;
    Done done;
  };
  struct Table {
    std::vector<Held> held;
    std::list<Wait> waits;  // first come, first served
  };
  static const Held* blocker(const Table&, Owner, const Lock&);
  static void put(Table&, Owner, const Lock&);
  static void cut(Table&, Owner, std::uint64_t first, std::uint64_t last);
  static void serve(Table&);
  [[nodiscard]] bool would_deadlock(const Table&, Owner, const Lock&) const INDRA_REQUIRES(mutex_);
  void tidy(const File&) INDRA_REQUIRES(mutex_);

  mutable Mutex mutex_;
  struct Keeper {
    std::uint64_t front;
    std::string where;
    std::size_t count;
  };
  std::map<File, Table> tables_ INDRA_GUARDED_BY(mutex_);
  std::map<std::uint64_t, Keeper> keepers_ INDRA_GUARDED_BY(mutex_);  // by branch
  std::uint64_t fronts_ INDRA_GUARDED_BY(mutex_) = 0;
};

}  // namespace indra
