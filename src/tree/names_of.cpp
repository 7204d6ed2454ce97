#include "tree/names_of.h"

#include "tree/internal/rows.h"

namespace indra {

// As rows::find() walks rows and chain together, but for all rows of all levels.
Result<std::set<NamePlace>> places_of(Tx& tx, const Chain& chain, NodeId node) {
  std::set<NamePlace> all;
  const auto& links = chain.links();
  for (
      const char* sql :
      {"SELECT branch, parent, cookie, name FROM edges WHERE node = ?1 AND branch <= ?2 ORDER BY branch DESC",
       "SELECT branch, parent, cookie, name FROM edges_past WHERE node = ?1 AND branch <= ?2 ORDER BY branch "
       "DESC"}) {
    auto q = Statement{tx, sql};
    q.bind(1, node).bind(2, chain.descends() ? links.front().branch : BranchId{INT64_MAX});
    std::size_t level = 0;
    for (int strangers = 0;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      const auto branch = q.id_at<BranchId>(0);
      if (chain.depth_of(branch) >= 0) {
        all.insert({q.id_at<NodeId>(1), q.int64_at(2), std::string{q.text_at(3)}});
        continue;
      }
      if (++strangers <= rows::kPassOver || !chain.descends()) continue;
      while (level < links.size() && links[level].branch > branch) ++level;
      if (level == links.size()) break;
      q.reset();
      q.bind(1, node).bind(2, links[level].branch);
      strangers = 0;
    }
  }
  return all;
}

Result<std::set<NamePlace>> names_of(Tx& tx, const Chain& chain, NodeId node) {
  INDRA_LET(auto all, places_of(tx, chain, node));
  for (auto it = all.begin(); it != all.end();) {
    rows::Edges::Row shown;
    INDRA_TRY(rows::find<rows::Edges>(tx, chain, {it->parent, it->cookie, it->name}, shown));
    it = shown.node == node ? std::next(it) : all.erase(it);
  }
  return all;
}

Result<std::optional<std::string>> name_in(Tx& tx, const Chain& chain, NodeId node, NodeId parent) {
  INDRA_LET(const auto all, names_of(tx, chain, node));
  for (const NamePlace& p : all)
    if (p.parent == parent) return std::optional{p.name};
  return std::nullopt;
}

}  // namespace indra
