#include "db/writer.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"

namespace indra {
namespace {

// Rows. A COMMIT takes some microseconds a page, and others wait: so it comes at the first, by whoever got
// there, unless content must be synced before; at the second, by the committer, at any rate.
constexpr std::int64_t kSomeChanges = 128, kManyChanges = 2048;
constexpr TimeNs kRestAfter = 2 * kSecond;  // idle for this long: the WAL goes into the file

const std::error_code full_quota{EDQUOT, std::generic_category()};

TimeNs now() { return system_clock().steady(); }

}  // namespace

Writer::Writer(std::string path, WriterOptions options)
    : path_{std::move(path)}, options_{std::move(options)} {}

Result<std::unique_ptr<Writer>> Writer::open(const std::string& path, WriterOptions options) {
  std::unique_ptr<Writer> w{new Writer{path, std::move(options)}};
  INDRA_TRY(w->start());
  return w;
}

Result<void> Writer::start() {
  Disk& disk = options_.disk != nullptr ? *options_.disk : real_disk();
  INDRA_LET(const Inspected found,
            inspect(path_, disk, options_.vfs_below));  // before SQLite may touch anything
  if (found.exists) INDRA_TRY(accept(found.application_id, found.user_version));
  // By these two SQLite finds everything, and we the checksums.
  if (found.exists && (found.page_size != kDbPage || found.spare != kDbSpare))
    return fail(Errc::corrupt, path_ + ": the header is damaged or rewritten: pages of " +
                                   std::to_string(found.page_size) + " bytes, " +
                                   std::to_string(found.spare) + " spare, not " + std::to_string(kDbPage) +
                                   " and " + std::to_string(kDbSpare));
  if (!found.exists && !options_.create) return fail(ENOENT, "open " + path_);
  INDRA_TRY(mark_.open(disk, path_ + "-mark"));
  const auto behind = options_.migrations.subspan(found.user_version);
  const bool unsealed = found.exists && found.application_id == options_.application_id &&
                        std::any_of(behind.begin(), behind.end(), [](const Migration& m) { return m.seals; });
  {
    FairLock lock{mutex_};
    INDRA_LET(db_, Db::open(path_, {.create = options_.create,
                                    .vfs_below = options_.vfs_below,
                                    .unsealed = unsealed,
                                    .disk = &disk}));
    tx_.reset(new Tx{*db_});
    INDRA_TRY(db_->execute("PRAGMA cache_spill=OFF; PRAGMA journal_size_limit=" +
                           std::to_string(2 * options_.wal_limit)));
    if (unsealed) INDRA_TRY(seal());
    INDRA_TRY(migrate());
    sqlite3_wal_hook(
        db_->raw(),
        [](void* self, sqlite3*, const char*, int frames) {
          static_cast<Writer*>(self)->wal_frames_ = frames;
          static_cast<Writer*>(self)->wal_tail_ = 0;
          return SQLITE_OK;
        },
        this);
    // After a transaction was rolled back under somebody, each further statement of theirs would be committed
    // by itself: behind nothing's sync, and without what came before.
    sqlite3_commit_hook(
        db_->raw(),
        [](void* self) INDRA_NO_ANALYSIS { return static_cast<Writer*>(self)->committing_ ? 0 : 1; }, this);
  }
  {
    // What a crash left in the WAL is visible now, so it must be durable before anybody builds on it.
    MutexLock lock{checkpoint_mutex_};
    INDRA_LET(side_, Db::open(path_, {.cache_kib = 256, .vfs_below = options_.vfs_below}));
    INDRA_LET(const Frames f, passive());
    wal_frames_ = f.log == f.moved ? 0 : f.log;
    wal_tail_ = std::max(0, f.log);
    if (f.log == f.moved) {
      moved_commits_ = commits_.load();
    } else {
      FairLock inner{mutex_};
      sqlite3_file* wal = wal_file();
      if (wal != nullptr && wal->pMethods != nullptr)
        if (const int rc = wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL); rc != SQLITE_OK)
          return sqlite_failure(nullptr, rc, "sync " + path_ + "-wal");
    }
    INDRA_TRY(mark_.clear());
  }
  if (options_.background) {
    committer_ = std::thread{[this] { committer(); }};
    checkpointer_ = std::thread{[this] { checkpointer(); }};
  }
  return {};
}

Result<void> Writer::accept(std::uint32_t application, std::uint32_t version) const {
  if (application != options_.application_id && (application != 0 || version != 0))
    return fail(Errc::bad_format, path_ + " belongs to another application");
  if (version > options_.migrations.size())
    return fail(Errc::newer_format, path_ + " has format " + std::to_string(version) +
                                        ", this program knows " + std::to_string(options_.migrations.size()));
  return {};
}

Result<void> Writer::migrate() {
  INDRA_LET(const std::int64_t application, db_->pragma("PRAGMA application_id"));
  INDRA_LET(const std::int64_t version, db_->pragma("PRAGMA user_version"));
  INDRA_LET(const std::int64_t tables, db_->pragma("SELECT count(*) FROM sqlite_schema"));
  const auto known = static_cast<std::int64_t>(options_.migrations.size());
  const bool fresh = application == 0 && version == 0 && tables == 0;
  if (!fresh && static_cast<std::uint32_t>(application) != options_.application_id)
    return fail(Errc::bad_format, path_ + " belongs to another application");
  if (!fresh && version == known) return {};
  INDRA_TRY(db_->execute("BEGIN IMMEDIATE"));
  const auto apply = [&]() INDRA_REQUIRES(mutex_) -> Result<void> {
    for (const Migration& m : options_.migrations.subspan(static_cast<std::size_t>(version)))
      if (auto r = db_->execute(m.sql); !r)
        return fail(r.error().code, std::string{m.name} + ": " + r.error().context);
    return db_->execute(
        "PRAGMA application_id=" + std::to_string(static_cast<std::int32_t>(options_.application_id)) +
        "; PRAGMA user_version=" + std::to_string(known) + "; COMMIT");
  };
  if (auto r = apply(); !r) {
    if (sqlite3_get_autocommit(db_->raw()) == 0) (void)db_->execute("ROLLBACK");
    return r;
  }
  return {};
}

Writer::~Writer() {
  {
    MutexLock lock{wake_mutex_};
    stop_ = true;
    commit_cv_.notify_all();
    checkpoint_cv_.notify_all();
  }
  if (committer_.joinable()) committer_.join();
  if (checkpointer_.joinable()) checkpointer_.join();
  bool opened = false;
  {
    MutexLock lock{checkpoint_mutex_};
    opened = side_ != nullptr;
  }
  if (opened && !failed_) {
    auto r = checkpoint();
    // The WAL may go with the last connection: nothing may claim it any more, even after a power cut (K4).
    if (r && at_rest()) r = mark_.clear();
    if (!r) log::error("closing {}: {}", path_, r.error().text());
  }
  MutexLock outer{checkpoint_mutex_};
  FairLock lock{mutex_};
  if (failed_ && db_ != nullptr) {
    // What could not be made durable must not reach the file on the way out.
    for (Db* db : {side_.get(), db_.get()})
      if (db != nullptr) sqlite3_db_config(db->raw(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  }
  side_.reset();
  tx_.reset();
  db_.reset();
}

Error Writer::poison(Error e) {
  if (!failed_.exchange(true)) log::error("{} takes no more changes: {}", path_, e.text());
  return e;
}

// ---- the gate ----

void Writer::enter_gate() {
  for (bool told = false;; told = true) {
    {
      MutexLock lock{gate_mutex_};
      while (told && gate_closed_) gate_cv_.wait(gate_mutex_);
      if (!gate_closed_) {
        ++inside_;
        return;
      }
    }
    Absence::begins();  // a commit syncs content
  }
}

void Writer::leave_gate() {
  MutexLock lock{gate_mutex_};
  if (--inside_ == 0 && gate_closed_) gate_cv_.notify_all();
}

// Closed first, then empty: nobody enters any more, so the committer never starves.
void Writer::close_gate() {
  MutexLock lock{gate_mutex_};
  gate_closed_ = true;
  while (inside_ != 0) gate_cv_.wait(gate_mutex_);
}

void Writer::open_gate() {
  MutexLock lock{gate_mutex_};
  gate_closed_ = false;
  gate_cv_.notify_all();
}

// ---- mutations ----

Result<void> Writer::run(const char* sql) { return Statement{*tx_, sql}.run(); }

Result<void> Writer::ensure_transaction() {
  if (open_ || still_) return {};
  INDRA_TRY(run("BEGIN IMMEDIATE"));
  open_ = true;
  told_grown_ = false;
  next_look_ = kSomeChanges;
  changes_before_ = sqlite3_total_changes64(db_->raw());
  bound_before_ = db_->bound();
  return {};
}

sqlite3_file* Writer::wal_file() const {
  sqlite3_file* wal = nullptr;
  sqlite3_file_control(db_->raw(), "main", SQLITE_FCNTL_JOURNAL_POINTER, static_cast<void*>(&wal));
  return wal;
}

// A COMMIT that finds the disk full would be rolled back by SQLite, with mutations that were answered long
// ago. So the room is taken before. No more pages can be dirty than are in the cache, as nothing is spilled;
// and a row that changes touches a few dozen at most, besides those that its own bytes fill.
std::uint64_t Writer::wal_need() const {
  const std::int64_t changes = sqlite3_total_changes64(db_->raw()) - changes_before_;
  int used = 0, ignored = 0;
  sqlite3_db_status(db_->raw(), SQLITE_DBSTATUS_CACHE_USED, &used, &ignored, 0);
  const auto pages = std::min<std::uint64_t>(
      static_cast<std::uint64_t>(used) / kDbPage + 1,
      64 + 32 * static_cast<std::uint64_t>(changes) + 2 * (db_->bound() - bound_before_) / kDbPage);
  const int behind = std::max(wal_frames_.load(), wal_tail_.load());
  return kWalHeader + (static_cast<std::uint64_t>(behind) + pages) * kWalFrame;
}

Result<void> Writer::reserve_wal() {
  if (sqlite3_total_changes64(db_->raw()) == changes_before_ && !full_) return {};
  const int rc = reserve(wal_file(), wal_need());
  full_ = rc != SQLITE_OK;
  if (full_) return sqlite_failure(nullptr, rc, "no room for " + path_ + "-wal");
  return {};
}

// Only while no COMMIT can come: room is made by writing zeros behind the file's end.
void Writer::make_room() {
  sqlite3_file* wal = nullptr;
  std::uint64_t need = 0;
  {
    FairLock lock{mutex_};
    if (!open_ || sqlite3_total_changes64(db_->raw()) == changes_before_) return;
    wal = wal_file();
    need = wal_need();
  }
  (void)reserve(wal, need);
}

bool Writer::content_waits() const {
  return options_.sync_content && (!options_.content_dirty || options_.content_dirty());
}

void Writer::hold_still(bool on) {
  {
    MutexLock lock{still_mutex_};
    still_ = on;
  }
  if (!on) still_cv_.notify_all();
}

void Writer::wait_while_still() INDRA_NO_ANALYSIS {
  while (still_) {
    mutex_.unlock();
    Absence::begins();
    {
      MutexLock lock{still_mutex_};
      while (still_) still_cv_.wait(still_mutex_);
    }
    mutex_.lock();
  }
}

Result<void> Writer::begin_mutation() {
  wait_while_still();
  if (failed_.load(std::memory_order_relaxed)) return fail(Errc::failed);
  if (full_) INDRA_TRY(reserve_wal());
  INDRA_TRY(ensure_transaction());
  return run("SAVEPOINT m");
}

Result<void> Writer::still_whole() {
  if (!open_ || sqlite3_get_autocommit(db_->raw()) == 0) return {};
  // No memory, no room, a bad disk: SQLite gave up the whole transaction, and with it what others had in it.
  open_ = false;
  const std::uint64_t lost = mutations_.load() - committed_.load();
  if (lost == 0) return fail(EIO, "a transaction was rolled back");
  return fail(poison({make_error_code(Errc::failed),
                      "a transaction with " + std::to_string(lost) + " mutations was rolled back"}));
}

Result<void> Writer::end_mutation(bool ok) {
  if (auto r = still_whole(); !r) return ok ? std::move(r) : Result<void>{};  // else its own error is told
  if (ok) {
    INDRA_TRY(run("RELEASE m"));
    mutations_.fetch_add(1);
    const std::int64_t changes = sqlite3_total_changes64(db_->raw()) - changes_before_;
    const bool grown = !told_grown_ && changes > kManyChanges;
    if (grown) told_grown_ = grown_ = true;
    if (changes > next_look_ && options_.background) {
      next_look_ = changes + kSomeChanges / 4;
      commit_now_ = !content_waits();
    }
    if (grown || asleep_.load()) wake_committer();
    return {};
  }
  INDRA_TRY(run("ROLLBACK TO m"));
  return run("RELEASE m");
}

// ---- commit ----

Result<void> Writer::commit_held() {
  if (!open_) return {};
  INDRA_TRY(options_.faults.at("db.commit"));
  INDRA_TRY(reserve_wal());
  const std::uint64_t upto = mutations_.load();
  const bool news = upto != committed_.load();
  if (news) mark_.committing();
  committing_ = true;
  auto r = run("COMMIT");
  committing_ = false;
  if (!r) {
    if (sqlite3_get_autocommit(db_->raw()) == 0) return r;  // still open: may be tried again
    open_ = false;
    if (news) return fail(poison(std::move(r).error()));
    return r;
  }
  open_ = false;
  if (!news) return {};
  ++commits_;
  committed_ = upto;
  mark_.committed(last_commit(wal_file()));
  return {};
}

Result<void> Writer::commit_protocol(const std::function<Result<void>()>& after) {
  const auto dirty = [this] { return content_waits(); };
  const auto finish = [&]() INDRA_NO_ANALYSIS -> Result<void> {
    INDRA_TRY(commit_held());
    return after ? after() : Result<void>{};
  };
  const auto sync_content = [&]() -> Result<void> {
    auto r = options_.sync_content();
    if (r || r.error().code == std::errc::no_space_on_device || r.error().code == full_quota) return r;
    return fail(poison(std::move(r).error()));
  };
  if (failed_) return fail(Errc::failed);
  make_room();
  if (!dirty()) {
    FairLock lock{mutex_};
    if (!dirty()) return finish();  // asked again: a publisher may have come before the lock
  }
  INDRA_TRY(sync_content());
  struct Gate {
    Writer& w;
    explicit Gate(Writer& writer) : w{writer} { w.close_gate(); }
    ~Gate() { w.open_gate(); }
  } gate{*this};
  if (dirty()) INDRA_TRY(sync_content());
  make_room();
  FairLock lock{mutex_};
  return finish();
}

Result<void> Writer::commit_once() {
  const std::uint64_t target = mutations_.load();
  bool news = false;
  {
    MutexLock lock{commit_mutex_};
    const std::uint64_t before = committed_.load();
    if (before >= target) return {};
    INDRA_TRY(commit_protocol(nullptr));
    news = committed_.load() != before;
  }
  if (news) was_committed();
  return {};
}

void Writer::was_committed() {
  if (options_.committed) options_.committed();
  if (options_.background && wal_bytes() > options_.wal_limit / 2 && !want_checkpoint_.exchange(true))
    wake_checkpointer();
}

void Writer::commit_grown() {
  if (!commit_mutex_.try_lock()) return;  // whoever has it commits
  Absence::begins();
  const std::uint64_t before = committed_.load();
  make_room();
  {
    FairLock lock{mutex_};
    // What fails here is heard by the next mutation or barrier, or tried again.
    if (!failed_ && !content_waits()) (void)commit_held();
  }
  const bool news = committed_.load() != before;
  commit_mutex_.unlock();
  if (news) was_committed();
}

Result<void> Writer::commit() {
  INDRA_TRY(commit_once());
  // Whoever writes faster than the checkpointer moves pages lends a hand, so that the WAL stays bounded.
  if (wal_bytes() > 6 * options_.wal_limit && !blocked_) return checkpoint();
  return {};
}

// ---- barrier ----

Result<void> Writer::lead_barrier() {
  INDRA_TRY(commit_once());
  sqlite3_file* wal = nullptr;
  std::uint64_t covered = 0;
  WalPosition upto;
  {
    FairLock lock{mutex_};
    covered = committed_.load();
    wal = wal_file();
    upto = last_commit(wal);
  }
  if (covered <= durable_.load()) return {};
  if (failed_) return fail(Errc::failed);
  INDRA_TRY(options_.faults.at("db.wal_sync").map_error([this](Error e) { return poison(std::move(e)); }));
  // The file stays open as long as the connection, and syncing it needs no lock of SQLite's.
  if (wal != nullptr && wal->pMethods != nullptr) {
    if (const int rc = wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL); rc != SQLITE_OK)
      return fail(poison(sqlite_failure(nullptr, rc, "sync " + path_ + "-wal").value()));
  }
  mark_.durable(upto);
  durable_ = covered;
  return {};
}

Result<void> Writer::barrier() {
  const std::uint64_t target = mutations_.load();
  {
    MutexLock lock{sync_mutex_};
    for (;;) {
      if (durable_.load() >= target) return {};
      if (failed_) return fail(Errc::failed);
      if (!syncing_) break;
      sync_cv_.wait(sync_mutex_);
    }
    syncing_ = true;
  }
  const TimeNs owed = owed_.exchange(0);  // by what was mutated before, and so is covered
  auto r = lead_barrier();
  if (!r && owed != 0) owes(owed);
  MutexLock lock{sync_mutex_};
  syncing_ = false;
  sync_cv_.notify_all();
  return r;
}

void Writer::owes(TimeNs since) {
  TimeNs before = owed_.load();
  while ((before == 0 || since < before) && !owed_.compare_exchange_weak(before, since)) {
  }
}

// ---- background ----

void Writer::wake_committer() {
  MutexLock lock{wake_mutex_};
  commit_cv_.notify_all();
}

void Writer::wake_checkpointer() {
  MutexLock lock{wake_mutex_};
  checkpoint_cv_.notify_all();
}

Result<bool> Writer::look(Pace& p, TimeNs t, bool grown) {
  const std::uint64_t count = mutations_.load();
  const bool idle = count == p.seen;
  if (!idle || p.last_news == 0) p.last_news = t;
  p.seen = count;
  if (count == committed_.load())
    p.pending = 0;
  else if (p.pending == 0)
    p.pending = t;
  if (count == durable_.load())
    p.undurable = 0;
  else if (p.undurable == 0)
    p.undurable = t;

  const TimeNs owed = owed_.load();
  const TimeNs since = owed != 0 ? std::min(owed, p.undurable) : p.undurable;
  if (p.undurable != 0 && t - since >= options_.barrier_every) {
    p.pending = p.undurable = 0;
    INDRA_TRY(barrier());
  } else if (p.pending != 0 && (idle || grown || t - p.pending >= options_.busy_commit)) {
    p.pending = 0;
    INDRA_TRY(commit());
  }
  return t - p.last_news >= kRestAfter && count == durable_.load() && !at_rest();
}

Result<void> Writer::tick(TimeNs t) {
  INDRA_LET(const bool rest, look(by_hand_, t, grown_.exchange(false)));
  return rest ? checkpoint() : Result<void>{};
}

// Polls while there is something to do, so that a mutation need not signal: it only does when asleep_, and
// once for a transaction that has grown.
void Writer::committer() {
  const TimeNs tick = std::clamp<TimeNs>(
      std::min({options_.idle_commit, options_.busy_commit, options_.barrier_every}), 1'000'000, kSecond);
  Pace pace{mutations_.load(), 0, 0, now()};
  for (;;) {
    {
      MutexLock lock{wake_mutex_};
      asleep_ = true;
      if (!stop_ && (mutations_.load() == durable_.load() || failed_)) {
        if (at_rest() || failed_)
          commit_cv_.wait(wake_mutex_);
        else
          commit_cv_.wait_for(wake_mutex_, std::chrono::nanoseconds{kRestAfter});
      }
      asleep_ = false;
      const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds{tick};
      while (!stop_ && !grown_ && commit_cv_.wait_until(wake_mutex_, until) != std::cv_status::timeout) {
      }
      if (stop_) return;
    }
    const bool grown = grown_.exchange(false);
    if (failed_) continue;
    const auto rest = look(pace, now(), grown);
    if (!rest && !failed_) log::warn("{}: {}", path_, rest.error().text());
    if (rest && *rest && !want_checkpoint_.exchange(true)) wake_checkpointer();
  }
}

}  // namespace indra
