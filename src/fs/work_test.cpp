// E40 .. E44 on a whole vault: background work as jobs, through kills, strangers and damage.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <optional>
#include <random>
#include <thread>

#include "db/test_dir.h"
#include "events/own_work.h"
#include "events/path_lock.h"
#include "fs/space.h"
#include "testkit/must.h"

namespace indra {
namespace {

using Json = Coord::Json;

const Caller kMe{0, 0, 0};

struct Vault {
  TestDir dir;
  std::unique_ptr<FileSystem> fs;
  std::shared_ptr<View> view;

  [[nodiscard]] std::string path() const { return dir / "v"; }
  [[nodiscard]] std::string coord() const { return dir / "v/coord.db"; }
  void open(FileSystem::Options o = {}) {
    o.create = true;
    o.jobs = true;
    o.content.fold_after = kSecond / 20;
    fs = must(FileSystem::open(path(), o));
    view = must(fs->open_view({}, nullptr));
  }
  void close() {
    view.reset();
    fs.reset();
  }
  /// A file of 1 MiB with `n` blocks overwritten and synced: each is a patch until it is folded. `kept` is
  /// what it holds.
  void churn(int n, unsigned seed, std::string& kept) {
    const auto there = resolve_path(*view, "/f");
    const Handle h = there ? must(view->open(kMe, there->node, O_RDWR))
                           : must(view->create(kMe, view->root(), "f", 0644, O_RDWR)).handle;
    if (kept.empty()) {
      kept.assign(1 << 20, 'a');
      must(view->write(kMe, h, 0, as_view(kept), false, false));
      must(view->fsync(kMe, h, false));
    }
    std::mt19937 random{seed};
    for (int i = 0; i < n; ++i) {
      const std::size_t at = random() % 256 * 4096;
      const std::string block(4096, static_cast<char>('a' + random() % 26));
      kept.replace(at, block.size(), block);
      must(view->write(kMe, h, at, as_view(block), false, false));
      must(view->fsync(kMe, h, true));
    }
    must(view->flush(kMe, h));
    view->release(h);
  }
  /// A file that comes and goes: its bytes are to be freed.
  void drop() {
    const Opened f = must(view->create(kMe, view->root(), "g", 0644, O_RDWR));
    must(view->write(kMe, f.handle, 0, as_view(std::string(1 << 20, 'g')), false, false));
    must(view->flush(kMe, f.handle));
    view->release(f.handle);
    must(view->unlink(kMe, view->root(), "g"));
    view->forget(f.attr.node, 1);
  }
  [[nodiscard]] std::string read() {
    const Handle h = must(view->open(kMe, must(resolve_path(*view, "/f")).node, O_RDONLY));
    Bytes b(2 << 20);
    const std::size_t n = must(view->read(h, 0, b));
    view->release(h);
    return std::string{as_text(ByteView{b}.first(n))};
  }
  /// At rest, and so are its jobs, within two minutes: their figures as they are then.
  [[nodiscard]] std::optional<Json> rests(bool jobs = true) {
    const TimeNs until = system_clock().steady() + 120 * kSecond;
    while (system_clock().steady() < until) {
      const auto s = must(fs->status());
      if (s.content.patches == 0 && s.content.dead == 0) {
        if (!jobs) return Json{};
        Json figures = stats();
        if (unfinished(figures) == 0) return figures;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    return std::nullopt;
  }
  [[nodiscard]] std::int64_t unfinished() { return unfinished(stats()); }
  [[nodiscard]] static std::int64_t unfinished(const Json& s) {
    return s["ready"].get<std::int64_t>() + s["claimed"].get<std::int64_t>() +
           s["delayed"].get<std::int64_t>();
  }
  [[nodiscard]] Json stats() {
    Coord::Options o;
    o.create = false;
    return must(must(Coord::open(coord(), o))->call_json("indra_stats", {OwnWork::kQueue}));
  }
};

// E40
TEST(Work, GivenPatches_WhenTheVaultRests_ThenJobsHaveFoldedThem) {
  Vault v;
  v.open();
  std::string kept;
  v.churn(200, 1, kept);
  auto s = v.rests();
  ASSERT_TRUE(s);
  EXPECT_GE((*s)["done"], 1);
  EXPECT_EQ((*s)["done"], (*s)["enqueued"]);
  EXPECT_EQ((*s)["died"], 0);
  EXPECT_EQ(v.read(), kept);
  // At rest nothing is put in any more; what had been begun may have left a little to do.
  bool quiet = false;
  for (int i = 0; i < 20 && !quiet; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{500});
    const Json later = v.stats();
    quiet = later["enqueued"] == (*s)["enqueued"];
    s = later;
  }
  EXPECT_TRUE(quiet) << s->dump();
}

// S12: what the clockwork reaps after the worker has looked is found all the same, though nobody calls any
// more; and what it could not reap at once is tried again.
TEST(Work, GivenAReapThatTakesLong_WhenNobodyCallsAnyMore_ThenTheVaultComesToRest) {
  Vault v;
  FileSystem::Options o;
  o.automatic_pins = false;  // what goes is dead at once
  std::atomic<int> reaps{0};
  o.faults = FaultPoints{[&](std::string_view at) -> Result<void> {
    if (at != "reap") return {};
    std::this_thread::sleep_for(std::chrono::milliseconds{500});  // it takes long; the worker goes to sleep
    return reaps++ == 0 ? Result<void>{fail(ENOSPC, std::string{at})} : Result<void>{};
  }};
  v.open(std::move(o));
  v.drop();
  while (reaps < 2) std::this_thread::sleep_for(std::chrono::milliseconds{10});
  for (int i = 0; i < 1000 && !must(v.fs->status()).at_rest; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  EXPECT_TRUE(must(v.fs->status()).at_rest);
  EXPECT_EQ(must(v.fs->status()).content.blobs, 0u);
}

// S12, D2: what could not be put into rows is tried again, though nobody calls any more.
TEST(Work, GivenAFullDisk_WhenThereIsRoomAgain_ThenWhatIsHeldOpenIsPublishedOfItself) {
  Vault v;
  std::atomic<bool> full{true};
  std::atomic<int> refused{0};
  FileSystem::Options o;
  o.automatic_pins = false;
  o.persist_after = kSecond / 10;
  o.publish_after = kSecond / 5;
  o.faults = FaultPoints{[&](std::string_view at) -> Result<void> {
    if (at != "segment.create" || !full) return {};
    ++refused;
    return fail(ENOSPC, std::string{at});
  }};
  v.open(std::move(o));
  const Opened f = must(v.view->create(kMe, v.view->root(), "f", 0644, O_RDWR));
  must(v.view->write(kMe, f.handle, 0, as_view(std::string(100'000, 'x')), false, false));
  std::this_thread::sleep_for(std::chrono::milliseconds{1500});  // tried, and refused
  EXPECT_GE(refused, 2);
  full = false;
  const auto published = [&] {
    ViewSpec s;
    s.live = false;
    const auto other = must(v.fs->open_view(s, nullptr));
    return must(resolve_path(*other, "/f")).size;
  };
  for (int i = 0; i < 500 && published() == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  EXPECT_EQ(published(), 100'000u);
  v.view->release(f.handle);
}

// E41: killed at each point where a job has begun and its end is not written down.
TEST(Work, GivenAnOwnerKilledInAJob_WhenTheVaultIsOpenedAgain_ThenTheJobIsDoneAndNothingIsLost) {
  for (const char* point : {"work.claimed", "fold.overwritten", "fold.rows", "collect.punch", "work.done"}) {
    SCOPED_TRACE(point);
    Vault v;
    std::string kept;
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        FileSystem::Options o;
        o.automatic_pins = false;  // what goes is dead at once
        o.faults = FaultPoints{[&](std::string_view at) -> Result<void> {
          if (at == point) ::kill(::getpid(), SIGKILL);
          return {};
        }};
        v.open(std::move(o));
        v.churn(100, 7, kept);
        v.drop();
        std::this_thread::sleep_for(std::chrono::seconds{120});
      } catch (...) {
      }
      ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the point was not reached";
    EXPECT_EQ(v.unfinished() > 0, true);
    v.open();
    const auto s = v.rests();
    ASSERT_TRUE(s);
    EXPECT_EQ((*s)["done"], (*s)["enqueued"]);
    EXPECT_EQ((*s)["died"], 0);
    EXPECT_EQ(must(v.fs->status()).content.patches, 0u);
    EXPECT_EQ(v.read().size(), std::size_t{1} << 20);  // readable: every chunk matches its value
  }
}

/// Another process, stopped inside a write transaction on coord.db.
struct Stopped {
  pid_t pid = 0;
  explicit Stopped(const std::string& coord) {
    pid = ::fork();
    if (pid == 0) {
      auto c = Coord::open(coord);
      if (c && (*c)->execute("BEGIN IMMEDIATE")) ::raise(SIGSTOP);
      ::_exit(1);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, WUNTRACED), pid);
    EXPECT_TRUE(WIFSTOPPED(status));
  }
  ~Stopped() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
};

// E42
TEST(Work, GivenAStrangerStoppedInAWriteTransaction_WhenFilesAreWritten_ThenNothingWaitsAndWorkGoesOn) {
  Vault v;
  v.open();
  std::string kept;
  v.churn(50, 1, kept);
  ASSERT_TRUE(v.rests());
  v.close();  // no connection of ours crosses the fork
  const Stopped stranger{v.coord()};
  v.open();
  const TimeNs begin = system_clock().steady();
  v.churn(200, 2, kept);
  const TimeNs took = system_clock().steady() - begin;
  EXPECT_LT(took, 100 * kSecond);  // not half a second each
  EXPECT_TRUE(v.rests(false));     // folded and freed without a list
  EXPECT_EQ(v.read(), kept);
  v.close();
}

TEST(Work, GivenACoordDbThatIsNone_WhenOpened_ThenTheVaultWorksAndTheFileStaysAsItIs) {
  Vault v;
  v.open();
  std::string kept;
  v.churn(20, 1, kept);
  ASSERT_TRUE(v.rests());
  v.close();
  const std::string junk(10'000, 'j');
  for (const char* name : {"v/coord.db-wal", "v/coord.db-shm"}) std::filesystem::remove(v.dir / name);
  v.dir.write("v/coord.db", as_view(junk));
  v.open();
  v.churn(100, 3, kept);
  EXPECT_TRUE(v.rests(false));
  EXPECT_EQ(v.read(), kept);
  v.close();
  EXPECT_EQ(as_text(v.dir.read("v/coord.db")), junk);
}

// E44
struct Clocked : Vault {
  ManualClock clock{1'700'000'000 * kSecond};
  void start(FaultPoints faults = {}) {
    FileSystem::Options o;
    o.background = false;
    o.clock = &clock;
    o.faults = std::move(faults);
    open(std::move(o));
  }
  [[nodiscard]] std::unique_ptr<Coord> own() {
    Coord::Options o;
    o.clock = &clock;
    o.own = true;
    return must(Coord::open(coord(), o));
  }
  /// As the daemon's attendant does it.
  void hour() {
    clock.advance(3600 * kSecond);
    must(own()->call("indra_schedule_tick", {}));
    fs->look_for_jobs();
    must(fs->tick());
  }
  [[nodiscard]] std::vector<std::string> names() {
    std::vector<std::string> all;
    for (const auto& p : must(fs->snapshots("main"))) all.push_back(p.name);
    return all;
  }
};

TEST(Work, GivenScheduledSnapshots_WhenHoursPass_ThenTheNewestAreKeptAndOthersAreLeftAlone) {
  Clocked v;
  v.start();
  const Who who{0, 0, "", "cli"};
  must(v.fs->create_snapshot(who, "main", "main", "hourly-20200101T000000Z", "by hand"));
  must(v.fs->create_snapshot(who, "main", "main", "mine", "scheduled: hourly"));
  must(schedule_snapshots(*v.own(), {.name = "hourly", .keep = 3}, "@every 1h"));
  for (int i = 0; i < 10; ++i) v.hour();
  const auto names = v.names();
  ASSERT_EQ(names.size(), 5u);
  EXPECT_EQ(names[0], "hourly-20200101T000000Z");
  EXPECT_EQ(names[1], "mine");
  EXPECT_EQ(names[2], "hourly-20231115T061320Z");  // hours 8, 9 and 10
  EXPECT_EQ(names[4], "hourly-20231115T081320Z");
  EXPECT_EQ(must(v.own()->select("SELECT fired FROM indra_schedules"))[0][0], 10);
  // The branch goes: the job says why it fails, and is a dead letter at last.
  must(schedule_snapshots(*v.own(), {.name = "gone", .branch = "gone", .keep = 3}, "@every 1000h"));
  v.clock.advance(1000 * 3600 * kSecond);
  for (int i = 0; i < 10; ++i) v.hour();
  const auto dead = must(v.own()->select("SELECT error, payload FROM indra_dead"));
  ASSERT_EQ(dead.size(), 1u);
  EXPECT_NE(dead[0][0].get<std::string>().find("gone"), std::string::npos) << dead[0].dump();
}

TEST(Work, GivenAKillBetweenASnapshotAndItsAcknowledgement_WhenOpenedAgain_ThenThereIsOneSnapshot) {
  for (const char* point : {"work.claimed", "work.done"}) {
    SCOPED_TRACE(point);
    Clocked v;
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        v.start(FaultPoints{[&](std::string_view at) -> Result<void> {
          if (at == point) ::kill(::getpid(), SIGKILL);
          return {};
        }});
        must(schedule_snapshots(*v.own(), {.name = "hourly", .keep = 3}, "@every 1h"));
        v.hour();
      } catch (...) {
      }
      ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the point was not reached";
    v.clock.advance(5000 * kSecond);
    v.start();
    must(v.fs->tick());
    EXPECT_EQ(v.names(), std::vector<std::string>{"hourly-20231114T231320Z"});
    EXPECT_EQ(v.unfinished(), 0);
  }
}

// C37, T14: what is promised comes back, and nothing else goes.
TEST(Space, GivenAutomaticVersionsAndASnapshot_WhenPruned_ThenTheSnapshotStaysAndTheRestComesBack) {
  Vault v;
  ManualClock clock;
  FileSystem::Options o;
  o.clock = &clock;
  o.background = false;
  o.content.workers = -1;
  v.open(o);
  const auto rest = [&] {
    for (int i = 0; i < 60; ++i)
      if (!must(v.fs->tick())) return;
  };
  // A file that changes every hour for five days, all of it; kept once by name.
  const auto write = [&](unsigned n) {
    std::string bytes(100'000, '\0');
    std::mt19937 random{n};
    for (char& c : bytes) c = static_cast<char>(random());
    must(write_file(*v.fs, *v.view, kMe, "/f", as_view(bytes)));
    clock.advance(20 * kSecond);
    rest();
    clock.advance(3600 * kSecond);
  };
  for (unsigned n = 0; n < 120; ++n) {
    write(n);
    if (n == 50) must(v.fs->create_snapshot({0, 0, "", "cli"}, "main", "main", "kept", ""));
  }
  rest();
  const auto offer = must(reclaimable(*v.fs, {.older = 2 * 86400 * kSecond}));
  EXPECT_EQ(offer.dead, 0u) << "it is at rest";
  EXPECT_GT(offer.versions, 50u);
  EXPECT_GT(offer.pruned, 5'000'000u);
  EXPECT_GT(offer.all_pruned, offer.pruned);
  must(v.fs->sync(false));
  const std::uint64_t before = must(v.fs->status()).content.physical;
  EXPECT_EQ(must(prune(*v.fs, {.older = 2 * 86400 * kSecond})), offer.versions);
  EXPECT_EQ(must(reclaimable(*v.fs, {})).dead, offer.pruned);
  auto going = must(collect(*v.fs));
  for (int i = 0; i < 10000 && !must(collected(*v.fs, going)); ++i) must(v.fs->tick());
  EXPECT_TRUE(must(collected(*v.fs, going)));
  rest();
  EXPECT_EQ(going.freed, offer.pruned);
  const std::uint64_t after = must(v.fs->status()).content.physical;
  EXPECT_LE(before - after, offer.pruned);
  EXPECT_GE(before - after + (64 << 10), offer.pruned) << "the host counts blocks of its own";
  EXPECT_EQ(must(reclaimable(*v.fs, {.older = 2 * 86400 * kSecond})).versions, 0u);
  // The head and the snapshot are whole.
  const auto first = [&](View& view) { return must(read_file(view, kMe, "/f")).size(); };
  EXPECT_EQ(first(*v.view), 100'000u);
  EXPECT_EQ(first(*must(v.fs->open_view({.snapshot = "kept"}, nullptr))), 100'000u);
  // All of them.
  must(prune(*v.fs, {.older = 0}));
  going = must(collect(*v.fs));
  for (int i = 0; i < 10000 && !must(collected(*v.fs, going)); ++i) must(v.fs->tick());
  const auto none = must(reclaimable(*v.fs, {.older = 0}));
  EXPECT_EQ(none.versions + none.dead + none.all_pruned, 0u);
  EXPECT_EQ(first(*must(v.fs->open_view({.snapshot = "kept"}, nullptr))), 100'000u);
  EXPECT_LE(must(v.fs->status()).content.physical, 2 * 106'496u + 65'536) << "head, snapshot, and headers";
  EXPECT_FALSE(prune(*v.fs, {.bucket = "nobody"}));
}

// T14
TEST(Space, GivenABucketToldWhatToKeep_WhenOpenedAgain_ThenItIsKeptSo) {
  Vault v;
  ManualClock clock;
  FileSystem::Options o;
  o.clock = &clock;
  o.background = false;
  o.content.workers = -1;
  v.open(o);
  EXPECT_EQ(must(versions_kept(*v.fs, "main")), Retention{});
  const Retention told{true, 2 * kSecond, 7200 * kSecond, 86400 * kSecond};
  must(keep_versions(*v.fs, "main", told));
  EXPECT_FALSE(keep_versions(*v.fs, "main", {true, -1, 0, 0}));
  EXPECT_FALSE(keep_versions(*v.fs, "nobody", told));
  v.close();
  v.open(o);
  EXPECT_EQ(must(versions_kept(*v.fs, "main")), told);
  const auto change = [&] {
    must(write_file(*v.fs, *v.view, kMe, "/f", as_view(std::to_string(clock.now()))));
    clock.advance(20 * kSecond);
    must(v.fs->tick());
  };
  const auto versions = [&] { return must(reclaimable(*v.fs, {})).all_versions; };
  for (int i = 0; i < 50; ++i) change();
  for (int i = 0; i < 100 && must(v.fs->tick()); ++i) {
  }
  EXPECT_LE(versions(), 4u) << "one for each hour, and the newest";
  // Off: none is made any more.
  must(keep_versions(*v.fs, "main", {false, told.all, told.hourly, told.daily}));
  must(prune(*v.fs, {.older = 0}));
  for (int i = 0; i < 5; ++i) change();
  EXPECT_EQ(versions(), 0u);
  must(keep_versions(*v.fs, "main", told));
  change();
  EXPECT_EQ(versions(), 1u);
}

// E45: two who write one path under its lock, which ends under one of them while it commits. What is there
// when the other is granted the lock is never changed by the first.
TEST(Guard, GivenALockThatEndsWhileAFileIsPlaced_ThenNothingIsPlacedAfterTheNextGrant) {
  Vault v;
  v.open();
  const std::string lock = path_lock("main", "main", "/f");
  auto coord = must(Coord::open(v.coord()));
  int placed = 0, refused = 0;
  std::mt19937 random{5};
  for (int round = 0; round < 60; ++round) {
    // Now and then one of the two is the first for certain, however busy the machine.
    const bool early = round % 10 == 8, late = round % 10 == 9;
    const double ttl = early ? 60 : 0.001 * static_cast<double>(1 + random() % 8);
    const auto token = must(coord->call("indra_lock", {lock, "a", ttl})).get<std::int64_t>();
    auto incoming = must(v.fs->incoming(*v.view, v.view->root(), "f"));
    const std::string mine = "a" + std::to_string(round);
    must(incoming->write(0, as_view(mine)));
    incoming->guard(lock, token);
    Result<Attr> committed = fail(EIO);
    std::atomic<bool> over{false};
    const auto pause = std::chrono::microseconds{static_cast<int>(random() % 6000)};
    std::thread a{[&] {
      while (late && !over) std::this_thread::yield();
      if (!early) std::this_thread::sleep_for(pause);
      committed = incoming->commit(kMe, {});
      if (early) (void)must(Coord::open(v.coord()))->call("indra_unlock", {lock, "a"});
    }};
    Json granted;
    while (granted.is_null()) granted = must(coord->call("indra_lock", {lock, "b", 30.0}));
    over = true;
    const std::string then = resolve_path(*v.view, "/f") ? v.read() : "";
    a.join();
    EXPECT_EQ(resolve_path(*v.view, "/f") ? v.read() : "", then);
    EXPECT_EQ(committed.has_value(), then == mine);
    if (!committed) EXPECT_EQ(to_errno(committed.error()), EPERM) << committed.error().text();
    ++(committed ? placed : refused);
    must(coord->call("indra_unlock", {lock, "b"}));
  }
  EXPECT_GT(placed, 0);
  EXPECT_GT(refused, 0);
}

TEST(Guard, GivenAPath_ThenItsLockIsNamedAfterIt) {
  EXPECT_EQ(path_lock("main", "main", "/a/b/"), "path:main:/a/b");
  EXPECT_EQ(path_lock("main", "main", "/"), "path:main:/");
  EXPECT_EQ(path_lock("tenant", "agent", "/a"), "path:tenant/agent:/a");
  const std::string longer = path_lock("main", "main", "/" + std::string(300, 'x'));
  EXPECT_EQ(longer.size(), std::string{"path:#"}.size() + 64);
  EXPECT_NE(longer, path_lock("main", "main", "/" + std::string(301, 'x')));
  EXPECT_TRUE(path_lock("main", "main", "/\xff").starts_with("path:#"));
}

// E3: a setting of the vault.
TEST(Guard, GivenAnAgeForChanges_WhenOpenedAgain_ThenItIsKept) {
  Vault v;
  v.open();
  EXPECT_EQ(v.fs->changes_kept(), 90 * 24 * 3600 * kSecond);
  EXPECT_FALSE(v.fs->keep_changes(0));
  EXPECT_FALSE(v.fs->keep_changes(INT64_MAX));
  must(v.fs->keep_changes(3600 * kSecond));
  v.close();
  v.open();
  EXPECT_EQ(v.fs->changes_kept(), 3600 * kSecond);
}

}  // namespace
}  // namespace indra
