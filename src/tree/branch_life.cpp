// A branch after its birth: renamed, protected, deleted, swept; and which moments of it can be had
// (docs/branches.md, B1..B5).
#include <algorithm>

#include "tree/internal/tree_impl.h"

namespace indra {

bool names_a_branch(std::string_view op) {
  return op == "branch" || op == "snapshot" || op == "branch_delete" || op == "branch_rename" ||
         op == "snapshot_delete" || op == "merge";
}

Result<BranchInfo> TreeImpl::branch(Tx&, BranchId id) {
  INDRA_LET(const BranchState* s, state(id));
  return s->info;
}

Result<Tree::KeptMoment> TreeImpl::moment_at_time(Tx& tx, BranchId id, TimeNs when) {
  if (when > clock_.now()) return fail(EINVAL, "that moment is in the future");
  Seq upto = kSeqMax;
  for (;;) {
    INDRA_LET(const BranchState* s, state(id));
    auto q = Statement{tx,
                       "SELECT seq, time FROM pins WHERE branch = ?1 AND seq > ?2 AND seq <= ?3 AND time <= "
                       "?4 AND kind < 4 ORDER BY seq DESC LIMIT 1"};
    INDRA_LET(const bool found, q.bind(1, id).bind(2, s->info.fork_seq).bind(3, upto).bind(4, when).step());
    if (found) return KeptMoment{id, q.id_at<Seq>(0), q.int64_at(1), q.int64_at(1) == when};
    if (!s->info.parent) return fail(ENOENT, "no moment is kept so early");
    upto = std::min(upto, s->info.fork_seq);
    id = s->info.parent;
  }
}

Result<Tree::KeptMoment> TreeImpl::moment_at_seq(Tx& tx, BranchId id, Seq at) {
  if (at > last_seq()) return fail(EINVAL, "seq " + std::to_string(at.raw()) + " is in the future");
  INDRA_LET(const Moment m, moment(tx, id, at));
  if (m.seq == kSeqMax) return KeptMoment{m.branch, m.seq, clock_.now(), true};
  auto q = Statement{tx, "SELECT MIN(time) FROM pins WHERE branch = ?1 AND seq = ?2 AND kind < 4"};
  INDRA_TRY(q.bind(1, m.branch).bind(2, m.seq).step());
  return KeptMoment{m.branch, m.seq, q.int64_at(0), m.seq == at};
}

Result<void> TreeImpl::rename_branch(Tx& tx, const Who& who, std::string_view bucket_name,
                                     std::string_view name, std::string_view to) {
  if (closed_) return fail(EROFS);
  INDRA_TRY(check_title("branch", to));
  INDRA_LET(const BranchInfo info, branch(tx, bucket_name, name));
  if (info.id == BranchId{1}) return fail(EPERM, "branch main keeps its name");
  if (info.protect) return fail(EPERM, "branch " + info.name + " is protected");
  if (name == to) return {};
  {
    auto q = Statement{tx, "SELECT 1 FROM branches WHERE bucket = ?1 AND name = ?2 AND hidden = 0"};
    INDRA_LET(const bool taken, q.bind(1, info.bucket).bind_text(2, to).step());
    if (taken) return fail(EEXIST, "branch " + std::string{to});
  }
  auto q = Statement{tx, "UPDATE branches SET name = ?2 WHERE id = ?1"};
  INDRA_TRY(q.bind(1, info.id).bind_text(2, to).run());
  INDRA_LET(BranchState * own, state(info.id));
  INDRA_LET(const std::int64_t s, seqs_.take(tx));
  INDRA_TRY(record(tx, who, *own, Seq{s}, Op::branch_rename, info.root, {}, to));
  own->info.name = to;
  return {};
}

Result<void> TreeImpl::protect_branch(Tx& tx, std::string_view bucket_name, std::string_view name, bool on) {
  if (closed_) return fail(EROFS);
  INDRA_LET(const BranchInfo info, branch(tx, bucket_name, name));
  auto q = Statement{tx, "UPDATE branches SET protect = ?2 WHERE id = ?1"};
  INDRA_TRY(q.bind(1, info.id).bind(2, std::int64_t{on}).run());
  INDRA_LET(BranchState * own, state(info.id));
  own->info.protect = on;
  return {};
}

Result<BranchInfo> TreeImpl::follow_branch(Tx& tx, std::string_view bucket_name, std::string_view name,
                                           bool on) {
  if (closed_) return fail(EROFS);
  INDRA_LET(const BranchInfo info, branch(tx, bucket_name, name));
  if (on && !info.parent) return fail(EINVAL, "branch " + info.name + " was forked from nothing");
  auto q = Statement{tx, "UPDATE branches SET follow = ?2 WHERE id = ?1"};
  INDRA_TRY(q.bind(1, info.id).bind(2, std::int64_t{on}).run());
  INDRA_LET(BranchState * own, state(info.id));
  own->info.follow = on;
  return own->info;
}

Result<Seq> TreeImpl::last_change(Tx&, BranchId id) {
  INDRA_LET(const BranchState* s, state(id));
  return s->last_change;
}

Result<BranchInfo> TreeImpl::delete_branch(Tx& tx, const Who& who, std::string_view bucket_name,
                                           std::string_view name) {
  if (closed_) return fail(EROFS);
  INDRA_LET(BranchInfo info, branch(tx, bucket_name, name));
  if (info.id == BranchId{1}) return fail(EPERM, "branch main cannot be deleted");
  if (info.protect) return fail(EPERM, "branch " + info.name + " is protected");
  INDRA_LET(BranchState * own, state(info.id));
  {
    auto q = Statement{tx, "UPDATE branches SET hidden = 1 WHERE id = ?1"};
    INDRA_TRY(q.bind(1, info.id).run());
  }
  {
    auto q = Statement{tx, "UPDATE pins SET kind = 4 WHERE branch = ?1 AND kind = 3"};
    INDRA_TRY(q.bind(1, info.id).run());
  }
  INDRA_LET(const std::int64_t s, seqs_.take(tx));
  INDRA_TRY(record(tx, who, *own, Seq{s}, Op::branch_delete, info.root, {}, name));
  INDRA_TRY(refresh_pins(tx, *own));
  own->info.hidden = info.hidden = true;
  return info;
}

// While others fork from it, or a snapshot of it stands, it stays as a hidden base (B3). A fork has the
// higher number: it goes before what it was forked from.
Result<std::vector<BranchId>> TreeImpl::sweepable(Tx& tx) {
  std::vector<BranchId> all;
  auto q =
      Statement{tx,
                "SELECT id FROM branches b WHERE hidden = 1 AND NOT EXISTS(SELECT 1 FROM branches c WHERE "
                "c.parent = b.id) AND NOT EXISTS(SELECT 1 FROM pins p WHERE p.branch = b.id AND p.kind = "
                "0) ORDER BY id DESC"};
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return all;
    const auto id = q.id_at<BranchId>(0);
    if (const auto it = branches_.find(id); it == branches_.end() || !it->second.scratch) all.push_back(id);
  }
}

Result<int> TreeImpl::sweep_rows(Tx& tx, BranchId id, int limit) {
  static constexpr const char* kPlain[] = {
      "DELETE FROM edges WHERE (parent, cookie, name, branch) IN (SELECT parent, cookie, name, branch FROM "
      "edges WHERE branch = ?1 AND branch <> 1 LIMIT ?2)",
      "DELETE FROM xattrs WHERE (node, name, branch) IN (SELECT node, name, branch FROM xattrs WHERE branch "
      "= ?1 AND branch <> 1 LIMIT ?2)",
      "DELETE FROM edges_past WHERE (parent, cookie, name, branch, seq) IN (SELECT parent, cookie, name, "
      "branch, seq FROM edges_past WHERE branch = ?1 LIMIT ?2)",
      "DELETE FROM xattrs_past WHERE (node, name, branch, seq) IN (SELECT node, name, branch, seq FROM "
      "xattrs_past WHERE branch = ?1 LIMIT ?2)"};
  int n = 0;
  for (const char* sql : kPlain) {
    if (n >= limit) return n;
    auto q = Statement{tx, sql};
    INDRA_TRY(q.bind(1, id).bind(2, std::int64_t{limit - n}).run());
    n += static_cast<int>(tx.db().changes());
  }
  struct Row {
    NodeId node;
    Seq seq;
    BlobId blob;
  };
  for (const bool past : {false, true}) {
    if (n >= limit) return n;
    std::vector<Row> rows;
    {
      auto q = Statement{
          tx, past ? "SELECT node, seq, blob FROM nodes_past WHERE branch = ?1 LIMIT ?2"
                   : "SELECT node, seq, blob FROM nodes WHERE branch = ?1 AND branch <> 1 LIMIT ?2"};
      q.bind(1, id).bind(2, std::int64_t{limit - n});
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        rows.push_back({q.id_at<NodeId>(0), q.id_at<Seq>(1), q.id_at<BlobId>(2)});
      }
    }
    for (const Row& r : rows) {
      auto q = Statement{tx, past ? "DELETE FROM nodes_past WHERE node = ?1 AND branch = ?2 AND seq = ?3"
                                  : "DELETE FROM nodes WHERE node = ?1 AND branch = ?2 AND seq = ?3"};
      INDRA_TRY(q.bind(1, r.node).bind(2, id).bind(3, r.seq).run());
      INDRA_TRY(drop_ref(tx, r.blob));
      ++n;
    }
  }
  return n;
}

Result<void> TreeImpl::forget_branch(Tx& tx, const BranchState& s) {
  const BranchInfo info = s.info;
  std::vector<std::pair<BranchId, Seq>> taken;  // moments of others that are kept for its merges
  {
    auto q = Statement{tx, "SELECT source, source_seq FROM merges WHERE target = ?1 AND source <> ?1"};
    q.bind(1, info.id);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      taken.emplace_back(q.id_at<BranchId>(0), q.id_at<Seq>(1));
    }
  }
  for (const char* sql : {"DELETE FROM pins WHERE branch = ?1", "DELETE FROM merges WHERE target = ?1",
                          "DELETE FROM merges WHERE source = ?1", "DELETE FROM kept WHERE branch = ?1",
                          "DELETE FROM kept WHERE source = ?1", "DELETE FROM branches WHERE id = ?1"}) {
    auto q = Statement{tx, sql};
    INDRA_TRY(q.bind(1, info.id).run());
  }
  for (const auto& [source, moment] : taken) INDRA_TRY(relax_pin(tx, source, moment, true));
  if (info.parent) {
    // Who has merged it contains its fork point too: a moment that merges start from (G1).
    auto q = Statement{tx,
                       "UPDATE pins SET kind = CASE WHEN EXISTS(SELECT 1 FROM merges WHERE source = ?1 AND "
                       "source_seq = ?2) THEN 2 ELSE 4 END WHERE id = (SELECT id FROM pins WHERE branch = ?1 "
                       "AND seq = ?2 AND kind = 1 LIMIT 1)"};
    INDRA_TRY(q.bind(1, info.parent).bind(2, info.fork_seq).run());
    INDRA_LET(BranchState * parent, state(info.parent));
    INDRA_TRY(refresh_pins(tx, *parent));
  }
  branches_.erase(info.id);
  return {};
}

Result<int> TreeImpl::sweep(Tx& tx, int limit, const std::function<bool(BranchId)>& in_use) {
  if (closed_) return fail(EROFS);
  int n = 0;
  for (bool gone = true; gone && n < limit;) {  // with a branch its base may have become free
    gone = false;
    INDRA_LET(const auto all, sweepable(tx));
    for (const BranchId id : all) {
      if (n >= limit) return n;
      const auto known = branches_.find(id);
      if (known == branches_.end() || in_use(id)) continue;
      INDRA_LET(const int rows, sweep_rows(tx, id, limit - n));
      n += rows;
      if (n >= limit) return n;
      INDRA_TRY(forget_branch(tx, known->second));
      ++n;
      gone = true;
    }
  }
  return n;
}

}  // namespace indra
