// Moments as people write them.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ctime>

#include "cli/app.h"
#include "cli/not_empty.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

std::optional<std::int64_t> number(std::string_view s) {
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), n);
  if (error != std::errc{} || end != s.data() + s.size() || n < 0) return std::nullopt;
  return n;
}

/// The end of second `s`; what nanoseconds cannot tell is the first or the last moment that they can.
Json at_second(std::int64_t s) {
  constexpr std::int64_t kLast = INT64_MAX / kSecond - 1;
  return {{"time", std::clamp(s, -kLast, kLast) * kSecond + (kSecond - 1)}};
}

}  // namespace

std::optional<Json> parse_when(std::string_view text, TimeNs now) {
  const std::string s{text};
  if (s == "now") return Json{{"time", now}};
  if (s == "yesterday") return Json{{"time", now - 24 * 3600 * kSecond}};
  if (s.starts_with("seq:")) {
    const auto n = number(text.substr(4));
    return n ? std::optional<Json>{Json{{"seq", *n}}} : std::nullopt;
  }
  if (s.starts_with("@")) {
    const auto n = number(text.substr(1));
    return n ? std::optional<Json>{at_second(*n)} : std::nullopt;
  }
  // An age: NUMBER UNIT [ago].
  const std::size_t digits = s.find_first_not_of("0123456789");
  if (digits != 0 && digits != s.npos &&
      (std::isalpha(static_cast<unsigned char>(s[digits])) != 0 || s[digits] == ' ')) {
    const auto n = number(text.substr(0, digits));
    std::string unit =
        s.substr(s.find_first_not_of(' ', digits) == s.npos ? s.size() : s.find_first_not_of(' ', digits));
    if (unit.ends_with(" ago")) unit.resize(unit.size() - 4);
    static const std::pair<const char*, std::int64_t> kUnits[] = {
        {"s", 1},        {"second", 1}, {"seconds", 1},   {"m", 60},        {"min", 60},  {"minute", 60},
        {"minutes", 60}, {"h", 3600},   {"hour", 3600},   {"hours", 3600},  {"d", 86400}, {"day", 86400},
        {"days", 86400}, {"w", 604800}, {"week", 604800}, {"weeks", 604800}};
    for (const auto& [name, seconds] : kUnits)
      if (n && unit == name && *n <= INT64_MAX / kSecond / seconds)
        return Json{{"time", now - *n * seconds * kSecond}};
    return std::nullopt;
  }
  const std::time_t today = static_cast<std::time_t>(now / kSecond);
  for (const char* format : {"%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M",
                             "%Y-%m-%d", "%H:%M:%S", "%H:%M"}) {
    std::tm tm{};
    ::localtime_r(&today, &tm);
    tm.tm_sec = 0;
    if (std::string_view{format} == "%Y-%m-%d") tm.tm_hour = tm.tm_min = 0;
    tm.tm_isdst = -1;
    const char* end = ::strptime(s.c_str(), format, &tm);
    if (end == nullptr || *end != 0) continue;
    tm.tm_isdst = -1;
    const std::time_t t = std::mktime(&tm);
    if (t != -1) return at_second(t);
  }
  return std::nullopt;
}

Result<void> Context::as_of(Place& p, const std::string& snapshot, const std::string& at) {
  if (!snapshot.empty()) p.snapshot = snapshot;
  if (at.empty()) return {};
  if (!p.snapshot.empty()) throw Usage{"--at is a moment of a branch, not of snapshot " + p.snapshot};
  const auto when = parse_when(at, system_clock().now());
  if (!when)
    throw Usage{at +
                " is no time; say for example '2026-01-31 12:00', 12:00, '2h ago', yesterday or seq:4711"};
  INDRA_LET(Client * client, reach(p.vault));
  Json ask = *when;
  ask["verb"] = "moment";
  ask["branch"] = name_to_json(p.branch);
  INDRA_LET(const Json kept, client->call(ask));
  p.at = {{"seq", int_field(kept, "seq")}};
  if (when->contains("time"))
    say(fmt::format("as it was at {} (seq {}), the last moment kept by then",
                    time_text(int_field(kept, "time")), int_field(kept, "seq")));
  return {};
}

void add_as_of(CLI::App* verb, std::string& snapshot, std::string& at) {
  auto* s = verb->add_option("--snapshot", snapshot, "as it was in this snapshot")->check(not_empty);
  verb->add_option("--at", at, "as it was then: '2026-01-31 12:00', '2h ago', yesterday, seq:N")
      ->excludes(s)
      ->check(not_empty);
}

}  // namespace indra::cli
