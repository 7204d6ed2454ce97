// For options that are a name or a moment: given empty they are misused, and not left out.
#pragma once
#include <string>

namespace indra::cli {

[[nodiscard]] inline std::string not_empty(const std::string& s) { return s.empty() ? "it is empty" : ""; }

}  // namespace indra::cli
