// New content of a file: when it makes a version, and when it replaces one (T5, T6).
#include <sys/stat.h>

#include <algorithm>

#include "tree/internal/tree_impl.h"

namespace indra {

// Called for an own row that automatic pins alone need.
Result<TreeImpl::Budget> TreeImpl::budget(Tx& tx, const BranchState& own, const NodeRow& row) {
  const bool off = (row.flags & kNoVersions) != 0;
  if (!off) {
    const TimeNs* last = retained_.find({own.info.id, row.node});
    const auto rate = std::max<std::uint64_t>(options_.churn_bytes_per_second, 1);
    const auto gap =
        std::max(options_.min_version_gap,
                 static_cast<TimeNs>(std::min<std::uint64_t>(row.size / rate, 1'000'000'000)) * kSecond);
    if (last == nullptr || clock_.steady() - *last >= gap) return Budget{};
  }
  // What stands in for the version that is not kept: the one just before it.
  auto q = Statement{
      tx, "SELECT seq, until FROM nodes_past WHERE node = ?1 AND branch = ?2 ORDER BY seq DESC LIMIT 1"};
  INDRA_LET(const bool past, q.bind(1, row.node).bind(2, own.info.id).step());
  if (!past) return Budget{off, std::nullopt};
  const Seq kept = q.id_at<Seq>(0), until = q.id_at<Seq>(1);
  // A publish that replaced the last one took a later seq (T5). What lies between is seen by no pin.
  auto pins =
      Statement{tx, "SELECT 1 FROM pins WHERE branch = ?1 AND seq >= ?2 AND seq < ?3 AND kind < 4 LIMIT 1"};
  INDRA_LET(const bool between, pins.bind(1, own.info.id).bind(2, until).bind(3, row.seq).step());
  if (!between) return Budget{true, kept};
  return Budget{off, std::nullopt};
}

Result<void> TreeImpl::let_stand_in(Tx& tx, const NodeRow& old, Seq kept, Seq until) {
  NodeRow was;
  {
    auto q = Statement{
        tx, "SELECT " INDRA_NODE_COLUMNS("") " FROM nodes_past WHERE node = ?1 AND branch = ?2 AND seq = ?3"};
    INDRA_TRY(q.bind(1, old.node).bind(2, old.branch).bind(3, kept).step());
    rows::Nodes::read(q, {old.node}, was);
  }
  if (was.mode == old.mode && was.nlink == old.nlink && was.uid == old.uid && was.gid == old.gid &&
      was.parent == old.parent && was.line == old.line) {
    auto q = Statement{tx,
                       "UPDATE nodes_past SET until = ?4, flags = flags | 4 WHERE node = ?1 AND branch = ?2 "
                       "AND seq = ?3"};
    return q.bind(1, old.node).bind(2, old.branch).bind(3, kept).bind(4, until).run();
  }
  // It was linked, moved or chmoded since: that must not come undone with the content.
  NodeRow version = old;
  version.blob = was.blob;
  version.size = was.size;
  version.stored = was.stored;
  version.mtime = was.mtime;
  version.flags |= kStandsIn;
  INDRA_TRY(add_ref(tx, version.blob));
  return insert_past(tx, version, until);
}

Result<bool> TreeImpl::rewritable(Tx& tx, const Chain& chain, NodeId id) {
  INDRA_LET(const BranchState* own, writable(chain));
  INDRA_LET(const NodeRow row, node(tx, chain, id));
  if (row.branch != own->info.id || row.seq <= own->last_hard) return false;
  if (row.seq <= own->last_pin) {
    INDRA_LET(const Budget b, budget(tx, *own, row));
    if (!b.over) return false;
  }
  if (!row.blob) return true;
  // A row that was kept for a chmod, or a file with equal content, may share the blob.
  INDRA_LET(const BlobInfo info, store_.info(tx, row.blob));
  return info.refs == 1;
}

Result<NodeRow> TreeImpl::set_content(Tx& tx, const Who& who, const Chain& chain, NodeId id,
                                      const BlobInfo& info, TimeNs mtime, TimeNs ctime, bool publish) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_LET(const NodeRow old, node(tx, chain, id));
  if (!S_ISREG(old.mode)) return fail(S_ISDIR(old.mode) ? EISDIR : EINVAL);
  NodeRow row = old;
  row.blob = info.id;
  row.size = info.size;
  if (info.stored != info.size)
    row.stored = info.stored;
  else
    row.stored.reset();
  row.mtime = mtime;
  row.ctime = ctime;
  const auto me = std::pair{own->info.id, id};
  std::byte extra[8];
  store_le(extra, info.id.raw());
  const ByteView blob{extra, sizeof extra};

  const bool inherited = old.branch != own->info.id;
  const bool hard = old.seq <= own->last_hard, soft = old.seq <= own->last_pin;
  if (!inherited && !soft) {
    if (!publish) {
      INDRA_TRY(put_node(tx, *own, old, row, old.seq));
      return row;
    }
    const Published* last = published_.find(me);
    if (last != nullptr && last->seq == old.seq && clock_.steady() - last->when < options_.replace_window) {
      // Who read the old change must hear of the new content: so the change that replaces it is a later one.
      INDRA_LET(const Seq s, next_seq(tx, *own));
      INDRA_TRY(put_node(tx, *own, old, row, s));
      auto q = Statement{tx, "DELETE FROM changes WHERE seq = ?1"};
      INDRA_TRY(q.bind(1, old.seq).run());
      INDRA_TRY(record(tx, who, *own, s, Op::write, id, row.parent, {}, blob));
      published_.put(me, {s, last->when});
      return row;
    }
  }

  INDRA_LET(const Seq s, next_seq(tx, *own));
  Seq row_seq = s;
  Keep keep = Keep::pinned;
  if (!inherited && soft && !hard) {
    // The same id: either equal bytes, or rewritten in place after rewritable(). The second must not be kept.
    const bool same = old.blob && info.id == old.blob;
    INDRA_LET(const Budget b, budget(tx, *own, old));
    if (b.over || same) {
      keep = Keep::never;
      if (b.stands_in) {
        INDRA_TRY(let_stand_in(tx, old, *b.stands_in, s));
      } else {
        row_seq = old.seq;  // no version before it: automatic moments show this one
      }
    } else {
      retained_.put(me, clock_.steady());
    }
  }
  INDRA_TRY(put_node(tx, *own, old, row, row_seq, keep));
  if (publish) {
    INDRA_TRY(record(tx, who, *own, s, Op::write, id, row.parent, {}, blob));
    published_.put(me, {row_seq == s ? s : Seq{}, clock_.steady()});
  }
  return row;
}

Result<Seq> TreeImpl::pin_before(Tx& tx, const Chain& chain) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_LET(const Seq s, next_seq(tx, *own));
  return add_pin(tx, *own, PinKind::automatic, s, {}, {});
}

Result<NodeRow> TreeImpl::set_replaced_content(Tx& tx, const Who& who, const Chain& chain, NodeId id,
                                               Seq before, const BlobInfo& info, TimeNs mtime, TimeNs ctime) {
  INDRA_LET(BranchState * own, writable(chain));
  const auto take = [&](NodeRow& row) {
    row.blob = info.id;
    row.size = info.size;
    row.stored.reset();
    if (info.stored != info.size) row.stored = info.stored;
    row.mtime = mtime;
    row.ctime = ctime;
  };
  // What who has it open goes on seeing.
  INDRA_LET(const NodeRow old, node(tx, chain, id));
  if (!S_ISREG(old.mode)) return fail(EINVAL);
  NodeRow orphan = old;
  take(orphan);
  INDRA_TRY(put_node(tx, *own, old, orphan, old.seq, Keep::never));

  // The version just before the replacement. Older pins keep the row that they see, up to here.
  INDRA_LET(const Chain then, chain_of(own->info.id, before));
  NodeRow was;
  INDRA_LET(const bool kept, rows::find<rows::Nodes>(tx, then, {id}, was));
  if (!kept) {  // thinned since: what was the last to be written is kept all the same
    was = old;
    was.branch = {};
    was.nlink = 1;
  }
  {
    auto q = Statement{tx, "SELECT 1 FROM pins WHERE branch = ?1 AND seq = ?2 AND kind < 4"};
    INDRA_LET(const bool pinned, q.bind(1, own->info.id).bind(2, before).step());
    if (!pinned) INDRA_TRY(add_pin(tx, *own, PinKind::automatic, before, {}, {}));
  }
  NodeRow version = was;
  take(version);
  version.branch = own->info.id;
  version.seq = before;
  version.flags &= ~static_cast<std::uint32_t>(kStandsIn);
  if (was.branch == own->info.id) {
    bool needed = false;
    if (was.seq < before) {
      auto q = Statement{tx, "SELECT 1 FROM pins WHERE branch = ?1 AND seq >= ?2 AND seq < ?3 LIMIT 1"};
      INDRA_LET(needed, q.bind(1, own->info.id).bind(2, was.seq).bind(3, before).step());
    }
    auto q =
        Statement{tx, needed ? "UPDATE nodes_past SET until = ?4 WHERE node = ?1 AND branch = ?2 AND seq = ?3"
                             : "DELETE FROM nodes_past WHERE node = ?1 AND branch = ?2 AND seq = ?3"};
    q.bind(1, id).bind(2, own->info.id).bind(3, was.seq);
    if (needed) q.bind(4, before);
    INDRA_TRY(q.run());
    INDRA_TRY(add_ref(tx, version.blob));
    if (!needed) INDRA_TRY(drop_ref(tx, was.blob));
  } else {
    INDRA_TRY(add_ref(tx, version.blob));
  }
  INDRA_TRY(insert_past(tx, version, Seq{before.raw() + 1}));
  own->has_past = true;

  // One event a second (T5): who has read the last one hears of the new content.
  const auto me = std::pair{own->info.id, id};
  const Published* last = published_.find(me);
  TimeNs since = clock_.steady();
  if (last != nullptr && last->seq > before && since - last->when < options_.replace_window) {
    auto q = Statement{tx, "DELETE FROM changes WHERE seq = ?1"};
    INDRA_TRY(q.bind(1, last->seq).run());
    since = last->when;
  }
  INDRA_LET(const Seq s, next_seq(tx, *own));
  std::byte extra[8];
  store_le(extra, info.id.raw());
  INDRA_TRY(record(tx, who, *own, s, Op::write, id, version.parent, {}, {extra, sizeof extra}));
  published_.put(me, {s, since});
  return orphan;
}

}  // namespace indra
