// Three texts become one, as git does it.
//
// Threads:  any. Errors: ENOMEM, EIO from the library.
// Source:   docs/branches.md (G5, G6).
#pragma once
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "merge/plan.h"

namespace indra {

struct MergedText {
  TextVerdict verdict{};
  Bytes bytes;  ///< merged, marked
};
struct TextLabels {
  std::string base, target, source;
};
inline constexpr std::uint64_t kLargestText = 32ull << 20;  ///< above it a file is taken whole

/// `base` absent: both sides added the file. With `markers` an overlap of texts is `marked`.
[[nodiscard]] Result<MergedText> merge_texts(std::optional<ByteView> base, ByteView target, ByteView source,
                                             const TextLabels&, bool markers);

}  // namespace indra
