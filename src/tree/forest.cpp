// Branches, pins and paths from rows alone.
#include <algorithm>
#include <set>
#include <unordered_map>

#include "tree/check.h"
#include "tree/internal/checks.h"
#include "tree/internal/rows.h"
#include "tree/names_of.h"

namespace indra {

Result<Forest> Forest::read(Tx& tx) {
  Forest f;
  {
    Statement q{tx, "SELECT id, bucket, name, parent, fork_seq, root, hidden, protect FROM branches"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      BranchInfo b{.id = q.id_at<BranchId>(0),
                   .bucket = q.id_at<BucketId>(1),
                   .name = std::string{q.text_at(2)},
                   .parent = q.id_at<BranchId>(3),
                   .fork_seq = q.id_at<Seq>(4),
                   .root = q.id_at<NodeId>(5),
                   .hidden = q.int64_at(6) != 0,
                   .protect = q.int64_at(7) != 0};
      f.branches_[b.id] = std::move(b);
    }
  }
  Statement q{tx, "SELECT branch, seq, name, kind FROM pins WHERE kind < 4 ORDER BY branch, seq"};
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return f;
    f.pins_[q.id_at<BranchId>(0)].push_back(q.id_at<Seq>(1));
    if (q.int64_at(3) == 0) f.snapshots_[{q.id_at<BranchId>(0), q.id_at<Seq>(1)}] = std::string{q.text_at(2)};
  }
}

const BranchInfo* Forest::branch(BranchId id) const {
  const auto it = branches_.find(id);
  return it == branches_.end() ? nullptr : &it->second;
}

bool Forest::has_head(BranchId id) const {
  const BranchInfo* b = branch(id);
  return b != nullptr && !b->hidden;
}

Chain Forest::chain(BranchId id, Seq limit) const {
  std::vector<Chain::Link> links{{id, limit}};
  for (const BranchInfo* b = branch(id); b != nullptr && b->parent; b = branch(b->parent)) {
    if (links.size() > branches_.size()) break;  // a circle
    limit = std::min(limit, b->fork_seq);
    links.push_back({b->parent, limit});
  }
  return Chain{std::move(links)};
}

std::optional<Seq> Forest::pin_within(BranchId id, Seq from, Seq until) const {
  const auto it = pins_.find(id);
  if (it == pins_.end()) return std::nullopt;
  const auto at = std::lower_bound(it->second.begin(), it->second.end(), from);
  if (at == it->second.end() || *at >= until) return std::nullopt;
  return *at;
}

Seq Forest::last_pin(BranchId id) const {
  const auto it = pins_.find(id);
  return it == pins_.end() || it->second.empty() ? Seq{} : it->second.back();
}

std::string Forest::title(BranchId id, Seq moment) const {
  const BranchInfo* b = branch(id);
  std::string name = b == nullptr ? "#" + std::to_string(id.raw()) : b->name;
  if (b != nullptr && b->hidden) name += " (deleted)";
  if (moment == kSeqMax) return "branch " + name;
  if (const auto it = snapshots_.find({id, moment}); it != snapshots_.end()) return "snapshot " + it->second;
  return "branch " + name + " as of change " + std::to_string(moment.raw());
}

Result<std::string> path_of(Tx& tx, const Forest& forest, BranchId branch, Seq moment, NodeId node) {
  const BranchInfo* b = forest.branch(branch);
  if (b == nullptr) return "#" + std::to_string(node.raw());
  const Chain chain = forest.chain(branch, moment);
  std::string path;
  std::set<NodeId> seen;
  for (NodeId at = node; at != b->root;) {
    rows::Nodes::Row row;
    INDRA_LET(const bool found, rows::find<rows::Nodes>(tx, chain, {at}, row));
    std::optional<NamePlace> place;
    if (found && row.mode != 0 && seen.insert(at).second) {
      INDRA_LET(const auto names, names_of(tx, chain, at));
      for (const NamePlace& p : names)
        if (!place || p.parent == row.parent) place = p;
    }
    if (!place) return "#" + std::to_string(at.raw()) + path;
    path = "/" + place->name + path;
    at = place->parent;
  }
  return path.empty() ? "/" : path;
}

Result<std::vector<Use>> uses_of(Tx& tx, const Forest& forest, const std::vector<BlobId>& blobs,
                                 std::size_t limit) {
  std::vector<Use> out;
  std::unordered_map<BlobId, std::size_t> count;
  for (const bool past : {false, true}) {
    Statement q{tx, past ? "SELECT blob, branch, node, seq, until FROM nodes_past WHERE blob IS NOT NULL"
                         : "SELECT blob, branch, node, seq, 0 FROM nodes WHERE blob IS NOT NULL"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      const auto blob = q.id_at<BlobId>(0);
      if (!std::binary_search(blobs.begin(), blobs.end(), blob) || count[blob] >= limit) continue;
      Use u{blob, q.id_at<BranchId>(1), q.id_at<NodeId>(2)};
      if (past || !forest.has_head(u.branch)) {
        const auto pin = forest.pin_within(u.branch, q.id_at<Seq>(3), past ? q.id_at<Seq>(4) : kSeqMax);
        if (!pin) continue;
        u.moment = *pin;
      }
      ++count[blob];
      out.push_back(u);
    }
  }
  std::sort(out.begin(), out.end(), [](const Use& a, const Use& b) { return a.blob < b.blob; });
  return out;
}

Result<std::vector<Use>> views_of(Tx& tx, const Forest& forest, const std::vector<BlobId>& blobs,
                                  std::size_t limit) {
  std::set<std::pair<BlobId, NodeId>> files;
  for (const char* sql : {"SELECT blob, node FROM nodes WHERE blob IS NOT NULL",
                          "SELECT blob, node FROM nodes_past WHERE blob IS NOT NULL"}) {
    Statement q{tx, sql};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      if (const auto blob = q.id_at<BlobId>(0); std::binary_search(blobs.begin(), blobs.end(), blob))
        files.emplace(blob, q.id_at<NodeId>(1));
    }
  }
  std::vector<Use> out;
  std::unordered_map<BlobId, std::size_t> count;
  const auto look = [&](BranchId branch, Seq moment) -> Result<void> {
    const Chain chain = forest.chain(branch, moment);
    for (const auto& [blob, node] : files) {
      if (count[blob] >= limit) continue;
      rows::Nodes::Row row;
      INDRA_LET(const bool found, rows::find<rows::Nodes>(tx, chain, {node}, row));
      if (!found || row.blob != blob) continue;
      ++count[blob];
      out.push_back({blob, branch, node, moment});
    }
    return {};
  };
  for (const auto& [id, info] : forest.branches())
    if (!info.hidden) INDRA_TRY(look(id, kSeqMax));
  for (const auto& [place, name] : forest.snapshots()) INDRA_TRY(look(place.first, place.second));
  INDRA_LET(const auto rows, uses_of(tx, forest, blobs, limit));
  for (const Use& u : rows)
    if (u.moment != kSeqMax && !forest.snapshots().contains({u.branch, u.moment}) && count[u.blob]++ < limit)
      out.push_back(u);
  return out;
}

Result<void> check_tree(Tx& tx, Checking& c) {
  INDRA_LET(const Forest forest, Forest::read(tx));
  INDRA_TRY(checks::check_rows(tx, c, forest));
  return checks::check_names(tx, c, forest);
}

}  // namespace indra
