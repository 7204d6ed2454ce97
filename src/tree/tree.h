// The versioned tree: nodes, edges and xattrs as rows with (branch, seq); branches, pins, lines, changes.
//
// Shapes:   see schema.cpp; a name is 1..255 bytes.
// Threads:  a Tree may be called from any thread that holds a Tx (so: one at a time). Nothing here waits.
// Durable:  with the Writer's next barrier. Each mutation writes its `changes` row in the same transaction.
// Errors:   errno codes as POSIX names them; an error leaves no trace (the Writer rolls the savepoint back).
// Source:   docs/design/tree.md (T1..).
//
// Every mutation takes the Chain of the branch it happens in; chain.front() is that branch. Past rows are
// kept by the rule of pins (T4): a current row is overwritten while no pin of its branch needs it, else
// copied to the past.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/strong.h"
#include "base/time.h"
#include "blob/content_store.h"
#include "db/db.h"

namespace indra {

extern const Migration kTreeSchema, kTreeSchema2, kTreeSchema3;

inline constexpr NodeId kFirstNode{16};  // the root of bucket main; smaller numbers are the mount's own

/// What a branch (or a moment of it) can see: itself, then what it takes from its parent as of its fork, and
/// so on. For each branch the highest seq that is visible; the nearest branch that has a row wins.
class Chain {
 public:
  struct Link {
    BranchId branch;
    Seq limit;  ///< rows with seq <= limit are visible; kSeqMax for the head
  };
  [[nodiscard]] BranchId branch() const { return state_->links.front().branch; }
  [[nodiscard]] const std::vector<Link>& links() const { return state_->links; }
  [[nodiscard]] bool head() const { return state_->links.front().limit == kSeqMax; }
  /// Depth of `branch` in the chain, -1 if it is not in it. O(1).
  [[nodiscard]] int depth_of(BranchId branch) const {
    return branch == state_->links.front().branch ? 0 : depth_above(branch);
  }
  /// The same, allowed to change a protected branch: for merges.
  [[nodiscard]] Chain merging() const {
    Chain c{*this};
    c.merging_ = true;
    return c;
  }
  [[nodiscard]] bool is_merging() const { return merging_; }

  /// `links` must not be empty. Copies share what they hold.
  explicit Chain(std::vector<Link> links);

 private:
  struct State {
    std::vector<Link> links;
    std::vector<std::pair<BranchId, int>> slots;  // open addressing, a power of two; for long chains only
  };
  [[nodiscard]] int depth_above(BranchId branch) const;
  std::shared_ptr<const State> state_;
  bool merging_ = false;
};

struct NodeRow {
  NodeId node;
  BranchId branch;  ///< where the row lies: may be an ancestor
  Seq seq;
  std::uint32_t mode = 0;  ///< type and permission bits
  std::uint32_t nlink = 0;
  std::uint32_t uid = 0, gid = 0;
  std::uint64_t size = 0;  ///< regular files: bytes; symlinks: length of the target; directories: 0
  std::optional<std::uint64_t> stored;  ///< bytes that are not holes; absent: all of them
  BlobId blob;                          ///< regular files; 0 = empty
  std::uint64_t rdev = 0;
  TimeNs mtime = 0, atime = 0, ctime = 0, btime = 0;
  NodeId parent;  ///< the directory it is in (0 for a root); with several names, of one of them or 0
  NodeId line;    ///< number of its line: its first node, or a number of its own; itself for most
  std::uint32_t flags = 0;  ///< NodeFlag
  std::string target;       ///< symlinks
};
enum NodeFlag : std::uint32_t {
  kNoVersions = 1,  ///< user.indra.versions=off: automatic pins keep nothing of it
  kHasXattrs = 2,   ///< has had extended attributes: else nobody need look
  kStandsIn = 4,    ///< past rows only: stands in for later versions that were beyond the budget (T6)
};

struct Edge {
  NodeId node;
  std::uint32_t type = 0;  ///< S_IFMT bits
  std::uint64_t cookie = 0;
};

struct Who {
  std::uint32_t uid = 0;
  std::int32_t pid = 0;
  std::string program;
  std::string front_end;  ///< "fuse", "cli", ...
};

struct BranchInfo {
  BranchId id;
  BucketId bucket;
  std::string name;
  BranchId parent;
  Seq fork_seq;
  NodeId root;
  TimeNs created = 0;
  bool hidden = false, protect = false, follow = false;
};
enum class PinKind { snapshot, fork, merge, automatic };
struct PinInfo {
  std::int64_t id = 0;
  BranchId branch;
  Seq seq;
  PinKind kind{};
  std::string name, message;
  TimeNs time = 0;
};

/// A change whose name is a branch's or snapshot's, not an entry's.
[[nodiscard]] bool names_a_branch(std::string_view op);

class Tree {
 public:
  struct Options {
    /// Automatic pins keep at most one version of a line per (size / this) seconds, at least
    /// `min_version_gap`.
    std::uint64_t churn_bytes_per_second = 256 * 1024;
    TimeNs min_version_gap = 5 * kSecond;
    TimeNs replace_window =
        1 * kSecond;                   ///< a publish this soon after the last replaces its version and event
    TimeNs line_window = 5 * kSecond;  ///< unlink and create of a name within this continue the line
    std::int64_t seq_block = 1 << 20;  ///< numbers reserved durably at a time
    /// Automatic pins: all for `keep_all`, one an hour for `keep_hourly`, one a day for `keep_daily`, by age.
    TimeNs keep_all = 24 * 3600 * kSecond;
    TimeNs keep_hourly = 7 * 24 * 3600 * kSecond;
    TimeNs keep_daily = 90LL * 24 * 3600 * kSecond;
  };
  /// Reads counters, branches, pins; makes bucket and branch `main` in a new vault. After an unclean end
  /// numbers resume above the reservation, with a change row `epoch`; nodes without a name (orphans) are
  /// removed.
  [[nodiscard]] static Result<std::unique_ptr<Tree>> open(Writer&, ContentStore&, const Clock&, Options);
  virtual ~Tree() = default;
  /// Before a clean close: gives back what was reserved. Afterwards nothing may be mutated.
  [[nodiscard]] virtual Result<void> close() = 0;

  // Branches, pins, views
  // -------------------------------------------------------------------------------------
  [[nodiscard]] virtual Result<BranchInfo> branch(Tx&, std::string_view bucket, std::string_view name) = 0;
  [[nodiscard]] virtual Result<std::vector<BranchInfo>> branches(Tx&, std::string_view bucket) = 0;
  [[nodiscard]] virtual Result<std::vector<PinInfo>> pins(Tx&, std::string_view bucket,
                                                          std::optional<PinKind> kind) = 0;
  [[nodiscard]] virtual Result<Chain> chain(Tx&, BranchId) = 0;          ///< of the head
  [[nodiscard]] virtual Result<Chain> chain_at(Tx&, BranchId, Seq) = 0;  ///< of a moment; climbs as T2 says
  /// Errors: EEXIST, EINVAL (bad name: design section 12), ENOENT.
  [[nodiscard]] virtual Result<BranchInfo> create_branch(Tx&, const Who&, std::string_view bucket,
                                                         std::string_view name, BranchId from, Seq at,
                                                         bool follow = false) = 0;
  /// A branch without a name that nobody is told of: a base put together for one merge (G1). Only merges
  /// write to it; after end_scratch(), or a crash, sweep() removes it.
  [[nodiscard]] virtual Result<BranchInfo> create_scratch(Tx&, BranchId from, Seq at) = 0;
  virtual void end_scratch(Tx&, BranchId) = 0;
  /// Whether it takes over its parent's later changes (O1). EINVAL when it was forked from nothing.
  [[nodiscard]] virtual Result<BranchInfo> follow_branch(Tx&, std::string_view bucket, std::string_view name,
                                                         bool on) = 0;
  /// Another number after each change of the branch's own rows, as long as the tree is open.
  [[nodiscard]] virtual Result<Seq> last_change(Tx&, BranchId) = 0;
  [[nodiscard]] virtual Result<PinInfo> create_snapshot(Tx&, const Who&, BranchId, std::string_view name,
                                                        std::string_view message) = 0;
  /// The snapshot is gone at once; thin() removes what it alone kept. ENOENT.
  [[nodiscard]] virtual Result<void> delete_snapshot(Tx&, const Who&, std::string_view bucket,
                                                     std::string_view name) = 0;
  [[nodiscard]] virtual Result<BranchInfo> branch(Tx&, BranchId) = 0;  ///< hidden ones too
  /// What was asked for and where it is kept: the pin at or before it (B4).
  struct KeptMoment {
    BranchId branch;  ///< the one asked for, or an ancestor
    Seq seq;
    TimeNs time = 0;  ///< when it was pinned
    bool exact = false;
  };
  /// By time: EINVAL for the future, ENOENT before the first pin. By seq likewise.
  [[nodiscard]] virtual Result<KeptMoment> moment_at_time(Tx&, BranchId, TimeNs) = 0;
  [[nodiscard]] virtual Result<KeptMoment> moment_at_seq(Tx&, BranchId, Seq) = 0;
  /// EPERM for `main`; EINVAL, EEXIST, ENOENT.
  [[nodiscard]] virtual Result<void> rename_branch(Tx&, const Who&, std::string_view bucket,
                                                   std::string_view name, std::string_view to) = 0;
  /// A protected branch refuses mutations (EROFS), deletion and renaming (EPERM).
  [[nodiscard]] virtual Result<void> protect_branch(Tx&, std::string_view bucket, std::string_view name,
                                                    bool on) = 0;
  /// The name is free at once and nothing can be written any more; sweep() removes the rows (B2).
  [[nodiscard]] virtual Result<BranchInfo> delete_branch(Tx&, const Who&, std::string_view bucket,
                                                         std::string_view name) = 0;
  /// Removes at most about `limit` rows of deleted branches that nothing needs; `in_use` keeps one back.
  /// Returns how many (0 = nothing left to do).
  [[nodiscard]] virtual Result<int> sweep(Tx&, int limit, const std::function<bool(BranchId)>& in_use) = 0;
  /// Pins every branch that changed since its last pin. Returns how many.
  [[nodiscard]] virtual Result<int> create_automatic_pins(Tx&) = 0;
  /// Removes automatic pins that the schedule no longer keeps (all for a day, hourly for a week, daily for 90
  /// days), and past rows that no pin needs; at most `limit` rows. Returns how many were removed (0 = nothing
  /// left).
  [[nodiscard]] virtual Result<int> thin(Tx&, int limit) = 0;
  /// Gives up the oldest of all automatic pins, one in `part` of them and at least one, whatever the schedule
  /// says (T9); thin() then removes what they alone kept. Returns how many, 0 when there was none.
  [[nodiscard]] virtual Result<int> give_up_oldest(Tx&, int part) = 0;
  [[nodiscard]] virtual Seq last_seq() const = 0;

  // Reading
  // ---------------------------------------------------------------------------------------------------
  [[nodiscard]] virtual Result<std::optional<Edge>> lookup(Tx&, const Chain&, NodeId parent,
                                                           std::string_view name) = 0;
  /// ENOENT when the view has no such node.
  [[nodiscard]] virtual Result<NodeRow> node(Tx&, const Chain&, NodeId) = 0;
  /// lookup() and node() in one.
  [[nodiscard]] virtual Result<std::optional<NodeRow>> lookup_node(Tx&, const Chain&, NodeId parent,
                                                                   std::string_view name) = 0;
  /// Entries with a cookie above `after`, in the order of cookies; with node rows when `plus` (one join).
  /// Ends when `sink` says false or after `limit` entries. Entries of equal cookie are given together: the
  /// sink must take all or be asked again from before them.
  struct Listed {
    std::string_view name;
    Edge edge;
    const NodeRow* row;
  };
  [[nodiscard]] virtual Result<void> list(Tx&, const Chain&, NodeId parent, std::uint64_t after, bool plus,
                                          int limit, const std::function<bool(const Listed&)>& sink) = 0;
  [[nodiscard]] virtual Result<bool> empty(Tx&, const Chain&, NodeId dir) = 0;
  [[nodiscard]] virtual Result<std::optional<Bytes>> xattr(Tx&, const Chain&, NodeId,
                                                           std::string_view name) = 0;
  [[nodiscard]] virtual Result<std::vector<std::string>> xattrs(Tx&, const Chain&, NodeId) = 0;

  // Mutations
  // -------------------------------------------------------------------------------------------------
  /// A new node under (parent, name); `init` gives mode, uid, gid, rdev, target, times (0 = now). Sets parent
  /// times, nlink and the line (T7). EEXIST, ENOENT (parent gone), EMLINK.
  [[nodiscard]] virtual Result<NodeRow> create(Tx&, const Who&, const Chain&, NodeId parent,
                                               std::string_view name, const NodeRow& init) = 0;
  /// A node without a name, nlink 0.
  [[nodiscard]] virtual Result<NodeRow> create_unnamed(Tx&, const Who&, const Chain&,
                                                       const NodeRow& init) = 0;
  [[nodiscard]] virtual Result<NodeRow> link(Tx&, const Who&, const Chain&, NodeId node, NodeId parent,
                                             std::string_view name) = 0;
  /// The node that lost a name, as it is afterwards. With nlink 0 it stays as an orphan until reap().
  [[nodiscard]] virtual Result<NodeRow> unlink(Tx&, const Who&, const Chain&, NodeId parent,
                                               std::string_view name) = 0;
  [[nodiscard]] virtual Result<NodeRow> rmdir(Tx&, const Who&, const Chain&, NodeId parent,
                                              std::string_view name) = 0;
  struct Renamed {
    NodeRow moved;
    std::optional<NodeRow> replaced;
    bool nothing = false;  ///< both names were the same node's: nothing happened
  };
  /// flags 0, RENAME_NOREPLACE, RENAME_EXCHANGE. EINVAL when a directory would go into itself.
  [[nodiscard]] virtual Result<Renamed> rename(Tx&, const Who&, const Chain&, NodeId from_parent,
                                               std::string_view from, NodeId to_parent, std::string_view to,
                                               unsigned flags) = 0;
  /// A regular file that comes whole: a new node under (parent, name) with the content and attributes of
  /// `init`, in the place of the file that is there, whose line goes on (T7). One seq and one change:
  /// `create`, or `write` with the name and the node that lost it. EISDIR, ENOENT (parent gone).
  [[nodiscard]] virtual Result<Renamed> place(Tx&, const Who&, const Chain&, NodeId parent,
                                              std::string_view name, const NodeRow& init) = 0;
  /// Before a file that is open for writing is replaced, in the same transaction: an automatic pin of the
  /// branch as it is, with a seq of its own.
  [[nodiscard]] virtual Result<Seq> pin_before(Tx&, const Chain&) = 0;
  /// What was written to an orphan after another file took its place: the content of the orphan, and the
  /// version of its line at `before` (pin_before), with a `write` change (T12).
  [[nodiscard]] virtual Result<NodeRow> set_replaced_content(Tx&, const Who&, const Chain&, NodeId,
                                                             Seq before, const BlobInfo&, TimeNs mtime,
                                                             TimeNs ctime) = 0;
  /// Attributes only: mode bits, uid, gid, times as in `want`. ctime = now.
  [[nodiscard]] virtual Result<NodeRow> set_attributes(Tx&, const Who&, const Chain&,
                                                       const NodeRow& want) = 0;
  /// May the node's content be rewritten where it lies (no pin of the view's branch needs the row; budget and
  /// kNoVersions considered)?
  [[nodiscard]] virtual Result<bool> rewritable(Tx&, const Chain&, NodeId) = 0;
  /// New content. Keeps references right in the store. `publish`: a version with its event (replacing the
  /// last one when it is younger than replace_window and unpinned); else only the row, without event.
  [[nodiscard]] virtual Result<NodeRow> set_content(Tx&, const Who&, const Chain&, NodeId, const BlobInfo&,
                                                    TimeNs mtime, TimeNs ctime, bool publish) = 0;
  /// `value` absent: removes it (ENODATA when it is not there). flags XATTR_CREATE, XATTR_REPLACE.
  [[nodiscard]] virtual Result<void> set_xattr(Tx&, const Who&, const Chain&, NodeId, std::string_view name,
                                               std::optional<ByteView> value, int flags) = 0;
  [[nodiscard]] virtual Result<void> set_flags(Tx&, const Who&, const Chain&, NodeId,
                                               std::uint32_t flags) = 0;
  // For merges: names and nodes by themselves, without what programs' calls mean for lines (T7).
  struct At {
    NodeId parent;
    std::string name;
  };
  /// Takes a name away that lay() gives again in the same transaction. No event. ENOENT.
  [[nodiscard]] virtual Result<NodeRow> lift(Tx&, const Chain&, NodeId parent, std::string_view name) = 0;
  /// Gives a lifted node its new name, with the event of the rename. EEXIST; EINVAL when a directory would go
  /// into itself.
  [[nodiscard]] virtual Result<NodeRow> lay(Tx&, const Who&, const Chain&, NodeId, const At& from,
                                            NodeId parent, std::string_view name) = 0;
  /// A node as it is elsewhere, under (parent, name): attributes, line, blob and times as in `as`, and its
  /// NodeId unless this branch has that in use. EEXIST.
  [[nodiscard]] virtual Result<NodeRow> adopt(Tx&, const Who&, const Chain&, const NodeRow& as, NodeId parent,
                                              std::string_view name) = 0;

  // What a branch has taken in (docs/branches.md, G1..G3).
  using Ancestry = std::map<BranchId, Seq>;  ///< of each branch the latest moment that is contained
  [[nodiscard]] virtual Result<Ancestry> ancestry(Tx&, BranchId, Seq at) = 0;
  struct MergeBase {
    BranchId branch;
    Seq seq;
    bool operator==(const MergeBase&) const = default;
  };
  /// The latest moments that both contain, none of which contains another: one, or several after criss-cross
  /// merges. EXDEV when there is none.
  [[nodiscard]] virtual Result<std::vector<MergeBase>> merge_bases(Tx&, const MergeBase& a,
                                                                   const MergeBase& b) = 0;
  /// Before a merge is applied: pins both, and returns the source's moment.
  [[nodiscard]] virtual Result<Seq> begin_merge(Tx&, BranchId target, BranchId source) = 0;
  /// After it: `target` contains `source` as of `moment`, and all that it contained. The pins of the last
  /// such merge become automatic ones, or go (`passing`: there is one every moment).
  [[nodiscard]] virtual Result<void> end_merge(Tx&, const Who&, BranchId target, BranchId source, Seq moment,
                                               bool passing = false) = 0;
  /// What a follower has of its own where its parent has changed too (O4), by the parent's nodes: bits of
  /// Own.
  enum Own : std::uint32_t {
    own_content = 1,
    own_place = 2,
    own_mode = 4,
    own_owner = 8,
    own_xattrs = 16,
    own_deletion = 32,
    own_name = 64,  ///< a name of its own, or a deleted directory, hides the parent's node
  };
  using Kept = std::map<NodeId, std::uint32_t>;
  /// In the merge that left the target's own standing, after end_merge().
  [[nodiscard]] virtual Result<void> keep_own(Tx&, BranchId target, BranchId source, Seq moment,
                                              const Kept&) = 0;
  /// Of all that the view has kept so, what `base` knows the other side of and not the decision: there the
  /// base says nothing about who changed what.
  [[nodiscard]] virtual Result<Kept> kept_own(Tx&, const Chain&, const MergeBase& base) = 0;
  /// Ends an orphan that nobody refers to any more. Does nothing when it has a name.
  [[nodiscard]] virtual Result<void> reap(Tx&, const Chain&, NodeId) = 0;

  struct Stats {
    std::uint64_t nodes = 0, files = 0, directories = 0, symlinks = 0, others = 0, past_rows = 0, changes = 0,
                  pins = 0;
  };
  [[nodiscard]] virtual Result<Stats> stats(Tx&, const Chain&) = 0;
  /// The changes after `seq`, oldest first.
  struct ChangeRow {
    Seq seq;
    BranchId branch;
    std::string op;
    NodeId node, line, parent;
    std::string name;
    TimeNs time = 0;
    Who who;
    NodeId from_parent;  ///< rename, exchange
    std::string from_name;
    NodeId other;  ///< the node that lost the name, or took the old one; write: that a whole file replaced
    BlobId blob;   ///< write; create of a whole file
  };
  [[nodiscard]] virtual Result<std::vector<ChangeRow>> changes(Tx&, Seq after, int limit) = 0;
  /// Removes the oldest changes: all but the newest `keep` and all older than `before`, at most `limit` of
  /// them; never the newest one. `keep` INT64_MAX: however many there are. What is removed is noted (E3).
  /// Returns how many.
  [[nodiscard]] virtual Result<int> forget_changes(Tx&, std::int64_t keep, TimeNs before, int limit) = 0;
  /// DocId: what a line is called outside (32 bytes).
  [[nodiscard]] virtual Bytes doc_id(NodeId line) const = 0;
};

}  // namespace indra
