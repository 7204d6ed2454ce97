// Any text as a schedule. Corpus: fuzz/corpus/cron/.
#include <cstdlib>
#include <ctime>

#include "events/cron.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using indra::Cron;
  if (size == 0) return 0;
  // The first byte says where we are: clocks that go forward and back, and a zone with half hours.
  static constexpr const char* kZones[] = {"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"};
  ::setenv("TZ", kZones[data[0] % 4], 1);
  ::tzset();
  const std::string_view text{reinterpret_cast<const char*>(data + 1), size - 1};
  const auto cron = Cron::parse(text);
  if (!cron) {
    if (cron.error().context.empty()) std::abort();  // what is wrong is said
    return 0;
  }
  // An instant is the next one for each instant between it and the one before.
  std::int64_t at = 1'774'000'000'000;  // some days before clocks change in Europe
  for (int i = 0; i < 4; ++i) {
    const auto next = cron->next_after(at);
    if (!next) break;  // none within nine years of then
    if (*next <= at) std::abort();
    if (!text.starts_with("@every") && text.find("@every") == std::string_view::npos) {
      const auto again = cron->next_after(at + (*next - at) / 2);
      if (!again || *again != *next) std::abort();
      if (*next % 1000 != 0) std::abort();
    }
    at = *next;
  }
  return 0;
}
