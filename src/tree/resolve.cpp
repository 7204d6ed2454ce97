// Reading: which row of a key a view shows (T1..T3), and listing.
#include <sys/stat.h>

#include <algorithm>

#include "tree/internal/tree_impl.h"

namespace indra {

using rows::Edges;
using rows::Nodes;
using rows::Xattrs;

void rows::read_node(const Statement& q, int c, NodeRow& r) {
  r.branch = q.id_at<BranchId>(c);
  r.seq = q.id_at<Seq>(c + 1);
  r.mode = static_cast<std::uint32_t>(q.int64_at(c + 2));
  r.nlink = static_cast<std::uint32_t>(q.int64_at(c + 3));
  r.uid = static_cast<std::uint32_t>(q.int64_at(c + 4));
  r.gid = static_cast<std::uint32_t>(q.int64_at(c + 5));
  r.size = static_cast<std::uint64_t>(q.int64_at(c + 6));
  if (q.is_null(c + 7))
    r.stored.reset();
  else
    r.stored = static_cast<std::uint64_t>(q.int64_at(c + 7));
  r.blob = q.id_at<BlobId>(c + 8);
  r.mtime = q.int64_at(c + 9);
  r.atime = r.mtime + q.int64_at(c + 10);
  r.ctime = r.mtime + q.int64_at(c + 11);
  r.btime = r.mtime + q.int64_at(c + 12);
  r.parent = q.id_at<NodeId>(c + 13);
  r.line = q.id_at<NodeId>(c + 14);
  r.flags = static_cast<std::uint32_t>(q.int64_at(c + 15));
  r.rdev = static_cast<std::uint64_t>(q.int64_at(c + 16));
  r.target = q.text_at(c + 17);
}

Result<Edges::Row> TreeImpl::edge(Tx& tx, const Chain& chain, const Edges::Key& key) {
  Edges::Row row;
  INDRA_TRY(rows::find<Edges>(tx, chain, key, row));
  return row;
}

Result<std::optional<Edge>> TreeImpl::lookup(Tx& tx, const Chain& chain, NodeId parent,
                                             std::string_view name) {
  if (name.size() > 255) return fail(ENAMETOOLONG);
  const auto key = key_of(parent, name);
  INDRA_LET(const Edges::Row row, edge(tx, chain, key));
  if (row.gone()) return std::nullopt;
  return Edge{row.node, row.type, static_cast<std::uint64_t>(key.cookie)};
}

Result<NodeRow> TreeImpl::node(Tx& tx, const Chain& chain, NodeId id) {
  NodeRow row;
  INDRA_LET(const bool found, rows::find<Nodes>(tx, chain, {id}, row));
  if (!found || row.mode == 0) return fail(ENOENT);
  return row;
}

Result<std::optional<NodeRow>> TreeImpl::lookup_node(Tx& tx, const Chain& chain, NodeId parent,
                                                     std::string_view name) {
  INDRA_LET(const std::optional<Edge> e, lookup(tx, chain, parent, name));
  if (!e) return std::nullopt;
  INDRA_LET(NodeRow row, node(tx, chain, e->node));
  return row;
}

namespace {

/// The rows of one name, as a scan brings them: (branches of the edge) x (branches of its node).
struct Entry {
  std::int64_t cookie = 0;
  std::string name;
  int depth = INT_MAX;  // of the best edge row so far
  Edges::Row edge;
  int node_depth = INT_MAX;  // of the best node row of that edge so far
  bool ask = false;          // the node's visible row is not among the scanned ones
  NodeRow row;

  void start(std::int64_t c, std::string_view n) {
    cookie = c;
    name.assign(n);
    depth = node_depth = INT_MAX;
    ask = false;
  }
};

}  // namespace

Result<void> TreeImpl::list(Tx& tx, const Chain& chain, NodeId parent, std::uint64_t after, bool plus,
                            int limit, const std::function<bool(const Listed&)>& sink) {
  if (after > INT64_MAX) return {};
  auto q = Statement{tx, plus ? "SELECT e.cookie, e.name, e.branch, e.seq, e.node, e.type, " INDRA_NODE_COLUMNS("n.")
                                " FROM edges e LEFT JOIN nodes n ON n.node = e.node WHERE e.parent = ?1 AND e.cookie > ?2"
                                " ORDER BY e.cookie, e.name, e.branch"
                              : "SELECT cookie, name, branch, seq, node, type FROM edges WHERE parent = ?1 AND cookie > ?2"
                                " ORDER BY cookie, name, branch"};
  q.bind(1, parent).bind(2, static_cast<std::int64_t>(after));

  Entry e;
  e.name.reserve(255);
  int given = 0;
  std::int64_t last_cookie = -1;
  const auto give = [&]() -> Result<bool> {  // false: the sink has enough
    if (e.depth == INT_MAX || e.edge.gone()) return true;
    if (plus && (e.ask || e.node_depth == INT_MAX)) {
      INDRA_LET(const bool found, rows::find<Nodes>(tx, chain, {e.edge.node}, e.row));
      if (!found) e.row.mode = 0;
    }
    ++given;
    last_cookie = e.cookie;
    return sink(Listed{e.name, Edge{e.edge.node, e.edge.type, static_cast<std::uint64_t>(e.cookie)},
                       plus && e.row.mode != 0 ? &e.row : nullptr});
  };

  bool any = false, taken = false;  // taken: the rows of this edge branch are the best so far
  BranchId sub;
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) break;
    const std::int64_t cookie = q.int64_at(0);
    const std::string_view name = q.text_at(1);
    const BranchId branch = q.id_at<BranchId>(2);
    const bool next = !any || cookie != e.cookie || name != e.name;
    if (next) {
      if (any) {
        INDRA_LET(const bool more, give());
        if (!more) return {};
      }
      if (given >= limit && cookie != last_cookie) return {};
      e.start(cookie, name);
      any = true;
    }
    if (next || branch != sub) {
      sub = branch;
      taken = false;
      const int depth = chain.depth_of(branch);
      if (depth >= 0 && depth < e.depth) {
        const Seq bound = chain.links()[static_cast<std::size_t>(depth)].limit;
        if (q.int64_at(3) <= bound.raw()) {
          e.edge.branch = branch;
          e.edge.seq = q.id_at<Seq>(3);
          e.edge.node = q.id_at<NodeId>(4);
          e.edge.type = static_cast<std::uint32_t>(q.int64_at(5)) << 12;
          taken = true;
          e.ask = false;
        } else {
          INDRA_LET(const bool past,
                    rows::find_past<Edges>(tx, {parent, cookie, e.name}, branch, bound, e.edge));
          if (!past) continue;
          e.ask = true;
        }
        e.depth = depth;
        e.node_depth = INT_MAX;
      }
    }
    if (!plus || !taken || e.ask || e.edge.gone() || q.is_null(6)) continue;
    const int depth = chain.depth_of(q.id_at<BranchId>(6));
    if (depth < 0 || depth >= e.node_depth) continue;
    if (q.int64_at(7) <= chain.links()[static_cast<std::size_t>(depth)].limit.raw()) {
      e.row.node = e.edge.node;
      rows::read_node(q, 6, e.row);
      if (!e.row.line) e.row.line = e.row.node;
      e.node_depth = depth;
    } else {
      e.ask = true;  // perhaps a past row
    }
  }
  if (any) INDRA_TRY(give());
  return {};
}

Result<bool> TreeImpl::empty(Tx& tx, const Chain& chain, NodeId dir) {
  bool none = true;
  INDRA_TRY(list(tx, chain, dir, 0, false, 1, [&](const Listed&) { return none = false; }));
  return none;
}

Result<std::optional<Bytes>> TreeImpl::xattr(Tx& tx, const Chain& chain, NodeId id, std::string_view name) {
  Xattrs::Row row;
  INDRA_LET(const bool found, rows::find<Xattrs>(tx, chain, {id, name}, row));
  if (!found || row.gone()) return std::nullopt;
  return std::move(row.value);
}

Result<std::vector<std::string>> TreeImpl::xattrs(Tx& tx, const Chain& chain, NodeId id) {
  std::vector<std::string> candidates, names;
  {
    auto q = Statement{tx, "SELECT DISTINCT name FROM xattrs WHERE node = ?1 ORDER BY name"};
    q.bind(1, id);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      candidates.emplace_back(q.text_at(0));
    }
  }
  for (auto& name : candidates) {
    INDRA_LET(const auto value, xattr(tx, chain, id, name));
    if (value) names.push_back(std::move(name));
  }
  return names;
}

}  // namespace indra
