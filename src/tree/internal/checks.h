// The two halves of check_tree().
#pragma once
#include <string>

#include "tree/check.h"

namespace indra::checks {

[[nodiscard]] inline std::string hex(std::string_view s) { return to_hex(as_view(s)); }
/// A mend that is one statement.
[[nodiscard]] inline std::function<Result<bool>(Tx&)> sql(std::string text) {
  return [text = std::move(text)](Tx& tx) { return run_once(tx, text); };
}

[[nodiscard]] Result<void> check_rows(Tx&, Checking&, const Forest&);
[[nodiscard]] Result<void> check_names(Tx&, Checking&, const Forest&);

}  // namespace indra::checks
