// The n-th operation on a disk fails: once, or from then on. Counts below SQLite (set_vfs_fault) and below
// the segments (over()) together, so that one number names a moment of a fixed history.
//
// Threads:  any. Units: operations, from 1.
#pragma once
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>

#include "base/disk.h"

namespace indra {

class NthFault {
 public:
  enum class Op { read, write, sync, sync_dir, create, remove, punch };
  struct Plan {
    int nth = 0;            ///< 0: never
    int code = EIO;         ///< the errno
    bool for_good = false;  ///< else once
    bool partial = false;   ///< a write does half of its work before it fails
  };

  void arm(Plan p) {
    plan_ = p;
    count_ = 0;
    fired_ = 0;
    armed_ = true;
  }
  void disarm() { armed_ = false; }
  /// An errno for this operation, 0 to let it pass.
  [[nodiscard]] int ask(Op op) {
    if (!armed_ || op == Op::read) return 0;
    if (plan_.code == ENOSPC && op != Op::write && op != Op::create) return 0;  // takes no room
    const int n = ++count_;
    if (plan_.nth == 0 || n < plan_.nth || (n > plan_.nth && !plan_.for_good)) return 0;
    ++fired_;
    return plan_.code;
  }
  [[nodiscard]] int fired() const { return fired_; }
  [[nodiscard]] int count() const { return count_; }
  [[nodiscard]] bool partial() const { return plan_.partial; }
  /// After so many answers the disk says that it has no room; -1: it says how it is.
  void room_for(int answers) { answers_ = answers; }
  [[nodiscard]] bool says_full() {
    if (answers_ < 0) return false;
    if (answers_ == 0) return true;
    --answers_;
    return false;
  }
  /// Passes on to `below` what does not fail. Both outlive it.
  [[nodiscard]] std::unique_ptr<Disk> over(Disk& below);

 private:
  Plan plan_;
  std::atomic<bool> armed_{false};
  std::atomic<int> count_{0}, fired_{0}, answers_{-1};
};

}  // namespace indra
