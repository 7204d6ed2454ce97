#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

#include "cli/app.h"

namespace indra::cli {
namespace {

constexpr TimeNs kNow = 1'700'000'000 * kSecond;  // 2023-11-14 22:13:20 UTC

std::int64_t seconds(std::string_view text) {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  const auto j = parse_when(text, kNow);
  return j && j->contains("time") ? (*j)["time"].get<std::int64_t>() / kSecond : -1;
}

TEST(When, GivenMomentsAsPeopleWriteThem_WhenRead_ThenTheyAreThose) {
  EXPECT_EQ(seconds("now"), 1'700'000'000);
  EXPECT_EQ(seconds("2h ago"), 1'700'000'000 - 7200);
  EXPECT_EQ(seconds("90s"), 1'700'000'000 - 90);
  EXPECT_EQ(seconds("3 days ago"), 1'700'000'000 - 3 * 86400);
  EXPECT_EQ(seconds("yesterday"), 1'700'000'000 - 86400);
  EXPECT_EQ(seconds("2023-11-14 22:13:20"), 1'700'000'000);
  EXPECT_EQ(seconds("2023-11-14T22:13"), 1'700'000'000 - 20);
  EXPECT_EQ(seconds("2023-11-14"), 1'699'920'000);
  EXPECT_EQ(seconds("22:13"), 1'700'000'000 - 20);
  EXPECT_EQ(seconds("@17"), 17);
  EXPECT_GT(seconds("@99999999999"), kNow / kSecond);  // later than nanoseconds can tell
  EXPECT_LT(seconds("0001-01-01"), -kNow / kSecond);
  EXPECT_EQ((*parse_when("seq:12", kNow))["seq"], 12);
  for (const char* bad : {"", "soon", "12 parsecs", "2023-13-14", "seq:", "seq:x", "@", "-3h", "h"})
    EXPECT_FALSE(parse_when(bad, kNow)) << bad;
}

}  // namespace
}  // namespace indra::cli
