// The difference of two texts as git writes it: what `git apply` and `patch -p1` take.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace indra::cli {

struct TextSide {
  std::string path;  ///< without a leading '/'
  std::uint32_t mode = 0;
  std::string content;
  bool whole = true;  ///< false: too large to be shown
};
/// A file that changed, came (no `a`) or went (no `b`). Binary content is only said to differ.
[[nodiscard]] Result<std::string> file_patch(const std::optional<TextSide>& a,
                                             const std::optional<TextSide>& b, unsigned context);

}  // namespace indra::cli
