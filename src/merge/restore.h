// Going back: the steps that make a place of a branch what it was at an earlier moment, or bring back what
// was deleted there. apply_merge() carries them out.
//
// Cost:     a restore follows what has changed since, and the size of what moved; a copy its own size.
// Threads:  only reads, in the Tx it is given.
// Errors:   ENOENT (it was not there then; the directory it belongs into is gone), EEXIST, EISDIR.
// Source:   docs/branches.md (U1..).
#pragma once
#include <string_view>
#include <vector>

#include "merge/plan.h"
#include "tree/deleted.h"

namespace indra {

/// Where a path leads; symlinks are not followed. Nothing: nowhere.
struct FoundNode {
  Tree::At at;  ///< without a name: the root
  NodeRow row;
};
[[nodiscard]] Result<std::optional<FoundNode>> find_node(Tx&, Tree&, const Chain&, NodeId root,
                                                         std::string_view path);
/// A name in a directory that is there. ENOENT.
[[nodiscard]] Result<Tree::At> place_for(Tx&, Tree&, const Chain& now, NodeId root, std::string_view path);

struct RestoreViews {
  Chain now, then;  ///< the branch's head; a moment of it, or of another branch or snapshot of the bucket
  NodeId root;
};
/// `path` becomes what it was: content, attributes, names; what has come since goes (its versions stay).
[[nodiscard]] Result<std::vector<MergeStep>> plan_restore(Tx&, Tree&, const RestoreViews&,
                                                          std::string_view path);
/// What was at `path` is put at `to`, where nothing is, as documents of their own.
[[nodiscard]] Result<std::vector<MergeStep>> plan_restore_beside(Tx&, Tree&, const RestoreViews&,
                                                                 std::string_view path, std::string_view to);
/// A deleted file comes back, and a directory with all that was deleted with it; each continues its line.
[[nodiscard]] Result<std::vector<MergeStep>> plan_undelete(Tx&, Tree&, const Chain& now, const Deleted&,
                                                           const Tree::At& to, std::string_view path);

}  // namespace indra
