// FileSystem and View as they are made. What each file of this folder does:
//   filesystem.cpp  opening, closing, branches, status     clockwork.cpp  what happens by itself, and when
//   publish.cpp     sessions become rows                    incoming.cpp   files that take a place whole
//   view_names.cpp  names and attributes                    view_io.cpp    handles, bytes, directories
//   view_xattr.cpp  extended attributes                     work.cpp        background work as jobs
//   merging.cpp, restoring.cpp  plans of steps              carrying_out.cpp  the steps become rows
//   following.cpp   branches that follow their parents
#pragma once
#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "events/knock.h"
#include "events/own_work.h"
#include "fs/file_locks.h"
#include "fs/filesystem.h"
#include "fs/internal/session.h"
#include "fs/vault_dir.h"
#include "merge/apply.h"

namespace indra {

class ViewImpl;

/// A branch as the vault knows it at run time. The chain of a head never changes.
struct BranchView {
  BranchInfo info;
  Chain head;
  mutable std::atomic<bool> stale{false};   ///< deleted, or has another name by now
  mutable std::atomic<bool> locked{false};  ///< protected or deleted: nothing can be written

  BranchView(BranchInfo i, Chain h) : info{std::move(i)}, head{std::move(h)}, locked{info.protect} {}
};

/// Free space of the host file system, asked rarely; part of it is kept so that commits always succeed (S10).
class SpaceGuard {
 public:
  SpaceGuard(Disk& disk, std::string dir, const Clock& clock)
      : disk_{disk}, dir_{std::move(dir)}, clock_{clock} {}
  /// ENOSPC when `bytes` more would eat into the margin.
  [[nodiscard]] Result<void> need(std::uint64_t bytes);
  [[nodiscard]] Result<Disk::Space> left();  ///< free without the margin
  /// Called, from any thread, when need() has refused: it only wakes somebody.
  void on_refusal(std::function<void()> refused) { refused_ = std::move(refused); }
  /// What is still in memory is not free any more, though the host does not know.
  void count_unwritten(const ContentStore* store) { store_ = store; }

 private:
  [[nodiscard]] Result<void> refresh();
  Disk& disk_;
  std::string dir_;
  const Clock& clock_;
  std::atomic<const ContentStore*> store_{nullptr};
  std::function<void()> refused_;
  std::atomic<std::uint64_t> free_{0}, total_{0}, used_{0};
  std::atomic<TimeNs> asked_{0};
};

/// Who: a caller's program by its pid, remembered for a second.
class Callers {
 public:
  [[nodiscard]] Who who(const Caller&, std::string_view front_end, TimeNs now);

 private:
  struct Known {
    std::string program;
    TimeNs at;
  };
  Mutex mutex_;
  std::unordered_map<pid_t, Known> known_ INDRA_GUARDED_BY(mutex_);
};

class FileSystemImpl final : public FileSystem {
 public:
  FileSystemImpl(VaultDir dir, Options options);
  ~FileSystemImpl() override;
  [[nodiscard]] Result<void> start();

  Result<std::shared_ptr<View>> open_view(const ViewSpec&, FrontEnd*) override;
  FileLocks& locks() override { return locks_; }
  std::vector<std::string> branch_names(std::string_view bucket) override;
  std::vector<std::string> snapshot_names(std::string_view bucket) override;
  Result<BranchInfo> fork(const Who&, std::string_view bucket, std::string_view name,
                          const ForkFrom&) override;
  Result<void> delete_branch(const Who&, std::string_view bucket, std::string_view name) override;
  Result<void> rename_branch(const Who&, std::string_view bucket, std::string_view name,
                             std::string_view to) override;
  Result<void> protect_branch(const Who&, std::string_view bucket, std::string_view name, bool on) override;
  Result<void> follow_branch(const Who&, std::string_view bucket, std::string_view name, bool on) override;
  Result<void> delete_snapshot(const Who&, std::string_view bucket, std::string_view name) override;
  Result<Tree::KeptMoment> moment(std::string_view bucket, std::string_view branch, std::optional<Seq>,
                                  std::optional<TimeNs>) override;
  Result<PinInfo> create_snapshot(const Who&, std::string_view, std::string_view, std::string_view,
                                  std::string_view) override;
  Result<std::vector<BranchInfo>> branches(std::string_view bucket) override;
  Result<std::vector<PinInfo>> snapshots(std::string_view bucket) override;
  Result<std::unique_ptr<Incoming>> incoming(View&, NodeId, std::string_view) override;
  Result<MergeReport> merge(const Who&, std::string_view bucket, const MergeRequest&) override;
  Result<void> sync(bool publish) override;
  void look_for_jobs() override;
  TimeNs changes_kept() const override { return keep_changes_; }
  Result<void> keep_changes(TimeNs) override;
  [[nodiscard]] const std::string& dir() const { return dir_.path(); }
  Result<bool> tick() override;
  Result<void> settle() override;
  Result<void> scrub(std::uint64_t rate, bool again) override;
  Result<void> stop_scrub() override;
  Result<Scrub> scrub_status() override;
  Scrub scrub_progress() override;
  Result<Status> status() override;
  Result<std::vector<Tree::ChangeRow>> changes(Seq after, int limit) override;

  // What views use
  // --------------------------------------------------------------------------------------------
  [[nodiscard]] const Clock& clock() const { return *clock_; }
  [[nodiscard]] TimeNs now() const { return clock_->now(); }
  Writer& writer() { return *writer_; }
  ContentStore& store() { return *store_; }
  Tree& tree() { return *tree_; }
  SessionTable& sessions() { return sessions_; }
  SpaceGuard& space() { return space_; }
  Callers& callers() { return callers_; }
  [[nodiscard]] const Options& options() const { return options_; }

  /// Opens the session's content over what the node's row says, if it is not open yet.
  [[nodiscard]] Result<void> ensure_content(Session& s) INDRA_REQUIRES(s.mutex);
  /// After a change of the content: `ahead` and its times.
  void touched(Session& s, const Who*, TimeNs now) INDRA_REQUIRES(s.mutex);
  /// Session to rows. See publish.cpp.
  [[nodiscard]] Result<void> publish(Session&);
  [[nodiscard]] Result<void> fsync(Session&, bool data_only);
  [[nodiscard]] Result<void> persist_privately(Session&);
  [[nodiscard]] Result<void> publish_owed_event(Session&);

  /// Something changed: the clockwork must look within its time.
  void poke();
  /// Tells every live view of the branch but `from`.
  void notify(BranchId, const View* from, Change::Kind, NodeId node, NodeId parent = {},
              std::string_view name = {});
  /// Tells every live view of the branch what was done; upon a name inside its mutation, else after it.
  void did(BranchId, const View* by, const Deed&);
  void add_view(ViewImpl*);
  void remove_view(ViewImpl*);
  [[nodiscard]] bool shared(const ViewImpl*) const;
  /// The node lost its last name (inside the writer's transaction), to another file when `replaced`.
  void orphaned(BranchId, NodeId, bool replaced = false);
  [[nodiscard]] bool replaced(BranchId, NodeId) const;
  /// Around what puts another file in the place of (parent, name), which loses its last name if it has but
  /// one (S13). The first: before the transaction, so that what was written until now is a version of its
  /// own.
  [[nodiscard]] Result<void> publish_before_replacing(BranchId, const Chain&, NodeId parent,
                                                      std::string_view name);
  /// In the transaction, before: the pin that keeps it, when somebody may write to it; else 0.
  [[nodiscard]] Result<Seq> pin_before_replacing(Tx&, const Chain&, const NodeRow&);
  /// In the transaction, last.
  void was_replaced(BranchId, const NodeRow& after, Seq pinned);
  /// The steps become rows. Writers of files that get a successor lose nothing (S13).
  [[nodiscard]] Result<MergeEffect> carry_out(Tx&, const Who&, const BranchView& target, const MergePlan&,
                                              const MergeHooks&);
  /// After the transaction: tells everybody who sees the branch. The one place that does.
  void carried_out(BranchId, const MergeEffect&);
  static constexpr std::uint64_t kRowsPerStep = 16 * 1024;  // pages that a step may dirty, in the WAL
  /// A handle or reference went away: if the node is an orphan nobody refers to, it is reaped soon.
  void released(BranchId, NodeId);
  [[nodiscard]] bool referenced(BranchId, NodeId) const;
  /// By name: as somebody looks at it, so a follower has taken over what its parent has published (O2).
  [[nodiscard]] Result<std::shared_ptr<const BranchView>> branch_state(std::string_view bucket,
                                                                       std::string_view name);
  [[nodiscard]] Result<std::shared_ptr<const BranchView>> branch_state(BranchId);

 private:
  friend class IncomingFile;
  friend class Merging;
  friend class Restoring;
  [[nodiscard]] Result<void> recover_sessions();
  [[nodiscard]] Result<void> reap_some();
  /// One slice of a kind of work. True: there is more.
  [[nodiscard]] Result<bool> sweep_slice();
  [[nodiscard]] Result<bool> thin_slice();
  [[nodiscard]] Result<bool> scrub_some();
  [[nodiscard]] Result<void> load_scrub();
  [[nodiscard]] Result<void> keep_scrub();
  void write_down();
  /// S15. True: automatic versions were given up, and there is work now.
  [[nodiscard]] bool make_room() INDRA_REQUIRES(work_mutex_);
  [[nodiscard]] Result<void> scheduled_snapshot(const OwnWork::Job&);
  /// The kinds of work there are now.
  [[nodiscard]] std::vector<std::string> wanted_work() INDRA_REQUIRES(work_mutex_);
  /// Some slices of a job. True: it is finished.
  [[nodiscard]] Result<bool> work_on(const OwnWork::Job&);
  /// Takes jobs and does some slices of each. True: nothing is left.
  [[nodiscard]] bool work_pass();
  [[nodiscard]] bool room_for_jobs();
  /// Runs fn in a transaction that first publishes what the mounts of these branches have written (S9).
  [[nodiscard]] Result<void> mutate_published(const std::vector<std::shared_ptr<const BranchView>>& states,
                                              const std::function<Result<void>(Tx&)>& fn);
  template <class T>
  [[nodiscard]] Result<T> with_published(const std::shared_ptr<const BranchView>& state,
                                         const std::function<Result<T>(Tx&)>& fn);
  [[nodiscard]] bool viewed(BranchId) const;
  /// What the follower's parent has published since is taken over; nothing to do for others. One look at a
  /// number when there is nothing new.
  [[nodiscard]] Result<void> catch_up(BranchId) INDRA_EXCLUDES(follow_mutex_, followers_mutex_);
  void catch_up_or_say(BranchId) INDRA_EXCLUDES(follow_mutex_, followers_mutex_);
  /// Those that a mount shows.
  void catch_up_mounted();
  [[nodiscard]] Result<void> load_followers();
  void follows(const BranchInfo&);
  void run_clockwork();
  void run_worker();
  [[nodiscard]] Result<void> publish_locked(Session& s) INDRA_REQUIRES(s.mutex);
  [[nodiscard]] Result<void> put_content(Tx&, const BranchView&, Session& s, Content::Staged&)
      INDRA_REQUIRES(s.mutex);
  /// What the session held is a version now.
  void published(Session& s) INDRA_REQUIRES(s.mutex);
  [[nodiscard]] Result<void> forget_private(Tx&, Session& s) INDRA_REQUIRES(s.mutex);
  /// Of a node that is gone: what was persisted of it and never published.
  [[nodiscard]] Result<void> forget_persisted(Tx&, SessionKey);
  [[nodiscard]] TimeNs tick_once(bool force);

  VaultDir dir_;
  Options options_;
  const Clock* clock_;
  Disk* disk_;
  SpaceGuard space_;
  Callers callers_;
  std::string player_, vault_id_;
  std::unique_ptr<Knock> knock_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<ContentStore> store_;
  std::unique_ptr<Tree> tree_;
  FileLocks locks_;
  SessionTable sessions_;

  mutable Mutex branches_mutex_;
  std::map<BranchId, std::shared_ptr<const BranchView>> branches_ INDRA_GUARDED_BY(branches_mutex_);

  mutable SharedMutex views_mutex_;
  std::vector<ViewImpl*> views_ INDRA_GUARDED_BY(views_mutex_);

  struct Follower {
    BranchId parent;
    Seq seen = kSeqMax;    // the parent's last change that was looked at; kSeqMax: none yet
    TimeNs failed_at = 0;  // 0: the last look went well
  };
  Mutex follow_mutex_;  // one at a time takes over
  mutable Mutex followers_mutex_;
  std::map<BranchId, Follower> followers_ INDRA_GUARDED_BY(followers_mutex_);
  std::atomic<bool> any_followers_{false};

  mutable Mutex orphans_mutex_;
  std::unordered_map<SessionKey, bool, SessionKeyHash> orphans_
      INDRA_GUARDED_BY(orphans_mutex_);  // true: replaced
  std::vector<SessionKey> reapable_ INDRA_GUARDED_BY(orphans_mutex_);
  std::atomic<std::size_t> orphan_count_{0};
  std::atomic<bool> sweep_wanted_{true};  // once after opening
  std::atomic<TimeNs> keep_changes_{0};
  std::atomic<bool> thin_wanted_{false}, look_wanted_{false};
  std::atomic<bool> full_{false};  // a write was refused, and there is no room yet (S15)

  /// Where the scrub is, as the property `scrub` keeps it.
  struct Scrubbing {
    bool running = false;
    TimeNs started = 0, finished = 0;
    std::uint64_t bytes = 0, total = 0, rate = 0, unchecked = 0;
    ContentStore::ScrubPlace place;
    bool content_done = false;
    std::uint32_t page = 0;
    std::vector<ContentStore::Damage> damage;
  };
  mutable Mutex scrub_mutex_;
  Scrubbing scrub_ INDRA_GUARDED_BY(scrub_mutex_);
  std::atomic<bool> scrub_wanted_{false};
  TimeNs scrub_next_ = 0,
         scrub_kept_ = 0;  // the worker's: when the next slice is due, when it was written down

  // Clockwork.
  std::mutex clock_mutex_;
  std::condition_variable clock_cv_, work_cv_;
  std::atomic<bool> stop_{false};  // set under clock_mutex_
  std::atomic<bool> poked_{false};
  std::atomic<bool> work_poked_{false};
  TimeNs last_pin_ = 0, last_thin_ = 0;  // clockwork thread only
  std::uint64_t pinned_mutations_ = 0;
  Mutex work_mutex_;  // one pass at a time: the worker's, or tick()'s
  std::optional<OwnWork> own_ INDRA_GUARDED_BY(work_mutex_);
  std::vector<OwnWork::Job> doing_ INDRA_GUARDED_BY(work_mutex_);
  std::thread clockwork_, worker_;
};

/// What a session is ahead of its node's row.
struct Ahead {
  bool yes = false;
  std::uint64_t size = 0, stored = 0;
  TimeNs mtime = 0, ctime = 0;
};

class ViewImpl final : public View {
 public:
  ViewImpl(FileSystemImpl&, ViewSpec, std::shared_ptr<const BranchView>, Chain, FrontEnd*);
  ~ViewImpl() override;

  NodeId root() const override { return branch_->info.root; }
  bool writable() const override { return writable_; }
  bool shared() const override { return fs_.shared(this); }
  std::uint64_t lock_space() const override { return static_cast<std::uint64_t>(branch_->info.id.raw()); }
  bool stale() const override { return stale_ || branch_->stale; }
  void became_stale() { stale_ = true; }
  Result<Attr> lookup(NodeId, std::string_view) override;
  void forget(NodeId, std::uint64_t) override;
  Result<Attr> refer(NodeId) override;
  Result<NodeId> parent_of(NodeId) override;
  Result<Attr> getattr(NodeId) override;
  Result<Attr> setattr(const Caller&, NodeId, const SetAttr&) override;
  Result<std::string> readlink(NodeId) override;
  Result<Attr> mknod(const Caller&, NodeId, std::string_view, std::uint32_t, std::uint64_t) override;
  Result<Attr> mkdir(const Caller&, NodeId, std::string_view, std::uint32_t) override;
  Result<Attr> symlink(const Caller&, NodeId, std::string_view, std::string_view) override;
  Result<Attr> link(const Caller&, NodeId, NodeId, std::string_view) override;
  Result<void> unlink(const Caller&, NodeId, std::string_view) override;
  Result<void> rmdir(const Caller&, NodeId, std::string_view) override;
  Result<void> rename(const Caller&, NodeId, std::string_view, NodeId, std::string_view, unsigned) override;
  Result<Handle> open(const Caller&, NodeId, int) override;
  Result<Opened> create(const Caller&, NodeId, std::string_view, std::uint32_t, int) override;
  Result<Opened> tmpfile(const Caller&, NodeId, std::uint32_t, int) override;
  Result<std::size_t> read(Handle, std::uint64_t, MutableBytes) override;
  Result<void> write(const Caller&, Handle, std::uint64_t, ByteView, bool, bool) override;
  Result<void> flush(const Caller&, Handle) override;
  void release(Handle) override;
  Result<void> fsync(const Caller&, Handle, bool) override;
  Result<void> fallocate(const Caller&, Handle, int, std::uint64_t, std::uint64_t) override;
  Result<std::uint64_t> lseek(Handle, std::uint64_t, int) override;
  Result<std::uint64_t> copy_file_range(const Caller&, Handle, std::uint64_t, Handle, std::uint64_t,
                                        std::uint64_t) override;
  Result<Handle> opendir(NodeId) override;
  Result<void> readdir(Handle, std::uint64_t, bool, const DirSink&) override;
  void releasedir(Handle) override;
  Result<void> sync() override;
  Result<FsStat> statfs() override;
  Result<void> setxattr(const Caller&, NodeId, std::string_view, ByteView, int) override;
  Result<Bytes> getxattr(NodeId, std::string_view) override;
  Result<std::vector<std::string>> listxattr(NodeId) override;
  Result<void> removexattr(const Caller&, NodeId, std::string_view) override;

  [[nodiscard]] FrontEnd* front() const { return front_; }
  [[nodiscard]] BranchId branch() const { return branch_->info.id; }
  [[nodiscard]] const BranchView& state() const { return *branch_; }
  [[nodiscard]] const Chain& chain() const { return chain_; }
  [[nodiscard]] bool live() const { return live_; }
  [[nodiscard]] const ViewSpec& spec() const { return spec_; }
  [[nodiscard]] bool holds(NodeId) const;
  [[nodiscard]] Who who(const Caller& c) {
    return fs_.callers().who(c, front_ != nullptr ? front_->name() : "cli", fs_.clock().steady());
  }

 private:
  struct OpenFile {
    std::shared_ptr<Session> session;  // null: a frozen one
    std::unique_ptr<Content> frozen;
    int flags = 0;
    Attr attr;  // frozen ones
    [[nodiscard]] bool writes() const { return session && (flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY; }
  };
  struct OpenDir {
    NodeId node;
  };
  void end(Handle);
  static OpenFile& file(Handle h) { return *reinterpret_cast<OpenFile*>(h); }

  [[nodiscard]] SessionKey key(NodeId n) const { return {branch_->info.id, n}; }
  [[nodiscard]] Ahead ahead(NodeId) const;
  [[nodiscard]] static Attr attr(const NodeRow&, const Ahead& = {});
  void hold(NodeId, std::uint64_t n = 1);
  [[nodiscard]] Result<void> check_writable(std::uint64_t bytes) const;
  [[nodiscard]] Result<Attr> make(const Caller&, NodeId parent, std::string_view name, NodeRow init);
  [[nodiscard]] Result<NodeRow> inherit(Tx&, const Caller&, NodeId parent, std::uint32_t mode) const;
  void lost_name(const NodeRow&);
  /// Runs fn(session) with the content open and the session's lock held; then the session is ahead of its
  /// row.
  template <class F>
  [[nodiscard]] Result<void> change(const Caller&, Handle, bool kill_suid_sgid, F&& fn);
  [[nodiscard]] Result<void> kill_suid_sgid(const Caller&, NodeId);
  [[nodiscard]] Result<Handle> open_frozen(NodeId, int flags);
  [[nodiscard]] Handle keep(std::shared_ptr<Session>, int flags);
  [[nodiscard]] Result<std::optional<Bytes>> computed_xattr(NodeId, std::string_view name);

  FileSystemImpl& fs_;
  const ViewSpec spec_;
  const std::shared_ptr<const BranchView> branch_;
  const Chain chain_;
  FrontEnd* const front_;
  const bool live_, writable_;
  std::atomic<bool> stale_{false};

  struct RefShard {
    mutable Mutex mutex;
    std::unordered_map<NodeId, std::uint64_t> counts INDRA_GUARDED_BY(mutex);
  };
  static constexpr std::size_t kRefShards = 16;
  std::array<RefShard, kRefShards> refs_;
  [[nodiscard]] RefShard& ref_shard(NodeId n) { return refs_[std::hash<NodeId>{}(n) % kRefShards]; }
  [[nodiscard]] const RefShard& ref_shard(NodeId n) const {
    return refs_[std::hash<NodeId>{}(n) % kRefShards];
  }
};

template <class F>
Result<void> ViewImpl::change(const Caller& c, Handle h, bool kill, F&& fn) {
  OpenFile& f = file(h);
  if (!f.session) return fail(EBADF);
  Session& s = *f.session;
  {
    const Who w = who(c);
    const WriteLock lock{s.mutex};
    INDRA_TRY(fs_.ensure_content(s));
    INDRA_TRY(fn(s));
    fs_.touched(s, &w, fs_.now());
  }
  if (kill) INDRA_TRY(kill_suid_sgid(c, s.key.node));
  fs_.notify(branch(), this, Change::data, s.key.node);
  fs_.did(branch(), this, {.kind = Deed::written, .node = s.key.node, .type = S_IFREG});
  return {};
}

/// Table `sessions`: what was persisted without being published (S5).
extern const Migration kSessionSchema;

}  // namespace indra
