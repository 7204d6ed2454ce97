// Branches, and what a view of one can see.
#include <algorithm>

#include "tree/internal/tree_impl.h"

namespace indra {

namespace {
constexpr std::size_t kLongChain = 8;
}

Chain::Chain(std::vector<Link> links) {
  auto s = std::make_shared<State>();
  s->links = std::move(links);
  if (s->links.size() > kLongChain) {
    std::size_t n = 32;
    while (n < s->links.size() * 2) n *= 2;
    s->slots.resize(n);
    for (std::size_t i = 0; i < s->links.size(); ++i) {
      std::size_t at = std::hash<BranchId>{}(s->links[i].branch) & (n - 1);
      while (s->slots[at].first) at = (at + 1) & (n - 1);
      s->slots[at] = {s->links[i].branch, static_cast<int>(i)};
    }
  }
  state_ = std::move(s);
}

int Chain::depth_above(BranchId branch) const {
  if (state_->slots.empty()) {
    for (std::size_t i = 1; i < state_->links.size(); ++i)
      if (state_->links[i].branch == branch) return static_cast<int>(i);
    return -1;
  }
  const std::size_t mask = state_->slots.size() - 1;
  for (std::size_t at = std::hash<BranchId>{}(branch)&mask; state_->slots[at].first; at = (at + 1) & mask)
    if (state_->slots[at].first == branch) return state_->slots[at].second;
  return -1;
}

Result<BranchState*> TreeImpl::state(BranchId id) {
  const auto it = branches_.find(id);
  if (it == branches_.end()) return fail(ENOENT);
  return &it->second;
}

Result<BranchState*> TreeImpl::writable(const Chain& chain) {
  if (closed_ || !chain.head()) return fail(EROFS);
  INDRA_LET(BranchState * own, state(chain.branch()));
  if (own->info.hidden && !(own->scratch && chain.is_merging()))
    return fail(ENOENT, "the branch was deleted");
  if (own->info.protect && !chain.is_merging())
    return fail(EROFS, "branch " + own->info.name + " is protected");
  return own;
}

Result<BucketId> TreeImpl::bucket(Tx& tx, std::string_view name) {
  auto q = Statement{tx, "SELECT id FROM buckets WHERE name = ?1"};
  INDRA_LET(const bool row, q.bind_text(1, name).step());
  if (!row) return fail(ENOENT, "bucket " + std::string{name});
  return q.id_at<BucketId>(0);
}

Result<BranchInfo> TreeImpl::branch(Tx& tx, std::string_view bucket_name, std::string_view name) {
  INDRA_LET(const BucketId b, bucket(tx, bucket_name));
  auto q = Statement{tx, "SELECT id FROM branches WHERE bucket = ?1 AND name = ?2 AND hidden = 0"};
  INDRA_LET(const bool row, q.bind(1, b).bind_text(2, name).step());
  if (!row) return fail(ENOENT, "branch " + std::string{name});
  INDRA_LET(const BranchState* s, state(q.id_at<BranchId>(0)));
  return s->info;
}

Result<std::vector<BranchInfo>> TreeImpl::branches(Tx& tx, std::string_view bucket_name) {
  INDRA_LET(const BucketId b, bucket(tx, bucket_name));
  std::vector<BranchInfo> all;
  auto q = Statement{tx, "SELECT id FROM branches WHERE bucket = ?1 AND hidden = 0 ORDER BY name"};
  q.bind(1, b);
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return all;
    INDRA_LET(const BranchState* s, state(q.id_at<BranchId>(0)));
    all.push_back(s->info);
  }
}

Result<Chain> TreeImpl::chain_of(BranchId id, Seq limit) {
  std::vector<Chain::Link> links;
  while (id) {
    INDRA_LET(const BranchState* s, state(id));
    links.push_back({id, limit});
    limit = std::min(limit, s->info.fork_seq);  // T2: a climb bounds seq by each fork_seq
    id = s->info.parent;
  }
  return Chain{std::move(links)};
}

Result<Chain> TreeImpl::chain(Tx&, BranchId id) { return chain_of(id, kSeqMax); }

Result<Chain> TreeImpl::chain_at(Tx& tx, BranchId id, Seq seq) {
  INDRA_LET(const Moment m, moment(tx, id, seq));
  return chain_of(m.branch, m.seq);
}

Result<TreeImpl::Moment> TreeImpl::moment(Tx& tx, BranchId id, Seq at) {
  if (at >= last_seq()) {
    // The head; but a moment that is pinned stays what it is when the head moves on.
    auto q = Statement{tx, "SELECT 1 FROM pins WHERE branch = ?1 AND seq = ?2 AND kind < 4"};
    INDRA_LET(const bool pinned, q.bind(1, id).bind(2, at).step());
    INDRA_TRY(state(id));
    return Moment{id, pinned ? at : kSeqMax};
  }
  for (;;) {
    INDRA_LET(const BranchState* s, state(id));
    const Seq fork = s->info.fork_seq;
    if (at > fork || !s->info.parent) {
      auto q = Statement{
          tx, "SELECT MAX(seq) FROM pins WHERE branch = ?1 AND seq <= ?2 AND seq > ?3 AND kind < 4"};
      INDRA_TRY(q.bind(1, id).bind(2, at).bind(3, fork).step());
      if (!q.is_null(0)) return Moment{id, q.id_at<Seq>(0)};
      if (!s->info.parent) return fail(ENOENT, "no moment is kept so early");
    }
    id = s->info.parent;
    at = std::min(at, fork);
  }
}

Result<BranchInfo> TreeImpl::create_branch(Tx& tx, const Who& who, std::string_view bucket_name,
                                           std::string_view name, BranchId from, Seq at, bool follow) {
  if (closed_) return fail(EROFS);
  INDRA_TRY(check_title("branch", name));
  INDRA_LET(const BucketId b, bucket(tx, bucket_name));
  {
    auto q = Statement{tx, "SELECT 1 FROM branches WHERE bucket = ?1 AND name = ?2 AND hidden = 0"};
    INDRA_LET(const bool taken, q.bind(1, b).bind_text(2, name).step());
    if (taken) return fail(EEXIST, "branch " + std::string{name});
  }
  INDRA_LET(BranchState * own, add_branch(tx, b, name, from, at));
  if (follow) {
    auto q = Statement{tx, "UPDATE branches SET follow = 1 WHERE id = ?1"};
    INDRA_TRY(q.bind(1, own->info.id).run());
    own->info.follow = true;
  }
  INDRA_LET(const Seq s, seqs_.take(tx).map([](std::int64_t n) { return Seq{n}; }));
  INDRA_TRY(record(tx, who, *own, s, Op::branch, own->info.root, {}, name));
  return own->info;
}

Result<BranchState*> TreeImpl::add_branch(Tx& tx, BucketId b, std::string_view name, BranchId from, Seq at) {
  INDRA_LET(Moment m, moment(tx, from, at));
  if (m.seq == kSeqMax) m.seq = last_seq();
  INDRA_LET(BranchState * parent, state(m.branch));
  if (parent->info.bucket != b) return fail(EXDEV, "a branch stays in its bucket");
  INDRA_TRY(add_pin(tx, *parent, PinKind::fork, m.seq, {}, {}));

  INDRA_LET(const std::int64_t id, branch_ids_.take(tx));
  BranchState own;
  own.info = {.id = BranchId{id},
              .bucket = b,
              .name = std::string{name},
              .parent = m.branch,
              .fork_seq = m.seq,
              .root = parent->info.root,
              .created = clock_.now(),
              .hidden = name.empty()};
  auto q = Statement{tx,
                     "INSERT INTO branches(id, bucket, name, parent, fork_seq, root, created, hidden) "
                     "VALUES(?7, ?1, ?2, ?3, ?4, ?5, ?6, ?8)"};
  INDRA_TRY(q.bind(1, b)
                .bind_text(2, name)
                .bind(3, m.branch)
                .bind(4, m.seq)
                .bind(5, own.info.root)
                .bind(6, own.info.created)
                .bind(7, id)
                .bind(8, std::int64_t{own.info.hidden})
                .run());
  return &(branches_[own.info.id] = own);
}

Result<BranchInfo> TreeImpl::create_scratch(Tx& tx, BranchId from, Seq at) {
  if (closed_) return fail(EROFS);
  INDRA_LET(const BranchState* parent, state(from));
  INDRA_LET(BranchState * own, add_branch(tx, parent->info.bucket, {}, from, at));
  own->scratch = true;
  return own->info;
}

void TreeImpl::end_scratch(Tx&, BranchId id) {
  if (const auto it = branches_.find(id); it != branches_.end()) it->second.scratch = false;
}

}  // namespace indra
