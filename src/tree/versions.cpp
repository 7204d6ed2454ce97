// The versions of a line: which nodes bore it, which of their rows are kept, and from which moment each is
// seen.
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "tree/diff.h"
#include "tree/internal/change_rows.h"
#include "tree/internal/names.h"
#include "tree/internal/rows.h"
#include "tree/names_of.h"

namespace indra {

using rows::Edges;
using rows::Nodes;

namespace {

struct Kept {
  NodeRow row;
  Seq until;  // kSeqMax: the branch's current row
};

/// The rows of a node that the view shows or has shown.
Result<void> rows_of(Tx& tx, const Chain& chain, NodeId id, NodeId line, std::vector<Kept>& out) {
  for (const char* sql : {"SELECT " INDRA_NODE_COLUMNS("") " FROM nodes WHERE node = ?1",
                          "SELECT " INDRA_NODE_COLUMNS("") ", until FROM nodes_past WHERE node = ?1"}) {
    const bool past = std::string_view{sql}.find(", until") != std::string_view::npos;
    auto q = Statement{tx, sql};
    q.bind(1, id);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      Kept k;
      k.row.node = id;
      rows::read_node(q, 0, k.row);
      if (!k.row.line) k.row.line = id;
      k.until = past ? q.id_at<Seq>(Nodes::kUntil) : kSeqMax;
      const int depth = chain.depth_of(k.row.branch);
      if (depth < 0 || k.row.seq > chain.links()[static_cast<std::size_t>(depth)].limit) continue;
      if (k.row.line == line && k.row.mode != 0 && k.row.nlink != 0) out.push_back(std::move(k));
    }
  }
  return {};
}

Result<void> nodes_at(Tx& tx, const NamePlace& p, std::set<NodeId>& out) {
  for (const char* sql : {"SELECT node FROM edges WHERE parent = ?1 AND cookie = ?2 AND name = ?3",
                          "SELECT node FROM edges_past WHERE parent = ?1 AND cookie = ?2 AND name = ?3"}) {
    auto q = Statement{tx, sql};
    Edges::bind(q, {p.parent, p.cookie, p.name});
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      if (!q.is_null(0)) out.insert(q.id_at<NodeId>(0));
    }
  }
  return {};
}

/// All rows of a line: from its place to the nodes that bore it there, from these to where they were before,
/// and so on.
Result<std::vector<Kept>> rows_of_line(Tx& tx, const Chain& chain, NamePlace first, NodeId line) {
  std::vector<Kept> kept;
  std::set<NamePlace> places{std::move(first)}, asked;
  std::set<NodeId> done;
  while (!places.empty()) {
    const NamePlace p = std::move(places.extract(places.begin()).value());
    if (!asked.insert(p).second) continue;
    std::set<NodeId> nodes;
    INDRA_TRY(nodes_at(tx, p, nodes));
    for (const NodeId id : nodes) {
      if (!done.insert(id).second) continue;
      const std::size_t before = kept.size();
      INDRA_TRY(rows_of(tx, chain, id, line, kept));
      if (kept.size() == before) continue;  // another line's
      INDRA_LET(auto of_it, places_of(tx, chain, id));
      places.merge(of_it);
    }
  }
  return kept;
}

/// The first pin that shows what lies in [from, until) of a branch; 0 when there is none.
Result<Seq> seen_from(Tx& tx, BranchId branch, Seq from, Seq until, Seq limit) {
  auto q = Statement{
      tx,
      "SELECT MIN(seq) FROM pins WHERE branch = ?1 AND seq >= ?2 AND seq < ?3 AND seq <= ?4 AND kind < 4"};
  INDRA_TRY(q.bind(1, branch).bind(2, from).bind(3, until).bind(4, limit).step());
  return q.id_at<Seq>(0);
}

Result<void> tell_who(Tx& tx, Version& v) {
  auto q = Statement{tx,
                     "SELECT c.op, c.time, a.uid, a.pid, a.program, a.front_end FROM changes c LEFT JOIN "
                     "actors a ON a.id = c.actor WHERE c.seq = ?1"};
  INDRA_LET(const bool told, q.bind(1, v.seq).step());
  if (!told) return {};
  v.op = op_name(static_cast<int>(q.int64_at(0)));
  v.time = q.int64_at(1) * 1'000'000;
  v.who = {static_cast<std::uint32_t>(q.int64_at(2)), static_cast<std::int32_t>(q.int64_at(3)),
           std::string{q.text_at(4)}, std::string{q.text_at(5)}};
  return {};
}

}  // namespace

Result<std::vector<Version>> line_versions(Tx& tx, const Chain& chain, NodeId parent, std::string_view name) {
  INDRA_LET(const NameHash hash, name_hash(tx));
  NamePlace here{parent, hash.cookie(name), std::string{name}};
  Edges::Row edge;
  INDRA_TRY(rows::find<Edges>(tx, chain, {here.parent, here.cookie, here.name}, edge));
  if (edge.gone()) return fail(ENOENT);
  NodeRow now;
  INDRA_LET(const bool found, rows::find<Nodes>(tx, chain, {edge.node}, now));
  if (!found || now.mode == 0) return fail(ENOENT);

  INDRA_LET(auto kept, rows_of_line(tx, chain, std::move(here), now.line));
  std::sort(kept.begin(), kept.end(), [](const Kept& x, const Kept& y) { return x.row.seq < y.row.seq; });
  std::vector<Version> all;
  for (Kept& k : kept) {
    if (all.empty() || all.back().row.blob != k.row.blob || all.back().row.node != k.row.node)
      all.push_back({.seq = k.row.seq, .at = {}, .row = k.row, .who = {}, .op = {}, .time = k.row.mtime});
    Version& v = all.back();
    // Else a chmod or a rename: the version is the same, and may be seen for longer.
    if (k.row.node == now.node && k.row.seq == now.seq && k.row.branch == now.branch) v.at = kSeqMax;
    if (v.at) continue;
    const Seq limit = chain.links()[static_cast<std::size_t>(chain.depth_of(k.row.branch))].limit;
    INDRA_LET(v.at, seen_from(tx, k.row.branch, k.row.seq, k.until, limit));
  }
  std::erase_if(all, [](const Version& v) { return !v.at; });  // being removed, or never seen at a moment
  for (Version& v : all) INDRA_TRY(tell_who(tx, v));
  std::reverse(all.begin(), all.end());
  return all;
}

}  // namespace indra
