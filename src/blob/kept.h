// What a vault's rows say must lie in its segments, and whether it does: for copies of it elsewhere.
//
// Nothing in memory is trusted: no ContentStore is opened; the rows are those of the caller's transaction.
//
// Threads:  each_kept() runs in the thread that holds the Tx; matches() in any.
// Errors:   Errc::corrupt, Errc::newer_format for rows that cannot be read.
// Source:   docs/design/backup.md (R3), docs/design/content.md (C23).
#pragma once
#include <functional>
#include <vector>

#include "blob/content_store.h"
#include "blob/hash.h"

namespace indra {

/// One extent that a manifest names.
struct KeptChunk {
  std::uint64_t where = 0;   ///< segment << 32 | offset
  std::uint64_t index = 0;   ///< of the chunk in its blob
  std::uint32_t length = 0;  ///< bytes stored, 1..64 KiB
  bool root = false;         ///< `cv` is the hash of the bytes: the blob has just this chunk
  Cv cv;                     ///< of the bytes
  /// A fold was overwriting it (C23): with these laid over, at their offset, it is what `cv` says.
  std::vector<std::pair<std::uint32_t, Bytes>> over;
};

/// Each extent of every blob, what several share perhaps more than once; none of a vault of a single file.
/// EAGAIN for a vault that an older program left in the midst of its folds: what lies below patches cannot
/// be checked until they are folded.
[[nodiscard]] Result<void> each_kept(Tx&, const std::function<Result<void>(KeptChunk)>&);

/// Where each segment ends, by its number (table `segments`).
[[nodiscard]] Result<std::vector<std::pair<std::uint32_t, std::uint64_t>>> segment_ends(Tx&);

/// Are these bytes the chunk's? `over` is laid over them.
[[nodiscard]] bool matches(const KeptChunk&, MutableBytes bytes);

}  // namespace indra
