// Any words after `indrafs`, and whatever else the command reads of text: nothing is done, only understood.
// Corpus: fuzz/corpus/arguments/, one word a line.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/app.h"
#include "cli/space.h"

namespace {

using namespace indra;

void words(std::string_view text) {
  static cli::Context ctx;
  static CLI::App app;
  static const bool ready = [] {
    cli::add_all(app, ctx);
    return true;
  }();
  (void)ready;
  std::vector<std::string> all;
  for (std::size_t at = 0; at <= text.size() && all.size() < 64;) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    all.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  std::reverse(all.begin(), all.end());  // as CLI11 takes them
  ctx.run = nullptr;
  try {
    app.parse(all);
    if (!ctx.run) std::abort();  // a verb was chosen, or it is an error
  } catch (const CLI::ParseError&) {
  } catch (const cli::Usage&) {
  }
}

void texts(const std::string& text) {
  try {
    if (const auto p = cli::parse_vault_path(text); p && p->path.find("/../") != std::string::npos)
      std::abort();
    (void)cli::parse_age(text);
  } catch (const cli::Usage&) {
  }
  if (cli::valid_name(text) && (text.empty() || text.find('/') != std::string::npos)) std::abort();
  (void)cli::parse_when(text, 1'800'000'000 * kSecond);
  const auto mounts = cli::parse_mountinfo(text);
  (void)cli::mount_of(mounts, text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text{reinterpret_cast<const char*>(data), size};
  words(text);
  texts(text);
  return 0;
}
