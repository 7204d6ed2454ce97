// Freeing, seen from outside: what has been given back, what could be, and having what is damaged looked at
// again. The work itself is ContentStore::work(Work::free).
//
// Threads:  as ContentStore.
// Source:   docs/design/content.md (C30 .. C39).
#pragma once
#include <map>

#include "blob/content_store.h"

namespace indra {

extern const Migration kBlobSchema4;  ///< table dead_parts

/// Since the opening. A round: all was found and given back that had died before it began and that nobody
/// uses; so who sees two rounds end knows it of what had died before the first of them.
struct Freed {
  std::uint64_t rounds = 0, bytes = 0;
};
[[nodiscard]] Freed freed(const ContentStore&);

/// What was found damaged, and left alone, is looked at again.
void try_damaged_again(ContentStore&);

/// What freeing would give back, in bytes of segments (or of rows of chunks), as the rows of vault.db say.
struct Freeable {
  std::uint64_t bytes = 0;
  std::uint64_t blobs = 0;  ///< that would go
  std::uint64_t unreadable =
      0;  ///< families that cannot be read whole: nothing of them is counted, nor freed
};
/// Of what is dead already, and of blobs that would be without references if `dropped` were taken from their
/// counts. Reads the manifests of all who share with those: on a connection of its own nobody waits for it.
[[nodiscard]] Result<Freeable> freeable(Tx&, const std::map<BlobId, std::int64_t>& dropped);

}  // namespace indra
