// What a branch contains of others, where the merge of two starts from, and what a merge leaves behind
// (docs/branches.md, G1..G3).
#include <algorithm>

#include "tree/internal/tree_impl.h"

namespace indra {

// A row of `merges` says all that its merge brought, also what the source had from others: so one look at the
// rows of a branch is enough, and of those that it was forked from.
Result<Tree::Ancestry> TreeImpl::ancestry(Tx& tx, BranchId id, Seq at) {
  Ancestry all;
  const auto note = [&](BranchId b, Seq s) {
    Seq& known = all[b];
    known = std::max(known, s);
  };
  while (id) {
    INDRA_LET(const BranchState* s, state(id));
    note(id, at);
    auto q = Statement{
        tx, "SELECT source, MAX(source_seq) FROM merges WHERE target = ?1 AND seq <= ?2 GROUP BY source"};
    q.bind(1, id).bind(2, at);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      note(q.id_at<BranchId>(0), q.id_at<Seq>(1));
    }
    at = std::min(at, s->info.fork_seq);
    id = s->info.parent;
  }
  return all;
}

Result<std::vector<Tree::MergeBase>> TreeImpl::merge_bases(Tx& tx, const MergeBase& a, const MergeBase& b) {
  INDRA_LET(const Ancestry of_a, ancestry(tx, a.branch, a.seq));
  INDRA_LET(const Ancestry of_b, ancestry(tx, b.branch, b.seq));
  struct Candidate {
    MergeBase base;
    Ancestry contains;
  };
  std::vector<Candidate> all;
  for (const auto& [branch, seq] : of_a) {
    const auto other = of_b.find(branch);
    if (other == of_b.end() || !branches_.contains(branch)) continue;
    const Seq common = std::min(seq, other->second);
    INDRA_LET(Ancestry contains, ancestry(tx, branch, common));
    all.push_back({{branch, common}, std::move(contains)});
  }
  if (all.empty()) return fail(EXDEV, "the two have no past in common");
  std::vector<MergeBase> latest;
  for (const Candidate& c : all) {
    const bool inside = std::any_of(all.begin(), all.end(), [&](const Candidate& o) {
      if (o.base.branch == c.base.branch) return false;
      const auto it = o.contains.find(c.base.branch);
      if (it == o.contains.end() || it->second < c.base.seq) return false;
      // Each contains the other: two names for one moment, of which one is enough.
      const auto back = c.contains.find(o.base.branch);
      return back == c.contains.end() || back->second < o.base.seq || o.base.branch < c.base.branch;
    });
    if (!inside) latest.push_back(c.base);
  }
  return latest;
}

Result<Seq> TreeImpl::begin_merge(Tx& tx, BranchId target, BranchId source) {
  INDRA_LET(BranchState * to, state(target));
  INDRA_LET(BranchState * from, state(source));
  const Seq at = last_seq();
  INDRA_TRY(add_pin(tx, *to, PinKind::merge, at, {}, {}));
  return add_pin(tx, *from, PinKind::merge, at, {}, {});
}

Result<void> TreeImpl::relax_pin(Tx& tx, BranchId id, Seq seq, bool give_up) {
  {
    auto q = Statement{tx, "SELECT target FROM merges WHERE source = ?1 AND source_seq = ?2"};
    q.bind(1, id).bind(2, seq);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      const auto by = branches_.find(q.id_at<BranchId>(0));
      if (by == branches_.end() || !by->second.scratch) return {};  // a merge needs it
    }
  }
  {
    auto q = Statement{tx, "UPDATE pins SET kind = ?3 WHERE branch = ?1 AND seq = ?2 AND kind = 2"};
    INDRA_TRY(q.bind(1, id).bind(2, seq).bind(3, std::int64_t{give_up ? 4 : 3}).run());
  }
  const auto it = branches_.find(id);
  return it == branches_.end() ? Result<void>{} : refresh_pins(tx, it->second);
}

namespace {

/// What the source left standing against moments that the target did not have is now so in the target, too.
Result<void> inherit_kept(Tx& tx, BranchId target, const Chain& source, const Tree::Ancestry& had,
                          Seq after) {
  struct Left {
    NodeId node;
    BranchId source, origin;
    Seq source_seq, origin_seq;
    std::int64_t what;
  };
  std::vector<Left> all;
  for (const Chain::Link& link : source.links()) {
    auto q =
        Statement{tx,
                  "SELECT node, source, source_seq, origin, origin_seq, what FROM kept WHERE branch = ?1 "
                  "AND seq <= ?2"};
    q.bind(1, link.branch).bind(2, link.limit);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      const Left l{q.id_at<NodeId>(0), q.id_at<BranchId>(1), q.id_at<BranchId>(3),
                   q.id_at<Seq>(2),    q.id_at<Seq>(4),      q.int64_at(5)};
      const auto known = had.find(l.source);
      if (l.source != target && (known == had.end() || known->second < l.source_seq)) all.push_back(l);
    }
  }
  for (const Left& l : all) {
    auto q = Statement{tx,
                       "INSERT INTO kept(branch, node, seq, source, source_seq, origin, origin_seq, what) "
                       "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET what = what | ?8"};
    INDRA_TRY(q.bind(1, target)
                  .bind(2, l.node)
                  .bind(3, after)
                  .bind(4, l.source)
                  .bind(5, l.source_seq)
                  .bind(6, l.origin)
                  .bind(7, l.origin_seq)
                  .bind(8, l.what)
                  .run());
  }
  return {};
}

}  // namespace

Result<void> TreeImpl::end_merge(Tx& tx, const Who& who, BranchId target, BranchId source, Seq moment,
                                 bool passing) {
  INDRA_LET(BranchState * own, state(target));
  INDRA_LET(const BranchState* from, state(source));
  INDRA_LET(Ancestry brought, ancestry(tx, source, moment));
  INDRA_LET(const Ancestry had, ancestry(tx, target, kSeqMax));
  INDRA_LET(const Seq after, next_seq(tx, *own));
  INDRA_TRY(record(tx, who, *own, after, Op::merge, own->info.root, {}, from->info.name));
  // The target's own moment before the merge stands beside: so its pin is known.
  brought[target] = moment;
  struct Old {
    Seq seq;
    BranchId source;
    Seq moment;
  };
  std::vector<Old> old;
  for (const auto& [branch, seq] : brought) {
    if (branch != target) {
      const auto known = had.find(branch);
      if (known != had.end() && known->second >= seq) continue;
    }
    {
      // What forks of the time between stand on stays, and what a moment of that time contained that another
      // branch has taken in, and not a later one.
      auto q = Statement{
          tx,
          "SELECT m.seq, m.source_seq FROM merges m WHERE m.target = ?1 AND m.source = ?2"
          " AND NOT EXISTS(SELECT 1 FROM branches b WHERE b.parent = ?1 AND b.fork_seq >= m.seq AND NOT "
          "EXISTS("
          "SELECT 1 FROM merges n WHERE n.target = ?1 AND n.source = ?2 AND n.seq > m.seq AND n.seq <= "
          "b.fork_seq))"
          " AND NOT EXISTS(SELECT 1 FROM merges r WHERE r.source = ?1 AND r.source_seq >= m.seq AND r.target "
          "<> ?1 AND NOT EXISTS(SELECT 1 FROM merges n WHERE n.target = ?1 AND n.source = ?2 AND n.seq > "
          "m.seq "
          "AND n.seq <= r.source_seq) AND (NOT EXISTS(SELECT 1 FROM merges n WHERE n.target = r.target AND "
          "n.source = ?1 AND n.seq > r.seq) OR EXISTS(SELECT 1 FROM branches b WHERE b.parent = r.target AND "
          "b.fork_seq >= r.seq)))"};
      q.bind(1, target).bind(2, branch);
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        old.push_back({q.id_at<Seq>(0), branch, q.id_at<Seq>(1)});
      }
    }
    auto q = Statement{tx, "INSERT INTO merges(target, seq, source, source_seq) VALUES(?1, ?2, ?3, ?4)"};
    INDRA_TRY(q.bind(1, target).bind(2, after).bind(3, branch).bind(4, seq).run());
  }
  for (const Old& o : old) {
    auto q = Statement{tx, "DELETE FROM merges WHERE target = ?1 AND seq = ?2 AND source = ?3"};
    INDRA_TRY(q.bind(1, target).bind(2, o.seq).bind(3, o.source).run());
  }
  INDRA_LET(const Chain view, chain_of(source, moment));
  INDRA_TRY(inherit_kept(tx, target, view, had, after));
  for (const Old& o : old) INDRA_TRY(relax_pin(tx, o.source, o.moment, passing));
  return {};
}

Result<void> TreeImpl::keep_own(Tx& tx, BranchId target, BranchId source, Seq moment, const Kept& all) {
  const Seq after = last_seq();
  for (const auto& [node, what] : all) {
    std::uint32_t bits = what;
    {
      auto q = Statement{tx, "SELECT what FROM kept WHERE branch = ?1 AND node = ?2 AND source = ?3"};
      q.bind(1, target).bind(2, node).bind(3, source);
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        bits |= static_cast<std::uint32_t>(q.int64_at(0));
      }
    }
    {
      // Forks of the time between stand on the older row.
      auto q = Statement{tx,
                         "DELETE FROM kept WHERE branch = ?1 AND node = ?2 AND source = ?3 AND NOT EXISTS("
                         "SELECT 1 FROM branches b WHERE b.parent = ?1 AND b.fork_seq >= kept.seq)"};
      INDRA_TRY(q.bind(1, target).bind(2, node).bind(3, source).run());
    }
    auto q = Statement{tx,
                       "INSERT INTO kept(branch, node, seq, source, source_seq, origin, origin_seq, what) "
                       "VALUES(?1, ?2, ?3, ?4, ?5, ?1, ?3, ?6)"};
    INDRA_TRY(q.bind(1, target)
                  .bind(2, node)
                  .bind(3, after)
                  .bind(4, source)
                  .bind(5, moment)
                  .bind(6, std::int64_t{bits})
                  .run());
  }
  return {};
}

Result<Tree::Kept> TreeImpl::kept_own(Tx& tx, const Chain& chain, const MergeBase& base) {
  Kept all;
  std::optional<Ancestry> known;
  for (const Chain::Link& link : chain.links()) {
    auto q = Statement{tx,
                       "SELECT node, origin, source, source_seq, what, origin_seq FROM kept WHERE branch = "
                       "?1 AND seq <= ?2"};
    q.bind(1, link.branch).bind(2, link.limit);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      if (!known) {
        INDRA_LET(known, ancestry(tx, base.branch, base.seq));
      }
      const auto of = [&](BranchId b) {
        const auto it = known->find(b);
        return it == known->end() ? Seq{} : it->second;
      };
      if (of(q.id_at<BranchId>(2)) >= q.id_at<Seq>(3) && of(q.id_at<BranchId>(1)) < q.id_at<Seq>(5))
        all[q.id_at<NodeId>(0)] |= static_cast<std::uint32_t>(q.int64_at(4));
    }
  }
  return all;
}

}  // namespace indra
