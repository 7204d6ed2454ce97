// Rules: exactly once, through kills of the relay, two relays at once, and a stranger who holds coord.db.
#include "events/relay.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <set>

#include "events/attendant.h"
#include "tree/internal/test_tree.h"

namespace indra {
namespace {

using Json = nlohmann::json;

std::unique_ptr<Coord> coord_of(const TestTree& t) { return Coord::open(t.dir + "/coord.db").value(); }

void add_rule(Coord& c, const TestTree& t, const char* name, Json options) {
  ASSERT_TRUE(c.call("indra_queue_create", {"q"}));
  options["since"] = t.tree->last_seq().raw();
  ASSERT_TRUE(c.call("indra_rule", {name, "q", options.dump()}));
}

/// seq -> how many jobs there are for it.
std::map<std::int64_t, int> jobs(Coord& c) {
  std::map<std::int64_t, int> all;
  const auto rows = c.select("SELECT payload FROM indra_jobs").value();
  for (const Json& row : rows) ++all[Json::parse(row[0].get<std::string>())["seq"].get<std::int64_t>()];
  return all;
}

void relay_all(Relay& r) {
  for (;;) {
    const auto more = r.pass();
    ASSERT_TRUE(more) << more.error().text();
    if (!*more) return;
  }
}

// E30
TEST(Relay, GivenRules_WhenChangesCome_ThenEachThatFitsIsOneJob) {
  TestTree t;
  const auto c = coord_of(t);
  const Chain main = t.head();
  const NodeId d = t.make(main, kFirstNode, "d", S_IFDIR | 0755)->node;
  ASSERT_TRUE(t.make(main, d, "before"));
  ASSERT_TRUE(t.writer->commit());
  add_rule(*c, t, "r", {{"path", "/d"}, {"kinds", "create,write"}});
  Relay relay{t.dir, {}};
  relay_all(relay);
  EXPECT_TRUE(jobs(*c).empty());  // what was there before is not told
  const NodeId f = t.make(main, d, "f")->node;
  ASSERT_TRUE(t.make(main, kFirstNode, "elsewhere"));
  ASSERT_TRUE(t.write(main, f, 1));
  ASSERT_TRUE(t.unlink(main, d, "f"));
  relay_all(relay);
  EXPECT_TRUE(jobs(*c).empty());  // not committed yet
  ASSERT_TRUE(t.writer->commit());
  relay_all(relay);
  relay_all(relay);
  const auto rows = c->select("SELECT payload FROM indra_jobs ORDER BY id").value();
  ASSERT_EQ(rows.size(), 2);
  const Json first = Json::parse(rows[0][0].get<std::string>());
  EXPECT_EQ(first["rule"], "r");
  EXPECT_EQ(first["op"], "create");
  EXPECT_EQ(first["path"], "/d/f");
  // Another process that knows nothing goes on from the position.
  Relay other{t.dir, {}};
  relay_all(other);
  EXPECT_EQ(jobs(*c).size(), 2);
}

// E31: before jobs are made, the changes they speak of are durable.
TEST(Relay, GivenAChangeThatFits_WhenItCannotBeMadeDurable_ThenThereIsNoJob) {
  TestTree t;
  const auto c = coord_of(t);
  add_rule(*c, t, "r", Json::object());
  ASSERT_TRUE(t.make(t.head(), kFirstNode, "f"));
  ASSERT_TRUE(t.writer->commit());
  bool works = false;
  Relay::Options o;
  o.durable = [&]() -> Result<void> {
    if (!works) return fail(EIO);
    return t.writer->barrier();
  };
  Relay relay{t.dir, std::move(o)};
  EXPECT_FALSE(relay.pass());
  EXPECT_TRUE(jobs(*c).empty());
  works = true;
  relay_all(relay);
  EXPECT_EQ(jobs(*c).size(), 1);
}

// E30: stopped between any two steps; two relays take turns.
TEST(Relay, GivenRelaysThatAreCutOffAnywhere_ThenEachChangeIsOneJob) {
  TestTree t;
  const auto c = coord_of(t);
  add_rule(*c, t, "r", Json::object());
  std::set<std::int64_t> expected;
  int calls = 0;
  const auto faulty = [&] {
    Relay::Options o;
    o.faults = FaultPoints{[&calls](std::string_view) -> Result<void> {
      if (++calls % 3 != 0) return fail(EINTR);
      return {};
    }};
    return std::make_unique<Relay>(t.dir, std::move(o));
  };
  auto a = faulty(), b = faulty();
  for (int round = 0; round < 30; ++round) {
    for (int i = 0; i < round % 4; ++i) {
      ASSERT_TRUE(t.make(t.head(), kFirstNode, "f" + std::to_string(round) + "-" + std::to_string(i)));
      expected.insert(t.tree->last_seq().raw());
    }
    ASSERT_TRUE(t.writer->commit());
    (void)a->pass();
    (void)b->pass();
    if (round % 5 == 0) a = faulty();  // a new process knows only what is in coord.db
  }
  Relay last{t.dir, {}};
  relay_all(last);
  const auto all = jobs(*c);
  EXPECT_EQ(all.size(), expected.size());
  for (const std::int64_t seq : expected) EXPECT_EQ(all.count(seq) == 1 ? all.at(seq) : 0, 1) << seq;
}

// E31: a stranger stopped inside a write transaction: the relay gives up soon, and loses nothing.
TEST(Relay, GivenAStrangerInAWriteTransaction_WhenRelayed_ThenItIsBusyAndLaterDone) {
  TestTree t;
  const auto c = coord_of(t);
  add_rule(*c, t, "r", Json::object());
  ASSERT_TRUE(t.make(t.head(), kFirstNode, "f"));
  ASSERT_TRUE(t.writer->commit());
  Relay::Options o;
  o.busy = kSecond / 50;
  Relay relay{t.dir, std::move(o)};
  ASSERT_TRUE(c->execute("BEGIN IMMEDIATE"));
  const auto r = relay.pass();
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, std::errc::device_or_resource_busy) << r.error().text();
  ASSERT_TRUE(c->execute("ROLLBACK"));
  relay_all(relay);
  EXPECT_EQ(jobs(*c).size(), 1);
}

// E31: the threads of an open vault.
TEST(Attendant, GivenARuleAndASchedule_WhenTimeAndChangesPass_ThenJobsComeByThemselves) {
  TestTree t;
  auto knock = Knock::open(vault_knock(t.dir)).value();
  auto attendant = Attendant::start(t.dir, nullptr).value();
  const auto c = coord_of(t);
  add_rule(*c, t, "r", Json::object());
  ASSERT_TRUE(c->call("indra_queue_create", {"clock"}));
  ASSERT_TRUE(c->call("indra_schedule", {"s", "clock", "@every 20ms", "tick"}));
  ASSERT_TRUE(t.make(t.head(), kFirstNode, "f"));
  ASSERT_TRUE(t.writer->commit());
  knock->ring();
  for (const char* queue : {"q", "clock"}) {
    const TimeNs until = system_clock().steady() + 60 * kSecond;
    for (;;) {
      const auto seen = c->ticket();
      const auto got = c->call_json("indra_claim", {queue, "w"}).value();
      if (!got.empty()) break;
      ASSERT_LT(system_clock().steady(), until) << queue;
      c->wait(seen, kSecond / 10);
    }
  }
}

}  // namespace
}  // namespace indra
