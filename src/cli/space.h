// Verbs about space, and ages as people write them.
#pragma once
#include "cli/app.h"

namespace indra::cli {

void add_gc(CLI::App&, Context&);
void add_prune(CLI::App&, Context&);

/// "90d", "12h", "30m" as seconds; "0". Throws Usage for anything else.
[[nodiscard]] std::int64_t parse_age(const std::string& text);
[[nodiscard]] std::string age_text(std::int64_t seconds);

}  // namespace indra::cli
