// Checks of the tree's rows, and what is needed to name and mend what they find. Reads rows alone: no Tree is
// opened, nothing in memory is trusted.
//
// Rules: F2..F12 of docs/design/fsck.md. See db/check.h for the contract.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "db/check.h"
#include "tree/tree.h"

namespace indra {

/// Branches and pins as their rows say, and the views made of them.
class Forest {
 public:
  /// Rows that make no sense are left out; check_tree() tells of them.
  [[nodiscard]] static Result<Forest> read(Tx&);

  [[nodiscard]] const BranchInfo* branch(BranchId) const;
  [[nodiscard]] const std::map<BranchId, BranchInfo>& branches() const { return branches_; }
  /// The head is wanted: not of a deleted branch.
  [[nodiscard]] bool has_head(BranchId) const;
  [[nodiscard]] Chain chain(BranchId, Seq limit = kSeqMax) const;
  /// A live pin of the branch at or after `from` and before `until`.
  [[nodiscard]] std::optional<Seq> pin_within(BranchId, Seq from, Seq until) const;
  [[nodiscard]] Seq last_pin(BranchId) const;
  [[nodiscard]] const std::map<std::pair<BranchId, Seq>, std::string>& snapshots() const {
    return snapshots_;
  }
  /// "branch agent", "snapshot v1", "branch main as of change 17".
  [[nodiscard]] std::string title(BranchId, Seq moment) const;

 private:
  std::map<BranchId, BranchInfo> branches_;
  std::map<BranchId, std::vector<Seq>> pins_;  // sorted
  std::map<std::pair<BranchId, Seq>, std::string> snapshots_;
};

[[nodiscard]] Result<void> check_tree(Tx&, Checking&);

/// "/notes/a.md"; of a node that no path leads to: "#17", or "#17/a.md" below one.
[[nodiscard]] Result<std::string> path_of(Tx&, const Forest&, BranchId, Seq moment, NodeId);

/// Where content is used: at most `limit` of the rows that name a blob.
struct Use {
  BlobId blob;
  BranchId branch;
  NodeId node;
  Seq moment = kSeqMax;  ///< the head, or a moment of a past row that a pin shows
};
[[nodiscard]] Result<std::vector<Use>> uses_of(Tx&, const Forest&, const std::vector<BlobId>& sorted,
                                               std::size_t limit_each);

/// Every branch and snapshot that shows the content, also where its rows are another branch's or of a later
/// time; then what kept moments alone show. At most `limit_each` for one blob. The cost follows branches and
/// snapshots, not rows alone: for a few blobs.
[[nodiscard]] Result<std::vector<Use>> views_of(Tx&, const Forest&, const std::vector<BlobId>& sorted,
                                                std::size_t limit_each);

/// Puts a node that no path leads to into /lost+found of the branch, under "#NUMBER"; takes it out of where
/// it was. Returns its new path, or nothing when a path leads to it by now.
[[nodiscard]] Result<std::string> move_to_lost_found(Tx&, BranchId, NodeId);

/// Take away from the branch's head a name of a node, or an attribute of one, that is not there any more. A
/// pin that shows the node goes on showing them. False: there is none.
[[nodiscard]] Result<bool> take_name(Tx&, BranchId, NodeId parent, std::int64_t cookie,
                                     const std::string& name);
[[nodiscard]] Result<bool> take_attribute(Tx&, BranchId, NodeId, const std::string& name);

}  // namespace indra
