// In this order: what changes where it is, what is taken away, what is put in place from the top down.
#include "merge/apply.h"

#include <sys/stat.h>

#include <cerrno>
#include <unordered_map>
#include <unordered_set>

namespace indra {
namespace {

using Kind = MergeStep::Kind;

BlobInfo info_of(const NodeRow& r) {
  return {.id = r.blob, .size = r.size, .hash = {}, .stored = r.stored.value_or(r.size), .refs = 0};
}

void set_blob(NodeRow& row, const BlobInfo& b) {
  row.blob = b.id;
  row.size = b.size;
  row.stored.reset();
  if (b.stored != b.size) row.stored = b.stored;
}

class Applier {
 public:
  Applier(Tx& tx, Tree& tree, const Who& who, const Chain& chain, const MergeHooks& hooks)
      : tx_{tx}, tree_{tree}, who_{who}, chain_{chain.merging()}, hooks_{hooks} {}

  Result<MergeEffect> run(const MergePlan& plan) {
    for (const MergeStep& s : plan.steps)
      if (s.kind == Kind::change) INDRA_TRY(change(s));
    for (const MergeStep& s : plan.steps)
      if (s.kind == Kind::follow) INDRA_TRY(follow(s));
    std::unordered_map<const MergeStep*, NodeId> lifted;
    std::unordered_map<const MergeStep*, std::uint32_t> types;
    for (const MergeStep& s : plan.steps) {
      if (s.kind != Kind::move) continue;
      INDRA_LET(const NodeRow row, tree_.lift(tx_, chain_, s.at.parent, s.at.name));
      effect_.names.push_back({s.at, row.node});
      lifted[&s] = row.node;
      types[&s] = row.mode & S_IFMT;
    }
    for (const MergeStep& s : plan.steps)
      if (s.kind == Kind::remove) INDRA_TRY(remove(s));
    const auto halves = told_apart(plan, lifted, types);
    for (const MergeStep& s : plan.steps) {
      if (s.kind == Kind::add) INDRA_TRY(add(s));
      if (s.kind == Kind::move) {
        INDRA_LET(const NodeRow row,
                  tree_.lay(tx_, who_, chain_, lifted.at(&s), s.at, here(s.to.parent), s.to.name));
        effect_.names.push_back({{row.parent, s.to.name}, {}});
        effect_.attributes.push_back(row.node);
        tell({.kind = Deed::moved,
              .node = row.node,
              .type = types.at(&s),
              .from = halves.contains(&s) ? Deed::Place{} : Deed::Place{s.at.parent, s.at.name},
              .to = {row.parent, s.to.name}});
      }
      if (s.kind == Kind::link) {
        const NodeId node = s.of_added ? here(s.node) : now(s.node);
        INDRA_LET(const NodeRow row, tree_.link(tx_, who_, chain_, node, here(s.to.parent), s.to.name));
        effect_.names.push_back({{here(s.to.parent), s.to.name}, {}});
        effect_.attributes.push_back(row.node);
        tell({.kind = Deed::linked,
              .node = row.node,
              .type = row.mode & S_IFMT,
              .to = {here(s.to.parent), s.to.name}});
      }
    }
    return std::move(effect_);
  }

 private:
  /// What a node of the source is called here.
  [[nodiscard]] NodeId here(NodeId id) const {
    const auto it = added_.find(id);
    return it == added_.end() ? id : it->second;
  }
  [[nodiscard]] NodeId now(NodeId id) const {
    const auto it = successor_.find(id);
    return it == successor_.end() ? id : it->second;
  }

  void tell(Deed d) { effect_.told.push_back(std::move(d)); }
  void tell_content(NodeId n) {
    effect_.told_after.push_back({.kind = Deed::written, .node = n, .type = S_IFREG});
    effect_.told_after.push_back({.kind = Deed::closed, .node = n, .type = S_IFREG});
  }

  /// The moves that cannot be told as one rename, because the old place is gone or taken by then: that the
  /// names go is told before all else.
  using Moves = std::unordered_map<const MergeStep*, NodeId>;
  std::unordered_set<const MergeStep*> told_apart(
      const MergePlan& plan, const Moves& lifted,
      const std::unordered_map<const MergeStep*, std::uint32_t>& types) {
    std::unordered_set<const MergeStep*> apart;
    if (lifted.empty()) return apart;
    std::set<std::pair<NodeId, std::string_view>> taken;
    for (const MergeStep& s : plan.steps)
      if (s.kind == Kind::add || s.kind == Kind::move || s.kind == Kind::link)
        taken.emplace(s.to.parent, s.to.name);
    std::unordered_set<NodeId> gone;
    for (const Deed& d : effect_.told)
      if (d.kind == Deed::removed) gone.insert(d.node);
    std::vector<Deed> first;
    for (const MergeStep& s : plan.steps) {
      const auto it = lifted.find(&s);
      if (it == lifted.end()) continue;
      if (!gone.contains(s.at.parent) && !taken.contains({s.at.parent, s.at.name})) continue;
      apart.insert(&s);
      first.push_back(
          {.kind = Deed::moved, .node = it->second, .type = types.at(&s), .from = {s.at.parent, s.at.name}});
    }
    effect_.told.insert(effect_.told.begin(), first.begin(), first.end());
    return apart;
  }
  /// A new node took the name of an old one.
  void tell_successor(const MergeStep& s, const NodeRow& row, NodeId old, std::uint32_t old_mode) {
    tell({.kind = Deed::moved,
          .node = row.node,
          .type = row.mode & S_IFMT,
          .to = {s.at.parent, s.at.name},
          .other = old,
          .other_type = old_mode & S_IFMT});
  }

  Result<void> follow(const MergeStep& s) {
    const auto successor = successor_.find(s.node);
    if (successor == successor_.end()) return {};
    INDRA_LET(const auto edge, tree_.lookup(tx_, chain_, s.at.parent, s.at.name));
    if (!edge || edge->node != s.node) return {};
    INDRA_TRY(remove(s, true));
    INDRA_LET(const NodeRow row, tree_.link(tx_, who_, chain_, successor->second, s.at.parent, s.at.name));
    effect_.attributes.push_back(row.node);
    tell_successor(s, row, s.node, edge->type);
    return {};
  }

  Result<void> remove(const MergeStep& s, bool replaced = false) {
    INDRA_LET(const auto edge, tree_.lookup(tx_, chain_, s.at.parent, s.at.name));
    if (!edge) return fail(ENOENT, s.path);
    INDRA_LET(const NodeRow row, S_ISDIR(edge->type)
                                     ? tree_.rmdir(tx_, who_, chain_, s.at.parent, s.at.name)
                                     : tree_.unlink(tx_, who_, chain_, s.at.parent, s.at.name));
    effect_.names.push_back({s.at, row.node});
    if (!replaced)
      tell({.kind = Deed::removed,
            .node = row.node,
            .type = row.mode & S_IFMT,
            .from = {s.at.parent, s.at.name}});
    if (row.nlink == 0)
      effect_.lost.push_back({row, replaced});
    else
      effect_.attributes.push_back(row.node);
    return {};
  }

  Result<void> add(const MergeStep& s) {
    NodeRow as = s.row;
    if (s.second) as.node = as.line = {};
    INDRA_LET(const NodeRow row, tree_.adopt(tx_, who_, chain_, as, here(s.to.parent), s.to.name));
    if (!s.second) added_[s.row.node] = row.node;
    effect_.names.push_back({{row.parent, s.to.name}, {}});
    effect_.attributes.push_back(row.parent);
    tell({.kind = Deed::made, .node = row.node, .type = row.mode & S_IFMT, .to = {row.parent, s.to.name}});
    if (S_ISREG(row.mode)) tell({.kind = Deed::closed, .node = row.node, .type = S_IFREG});
    return set_xattrs(row.node, s.xattrs);
  }

  Result<void> set_xattrs(NodeId node, const std::map<std::string, std::optional<Bytes>>& all) {
    for (const auto& [name, value] : all)
      INDRA_TRY(tree_.set_xattr(tx_, who_, chain_, node, name,
                                value ? std::optional<ByteView>{*value} : std::nullopt, 0));
    return {};
  }

  Result<void> change(const MergeStep& s) {
    INDRA_LET(NodeRow row, tree_.node(tx_, chain_, s.node));
    const bool bytes = s.content || s.text;
    if (bytes) {
      bool successor = !S_ISREG(row.mode) || hooks_.in_use(s.node);
      if (!successor && s.content && s.content->node != s.node) {
        const auto taken = tree_.node(tx_, chain_, s.content->node);
        successor = !taken;
      }
      if (successor && !s.at.name.empty()) {
        INDRA_LET(row, succeed(s, row));
      } else {
        INDRA_LET(const BlobInfo info,
                  s.text ? hooks_.text(tx_, *s.text) : Result<BlobInfo>{info_of(*s.content)});
        INDRA_LET(row, tree_.set_content(tx_, who_, chain_, s.node, info, hooks_.now, hooks_.now, true));
        effect_.data.push_back(s.node);
        tell_content(s.node);
      }
    }
    if (s.mode || s.uid || s.gid) {
      if (s.mode) row.mode = (row.mode & S_IFMT) | *s.mode;
      row.uid = s.uid.value_or(row.uid);
      row.gid = s.gid.value_or(row.gid);
      INDRA_LET(row, tree_.set_attributes(tx_, who_, chain_, row));
    }
    if (s.flags)
      INDRA_TRY(
          tree_.set_flags(tx_, who_, chain_, row.node, (row.flags & ~std::uint32_t{kNoVersions}) | *s.flags));
    INDRA_TRY(set_xattrs(row.node, s.xattrs));
    effect_.attributes.push_back(row.node);
    if (row.node == s.node && (s.mode || s.uid || s.gid || !s.xattrs.empty()))
      effect_.told_after.push_back({.kind = Deed::attributes, .node = s.node, .type = row.mode & S_IFMT});
    return {};
  }

  /// A new node takes the place, as when a program renames a new file over the old one: the line goes on.
  Result<NodeRow> succeed(const MergeStep& s, const NodeRow& old) {
    NodeRow as = old;
    as.node = {};
    if (s.text) {
      INDRA_LET(const BlobInfo info, hooks_.text(tx_, *s.text));
      set_blob(as, info);
    } else {
      as.node = s.content->node == s.node ? NodeId{} : s.content->node;
      set_blob(as, info_of(*s.content));
      as.target = s.content->target;
      as.rdev = s.content->rdev;
    }
    as.mtime = hooks_.now;
    // Deleted and made anew in the source: another document from now on, as there.
    const bool anew = s.content && S_ISREG(old.mode) && s.content->line != old.line;
    if (anew) as.line = s.content->line;
    const std::string beside = ".indrafs-merge-" + std::to_string(old.node.raw());
    INDRA_LET(const NodeRow made, tree_.adopt(tx_, who_, chain_, as, s.at.parent, beside));
    INDRA_LET(const auto names, tree_.xattrs(tx_, chain_, old.node));
    for (const auto& name : names) {
      INDRA_LET(const auto value, tree_.xattr(tx_, chain_, old.node, name));
      if (value) INDRA_TRY(tree_.set_xattr(tx_, who_, chain_, made.node, name, ByteView{*value}, 0));
    }
    if (anew) {
      INDRA_TRY(remove(s, true));
      INDRA_TRY(tree_.lift(tx_, chain_, s.at.parent, beside));
      INDRA_LET(NodeRow row,
                tree_.lay(tx_, who_, chain_, made.node, {s.at.parent, beside}, s.at.parent, s.at.name));
      successor_[old.node] = row.node;
      tell_successor(s, row, old.node, old.mode);
      return row;
    }
    INDRA_LET(Tree::Renamed r,
              tree_.rename(tx_, who_, chain_, s.at.parent, beside, s.at.parent, s.at.name, 0));
    successor_[old.node] = r.moved.node;
    tell_successor(s, r.moved, old.node, old.mode);
    effect_.names.push_back({s.at, old.node});
    if (r.replaced && r.replaced->nlink == 0)
      effect_.lost.push_back({*r.replaced, true});
    else
      effect_.attributes.push_back(old.node);
    return r.moved;
  }

  Tx& tx_;
  Tree& tree_;
  const Who& who_;
  const Chain chain_;
  const MergeHooks& hooks_;
  MergeEffect effect_;
  std::unordered_map<NodeId, NodeId> added_, successor_;
};

}  // namespace

Result<MergeEffect> apply_merge(Tx& tx, Tree& tree, const Who& who, const Chain& target,
                                const MergePlan& plan, const MergeHooks& hooks) {
  return Applier{tx, tree, who, target, hooks}.run(plan);
}

}  // namespace indra
