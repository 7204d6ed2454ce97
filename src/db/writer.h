// The one writer of vault.db: a transaction that is always open, which operations join, and which is
// committed when idle for a moment, when it has grown, and at each barrier.
//
// Why one connection and no delta: docs/decisions/0002-one-connection.md.
//
// Threads:  every member may be called from any thread. One mutex (fair) guards the connection; it is never
//           held while waiting for a disk sync. Lock order: docs/design/locks.md.
// Durable:  a mutation is durable after a barrier() that began after it returned. Commits are in order, so a
//           crash finds a prefix of the mutations (D2).
// Errors:   when a COMMIT, a WAL sync or a content sync fails, the Writer is failed for good: every later
//           mutation and barrier answers Errc::failed (a sync that failed once may never be trusted again).
//           A full disk that was met before anything was promised (ENOSPC, EDQUOT) passes: the transaction
//           stays, and the next commit or barrier tries again (W6).
// Source:   docs/design/db.md, docs/durability.md (D1..).
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "base/fault.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/time.h"
#include "db/db.h"
#include "db/mark.h"

namespace indra {

struct WriterOptions {
  bool create = false;
  std::uint32_t application_id = 0x496E6472;  // "Indr"
  std::span<const Migration> migrations;      ///< user_version = how many were applied
  TimeNs idle_commit = 50'000'000;            ///< commit when nothing came for this long
  TimeNs busy_commit = 1 * kSecond;           ///< and at the latest after this long
  TimeNs barrier_every = 4 * kSecond;  ///< everything is durable at the latest after this long (promise: 5 s)
  std::uint64_t wal_limit = 32ull << 20;  ///< checkpoint when the WAL is longer (bytes)
  Disk* disk = nullptr;                   ///< null: the machine's
  const char* vfs_below = nullptr;        ///< as in DbOptions: the same disk, as SQLite sees it
  bool background = true;  ///< false: no threads; commits only by commit() and barrier() (tests)
  FaultPoints faults;      ///< "db.commit", "db.wal_sync", "db.checkpoint", "db.move_rest"
  /// Makes every content byte that a row of the open transaction may refer to durable. Called before each
  /// COMMIT, without the connection; twice when `bulk` (first with publishers running, then with them held).
  /// ENOSPC and EDQUOT say that nothing was lost and that it may be asked again; any other error is final.
  std::function<Result<void>()> sync_content;
  /// True when sync_content has something to do: else neither it nor the gate is touched.
  std::function<bool()> content_dirty;
  /// After each COMMIT is visible to other connections, with no lock held. Must be quick.
  std::function<void()> committed;
};

class Writer {
 public:
  /// Opens or makes the file and migrates it forward. Errors: Errc::newer_format, Errc::bad_format,
  /// Errc::corrupt (also when the WAL is shorter than what was once durable), or the errno.
  [[nodiscard]] static Result<std::unique_ptr<Writer>> open(const std::string& path, WriterOptions);
  /// A last barrier, a checkpoint, and the file closed.
  ~Writer();

  /// Runs fn(Tx&) alone in the open transaction, atomically: when it returns an error nothing of it remains.
  /// fn must not wait for anything.
  template <class F>
  [[nodiscard]] auto mutate(F&& fn) -> decltype(fn(std::declval<Tx&>())) {
    bool grown = false;
    auto r = [&]() INDRA_NO_ANALYSIS -> decltype(fn(std::declval<Tx&>())) {
      FairLock lock{mutex_};
      INDRA_TRY(begin_mutation());
      auto done = fn(*tx_);
      INDRA_TRY(end_mutation(done.has_value()));
      grown = std::exchange(commit_now_, false);
      return done;
    }();
    if (grown) commit_grown();
    return r;
  }
  /// As mutate(), for rows that refer to content bytes written by this thread before the call: waits while a
  /// commit is making content durable, so that no committed row is ever ahead of its bytes (D3).
  template <class F>
  [[nodiscard]] auto mutate_content(F&& fn) -> decltype(fn(std::declval<Tx&>())) {
    const GatePass pass{*this};
    return mutate(std::forward<F>(fn));
  }
  /// Runs fn(Tx&) alone in the open transaction; fn only reads. Sees every mutation, committed or not. Comes
  /// before mutations that wait.
  template <class F>
  [[nodiscard]] auto read(F&& fn) -> decltype(fn(std::declval<Tx&>())) {
    HurriedLock lock{mutex_};
    INDRA_TRY(ensure_transaction());
    auto done = fn(*tx_);
    auto whole = still_whole();
    if (done && !whole) return fail(std::move(whole).error());
    return done;
  }

  /// COMMIT: visible to other connections; durable with the next barrier.
  [[nodiscard]] Result<void> commit();
  /// Returns when everything mutated before the call survives a power cut. One sync serves all who wait.
  [[nodiscard]] Result<void> barrier();
  /// What was mutated before the call has waited since that moment of the steady clock already, as bytes that
  /// were not in rows yet: it is durable within barrier_every of that.
  void owes(TimeNs since);
  /// Moves the WAL into the database file: long part beside other work, then a short one alone.
  [[nodiscard]] Result<void> checkpoint();

  /// What the threads of `background` would do at this moment of a steady clock (tests): commit, barrier or
  /// checkpoint. From one thread.
  [[nodiscard]] Result<void> tick(TimeNs now);

  /// Mutations so far; those committed; those durable.
  [[nodiscard]] std::uint64_t mutations() const noexcept { return mutations_.load(); }
  [[nodiscard]] std::uint64_t durable() const noexcept { return durable_.load(); }
  /// Nothing to commit, nothing in the WAL that is not in the file.
  [[nodiscard]] bool at_rest() const;
  [[nodiscard]] std::uint64_t wal_bytes() const;
  [[nodiscard]] bool failed() const noexcept { return failed_.load(); }
  /// Process id of a reader that keeps the WAL from being reset, 0 if none.
  [[nodiscard]] int blocking_reader() const;
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  // The implementation may add private members; the members above are what others rely on.
 private:
  friend class GatePass;
  class GatePass {
   public:
    explicit GatePass(Writer& w) : w_{w} { w_.enter_gate(); }
    ~GatePass() { w_.leave_gate(); }
    GatePass(const GatePass&) = delete;
    GatePass& operator=(const GatePass&) = delete;

   private:
    Writer& w_;
  };
  explicit Writer(std::string path, WriterOptions options);
  Result<void> start();
  Result<void> accept(std::uint32_t application, std::uint32_t version) const;
  Result<void> migrate() INDRA_REQUIRES(mutex_);
  /// V3: all of the WAL goes into the file, then each page there gets its checksum.
  Result<void> seal() INDRA_REQUIRES(mutex_);
  sqlite3_file* wal_file() const INDRA_REQUIRES(mutex_);
  void enter_gate() INDRA_EXCLUDES(gate_mutex_);
  void leave_gate() INDRA_EXCLUDES(gate_mutex_);
  void close_gate() INDRA_EXCLUDES(gate_mutex_);
  void open_gate() INDRA_EXCLUDES(gate_mutex_);
  Result<void> begin_mutation() INDRA_REQUIRES(mutex_);       // BEGIN if needed, SAVEPOINT
  Result<void> end_mutation(bool ok) INDRA_REQUIRES(mutex_);  // RELEASE, or ROLLBACK TO
  Result<void> ensure_transaction() INDRA_REQUIRES(mutex_);
  /// An error when SQLite rolled the open transaction back, as it does when any statement meets a bad disk,
  /// no memory or no room: with mutations in it the writer is failed for good (W5).
  Result<void> still_whole() INDRA_REQUIRES(mutex_);
  /// Mutations wait, reads go on, without a transaction: for the last bit of a checkpoint (W8).
  void wait_while_still() INDRA_REQUIRES(mutex_);
  void hold_still(bool on) INDRA_REQUIRES(mutex_);
  Result<void> move_the_rest() INDRA_REQUIRES(checkpoint_mutex_) INDRA_EXCLUDES(commit_mutex_, mutex_);
  /// Nothing in the WAL is needed any more: it is told so, durably, so that a COMMIT syncs nothing when the
  /// WAL begins again (V6). False: somebody reads from it.
  Result<bool> end_wal() INDRA_REQUIRES(commit_mutex_) INDRA_EXCLUDES(mutex_);
  Result<void> run(const char* sql) INDRA_REQUIRES(mutex_);
  /// Room in the WAL's file for what the open transaction may have to write (W6).
  Result<void> reserve_wal() INDRA_REQUIRES(mutex_);
  [[nodiscard]] std::uint64_t wal_need() const INDRA_REQUIRES(mutex_);
  /// The same before the mutex is taken, so that nobody waits for it; whether there was room is asked later.
  void make_room() INDRA_REQUIRES(commit_mutex_) INDRA_EXCLUDES(mutex_);
  /// Commits what was mutated before the call, unless somebody has.
  Result<void> commit_once() INDRA_EXCLUDES(commit_mutex_, mutex_);
  /// By whoever made the transaction as large as a COMMIT may be without others waiting for long (W9). Waits
  /// for nobody's commit, and leaves it to the committer when content is to be synced before.
  void commit_grown() INDRA_EXCLUDES(commit_mutex_, mutex_);
  [[nodiscard]] bool content_waits() const;  // some row may refer to bytes that are not synced
  void was_committed() INDRA_EXCLUDES(mutex_);
  /// The commit protocol (W3). `after` follows before anybody else gets the connection.
  Result<void> commit_protocol(const std::function<Result<void>()>& after) INDRA_REQUIRES(commit_mutex_)
      INDRA_EXCLUDES(mutex_);
  Result<void> commit_held() INDRA_REQUIRES(mutex_, commit_mutex_);
  Result<void> lead_barrier() INDRA_EXCLUDES(sync_mutex_, commit_mutex_, mutex_);
  /// PASSIVE on the second connection; how many frames there are, and how many are in the file.
  struct Frames {
    int log, moved;
  };
  Result<Frames> passive() INDRA_REQUIRES(checkpoint_mutex_);
  Error poison(Error e);  // failed for good
  /// Of a checkpoint; a sync that failed is final.
  Error checkpoint_failure(sqlite3* db, int rc, const std::string& context);
  /// What was seen at earlier looks: since when there has been something to do; 0: there is nothing.
  struct Pace {
    std::uint64_t seen = 0;
    TimeNs pending = 0, undurable = 0, last_news = 0;
  };
  /// Commits, or makes durable, what has waited for long enough. True: time for a checkpoint.
  Result<bool> look(Pace&, TimeNs now, bool grown);
  void committer();
  void checkpointer();
  void wake_committer();
  void wake_checkpointer();

  std::string path_;
  WriterOptions options_;

  // Lock order, outermost first: checkpoint_mutex_, commit_mutex_, mutex_. The others are leaves.
  FairMutex mutex_;
  std::unique_ptr<Db> db_ INDRA_GUARDED_BY(mutex_);
  std::unique_ptr<Tx> tx_ INDRA_GUARDED_BY(mutex_);
  bool open_ INDRA_GUARDED_BY(mutex_) = false;        // a transaction is open
  bool committing_ INDRA_GUARDED_BY(mutex_) = false;  // by us: nothing else commits
  bool full_ INDRA_GUARDED_BY(mutex_) = false;        // the last COMMIT had no room: try before taking more
  std::int64_t changes_before_ INDRA_GUARDED_BY(mutex_) = 0;
  std::uint64_t bound_before_ INDRA_GUARDED_BY(mutex_) = 0;
  bool told_grown_ INDRA_GUARDED_BY(mutex_) = false;     // the committer knows of this transaction's size
  bool commit_now_ INDRA_GUARDED_BY(mutex_) = false;     // the mutation at hand is to be followed by a commit
  std::int64_t next_look_ INDRA_GUARDED_BY(mutex_) = 0;  // rows changed: then that is asked again

  Mutex commit_mutex_;

  Mutex gate_mutex_;
  std::condition_variable_any gate_cv_;
  bool gate_closed_ INDRA_GUARDED_BY(gate_mutex_) = false;
  int inside_ INDRA_GUARDED_BY(gate_mutex_) = 0;

  std::atomic<bool> still_{false};  // changed under mutex_ and still_mutex_
  Mutex still_mutex_;
  std::condition_variable_any still_cv_;

  Mutex sync_mutex_;
  std::condition_variable_any sync_cv_;
  bool syncing_ INDRA_GUARDED_BY(sync_mutex_) = false;

  Mutex checkpoint_mutex_;
  std::unique_ptr<Db> side_ INDRA_GUARDED_BY(checkpoint_mutex_);  // only checkpoints
  Mark mark_;

  std::atomic<std::uint64_t> mutations_{0}, committed_{0}, durable_{0};
  std::atomic<TimeNs> owed_{0};  // the earliest of owes() since the last barrier; 0: none
  std::atomic<std::uint64_t> commits_{1}, moved_commits_{0};  // so far; and at the last whole checkpoint
  std::atomic<int> wal_frames_{0};
  // Frames that a checkpoint has moved: where the next one goes all the same when a reader keeps the WAL from
  // beginning anew. 0: wal_frames_ says it.
  std::atomic<int> wal_tail_{0};
  std::atomic<bool> blocked_{false};  // the last checkpoint could not move everything
  std::atomic<bool> failed_{false};

  Mutex wake_mutex_;
  std::condition_variable_any commit_cv_, checkpoint_cv_;
  bool stop_ INDRA_GUARDED_BY(wake_mutex_) = false;
  std::atomic<bool> asleep_{false};  // the committer waits without a limit
  std::atomic<bool> grown_{false};   // the open transaction is to be committed soon
  std::atomic<bool> want_checkpoint_{false};
  Pace by_hand_;  // of tick()
  std::thread committer_, checkpointer_;
};

}  // namespace indra
