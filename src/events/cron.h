// When a schedule fires next.
//
// Shapes:   five fields (minute hour day month weekday), six (second first), or @hourly @daily @weekly
// @monthly @yearly,
//           or "@every 90s" (ms, s, m, h, d; not aligned to anything). Fields: *, numbers, names (jan, mon),
//           ranges, lists, steps. Day and weekday both given: either one is enough. Weekday 0 and 7 are
//           Sunday.
// Units:    milliseconds since 1970; fields are in the machine's time zone. What is left out when clocks go
// forward
//           does not happen that day; an hour that comes twice counts once where the hour is given.
// Threads:  pure functions.
// Errors:   EINVAL, and the text says which field is wrong and why.
#pragma once
#include <array>
#include <bitset>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace indra {

class Cron {
 public:
  [[nodiscard]] static Result<Cron> parse(std::string_view expression);
  /// Strictly after `from`. EINVAL when there is none within nine years.
  [[nodiscard]] Result<std::int64_t> next_after(std::int64_t from_ms) const;

 private:
  std::int64_t every_ms_ = 0;  // 0: the fields
  std::bitset<60> seconds_, minutes_;
  std::bitset<24> hours_;
  std::bitset<32> days_;
  std::bitset<13> months_;
  std::bitset<7> weekdays_;
  bool any_day_ = true, any_weekday_ = true, any_hour_ = true;
};

}  // namespace indra
