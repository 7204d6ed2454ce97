#include "events/cron.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

namespace indra {
namespace {

class CronTest : public testing::Test {
 protected:
  void SetUp() override { zone("Europe/Berlin"); }
  void TearDown() override { zone("UTC"); }
  static void zone(const char* tz) {
    ::setenv("TZ", tz, 1);
    ::tzset();
  }
  static std::int64_t at(const char* local, int dst = -1) {
    std::tm t{};
    EXPECT_NE(::strptime(local, "%Y-%m-%d %H:%M:%S", &t), nullptr);
    t.tm_isdst = dst;
    return ::mktime(&t) * 1000LL;
  }
  static std::string next(const char* expr, std::int64_t from) {
    const std::time_t t = Cron::parse(expr).value().next_after(from).value() / 1000;
    std::tm l{};
    ::localtime_r(&t, &l);
    char out[64];
    return {out, ::strftime(out, sizeof out, "%Y-%m-%d %H:%M:%S", &l)};
  }
};

TEST_F(CronTest, FieldsNamesListsRangesAndSteps) {
  const auto from = at("2026-01-31 12:00:00");
  EXPECT_EQ(next("* * * * *", from), "2026-01-31 12:01:00");
  EXPECT_EQ(next("30 4 * * *", from), "2026-02-01 04:30:00");
  EXPECT_EQ(next("*/15 9-17 * * mon-fri", from), "2026-02-02 09:00:00");
  EXPECT_EQ(next("0 0 1,15 * *", from), "2026-02-01 00:00:00");
  EXPECT_EQ(next("0 0 13 * fri", from), "2026-02-06 00:00:00");  // either
  EXPECT_EQ(next("0 0 29 feb *", from), "2028-02-29 00:00:00");
  EXPECT_EQ(next("0 12 * * 7", from), "2026-02-01 12:00:00");
  EXPECT_EQ(next("10,40 5 12 31 12 *", from), "2026-12-31 12:05:10");
  EXPECT_EQ(next("@daily", from), "2026-02-01 00:00:00");
  EXPECT_EQ(next("5/20 * * * *", from), "2026-01-31 12:05:00");
  EXPECT_EQ(Cron::parse("@every 250ms")->next_after(1000).value(), 1250);
}

TEST_F(CronTest, WhenClocksChange) {
  // 2026-03-29 02:00 becomes 03:00; 2026-10-25 03:00 becomes 02:00.
  EXPECT_EQ(next("30 2 * * *", at("2026-03-28 12:00:00")), "2026-03-30 02:30:00");
  EXPECT_EQ(next("0 * * * *", at("2026-03-29 01:30:00")), "2026-03-29 03:00:00");
  const auto first = Cron::parse("30 2 * * *")->next_after(at("2026-10-25 00:00:00")).value();
  EXPECT_EQ(first, at("2026-10-25 02:30:00", 1));
  EXPECT_EQ(next("30 2 * * *", first),
            "2026-10-26 02:30:00");  // the second 02:30 of that night does not count
  EXPECT_EQ(Cron::parse("0 * * * *")->next_after(at("2026-10-25 02:00:00", 1)).value(),
            at("2026-10-25 02:00:00", 0));
}

TEST_F(CronTest, WhenMidnightComesTwice) {
  zone("Atlantic/Azores");  // 2026-10-25, a Sunday: 01:00 becomes 00:00
  const auto first = at("2026-10-25 00:00:00", 1), before = at("2026-10-24 12:00:00");
  const Cron weekly = Cron::parse("@weekly").value();
  for (const char* last :
       {"2026-07-01 00:00:00", "2026-12-20 00:00:00"}) {  // mktime() goes by its last answer
    at(last);
    EXPECT_EQ(weekly.next_after(before).value(), first) << last;
  }
  EXPECT_EQ(next("@weekly", first), "2026-11-01 00:00:00");
}

TEST_F(CronTest, WhatIsWrongIsSaid) {
  const auto says = [](const char* expr, const char* text) {
    const auto r = Cron::parse(expr);
    ASSERT_FALSE(r) << expr;
    EXPECT_EQ(r.error().code, std::errc::invalid_argument);
    EXPECT_NE(r.error().context.find(text), std::string::npos) << r.error().context;
  };
  says("", "it is empty");
  says("* * *", "it has 3 fields");
  says("60 * * * *", "minute 60 is not within 0-59");
  says("* * * foo *", "month 'foo' is no number");
  says("* 9-5 * * *", "hour range 9-5 runs backwards");
  says("*/0 * * * *", "minute 0 is not within");
  says("-1 * * * *", "minute");
  says("0 0 31 2 *", "such a day never comes");
  says("@every", "one interval");
  says("@every 5 minutes", "one interval");
  says("@every -5m", "a number and a unit");
  says("@fortnightly", "there are @hourly");
}

}  // namespace
}  // namespace indra
