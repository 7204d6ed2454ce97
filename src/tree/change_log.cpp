#include "tree/change_log.h"

#include <algorithm>

#include "tree/internal/change_rows.h"
#include "tree/internal/rows.h"
#include "tree/names_of.h"

namespace indra {

using rows::Nodes;

namespace {

constexpr std::size_t kNamesKept = 262'144;
constexpr int kDeepest = 4096;
constexpr std::int64_t kNear = 10'000;  // changes looked at before the tree is asked

bool below(std::string_view path, std::string_view top) {
  if (top == "/") return true;
  return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

}  // namespace

const std::vector<std::string>& change_kinds() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> names;
    for (int op = 1; op_name(op)[0] != '?'; ++op) names.emplace_back(op_name(op));
    return names;
  }();
  return all;
}

Result<ChangeLog> ChangeLog::open(Tx& tx, ChangeFilter filter) {
  ChangeLog log;
  for (const auto& kind : filter.kinds)
    if (std::find(change_kinds().begin(), change_kinds().end(), kind) == change_kinds().end()) {
      std::string all;
      for (const auto& k : change_kinds()) all += (all.empty() ? "" : ", ") + k;
      return fail(EINVAL, "there is no kind of change " + kind + "; there are " + all);
    }
  {
    auto q = Statement{tx, "SELECT id FROM buckets WHERE name = ?1"};
    INDRA_LET(const bool row, q.bind_text(1, filter.bucket).step());
    if (!row) return fail(ENOENT, "bucket " + filter.bucket);
    log.bucket_ = q.id_at<BucketId>(0);
  }
  log.filter_ = std::move(filter);
  INDRA_TRY(log.load_branches(tx));
  return log;
}

Result<Seq> ChangeLog::last(Tx& tx) {
  auto q = Statement{tx, "SELECT COALESCE(MAX(seq), 0) FROM changes"};
  INDRA_TRY(q.step());
  return q.id_at<Seq>(0);
}

Result<Seq> ChangeLog::removed(Tx& tx) {
  auto q = Statement{tx, "SELECT CAST(value AS INTEGER) FROM properties WHERE name = 'changes_removed'"};
  INDRA_LET(const bool row, q.step());
  return row ? q.id_at<Seq>(0) : Seq{};
}

Result<void> ChangeLog::load_branches(Tx& tx) {
  auto q = Statement{tx, "SELECT id, parent, bucket, fork_seq, root, name FROM branches"};
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return {};
    Branch& b = branches_[q.id_at<BranchId>(0)];
    b.id = q.id_at<BranchId>(0);
    b.parent = q.id_at<BranchId>(1);
    b.bucket = q.id_at<BucketId>(2);
    b.fork_seq = q.id_at<Seq>(3);
    b.root = q.id_at<NodeId>(4);
    b.name = q.text_at(5);
    b.chain.reset();
  }
}

Result<const ChangeLog::Branch*> ChangeLog::branch(Tx& tx, BranchId id) {
  auto it = branches_.find(id);
  if (it == branches_.end()) {
    INDRA_TRY(load_branches(tx));
    it = branches_.find(id);
  }
  return it == branches_.end() ? nullptr : &it->second;
}

// As the tree climbs (T2): each limit is bounded by the forks below it.
const Chain& ChangeLog::chain(Branch& b) {
  if (!b.chain) {
    std::vector<Chain::Link> links;
    Seq limit = kSeqMax;
    for (const Branch* at = &b;;) {
      links.push_back({at->id, limit});
      const auto up = branches_.find(at->parent);
      if (!at->parent || up == branches_.end()) break;
      limit = std::min(limit, at->fork_seq);
      at = &up->second;
    }
    b.chain.emplace(std::move(links));
  }
  return *b.chain;
}

// What an event says about names is what they were at its time: better than the tree, which may be ahead.
void ChangeLog::learn(const Tree::ChangeRow& c) {
  if (names_.size() > kNamesKept) names_.clear();
  if (c.op == "create" || c.op == "mkdir" || c.op == "symlink" || c.op == "link" || c.op == "rename" ||
      c.op == "exchange" || (c.op == "write" && !c.name.empty())) {
    names_[{c.branch, c.node}] = Name{c.parent, c.name};
    if (c.op == "exchange") names_[{c.branch, c.other}] = Name{c.from_parent, c.from_name};
    if ((c.op == "rename" || c.op == "write") && c.other) names_.erase({c.branch, c.other});
  } else if (c.op == "unlink") {
    const auto it = names_.find({c.branch, c.node});
    if (it != names_.end() && it->second && it->second->parent == c.parent && it->second->name == c.name)
      names_.erase(it);
  }
}

/// A name of `node` as the tree is now, in `parent` where it has one there.
Result<std::optional<ChangeLog::Name>> ChangeLog::name_now(Tx& tx, Branch& b, NodeId node, NodeId parent) {
  INDRA_LET(const auto all, names_of(tx, chain(b), node));
  std::optional<Name> found;
  for (const NamePlace& p : all)
    if (!found || p.parent == parent) found = Name{p.parent, p.name};
  return found;
}

/// For a node that has lost its name since: the first change after `at` that took it.
Result<std::optional<ChangeLog::Name>> ChangeLog::last_name(Tx& tx, const Branch& b, NodeId node, Seq at,
                                                            Seq upto) {
  std::byte id[8];
  store_le(id, node.raw());
  auto q = Statement{tx,
                     "SELECT op, parent, name, node = ?2, extra FROM changes WHERE seq > ?1 AND seq <= ?5 "
                     "AND branch = ?3 AND ("
                     "(op IN (5, 6, 7, 11) AND node = ?2) OR (op IN (7, 8, 11) AND substr(extra, 9, 8) = ?4))"
                     " ORDER BY seq LIMIT 1"};
  q.bind(1, at).bind(2, node).bind(3, b.id).bind_blob(4, {id, sizeof id}).bind(5, upto);
  INDRA_LET(const bool row, q.step());
  if (!row) return std::nullopt;
  const bool moved = q.int64_at(0) == 7 || q.int64_at(0) == 11;
  if (moved && q.int64_at(3) != 0) {
    const ByteView extra = q.blob_at(4);
    if (extra.size() < 16) return std::nullopt;
    return Name{NodeId{load_le<std::int64_t>(extra.data())}, std::string{as_text(extra.subspan(16))}};
  }
  return Name{q.id_at<NodeId>(1), std::string{q.text_at(2)}};
}

/// For a node that another took the name of shortly before, and that is written to all the same (T12).
Result<std::optional<ChangeLog::Name>> ChangeLog::lost_name(Tx& tx, const Branch& b, NodeId node, Seq at) {
  std::byte id[8];
  store_le(id, node.raw());
  auto q = Statement{tx,
                     "SELECT parent, name FROM changes WHERE seq <= ?1 AND seq > ?1 - ?4 AND branch = ?2 AND "
                     "op IN (7, 8) AND substr(extra, 9, 8) = ?3 ORDER BY seq DESC LIMIT 1"};
  q.bind(1, at).bind(2, b.id).bind_blob(3, {id, sizeof id}).bind(4, std::int64_t{kNear});
  INDRA_LET(const bool row, q.step());
  if (!row) return std::nullopt;
  return Name{q.id_at<NodeId>(0), std::string{q.text_at(1)}};
}

Result<std::optional<ChangeLog::Name>> ChangeLog::name_of(Tx& tx, Branch& b, NodeId node, NodeId hint,
                                                          Seq at) {
  if (const auto it = names_.find({b.id, node}); it != names_.end()) return it->second;
  // The change that moved or removed it soon after knows best; then the tree; then a change far off.
  const Seq near{at.raw() + kNear};
  INDRA_LET(std::optional<Name> name, last_name(tx, b, node, at, near));
  if (name) {
    names_[{b.id, node}] = name;
    return name;
  }
  NodeId parent = hint;
  NodeRow row;
  INDRA_LET(const bool there, rows::find<Nodes>(tx, chain(b), {node}, row));
  const bool lives = there && row.mode != 0 && row.nlink != 0;
  if (lives && row.parent) parent = row.parent;
  if (lives) {
    INDRA_LET(name, name_now(tx, b, node, parent));
  }
  if (!name) {
    INDRA_LET(name, last_name(tx, b, node, near, kSeqMax));
  }
  if (!name && !lives) {
    INDRA_LET(name, lost_name(tx, b, node, at));
  }
  names_[{b.id, node}] = name;
  return name;
}

Result<std::optional<std::string>> ChangeLog::path_of(Tx& tx, Branch& b, NodeId dir, Seq at) {
  std::string path;
  for (int depth = 0; dir != b.root; ++depth) {
    if (!dir || depth > kDeepest) return std::nullopt;
    INDRA_LET(const std::optional<Name> name, name_of(tx, b, dir, {}, at));
    if (!name) return std::nullopt;
    path.insert(0, "/" + name->name);
    dir = name->parent;
  }
  return path.empty() ? "/" : path;
}

Result<std::optional<std::string>> ChangeLog::path_of(Tx& tx, Branch& b, NodeId parent, std::string_view name,
                                                      Seq at) {
  INDRA_LET(std::optional<std::string> path, path_of(tx, b, parent, at));
  if (path) *path = (*path == "/" ? "" : *path) + "/" + std::string{name};
  return path;
}

/// False: the row is another bucket's.
Result<bool> ChangeLog::fill(Tx& tx, ChangeEvent& e) {
  Tree::ChangeRow& c = e.row;
  if (c.op == "epoch") return true;
  INDRA_LET(const Branch* found, branch(tx, c.branch));
  if (found == nullptr || found->bucket != bucket_) return false;
  Branch& b = branches_.at(c.branch);
  e.branch = b.name;
  learn(c);
  if (c.op == "xattr") {
    e.attribute = std::move(c.name);
    c.name.clear();
  }
  if (names_a_branch(c.op)) return true;
  if (!c.name.empty()) {
    INDRA_LET(e.path, path_of(tx, b, c.parent, c.name, c.seq));
  } else if (c.node == b.root) {
    e.path = "/";
  } else if (c.node) {
    INDRA_LET(const std::optional<Name> name, name_of(tx, b, c.node, c.parent, c.seq));
    if (name) {
      INDRA_LET(e.path, path_of(tx, b, name->parent, name->name, c.seq));
    }
  }
  if (c.from_parent) {
    INDRA_LET(e.from_path, path_of(tx, b, c.from_parent, c.from_name, c.seq));
  }
  return true;
}

bool ChangeLog::wanted(const ChangeEvent& e) const {
  const auto has = [](const std::vector<std::string>& list, const std::string& v) {
    return list.empty() || std::find(list.begin(), list.end(), v) != list.end();
  };
  if (e.row.op == "epoch") return true;
  if (!has(filter_.kinds, e.row.op)) return false;
  if (!filter_.branches.empty() && !has(filter_.branches, e.branch)) return false;
  if (filter_.subtrees.empty()) return true;
  return std::any_of(filter_.subtrees.begin(), filter_.subtrees.end(), [&](const auto& s) {
    if (s.branch != e.branch) return false;
    const auto inside = [&](const std::optional<std::string>& p) { return p && below(*p, s.path); };
    return inside(e.path) || inside(e.from_path);
  });
}

Result<ChangeLog::Batch> ChangeLog::read(Tx& tx, Seq after, int limit) {
  INDRA_LET(const Seq gone, removed(tx));
  if (after < gone) {
    auto q = Statement{tx, "SELECT MIN(seq) FROM changes"};
    INDRA_TRY(q.step());
    const std::string oldest = q.is_null(0) ? "" : "; the oldest kept is " + std::to_string(q.int64_at(0));
    return fail(ESTALE, "changes up to " + std::to_string(gone.raw()) + " are no longer kept" + oldest +
                            "; look at the tree itself, then go on from " + std::to_string(gone.raw()));
  }
  Batch batch;
  batch.upto = after;
  std::vector<Tree::ChangeRow> rows;
  {
    auto q = Statement{tx, INDRA_CHANGES_AFTER};
    q.bind(1, after).bind(2, std::int64_t{limit});
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      rows.push_back(read_change(q));
    }
  }
  batch.more = rows.size() == static_cast<std::size_t>(limit);
  for (auto& row : rows) {
    batch.upto = row.seq;
    ChangeEvent e;
    e.row = std::move(row);
    INDRA_LET(const bool ours, fill(tx, e));
    if (ours && wanted(e)) batch.events.push_back(std::move(e));
  }
  return batch;
}

}  // namespace indra
