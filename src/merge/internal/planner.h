// The planner behind plan.h. Its passes: items.cpp finds what the source changed and whose counterpart in the
// target that is; files.cpp decides about each by itself; plan.cpp about directories, and who gets which
// name.
#pragma once
#include <unordered_map>
#include <unordered_set>

#include "merge/internal/sides.h"

namespace indra::merging {

/// One name that differs between the base and the source.
struct Item {
  std::optional<DiffEntry::Side> b, s;  ///< absent: not there
  std::optional<NodeRow> t;             ///< its counterpart in the target
  std::optional<Tree::At> t_at;         ///< the counterpart's name; absent: none that matters
  std::uint32_t unsure = 0;             ///< Tree::Own: what the base says nothing about
  [[nodiscard]] const std::string& path() const { return s ? s->path : b->path; }
  [[nodiscard]] const NodeRow& row() const { return s ? s->row : b->row; }
  [[nodiscard]] bool dir() const { return S_ISDIR(row().mode); }
};

/// A name that is to be given: `parent` may be a directory of the source that the target does not have (yet).
struct Wish {
  std::size_t item;
  NodeId parent;
  bool of_target = false;  ///< `parent` is a node of the target
  std::string name;
  bool second = false;  ///< the source's version of a content conflict
};

class Planner {
 public:
  Planner(Tx& tx, Tree& tree, ContentStore& store, const MergeViews& views, const TextVerdicts& verdicts,
          const MergePolicy& policy, std::unordered_set<NodeId>& stay)
      : tx_{tx},
        store_{store},
        verdicts_{verdicts},
        policy_{policy},
        kept_{views.kept},
        stay_{stay},
        base_{tx, tree, views.base, views.root},
        target_{tx, tree, views.target, views.root},
        source_{tx, tree, views.source, views.root} {}
  Result<MergePlan> run();
  /// A move was not to be had: the plan must be made again, with that node where it is.
  [[nodiscard]] bool again() const { return again_; }

 private:
  using Outcome = MergeConflict::Outcome;
  using Kind = MergeConflict::Kind;

  // items.cpp
  Result<void> gather();
  Result<void> join();
  Result<void> find_target(Item&);
  Result<std::optional<NodeRow>> by_line(NodeId line, NodeId other);
  Result<void> place_in_target(Item&);

  // files.cpp
  enum class Same { yes, no, unknown };
  Result<Same> same(const NodeRow& x, const NodeRow& y);
  enum class Take { target, source, text, conflict };
  struct Content {
    Take take;
    TextKey key;
    bool marked = false;
  };
  Result<Content> merge_content(const NodeRow* b, const NodeRow& t, const NodeRow& s);
  Result<bool> differs(OneSide& x, const NodeRow& a, OneSide& y, const NodeRow& b);
  Result<void> decide(std::size_t item);
  Result<void> decide_changed(std::size_t item);
  Result<void> decide_removed(std::size_t item);
  Result<void> change(Item&, std::size_t item);
  Result<void> merge_xattrs(const Item&, MergeStep&);
  Result<void> merge_place(std::size_t item);
  Result<MergeStep> adding(const NodeRow& row, const std::string& path, bool second);

  // plan.cpp
  NodeId canon(NodeId dir) const {
    const auto it = same_dir_.find(dir);
    return it == same_dir_.end() ? dir : it->second;
  }
  Result<bool> would_loop(NodeId dir, NodeId into);
  Result<void> remove_directories();
  /// 0: the follower hides it.
  Result<NodeId> target_dir(NodeId source_dir);
  Result<void> grant(const Wish&);
  Result<void> grant_directory(const NodeRow& row, const std::string& path, NodeId parent,
                               const std::string& wanted);
  Result<void> grant_file(Item&, NodeId parent, const std::string& name);
  Result<void> grant_onto(const Item&, const NodeRow& there, NodeId parent, const std::string& name);
  Result<void> grant_known(const Item&);
  void follow(const Item&, const Tree::At&);  ///< another name of a file with new bytes
  Result<void> grant_second(const Item&, NodeId parent, const std::string& beside, Kind);
  struct Holder {
    NodeRow row;
    bool added = false;  ///< by a step of this plan
  };
  Result<std::optional<Holder>> holder(NodeId parent, const std::string& name);
  Result<std::string> second_name(NodeId parent, const std::string& name, bool dir);
  void claim(NodeId parent, const std::string& name, const NodeRow& row, bool added) {
    claimed_[{parent, name}] = {row, added};
  }

  [[nodiscard]] std::optional<Outcome> policy(const std::string& path) const;
  [[nodiscard]] bool wanted(const Item&) const;
  void keep_own(const Item& i, std::uint32_t what) {
    if (policy_.own_wins) plan_.kept[(i.s ? i.s->row : i.b->row).node] |= what;
  }
  [[nodiscard]] bool busy(NodeId n) const { return policy_.busy && policy_.busy(n); }
  void conflict(Kind, Outcome, const std::string& path, std::string second = {}, std::string detail = {});

  using Place = std::pair<NodeId, std::string>;

  Tx& tx_;
  ContentStore& store_;
  const TextVerdicts& verdicts_;
  const MergePolicy& policy_;
  const Tree::Kept& kept_;
  std::unordered_set<NodeId>& stay_;  ///< nodes of the source whose move is not to be had
  bool again_ = false;
  OneSide base_, target_, source_;
  std::vector<Item> items_;
  std::unordered_map<NodeId, NodeId> same_dir_;  ///< of the source -> of the base: made anew at its path
  std::optional<std::unordered_map<NodeId, DiffEntry::Side>> target_lines_;  ///< what the target changed
  std::vector<Wish> wishes_;
  std::set<Place> vacated_;
  std::unordered_set<NodeId> stays_in_;  ///< directories of the target in which something moves about
  std::unordered_map<NodeId, NodeId> new_parent_;  ///< directories of the target that move
  std::unordered_map<NodeId, NodeId> put_as_;      ///< directories of the source -> of the target
  std::unordered_set<NodeId> hidden_;              ///< directories of the source that the follower hides
  std::map<Place, Holder> claimed_;
  std::unordered_map<std::size_t, Place> given_;          ///< items that moved: where they are
  std::unordered_map<NodeId, NodeId> changed_;            ///< nodes of the target that have their `change`
  std::unordered_map<NodeId, std::uint32_t> names_left_;  ///< of files of the target that lose names
  std::unordered_set<NodeId> rewritten_;                  ///< of these, those with new bytes
  std::unordered_map<NodeId, NodeId>
      added_;  ///< nodes of the source -> what a step adds, or what stands for them
  MergePlan plan_;
};

}  // namespace indra::merging
