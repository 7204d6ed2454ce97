// The audit log and feed: one row for each mutation, and who made it.
#include "tree/internal/change_rows.h"
#include "tree/internal/tree_impl.h"

namespace indra {

namespace {

constexpr std::size_t kActorsKept = 4096;

bool same(const Who& a, const Who& b) {
  return a.uid == b.uid && a.pid == b.pid && a.program == b.program && a.front_end == b.front_end;
}

std::string actor_key(const Who& w) {
  return std::to_string(w.uid) + ' ' + std::to_string(w.pid) + ' ' + w.front_end + '\0' + w.program;
}

}  // namespace

// A remembered actor's row may have been rolled back with the mutation that made it: until that mutation is
// durable the row is looked for, and made again.
Result<ActorId> TreeImpl::actor(Tx& tx, const Who& who) {
  KnownActor known = last_actor_;
  const bool last = known.id && same(who, last_who_);
  if (!last) {
    const auto it = actors_.find(actor_key(who));
    known = it == actors_.end() ? KnownActor{} : it->second;
  }
  if (known.id && writer_.durable() <= known.mutation) {
    auto q = Statement{
        tx,
        "SELECT 1 FROM actors WHERE id = ?1 AND uid = ?2 AND pid = ?3 AND program = ?4 AND front_end = ?5"};
    INDRA_LET(const bool there, q.bind(1, known.id)
                                    .bind(2, std::int64_t{who.uid})
                                    .bind(3, std::int64_t{who.pid})
                                    .bind_text(4, who.program)
                                    .bind_text(5, who.front_end)
                                    .step());
    if (!there) known = {};
  }
  if (known.id && last) return known.id;
  if (!known.id) {
    auto q = Statement{tx, "INSERT INTO actors(uid, pid, program, front_end) VALUES(?1, ?2, ?3, ?4)"};
    INDRA_TRY(q.bind(1, std::int64_t{who.uid})
                  .bind(2, std::int64_t{who.pid})
                  .bind_text(3, who.program)
                  .bind_text(4, who.front_end)
                  .run());
    known = {ActorId{tx.db().last_rowid()}, writer_.mutations()};
    if (actors_.size() >= kActorsKept) actors_.clear();
    actors_[actor_key(who)] = known;
  }
  last_who_ = who;
  last_actor_ = known;
  return known.id;
}

Result<void> TreeImpl::record(Tx& tx, const Who& who, const BranchState& own, Seq s, Op op, NodeId node,
                              NodeId parent, std::string_view name, ByteView extra) {
  if (own.scratch) return {};
  INDRA_LET(const ActorId by, actor(tx, who));
  auto q = Statement{tx,
                     "INSERT INTO changes(seq, branch, op, node, parent, name, time, actor, extra) "
                     "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"};
  q.bind(1, s)
      .bind(2, own.info.id)
      .bind(3, static_cast<std::int64_t>(op))
      .bind_or_null(4, node)
      .bind_or_null(5, parent);
  if (name.empty())
    q.bind(6, nullptr);
  else
    q.bind_blob(6, as_view(name));
  q.bind(7, clock_.now() / 1'000'000).bind(8, by);
  if (extra.empty())
    q.bind(9, nullptr);
  else
    q.bind_blob(9, extra);
  return q.run();
}

const char* op_name(int op) {
  static constexpr const char* kNames[] = {
      "?",      "create",        "mkdir",         "symlink",         "link",     "unlink", "rmdir",
      "rename", "write",         "attributes",    "xattr",           "exchange", "branch", "snapshot",
      "epoch",  "branch_delete", "branch_rename", "snapshot_delete", "merge"};
  return op > 0 && op < static_cast<int>(std::size(kNames)) ? kNames[op] : kNames[0];
}

Tree::ChangeRow read_change(const Statement& q) {
  Tree::ChangeRow c;
  c.seq = q.id_at<Seq>(0);
  c.branch = q.id_at<BranchId>(1);
  const auto op = static_cast<Op>(q.int64_at(2));
  c.op = op_name(static_cast<int>(op));
  c.node = q.id_at<NodeId>(3);
  c.line = q.is_null(12) ? c.node : q.id_at<NodeId>(12);
  c.parent = q.id_at<NodeId>(4);
  c.name = q.text_at(5);
  c.time = q.int64_at(6) * 1'000'000;
  c.who = {static_cast<std::uint32_t>(q.int64_at(8)), static_cast<std::int32_t>(q.int64_at(9)),
           std::string{q.text_at(10)}, std::string{q.text_at(11)}};
  const ByteView extra = q.blob_at(7);
  if ((op == Op::write || op == Op::create) && extra.size() >= 8)
    c.blob = BlobId{load_le<std::int64_t>(extra.data())};
  if (op == Op::write && extra.size() >= 16) c.other = NodeId{load_le<std::int64_t>(extra.data() + 8)};
  if ((op == Op::rename || op == Op::exchange) && extra.size() >= 16) {
    c.from_parent = NodeId{load_le<std::int64_t>(extra.data())};
    c.other = NodeId{load_le<std::int64_t>(extra.data() + 8)};
    c.from_name = as_text(extra.subspan(16));
  }
  return c;
}

Result<std::vector<Tree::ChangeRow>> TreeImpl::changes(Tx& tx, Seq after, int limit) {
  std::vector<ChangeRow> all;
  auto q = Statement{tx, INDRA_CHANGES_AFTER};
  q.bind(1, after).bind(2, std::int64_t{limit});
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return all;
    all.push_back(read_change(q));
  }
}

Result<int> TreeImpl::forget_changes(Tx& tx, std::int64_t keep, TimeNs before, int limit) {
  std::int64_t total = 0;
  if (keep != INT64_MAX) {  // counting reads them all
    auto q = Statement{tx, "SELECT COUNT(*) FROM changes"};
    INDRA_TRY(q.step());
    total = q.int64_at(0);
  }
  Seq upto;
  int n = 0;
  {
    auto q = Statement{
        tx, "SELECT seq, time FROM changes WHERE seq < (SELECT MAX(seq) FROM changes) ORDER BY seq LIMIT ?1"};
    q.bind(1, std::int64_t{limit});
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      const bool many = total - n > keep, old = q.int64_at(1) < before / 1'000'000;
      if (!many && !old) break;
      upto = q.id_at<Seq>(0);
      ++n;
    }
  }
  if (n == 0) return 0;
  {
    auto q = Statement{tx, "DELETE FROM changes WHERE seq <= ?1"};
    INDRA_TRY(q.bind(1, upto).run());
  }
  auto q = Statement{tx, "INSERT OR REPLACE INTO properties(name, value) VALUES('changes_removed', ?1)"};
  const std::string number = std::to_string(upto.raw());
  INDRA_TRY(q.bind_text(1, number).run());
  return n;
}

}  // namespace indra
