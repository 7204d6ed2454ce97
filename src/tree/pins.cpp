// Pins: which moments stay readable, and the end of rows that no pin needs (T4, T9).
#include <algorithm>

#include "tree/internal/tree_impl.h"
#include "tree/prune.h"

namespace indra {

using rows::Edges;
using rows::Nodes;
using rows::Xattrs;

Result<Seq> TreeImpl::add_pin(Tx& tx, BranchState& own, PinKind kind, Seq at, std::string_view name,
                              std::string_view message) {
  auto q = Statement{
      tx, "INSERT INTO pins(branch, seq, kind, name, message, time) VALUES(?1, ?2, ?3, ?4, ?5, ?6)"};
  q.bind(1, own.info.id).bind(2, at).bind(3, static_cast<std::int64_t>(kind));
  if (name.empty())
    q.bind(4, nullptr);
  else
    q.bind_text(4, name);
  if (message.empty())
    q.bind(5, nullptr);
  else
    q.bind_text(5, message);
  INDRA_TRY(q.bind(6, clock_.now()).run());
  own.noted = writer_.mutations();
  own.last_pin = std::max(own.last_pin, at);
  if (kind != PinKind::automatic) own.last_hard = std::max(own.last_hard, at);
  return at;
}

Result<std::vector<PinInfo>> TreeImpl::pins(Tx& tx, std::string_view bucket_name,
                                            std::optional<PinKind> kind) {
  INDRA_LET(const BucketId b, bucket(tx, bucket_name));
  std::vector<PinInfo> all;
  auto q = Statement{tx,
                     "SELECT p.id, p.branch, p.seq, p.kind, p.name, p.message, p.time FROM pins p JOIN "
                     "branches b ON b.id = p.branch"
                     " WHERE b.bucket = ?1 AND p.kind < 4 AND (?2 IS NULL OR p.kind = ?2) ORDER BY p.id"};
  q.bind(1, b);
  if (kind)
    q.bind(2, static_cast<std::int64_t>(*kind));
  else
    q.bind(2, nullptr);
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return all;
    all.push_back({q.int64_at(0), q.id_at<BranchId>(1), q.id_at<Seq>(2), static_cast<PinKind>(q.int64_at(3)),
                   std::string{q.text_at(4)}, std::string{q.text_at(5)}, q.int64_at(6)});
  }
}

Result<PinInfo> TreeImpl::create_snapshot(Tx& tx, const Who& who, BranchId id, std::string_view name,
                                          std::string_view message) {
  if (closed_) return fail(EROFS);
  INDRA_TRY(check_title("snapshot", name));
  INDRA_LET(BranchState * own, state(id));
  {
    auto q = Statement{tx,
                       "SELECT 1 FROM pins p JOIN branches b ON b.id = p.branch WHERE p.kind = 0 AND p.name "
                       "= ?1 AND b.bucket = ?2"};
    INDRA_LET(const bool taken, q.bind_text(1, name).bind(2, own->info.bucket).step());
    if (taken) return fail(EEXIST, "snapshot " + std::string{name});
  }
  INDRA_LET(const Seq at, add_pin(tx, *own, PinKind::snapshot, last_seq(), name, message));
  PinInfo pin{tx.db().last_rowid(), id,          at, PinKind::snapshot, std::string{name},
              std::string{message}, clock_.now()};
  INDRA_LET(const std::int64_t s, seqs_.take(tx));
  INDRA_TRY(record(tx, who, *own, Seq{s}, Op::snapshot, {}, {}, name));
  return pin;
}

Result<void> TreeImpl::delete_snapshot(Tx& tx, const Who& who, std::string_view bucket_name,
                                       std::string_view name) {
  if (closed_) return fail(EROFS);
  INDRA_LET(const BucketId b, bucket(tx, bucket_name));
  std::int64_t id = 0;
  BranchId branch_id;
  {
    auto q = Statement{tx,
                       "SELECT p.id, p.branch FROM pins p JOIN branches b ON b.id = p.branch WHERE p.kind = "
                       "0 AND p.name = ?1 AND b.bucket = ?2"};
    INDRA_LET(const bool there, q.bind_text(1, name).bind(2, b).step());
    if (!there) return fail(ENOENT, "snapshot " + std::string{name});
    id = q.int64_at(0);
    branch_id = q.id_at<BranchId>(1);
  }
  auto q = Statement{tx, "UPDATE pins SET kind = 4 WHERE id = ?1"};
  INDRA_TRY(q.bind(1, id).run());
  INDRA_LET(BranchState * own, state(branch_id));
  INDRA_LET(const std::int64_t s, seqs_.take(tx));
  INDRA_TRY(record(tx, who, *own, Seq{s}, Op::snapshot_delete, {}, {}, name));
  return refresh_pins(tx, *own);
}

Result<void> TreeImpl::refresh_pins(Tx& tx, BranchState& own) {
  auto q = Statement{
      tx, "SELECT MAX(seq), MAX(CASE WHEN kind < 3 THEN seq END) FROM pins WHERE branch = ?1 AND kind < 4"};
  INDRA_TRY(q.bind(1, own.info.id).step());
  own.last_pin = q.id_at<Seq>(0);
  own.last_hard = q.id_at<Seq>(1);
  return {};
}

Result<int> TreeImpl::create_automatic_pins(Tx& tx) {
  if (closed_) return fail(EROFS);
  int n = 0;
  const Seq at = last_seq();
  INDRA_LET(const auto told, kept_by_buckets(tx));
  for (auto& [id, own] : branches_) {
    if (own.noted) {
      INDRA_TRY(refresh_pins(tx, own));
      if (writer_.mutations() > *own.noted) own.noted.reset();
    }
    if (own.info.hidden || own.last_change <= own.last_pin) continue;
    const auto keep = told.find(own.info.bucket);
    if (keep != told.end() && !keep->second.automatic) continue;
    INDRA_TRY(add_pin(tx, own, PinKind::automatic, at, {}, {}));
    ++n;
  }
  return n;
}

Result<int> TreeImpl::thin(Tx& tx, int limit) {
  if (closed_) return fail(EROFS);
  INDRA_LET(int n, choose_doomed(tx, limit));
  if (n >= limit) return n;
  INDRA_LET(const int rows, collect_past(tx, limit - n));
  return n + rows;
}

Result<int> TreeImpl::choose_doomed(Tx& tx, int limit) {
  INDRA_LET(const auto pins, outlived_pins(tx, clock_.now(), Retention::of(options_)));
  INDRA_LET(const int n, give_up(tx, pins, limit));
  if (n != 0)
    for (auto& [id, own] : branches_) INDRA_TRY(refresh_pins(tx, own));
  return n;
}

Result<int> TreeImpl::give_up_oldest(Tx& tx, int part) {
  if (closed_) return fail(EROFS);
  auto q =
      Statement{tx,
                "UPDATE pins SET kind = 4 WHERE id IN (SELECT id FROM pins WHERE kind = 3 ORDER BY time, id"
                " LIMIT (SELECT (COUNT(*) + ?1 - 1) / ?1 FROM pins WHERE kind = 3))"};
  INDRA_TRY(q.bind(1, std::int64_t{part}).run());
  const int n = static_cast<int>(tx.db().changes());
  if (n != 0)
    for (auto& [id, own] : branches_) INDRA_TRY(refresh_pins(tx, own));
  return n;
}

template <class T>
Result<void> TreeImpl::sweep_tombstone(Tx& tx, const Chain& chain, BranchState& own,
                                       const typename T::Key& key) {
  typename T::Row row;
  INDRA_LET(const bool found, rows::find_at<T>(tx, key, {own.info.id, kSeqMax}, row));
  if (!found) return {};
  bool gone = false;
  if constexpr (std::is_same_v<T, Nodes>)
    gone = row.mode == 0;
  else
    gone = row.gone();
  if (!gone) return {};
  INDRA_LET(const bool free, removable<T>(tx, chain, own, key));
  if (!free) return {};
  return delete_own<T>(tx, own, key);
}

// All given up pins between two live ones are done at once: a past row that ended between them, and began
// after the earlier one, is needed by neither.
Result<int> TreeImpl::collect_past(Tx& tx, int limit) {
  int n = 0;
  while (n < limit) {
    BranchId id;
    Seq pin;
    {
      auto q = Statement{tx, "SELECT branch, seq FROM pins WHERE kind = 4 ORDER BY branch, seq LIMIT 1"};
      INDRA_LET(const bool row, q.step());
      if (!row) return n;
      id = q.id_at<BranchId>(0);
      pin = q.id_at<Seq>(1);
    }
    Seq before, next = kSeqMax;
    {
      auto q = Statement{tx,
                         "SELECT (SELECT MAX(seq) FROM pins WHERE branch = ?1 AND seq <= ?2 AND kind < 4),"
                         " (SELECT MIN(seq) FROM pins WHERE branch = ?1 AND seq > ?2 AND kind < 4)"};
      INDRA_TRY(q.bind(1, id).bind(2, pin).step());
      before = q.id_at<Seq>(0);
      if (!q.is_null(1)) next = q.id_at<Seq>(1);
    }
    INDRA_LET(BranchState * own, state(id));
    INDRA_LET(const Chain view, chain_of(id, kSeqMax));
    const int start = n;

    struct Dead {
      std::int64_t a, b;
      std::string name;
      std::int64_t seq;
      BlobId blob;
    };
    std::vector<Dead> dead;
    const auto gather = [&](const char* sql) -> Result<void> {
      dead.clear();
      auto q = Statement{tx, sql};
      q.bind(1, id).bind(2, pin).bind(3, next).bind(4, before).bind(5, std::int64_t{limit - n});
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) return {};
        dead.push_back(
            {q.int64_at(0), q.int64_at(1), std::string{q.text_at(2)}, q.int64_at(3), q.id_at<BlobId>(4)});
      }
    };
    INDRA_TRY(
        gather("SELECT parent, cookie, name, seq, NULL FROM edges_past WHERE branch = ?1 AND until > ?2 AND "
               "until <= ?3 AND seq > ?4 LIMIT ?5"));
    for (const Dead& d : dead) {
      const Edges::Key key{NodeId{d.a}, d.b, d.name};
      {
        auto q = Statement{tx,
                           "DELETE FROM edges_past WHERE parent = ?1 AND cookie = ?2 AND name = ?3 AND "
                           "branch = ?4 AND seq = ?5"};
        Edges::bind(q, key);
        INDRA_TRY(q.bind(4, id).bind(5, d.seq).run());
      }
      INDRA_TRY(sweep_tombstone<Edges>(tx, view, *own, key));
      ++n;
    }
    INDRA_TRY(
        gather("SELECT node, 0, name, seq, NULL FROM xattrs_past WHERE branch = ?1 AND until > ?2 AND until "
               "<= ?3 AND seq > ?4 LIMIT ?5"));
    for (const Dead& d : dead) {
      const Xattrs::Key key{NodeId{d.a}, d.name};
      {
        auto q = Statement{
            tx, "DELETE FROM xattrs_past WHERE node = ?1 AND name = ?2 AND branch = ?3 AND seq = ?4"};
        Xattrs::bind(q, key);
        INDRA_TRY(q.bind(3, id).bind(4, d.seq).run());
      }
      INDRA_TRY(sweep_tombstone<Xattrs>(tx, view, *own, key));
      ++n;
    }
    INDRA_TRY(
        gather("SELECT node, 0, NULL, seq, blob FROM nodes_past WHERE branch = ?1 AND until > ?2 AND until "
               "<= ?3 AND seq > ?4 LIMIT ?5"));
    for (const Dead& d : dead) {
      {
        auto q = Statement{tx, "DELETE FROM nodes_past WHERE node = ?1 AND branch = ?2 AND seq = ?3"};
        INDRA_TRY(q.bind(1, d.a).bind(2, id).bind(3, d.seq).run());
      }
      INDRA_TRY(drop_ref(tx, d.blob));
      INDRA_TRY(sweep_tombstone<Nodes>(tx, view, *own, {NodeId{d.a}}));
      ++n;
    }
    if (n >= limit) return n;  // perhaps more: the pin stays until a call finds nothing
    if (n == start) {
      auto q = Statement{tx, "DELETE FROM pins WHERE branch = ?1 AND kind = 4 AND seq >= ?2 AND seq < ?3"};
      INDRA_TRY(q.bind(1, id).bind(2, pin).bind(3, next).run());
      n += static_cast<int>(tx.db().changes());
      INDRA_TRY(refresh_pins(tx, *own));  // they may have been given up by others than us
    }
  }
  return n;
}

}  // namespace indra
