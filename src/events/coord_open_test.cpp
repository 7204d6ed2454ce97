// Opening coord.db where others do, or hold it.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <array>
#include <atomic>
#include <ctime>
#include <thread>

#include "db/test_dir.h"
#include "events/coord.h"
#include "events/internal/coord_state.h"

namespace indra {
namespace {

// E10: a file that many make at once has one maker, and the others wait for it as for any writer.
TEST(Coord, GivenManyWhoMakeTheFileAtOnce_WhenOpened_ThenEachHasItAndNobodyIsToldBusy) {
  constexpr int kMany = 8;
  const TestDir dir;
  for (int round = 0; round < 10; ++round) {
    const std::string path = dir / ("coord" + std::to_string(round) + ".db").c_str();
    std::array<std::string, kMany> said;
    std::atomic<int> ready{0};
    std::vector<std::thread> all;
    for (int n = 0; n < kMany; ++n)
      all.emplace_back([&, n] {
        ++ready;
        while (ready < kMany) std::this_thread::yield();
        auto c = Coord::open(path);
        const auto r = c ? (*c)->call("indra_publish", {"t", std::int64_t{n}}) : fail(c.error());
        if (!r) said[static_cast<std::size_t>(n)] = r.error().text();
      });
    for (std::thread& t : all) t.join();
    for (const std::string& s : said) ASSERT_EQ(s, "") << "round " << round;
    EXPECT_EQ(Coord::open(path).value()->select("SELECT payload FROM indra_events")->size(),
              std::size_t{kMany});
  }
}

// E12: a file that somebody holds locked while it is made is waited for, as long as was said.
TEST(Coord, GivenAStrangerWhoHoldsTheNewFile_WhenOpened_ThenItIsWaitedForAndThenBusy) {
  const TestDir dir;
  const std::string path = dir / "coord.db";
  dir.write("coord.db", {});
  sqlite3* stranger = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &stranger), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(stranger, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  Coord::Options o;
  o.busy = kSecond / 20;
  const auto refused = Coord::open(path, o);
  ASSERT_FALSE(refused);
  EXPECT_EQ(to_errno(refused.error()), EBUSY) << refused.error().text();
  std::thread leaves{[&] {
    const timespec pause{0, 100'000'000};
    ::nanosleep(&pause, nullptr);
    sqlite3_exec(stranger, "ROLLBACK", nullptr, nullptr, nullptr);
  }};
  o.busy = 60 * kSecond;
  const auto opened = Coord::open(path, o);
  leaves.join();
  sqlite3_close(stranger);
  EXPECT_TRUE(opened) << opened.error().text();
}

// E11: what the extension makes outside of a transaction is there whole or not at all.
TEST(Coord, GivenAnObstacle_WhenTheTablesAreMade_ThenNoneIsThereAndTheyCanBeMadeLater) {
  const TestDir dir;
  const std::string path = dir / "coord.db";
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  ASSERT_EQ(coord::install(db, nullptr, false), SQLITE_OK);
  const auto run = [&](const char* sql) { return sqlite3_exec(db, sql, nullptr, nullptr, nullptr); };
  ASSERT_EQ(run("CREATE TABLE indra_rules(x)"), SQLITE_OK);
  EXPECT_NE(run("SELECT indra_bootstrap()"), SQLITE_OK);
  EXPECT_EQ(run("CREATE TABLE indra_meta(x); DROP TABLE indra_meta; DROP TABLE indra_rules"), SQLITE_OK)
      << sqlite3_errmsg(db);
  EXPECT_EQ(run("SELECT indra_bootstrap(); SELECT indra_bootstrap()"), SQLITE_OK) << sqlite3_errmsg(db);
  EXPECT_EQ(run("SELECT indra_queue_create('q'); SELECT indra_enqueue('q', 'x')"), SQLITE_OK)
      << sqlite3_errmsg(db);
  sqlite3_close(db);
  EXPECT_TRUE(Coord::open(path));
}

}  // namespace
}  // namespace indra
