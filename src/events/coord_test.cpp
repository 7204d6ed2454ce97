// Coordination in one file: what each function promises, a model of a queue, and other processes that are
// killed.
#include "events/coord.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "db/test_dir.h"

namespace indra {
namespace {

using Json = nlohmann::json;

struct TestCoord {
  TestDir dir;
  ManualClock clock;
  std::unique_ptr<Coord> c;
  explicit TestCoord() {
    Coord::Options o;
    o.clock = &clock;
    c = Coord::open(dir / "coord.db", o).value();
  }
  Json call(std::string_view f, const Coord::Arguments& a = {}) {
    auto r = c->call_json(f, a);
    EXPECT_TRUE(r) << r.error().context;
    return r ? *r : Json();
  }
  /// The text of the error, which is of this kind.
  std::string refused(int err, std::string_view f, const Coord::Arguments& a) {
    const auto r = c->call(f, a);
    EXPECT_FALSE(r) << f << " was not refused: " << (r ? r->dump() : "");
    if (r) return {};
    EXPECT_EQ(to_errno(r.error()), err) << r.error().context;
    return r.error().context;
  }
  void after(double seconds) { clock.advance(static_cast<TimeNs>(seconds * 1e9)); }
};
#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// E22
TEST(Queue, GivenPrioritiesAndDelays_WhenClaimed_ThenDueJobsComeInOrder) {
  TestCoord t;
  t.call("indra_queue_create", {"q"});
  t.call("indra_enqueue", {"q", "low"});
  t.call("indra_enqueue", {"q", "later", R"({"delay": 0.25, "priority": 9})"});
  t.call("indra_enqueue", {"q", "high", R"({"priority": 5})"});
  EXPECT_EQ(t.call("indra_next_at", {"q"}), 0.0);
  Json jobs = t.call("indra_claim", {"q", "w", std::int64_t{10}});
  ASSERT_EQ(jobs.size(), 2);
  EXPECT_EQ(jobs[0]["payload"], "high");
  EXPECT_EQ(jobs[1]["payload"], "low");
  t.after(0.2);
  EXPECT_TRUE(t.call("indra_claim", {"q", "w"}).empty());
  t.after(0.05);
  EXPECT_EQ(t.call("indra_claim", {"q", "w"})[0]["payload"], "later");
}

// E23
TEST(Queue, GivenAClaimThatEnds_WhenAnotherClaims_ThenItIsTriedAgainAndTheFirstMayNotAcknowledge) {
  TestCoord t;
  t.call("indra_queue_create", {"q", R"({"visibility": 2, "max_attempts": 2})"});
  const auto id = t.call("indra_enqueue", {"q", "x"}).get<std::int64_t>();
  t.call("indra_claim", {"q", "a"});
  t.after(1.5);
  t.call("indra_heartbeat", {id, "a", 2.0});
  t.after(1.5);
  EXPECT_TRUE(t.call("indra_claim", {"q", "b"}).empty());
  t.after(1);
  EXPECT_EQ(t.call("indra_claim", {"q", "b"})[0]["attempt"], 2);
  EXPECT_SAYS(t.refused(EPERM, "indra_ack", {id, "a"}), "is claimed by 'b', not by 'a'");
  EXPECT_SAYS(t.refused(EPERM, "indra_heartbeat", {id, "a", 2.0}), "is claimed by 'b'");
  t.after(3);
  EXPECT_TRUE(t.call("indra_claim", {"q", "c"}).empty());  // two attempts were allowed
  const Json job = t.call("indra_job", {id});
  EXPECT_EQ(job["state"], "dead");
  EXPECT_EQ(job["error"], "worker 'b' did not finish in time");
  t.call("indra_dead_retry", {id});
  EXPECT_EQ(t.call("indra_claim", {"q", "c"})[0]["id"], id);
}

// E24
TEST(Queue, GivenFailures_WhenRetried_ThenTheyWaitTwiceAsLongEachTimeAndDieAtLast) {
  TestCoord t;
  t.call("indra_queue_create", {"q", R"({"max_attempts": 4, "backoff": 0.5, "backoff_max": 1.5})"});
  const auto id = t.call("indra_enqueue", {"q", "x"}).get<std::int64_t>();
  for (const double wait : {0.5, 1.0, 1.5}) {
    ASSERT_EQ(t.call("indra_claim", {"q", "w"}).size(), 1);
    EXPECT_EQ(t.call("indra_retry", {id, "w", "no luck"}), "delayed");
    t.after(wait - 0.001);
    EXPECT_TRUE(t.call("indra_claim", {"q", "w"}).empty());
    t.after(0.001);
  }
  ASSERT_EQ(t.call("indra_claim", {"q", "w"}).size(), 1);
  EXPECT_EQ(t.call("indra_retry", {id, "w", "no luck"}), "dead");
  EXPECT_EQ(t.call("indra_job", {id})["error"], "no luck");
  const Json stats = t.call("indra_stats", {"q"});
  EXPECT_EQ(stats["died"], 1);
  EXPECT_EQ(stats["retried"], 3);
}

// E25
TEST(Queue, GivenKeysExpiryResultsAndPause_ThenEachDoesWhatItSays) {
  TestCoord t;
  t.call("indra_queue_create", {"q"});
  const Json id = t.call("indra_enqueue", {"q", "x", R"({"key": "k", "expires": 5})"});
  EXPECT_EQ(t.call("indra_enqueue", {"q", "y", R"({"key": "k"})"}), id);
  t.call("indra_queue_pause", {"q"});
  EXPECT_TRUE(t.call("indra_claim", {"q", "w"}).empty());
  EXPECT_TRUE(t.call("indra_next_at", {"q"}).is_null());
  t.call("indra_queue_resume", {"q"});
  t.after(6);
  EXPECT_TRUE(t.call("indra_claim", {"q", "w"}).empty());
  EXPECT_EQ(t.call("indra_job", {id.get<std::int64_t>()})["error"], "expired before anybody claimed it");
  const auto second = t.call("indra_enqueue", {"q", "y", R"({"key": "k"})"}).get<std::int64_t>();
  t.call("indra_claim", {"q", "w"});
  t.call("indra_ack", {second, "w", "42"});
  EXPECT_EQ(t.c->call("indra_result", {second}).value(), "42");
  t.after(25 * 3600.0);
  EXPECT_TRUE(t.c->call("indra_result", {second})->is_null());
  const auto third = t.call("indra_enqueue", {"q", "z"}).get<std::int64_t>();
  EXPECT_EQ(t.call("indra_cancel", {third}), 1);
  EXPECT_EQ(t.call("indra_cancel", {third}), 0);
}

TEST(Queue, GivenAJobThatWasClaimed_WhenItsTimeToExpireIsOver_ThenItIsTriedAgain) {
  TestCoord t;
  t.call("indra_queue_create", {"q", R"({"visibility": 2})"});
  t.call("indra_enqueue", {"q", "x", R"({"expires": 5})"});
  t.call("indra_claim", {"q", "w"});
  t.after(6);
  t.call("indra_sweep", {"q"});
  const Json again = t.call("indra_claim", {"q", "w"});
  ASSERT_EQ(again.size(), 1);
  t.call("indra_retry", {again[0]["id"].get<std::int64_t>(), "w", "no", 3.0});
  t.after(3);
  EXPECT_EQ(t.call("indra_claim", {"q", "w"}).size(), 1);
}

// E11
TEST(Coord, GivenBadInput_ThenTheErrorSaysWhatIsWrong) {
  TestCoord t;
  EXPECT_SAYS(t.refused(ENOENT, "indra_enqueue", {"nowhere", "x"}), "there is no queue 'nowhere'");
  EXPECT_SAYS(t.refused(ENOENT, "indra_claim", {"nowhere", "x"}), "there is no queue 'nowhere'");
  t.call("indra_queue_create", {"q"});
  EXPECT_SAYS(t.refused(EINVAL, "indra_queue_create", {"", "{}"}), "queue is empty");
  EXPECT_SAYS(t.refused(EINVAL, "indra_queue_create", {std::string(201, 'x')}), "201 bytes");
  EXPECT_SAYS(t.refused(EINVAL, "indra_queue_create", {"q", R"({"visibilty": 1})"}),
              "there is no option 'visibilty'; there are max_attempts");
  EXPECT_SAYS(t.refused(EINVAL, "indra_queue_create", {"q", R"({"visibility": 0})"}),
              "visibility must be more than 0");
  EXPECT_SAYS(t.refused(EINVAL, "indra_queue_create", {"q", "[1]"}), "options must be a JSON object");
  EXPECT_SAYS(t.refused(EINVAL, "indra_enqueue", {"q", "x", R"({"delay": -1})"}), "delay is negative");
  EXPECT_SAYS(t.refused(EINVAL, "indra_enqueue", {"q", "x", R"({"delay": "soon"})"}),
              "delay must be a number of seconds");
  EXPECT_SAYS(t.refused(EINVAL, "indra_enqueue", {"q", "x", R"({"delay": 1, "run_at": 5})"}),
              "exclude each other");
  EXPECT_SAYS(t.refused(EINVAL, "indra_enqueue", {"q", "x", R"({"max_attempts": 0})"}),
              "max_attempts is 0, not within 1");
  EXPECT_SAYS(t.refused(EINVAL, "indra_enqueue", {"q"}), "the arguments are (queue, payload, options)");
  EXPECT_SAYS(t.refused(EMSGSIZE, "indra_enqueue", {"q", std::string((1 << 20) + 1, 'x')}), "1048577 bytes");
  EXPECT_SAYS(t.refused(EMSGSIZE, "indra_notify", {"c", std::string((1 << 20) + 1, 'x')}), "1048577 bytes");
  EXPECT_SAYS(t.refused(EINVAL, "indra_claim", {"q", "w", std::int64_t{0}}), "number of jobs is 0");
  EXPECT_SAYS(t.refused(EINVAL, "indra_claim", {"q", "w", std::int64_t{1}, -2.0}), "visibility is negative");
  EXPECT_SAYS(t.refused(ENOENT, "indra_ack", {std::int64_t{77}, "w"}), "there is no job 77");
  const auto id = t.call("indra_enqueue", {"q", "x"}).get<std::int64_t>();
  EXPECT_SAYS(t.refused(EPERM, "indra_ack", {id, "w"}), "is not claimed");
  EXPECT_SAYS(t.refused(EINVAL, "indra_schedule", {"s", "q", "* * 40 * *", nullptr}),
              "day 40 is not within 1-31");
  EXPECT_SAYS(t.refused(ENOENT, "indra_schedule", {"s", "none", "@daily", nullptr}),
              "there is no queue 'none'");
  EXPECT_SAYS(t.refused(ENOENT, "indra_unschedule", {"s"}), "there is no schedule 's'");
  EXPECT_SAYS(t.refused(ENOENT, "indra_read", {"t", std::int64_t{0}, std::int64_t{1}}),
              "there is no stream 't'");
  EXPECT_SAYS(t.refused(EINVAL, "indra_rate", {"r", std::int64_t{0}, 1.0}), "limit is 0");
  EXPECT_SAYS(t.refused(EINVAL, "indra_lock", {"l", "me", -1.0}), "seconds is negative");
  // A call that fails leaves nothing.
  EXPECT_EQ(t.call("indra_stats", {"q"})["enqueued"], 1);
}

// E26
TEST(Lock, GivenAHolderThatDies_WhenItsTimeIsOver_ThenAnotherGetsItAndTheOldTokenIsRefused) {
  TestCoord t;
  const auto one = t.call("indra_lock", {"l", "a", 1.0}).get<std::int64_t>();
  EXPECT_EQ(t.call("indra_lock", {"l", "a", 60.0}), one);  // the same, and not extended
  EXPECT_TRUE(t.call("indra_lock", {"l", "b", 1.0}).is_null());
  EXPECT_SAYS(t.refused(EPERM, "indra_unlock", {"l", "b"}), "is held by 'a', not by 'b'");
  t.after(0.9);
  t.call("indra_lock_renew", {"l", "a", 1.0});
  t.after(0.9);
  EXPECT_EQ(t.call("indra_lock_check", {"l", one}), 1);
  t.after(0.2);
  EXPECT_SAYS(t.refused(EPERM, "indra_lock_check", {"l", one}), "the lock has expired");
  EXPECT_SAYS(t.refused(EPERM, "indra_lock_renew", {"l", "a", 1.0}), "has expired");
  const auto two = t.call("indra_lock", {"l", "b", 1.0}).get<std::int64_t>();
  EXPECT_GT(two, one);
  EXPECT_SAYS(t.refused(EPERM, "indra_lock_check", {"l", one}), "is stale: it was granted again");
  t.call("indra_unlock", {"l", "b"});
  EXPECT_GT(t.call("indra_lock", {"l", "a", 1.0}).get<std::int64_t>(),
            two);  // tokens grow also over a release
}

// E27
TEST(Rate, GivenALimit_WhenTheWindowIsFull_ThenTheNextOneHasRoom) {
  TestCoord t;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(t.call("indra_rate", {"r", std::int64_t{3}, 10.0}), 1);
  EXPECT_EQ(t.call("indra_rate", {"r", std::int64_t{3}, 10.0}), 0);
  const double wait = t.call("indra_rate_wait", {"r", std::int64_t{3}, 10.0}).get<double>();
  EXPECT_GT(wait, 0);
  t.after(wait);
  EXPECT_EQ(t.call("indra_rate", {"r", std::int64_t{3}, 10.0}), 1);
  t.after(20);
  EXPECT_EQ(t.call("indra_rate_sweep"), 1);
}

// E28
TEST(Schedule, GivenTimesThatPassed_WhenTicked_ThenEachIsMadeUpForOnceUpToABound) {
  TestCoord t;
  t.call("indra_queue_create", {"q"});
  t.call("indra_schedule", {"s", "q", "@every 10s", "tick"});
  EXPECT_EQ(t.call("indra_schedule_tick"), 0);
  t.after(35);
  EXPECT_EQ(t.call("indra_schedule_tick"), 3);
  EXPECT_EQ(t.call("indra_schedule_tick"), 0);
  t.after(10'000);
  EXPECT_EQ(t.call("indra_schedule_tick"), 64);
  EXPECT_EQ(t.call("indra_schedule_tick"), 0);
  const auto rows = t.c->select("SELECT fired, missed FROM indra_schedules").value();
  EXPECT_EQ(rows[0][0], 67);
  EXPECT_NEAR(rows[0][1].get<double>(), 1000 - 64, 2);
  t.call("indra_schedule_pause", {"s"});
  t.after(100);
  EXPECT_EQ(t.call("indra_schedule_tick"), 0);
  t.call("indra_schedule_resume", {"s"});
  EXPECT_EQ(t.call("indra_schedule_tick"), 0);
  EXPECT_SAYS(t.refused(EPERM, "indra_queue_delete", {"q"}), "schedule s puts jobs into queue 'q'");
}

TEST(Schedule, GivenATimeThatIsDue_WhenTheScheduleIsMadeAgain_ThenItStillFires) {
  TestCoord t;
  t.call("indra_queue_create", {"q"});
  for (int i = 0; i < 3; ++i) {  // a program that starts again before each time comes
    t.call("indra_schedule", {"s", "q", "@every 10s", "tick"});
    t.after(9);
  }
  EXPECT_EQ(t.call("indra_schedule_tick"), 2);
  t.call("indra_schedule", {"s", "q", "@every 1h", "tick"});
  t.after(1800);
  EXPECT_EQ(t.call("indra_schedule_tick"), 0);
  // A clock that was far ahead.
  t.after(1e7);
  t.call("indra_schedule_tick");
  t.clock.advance(static_cast<TimeNs>(-1e16));
  t.call("indra_schedule", {"s", "q", "@every 1h", "tick"});
  t.after(3600);
  EXPECT_EQ(t.call("indra_schedule_tick"), 1);
}

// E21
TEST(Stream, GivenConsumers_WhenTheySave_ThenTheirPlaceNeverGoesBackAndTrimmedIsSaid) {
  TestCoord t;
  for (const char* e : {"a", "b", "c"}) t.call("indra_publish", {"t", e});
  t.call("indra_publish", {"other", "x"});
  const Json all = t.call("indra_read", {"t", std::int64_t{0}, std::int64_t{10}});
  ASSERT_EQ(all.size(), 3);
  t.call("indra_consumer_save", {"t", "me", all[1]["offset"].get<std::int64_t>()});
  t.call("indra_consumer_save", {"t", "me", all[0]["offset"].get<std::int64_t>()});
  EXPECT_EQ(t.call("indra_consumer_offset", {"t", "me"}), all[1]["offset"]);
  EXPECT_SAYS(t.refused(EINVAL, "indra_consumer_save", {"t", "me", std::int64_t{99}}),
              "beyond the newest event");
  EXPECT_EQ(t.call("indra_trim", {"t", all[1]["offset"].get<std::int64_t>()}), 2);
  EXPECT_SAYS(t.refused(ESTALE, "indra_read", {"t", std::int64_t{0}, std::int64_t{10}}), "were trimmed");
  EXPECT_EQ(t.call("indra_read", {"t", all[1]["offset"].get<std::int64_t>(), std::int64_t{10}}).size(), 1);
}

// E10: atomic with what the caller writes, in and out of transactions, in triggers too.
TEST(Coord, GivenTheCallersTransaction_WhenRolledBack_ThenTheJobGoesWithIt) {
  TestCoord t;
  t.call("indra_queue_create", {"q"});
  ASSERT_TRUE(t.c->execute("CREATE TABLE mine(x); BEGIN IMMEDIATE; INSERT INTO mine VALUES(1)"));
  t.call("indra_enqueue", {"q", "x"});
  ASSERT_TRUE(t.c->execute("ROLLBACK"));
  EXPECT_TRUE(t.c->select("SELECT * FROM indra_jobs")->empty());
  ASSERT_TRUE(
      t.c->execute("PRAGMA trusted_schema=ON; CREATE TRIGGER put AFTER INSERT ON mine BEGIN SELECT "
                   "indra_enqueue('q', new.x); END;"
                   "INSERT INTO mine VALUES('by trigger')"));
  EXPECT_EQ(t.c->select("SELECT payload FROM indra_jobs").value(),
            std::vector<Json>{Json::array({"by trigger"})});
  // An error inside a transaction takes back that call alone.
  ASSERT_TRUE(t.c->execute("BEGIN IMMEDIATE"));
  t.call("indra_enqueue", {"q", "kept"});
  EXPECT_FALSE(t.c->call("indra_enqueue", {"nowhere", "x"}));
  ASSERT_TRUE(t.c->execute("COMMIT"));
  EXPECT_EQ(t.c->select("SELECT payload FROM indra_jobs")->size(), 2);
}

// E12: somebody sits in a write transaction.
TEST(Coord, GivenAStrangerInAWriteTransaction_WhenCalled_ThenItIsBusyAfterTheTimeAndNotBefore) {
  TestCoord t;
  t.call("indra_queue_create", {"q"});
  auto stranger = Coord::open(t.dir / "coord.db").value();
  ASSERT_TRUE(stranger->execute("BEGIN IMMEDIATE"));
  Coord::Options o;
  o.busy = kSecond / 20;
  auto mine = Coord::open(t.dir / "coord.db", o).value();
  const auto r = mine->call("indra_enqueue", {"q", "x"});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, std::errc::device_or_resource_busy);
  EXPECT_SAYS(r.error().context, "held a write transaction");
  EXPECT_TRUE(mine->call("indra_stats", {"q"}));  // reading does not wait
  ASSERT_TRUE(stranger->execute("COMMIT"));
  EXPECT_TRUE(mine->call("indra_enqueue", {"q", "x"}));
}

// E7: what wakes nobody rings nobody.
TEST(Coord, GivenCallsThatGiveNobodyWork_WhenCommitted_ThenTheyDoNotKnock) {
  TestCoord t;
  t.call("indra_queue_create", {"q"});
  auto seen = t.c->ticket();
  const auto id = t.call("indra_enqueue", {"q", "x"}).get<std::int64_t>();
  EXPECT_NE(t.c->ticket(), seen);
  seen = t.c->ticket();
  t.call("indra_claim", {"q", "w"});
  t.call("indra_ack", {id, "w"});
  EXPECT_EQ(t.c->ticket(), seen);
}

// ---- the model ----

struct ModelJob {
  int priority;
  std::int64_t run_at, id;
  int attempts = 0;
  std::string worker;
  std::int64_t until = 0;
};

// E22 .. E24: a queue equals the plainest possible model.
RC_GTEST_PROP(QueueProperty, equals_a_list_that_is_searched,
              (const std::vector<std::tuple<std::uint8_t, std::uint8_t, std::uint8_t>>& steps)) {
  constexpr int kMax = 3;
  constexpr std::int64_t kVisibility = 1000;
  TestCoord t;
  t.call("indra_queue_create", {"q", R"({"visibility": 1, "max_attempts": 3, "backoff": 0.1})"});
  std::map<std::int64_t, ModelJob> jobs;
  std::set<std::int64_t> dead;
  std::int64_t now = t.clock.now() / 1'000'000, put = 0, done = 0, cancelled = 0;
  const auto pick = [&](unsigned n) {
    return jobs.empty() ? std::int64_t{999}
                        : std::next(jobs.begin(), static_cast<std::ptrdiff_t>(n % jobs.size()))->first;
  };
  for (const auto& [what, a, b] : steps) {
    const std::string worker = a % 2 == 0 ? "even" : "odd";
    const std::int64_t id = pick(b);
    const bool mine = jobs.contains(id) && jobs[id].worker == worker;
    switch (what % 8) {
      case 0:
      case 1: {
        const int priority = a % 3, delay = b % 4 == 0 ? 300 : 0;
        const Json made = t.call("indra_enqueue",
                                 {"q", "x", Json{{"priority", priority}, {"delay", delay / 1000.0}}.dump()});
        jobs[made.get<std::int64_t>()] = {priority, now + delay, made.get<std::int64_t>(), 0, "", 0};
        ++put;
        break;
      }
      case 2:
      case 3: {
        for (auto it = jobs.begin(); it != jobs.end();) {  // claims that ended
          const auto next = std::next(it);
          if (!it->second.worker.empty() && it->second.until <= now) {
            it->second.worker.clear();
            if (it->second.attempts >= kMax) {
              dead.insert(it->first);
              jobs.erase(it);
            }
          }
          it = next;
        }
        ModelJob* best = nullptr;
        for (auto& [n, j] : jobs)
          if (j.worker.empty() && j.run_at <= now &&
              (best == nullptr ||
               std::tuple{-j.priority, j.run_at, j.id} < std::tuple{-best->priority, best->run_at, best->id}))
            best = &j;
        const Json got = t.call("indra_claim", {"q", worker});
        RC_ASSERT(got.empty() == (best == nullptr));
        if (best == nullptr) break;
        RC_ASSERT(got[0]["id"] == best->id);
        best->worker = worker;
        best->until = now + kVisibility;
        RC_ASSERT(got[0]["attempt"] == ++best->attempts);
        break;
      }
      case 4: {
        const auto r = t.c->call("indra_ack", {id, worker});
        RC_ASSERT(r.has_value() == mine);
        if (mine) jobs.erase(id), ++done;
        break;
      }
      case 5: {
        const auto r = t.c->call("indra_retry", {id, worker, "again", 0.2});
        RC_ASSERT(r.has_value() == mine);
        if (!mine) break;
        ModelJob& j = jobs[id];
        j.worker.clear();
        j.run_at = now + 200;
        const bool over = j.attempts >= kMax;
        RC_ASSERT(*r == (over ? "dead" : "delayed"));
        if (over) dead.insert(id), jobs.erase(id);
        break;
      }
      case 6:
        if (a % 3 == 0) {
          const auto r = t.c->call("indra_cancel", {id});
          RC_ASSERT(*r == (jobs.erase(id) != 0 ? 1 : 0));
          cancelled += *r == 1 ? 1 : 0;
        } else {
          const auto r = t.c->call("indra_heartbeat", {id, worker, 1.0});
          RC_ASSERT(r.has_value() == (mine && jobs[id].until > now));
          if (r) jobs[id].until = now + 1000;
        }
        break;
      case 7:
        t.clock.advance((a % 6) * 100'000'000LL);
        now = t.clock.now() / 1'000'000;
        break;
    }
  }
  const Json stats = t.call("indra_stats", {"q"});
  RC_ASSERT(stats["enqueued"] == put);
  RC_ASSERT(stats["done"] == done);
  RC_ASSERT(stats["cancelled"] == cancelled);
  RC_ASSERT(stats["dead"] == dead.size());
  RC_ASSERT(stats["ready"].get<std::size_t>() + stats["delayed"].get<std::size_t>() +
                stats["claimed"].get<std::size_t>() ==
            jobs.size());
}

// ---- other processes ----

/// Kills: INDRA_KILLS, else as many as are quickly done.
int kills() {
  const char* n = std::getenv("INDRA_KILLS");
  return n != nullptr ? std::max(1, std::atoi(n)) : 50;
}

[[noreturn]] void worker(const std::string& path, const std::string& name) {
  auto opened = Coord::open(path);
  if (!opened) ::_exit(1);
  Coord& c = **opened;
  for (;;) {
    const auto seen = c.ticket();
    const auto jobs = c.call_json("indra_claim", {"q", name, std::int64_t{1}, 0.1});
    if (!jobs) ::_exit(2);
    if (jobs->empty()) {
      c.wait(seen, kSecond / 50);
      continue;
    }
    const Json& job = (*jobs)[0];
    const auto id = job["id"].get<std::int64_t>();
    if (job["payload"] == "poison") {
      (void)c.call("indra_retry", {id, name, "poison", 0.001});
      continue;
    }
    // The effect and the acknowledgement in one transaction: the effect happens once, whoever is killed when.
    if (!c.execute("BEGIN IMMEDIATE")) ::_exit(3);
    const bool done =
        c.call("indra_ack", {id, name}).has_value() &&
        c.execute("INSERT INTO effects VALUES(" + std::to_string(id) + ", '" + name + "')").has_value();
    if (!c.execute(done ? "COMMIT" : "ROLLBACK")) ::_exit(4);
  }
}

// E23, E10: workers killed at random moments: each job done, none lost, effects once, dead letters exact.
TEST(Processes, GivenWorkersKilledAtRandom_ThenEachJobIsDoneAndTheDeadLettersAreExact) {
  const TestDir dir;
  const std::string path = dir / "coord.db";
  auto c = Coord::open(path).value();
  ASSERT_TRUE(c->call("indra_queue_create", {"q", R"({"max_attempts": 100000})"}));
  ASSERT_TRUE(c->execute("CREATE TABLE effects(job INTEGER, worker TEXT)"));
  const int n = kills(), per_kill = 8;
  std::set<std::int64_t> good, poison;
  std::mt19937 random{4711};
  std::vector<pid_t> running;
  int names = 0;
  const auto spawn = [&] {
    const std::string name = "w" + std::to_string(++names);
    c.reset();  // a connection must not cross fork()
    const pid_t child = ::fork();
    if (child == 0) worker(path, name);
    running.push_back(child);
    c = Coord::open(path).value();
  };
  const auto put = [&](int count) {
    ASSERT_TRUE(c->execute("BEGIN IMMEDIATE"));
    for (int i = 0; i < count; ++i) good.insert(c->call("indra_enqueue", {"q", "x"})->get<std::int64_t>());
    if (random() % 4 == 0)
      poison.insert(c->call("indra_enqueue", {"q", "poison", R"({"max_attempts": 2})"})->get<std::int64_t>());
    ASSERT_TRUE(c->execute("COMMIT"));
  };
  for (int i = 0; i < 4; ++i) spawn();
  for (int i = 0; i < n; ++i) {
    put(per_kill);
    const timespec pause{0, static_cast<long>(random() % 15'000'000)};
    ::nanosleep(&pause, nullptr);
    const std::size_t which = random() % running.size();
    ::kill(running[which], SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(running[which], &status, 0), running[which]);
    EXPECT_TRUE(WIFSIGNALED(status)) << "a worker ended by itself: " << WEXITSTATUS(status);
    running.erase(running.begin() + static_cast<std::ptrdiff_t>(which));
    spawn();
  }
  Json stats;
  for (int i = 0; i < 3000; ++i) {
    stats = c->call_json("indra_stats", {"q"}).value();
    if (stats["ready"] == 0 && stats["delayed"] == 0 && stats["claimed"] == 0) break;
    const timespec pause{0, 10'000'000};
    ::nanosleep(&pause, nullptr);
  }
  for (const pid_t p : running) {
    ::kill(p, SIGKILL);
    ::waitpid(p, nullptr, 0);
  }
  std::multiset<std::int64_t> done;
  const auto effects = c->select("SELECT job FROM effects").value();
  for (const Json& row : effects) done.insert(row[0].get<std::int64_t>());
  EXPECT_EQ(done, (std::multiset<std::int64_t>{good.begin(), good.end()}));
  std::set<std::int64_t> dead;
  const auto letters = c->select("SELECT id FROM indra_dead").value();
  for (const Json& row : letters) dead.insert(row[0].get<std::int64_t>());
  EXPECT_EQ(dead, poison);
  EXPECT_EQ(stats["done"], good.size());
}

// E21, E6: two processes, 100,000 events: no loss, no repetition, order kept.
TEST(Processes, GivenAHundredThousandEvents_WhenReadBesideThePublisher_ThenEachComesOnceInOrder) {
  constexpr int kEvents = 100'000;
  const TestDir dir;
  const std::string path = dir / "coord.db";
  auto c = Coord::open(path).value();
  ASSERT_TRUE(c->call("indra_publish", {"t", "first"}));
  c.reset();  // a connection must not cross fork()
  const pid_t child = ::fork();
  if (child == 0) {
    auto mine = Coord::open(path);
    if (!mine) ::_exit(1);
    for (int i = 0; i < kEvents;) {
      if (!(*mine)->execute("BEGIN IMMEDIATE")) ::_exit(2);
      for (int k = 0; k < 1 + i % 199 && i < kEvents; ++k, ++i)
        if (!(*mine)->call("indra_publish", {"t", std::int64_t{i}})) ::_exit(3);
      if (!(*mine)->execute("COMMIT")) ::_exit(4);
    }
    ::_exit(0);
  }
  c = Coord::open(path).value();
  std::int64_t at = 1, expected = 0;
  while (expected < kEvents) {
    const auto seen = c->ticket();
    const auto rows = c->select(
                           "SELECT offset, payload FROM indra_events WHERE topic = 't' AND offset > ? ORDER "
                           "BY offset LIMIT 500",
                           {at})
                          .value();
    for (const Json& row : rows) {
      ASSERT_EQ(row[1], expected);
      ++expected;
      at = row[0].get<std::int64_t>();
    }
    if (rows.empty()) {
      const auto before = std::time(nullptr);
      c->wait(seen, 60 * kSecond);
      ASSERT_LT(std::time(nullptr) - before, 50) << "nobody knocked";
    }
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(c->select("SELECT 1 FROM indra_events WHERE offset > ?", {at})->empty());
}

}  // namespace
}  // namespace indra
