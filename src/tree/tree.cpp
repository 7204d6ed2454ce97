// Opening and closing a tree, and counting what is in it.
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "tree/internal/tree_impl.h"

namespace indra {

namespace {
constexpr std::int64_t kBranchBlock = 4096;
}

TreeImpl::TreeImpl(Writer& writer, ContentStore& store, const Clock& clock, Options options)
    : writer_{writer},
      store_{store},
      clock_{clock},
      options_{std::move(options)},
      seqs_{writer, "seq", options_.seq_block},
      node_ids_{writer, "node", options_.seq_block},
      branch_ids_{writer, "branch", kBranchBlock} {}

Result<std::unique_ptr<Tree>> Tree::open(Writer& writer, ContentStore& store, const Clock& clock,
                                         Options options) {
  if (options.seq_block < 1) return fail(EINVAL, "seq_block");
  auto tree = std::make_unique<TreeImpl>(writer, store, clock, std::move(options));
  INDRA_TRY(writer.mutate([&](Tx& tx) { return tree->load(tx); }));
  INDRA_TRY(writer.barrier());  // the first numbers are durably ours
  INDRA_TRY(writer.mutate([&](Tx& tx) { return tree->remove_orphans(tx); }));
  return std::unique_ptr<Tree>{std::move(tree)};
}

Result<void> TreeImpl::load(Tx& tx) {
  const TimeNs now = clock_.now();
  Bytes id;
  {
    auto q = Statement{tx, "SELECT value FROM properties WHERE name = 'vault_id'"};
    INDRA_LET(const bool row, q.step());
    if (row) id = from_hex(q.text_at(0));
    if (row && id.size() != 32) return fail(Errc::bad_format, "vault_id");
  }
  const bool fresh_vault = id.empty();
  INDRA_LET(const bool unclean_seq, seqs_.open(tx, 1));
  INDRA_LET(const bool unclean_node, node_ids_.open(tx, kFirstNode.raw() + 1));
  if (fresh_vault) {
    id.resize(32);
    if (getrandom(id.data(), id.size(), 0) != 32) return fail(errno, "getrandom");
    const std::string hex = to_hex(id);
    {
      auto q = Statement{tx, "INSERT INTO properties(name, value) VALUES('vault_id', ?1), ('created', ?2)"};
      INDRA_TRY(q.bind_text(1, hex).bind(2, now).run());
    }
    {
      auto q = Statement{tx, "INSERT INTO buckets(id, name, created) VALUES(1, 'main', ?1)"};
      INDRA_TRY(q.bind(1, now).run());
    }
    auto q =
        Statement{tx, "INSERT INTO branches(id, bucket, name, root, created) VALUES(1, 1, 'main', ?1, ?2)"};
    INDRA_TRY(q.bind(1, kFirstNode).bind(2, now).run());
  }
  names_.emplace(id);
  {
    auto q = Statement{
        tx,
        "SELECT id, bucket, name, parent, fork_seq, root, created, hidden, protect, follow FROM branches"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      BranchState s;
      s.info = {q.id_at<BranchId>(0), q.id_at<BucketId>(1), std::string{q.text_at(2)},
                q.id_at<BranchId>(3), q.id_at<Seq>(4),      q.id_at<NodeId>(5),
                q.int64_at(6),        q.int64_at(7) != 0,   q.int64_at(8) != 0,
                q.int64_at(9) != 0};
      s.has_past = true;
      branches_[s.info.id] = s;
    }
  }
  {
    // Numbers of branches are never given again: the feed, and views still open, may know the old one.
    auto q = Statement{tx, "SELECT COALESCE(MAX(id), 1) FROM branches"};
    INDRA_TRY(q.step());
    const std::int64_t last = q.int64_at(0);
    q.reset();
    INDRA_TRY(branch_ids_.open(tx, last + 1));
  }
  {
    auto q = Statement{tx,
                       "SELECT branch, MAX(seq), MAX(CASE WHEN kind < 3 THEN seq END) FROM pins WHERE kind < "
                       "4 GROUP BY branch"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      const auto it = branches_.find(q.id_at<BranchId>(0));
      if (it == branches_.end()) continue;
      it->second.last_pin = q.id_at<Seq>(1);
      it->second.last_hard = q.id_at<Seq>(2);
    }
  }
  for (auto& [branch_id, s] : branches_) {
    auto q = Statement{tx,
                       "SELECT EXISTS(SELECT 1 FROM edges_past WHERE branch = ?1) OR EXISTS(SELECT 1 FROM "
                       "nodes_past WHERE branch = ?1)"
                       " OR EXISTS(SELECT 1 FROM xattrs_past WHERE branch = ?1)"};
    INDRA_TRY(q.bind(1, branch_id).step());
    s.has_past = q.int64_at(0) != 0;
  }
  {
    // What changed since the last pins were set: so that the next automatic ones are set where they are due.
    // A branch may have been changed before another one's last pin.
    auto q = Statement{tx,
                       "SELECT branch, MAX(seq) FROM (SELECT branch, seq FROM changes WHERE op < 12 ORDER BY "
                       "seq DESC LIMIT 10000) GROUP BY branch"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      const auto it = branches_.find(q.id_at<BranchId>(0));
      if (it != branches_.end()) it->second.last_change = q.id_at<Seq>(1);
    }
  }
  BranchState& main = branches_.at(BranchId{1});
  if (fresh_vault) {
    INDRA_LET(const Seq s, next_seq(tx, main));
    NodeRow root;
    root.node = root.line = kFirstNode;
    root.mode = S_IFDIR | 0755;
    root.nlink = 2;
    root.uid = geteuid();
    root.gid = getegid();
    root.mtime = root.atime = root.ctime = root.btime = now;
    INDRA_TRY(insert_node(tx, main, root, s));
  } else if (unclean_seq || unclean_node) {
    INDRA_LET(const std::int64_t s, seqs_.take(tx));
    INDRA_TRY(record(tx, Who{.uid = geteuid(), .pid = 0, .program = "indrafs", .front_end = "tree"}, main,
                     Seq{s}, Op::epoch, {}, {}, {}));
  }
  return {};
}

Result<void> TreeImpl::remove_orphans(Tx& tx) {
  std::vector<std::pair<NodeId, BranchId>> orphans;
  {
    auto q = Statement{tx, "SELECT node, branch FROM nodes WHERE nlink = 0 AND mode <> 0"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      orphans.emplace_back(q.id_at<NodeId>(0), q.id_at<BranchId>(1));
    }
  }
  for (const auto& [id, branch_id] : orphans) {
    if (branches_.at(branch_id).info.hidden) continue;  // goes with its branch
    INDRA_LET(const Chain view, chain_of(branch_id, kSeqMax));
    INDRA_TRY(reap(tx, view.merging(), id));  // of protected branches too
  }
  return {};
}

Result<void> TreeImpl::close() {
  if (closed_.exchange(true)) return {};
  return writer_.mutate([&](Tx& tx) -> Result<void> {
    INDRA_TRY(seqs_.close(tx));
    INDRA_TRY(branch_ids_.close(tx));
    return node_ids_.close(tx);
  });
}

Result<Tree::Stats> TreeImpl::stats(Tx& tx, const Chain& chain) {
  // A count reads every node: an answer stays good for a hundred times what it took, so that asking often
  // costs little.
  const TimeNs began = clock_.steady();
  const Seq at = chain.links().front().limit;
  if (counted_.when == 0 || counted_.branch != chain.branch() || counted_.seq != at ||
      began > counted_.good_until) {
    Stats n;
    auto q = Statement{tx, "SELECT node, branch, seq, mode FROM nodes ORDER BY node"};
    NodeId id;
    int depth = INT_MAX;
    bool ask = false;
    std::uint32_t mode = 0;
    const auto count = [&]() -> Result<void> {
      if (ask) {
        NodeRow row;
        INDRA_LET(const bool found, rows::find<rows::Nodes>(tx, chain, {id}, row));
        mode = found ? row.mode : 0;
      }
      if (mode == 0) return {};
      ++n.nodes;
      ++(S_ISREG(mode) ? n.files : S_ISDIR(mode) ? n.directories : S_ISLNK(mode) ? n.symlinks : n.others);
      return {};
    };
    for (;;) {
      INDRA_LET(const bool row, q.step());
      const NodeId next = row ? q.id_at<NodeId>(0) : NodeId{};
      if (!row || next != id) {
        INDRA_TRY(count());
        id = next, depth = INT_MAX, ask = false, mode = 0;
      }
      if (!row) break;
      const int d = chain.depth_of(q.id_at<BranchId>(1));
      if (d < 0 || d >= depth) continue;
      if (q.int64_at(2) > chain.links()[static_cast<std::size_t>(d)].limit.raw()) {
        ask = true;
      } else {
        depth = d;
        mode = static_cast<std::uint32_t>(q.int64_at(3));
      }
    }
    auto p = Statement{tx,
                       "SELECT (SELECT COUNT(*) FROM nodes_past) + (SELECT COUNT(*) FROM edges_past) + "
                       "(SELECT COUNT(*) FROM xattrs_past),"
                       " (SELECT COUNT(*) FROM changes), (SELECT COUNT(*) FROM pins WHERE kind < 4)"};
    INDRA_TRY(p.step());
    n.past_rows = static_cast<std::uint64_t>(p.int64_at(0));
    n.changes = static_cast<std::uint64_t>(p.int64_at(1));
    n.pins = static_cast<std::uint64_t>(p.int64_at(2));
    const TimeNs done = clock_.steady();
    counted_ = {chain.branch(), at, done, n, done + 100 * (done - began)};
  }
  return counted_.stats;
}

}  // namespace indra
