#include "tree/diff.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "tree/internal/change_rows.h"
#include "tree/internal/names.h"
#include "tree/internal/rows.h"

namespace indra {

using rows::Edges;
using rows::Nodes;

namespace {

constexpr int kDeepest = 4096;

/// A directory entry's key, as a value.
struct Key {
  NodeId parent;
  std::int64_t cookie;
  std::string name;
  auto operator<=>(const Key&) const = default;
};
struct Place {
  NodeId parent;
  std::string name;
  auto operator<=>(const Place&) const = default;
};

/// Everything that may differ: gathered from rows and from the change log, compared afterwards.
struct Candidates {
  std::unordered_set<NodeId> nodes;
  std::set<Key> edges;
  std::set<Place> names;  // from the log, which does not hold cookies
};

Result<void> each_node(Tx& tx, Candidates& c, const char* sql, BranchId b, Seq lo, Seq hi) {
  auto q = Statement{tx, sql};
  q.bind(1, b).bind(2, lo).bind(3, hi);
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return {};
    c.nodes.insert(q.id_at<NodeId>(0));
  }
}

Result<void> each_edge(Tx& tx, Candidates& c, const char* sql, BranchId b, Seq lo, Seq hi) {
  auto q = Statement{tx, sql};
  q.bind(1, b).bind(2, lo).bind(3, hi);
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return {};
    c.edges.insert(Key{q.id_at<NodeId>(0), q.int64_at(1), std::string{q.text_at(2)}});
  }
}

/// All of a branch's own rows: it is in one of the views only.
Result<void> gather_branch(Tx& tx, Candidates& c, BranchId b) {
  INDRA_TRY(
      each_edge(tx, c,
                "SELECT parent, cookie, name FROM edges WHERE branch = ?1 AND branch <> 1 AND seq > ?2 AND "
                "seq <= ?3",
                b, Seq{}, kSeqMax));
  INDRA_TRY(each_edge(
      tx, c, "SELECT parent, cookie, name FROM edges_past WHERE branch = ?1 AND until > ?2 AND seq <= ?3", b,
      Seq{}, kSeqMax));
  for (const char* sql :
       {"SELECT node FROM nodes WHERE branch = ?1 AND branch <> 1 AND seq > ?2 AND seq <= ?3",
        "SELECT node FROM nodes_past WHERE branch = ?1 AND until > ?2 AND seq <= ?3",
        "SELECT node FROM xattrs WHERE branch = ?1 AND branch <> 1 AND seq > ?2 AND seq <= ?3",
        "SELECT node FROM xattrs_past WHERE branch = ?1 AND until > ?2 AND seq <= ?3"})
    INDRA_TRY(each_node(tx, c, sql, b, Seq{}, kSeqMax));
  return {};
}

/// What one branch did after `lo`, up to `hi`. A replaced row that was seen at `lo` lies in the past; what is
/// new stands in the log.
Result<void> gather_span(Tx& tx, Candidates& c, BranchId b, Seq lo, Seq hi) {
  if (lo >= hi) return {};
  INDRA_TRY(each_edge(
      tx, c, "SELECT parent, cookie, name FROM edges_past WHERE branch = ?1 AND until > ?2 AND seq <= ?3", b,
      lo, hi));
  for (const char* sql : {"SELECT node FROM nodes_past WHERE branch = ?1 AND until > ?2 AND seq <= ?3",
                          "SELECT node FROM xattrs_past WHERE branch = ?1 AND until > ?2 AND seq <= ?3"})
    INDRA_TRY(each_node(tx, c, sql, b, lo, hi));
  {
    auto q = Statement{tx, "SELECT CAST(value AS INTEGER) FROM properties WHERE name = 'changes_removed'"};
    INDRA_LET(const bool row, q.step());
    const Seq removed = row ? q.id_at<Seq>(0) : Seq{};
    q.reset();
    if (removed > lo) {
      INDRA_TRY(each_edge(
          tx, c, "SELECT parent, cookie, name FROM edges WHERE branch = ?1 AND seq > ?2 AND seq <= ?3", b, lo,
          hi));
      for (const char* sql : {"SELECT node FROM nodes WHERE branch = ?1 AND seq > ?2 AND seq <= ?3",
                              "SELECT node FROM xattrs WHERE branch = ?1 AND seq > ?2 AND seq <= ?3"})
        INDRA_TRY(each_node(tx, c, sql, b, lo, hi));
      return {};
    }
  }
  auto q = Statement{
      tx,
      "SELECT op, node, parent, name, extra FROM changes WHERE seq > ?2 AND seq <= ?3 AND branch = ?1 "
      "AND op < 12"};
  q.bind(1, b).bind(2, lo).bind(3, hi);
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return {};
    const std::int64_t op = q.int64_at(0);
    if (!q.is_null(1)) c.nodes.insert(q.id_at<NodeId>(1));
    const bool entry =
        op <= 8 || op == 11;  // an xattr's name is none of an entry; a write's is a whole file's
    if (entry && !q.is_null(2) && !q.is_null(3))
      c.names.insert({q.id_at<NodeId>(2), std::string{q.text_at(3)}});
    const ByteView extra = q.blob_at(4);
    if (op == 8 && extra.size() >= 16) c.nodes.insert(NodeId{load_le<std::int64_t>(extra.data() + 8)});
    if ((op == 7 || op == 11) && extra.size() > 16) {
      c.names.insert({NodeId{load_le<std::int64_t>(extra.data())}, std::string{as_text(extra.subspan(16))}});
      if (const NodeId other{load_le<std::int64_t>(extra.data() + 8)}) c.nodes.insert(other);
    }
  }
}

Result<Candidates> gather(Tx& tx, const Chain& a, const Chain& b) {
  Candidates c;
  std::size_t in_a = 0;
  int in_b = -1;
  for (; in_a < a.links().size(); ++in_a)
    if ((in_b = b.depth_of(a.links()[in_a].branch)) >= 0) break;
  if (in_b < 0) return fail(EXDEV, "the two have no past in common");
  for (std::size_t i = 0; i < in_a; ++i) INDRA_TRY(gather_branch(tx, c, a.links()[i].branch));
  for (int i = 0; i < in_b; ++i)
    INDRA_TRY(gather_branch(tx, c, b.links()[static_cast<std::size_t>(i)].branch));
  const Chain::Link &x = a.links()[in_a], &y = b.links()[static_cast<std::size_t>(in_b)];
  INDRA_TRY(gather_span(tx, c, x.branch, std::min(x.limit, y.limit), std::max(x.limit, y.limit)));
  return c;
}

/// One of the two: rows, names and paths of what was gathered.
class Side {
 public:
  Side(Tx& tx, const Chain& chain, NodeId root) : tx_{tx}, chain_{chain}, root_{root} {
    names_[root].insert(Place{});
  }

  Result<Edges::Row> edge(const Key& k) {
    Edges::Row row;
    INDRA_TRY(rows::find<Edges>(tx_, chain_, {k.parent, k.cookie, k.name}, row));
    if (!row.gone()) names_[row.node].insert({k.parent, k.name});
    return row;
  }
  /// Null when the view has no such node, or it has no name.
  Result<const NodeRow*> node(NodeId id) {
    auto it = nodes_.find(id);
    if (it == nodes_.end()) {
      std::optional<NodeRow> kept;
      NodeRow row;
      INDRA_LET(const bool found, rows::find<Nodes>(tx_, chain_, {id}, row));
      if (found && row.mode != 0 && (row.nlink != 0 || id == root_)) kept = std::move(row);
      it = nodes_.emplace(id, std::move(kept)).first;
    }
    return it->second ? &*it->second : nullptr;
  }
  /// The names of `ids` that edges gathered so far do not tell: each directory is read once.
  Result<void> find_names(const std::vector<NodeId>& ids) {
    std::map<NodeId, std::unordered_set<NodeId>> in;
    std::unordered_set<NodeId> anywhere;
    for (const NodeId id : ids) {
      if (id == root_) continue;
      INDRA_LET(const NodeRow* row, node(id));
      if (row == nullptr) continue;
      const auto known = names_.find(id);
      const std::size_t n = known == names_.end() ? 0 : known->second.size();
      if (!S_ISDIR(row->mode) && (row->nlink > 1 || !row->parent)) {
        if (n < row->nlink) anywhere.insert(id);
      } else if (n == 0 && row->parent) {
        in[row->parent].insert(id);
      }
    }
    for (const auto& [parent, wanted] : in)
      INDRA_TRY(scan("SELECT parent, cookie, name, branch, seq, node FROM edges WHERE parent = ?1", parent,
                     wanted));
    if (!anywhere.empty())
      INDRA_TRY(
          scan("SELECT parent, cookie, name, branch, seq, node FROM edges WHERE ?1 = 0", NodeId{}, anywhere));
    return {};
  }
  [[nodiscard]] std::set<Place> names(NodeId id) const {
    const auto it = names_.find(id);
    return it == names_.end() ? std::set<Place>{} : it->second;
  }
  Result<std::optional<std::string>> path(const Place& p) {
    if (!p.parent) return std::optional<std::string>{"/"};
    INDRA_LET(auto dir, directory(p.parent, 0));
    if (dir) dir->append("/").append(p.name);
    return dir;
  }
  Result<std::map<std::string, Bytes>> xattrs(NodeId id) {
    std::map<std::string, Bytes> all;
    std::vector<std::string> names;
    {
      auto q = Statement{tx_, "SELECT DISTINCT name FROM xattrs WHERE node = ?1"};
      q.bind(1, id);
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        names.emplace_back(q.text_at(0));
      }
    }
    for (const auto& name : names) {
      rows::Xattrs::Row row;
      INDRA_LET(const bool found, rows::find<rows::Xattrs>(tx_, chain_, {id, name}, row));
      if (found && !row.gone()) all[name] = std::move(row.value);
    }
    return all;
  }

 private:
  Result<void> scan(const char* sql, NodeId parent, const std::unordered_set<NodeId>& wanted) {
    std::set<Key> keys;
    {
      auto q = Statement{tx_, sql};
      q.bind(1, parent);
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        const int depth = chain_.depth_of(q.id_at<BranchId>(3));
        if (depth < 0) continue;
        const bool past = q.int64_at(4) > chain_.links()[static_cast<std::size_t>(depth)].limit.raw();
        if (past || wanted.contains(q.id_at<NodeId>(5)))
          keys.insert({q.id_at<NodeId>(0), q.int64_at(1), std::string{q.text_at(2)}});
      }
    }
    for (const Key& k : keys) INDRA_TRY(edge(k));
    return {};
  }
  // Without its leading name for the root: "".
  Result<std::optional<std::string>> directory(NodeId id, int depth) {
    if (id == root_) return std::optional<std::string>{""};
    if (const auto it = paths_.find(id); it != paths_.end()) return it->second;
    std::optional<std::string> path;
    INDRA_LET(const NodeRow* row, node(id));
    if (row != nullptr && S_ISDIR(row->mode) && depth < kDeepest) {
      INDRA_TRY(find_names({id}));
      for (const Place& p : names(id)) {
        if (p.parent != row->parent) continue;
        INDRA_LET(path, directory(p.parent, depth + 1));
        if (path) path->append("/").append(p.name);
        break;
      }
    }
    paths_[id] = path;
    return path;
  }

  Tx& tx_;
  const Chain& chain_;
  const NodeId root_;
  std::unordered_map<NodeId, std::optional<NodeRow>> nodes_;
  std::unordered_map<NodeId, std::set<Place>> names_;
  std::unordered_map<NodeId, std::optional<std::string>> paths_;
};

}  // namespace

namespace {

/// What differs of one node or line that both have.
Result<bool> compare(Side& left, Side& right, DiffEntry& e) {
  const NodeRow &x = e.a->row, &y = e.b->row;
  e.content = (x.mode & S_IFMT) != (y.mode & S_IFMT) || x.blob != y.blob || x.target != y.target ||
              x.rdev != y.rdev || (S_ISREG(x.mode) && x.size != y.size);
  e.mode = (x.mode & 07777) != (y.mode & 07777);
  e.owner = x.uid != y.uid || x.gid != y.gid;
  if (((x.flags | y.flags) & kHasXattrs) != 0) {
    INDRA_LET(const auto of_x, left.xattrs(x.node));
    INDRA_LET(const auto of_y, right.xattrs(y.node));
    e.xattrs = of_x != of_y;
  }
  return e.moved || e.content || e.mode || e.owner || e.xattrs;
}

/// One name of a node that the other view does not have.
struct Lone {
  Place place;
  DiffEntry::Side side;
};

Result<void> one_node(Side& left, Side& right, NodeId id, std::vector<DiffEntry>& out,
                      std::vector<Lone>& gone, std::vector<Lone>& fresh) {
  INDRA_LET(const NodeRow* x, left.node(id));
  INDRA_LET(const NodeRow* y, right.node(id));
  const auto sides = [&](Side& s, const NodeRow* row) -> Result<std::vector<Lone>> {
    std::vector<Lone> all;
    if (row == nullptr) return all;
    for (const Place& p : s.names(id)) {
      INDRA_LET(auto path, s.path(p));
      if (path) all.push_back({p, {std::move(*path), *row, p.parent}});
    }
    return all;
  };
  INDRA_LET(auto in_a, sides(left, x));
  INDRA_LET(auto in_b, sides(right, y));
  const auto both = [&](Lone& p, Lone& q, bool moved) -> Result<void> {
    DiffEntry e;
    e.a = std::move(p.side);
    e.b = std::move(q.side);
    e.moved = moved;
    INDRA_LET(const bool differs, compare(left, right, e));
    if (differs) out.push_back(std::move(e));
    return {};
  };
  if (in_a.size() == 1 && in_b.size() == 1) return both(in_a[0], in_b[0], in_a[0].place != in_b[0].place);
  for (Lone& p : in_a) {
    const auto q = std::find_if(in_b.begin(), in_b.end(), [&](const Lone& o) { return o.place == p.place; });
    if (q == in_b.end()) {
      gone.push_back(std::move(p));
      continue;
    }
    INDRA_TRY(both(p, *q, false));
    in_b.erase(q);
  }
  for (Lone& q : in_b) fresh.push_back(std::move(q));
  return {};
}

}  // namespace

Result<std::vector<DiffEntry>> diff_views(Tx& tx, const Chain& a, const Chain& b, NodeId root) {
  INDRA_LET(Candidates c, gather(tx, a, b));
  INDRA_LET(const NameHash hash, name_hash(tx));
  for (const Place& p : c.names) c.edges.insert({p.parent, hash.cookie(p.name), p.name});
  Side left{tx, a, root}, right{tx, b, root};
  for (const Key& k : c.edges) {
    INDRA_LET(const Edges::Row x, left.edge(k));
    INDRA_LET(const Edges::Row y, right.edge(k));
    if (x.node) c.nodes.insert(x.node);
    if (y.node) c.nodes.insert(y.node);
  }
  const std::vector<NodeId> ids(c.nodes.begin(), c.nodes.end());
  INDRA_TRY(left.find_names(ids));
  INDRA_TRY(right.find_names(ids));

  std::vector<DiffEntry> out;
  std::vector<Lone> gone, fresh;
  for (const NodeId id : ids) INDRA_TRY(one_node(left, right, id, out, gone, fresh));
  // A line goes on in another node: a file that was saved by renaming a new one over it.
  // Where it is is looked at first: several names may bear one line.
  for (const bool in_place : {true, false}) {
    for (Lone& g : gone) {
      if (!g.side.row.node) continue;  // paired
      const auto f = std::find_if(fresh.begin(), fresh.end(), [&](const Lone& o) {
        return S_ISREG(g.side.row.mode) && S_ISREG(o.side.row.mode) && o.side.row.line == g.side.row.line &&
               (!in_place || o.place == g.place);
      });
      if (in_place && f == fresh.end()) continue;
      DiffEntry e;
      e.a = std::exchange(g.side, {});
      if (f == fresh.end()) {
        out.push_back(std::move(e));
        continue;
      }
      e.b = std::move(f->side);
      e.moved = f->place != g.place;
      fresh.erase(f);
      INDRA_LET(const bool differs, compare(left, right, e));
      if (differs) out.push_back(std::move(e));
    }
  }
  for (Lone& f : fresh) {
    DiffEntry e;
    e.b = std::move(f.side);
    out.push_back(std::move(e));
  }
  const auto path = [](const DiffEntry& e) -> const std::string& { return e.b ? e.b->path : e.a->path; };
  std::sort(out.begin(), out.end(), [&](const DiffEntry& x, const DiffEntry& y) {
    const int order = path(x).compare(path(y));
    return order != 0 ? order < 0 : !x.a && y.a;
  });
  return out;
}

}  // namespace indra
