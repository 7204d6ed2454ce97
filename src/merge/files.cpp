// What becomes of each item by itself: content, mode, owner, attributes, place (docs/branches.md, G4..G12).
#include "merge/internal/planner.h"

namespace indra::merging {

namespace {
constexpr std::uint32_t kPermissions = 07777;

TextVersion version(const NodeRow& r) { return {r.blob, r.seq, r.ctime, r.size}; }
}  // namespace

Result<Planner::Same> Planner::same(const NodeRow& x, const NodeRow& y) {
  if (type_of(x) != type_of(y)) return Same::no;
  if (S_ISLNK(x.mode)) return x.target == y.target ? Same::yes : Same::no;
  if (!S_ISREG(x.mode)) return x.rdev == y.rdev ? Same::yes : Same::no;
  if (x.size != y.size) return Same::no;
  if (x.blob == y.blob) return Same::yes;
  if (!x.blob || !y.blob) return Same::unknown;  // nothing but a hole
  INDRA_LET(const BlobInfo p, store_.info(tx_, x.blob));
  INDRA_LET(const BlobInfo q, store_.info(tx_, y.blob));
  if (p.hash && q.hash) return *p.hash == *q.hash ? Same::yes : Same::no;
  return Same::unknown;
}

Result<Planner::Content> Planner::merge_content(const NodeRow* b, const NodeRow& t, const NodeRow& s) {
  INDRA_LET(const Same ts, same(t, s));
  if (ts == Same::yes) return Content{Take::target, {}};
  bool open = ts == Same::unknown;
  if (b != nullptr) {
    INDRA_LET(const Same bs, same(*b, s));
    if (bs == Same::yes) return Content{Take::target, {}};
    INDRA_LET(const Same bt, same(*b, t));
    if (bt == Same::yes && bs == Same::no) return Content{Take::source, {}};
    open = open || bs == Same::unknown || bt == Same::unknown;
  }
  if (!S_ISREG(s.mode) || !S_ISREG(t.mode)) return Content{Take::conflict, {}};
  const TextKey key{b != nullptr ? std::optional{version(*b)} : std::nullopt, version(t), version(s)};
  const auto known = verdicts_.find(key);
  if (known == verdicts_.end()) {
    plan_.unknown.insert(key);
    return Content{Take::target, {}};
  }
  switch (known->second) {
    case TextVerdict::same:
    case TextVerdict::target:
      return Content{Take::target, {}};
    case TextVerdict::source:
      return Content{Take::source, {}};
    case TextVerdict::merged:
      return Content{Take::text, key};
    case TextVerdict::marked:
      return Content{Take::text, key, true};
    case TextVerdict::overlap:
      break;
  }
  return Content{Take::conflict, {}};
}

/// Anything but the place.
Result<bool> Planner::differs(OneSide& x, const NodeRow& a, OneSide& y, const NodeRow& b) {
  if ((a.mode & kPermissions) != (b.mode & kPermissions) || a.uid != b.uid || a.gid != b.gid) return true;
  if (!S_ISDIR(a.mode)) {
    INDRA_LET(Same content, same(a, b));
    if (content == Same::unknown) {
      // Asked as a merge of the first with itself: what comes out is the second, if they differ.
      const TextKey key{version(a), version(a), version(b)};
      const auto known = verdicts_.find(key);
      if (known == verdicts_.end()) {
        plan_.unknown.insert(key);
        return false;
      }
      content = known->second == TextVerdict::source ? Same::no : Same::yes;
    }
    if (content == Same::no) return true;
  }
  INDRA_LET(const auto p, x.xattrs(a));
  INDRA_LET(const auto q, y.xattrs(b));
  return p != q;
}

namespace {
/// The bytes of another version.
void take_content(DiffEntry::Side& to, const DiffEntry::Side& from) {
  if (type_of(to.row) != type_of(from.row)) return;
  to.row.blob = from.row.blob;
  to.row.size = from.row.size;
  to.row.stored = from.row.stored;
  to.row.target = from.row.target;
}
}  // namespace

Result<void> Planner::decide(std::size_t n) {
  const Item& i = items_[n];
  if (i.b && i.s) return decide_changed(n);
  if (i.b) return i.dir() ? Result<void>{} : decide_removed(n);
  wishes_.push_back({n, i.s->parent, false, name_of(i.s->path), false});
  return {};
}

Result<void> Planner::decide_changed(std::size_t n) {
  Item& i = items_[n];
  if (i.t) {
    const auto other = changed_.find(i.t->node);
    if (other != changed_.end() && other->second != i.s->row.node) {
      // Two names of one file, which are two files in the source: this one is another from now on.
      Item apart{{}, std::move(i.s), {}, {}};
      i.s.reset();
      INDRA_TRY(decide_removed(n));
      i = std::move(apart);
      i.s->row.line = i.s->row.node;
      return decide(n);
    }
    INDRA_TRY(change(i, n));
    return merge_place(n);
  }
  // The target deleted it.
  INDRA_LET(bool changed, differs(base_, i.b->row, source_, i.s->row));
  changed = changed || i.unsure != 0 || canon(i.s->parent) != canon(i.b->parent) ||
            name_of(i.s->path) != name_of(i.b->path);
  if (!changed) return {};
  keep_own(i, Tree::own_deletion);
  if (policy_.own_wins) return {};
  if (i.dir() && !same_dir_.contains(i.s->row.node)) {
    conflict(Kind::deleted_there, Outcome::target, i.path());  // it comes back with what is kept in it
    return {};
  }
  if (i.dir()) return {};
  const Outcome outcome = policy(i.path()).value_or(Outcome::source);
  conflict(Kind::deleted_there, outcome, i.path());
  if (policy_.for_base) take_content(*i.s, *i.b);
  if (outcome == Outcome::source) wishes_.push_back({n, i.s->parent, false, name_of(i.s->path), false});
  return {};
}

Result<void> Planner::decide_removed(std::size_t n) {
  Item& i = items_[n];
  if (!i.t) return {};
  MergeStep step;
  step.kind = MergeStep::Kind::remove;
  step.path = i.path();
  step.node = i.t->node;
  INDRA_LET(const auto elsewhere, source_.live(i.b->row.node));
  const bool one_name = elsewhere && elsewhere->line == i.b->row.line;
  const Tree::At old{i.b->parent, name_of(i.b->path)};
  const auto left = names_left_.emplace(i.t->node, i.t->nlink).first;
  if (i.t->nlink > 1 || one_name) {  // a name less of a file with several
    INDRA_LET(const auto there, target_.lookup(old.parent, old.name));
    if (!there || there->node != i.t->node) return {};
    step.at = old;
  } else if (i.t_at) {
    step.at = *i.t_at;
  } else {
    return {};
  }
  if (left->second == 1) {
    // The last one: content goes with it.
    bool keep = one_name || rewritten_.contains(i.t->node);
    std::optional<Outcome> forced;
    if (!keep) {
      INDRA_LET(keep, differs(base_, i.b->row, target_, *i.t));
      keep = keep || busy(i.t->node) || step.at.parent != old.parent || step.at.name != old.name;
      forced = policy(i.path());
    }
    if (keep) {
      conflict(Kind::deleted_here, forced.value_or(Outcome::target), i.path());
      if (policy_.for_base && i.t_at && S_ISREG(i.t->mode) && changed_.emplace(i.t->node, NodeId{}).second) {
        step.kind = MergeStep::Kind::change;
        step.at = *i.t_at;
        step.content = i.b->row;
        plan_.steps.push_back(std::move(step));
        return {};
      }
      if (forced != Outcome::source) return {};
    }
  }
  if (!vacated_.insert({step.at.parent, step.at.name}).second) return {};
  --left->second;
  plan_.steps.push_back(std::move(step));
  return {};
}

// Content, mode, owner and attributes of the node: once, also when several of its names differ.
Result<void> Planner::change(Item& i, std::size_t n) {
  if (!changed_.emplace(i.t->node, i.s->row.node).second) {
    if (i.t_at) follow(i, *i.t_at);
    return {};
  }
  const NodeRow &b = i.b->row, &t = *i.t, &s = i.s->row;
  MergeStep step;
  step.kind = MergeStep::Kind::change;
  step.path = i.path();
  step.node = t.node;
  if (i.t_at) step.at = *i.t_at;
  const auto forced = policy(i.path());
  if (!i.dir()) {
    INDRA_LET(Content c, merge_content((i.unsure & Tree::own_content) != 0 ? nullptr : &b, t, s));
    const bool theirs = c.take == Take::source || (c.take == Take::text && !(c.marked && forced));
    if (policy_.own_wins && theirs && busy(t.node)) c.take = Take::conflict;
    switch (c.take) {
      case Take::target:
        break;
      case Take::source:
        step.content = s;
        break;
      case Take::text:
        if (c.marked && forced) {
          conflict(Kind::content, *forced, i.path());
          keep_own(i, Tree::own_content);
          if (*forced == Outcome::source) step.content = s;
          break;
        }
        step.text = c.key;
        if (c.marked) conflict(Kind::content, Outcome::markers, i.path());
        break;
      case Take::conflict:
        if (forced) {
          conflict(Kind::content, *forced, i.path());
          keep_own(i, Tree::own_content);
          if (*forced == Outcome::source) step.content = s;
        } else if (policy_.for_base) {
          step.content = b;
        } else {
          wishes_.push_back({n, {}, false, {}, true});
        }
        break;
    }
  }
  const std::uint32_t bm = (i.unsure & Tree::own_mode) != 0 ? ~0u : b.mode & kPermissions;
  const std::uint32_t tm = t.mode & kPermissions, sm = s.mode & kPermissions;
  if (sm != bm && sm != tm) {
    if (tm == bm || forced == Outcome::source) step.mode = sm;
    if (tm != bm) conflict(Kind::mode, step.mode ? Outcome::source : Outcome::target, i.path());
    if (!step.mode) keep_own(i, Tree::own_mode);
  }
  const auto owner = [&](std::uint32_t base, std::uint32_t there, std::uint32_t here,
                         std::optional<std::uint32_t>& out) {
    if (here == base || here == there) return;
    if (there == base || forced == Outcome::source) out = here;
    if (there != base) conflict(Kind::owner, out ? Outcome::source : Outcome::target, i.path());
    if (!out) keep_own(i, Tree::own_owner);
  };
  const bool who = (i.unsure & Tree::own_owner) != 0;
  owner(who ? ~0u : b.uid, t.uid, s.uid, step.uid);
  owner(who ? ~0u : b.gid, t.gid, s.gid, step.gid);
  if (((b.flags ^ s.flags) & kNoVersions) != 0 && ((s.flags ^ t.flags) & kNoVersions) != 0)
    step.flags = s.flags & kNoVersions;
  INDRA_TRY(merge_xattrs(i, step));
  if (step.content || step.text) rewritten_.insert(t.node);
  if (step.content || step.text || step.mode || step.uid || step.gid || step.flags || !step.xattrs.empty())
    plan_.steps.push_back(std::move(step));
  return {};
}

Result<void> Planner::merge_xattrs(const Item& i, MergeStep& step) {
  INDRA_LET(const auto b, base_.xattrs(i.b->row));
  INDRA_LET(const auto t, target_.xattrs(*i.t));
  INDRA_LET(const auto s, source_.xattrs(i.s->row));
  const auto of = [](const std::map<std::string, Bytes>& all, const std::string& name) {
    const auto it = all.find(name);
    return it == all.end() ? std::optional<Bytes>{} : std::optional{it->second};
  };
  std::set<std::string> names;
  for (const auto* all : {&b, &s})
    for (const auto& [name, value] : *all) names.insert(name);
  for (const std::string& name : names) {
    const auto base = of(b, name), there = of(t, name), here = of(s, name);
    const bool unsure = (i.unsure & Tree::own_xattrs) != 0;
    if ((here == base && !unsure) || here == there) continue;
    const bool clash = unsure || there != base;
    const bool take = !clash || policy(i.path()) == Outcome::source;
    if (take) step.xattrs[name] = here;
    if (!take) keep_own(i, Tree::own_xattrs);
    if (clash) conflict(Kind::xattr, take ? Outcome::source : Outcome::target, i.path(), {}, name);
  }
  return {};
}

// Directory and name each on their own.
Result<void> Planner::merge_place(std::size_t n) {
  Item& i = items_[n];
  if (!i.t_at || !i.s->parent) return {};  // a root stays
  const Tree::At b{i.b->parent, name_of(i.b->path)}, &t = *i.t_at;
  const std::string s_name = name_of(i.s->path);
  const bool unsure = (i.unsure & Tree::own_place) != 0;
  const bool s_went = unsure || canon(i.s->parent) != canon(b.parent), s_named = unsure || s_name != b.name;
  if (!s_went && !s_named) return {};
  const auto there = [&](NodeId dir) {  // what the target calls a directory
    const auto it = put_as_.find(dir);
    return it != put_as_.end() ? it->second : canon(dir);
  };
  const bool t_went = unsure || t.parent != there(b.parent), t_named = unsure || t.name != b.name;
  const bool forced = policy(i.path()) == Outcome::source;
  if (stay_.contains(i.s->row.node)) {
    keep_own(i, Tree::own_place);
    return {};
  }
  Wish wish{n, t.parent, true, t.name, false};
  bool clash = false;
  if (s_went && there(i.s->parent) != t.parent) {
    if (!t_went || forced) {
      INDRA_LET(const bool loop, i.dir() ? would_loop(i.t->node, there(i.s->parent)) : Result<bool>{false});
      if (loop) {
        conflict(Kind::cycle, Outcome::target, i.path());
        keep_own(i, Tree::own_place);
      } else {
        wish.parent = i.s->parent;
        wish.of_target = false;
      }
    }
    clash = clash || t_went;
  }
  if (s_named && s_name != t.name) {
    if (!t_named || forced) wish.name = s_name;
    clash = clash || t_named;
  }
  if (clash) {
    conflict(Kind::place, forced ? Outcome::source : Outcome::target, i.path());
    keep_own(i, Tree::own_place);
  }
  if (wish.of_target && wish.name == t.name) return {};
  if (wish.of_target)
    stays_in_.insert(t.parent);
  else if (i.dir())
    new_parent_[i.t->node] = there(i.s->parent);
  vacated_.insert({t.parent, t.name});
  wishes_.push_back(std::move(wish));
  return {};
}

Result<MergeStep> Planner::adding(const NodeRow& row, const std::string& path, bool second) {
  MergeStep step;
  step.kind = MergeStep::Kind::add;
  step.path = path;
  step.row = row;
  step.second = second;
  INDRA_LET(const auto xattrs, source_.xattrs(row));
  for (const auto& [name, value] : xattrs) step.xattrs[name] = value;
  return step;
}

}  // namespace indra::merging
