// Background work in slices, as jobs of the vault's own queue where there is one (E40): patches folded, dead
// content freed, old versions thinned, deleted branches swept, snapshots made by the clock.
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "base/log.h"
#include "fs/internal/fs_impl.h"

namespace indra {
namespace {
constexpr std::uint64_t kRoomForJobs = 16ull << 20;
constexpr int kSlices = 64;  // of one job, before the others have their turn
// S15: how much of the disk is made free, and how much of the history goes before that is looked at again.
constexpr std::uint64_t kRoomPart = 32;
constexpr int kHistoryPart = 8;
constexpr const char* kFold = "fold";
constexpr const char* kFree = "free";
constexpr const char* kThin = "thin";
constexpr const char* kSweep = "sweep";
constexpr const char* kScrub = "scrub";
constexpr const char* kSnapshot = "snapshot";
}  // namespace

void FileSystemImpl::look_for_jobs() {
  look_wanted_ = true;
  {
    const std::lock_guard lock{clock_mutex_};
    work_poked_ = true;
  }
  work_cv_.notify_one();
}

Result<void> FileSystemImpl::keep_changes(TimeNs age) {
  if (age < kSecond || age > kSecond * 86400 * 366 * 100)
    return fail(EINVAL, "changes are kept for one second to a hundred years");
  INDRA_TRY(writer_->mutate([&](Tx& tx) {
    return Statement{tx, "INSERT OR REPLACE INTO properties(name, value) VALUES('changes_kept', ?1)"}
        .bind_text(1, std::to_string(age / kSecond))
        .run();
  }));
  keep_changes_ = age / kSecond * kSecond;
  thin_wanted_ = true;
  look_for_jobs();
  return {};
}

Result<bool> FileSystemImpl::thin_slice() {
  thin_wanted_ = false;
  auto n = writer_->mutate([&](Tx& tx) { return tree_->thin(tx, 64); });
  if (n && *n == 0)
    n = writer_->mutate(
        [&](Tx& tx) { return tree_->forget_changes(tx, INT64_MAX, clock_->now() - keep_changes_, 256); });
  if (!n || *n != 0) thin_wanted_ = true;
  if (!n) return fail(n.error());
  return *n != 0;
}

// Each part given up is collected and freed before the next one goes.
bool FileSystemImpl::make_room() {
  if (!full_ || writer_->failed()) return false;
  const auto left = space_.left();
  if (!left) return false;
  if (left->free >= left->total / kRoomPart) {
    full_ = false;
    return false;
  }
  const auto n = writer_->mutate([&](Tx& tx) { return tree_->give_up_oldest(tx, kHistoryPart); });
  if (!n) log::error("making room: {}", n.error().text());
  if (!n || *n == 0) return false;
  log::warn("the disk is full: {} automatic versions, the oldest, are given up", *n);
  thin_wanted_ = true;
  return true;
}

// What one slice finishes is no job: the flags are raised more often than there is something behind them.
std::vector<std::string> FileSystemImpl::wanted_work() {
  std::vector<std::string> wanted;
  const auto ask = [&](const char* kind, const auto& left) INDRA_NO_ANALYSIS {
    if (std::any_of(doing_.begin(), doing_.end(), [&](const auto& j) { return j.kind == kind; })) return;
    const Result<bool> there = left();
    if (!there || *there) wanted.emplace_back(kind);  // an error will be the job's
  };
  if (scrub_wanted_) ask(kScrub, [] { return Result<bool>{true}; });
  if (writer_->failed()) return wanted;  // D7
  ask(kFold, [&] { return store_->at_rest(ContentStore::Work::fold).map(std::logical_not<>{}); });
  ask(kFree, [&] { return store_->at_rest(ContentStore::Work::free).map(std::logical_not<>{}); });
  if (thin_wanted_) ask(kThin, [&] { return thin_slice(); });
  if (sweep_wanted_) ask(kSweep, [&] { return sweep_slice(); });
  return wanted;
}

Result<void> FileSystemImpl::scheduled_snapshot(const OwnWork::Job& job) {
  INDRA_LET(const SnapshotPlan plan, SnapshotPlan::of(job.payload));
  const Who who{0, ::getpid(), "indrafs", "schedule"};
  // The job's own time: when it is done again after a crash, its snapshot is there.
  if (const auto made =
          create_snapshot(who, plan.bucket, plan.branch, plan.title(job.created), plan.message());
      !made && made.error().code != std::errc::file_exists)
    return fail(made.error());
  INDRA_TRY(writer_->barrier());  // a job that is done stays done
  INDRA_LET(auto state, branch_state(plan.bucket, plan.branch));
  INDRA_LET(auto all, snapshots(plan.bucket));
  std::erase_if(all, [&](const PinInfo& p) {
    return p.branch != state->info.id || p.message != plan.message() || !p.name.starts_with(plan.name + "-");
  });
  std::sort(all.begin(), all.end(), [](const PinInfo& a, const PinInfo& b) { return a.seq < b.seq; });
  for (std::size_t i = 0; i + static_cast<std::size_t>(plan.keep) < all.size(); ++i)
    if (auto r = delete_snapshot(who, plan.bucket, all[i].name);
        !r && r.error().code != std::errc::no_such_file_or_directory)
      return r;
  return {};
}

Result<bool> FileSystemImpl::work_on(const OwnWork::Job& job) {
  if (job.kind == kSnapshot) {
    INDRA_TRY(scheduled_snapshot(job));
    return true;
  }
  if (job.kind == kScrub) {
    INDRA_LET(const bool more, scrub_some());
    return !more;
  }
  const bool fold = job.kind == kFold, content = fold || job.kind == kFree;
  if (!content && job.kind != kThin && job.kind != kSweep)
    return fail(ENOTSUP, "this version knows no such work");
  for (int slices = 0; slices < kSlices && !stop_; ++slices) {
    auto more = content             ? store_->work(fold ? ContentStore::Work::fold : ContentStore::Work::free)
                : job.kind == kThin ? thin_slice()
                                    : sweep_slice();
    if (!more) return more;
    if (*more) continue;
    if (!content) return true;
    return store_->at_rest(fold ? ContentStore::Work::fold : ContentStore::Work::free);
  }
  return false;
}

/// What is kept free (S10) is for the vault's own commits, not for coord.db and its WAL.
bool FileSystemImpl::room_for_jobs() {
  const auto space = space_.left();
  return space && space->free > kRoomForJobs;
}

bool FileSystemImpl::work_pass() {
  catch_up_mounted();
  const MutexLock lock{work_mutex_};
  if (!own_)
    own_.emplace(dir_.path(), OwnWork::Options{.listed = options_.jobs,
                                               .clock = clock_,
                                               .room = [this] { return room_for_jobs(); },
                                               .faults = options_.faults});
  if (look_wanted_.exchange(false)) own_->look();
  const auto wanted = wanted_work();
  for (OwnWork::Job& j : own_->take(wanted, doing_)) doing_.push_back(std::move(j));
  std::erase_if(doing_, [&](const OwnWork::Job& j) INDRA_NO_ANALYSIS {
    const auto finished = work_on(j);
    if (finished && !*finished) return false;
    own_->done(j, finished ? Result<void>{} : Result<void>{fail(finished.error())});
    return true;
  });
  own_->keep(doing_);
  if (wanted.empty() && doing_.empty() && make_room()) return false;
  return wanted.empty() && doing_.empty() && !own_->owes();
}

}  // namespace indra
