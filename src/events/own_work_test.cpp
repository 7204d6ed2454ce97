// E40 .. E43: what a vault does by itself, as jobs that others see and cannot touch.
#include "events/own_work.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "db/test_dir.h"

namespace indra {
namespace {

using Json = Coord::Json;
using Jobs = std::vector<OwnWork::Job>;

struct TestWork {
  TestDir dir;
  ManualClock clock{system_clock().now()};
  Jobs doing;
  [[nodiscard]] std::string vault() const {
    std::string v = dir / "";
    v.pop_back();
    return v;
  }
  [[nodiscard]] OwnWork owner(bool listed = true) {
    return OwnWork{vault(), {.listed = listed, .clock = &clock}};
  }
  [[nodiscard]] std::unique_ptr<Coord> coord(bool own = false) {
    Coord::Options o;
    o.clock = &clock;
    o.own = own;
    return Coord::open(dir / "coord.db", o).value();
  }
  [[nodiscard]] Json stats() { return coord()->call_json("indra_stats", {OwnWork::kQueue}).value(); }
};
#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// E40
TEST(OwnWork, GivenWantedKinds_WhenTaken_ThenEachIsOneClaimedJobUntilItIsDone) {
  TestWork t;
  OwnWork w = t.owner();
  t.doing = w.take({"fold", "free"}, t.doing);
  ASSERT_EQ(t.doing.size(), 2u);
  EXPECT_TRUE(w.take({}, t.doing).empty());
  EXPECT_EQ(t.stats()["claimed"], 2);
  for (const auto& j : t.doing) EXPECT_NE(j.id, 0);
  for (const auto& j : t.doing) w.done(j, {});
  const Json s = t.stats();
  EXPECT_EQ(s["claimed"], 0);
  EXPECT_EQ(s["ready"], 0);
  EXPECT_EQ(s["done"], 2);
  EXPECT_FALSE(w.owes());
}

// E41
TEST(OwnWork, GivenAnOwnerThatIsKilled_WhenTheNextOneLooks_ThenItGetsTheJobAndAtLastItIsDead) {
  TestWork t;
  (void)t.owner().take({"fold"}, t.doing);  // gone without a word
  for (int i = 2; i <= 5; ++i) {
    OwnWork next = t.owner();
    ASSERT_TRUE(next.owes());  // it looks by itself
    const Jobs jobs = next.take({}, t.doing);
    ASSERT_EQ(jobs.size(), 1u);
    EXPECT_EQ(jobs[0].kind, "fold");
    EXPECT_EQ(jobs[0].id, 1);
  }
  OwnWork last = t.owner();
  EXPECT_TRUE(last.take({}, t.doing).empty());
  EXPECT_EQ(t.stats()["dead"], 1);
  const Jobs again = last.take({"fold"}, t.doing);  // what has to be done has to be done
  ASSERT_EQ(again.size(), 1u);
  EXPECT_GT(again[0].id, 1);
}

TEST(OwnWork, GivenAnOwnerThatEnds_WhenItGivesBack_ThenNoAttemptIsCounted) {
  TestWork t;
  for (int i = 0; i < 10; ++i) {
    OwnWork w = t.owner();
    t.doing = w.take({"fold"}, t.doing);
    ASSERT_EQ(t.doing.size(), 1u);
    w.give_back(t.doing);
    t.doing.clear();
    EXPECT_EQ(t.stats()["ready"], 1);
  }
}

TEST(OwnWork, GivenAFailure_WhenTriedAgain_ThenItWaitsLongerEachTimeAndTheErrorIsShown) {
  TestWork t;
  OwnWork w = t.owner();
  Jobs jobs = w.take({"fold"}, t.doing);
  ASSERT_EQ(jobs.size(), 1u);
  w.done(jobs[0], fail(EIO, "bad disk"));
  EXPECT_EQ(t.coord()->call_json("indra_job", {jobs[0].id}).value()["error"],
            fail(EIO, "bad disk").value().text());
  EXPECT_TRUE(w.take({"fold"}, t.doing).empty());
  t.clock.advance(kSecond);
  jobs = w.take({"fold"}, t.doing);
  ASSERT_EQ(jobs.size(), 1u);
  w.done(jobs[0], fail(EIO, "bad disk"));
  t.clock.advance(kSecond);
  EXPECT_TRUE(w.take({"fold"}, t.doing).empty());  // two seconds now
  t.clock.advance(kSecond);
  EXPECT_EQ(w.take({"fold"}, t.doing).size(), 1u);
}

// A long job renews its claim; one whose claim has ended all the same is not done twice.
TEST(OwnWork, GivenALongJob_WhenItsClaimEnds_ThenItIsNotGivenTwice) {
  TestWork t;
  OwnWork w = t.owner();
  t.doing = w.take({"fold"}, t.doing);
  for (int i = 0; i < 10; ++i) {
    t.clock.advance(30 * kSecond);
    w.keep(t.doing);
  }
  EXPECT_EQ(t.coord()->call_json("indra_job", {t.doing[0].id}).value()["attempts"], 1);
  t.clock.advance(100 * kSecond);
  w.look();
  EXPECT_TRUE(w.take({}, t.doing).empty());
  EXPECT_EQ(t.coord()->call_json("indra_job", {t.doing[0].id}).value()["attempts"], 2);  // claimed anew
  w.done(t.doing[0], {});
  EXPECT_EQ(t.stats()["done"], 1);
}

// E42
TEST(OwnWork, GivenAStrangerInAWriteTransaction_WhenWorkIsWanted_ThenItIsDoneUnlistedAndListedLater) {
  TestWork t;
  OwnWork w = t.owner();
  t.doing = w.take({"free"}, t.doing);
  ASSERT_EQ(t.doing.size(), 1u);
  auto stranger = t.coord();
  ASSERT_TRUE(stranger->execute("BEGIN IMMEDIATE"));
  const TimeNs begin = system_clock().steady();
  w.done(t.doing[0], {});  // cannot be written down yet
  t.doing.clear();
  EXPECT_TRUE(w.owes());
  const Jobs unlisted = w.take({"fold"}, t.doing);
  ASSERT_EQ(unlisted.size(), 1u);
  EXPECT_EQ(unlisted[0].id, 0);
  EXPECT_LT(system_clock().steady() - begin, 4 * kSecond);  // who wants to write waits 5 s
  ASSERT_TRUE(stranger->execute("COMMIT"));
  t.clock.advance(2 * kSecond);
  t.doing = unlisted;
  EXPECT_TRUE(w.take({}, t.doing).empty());
  EXPECT_EQ(t.stats()["done"], 1);
  EXPECT_FALSE(w.owes());
  w.done(unlisted[0], {});
}

TEST(OwnWork, GivenACoordDbThatIsNone_WhenWorkIsWanted_ThenItIsDoneAndTheFileIsLeftAlone) {
  TestWork t;
  const std::string junk(8192, 'x');
  t.dir.write("coord.db", as_view(junk));
  OwnWork w = t.owner();
  for (int i = 0; i < 3; ++i) {
    const Jobs jobs = w.take({"fold", "free"}, t.doing);
    ASSERT_EQ(jobs.size(), 2u);
    for (const auto& j : jobs) {
      EXPECT_EQ(j.id, 0);
      w.done(j, {});
    }
    t.clock.advance(100 * kSecond);
  }
  EXPECT_EQ(as_text(t.dir.read("coord.db")), junk);
}

TEST(OwnWork, GivenAnOwnerWithoutAList_ThenCoordDbIsNotMade) {
  TestWork t;
  OwnWork w = t.owner(false);
  EXPECT_EQ(w.take({"fold"}, t.doing).size(), 1u);
  EXPECT_FALSE(w.owes());
  EXPECT_FALSE(t.dir.has("coord.db"));
}

// E43
TEST(OwnWork, GivenTheVaultsOwnQueue_WhenOthersTouchIt_ThenTheyAreRefused) {
  TestWork t;
  OwnWork w = t.owner();
  t.doing = w.take({"fold"}, t.doing);
  ASSERT_EQ(t.doing.size(), 1u);
  const std::int64_t id = t.doing[0].id;
  auto c = t.coord();
  ASSERT_TRUE(c->call("indra_queue_create", {"mine"}));
  const std::string worker = c->call_json("indra_job", {id}).value()["worker"];
  const std::string q = OwnWork::kQueue;
  const std::vector<std::pair<const char*, Coord::Arguments>> calls = {
      {"indra_enqueue", {q, "x"}},
      {"indra_queue_create", {q}},
      {"indra_queue_create", {"indra:another"}},
      {"indra_queue_delete", {q}},
      {"indra_queue_pause", {q}},
      {"indra_queue_resume", {q}},
      {"indra_claim", {q, "me"}},
      {"indra_ack", {id, worker}},
      {"indra_ack_many", {"[" + std::to_string(id) + "]", worker}},
      {"indra_retry", {id, worker}},
      {"indra_fail", {id, worker, "no"}},
      {"indra_heartbeat", {id, worker, std::int64_t{60}}},
      {"indra_cancel", {id}},
      {"indra_result_save", {id, "x"}},
      {"indra_schedule", {"s", q, "@daily", nullptr}},
      {"indra_rule", {"r", q, R"({"since": 0})"}},
  };
  for (const auto& [f, arguments] : calls) {
    const auto r = c->call(f, arguments);
    ASSERT_FALSE(r) << f;
    EXPECT_EQ(to_errno(r.error()), EPERM) << f << ": " << r.error().context;
    EXPECT_SAYS(r.error().context, "is the vault's own");
  }
  EXPECT_EQ(t.stats()["claimed"], 1);  // seeing is free
  w.done(t.doing[0], {});
  EXPECT_EQ(t.stats()["done"], 1);
}

// E44
TEST(Snapshots, GivenAPlan_WhenScheduled_ThenItsJobsSayWhatToDoAndOneWaitsAtMost) {
  TestWork t;
  auto c = t.coord(true);
  const SnapshotPlan plan{.name = "hourly", .keep = 3};
  ASSERT_TRUE(schedule_snapshots(*c, plan, "@every 1h"));
  t.clock.advance(10 * 3600 * kSecond);  // nobody was there for ten hours
  ASSERT_TRUE(t.coord()->call("indra_schedule_tick", {}));
  OwnWork w = t.owner();
  const Jobs jobs = w.take({}, t.doing);
  ASSERT_EQ(jobs.size(), 1u);
  EXPECT_EQ(jobs[0].kind, "snapshot");
  const auto again = SnapshotPlan::of(jobs[0].payload);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->name, "hourly");
  EXPECT_EQ(again->branch, "main");
  EXPECT_EQ(again->keep, 3);
  EXPECT_EQ(again->title(1'700'000'000.9), "hourly-20231114T221320Z");
}

TEST(Snapshots, GivenABadPlan_WhenScheduled_ThenTheErrorSaysWhy) {
  TestWork t;
  auto c = t.coord(true);
  const auto said = [&](const SnapshotPlan& p, const char* when) {
    const auto r = schedule_snapshots(*c, p, when);
    EXPECT_FALSE(r);
    return r ? std::string{} : r.error().text();
  };
  EXPECT_SAYS(said({.name = "a", .keep = 0}, "@daily"), "0 snapshots cannot be kept");
  EXPECT_SAYS(said({.name = std::string(181, 'a'), .keep = 1}, "@daily"), "1 to 180 bytes");
  EXPECT_SAYS(said({.name = "a", .branch = "\xff", .keep = 1}, "@daily"), "UTF-8");
  EXPECT_SAYS(said({.name = "a", .keep = 1}, "61 * * * *"), "minute 61 is not within 0-59");
  EXPECT_FALSE(SnapshotPlan::of(Json{{"kind", "snapshot"}}));
  EXPECT_FALSE(SnapshotPlan::of(Json{{"name", "a"}, {"bucket", "main"}, {"branch", "main"}, {"keep", 0}}));
  EXPECT_TRUE(c->select("SELECT * FROM indra_schedules")->empty());
}

}  // namespace
}  // namespace indra
