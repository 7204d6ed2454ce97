// The tree behind tree.h. One class, its members by noun in branch.cpp, resolve.cpp, write.cpp, mutate.cpp,
// content.cpp, rename.cpp, xattrs.cpp, pins.cpp, changes.cpp, branch_life.cpp, ancestry.cpp, transplant.cpp.
//
// What is kept in memory is only ever a hint that errs to the safe side, because a mutation may be rolled
// back after it was noted here (T11): a pin noted too much keeps a row too many, a line or publish noted too
// much does not match.
#pragma once
#include <atomic>
#include <string>
#include <unordered_map>

#include "db/writer.h"
#include "tree/internal/names.h"
#include "tree/internal/numbers.h"
#include "tree/internal/recent.h"
#include "tree/internal/rows.h"
#include "tree/tree.h"

namespace indra {

/// Numbers in changes.op: stable.
enum class Op : int {
  create = 1,
  mkdir,
  symlink,
  link,
  unlink,
  rmdir,
  rename,
  write,
  attributes,
  xattr,
  exchange,
  branch,
  snapshot,
  epoch,
  branch_delete,
  branch_rename,
  snapshot_delete,
  merge
};

struct BranchState {
  BranchInfo info;
  Seq last_pin;           ///< highest live pin of any kind, 0 if none
  Seq last_hard;          ///< highest snapshot, fork or merge base
  Seq last_change;        ///< 0: unknown or none since the last pin
  bool has_past = false;  ///< may have rows in *_past
  bool scratch = false;   ///< see create_scratch()
  std::optional<std::uint64_t>
      noted;  ///< after so many mutations a pin was noted here: it may be rolled back
};

class TreeImpl final : public Tree {
 public:
  TreeImpl(Writer&, ContentStore&, const Clock&, Options);
  Result<void> load(Tx&);
  Result<void> remove_orphans(Tx&);

  Result<void> close() override;
  Result<BranchInfo> branch(Tx&, std::string_view bucket, std::string_view name) override;
  Result<std::vector<BranchInfo>> branches(Tx&, std::string_view bucket) override;
  Result<std::vector<PinInfo>> pins(Tx&, std::string_view bucket, std::optional<PinKind> kind) override;
  Result<Chain> chain(Tx&, BranchId) override;
  Result<Chain> chain_at(Tx&, BranchId, Seq) override;
  Result<BranchInfo> create_branch(Tx&, const Who&, std::string_view bucket, std::string_view name,
                                   BranchId from, Seq at, bool follow) override;
  Result<BranchInfo> create_scratch(Tx&, BranchId from, Seq at) override;
  void end_scratch(Tx&, BranchId) override;
  Result<BranchInfo> follow_branch(Tx&, std::string_view bucket, std::string_view name, bool on) override;
  Result<Seq> last_change(Tx&, BranchId) override;
  Result<PinInfo> create_snapshot(Tx&, const Who&, BranchId, std::string_view name,
                                  std::string_view message) override;
  Result<void> delete_snapshot(Tx&, const Who&, std::string_view bucket, std::string_view name) override;
  Result<BranchInfo> branch(Tx&, BranchId) override;
  Result<KeptMoment> moment_at_time(Tx&, BranchId, TimeNs) override;
  Result<KeptMoment> moment_at_seq(Tx&, BranchId, Seq) override;
  Result<void> rename_branch(Tx&, const Who&, std::string_view bucket, std::string_view name,
                             std::string_view to) override;
  Result<void> protect_branch(Tx&, std::string_view bucket, std::string_view name, bool on) override;
  Result<BranchInfo> delete_branch(Tx&, const Who&, std::string_view bucket, std::string_view name) override;
  Result<int> sweep(Tx&, int limit, const std::function<bool(BranchId)>& in_use) override;
  Result<int> create_automatic_pins(Tx&) override;
  Result<int> thin(Tx&, int limit) override;
  Result<int> give_up_oldest(Tx&, int part) override;
  Seq last_seq() const override { return Seq{seqs_.last()}; }

  Result<std::optional<Edge>> lookup(Tx&, const Chain&, NodeId parent, std::string_view name) override;
  Result<NodeRow> node(Tx&, const Chain&, NodeId) override;
  Result<std::optional<NodeRow>> lookup_node(Tx&, const Chain&, NodeId parent,
                                             std::string_view name) override;
  Result<void> list(Tx&, const Chain&, NodeId parent, std::uint64_t after, bool plus, int limit,
                    const std::function<bool(const Listed&)>& sink) override;
  Result<bool> empty(Tx&, const Chain&, NodeId dir) override;
  Result<std::optional<Bytes>> xattr(Tx&, const Chain&, NodeId, std::string_view name) override;
  Result<std::vector<std::string>> xattrs(Tx&, const Chain&, NodeId) override;

  Result<NodeRow> create(Tx&, const Who&, const Chain&, NodeId parent, std::string_view name,
                         const NodeRow& init) override;
  Result<NodeRow> create_unnamed(Tx&, const Who&, const Chain&, const NodeRow& init) override;
  Result<NodeRow> link(Tx&, const Who&, const Chain&, NodeId node, NodeId parent,
                       std::string_view name) override;
  Result<NodeRow> unlink(Tx&, const Who&, const Chain&, NodeId parent, std::string_view name) override;
  Result<NodeRow> rmdir(Tx&, const Who&, const Chain&, NodeId parent, std::string_view name) override;
  Result<Renamed> rename(Tx&, const Who&, const Chain&, NodeId from_parent, std::string_view from,
                         NodeId to_parent, std::string_view to, unsigned flags) override;
  Result<Renamed> place(Tx&, const Who&, const Chain&, NodeId parent, std::string_view name,
                        const NodeRow& init) override;
  Result<Seq> pin_before(Tx&, const Chain&) override;
  Result<NodeRow> set_replaced_content(Tx&, const Who&, const Chain&, NodeId, Seq before, const BlobInfo&,
                                       TimeNs mtime, TimeNs ctime) override;
  Result<NodeRow> set_attributes(Tx&, const Who&, const Chain&, const NodeRow& want) override;
  Result<bool> rewritable(Tx&, const Chain&, NodeId) override;
  Result<NodeRow> set_content(Tx&, const Who&, const Chain&, NodeId, const BlobInfo&, TimeNs mtime,
                              TimeNs ctime, bool publish) override;
  Result<void> set_xattr(Tx&, const Who&, const Chain&, NodeId, std::string_view name,
                         std::optional<ByteView> value, int flags) override;
  Result<void> set_flags(Tx&, const Who&, const Chain&, NodeId, std::uint32_t flags) override;
  Result<void> reap(Tx&, const Chain&, NodeId) override;
  Result<NodeRow> lift(Tx&, const Chain&, NodeId parent, std::string_view name) override;
  Result<NodeRow> lay(Tx&, const Who&, const Chain&, NodeId, const At& from, NodeId parent,
                      std::string_view name) override;
  Result<NodeRow> adopt(Tx&, const Who&, const Chain&, const NodeRow& as, NodeId parent,
                        std::string_view name) override;
  Result<Ancestry> ancestry(Tx&, BranchId, Seq at) override;
  Result<std::vector<MergeBase>> merge_bases(Tx&, const MergeBase& a, const MergeBase& b) override;
  Result<Seq> begin_merge(Tx&, BranchId target, BranchId source) override;
  Result<void> end_merge(Tx&, const Who&, BranchId target, BranchId source, Seq moment,
                         bool passing) override;
  Result<void> keep_own(Tx&, BranchId target, BranchId source, Seq moment, const Kept&) override;
  Result<Kept> kept_own(Tx&, const Chain&, const MergeBase& base) override;
  Result<Stats> stats(Tx&, const Chain&) override;
  Result<std::vector<ChangeRow>> changes(Tx&, Seq after, int limit) override;
  Result<int> forget_changes(Tx&, std::int64_t keep, TimeNs before, int limit) override;
  Bytes doc_id(NodeId line) const override { return names_->doc_id(line); }

 private:
  // branch.cpp
  Result<BucketId> bucket(Tx&, std::string_view name);
  Result<BranchState*> state(BranchId);
  Result<BranchState*> writable(const Chain&);  ///< of chain.branch(); EROFS for a moment, or after close()
  Result<Chain> chain_of(BranchId, Seq limit);
  struct Moment {
    BranchId branch;
    Seq seq;
  };
  Result<Moment> moment(Tx&, BranchId, Seq at);  ///< where `at` is kept; {branch, kSeqMax} is the head
  /// A row of `branches` as of a moment of its parent, which is pinned.
  Result<BranchState*> add_branch(Tx&, BucketId, std::string_view name, BranchId from, Seq at);
  Result<Seq> add_pin(Tx&, BranchState&, PinKind, Seq at, std::string_view name, std::string_view message);

  // branch_life.cpp
  Result<std::vector<BranchId>> sweepable(Tx&);
  Result<int> sweep_rows(Tx&, BranchId, int limit);
  Result<void> forget_branch(Tx&, const BranchState&);

  // write.cpp
  Result<Seq> next_seq(Tx& tx, BranchState& own) {
    INDRA_LET(const std::int64_t n, seqs_.take(tx));
    own.last_change = Seq{n};
    return Seq{n};
  }
  Result<rows::Edges::Row> edge(Tx&, const Chain&, const rows::Edges::Key&);
  rows::Edges::Key key_of(NodeId parent, std::string_view name) const {
    return {parent, names_->cookie(name), name};
  }
  Result<NodeRow> directory(Tx&, const Chain&, NodeId);  ///< that can take entries: ENOENT, ENOTDIR
  /// What happens to the row that is replaced: kept when a pin needs it; or kept by no means.
  enum class Keep { pinned, never };
  Result<void> insert_node(Tx&, BranchState& own, NodeRow& row, Seq);
  Result<void> insert_past(Tx&, const NodeRow& row, Seq until);
  Result<void> put_node(Tx&, BranchState& own, const NodeRow& old, NodeRow& now, Seq, Keep = Keep::pinned);
  Result<void> erase_node(Tx&, const Chain&, BranchState& own, const NodeRow& old, Seq);
  Result<void> put_edge(Tx&, BranchState& own, const rows::Edges::Key&, const rows::Edges::Row& old,
                        NodeId node, std::uint32_t type, Seq);
  Result<void> erase_edge(Tx&, const Chain&, BranchState& own, const rows::Edges::Key&,
                          const rows::Edges::Row& old, Seq);
  Result<void> put_xattr(Tx&, BranchState& own, const rows::Xattrs::Key&, const rows::Xattrs::Row& old,
                         std::optional<ByteView> value, Seq);
  Result<void> erase_xattr(Tx&, const Chain&, BranchState& own, const rows::Xattrs::Key&,
                           const rows::Xattrs::Row& old, Seq);
  /// The own row of a key may go without a tombstone.
  template <class T>
  Result<bool> removable(Tx&, const Chain&, BranchState& own, const typename T::Key&);
  template <class T>
  Result<void> keep_past(Tx&, BranchState& own, const typename T::Key&, Seq until);
  template <class T>
  Result<void> delete_own(Tx&, BranchState& own, const typename T::Key&);
  Result<void> add_ref(Tx& tx, BlobId b) { return b ? store_.add_ref(tx, b) : Result<void>{}; }
  Result<void> drop_ref(Tx& tx, BlobId b) { return b ? store_.drop_ref(tx, b) : Result<void>{}; }

  // mutate.cpp
  NodeRow fresh(const NodeRow& init, TimeNs now) const;
  /// The line that left this place within the window, or none. A file that was moved away from here with it
  /// gets one of its own, if it may: `take` says so; else its line is not to be had.
  Result<NodeId> left_line(Tx&, const Chain&, BranchState& own, const rows::Edges::Key&, Seq, bool take);
  Result<void> drop_name(Tx&, BranchState& own, NodeRow& row, NodeId parent, TimeNs now,
                         Seq);  ///< one name fewer
  Result<void> touch(Tx&, BranchState& own, NodeRow& dir, int subdirectories, TimeNs now, Seq);
  /// Takes nodes below `limit` apart after a name was checked: the two removals have the rest in common.
  Result<NodeRow> remove(Tx&, const Who&, const Chain&, NodeId parent, std::string_view name, bool dir);

  // ancestry.cpp
  /// A merge's pin that no merge needs becomes an automatic one, or is given up.
  Result<void> relax_pin(Tx&, BranchId, Seq, bool give_up);

  // rename.cpp
  Result<bool> within(Tx&, const Chain&, NodeId dir, NodeId ancestor);  ///< dir is `ancestor` or below it

  // content.cpp
  struct Budget {
    bool over = false;
    std::optional<Seq> stands_in;
  };
  Result<Budget> budget(Tx&, const BranchState& own, const NodeRow&);
  /// The content of the kept row is what `old` shows from now on in the moments up to `until`.
  Result<void> let_stand_in(Tx&, const NodeRow& old, Seq kept, Seq until);

  // changes.cpp
  Result<ActorId> actor(Tx&, const Who&);
  Result<void> record(Tx&, const Who&, const BranchState& own, Seq, Op, NodeId node, NodeId parent,
                      std::string_view name, ByteView extra = {});

  // pins.cpp
  Result<int> choose_doomed(Tx&, int limit);
  Result<int> collect_past(Tx&, int limit);
  Result<void> refresh_pins(Tx&, BranchState&);
  template <class T>
  Result<void> sweep_tombstone(Tx&, const Chain&, BranchState&, const typename T::Key&);

  struct PairHash {
    std::size_t operator()(const std::pair<BranchId, NodeId>& p) const noexcept {
      return std::hash<BranchId>{}(p.first) * 31 + std::hash<NodeId>{}(p.second);
    }
  };
  struct Place {
    BranchId branch;
    NodeId parent;
    std::int64_t cookie;
    bool operator==(const Place&) const = default;
  };
  struct PlaceHash {
    std::size_t operator()(const Place& p) const noexcept {
      return static_cast<std::size_t>(p.cookie) ^ std::hash<NodeId>{}(p.parent) ^
             std::hash<BranchId>{}(p.branch);
    }
  };
  struct Left {
    NodeId line;
    NodeId moved;  ///< the file that bears it elsewhere; 0 when it was unlinked
    TimeNs when;
  };
  struct Published {
    Seq seq;
    TimeNs when;
  };
  struct KnownActor {
    ActorId id;
    std::uint64_t mutation;
  };

  Writer& writer_;
  ContentStore& store_;
  const Clock& clock_;
  const Options options_;
  Numbers seqs_, node_ids_, branch_ids_;
  std::optional<NameHash> names_;
  std::unordered_map<BranchId, BranchState> branches_;
  std::atomic<bool> closed_{false};
  Recent<std::pair<BranchId, NodeId>, Published, PairHash> published_{4096};
  Recent<std::pair<BranchId, NodeId>, TimeNs, PairHash> retained_{65536};
  Recent<Place, Left, PlaceHash> left_{4096};
  std::unordered_map<std::string, KnownActor> actors_;
  Who last_who_;
  KnownActor last_actor_{};
  struct {
    BranchId branch;
    Seq seq;
    TimeNs when = 0;
    Stats stats;
    TimeNs good_until = 0;
  } counted_;
};

}  // namespace indra
