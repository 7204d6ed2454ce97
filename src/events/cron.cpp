#include "events/cron.h"

#include <cerrno>
#include <charconv>
#include <ctime>
#include <string>
#include <vector>

namespace indra {
namespace {

constexpr std::array<std::string_view, 12> kMonths = {"jan", "feb", "mar", "apr", "may", "jun",
                                                      "jul", "aug", "sep", "oct", "nov", "dec"};
constexpr std::array<std::string_view, 7> kDays = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
constexpr std::int64_t kNineYears = 9LL * 366 * 86400;

Failure wrong(std::string_view expression, const std::string& why) {
  return fail(EINVAL, "schedule '" + std::string{expression} + "': " + why);
}

std::vector<std::string_view> split(std::string_view s, char by) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto at = s.find(by);
    parts.push_back(s.substr(0, at));
    if (at == std::string_view::npos) return parts;
    s.remove_prefix(at + 1);
  }
}

std::string lower(std::string_view s) {
  std::string out{s};
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

struct Field {
  const char* name;
  int low, high;
};

template <std::size_t N>
int named(const std::array<std::string_view, N>& names, std::string_view s) {
  for (std::size_t i = 0; i < N; ++i)
    if (names[i] == s) return static_cast<int>(i);
  return -1;
}

Result<int> number(const Field& f, std::string_view s) {
  const std::string low = lower(s);
  if (std::string_view{f.name} == "month")
    if (const int n = named(kMonths, low); n >= 0) return n + 1;
  if (std::string_view{f.name} == "weekday")
    if (const int n = named(kDays, low); n >= 0) return n;
  int value = 0;
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), value);
  if (s.empty() || ec != std::errc{} || end != s.data() + s.size())
    return fail(EINVAL, std::string{f.name} + " '" + std::string{s} + "' is no number");
  if (value < f.low || value > f.high)
    return fail(EINVAL, std::string{f.name} + " " + std::string{s} + " is not within " +
                            std::to_string(f.low) + "-" + std::to_string(f.high));
  return value;
}

template <std::size_t N>
Result<void> fill(const Field& f, std::string_view text, std::bitset<N>& out) {
  for (std::string_view part : split(text, ',')) {
    int step = 1;
    if (const auto slash = part.find('/'); slash != std::string_view::npos) {
      const Field steps{f.name, 1, f.high};
      INDRA_LET(step, number(steps, part.substr(slash + 1)));
      part = part.substr(0, slash);
    }
    int low = f.low, high = std::string_view{f.name} == "weekday" ? 6 : f.high;
    if (part != "*" && part != "?") {
      const auto dash = part.find('-');
      INDRA_LET(low, number(f, part.substr(0, dash)));
      if (dash == std::string_view::npos) {
        if (step == 1) high = low;
      } else {
        INDRA_LET(high, number(f, part.substr(dash + 1)));
        if (high < low)
          return fail(EINVAL, std::string{f.name} + " range " + std::string{part} + " runs backwards");
      }
    }
    for (int n = low; n <= high; n += step) out.set(static_cast<std::size_t>(n) % (N == 7 ? 7 : N));
  }
  return {};
}

Result<std::int64_t> interval(std::string_view s) {
  std::int64_t n = 0;
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), n);
  const std::string_view unit{end, static_cast<std::size_t>(s.data() + s.size() - end)};
  const std::int64_t factor = unit == "ms"  ? 1
                              : unit == "s" ? 1000
                              : unit == "m" ? 60'000
                              : unit == "h" ? 3'600'000
                              : unit == "d" ? 86'400'000
                                            : 0;
  if (ec != std::errc{} || factor == 0 || n <= 0 || n > 100'000'000'000 / factor)
    return fail(EINVAL, "'@every' wants a number and a unit, such as 500ms, 90s, 5m, 2h or 1d");
  return n * factor;
}

}  // namespace

Result<Cron> Cron::parse(std::string_view expression) {
  std::vector<std::string_view> fields;
  for (const std::string_view w : split(expression, ' '))
    if (!w.empty()) fields.push_back(w);
  if (fields.empty()) return wrong(expression, "it is empty");
  Cron c;
  if (fields[0].starts_with('@')) {
    if (fields[0] == "@every") {
      if (fields.size() != 2) return wrong(expression, "'@every' wants one interval, such as @every 90s");
      auto n = interval(fields[1]);
      if (!n) return wrong(expression, n.error().context);
      c.every_ms_ = *n;
      return c;
    }
    const std::string_view word = fields[0];
    const char* same = word == "@hourly"                          ? "0 * * * *"
                       : word == "@daily" || word == "@midnight"  ? "0 0 * * *"
                       : word == "@weekly"                        ? "0 0 * * 0"
                       : word == "@monthly"                       ? "0 0 1 * *"
                       : word == "@yearly" || word == "@annually" ? "0 0 1 1 *"
                                                                  : nullptr;
    if (same == nullptr || fields.size() != 1)
      return wrong(expression, "there are @hourly, @daily, @weekly, @monthly, @yearly and @every");
    return parse(same);
  }
  if (fields.size() != 5 && fields.size() != 6)
    return wrong(expression, "it has " + std::to_string(fields.size()) +
                                 " fields, not 5 (minute hour day month weekday) or 6 (second first)");
  const std::size_t at = fields.size() - 5;
  const auto all = [&]() -> Result<void> {
    if (at == 1)
      INDRA_TRY(fill(Field{"second", 0, 59}, fields[0], c.seconds_));
    else
      c.seconds_.set(0);
    INDRA_TRY(fill(Field{"minute", 0, 59}, fields[at], c.minutes_));
    INDRA_TRY(fill(Field{"hour", 0, 23}, fields[at + 1], c.hours_));
    INDRA_TRY(fill(Field{"day", 1, 31}, fields[at + 2], c.days_));
    INDRA_TRY(fill(Field{"month", 1, 12}, fields[at + 3], c.months_));
    return fill(Field{"weekday", 0, 7}, fields[at + 4], c.weekdays_);
  };
  if (auto r = all(); !r) return wrong(expression, r.error().context);
  const auto any = [](std::string_view f) { return f.starts_with('*') || f == "?"; };
  c.any_hour_ = any(fields[at + 1]);
  c.any_day_ = any(fields[at + 2]);
  c.any_weekday_ = any(fields[at + 4]);
  if (auto r = c.next_after(0); !r) return wrong(expression, "such a day never comes");
  return c;
}

Result<std::int64_t> Cron::next_after(std::int64_t from_ms) const {
  if (every_ms_ != 0) return from_ms + every_ms_;
  std::time_t t = from_ms >= 0 ? from_ms / 1000 : -((-from_ms + 999) / 1000);
  const std::time_t last = t + kNineYears;
  for (++t; t < last;) {
    std::tm l{};
    ::localtime_r(&t, &l);
    const bool day = days_.test(static_cast<std::size_t>(l.tm_mday)),
               weekday = weekdays_.test(static_cast<std::size_t>(l.tm_wday));
    const bool this_day = any_day_ || any_weekday_ ? day && weekday : day || weekday;
    if (!this_day || !months_.test(static_cast<std::size_t>(l.tm_mon) + 1)) {
      std::tm next{};
      next.tm_year = l.tm_year, next.tm_mon = l.tm_mon, next.tm_mday = l.tm_mday + 1, next.tm_isdst = -1;
      std::time_t midnight = ::mktime(&next);
      const std::time_t hour_before = midnight - 3600;
      std::tm b{};
      ::localtime_r(&hour_before, &b);
      if (b.tm_mday == next.tm_mday && b.tm_hour == 0 && next.tm_hour == 0)
        midnight = hour_before;  // the first of two
      t = midnight > t ? midnight : t + 3600;
    } else if (!hours_.test(static_cast<std::size_t>(l.tm_hour))) {
      t += 3600 - l.tm_min * 60 - l.tm_sec;
    } else if (!minutes_.test(static_cast<std::size_t>(l.tm_min))) {
      t += 60 - l.tm_sec;
    } else if (!seconds_.test(static_cast<std::size_t>(l.tm_sec))) {
      ++t;
    } else {
      if (!any_hour_) {
        const std::time_t before = t - 3600;
        std::tm b{};
        ::localtime_r(&before, &b);
        if (b.tm_hour == l.tm_hour && b.tm_min == l.tm_min && b.tm_isdst != l.tm_isdst) {
          t += 60 - l.tm_sec;
          continue;
        }
      }
      return t * 1000;
    }
  }
  return fail(EINVAL, "no such time within nine years");
}

}  // namespace indra
