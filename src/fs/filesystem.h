// One vault, opened: its writer, content store and tree, the sessions of files being written, and the
// clockwork (publishing, persisting, automatic pins, folding, collecting).
//
// Threads:  every member may be called from any thread.
// Durable:  docs/durability.md.
// Errors:   open(): Errc::newer_format, Errc::bad_format, Errc::corrupt, EWOULDBLOCK when another process
// owns the
//           vault (the text names it), EROFS/EACCES/ENOENT of the directory, ENOTSUP for an unsuitable file
//           system.
// Source:   docs/design/fs.md (S1..).
#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/fault.h"
#include "base/time.h"
#include "blob/content_store.h"
#include "fs/view.h"
#include "merge/plan.h"
#include "tree/tree.h"

namespace indra {

class FileSystem : public Views {
 public:
  struct Options {
    bool create = false;                  ///< make the vault when the directory has none
    bool single_file = false;             ///< with create: content lives in vault.db too
    bool background = true;               ///< false: no threads, tick() by hand (tests)
    bool jobs = false;                    ///< background work is jobs in coord.db (E40)
    TimeNs publish_after = 30 * kSecond;  ///< a file held open and written is published this often
    TimeNs persist_after = 4 * kSecond;   ///< dirty bytes are private rows at the latest after this long
    TimeNs pin_every = 5 * kSecond;       ///< automatic pins, when something changed
    bool automatic_pins = true;
    TimeNs keep_changes = 90 * 24 * 3600 * kSecond;  ///< how long the change feed can be resumed
    const Clock* clock = nullptr;                    ///< null: the machine's
    Disk* disk = nullptr;                            ///< null: the machine's
    const char* vfs_below = nullptr;                 ///< the same disk, as SQLite sees it (DbOptions)
    ContentStore::Options content;
    Tree::Options tree;
    FaultPoints faults;
  };
  /// Opens (or makes) the vault in `dir`. The process owns it until the FileSystem is destroyed, which
  /// publishes every session and returns after the last commit.
  [[nodiscard]] static Result<std::unique_ptr<FileSystem>> open(const std::string& dir, Options);
  ~FileSystem() override = default;

  // Branches and snapshots: docs/branches.md.
  struct ForkFrom {
    std::string branch = "main";
    std::string snapshot{};        ///< or this snapshot (of any branch of the bucket)
    std::optional<Seq> seq{};      ///< or the moment kept at or before it
    std::optional<TimeNs> time{};  ///< likewise
    bool committed = false;        ///< leave out what files being written hold
    bool follow = false;           ///< it takes over what `branch` changes later, too (O1); of no moment
  };
  /// Publishes what the branch's mounts have written first, in the same transaction (S9). Errors: ENOENT,
  /// EEXIST, EINVAL (a bad name, a moment in the future).
  [[nodiscard]] virtual Result<BranchInfo> fork(const Who&, std::string_view bucket, std::string_view name,
                                                const ForkFrom&) = 0;
  [[nodiscard]] Result<BranchInfo> create_branch(const Who& who, std::string_view bucket,
                                                 std::string_view name, std::string_view from,
                                                 std::string_view from_snapshot) {
    return fork(who, bucket, name,
                {.branch = from.empty() ? "main" : std::string{from},
                 .snapshot = std::string{from_snapshot},
                 .seq = {},
                 .time = {}});
  }
  /// The name is free at once; who has files of it open goes on reading them, nobody can write. Its rows go
  /// in slices, in the background, once no view of it is open. EPERM for main and protected branches.
  [[nodiscard]] virtual Result<void> delete_branch(const Who&, std::string_view bucket,
                                                   std::string_view name) = 0;
  [[nodiscard]] virtual Result<void> rename_branch(const Who&, std::string_view bucket, std::string_view name,
                                                   std::string_view to) = 0;
  /// Publishes what is being written first. Nothing but a merge changes a protected branch.
  [[nodiscard]] virtual Result<void> protect_branch(const Who&, std::string_view bucket,
                                                    std::string_view name, bool on) = 0;
  /// A fork takes over what its parent publishes from now on, and what it has since; or no longer does. Its
  /// own changes stand (docs/branches.md, O1..). EINVAL: forked from nothing, or from what is deleted.
  [[nodiscard]] virtual Result<void> follow_branch(const Who&, std::string_view bucket, std::string_view name,
                                                   bool on) = 0;
  [[nodiscard]] virtual Result<void> delete_snapshot(const Who&, std::string_view bucket,
                                                     std::string_view name) = 0;
  /// Where a moment of a branch is kept: the pin at or before it.
  [[nodiscard]] virtual Result<Tree::KeptMoment> moment(std::string_view bucket, std::string_view branch,
                                                        std::optional<Seq>, std::optional<TimeNs>) = 0;
  /// Publishes what the branch's mounts have written first, in the same transaction (S9).
  [[nodiscard]] virtual Result<PinInfo> create_snapshot(const Who&, std::string_view bucket,
                                                        std::string_view branch, std::string_view name,
                                                        std::string_view message) = 0;
  [[nodiscard]] virtual Result<std::vector<BranchInfo>> branches(std::string_view bucket) = 0;
  [[nodiscard]] virtual Result<std::vector<PinInfo>> snapshots(std::string_view bucket) = 0;

  struct MergeRequest {
    std::string source{}, target = "main";
    std::vector<std::string> ours{}, theirs{};  ///< patterns of paths: whose version a conflict takes
    std::vector<std::string> only{};            ///< these paths alone, without becoming part of the history
    bool markers = false;                       ///< overlapping text stays in one file, between markers
    bool dry_run = false;
  };
  struct MergeReport {
    MergePlan plan;
    bool applied = false;  ///< false: a dry run, or nothing to do
    Seq moment;            ///< of the source, which the target contains from now on
  };
  /// What `source` changed since the two last had the same past, taken over by `target`: all or nothing, in
  /// one transaction, seen at once on mounts. Publishes what mounts of both have written first. Errors:
  /// ENOENT (no such branch), EINVAL (with itself), EXDEV (nothing in common), ENOSPC, EBUSY (both are
  /// written to so fast that no plan stays true). Source: docs/branches.md (G1..).
  [[nodiscard]] virtual Result<MergeReport> merge(const Who&, std::string_view bucket,
                                                  const MergeRequest&) = 0;

  /// A file that takes the place of (parent, name) when it is committed, whole or not at all: put, import,
  /// SFTP, merge.
  class Incoming {
   public:
    virtual ~Incoming() = default;  ///< without commit(): nothing happened
    [[nodiscard]] virtual Result<void> write(std::uint64_t at, ByteView) = 0;
    [[nodiscard]] virtual Result<void> truncate(std::uint64_t size) = 0;
    /// commit() is then refused (EPERM) unless `token` holds coord.db's lock of that name (events/path_lock.h
    /// for a path's), which nobody else is granted until the file is in its place. EBUSY when somebody holds
    /// coord.db for more than five seconds: only who asks for a guard waits for it.
    virtual void guard(std::string lock, std::int64_t token) = 0;
    /// Publishes. Attributes that are absent: those of the file it replaces, else mode 0644 and the caller's
    /// ids.
    [[nodiscard]] virtual Result<Attr> commit(const Caller&, const SetAttr&) = 0;
  };
  [[nodiscard]] virtual Result<std::unique_ptr<Incoming>> incoming(View&, NodeId parent,
                                                                   std::string_view name) = 0;

  /// How long the change feed can be resumed: what is older goes in the background. A setting of the vault
  /// (90 days). EINVAL outside of a second to a hundred years.
  [[nodiscard]] virtual TimeNs changes_kept() const = 0;
  [[nodiscard]] virtual Result<void> keep_changes(TimeNs) = 0;

  /// Everything that returned before the call survives a power cut; with `publish`, files held open are
  /// published too.
  [[nodiscard]] virtual Result<void> sync(bool publish) = 0;
  /// Somebody may have put a job into the vault's own queue (`jobs`).
  virtual void look_for_jobs() = 0;
  /// The reading of every stored byte against its hash: content, then the pages of vault.db. One at a time,
  /// in the background, as the job `scrub` where jobs are listed; a vault opened with `jobs` goes on with one
  /// that was cut off.
  struct Scrub {
    bool running = false;
    TimeNs started = 0, finished = 0;    ///< of the last one; 0: never
    std::uint64_t bytes = 0, total = 0;  ///< read so far; about how many there are
    std::uint64_t rate = 0;              ///< bytes a second at most; 0: as fast as it can
    std::uint64_t unchecked_pages = 0;   ///< of vault.db, written by a plain SQLite: without a checksum
    struct Damage {
      std::uint64_t from = 0, to = 0;  ///< bytes of the file
      std::string what;
      std::vector<std::pair<std::string, std::string>> files;  ///< "branch main", "/a.md"; none: of vault.db
    };
    std::vector<Damage> damage;  ///< found by it and still there, at most 1000
  };
  /// Begins anew, or goes on with one that is cut off or running (`again`: never). Another rate holds at
  /// once.
  [[nodiscard]] virtual Result<void> scrub(std::uint64_t rate, bool again) = 0;
  /// Leaves it where it is, to be gone on with.
  [[nodiscard]] virtual Result<void> stop_scrub() = 0;
  [[nodiscard]] virtual Result<Scrub> scrub_status() = 0;
  [[nodiscard]] virtual Scrub scrub_progress() = 0;  ///< the same without the damage

  /// Background work by hand: publish, persist, pin, fold, collect, one slice each; with `background` off
  /// also commit, barrier and checkpoint, as their time comes. True: more to do.
  [[nodiscard]] virtual Result<bool> tick() = 0;
  /// Does all background work until the vault is at rest (no patches, no dirty pages, no dead content).
  [[nodiscard]] virtual Result<void> settle() = 0;

  struct Status {
    std::string dir, vault_id, player;
    bool at_rest = false, failed = false, single_file = false;
    Tree::Stats tree;
    ContentStore::Stats content;
    std::uint64_t database_bytes = 0, wal_bytes = 0, physical = 0;
    std::uint64_t open_files = 0, dirty_bytes = 0;
    int blocking_reader = 0;  ///< pid of a process that keeps the WAL from being reset
  };
  [[nodiscard]] virtual Result<Status> status() = 0;
  [[nodiscard]] virtual Result<std::vector<Tree::ChangeRow>> changes(Seq after, int limit) = 0;
};

/// All steps of vault.db's schema, in their order.
[[nodiscard]] std::span<const Migration> vault_migrations();

/// Path helpers for front ends that think in paths. A path is absolute in the view: "/notes/a.md".
/// Symlinks are not followed.
[[nodiscard]] Result<Attr> resolve_path(View&, std::string_view path);
/// The directory a path lies in, and its last name.
struct PathParent {
  NodeId parent;
  std::string name;
};
[[nodiscard]] Result<PathParent> resolve_parent(View&, std::string_view path);
/// All bytes of a file, published or not. EFBIG above `most`; EISDIR.
[[nodiscard]] Result<Bytes> read_file(View&, const Caller&, std::string_view path,
                                      std::uint64_t most = 1ull << 30);
/// The file has these bytes afterwards, whole or not at all; it is made where it is not, its directory is
/// not.
[[nodiscard]] Result<Attr> write_file(FileSystem&, View&, const Caller&, std::string_view path, ByteView);

}  // namespace indra
