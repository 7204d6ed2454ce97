// Reading the change feed: rows of `changes` as events, filtered, with paths.
//
// Shapes:   a path is absolute in its branch: "/notes/a.md". It is what the directories are called when the
// event is
//           read, as far as the log itself does not tell otherwise; absent for what has no name any more.
// Threads:  a ChangeLog belongs to one thread. It only reads, in the Tx it is given: from a connection of its
// own
//           it sees what is committed, and nothing else (E1).
// Errors:   ESTALE when rows after the one asked for are no longer kept; the text names the oldest one.
// Source:   docs/design/events.md (E1..).
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tree/tree.h"

namespace indra {

/// What a watcher wants. Empty lists mean all.
struct ChangeFilter {
  std::string bucket = "main";
  std::vector<std::string> branches;
  struct Subtree {
    std::string branch, path;
  };
  std::vector<Subtree> subtrees;   ///< the path itself and all below it, by name
  std::vector<std::string> kinds;  ///< "create", "write", ...; `epoch` always comes
};

struct ChangeEvent {
  Tree::ChangeRow row;
  std::string branch;
  std::optional<std::string> path;
  std::optional<std::string> from_path;  ///< rename, exchange: where it was
  std::string attribute;                 ///< xattr: its name
};

class ChangeLog {
 public:
  /// EINVAL for an unknown kind, ENOENT for an unknown bucket.
  [[nodiscard]] static Result<ChangeLog> open(Tx&, ChangeFilter);

  struct Batch {
    std::vector<ChangeEvent> events;
    Seq upto;           ///< where to go on: also past what the filter left out
    bool more = false;  ///< there was more than `limit`
  };
  /// What came after `after`, at most `limit` rows looked at.
  [[nodiscard]] Result<Batch> read(Tx&, Seq after, int limit);
  /// The newest change, 0 if there is none.
  [[nodiscard]] static Result<Seq> last(Tx&);
  /// Changes up to this one have been removed; 0: all are kept.
  [[nodiscard]] static Result<Seq> removed(Tx&);

 private:
  struct Branch {
    BranchId id, parent;
    BucketId bucket;
    Seq fork_seq;
    NodeId root;
    std::string name;
    std::optional<Chain> chain;
  };
  struct Name {
    NodeId parent;
    std::string name;
  };
  using Key = std::pair<BranchId, NodeId>;

  ChangeLog() = default;
  Result<void> load_branches(Tx&);
  Result<const Branch*> branch(Tx&, BranchId);
  const Chain& chain(Branch&);
  void learn(const Tree::ChangeRow&);
  Result<std::optional<Name>> name_of(Tx&, Branch&, NodeId, NodeId parent_hint, Seq at);
  Result<std::optional<Name>> name_now(Tx&, Branch&, NodeId, NodeId parent);
  Result<std::optional<Name>> last_name(Tx&, const Branch&, NodeId, Seq at, Seq upto);
  Result<std::optional<Name>> lost_name(Tx&, const Branch&, NodeId, Seq at);
  Result<std::optional<std::string>> path_of(Tx&, Branch&, NodeId dir, Seq at);
  Result<std::optional<std::string>> path_of(Tx&, Branch&, NodeId parent, std::string_view name, Seq at);
  Result<bool> fill(Tx&, ChangeEvent&);
  [[nodiscard]] bool wanted(const ChangeEvent&) const;

  ChangeFilter filter_;
  BucketId bucket_;
  std::map<BranchId, Branch> branches_;
  std::map<Key, std::optional<Name>> names_;  // what the events told, or a look into the tree
};

/// The names of kinds, as `op` says them.
[[nodiscard]] const std::vector<std::string>& change_kinds();

}  // namespace indra
