#include "base/time.h"

#include <ctime>

#include "base/bytes.h"

namespace indra {
namespace {
TimeNs read_clock(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return TimeNs{t.tv_sec} * kSecond + t.tv_nsec;
}
class SystemClock final : public Clock {
 public:
  [[nodiscard]] TimeNs now() const override { return read_clock(CLOCK_REALTIME); }
  [[nodiscard]] TimeNs steady() const override { return read_clock(CLOCK_MONOTONIC); }
};
}  // namespace

const Clock& system_clock() {
  static const SystemClock clock;
  return clock;
}

std::string to_hex(ByteView b) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string s;
  s.reserve(b.size() * 2);
  for (const std::byte x : b) {
    s.push_back(digits[std::to_integer<unsigned>(x) >> 4]);
    s.push_back(digits[std::to_integer<unsigned>(x) & 15]);
  }
  return s;
}

Bytes from_hex(std::string_view s) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  Bytes out;
  if (s.size() % 2 != 0) return out;
  for (std::size_t i = 0; i < s.size(); i += 2) {
    const int hi = digit(s[i]), lo = digit(s[i + 1]);
    if (hi < 0 || lo < 0) return {};
    out.push_back(static_cast<std::byte>(hi * 16 + lo));
  }
  return out;
}

}  // namespace indra
