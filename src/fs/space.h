// Space of a vault that is open: what it is told to keep, what could go, and having it go.
//
// Threads:  every function may be called from any thread.
// Durable:  what was given up and set, after the next barrier.
// Source:   docs/design/content.md (C34 .. C39), docs/design/tree.md (T9, T14).
#pragma once
#include <optional>
#include <string>

#include "fs/filesystem.h"
#include "tree/prune.h"

namespace indra {

/// How long automatic versions of a bucket are kept: a setting of the vault. ENOENT (no such bucket), EINVAL.
[[nodiscard]] Result<Retention> versions_kept(FileSystem&, std::string_view bucket);
[[nodiscard]] Result<void> keep_versions(FileSystem&, std::string_view bucket, const Retention&);

/// What nobody needs any more is given back in the background anyway; this has it done at once, and what was
/// found damaged looked at again. The answer is to be shown to collected().
struct Collection {
  std::uint64_t rounds = 0, begun = 0;
  std::uint64_t freed = 0;  ///< bytes since then
};
[[nodiscard]] Result<Collection> collect(FileSystem&);
/// True: all is given back that nobody needed at the time of collect(), but for what is damaged, and for what
/// somebody still reads.
[[nodiscard]] Result<bool> collected(FileSystem&, Collection&);

struct PruneRequest {
  std::string bucket = "main";
  std::optional<TimeNs> older{};  ///< all automatic versions of this age and more; absent: by schedule
};
/// Gives up automatic versions; returns how many. Snapshots, forks and merge bases stay. What they alone kept
/// is given back in the background.
[[nodiscard]] Result<std::uint64_t> prune(FileSystem&, const PruneRequest&);
/// ESTALE: the moment that the view shows was given up since (a deleted snapshot, a version that was pruned):
/// of what was read last, a part may have been missing without a word.
[[nodiscard]] Result<void> still_kept(FileSystem&, const View&);

struct Reclaimable {
  std::uint64_t dead = 0;                          ///< bytes that nobody needs as it is
  std::uint64_t versions = 0, pruned = 0;          ///< that prune() would give up, and free beyond that
  std::uint64_t all_versions = 0, all_pruned = 0;  ///< likewise all automatic versions of the bucket
  std::uint64_t unreadable = 0;  ///< families of content that cannot be read whole: not counted, nor freed
};
/// Reads on a connection of its own: nobody waits. Costs what the manifests concerned do.
[[nodiscard]] Result<Reclaimable> reclaimable(FileSystem&, const PruneRequest&);

}  // namespace indra
