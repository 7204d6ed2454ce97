// What a vault does by itself (folding, freeing, thinning, sweeping, scheduled snapshots), as jobs of a queue
// of its own in coord.db, where `indrafs queue jobs indra:work` shows them.
//
// How:      a job has its kind as key, so of one kind there is one unfinished job. Only the process that owns
//           the vault claims here, one thread of it, so no job runs twice at once; a job that its crash left
//           claimed is claimed again when the vault is next opened, and is a dead letter after five times.
// Without:  nothing waits for coord.db. While somebody holds it, or when it cannot be opened, work is done
//           all the same, unlisted, and that is logged once.
// Threads:  an OwnWork belongs to one thread.
// Errors:   logged.
// Source:   docs/design/events.md (E40..).
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/fault.h"
#include "events/coord.h"

namespace indra {

class OwnWork {
 public:
  struct Options {
    bool listed = true;            ///< false: coord.db is left alone
    TimeNs busy = kSecond / 20;    ///< the longest that anything here waits for coord.db
    const Clock* clock = nullptr;  ///< null: the machine's
    std::function<bool()> room;    ///< false: the disk is so full that nothing should be written down
    FaultPoints faults;            ///< "work.claimed", "work.done"
  };
  struct Job {
    std::int64_t id = 0;  ///< 0: unlisted, coord.db is out of reach
    std::string kind;
    Coord::Json payload;
    double created = 0;  ///< seconds since 1970: the same whenever the job is tried
  };
  static constexpr TimeNs kAgain = kSecond;  ///< after an error, or while somebody holds coord.db
  static constexpr const char* kQueue = "indra:work";

  OwnWork(std::string vault, Options);

  /// The jobs to do now: of the kinds that are wanted, and whatever else the queue holds. A kind whose last
  /// try failed has to wait. `doing`: what was taken and is not done; it is not given again.
  [[nodiscard]] std::vector<Job> take(const std::vector<std::string>& wanted, std::vector<Job>& doing);
  /// The claims of long jobs last on.
  void keep(const std::vector<Job>& doing);
  /// Done, or to be tried again later.
  void done(const Job&, const Result<void>&);
  /// At the end of the process: others need not wait for the claims to end.
  void give_back(const std::vector<Job>& doing);
  /// Something could not be written down yet, and is to be tried again with the next take().
  [[nodiscard]] bool owes() const { return look_ || !owed_.empty(); }
  /// Somebody may have put a job in.
  void look() { look_ = options_.listed; }

 private:
  struct Done {
    std::int64_t id;
    std::string error;  // empty: well
  };
  [[nodiscard]] Result<void> reach();
  [[nodiscard]] Result<std::vector<Job>> claim(const std::vector<std::string>& wanted);
  [[nodiscard]] Result<void> settle(const Done&);
  [[nodiscard]] Result<void> transaction(const std::function<Result<void>()>&);
  void excuse(const Error&);
  [[nodiscard]] TimeNs now() const;
  /// Neither held by somebody lately, nor is the disk full.
  [[nodiscard]] bool within_reach();

  const std::string vault_;
  const Options options_;
  std::string worker_;
  std::unique_ptr<Coord> coord_;
  std::vector<Done> owed_;
  std::map<std::string, TimeNs> waits_;  // kinds that failed, until when
  TimeNs again_ = 0, beat_ = 0;          // steady
  bool look_ = false, taken_back_ = false, complained_ = false;
};

/// Snapshots by the clock: `keep` of them, the newest, named NAME-20261121T080000Z.
struct SnapshotPlan {
  std::string name, bucket = "main", branch = "main";
  std::int64_t keep = 0;
  [[nodiscard]] static Result<SnapshotPlan> of(const Coord::Json& payload);
  [[nodiscard]] std::string message() const { return "scheduled: " + name; }
  /// The name of the one that was due at `when`, seconds since 1970.
  [[nodiscard]] std::string title(double when) const;
  [[nodiscard]] std::string schedule() const { return "snapshot:" + name; }
};
/// Puts the plan into coord.db's schedules, or changes it; when first (seconds since 1970). `coord` must be
/// the vault's own connection. EINVAL for what is wrong with it.
[[nodiscard]] Result<double> schedule_snapshots(Coord& coord, const SnapshotPlan&, const std::string& when);

}  // namespace indra
