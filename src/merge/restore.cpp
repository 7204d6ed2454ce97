#include "merge/restore.h"

#include <sys/stat.h>

#include <algorithm>
#include <climits>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "tree/names_of.h"

namespace indra {
namespace {

using Kind = MergeStep::Kind;
using Place = std::pair<NodeId, std::string>;

struct Entry {
  Tree::At at;
  std::string path;
  NodeRow row;
};

std::string below(std::string_view dir, std::string_view name) {
  std::string p{dir == "/" ? "" : dir};
  return p.append("/").append(name);
}

class Restorer {
 public:
  Restorer(Tx& tx, Tree& tree, const RestoreViews& v) : tx_{tx}, tree_{tree}, v_{v} {}

  /// Which names differ, on either side, and lead to where something does.
  Result<void> know_changes() {
    INDRA_LET(const auto all, diff_views(tx_, v_.now, v_.then, v_.root));
    const auto mark = [&](const std::optional<DiffEntry::Side>& s) {
      if (!s) return;
      for (std::string p = s->path; p != "/";) {
        const std::size_t slash = p.rfind('/');
        const std::string dir = slash == 0 ? "/" : p.substr(0, slash);
        if (!touched_[dir].insert(p.substr(slash + 1)).second) return;
        p = dir;
      }
    };
    for (const DiffEntry& e : all) {
      if (e.a && S_ISREG(e.a->row.mode)) lines_.insert(e.a->row.line);
      mark(e.a);
      mark(e.b);
    }
    return {};
  }

  Result<std::vector<MergeStep>> in_place(const std::optional<FoundNode>& now, const FoundNode& then,
                                          const Tree::At& at, const std::string& path) {
    INDRA_TRY(know_changes());
    const Entry want{at, path, then.row};
    top_at_ = at;
    if (now) {
      top_ = now->row.node;
      INDRA_TRY(pair({now->at, path, now->row}, want));
    } else {
      INDRA_TRY(add_all(want));
    }
    return finish();
  }

  Result<std::vector<MergeStep>> beside(const FoundNode& then, const Tree::At& to, const std::string& path) {
    copy_ = true;
    INDRA_TRY(add_all({to, path, then.row}));
    return finish();
  }

 private:
  Result<std::map<std::string, Entry>> list(const Chain& chain, const Entry& dir) {
    std::map<std::string, Entry> all;
    INDRA_TRY(tree_.list(tx_, chain, dir.row.node, 0, true, INT_MAX, [&](const Tree::Listed& l) {
      const std::string name{l.name};
      all[name] = {{dir.row.node, name}, below(dir.path, name), *l.row};
      return true;
    }));
    return all;
  }

  Result<std::optional<Entry>> child(const Chain& chain, const Entry& dir, const std::string& name) {
    INDRA_LET(auto row, tree_.lookup_node(tx_, chain, dir.row.node, name));
    if (!row) return std::nullopt;
    return Entry{{dir.row.node, name}, below(dir.path, name), std::move(*row)};
  }

  Result<std::map<std::string, std::optional<Bytes>>> xattrs_to_set(const NodeRow* now, const NodeRow& then) {
    std::map<std::string, std::optional<Bytes>> out;
    if (now != nullptr && (now->flags & kHasXattrs) != 0) {
      INDRA_LET(const auto names, tree_.xattrs(tx_, v_.now, now->node));
      for (const auto& name : names) out[name] = std::nullopt;
    }
    if ((then.flags & kHasXattrs) != 0) {
      INDRA_LET(const auto names, tree_.xattrs(tx_, v_.then, then.node));
      for (const auto& name : names) {
        INDRA_LET(auto value, tree_.xattr(tx_, v_.then, then.node, name));
        std::optional<Bytes> old;
        if (out.contains(name)) {
          INDRA_LET(old, tree_.xattr(tx_, v_.now, now->node, name));
        }
        if (old && value && *old == *value)
          out.erase(name);
        else
          out[name] = std::move(value);
      }
    }
    return out;
  }

  /// Both have something there.
  Result<void> pair(const Entry& now, const Entry& then) {
    const bool same = now.row.node == then.row.node, dir = S_ISDIR(now.row.mode);
    const bool document = S_ISREG(now.row.mode) && S_ISREG(then.row.mode) && now.row.line == then.row.line;
    if (!same && !document) {
      INDRA_TRY(remove_all(now));
      return add_all(then);
    }
    if (!dir && changed_.contains(now.row.node)) {  // another name of a file that gets a successor
      removals_.push_back(now);
      additions_.push_back(then);
      return {};
    }
    if (!same && then.row.nlink > 1) {  // which file it is to be a name of is known when all have been seen
      several_.emplace_back(now, then);
      return {};
    }
    if (same) kept_.insert(now.row.node);
    INDRA_TRY(change(now, then));
    const auto touched = touched_.find(now.path);
    if (!dir || touched == touched_.end()) return {};
    for (const std::string& name : touched->second) {
      INDRA_LET(const auto ours, child(v_.now, now, name));
      INDRA_LET(const auto theirs, child(v_.then, then, name));
      if (ours && theirs) {
        INDRA_TRY(pair(*ours, *theirs));
      } else if (ours) {
        INDRA_TRY(remove_all(*ours));
      } else if (theirs) {
        INDRA_TRY(add_all(*theirs));
      }
    }
    return {};
  }

  Result<void> change(const Entry& now, const Entry& then) {
    MergeStep s;
    s.kind = Kind::change;
    s.path = then.path;
    s.node = now.row.node;
    s.at = now.at;
    const NodeRow &x = now.row, &y = then.row;
    const bool bytes = S_ISREG(x.mode) && (x.blob != y.blob || x.size != y.size);
    if (bytes) s.content = y;
    if ((x.mode & 07777) != (y.mode & 07777)) s.mode = y.mode & 07777;
    if (x.uid != y.uid) s.uid = y.uid;
    if (x.gid != y.gid) s.gid = y.gid;
    INDRA_LET(s.xattrs, xattrs_to_set(&x, y));
    if (S_ISREG(x.mode) && ((x.flags ^ y.flags) & kNoVersions) != 0) s.flags = y.flags & kNoVersions;
    if (!bytes && !s.mode && !s.flags && !s.uid && !s.gid && s.xattrs.empty()) return {};
    if (!bytes && !S_ISDIR(x.mode)) {
      INDRA_LET(const bool outside, has_a_name_outside(x));
      if (outside) s.content = y;  // what lies there stays as it is: here it becomes another file
    }
    if (s.content) changed_.insert(x.node);
    changes_.push_back(std::move(s));
    return {};
  }

  Result<bool> has_a_name_outside(const NodeRow& file) {
    if (file.nlink < 2) return false;
    INDRA_LET(const auto names, names_of(tx_, v_.now, file.node));
    for (const NamePlace& p : names) {
      bool inside = p.parent == top_at_.parent && p.name == top_at_.name;
      for (NodeId dir = p.parent; dir && !inside;) {
        inside = dir == top_;
        INDRA_LET(const NodeRow row, tree_.node(tx_, v_.now, dir));
        dir = row.parent;
      }
      if (!inside) return true;
    }
    return false;
  }

  Result<void> remove_all(const Entry& now) {
    removals_.push_back(now);
    if (!S_ISDIR(now.row.mode)) return {};
    INDRA_LET(const auto all, list(v_.now, now));
    for (const auto& [name, e] : all) INDRA_TRY(remove_all(e));
    return {};
  }
  Result<void> add_all(const Entry& then) {
    additions_.push_back(then);
    if (!S_ISDIR(then.row.mode)) return {};
    INDRA_LET(const auto all, list(v_.then, {then.at, then.path, then.row}));
    for (const auto& [name, e] : all) INDRA_TRY(add_all(e));
    return {};
  }

  /// Names of files that had several, and that other nodes bear now which go on as the same document: a name
  /// of the file again, if that is there; else the first takes its content, and the others become names of
  /// that.
  Result<void> join_names() {
    std::set<Place> going;
    std::unordered_set<NodeId> open;
    for (const Entry& e : removals_) going.emplace(e.at.parent, e.at.name);
    for (const auto& [now, then] : several_) open.insert(now.row.node);
    for (const auto& [now, then] : several_) {
      const NodeId file = then.row.node;
      bool there = kept_.contains(file) || stands_for_.contains(file);
      if (!there && !open.contains(file)) {
        INDRA_LET(there, keeps_a_name(then.row, going));
      }
      if (there || changed_.contains(now.row.node)) {
        removals_.push_back(now);
        additions_.push_back(then);
      } else {
        INDRA_TRY(change(now, then));
        stands_for_[file] = now.row.node;
      }
    }
    return {};
  }

  /// What went from one place and came at another has moved back.
  Result<std::vector<MergeStep>> finish() {
    INDRA_TRY(join_names());
    std::map<NodeId, std::vector<Entry*>> going;
    std::set<Place> going_from;
    for (Entry& e : removals_) {
      going[e.row.node].push_back(&e);
      going_from.emplace(e.at.parent, e.at.name);
    }
    std::unordered_set<const Entry*> stays;
    std::vector<MergeStep> puts;
    std::unordered_set<NodeId> added;
    for (const Entry& want : additions_) {
      MergeStep s;
      s.path = want.path;
      s.to = want.at;
      const bool dir = S_ISDIR(want.row.mode);
      if (const auto stands = stands_for_.find(want.row.node); stands != stands_for_.end()) {
        s.kind = Kind::link;
        s.node = stands->second;
        puts.push_back(std::move(s));
        continue;
      }
      const auto it = going.find(want.row.node);
      if (!copy_ && it != going.end() && it->second.size() == 1 && !stays.contains(it->second.front()) &&
          (dir || it->second.front()->row.nlink == 1) && !changed_.contains(want.row.node)) {
        const Entry& from = *it->second.front();
        stays.insert(&from);
        kept_.insert(want.row.node);
        INDRA_TRY(change(from, want));  // before it moves
        if (from.at.parent == want.at.parent && from.at.name == want.at.name) continue;
        s.kind = Kind::move;
        s.node = want.row.node;
        s.at = from.at;
        puts.push_back(std::move(s));
        continue;
      }
      const bool several = !dir && want.row.nlink > 1;
      bool another_name = several && (added.contains(want.row.node) || kept_.contains(want.row.node));
      if (several && !another_name && !copy_) {
        INDRA_LET(another_name, keeps_a_name(want.row, going_from));
      }
      if (another_name) {
        s.kind = Kind::link;
        s.node = want.row.node;
        s.of_added = added.contains(want.row.node);
        puts.push_back(std::move(s));
        continue;
      }
      s.kind = Kind::add;
      s.row = want.row;
      s.node = want.row.node;
      INDRA_LET(const bool alive, is_there(want.row));
      if (!dir && (copy_ || alive)) s.row.line = {};  // a document of its own
      s.second = !dir && (copy_ || alive) && want.row.nlink < 2;
      INDRA_LET(s.xattrs, xattrs_to_set(nullptr, want.row));
      added.insert(want.row.node);
      puts.push_back(std::move(s));
    }
    std::vector<MergeStep> all = std::move(changes_);
    for (auto e = removals_.rbegin(); e != removals_.rend(); ++e) {
      if (stays.contains(&*e)) continue;
      MergeStep s;
      s.kind = Kind::remove;
      s.path = e->path;
      s.node = e->row.node;
      s.at = e->at;
      all.push_back(std::move(s));
    }
    std::move(puts.begin(), puts.end(), std::back_inserter(all));
    return all;
  }

  /// The file is as it was, and one of its names stays.
  Result<bool> keeps_a_name(const NodeRow& then, const std::set<Place>& going) {
    if (changed_.contains(then.node)) return false;
    const auto row = tree_.node(tx_, v_.now, then.node);
    if (!row && row.error().code != std::errc::no_such_file_or_directory) return fail(row.error());
    if (!row || row->mode != then.mode || row->uid != then.uid || row->gid != then.gid ||
        row->size != then.size || row->blob != then.blob || row->target != then.target)
      return false;
    INDRA_LET(const auto xattrs, xattrs_to_set(&*row, then));
    if (!xattrs.empty()) return false;
    INDRA_LET(const auto names, names_of(tx_, v_.now, then.node));
    return std::any_of(names.begin(), names.end(), [&](const NamePlace& p) {
      return !going.contains({p.parent, p.name});
    });
  }

  /// Its node, or its document in another node, is in the branch: then a copy is a document of its own.
  Result<bool> is_there(const NodeRow& then) {
    if (S_ISREG(then.mode) && lines_.contains(then.line)) return true;
    const auto row = tree_.node(tx_, v_.now, then.node);
    if (row) return row->nlink != 0;
    if (row.error().code != std::errc::no_such_file_or_directory) return fail(row.error());
    return false;
  }

  Tx& tx_;
  Tree& tree_;
  const RestoreViews& v_;
  bool copy_ = false;
  NodeId top_;  // what is restored in place, and where it is
  Tree::At top_at_;
  std::unordered_map<std::string, std::set<std::string>> touched_;  // of a directory's path: names
  std::vector<MergeStep> changes_;
  std::vector<Entry> removals_, additions_;        // from the top down
  std::vector<std::pair<Entry, Entry>> several_;   // now, then
  std::unordered_map<NodeId, NodeId> stands_for_;  // of then -> of now, which gets its content
  std::unordered_set<NodeId> kept_, changed_;
  std::unordered_set<NodeId> lines_;  // documents in the branch that differ
};

/// What was deleted together, from the top down.
class Undeleter {
 public:
  Undeleter(Tx& tx, Tree& tree, const Chain& now) : tx_{tx}, tree_{tree}, now_{now} {}

  Result<void> add(const Deleted& d, const Tree::At& to, const std::string& path) {
    const Chain before = limited(now_, d.seen);
    MergeStep s;
    s.kind = Kind::add;
    s.path = path;
    s.to = to;
    s.row = d.row;
    s.node = d.row.node;
    if ((d.row.flags & kHasXattrs) != 0) {
      INDRA_LET(const auto names, tree_.xattrs(tx_, before, d.row.node));
      for (const auto& name : names) {
        INDRA_LET(s.xattrs[name], tree_.xattr(tx_, before, d.row.node, name));
      }
    }
    if (!added_.insert(d.row.node).second) {  // two names of one file
      s.kind = Kind::link;
      s.of_added = true;
    }
    steps.push_back(std::move(s));
    if (!S_ISDIR(d.row.mode)) return {};
    INDRA_LET(const auto all, deleted_from(tx_, now_, d.row.node));
    std::set<std::string> names;
    for (const Deleted& child : all)
      if ((d.actor == 0 || child.actor == d.actor) && names.insert(child.name).second)
        INDRA_TRY(add(child, {d.row.node, child.name}, below(path, child.name)));
    return {};
  }
  std::vector<MergeStep> steps;

 private:
  Tx& tx_;
  Tree& tree_;
  const Chain& now_;
  std::unordered_set<NodeId> added_;
};

}  // namespace

Result<std::optional<FoundNode>> find_node(Tx& tx, Tree& tree, const Chain& chain, NodeId root,
                                           std::string_view path) {
  FoundNode f;
  INDRA_LET(f.row, tree.node(tx, chain, root));
  for (std::size_t i = 0; i < path.size();) {
    const std::size_t end = std::min(path.find('/', i), path.size());
    const std::string_view name = path.substr(i, end - i);
    i = end + 1;
    if (name.empty()) continue;
    f.at = {f.row.node, std::string{name}};
    INDRA_LET(auto row, tree.lookup_node(tx, chain, f.at.parent, name));
    if (!row) return std::nullopt;
    f.row = std::move(*row);
  }
  return f;
}

Result<Tree::At> place_for(Tx& tx, Tree& tree, const Chain& now, NodeId root, std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const std::size_t slash = path.rfind('/');
  if (slash == path.npos || slash + 1 == path.size()) return fail(EINVAL, std::string{path});
  const std::string dir{path.substr(0, slash)};
  INDRA_LET(const auto parent, find_node(tx, tree, now, root, dir));
  if (!parent)
    return fail(ENOENT, dir + " is not there (any more); bring it back first, or name another place");
  if (!S_ISDIR(parent->row.mode)) return fail(ENOTDIR, dir);
  return Tree::At{parent->row.node, std::string{path.substr(slash + 1)}};
}

namespace {
Result<FoundNode> then_at(Tx& tx, Tree& tree, const RestoreViews& v, std::string_view path) {
  INDRA_LET(auto then, find_node(tx, tree, v.then, v.root, path));
  if (!then)
    return fail(ENOENT, std::string{path} +
                            " was not there then; `indrafs log` and `indrafs undelete` show what is kept");
  return std::move(*then);
}
}  // namespace

Result<std::vector<MergeStep>> plan_restore(Tx& tx, Tree& tree, const RestoreViews& v,
                                            std::string_view path) {
  INDRA_LET(const FoundNode then, then_at(tx, tree, v, path));
  INDRA_LET(const auto now, find_node(tx, tree, v.now, v.root, path));
  Tree::At at;
  if (now) {
    at = now->at;
  } else {
    INDRA_LET(at, place_for(tx, tree, v.now, v.root, path));
  }
  return Restorer{tx, tree, v}.in_place(now, then, at, std::string{path});
}

Result<std::vector<MergeStep>> plan_restore_beside(Tx& tx, Tree& tree, const RestoreViews& v,
                                                   std::string_view path, std::string_view to) {
  INDRA_LET(const FoundNode then, then_at(tx, tree, v, path));
  INDRA_LET(const auto taken, find_node(tx, tree, v.now, v.root, to));
  if (taken) return fail(EEXIST, std::string{to});
  INDRA_LET(const Tree::At at, place_for(tx, tree, v.now, v.root, to));
  return Restorer{tx, tree, v}.beside(then, at, std::string{to});
}

Result<std::vector<MergeStep>> plan_undelete(Tx& tx, Tree& tree, const Chain& now, const Deleted& d,
                                             const Tree::At& to, std::string_view path) {
  Undeleter u{tx, tree, now};
  INDRA_TRY(u.add(d, to, std::string{path}));
  return std::move(u.steps);
}

}  // namespace indra
