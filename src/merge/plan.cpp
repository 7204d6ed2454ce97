// Directories, and who gets which name (docs/branches.md, G13..G20).
#include "merge/plan.h"

#include <algorithm>

#include "merge/internal/planner.h"

namespace indra {

const char* conflict_name(MergeConflict::Kind k) {
  static constexpr const char* kNames[] = {"content", "added", "deleted-there", "deleted-here", "place",
                                           "cycle",   "mode",  "owner",         "xattr",        "directory"};
  return kNames[static_cast<int>(k)];
}

const char* step_name(MergeStep::Kind k) {
  static constexpr const char* kNames[] = {"remove", "move", "add", "link", "change", "change"};
  return kNames[static_cast<int>(k)];
}

const char* outcome_name(MergeConflict::Outcome o) {
  static constexpr const char* kNames[] = {"target", "source", "both", "markers"};
  return kNames[static_cast<int>(o)];
}

namespace merging {

namespace {

constexpr std::size_t kLongestName = 255;

/// At most `most` bytes, not in the middle of a character.
std::string cut(std::string s, std::size_t most) {
  if (s.size() <= most) return s;
  while (most > 0 && (static_cast<unsigned char>(s[most]) & 0xC0) == 0x80) --most;
  s.resize(most);
  return s;
}

}  // namespace

Result<MergePlan> Planner::run() {
  INDRA_TRY(gather());
  plan_.changes = items_.size();
  std::sort(items_.begin(), items_.end(), [](const Item& x, const Item& y) { return x.path() < y.path(); });
  // What is removed comes last: by then it is known what has got new content.
  const auto turn = [](const Item& i) { return i.dir() ? 0 : i.s ? 1 : 2; };
  for (const int now : {0, 1, 2})
    for (std::size_t n = 0; n < items_.size(); ++n)
      if (turn(items_[n]) == now) INDRA_TRY(decide(n));
  INDRA_TRY(remove_directories());
  const auto rank = [this](const Wish& w) { return w.second ? 2 : items_[w.item].dir() ? 0 : 1; };
  std::stable_sort(wishes_.begin(), wishes_.end(), [&](const Wish& x, const Wish& y) {
    return rank(x) != rank(y) ? rank(x) < rank(y) : x.item < y.item;
  });
  for (const Wish& w : wishes_) INDRA_TRY(grant(w));
  return std::move(plan_);
}

Result<bool> Planner::would_loop(NodeId dir, NodeId into) {
  for (int depth = 0; into && depth < 4096; ++depth) {
    if (into == dir) return true;
    if (const auto it = new_parent_.find(into); it != new_parent_.end()) {
      into = it->second;
      continue;
    }
    INDRA_LET(auto row, target_.live(into));
    const bool here = row.has_value();
    if (!here) {
      INDRA_LET(row, source_.live(into));
    }
    if (!row) return false;
    into = row->parent;
    if (here) continue;
    const auto as = put_as_.find(into);
    into = as != put_as_.end() ? as->second : canon(into);
  }
  return false;
}

// A directory that the source deleted goes when nothing is left in it: what else is there, stays, and so does
// it.
Result<void> Planner::remove_directories() {
  std::vector<Item*> left;
  for (Item& i : items_)
    if (i.b && !i.s && i.dir() && i.t && i.t_at) left.push_back(&i);
  for (bool progress = true; progress;) {
    progress = false;
    // The deepest come last in the order of paths.
    for (auto it = left.rbegin(); it != left.rend(); ++it) {
      Item* i = *it;
      if (i == nullptr || stays_in_.contains(i->t->node)) continue;
      const NodeRow &was = i->b->row, &is = *i->t;
      if (policy_.own_wins && (i->t_at->parent != i->b->parent || i->t_at->name != name_of(i->b->path) ||
                               is.mode != was.mode || is.uid != was.uid || is.gid != was.gid))
        continue;  // it has made something of it
      INDRA_LET(const auto names, target_.names(i->t->node));
      const bool empty = std::all_of(names.begin(), names.end(), [&](const std::string& name) {
        return vacated_.contains({i->t->node, name});
      });
      if (!empty) continue;
      vacated_.insert({i->t_at->parent, i->t_at->name});
      MergeStep step;
      step.kind = MergeStep::Kind::remove;
      step.path = i->path();
      step.node = i->t->node;
      step.at = *i->t_at;
      plan_.steps.push_back(std::move(step));
      *it = nullptr;
      progress = true;
    }
    std::erase(left, nullptr);
  }
  for (const Item* i : left) conflict(Kind::directory, Outcome::target, i->path());
  return {};
}

Result<std::optional<Planner::Holder>> Planner::holder(NodeId parent, const std::string& name) {
  if (const auto it = claimed_.find({parent, name}); it != claimed_.end()) return std::optional{it->second};
  if (vacated_.contains({parent, name})) return std::optional<Holder>{};
  INDRA_LET(auto row, target_.lookup(parent, name));
  if (!row) return std::optional<Holder>{};
  return std::optional{Holder{std::move(*row), false}};
}

Result<std::string> Planner::second_name(NodeId parent, const std::string& name, bool dir) {
  const std::size_t dot = dir ? std::string::npos : name.rfind('.');
  const bool has = dot != std::string::npos && dot != 0 && name.size() - dot <= 32;
  const std::string stem = has ? name.substr(0, dot) : name, ext = has ? name.substr(dot) : "";
  for (int n = 1;; ++n) {
    const std::string mark = " (conflict " + cut(policy_.label, 120) + " " + policy_.date +
                             (n == 1 ? "" : " " + std::to_string(n)) + ")";
    std::string made = cut(stem, kLongestName - mark.size() - ext.size()) + mark + ext;
    INDRA_LET(const auto taken, holder(parent, made));
    if (!taken) return made;
  }
}

// The target's directory for one of the source. One that the target deleted comes back, because something is
// to lie in it.
Result<NodeId> Planner::target_dir(NodeId dir) {
  if (const auto it = put_as_.find(dir); it != put_as_.end()) return it->second;
  for (const NodeId id : {canon(dir), dir}) {
    INDRA_LET(const auto row, target_.live(id));
    if (row && S_ISDIR(row->mode)) return id;
    if (!policy_.own_wins) continue;
    INDRA_LET(const auto before, base_.live(id));
    if (before || hidden_.contains(id)) return NodeId{};  // it deleted it, or has hidden it since
  }
  INDRA_LET(const auto row, source_.live(dir));
  if (!row) return fail(EIO, "a directory of the source is missing");
  INDRA_LET(const auto name, source_.name_in(row->parent, dir, {}));
  if (!name) return fail(EIO, "a directory of the source has no name");
  INDRA_LET(const NodeId parent, target_dir(row->parent));
  if (parent) INDRA_TRY(grant_directory(*row, *name, parent, *name));
  const auto put = put_as_.find(dir);
  if (put != put_as_.end()) return put->second;
  hidden_.insert(dir);
  plan_.kept[dir] |= Tree::own_name;
  return NodeId{};
}

Result<void> Planner::grant_directory(const NodeRow& row, const std::string& path, NodeId parent,
                                      const std::string& wanted) {
  std::string name = wanted;
  INDRA_LET(const auto there, holder(parent, name));
  if (there && S_ISDIR(there->row.mode)) {  // two of one name are one
    put_as_[row.node] = there->row.node;
    return {};
  }
  if (there && policy_.own_wins) {
    hidden_.insert(row.node);
    plan_.kept[row.node] |= Tree::own_name;
    return {};
  }
  if (there) {
    INDRA_LET(name, second_name(parent, wanted, true));
    conflict(Kind::added, Outcome::both, path, name);
  }
  INDRA_LET(MergeStep step, adding(row, path, false));
  step.to = {parent, name};
  plan_.steps.push_back(std::move(step));
  claim(parent, name, row, true);
  put_as_[row.node] = row.node;
  return {};
}

Result<void> Planner::grant(const Wish& w) {
  Item& i = items_[w.item];
  if (w.second) {
    const auto at = given_.find(w.item);
    Tree::At place;
    if (at != given_.end()) {
      place = {at->second.first, at->second.second};
    } else if (i.t_at) {
      place = *i.t_at;
    } else {
      INDRA_LET(place.parent, target_dir(i.s->parent));
      place.name = name_of(i.s->path);
    }
    return grant_second(i, place.parent, place.name, Kind::content);
  }
  NodeId parent = w.parent;
  if (!w.of_target) {
    INDRA_LET(parent, target_dir(w.parent));
  }
  if (!parent && i.t && i.b) {
    stay_.insert(i.s->row.node);
    again_ = true;
    return {};
  }
  if (!parent) {
    if (i.dir()) hidden_.insert(i.s->row.node);
    keep_own(i, Tree::own_name);
    return {};
  }
  if (!i.t || !i.b) {
    if (i.dir()) return i.t ? Result<void>{} : grant_directory(i.s->row, i.path(), parent, w.name);
    return grant_file(i, parent, w.name);
  }
  // A name of the target that goes elsewhere.
  std::string name = w.name;
  INDRA_LET(const auto there, holder(parent, name));
  if (there && policy_.own_wins) {
    stay_.insert(i.s->row.node);
    again_ = true;
    return {};
  }
  if (there) {
    INDRA_LET(name, second_name(parent, w.name, i.dir()));
    conflict(Kind::place, Outcome::both, i.path(), name);
  }
  MergeStep step;
  step.kind = MergeStep::Kind::move;
  step.path = i.path();
  step.node = i.t->node;
  step.at = *i.t_at;
  step.to = {parent, name};
  plan_.steps.push_back(std::move(step));
  claim(parent, name, *i.t, false);
  given_[w.item] = {parent, name};
  return {};
}

/// The source's version, as a file of its own beside the target's.
Result<void> Planner::grant_second(const Item& i, NodeId parent, const std::string& beside, Kind kind) {
  if (policy_.own_wins) {
    keep_own(i, Tree::own_name);
    return {};
  }
  INDRA_LET(std::string name, second_name(parent, beside, false));
  INDRA_LET(MergeStep step, adding(i.s->row, i.path(), true));
  step.to = {parent, name};
  plan_.steps.push_back(std::move(step));
  claim(parent, name, i.s->row, true);
  conflict(kind, Outcome::both, i.path(), name);
  return {};
}

Result<void> Planner::grant_file(Item& i, NodeId parent, const std::string& name) {
  const NodeRow& s = i.s->row;
  const auto link = [&](NodeId node) {
    MergeStep step;
    step.kind = MergeStep::Kind::link;
    step.path = i.path();
    step.node = node;
    step.of_added = !i.t;
    step.to = {parent, name};
    plan_.steps.push_back(std::move(step));
    claim(parent, name, s, true);
  };
  INDRA_LET(const auto there, holder(parent, name));
  const auto added = added_.find(s.node);
  if (i.t || added != added_.end()) {
    const auto other = i.t ? changed_.find(i.t->node) : changed_.end();
    if (other != changed_.end() && other->second != s.node) {
      i.t.reset();  // what it would go into has become another file's
      i.s->row.line = s.node;
      return grant_file(i, parent, name);
    }
    const NodeId node = i.t ? i.t->node : added->second;
    if (there && there->row.node == node) return i.t && !i.b ? grant_known(i) : Result<void>{};
    INDRA_LET(const auto before, base_.live(s.node));
    const bool another_name = added != added_.end() || before || s.nlink > 1;
    if (!another_name) return grant_known(i);
    if (!there) {
      link(node);
      return before || !i.t ? Result<void>{} : grant_known(i);
    }
  }
  if (!there) {
    INDRA_LET(MergeStep step, adding(s, i.path(), false));
    step.to = {parent, name};
    plan_.steps.push_back(std::move(step));
    claim(parent, name, s, true);
    added_[s.node] = s.node;
    return {};
  }
  if (!there->added && type_of(there->row) == type_of(s) && !S_ISDIR(s.mode))
    return grant_onto(i, there->row, parent, name);
  return grant_second(i, parent, name, Kind::added);
}

void Planner::follow(const Item& i, const Tree::At& at) {
  if (!rewritten_.contains(i.t->node)) return;
  MergeStep step;
  step.kind = MergeStep::Kind::follow;
  step.path = i.path();
  step.node = i.t->node;
  step.at = at;
  plan_.steps.push_back(std::move(step));
}

/// Both have something of that name.
Result<void> Planner::grant_onto(const Item& i, const NodeRow& there, NodeId parent,
                                 const std::string& name) {
  INDRA_LET(const Content c, merge_content(nullptr, there, i.s->row));
  const auto forced = policy(i.path());
  const bool open = c.take == Take::conflict || (c.take == Take::text && c.marked);
  if (policy_.own_wins && c.take != Take::target) {
    keep_own(i, Tree::own_name);
    return {};
  }
  if (c.take == Take::target) {
    added_[i.s->row.node] = there.node;
    if (((there.mode ^ i.s->row.mode) & 07777) != 0) {
      conflict(Kind::mode, Outcome::target, i.path());
      keep_own(i, Tree::own_mode);
    }
    return {};
  }
  if (open && !forced && (c.take == Take::conflict || changed_.contains(there.node)))
    return grant_second(i, parent, name, Kind::added);
  if (open) conflict(Kind::added, forced.value_or(Outcome::markers), i.path());
  if (open && forced == Outcome::target) return {};
  if (!changed_.emplace(there.node, i.s->row.node).second) return grant_second(i, parent, name, Kind::added);
  MergeStep step;
  step.kind = MergeStep::Kind::change;
  step.path = i.path();
  step.node = there.node;
  step.at = {parent, name};
  if (c.take == Take::text && !(open && forced))
    step.text = c.key;
  else
    step.content = i.s->row;
  plan_.steps.push_back(std::move(step));
  added_[i.s->row.node] = there.node;
  return {};
}

/// A file that the target has from the source already, by a merge that is no longer known of, or picked.
Result<void> Planner::grant_known(const Item& i) {
  if (!i.t_at) return {};
  if (changed_.contains(i.t->node)) {
    follow(i, {i.s->parent, name_of(i.s->path)});
    return {};
  }
  return grant_onto(i, *i.t, i.t_at->parent, i.t_at->name);
}

}  // namespace merging

Result<MergePlan> plan_merge(Tx& tx, Tree& tree, ContentStore& store, const MergeViews& views,
                             const TextVerdicts& verdicts, const MergePolicy& policy) {
  // Where a move is not to be had the node stays, and keeps its name from others: so the plan is made again.
  std::unordered_set<NodeId> stay;
  for (;;) {
    merging::Planner planner{tx, tree, store, views, verdicts, policy, stay};
    INDRA_LET(MergePlan plan, planner.run());
    if (!planner.again() || !plan.unknown.empty()) return plan;
  }
}

}  // namespace indra
