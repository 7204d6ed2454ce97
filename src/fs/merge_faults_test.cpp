// docs/branches.md, G2, U3, G22, O9: a disk that is full in the middle of it. All or nothing, and afterwards
// it works.
#include <atomic>

#include "db/vfs.h"
#include "fs/internal/merge_world.h"
#include "fs/restore.h"
#include "testkit/nth_fault.h"

namespace indra {
namespace {

using Op = NthFault::Op;
using Tree1 = std::map<std::string, std::string>;

/// So that free space is asked for each time anew.
class Stepping final : public Clock {
 public:
  TimeNs now() const override { return kStart + steady(); }
  TimeNs steady() const override { return ++asked_ * kSecond; }

 private:
  static constexpr TimeNs kStart = 1'700'000'000 * kSecond;
  mutable std::atomic<TimeNs> asked_{0};
};

class Full {
 public:
  Full() {
    disk_ = fault_.over(real_disk());
    w_ = std::make_unique<MergeWorld>("/tmp", [&](FileSystem::Options& o) {
      o.disk = disk_.get();
      o.clock = &clock_;
    });
    set_vfs_fault([this](const DiskEvent& e) {
      const int code = fault_.ask(e.kind == DiskEvent::sync ? Op::sync : Op::write);
      return code == 0 ? SQLITE_OK : SQLITE_FULL;
    });
    MergeWorld& w = *w_;
    w.mkdir("main", "/d");
    w.write("main", "/text", lines(60000, 'a'));
    w.write("main", "/d/same", "same");
    w.write("main", "/gone", "gone");
    w.pause();
    MergeWorld::ok(w.fs->create_snapshot(w.who, "main", "main", "s", ""));
    w.fork("agent");
    w.write("main", "/text", "main\n" + lines(60000, 'a'));
    w.write("main", "/d/both", "of main");
    w.write("agent", "/text", lines(60000, 'a') + "agent\n");
    w.write("agent", "/d/both", "of the agent");
    for (int i = 0; i < 5; ++i)
      w.write("agent", "/d/new" + std::to_string(i), lines(20'000, static_cast<char>('b' + i)));
    w.unlink("agent", "/gone");
    w.rename("agent", "/d/same", "/moved");
    MergeWorld::ok(w.fs->sync(true));
  }
  ~Full() {
    fault_.disarm();
    w_.reset();
    set_vfs_fault(nullptr);
  }

  /// From `operation` on, or after `answers`, the disk is full until the call is over, and synced. Its state
  /// is the one before or the one after; when it was refused, it is done again. What there is then.
  template <class F>
  Tree1 during(int operation, int answers, F&& call) {
    const Tree1 before = w_->tree(branch);
    fault_.arm({.nth = operation, .code = ENOSPC, .for_good = true, .partial = false});
    fault_.room_for(answers);
    const bool done = call(*w_);
    fault_.room_for(-1);
    const Tree1 seen = w_->tree(branch);
    const auto synced = w_->fs->sync(true);
    operations = fault_.count();
    fired = fault_.fired() > 0;
    fault_.disarm();
    if (!done) EXPECT_EQ(seen, before) << "refused, but not without a trace";
    if (done) EXPECT_NE(seen, before);
    EXPECT_EQ(w_->tree(branch), seen) << "changed afterwards";
    refused = !done;
    if (!done) EXPECT_TRUE(call(*w_)) << "the disk is not full any more";
    MergeWorld::ok(w_->fs->sync(true));
    MergeWorld::ok(w_->fs->settle());
    const auto status = MergeWorld::ok(w_->fs->status());
    EXPECT_FALSE(status.failed);
    EXPECT_TRUE(status.content.damage.empty());
    return w_->tree(branch);
  }
  std::string branch = "main";  ///< that the call changes
  int operations = 0;
  bool fired = false, refused = false;

 private:
  static std::string lines(int n, char c) {
    std::string s;
    for (int i = 0; i < n; ++i) s += std::to_string(i) + c + "\n";
    return s;
  }
  Stepping clock_;
  NthFault fault_;
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<MergeWorld> w_;
};

template <class F>
void each_operation(F&& call, const std::string& branch = "main") {
  Tree1 good;
  int last = 0;
  {
    Full f;
    f.branch = branch;
    good = f.during(1'000'000, -1, call);
    last = f.operations;
  }
  ASSERT_GT(last, 2);
  int refused = 0;
  for (int n = 0; n < 20 && refused == n && !testing::Test::HasFailure(); ++n) {  // while somebody still asks
    SCOPED_TRACE("no room after " + std::to_string(n) + " answers");
    Full f;
    f.branch = branch;
    EXPECT_EQ(f.during(1'000'000, n, call), good);
    refused += f.refused ? 1 : 0;
  }
  EXPECT_GE(refused, 2);
  for (int n = 1; n <= last && !testing::Test::HasFailure(); n += std::max(1, last / 10)) {
    SCOPED_TRACE("operation " + std::to_string(n) + " of " + std::to_string(last));
    Full f;
    f.branch = branch;
    EXPECT_EQ(f.during(n, -1, call), good);
  }
  std::printf("refused after each of %d answers about room; %d operations\n", refused, last);
}

TEST(MergeFaults, GivenADiskThatIsFull_WhenMerged_ThenAllOrNothing) {
  each_operation([](MergeWorld& w) {
    FileSystem::MergeRequest r;
    r.source = "agent";
    return w.fs->merge(w.who, "main", r).has_value();
  });
}

TEST(MergeFaults, GivenADiskThatIsFull_WhenRestored_ThenAllOrNothing) {
  each_operation([](MergeWorld& w) {
    RestoreRequest r;
    r.from.snapshot = "s";
    r.path = "/";
    return restore(*w.fs, w.who, "main", r).has_value();
  });
}

// O9: `agent` takes over what main has changed, and its own stands.
TEST(MergeFaults, GivenADiskThatIsFull_WhenAFollowerCatchesUp_ThenAllOrNothing) {
  each_operation([](MergeWorld& w) { return w.fs->follow_branch(w.who, "main", "agent", true).has_value(); },
                 "agent");
}

}  // namespace
}  // namespace indra
