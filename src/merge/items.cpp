// What the source changed since the base, by lines; and the counterpart of each in the target.
#include <fnmatch.h>

#include <algorithm>

#include "merge/internal/planner.h"

namespace indra::merging {

Result<void> Planner::gather() {
  INDRA_LET(auto entries, diff_views(tx_, base_.chain(), source_.chain(), base_.root()));
  for (DiffEntry& e : entries) {
    const auto kept = e.a ? kept_.find(e.a->row.node) : kept_.end();
    if (kept != kept_.end() && !e.b) {  // the follower never had it, or deleted another version of it
      if (kept->second != Tree::own_name) conflict(Kind::deleted_here, Outcome::target, e.a->path);
      continue;
    }
    const std::uint32_t unsure = kept == kept_.end()                                           ? 0
                                 : (kept->second & (Tree::own_deletion | Tree::own_name)) == 0 ? kept->second
                                                                                               : ~0u;
    // A file that was made the backup is another line from then on: its old place is another item.
    const bool apart =
        e.a && e.b && S_ISREG(e.a->row.mode) && S_ISREG(e.b->row.mode) && e.a->row.line != e.b->row.line;
    if (apart) {
      if (unsure == 0) items_.push_back({std::move(e.a), {}, {}, {}});
      items_.push_back({{}, std::move(e.b), {}, {}});
    } else {
      items_.push_back({std::move(e.a), std::move(e.b), {}, {}, unsure});
    }
  }
  INDRA_TRY(join());
  std::erase_if(items_, [this](const Item& i) { return !wanted(i); });
  for (Item& i : items_) INDRA_TRY(find_target(i));
  return {};
}

// Removed here and made anew there is one thing that changed: a line that goes on in another node, or a file,
// symlink or directory that was deleted and made again at its path. A file that goes on under another name is
// not among them.
Result<void> Planner::join() {
  std::unordered_map<NodeId, std::size_t> by_line;
  std::map<std::pair<std::string, std::uint32_t>, std::size_t> by_path;
  for (std::size_t n = 0; n < items_.size(); ++n) {
    const Item& i = items_[n];
    if (i.s || !i.b) continue;
    if (S_ISREG(i.b->row.mode)) by_line[i.b->row.line] = n;
    by_path[{i.b->path, type_of(i.b->row)}] = n;
  }
  std::vector<bool> gone(items_.size());
  const auto take = [&](Item& fresh, std::size_t n) {
    if (gone[n]) return;
    fresh.b = std::move(items_[n].b);
    gone[n] = true;
    if (S_ISDIR(fresh.s->row.mode)) same_dir_[fresh.s->row.node] = fresh.b->row.node;
  };
  for (Item& i : items_) {
    if (i.b || !S_ISREG(i.s->row.mode)) continue;
    const auto it = by_line.find(i.s->row.line);
    if (it == by_line.end() || gone[it->second]) continue;
    const NodeRow& before = items_[it->second].b->row;
    INDRA_LET(const auto goes_on, source_.live(before.node));
    if (before.node == i.s->row.node || !goes_on || goes_on->line != before.line) take(i, it->second);
  }
  for (Item& i : items_) {
    const std::uint32_t type = type_of(i.row());
    if (i.b || (type != S_IFREG && type != S_IFLNK && type != S_IFDIR)) continue;
    const auto it = by_path.find({i.s->path, type});
    if (it == by_path.end() || gone[it->second]) continue;
    const NodeRow &before = items_[it->second].b->row, &after = i.s->row;
    INDRA_LET(const auto goes_on, source_.live(before.node));
    INDRA_LET(const auto was, base_.live(after.node));
    if ((!goes_on || goes_on->line != before.line) && (!was || was->line != after.line)) take(i, it->second);
  }
  std::size_t n = 0;
  std::erase_if(items_, [&](const Item&) { return static_cast<bool>(gone[n++]); });
  return {};
}

bool Planner::wanted(const Item& i) const {
  if (policy_.only.empty()) return true;
  const auto below = [](const std::string& path, std::string top) {
    while (top.size() > 1 && top.back() == '/') top.pop_back();
    return top == "/" || path == top || path.starts_with(top + "/");
  };
  return std::any_of(policy_.only.begin(), policy_.only.end(), [&](const std::string& top) {
    return (i.s && below(i.s->path, top)) || (i.b && below(i.b->path, top));
  });
}

Result<std::optional<NodeRow>> Planner::by_line(NodeId line, NodeId other) {
  std::optional<NodeRow> none;
  if (!target_lines_) {
    target_lines_.emplace();
    INDRA_LET(auto entries, diff_views(tx_, base_.chain(), target_.chain(), base_.root()));
    for (DiffEntry& e : entries)
      if (e.b && S_ISREG(e.b->row.mode)) target_lines_->emplace(e.b->row.line, std::move(*e.b));
  }
  for (const NodeId l : {line, other})
    if (const auto it = target_lines_->find(l); it != target_lines_->end())
      return std::optional{it->second.row};
  return none;
}

Result<void> Planner::find_target(Item& i) {
  const NodeRow &x = i.b ? i.b->row : i.s->row, &y = i.row();
  const bool file = S_ISREG(y.mode);
  const auto is_it = [&](const std::optional<NodeRow>& r) {
    if (!r || type_of(*r) != type_of(y)) return false;
    return !file || r->line == x.line || r->line == y.line;
  };
  for (const NodeId id : {x.node, y.node}) {
    INDRA_LET(auto row, target_.live(id));
    if (!is_it(row)) continue;
    i.t = std::move(row);
    return place_in_target(i);
  }
  if (!i.b) {
    if (!file) return {};
    // Only a merge that is no longer known of can have brought it.
    if (x.line == x.node) return {};
    INDRA_LET(i.t, by_line(x.line, y.line));
    return i.t ? place_in_target(i) : Result<void>{};
  }
  if (file) {
    INDRA_LET(auto row, target_.lookup(i.b->parent, name_of(i.b->path)));
    if (is_it(row)) {
      i.t = std::move(row);
    } else {
      INDRA_LET(i.t, by_line(x.line, y.line));
    }
    if (i.t) return place_in_target(i);
  }
  // Deleted and made again in the target: at its path there is something that the base does not know.
  if (!i.s || (!file && !S_ISDIR(y.mode) && !S_ISLNK(y.mode))) return {};
  INDRA_LET(auto row, target_.by_path(i.b->path));
  if (!row || type_of(*row) != type_of(y)) return {};
  INDRA_LET(const auto known, base_.live(row->node));
  INDRA_LET(const auto line, base_.live(row->line));
  if (known || line) return {};
  i.t = std::move(row);
  if (S_ISDIR(y.mode)) put_as_[y.node] = put_as_[canon(y.node)] = i.t->node;
  return place_in_target(i);
}

Result<void> Planner::place_in_target(Item& i) {
  std::vector<std::string> guesses;
  for (const auto* side : {&i.b, &i.s}) {
    if (!*side) continue;
    const std::string name = name_of((*side)->path);
    INDRA_LET(const auto row, target_.lookup((*side)->parent, name));
    if (row && row->node == i.t->node) {
      i.t_at = Tree::At{(*side)->parent, name};
      return {};
    }
    guesses.push_back(name);
  }
  INDRA_LET(auto name, target_.name_in(i.t->parent, i.t->node, guesses));
  if (name) i.t_at = Tree::At{i.t->parent, std::move(*name)};
  return {};
}

std::optional<MergeConflict::Outcome> Planner::policy(const std::string& path) const {
  if (policy_.own_wins) return Outcome::target;
  const auto fits = [&](const std::string& pattern) {
    const bool rooted = pattern.starts_with('/');
    return ::fnmatch(pattern.c_str(), path.c_str() + (rooted ? 0 : 1), 0) == 0 ||
           (!rooted && ::fnmatch(pattern.c_str(), name_of(path).c_str(), 0) == 0);
  };
  if (std::any_of(policy_.ours.begin(), policy_.ours.end(), fits)) return Outcome::target;
  if (std::any_of(policy_.theirs.begin(), policy_.theirs.end(), fits)) return Outcome::source;
  return std::nullopt;
}

void Planner::conflict(Kind kind, Outcome outcome, const std::string& path, std::string second,
                       std::string detail) {
  if (policy_.own_wins) return;
  plan_.conflicts.push_back({kind, outcome, path, std::move(second), std::move(detail)});
}

}  // namespace indra::merging
