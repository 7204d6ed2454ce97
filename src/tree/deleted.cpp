#include "tree/deleted.h"

#include <sys/stat.h>

#include <algorithm>
#include <climits>
#include <functional>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "tree/internal/change_rows.h"
#include "tree/internal/names.h"
#include "tree/internal/rows.h"

namespace indra {

using rows::Edges;
using rows::Nodes;

namespace {

constexpr int kSlice = 500;  // changes looked at while others wait

/// A name that went at `gone`: from the past, or a tombstone over what an ancestor has.
struct Gone {
  NodeId parent;
  std::int64_t cookie = 0;
  std::string name;
  Seq gone;
  NodeId node;  // what it meant; 0: what the ancestor has
};

Result<void> gather(Tx& tx, const char* sql, NodeId dir, BranchId own, std::vector<Gone>& out) {
  auto q = Statement{tx, sql};
  q.bind(1, own).bind(2, dir);
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return {};
    out.push_back(
        {q.id_at<NodeId>(0), q.int64_at(1), std::string{q.text_at(2)}, q.id_at<Seq>(3), q.id_at<NodeId>(4)});
  }
}

/// Who, when; false when it was no removal but a move.
Result<bool> tell_who(Tx& tx, Deleted& d) {
  auto q =
      Statement{tx,
                "SELECT c.time, c.actor, a.uid, a.pid, a.program, a.front_end, c.op, c.node FROM changes c "
                "LEFT JOIN actors a ON a.id = c.actor WHERE c.seq = ?1"};
  INDRA_LET(const bool told, q.bind(1, d.gone).step());
  if (!told) return true;
  d.time = q.int64_at(0) * 1'000'000;
  d.actor = q.int64_at(1);
  d.who = {static_cast<std::uint32_t>(q.int64_at(2)), static_cast<std::int32_t>(q.int64_at(3)),
           std::string{q.text_at(4)}, std::string{q.text_at(5)}};
  const std::string_view op = op_name(static_cast<int>(q.int64_at(6)));
  return op != "exchange" && (op != "rename" || q.id_at<NodeId>(7) != d.row.node);
}

/// The last row of a node that is kept from before `gone`.
Result<bool> last_kept(Tx& tx, const Chain& chain, NodeId id, Deleted& d) {
  {
    auto q = Statement{tx, "SELECT " INDRA_NODE_COLUMNS("") ", until FROM nodes_past WHERE node = ?1 AND branch = ?2 "
                           "AND seq < ?3 AND mode <> 0 AND nlink <> 0 ORDER BY seq DESC LIMIT 1"};
    INDRA_LET(const bool row, q.bind(1, id).bind(2, chain.branch()).bind(3, d.gone).step());
    if (row) {
      Nodes::read(q, {id}, d.row);
      d.seen = Seq{q.int64_at(Nodes::kUntil) - 1};
      return true;
    }
  }
  d.seen = Seq{0};
  INDRA_LET(const bool inherited, rows::find<Nodes>(tx, chain, {id}, d.row, 1));
  return inherited && d.row.mode != 0 && d.row.nlink != 0;
}

/// The document that had the name, if it is gone with it.
Result<std::optional<Deleted>> document(Tx& tx, const Chain& chain, const Gone& g) {
  const Edges::Key key{g.parent, g.cookie, g.name};
  NodeId node = g.node;
  if (!node) {
    Edges::Row above;
    INDRA_TRY(rows::find<Edges>(tx, chain, key, above, 1));
    if (above.gone()) return std::nullopt;
    node = above.node;
  }
  NodeRow now;
  INDRA_LET(const bool there, rows::find<Nodes>(tx, chain, {node}, now));
  if (there && now.mode != 0 && now.nlink != 0) return std::nullopt;  // moved, or has another name
  Deleted d{.parent = g.parent, .name = g.name, .gone = g.gone, .row = {}, .seen = {}, .who = {}};
  INDRA_LET(const bool kept, last_kept(tx, chain, node, d));
  if (!kept) return std::nullopt;
  INDRA_LET(const bool removed, tell_who(tx, d));
  if (!removed) return std::nullopt;
  // What took its place, then or since, may be the same document.
  for (const Chain& c : {limited(chain, g.gone), chain}) {
    Edges::Row after;
    INDRA_TRY(rows::find<Edges>(tx, c, key, after));
    if (after.gone()) continue;
    NodeRow next;
    INDRA_LET(const bool found, rows::find<Nodes>(tx, c, {after.node}, next));
    if (found && next.line == d.row.line && S_ISREG(next.mode) && S_ISREG(d.row.mode)) return std::nullopt;
  }
  return d;
}

}  // namespace

Chain limited(const Chain& chain, Seq limit) {
  auto links = chain.links();
  links.front().limit = limit;
  return Chain{std::move(links)};
}

Result<DeletedSlice> list_deleted(Tx& tx, Tree& tree, const Chain& chain, Seq before) {
  DeletedSlice out;
  std::vector<Gone> all;
  {
    auto q =
        Statement{tx,
                  "SELECT seq, branch, op, node, parent, name, extra FROM changes WHERE seq < ?1 ORDER BY "
                  "seq DESC LIMIT ?2"};
    q.bind(1, before).bind(2, std::int64_t{kSlice});
    for (int n = 1;; ++n) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      if (n == kSlice) out.next = q.id_at<Seq>(0);
      if (q.id_at<BranchId>(1) != chain.branch() || q.is_null(4) || q.is_null(5)) continue;
      const std::string_view op = op_name(static_cast<int>(q.int64_at(2)));
      NodeId node;
      if (op == "unlink" || op == "rmdir") node = q.id_at<NodeId>(3);
      const ByteView extra = q.blob_at(6);
      if (op == "rename" && extra.size() >= 16) node = NodeId{load_le<std::int64_t>(extra.data() + 8)};
      if (node) all.push_back({q.id_at<NodeId>(4), 0, std::string{q.text_at(5)}, q.id_at<Seq>(0), node});
    }
  }
  if (all.empty()) return out;
  INDRA_LET(const NameHash hash, name_hash(tx));
  for (Gone& g : all) {
    g.cookie = hash.cookie(g.name);
    const auto dir = tree.node(tx, chain, g.parent);
    if (!dir && dir.error().code != std::errc::no_such_file_or_directory) return fail(dir.error());
    if (!dir || dir->nlink == 0) continue;
    INDRA_LET(auto d, document(tx, chain, g));
    if (d) out.items.push_back(std::move(*d));
  }
  return out;
}

Result<std::vector<Deleted>> deleted_from(Tx& tx, const Chain& chain, NodeId dir) {
  std::vector<Gone> all;
  INDRA_TRY(
      gather(tx,
             "SELECT parent, cookie, name, until, node FROM edges_past WHERE parent = ?2 AND branch = ?1 "
             "AND node IS NOT NULL",
             dir, chain.branch(), all));
  INDRA_TRY(gather(tx,
                   "SELECT parent, cookie, name, seq, node FROM edges WHERE parent = ?2 AND branch = ?1 AND "
                   "node IS NULL",
                   dir, chain.branch(), all));
  std::sort(all.begin(), all.end(), [](const Gone& x, const Gone& y) { return x.gone > y.gone; });
  std::vector<Deleted> out;
  std::set<std::pair<std::string, NodeId>> known;
  for (const Gone& g : all) {
    INDRA_LET(auto d, document(tx, chain, g));
    if (d && known.insert({d->name, d->row.line}).second) out.push_back(std::move(*d));
  }
  return out;
}

Result<std::optional<Deleted>> deleted_still(Tx& tx, const Chain& chain, const Deleted& d) {
  INDRA_LET(const NameHash hash, name_hash(tx));
  return document(tx, chain, {d.parent, hash.cookie(d.name), d.name, d.gone, d.row.node});
}

}  // namespace indra
