// A plan carried out, in the transaction it was made in: wholly, or the transaction must be given up.
//
// Threads:  in the Tx it is given.
// Errors:   those of the tree; after one nothing of the transaction may stay.
// Source:   docs/branches.md (G2).
#pragma once
#include <functional>
#include <vector>

#include "merge/plan.h"
#include "tree/deed.h"

namespace indra {

struct MergeHooks {
  /// Somebody has the target's node open: it then gets a successor, and he goes on with what he has.
  std::function<bool(NodeId)> in_use;
  /// The blob of merged bytes.
  std::function<Result<BlobInfo>(Tx&, const TextKey&)> text;
  TimeNs now = 0;  ///< when the files that change were changed: what builds by times must notice
};
/// What others must be told of.
struct MergeEffect {
  struct Name {
    Tree::At at;
    NodeId was;  ///< what it meant; 0: nothing
  };
  std::vector<Name> names;
  std::vector<NodeId> data, attributes;
  struct Lost {
    NodeRow row;
    bool replaced = false;  ///< by its successor
  };
  std::vector<Lost> lost;  ///< nodes without a name from now on
  /// The same as who watches hears it, one after the other. A name that goes elsewhere is told as one rename
  /// where its old place stays, and else as one that goes and one that comes.
  std::vector<Deed> told;        ///< names, and that new files are whole
  std::vector<Deed> told_after;  ///< content and attributes of what was there before
};
[[nodiscard]] Result<MergeEffect> apply_merge(Tx&, Tree&, const Who&, const Chain& target, const MergePlan&,
                                              const MergeHooks&);

}  // namespace indra
