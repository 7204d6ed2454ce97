// Time: nanoseconds since 1970, and a clock that tests set by hand.
#pragma once
#include <atomic>
#include <cstdint>

namespace indra {

/// Nanoseconds since 1970-01-01 UTC; may be negative.
using TimeNs = std::int64_t;
inline constexpr TimeNs kSecond = 1'000'000'000;

/// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimeNs now() const = 0;     ///< wall time
  [[nodiscard]] virtual TimeNs steady() const = 0;  ///< never goes back; for intervals only
};

/// The machine's clocks.
[[nodiscard]] const Clock& system_clock();

/// Stands still until told.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(TimeNs start = 1'700'000'000 * kSecond) : now_{start} {}
  [[nodiscard]] TimeNs now() const override { return now_.load(); }
  [[nodiscard]] TimeNs steady() const override { return now_.load(); }
  void advance(TimeNs by) { now_ += by; }

 private:
  std::atomic<TimeNs> now_;
};

}  // namespace indra
