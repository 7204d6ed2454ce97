// What was deleted in a branch and is still kept.
//
// Cost:     the list follows the change log, backwards; a directory the rows that it has had.
// Threads:  only reads, in the Tx it is given.
// Source:   docs/branches.md (U4, U5).
#pragma once
#include <string>
#include <vector>

#include "tree/tree.h"

namespace indra {

struct Deleted {
  NodeId parent;  ///< the directory it was in
  std::string name;
  Seq gone;     ///< the mutation that took the name away
  NodeRow row;  ///< as it is kept from before that
  Seq seen;     ///< a view with this limit (limited()) shows it so
  Who who;
  TimeNs time = 0;         ///< 0: the change log no longer says when, nor who
  std::int64_t actor = 0;  ///< who, as a number; 0 likewise
};
/// Names whose document is gone: neither moved, nor replaced by a newer version. Of directories that are
/// there; newest first. Looks at some hundred changes before `before`, so that nobody waits for long.
/// `chain` is a branch's head.
struct DeletedSlice {
  std::vector<Deleted> items;
  Seq next;  ///< where to go on; 0: that was all the change log knows
};
[[nodiscard]] Result<DeletedSlice> list_deleted(Tx&, Tree&, const Chain& chain, Seq before);
/// Those of one directory, which may be gone itself, of any age. Of one name and document only the last end.
[[nodiscard]] Result<std::vector<Deleted>> deleted_from(Tx&, const Chain& chain, NodeId dir);
/// What is known of it now; nothing when it is there again, or is no longer kept.
[[nodiscard]] Result<std::optional<Deleted>> deleted_still(Tx&, const Chain& chain, const Deleted&);
/// A view of what is kept of a branch at any seq, pinned or not.
[[nodiscard]] Chain limited(const Chain& chain, Seq limit);

}  // namespace indra
