// Reading: which row of a key a view shows (T1..T3), and listing.
#include <sys/stat.h>

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

// One scan over the directory's edges. Of a name that many branches have, only the first rows are read so:
// the lookup that leaps knows the one that is wanted, and the scan goes on behind the name (T3).
Result<void> TreeImpl::list(Tx& tx, const Chain& chain, NodeId parent, std::uint64_t after, bool plus,
                            int limit, const std::function<bool(const Listed&)>& sink) {
  if (after >= INT64_MAX) return {};
  auto q = Statement{tx,
                     "SELECT cookie, name, branch, seq, node, type FROM edges WHERE parent = ?1 AND (cookie, "
                     "name, branch) > (?2, ?3, ?4) ORDER BY cookie, name, branch"};
  const auto seek_behind = [&](std::int64_t cookie, std::string_view name) {
    q.bind(1, parent).bind(2, cookie).bind_blob(3, as_view(name)).bind(4, std::int64_t{INT64_MAX});
  };
  seek_behind(static_cast<std::int64_t>(after) + 1, "");

  std::int64_t cookie = -1, last_cookie = -1;
  std::string name, sought;
  name.reserve(255);

  Edges::Row best;
  NodeRow row;
  int given = 0;
  const auto give = [&]() -> Result<bool> {  // false: the sink has enough
    if (best.gone()) return true;
    bool found = false;
    if (plus) {
      INDRA_LET(found, rows::find<Nodes>(tx, chain, {best.node}, row));
    }
    ++given;
    last_cookie = cookie;
    return sink(Listed{name, Edge{best.node, best.type, static_cast<std::uint64_t>(cookie)},
                       found && row.mode != 0 ? &row : nullptr});
  };

  int rows_of_name = 0;
  for (;;) {
    INDRA_LET(const bool more, q.step());
    if (!more) break;
    const bool next = rows_of_name == 0 || q.int64_at(0) != cookie || q.text_at(1) != name;
    if (next) {
      if (rows_of_name != 0) {
        INDRA_LET(const bool go_on, give());
        if (!go_on) return {};
      }
      if (given >= limit && q.int64_at(0) != last_cookie) return {};
      cookie = q.int64_at(0);
      name.assign(q.text_at(1));
      best = {};
      rows_of_name = 0;
    }
    if (++rows_of_name > rows::kPassOver) {
      best = {};
      INDRA_TRY(rows::find<Edges>(tx, chain, {parent, cookie, name}, best));
      INDRA_LET(const bool go_on, give());
      if (!go_on) return {};
      rows_of_name = 0;
      q.reset();
      sought = name;
      seek_behind(cookie, sought);
      continue;
    }
    const auto branch = q.id_at<BranchId>(2);
    const int depth = chain.depth_of(branch);
    if (depth < 0 || (best.branch && depth >= chain.depth_of(best.branch))) continue;
    const Seq bound = chain.links()[static_cast<std::size_t>(depth)].limit;
    if (q.id_at<Seq>(3) <= bound) {
      best = {branch, q.id_at<Seq>(3), q.id_at<NodeId>(4), static_cast<std::uint32_t>(q.int64_at(5)) << 12};
    } else {
      Edges::Row past;
      INDRA_LET(const bool found, rows::find_past<Edges>(tx, {parent, cookie, name}, branch, bound, past));
      if (found) best = past;
    }
  }
  if (rows_of_name != 0) INDRA_TRY(give());
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
