#include "db/writer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>

#include "base/log.h"

namespace indra {
namespace {

constexpr std::int64_t kManyChanges = 8192;  // rows; a transaction that grew this far is committed soon
constexpr TimeNs kRestAfter = 2 * kSecond;   // idle for this long: the WAL goes into the file
constexpr int kFewFrames = 256;              // moved while others wait

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
  MutexLock lock{gate_mutex_};
  while (gate_closed_) gate_cv_.wait(gate_mutex_);
  ++inside_;
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
Result<void> Writer::reserve_wal() {
  const std::int64_t changes = sqlite3_total_changes64(db_->raw()) - changes_before_;
  if (changes == 0 && !full_) return {};
  int used = 0, ignored = 0;
  sqlite3_db_status(db_->raw(), SQLITE_DBSTATUS_CACHE_USED, &used, &ignored, 0);
  const auto pages = std::min<std::uint64_t>(
      static_cast<std::uint64_t>(used) / kDbPage + 1,
      64 + 32 * static_cast<std::uint64_t>(changes) + 2 * (db_->bound() - bound_before_) / kDbPage);
  const int behind = std::max(wal_frames_.load(), wal_tail_.load());
  const int rc = reserve(wal_file(), kWalHeader + (static_cast<std::uint64_t>(behind) + pages) * kWalFrame);
  full_ = rc != SQLITE_OK;
  if (full_) return sqlite_failure(nullptr, rc, "no room for " + path_ + "-wal");
  return {};
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

Result<void> Writer::end_mutation(bool ok) {
  if (ok) {
    INDRA_TRY(run("RELEASE m"));
    mutations_.fetch_add(1);
    const bool grown = !told_grown_ && sqlite3_total_changes64(db_->raw()) - changes_before_ > kManyChanges;
    if (grown) told_grown_ = grown_ = true;
    if (grown || asleep_.load()) wake_committer();
    return {};
  }
  if (sqlite3_get_autocommit(db_->raw()) != 0) {
    // No memory, no room, a bad disk: SQLite gave up the whole transaction, and with it what others had in
    // it.
    open_ = false;
    if (mutations_.load() != committed_.load())
      poison({make_error_code(Errc::failed), "a transaction with " +
                                                 std::to_string(mutations_.load() - committed_.load()) +
                                                 " mutations was rolled back"});
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
  if (auto r = run("COMMIT"); !r) {
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
  const auto dirty = [this] {
    return options_.sync_content && (!options_.content_dirty || options_.content_dirty());
  };
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
  if (!news) return {};
  if (options_.committed) options_.committed();
  if (options_.background && wal_bytes() > options_.wal_limit / 2 && !want_checkpoint_.exchange(true))
    wake_checkpointer();
  return {};
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

// ---- checkpoint ----

Result<Writer::Frames> Writer::passive() {
  Frames f{};
  const int rc = sqlite3_wal_checkpoint_v2(side_->raw(), "main", SQLITE_CHECKPOINT_PASSIVE, &f.log, &f.moved);
  if (rc == SQLITE_OK) return f;
  if ((rc & 0xff) == SQLITE_BUSY) return Frames{std::max(1, wal_frames_.load()), 0};
  return sqlite_failure(side_->raw(), rc, "checkpoint " + path_);
}

Result<void> Writer::checkpoint() {
  MutexLock lock{checkpoint_mutex_};
  INDRA_TRY(options_.faults.at("db.checkpoint"));
  for (int round = 0; round < 3; ++round) {
    INDRA_LET(const Frames f, passive());
    if (wal_frames_.load() - f.moved < kFewFrames || f.moved < f.log) break;
  }
  INDRA_TRY(barrier());
  const std::uint64_t before = committed_.load();
  auto moved = move_the_rest();
  if (committed_.load() != before && options_.committed) options_.committed();
  return moved;
}

// The WAL starts again only when a transaction begins while all of it is in the file. So none begins from the
// last commit until the file is synced; no COMMIT comes either, and who only reads need not wait for the
// disk.
Result<void> Writer::move_the_rest() {
  MutexLock lock{commit_mutex_};
  INDRA_TRY(commit_protocol([this]() INDRA_NO_ANALYSIS -> Result<void> {
    hold_still(true);
    return {};
  }));
  const auto f =
      options_.faults.at("db.move_rest").and_then([this]() INDRA_NO_ANALYSIS { return passive(); });
  if (f) {
    blocked_ = f->moved < f->log;
    if (!blocked_) {
      moved_commits_ = commits_.load();
      wal_frames_ = 0;                  // the next write begins the WAL anew,
      wal_tail_ = std::max(0, f->log);  // unless somebody reads from it
    }
  }
  FairLock inner{mutex_};
  hold_still(false);
  return f ? Result<void>{} : Result<void>{fail(f.error())};
}

std::uint64_t Writer::wal_bytes() const {
  const int frames = wal_frames_.load();
  return frames <= 0 ? 0 : 32 + static_cast<std::uint64_t>(frames) * kWalFrame;
}

bool Writer::at_rest() const {
  return mutations_.load() == committed_.load() && moved_commits_.load() == commits_.load();
}

// Readers hold a shared lock on one of the bytes 123 to 127 of the -shm. /proc/locks tells without opening
// it: closing a descriptor of ours would drop SQLite's locks.
int Writer::blocking_reader() const {
  struct stat shm {};
  if (!blocked_ || ::stat((path_ + "-shm").c_str(), &shm) != 0) return 0;
  std::ifstream locks{"/proc/locks"};
  const int self = ::getpid();
  int found = 0;
  for (std::string line; std::getline(locks, line);) {
    // 1: POSIX  ADVISORY  READ 4711 08:01:131090 124 124
    std::istringstream in{line};
    std::string number, kind, mode, access, place, first, last;
    int pid = 0;
    if (!(in >> number >> kind >> mode >> access >> pid >> place >> first >> last)) continue;
    if (kind != "POSIX" || access != "READ" || last == "EOF") continue;
    const auto colon = place.rfind(':');
    if (colon == std::string::npos || place.substr(colon + 1) != std::to_string(shm.st_ino)) continue;
    if (std::stoll(first) > 127 || std::stoll(last) < 123) continue;
    if (pid != self) return pid;
    found = pid;  // a connection of this process, unless another one is found
  }
  return found;
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

void Writer::checkpointer() {
  for (;;) {
    {
      MutexLock lock{wake_mutex_};
      while (!stop_ && !want_checkpoint_) checkpoint_cv_.wait(wake_mutex_);
      if (stop_) return;
    }
    want_checkpoint_ = false;
    if (auto r = checkpoint(); !r && !failed_) log::warn("checkpoint of {}: {}", path_, r.error().text());
    if (!blocked_) continue;
    // Somebody reads an old state. Asking again at once would only burn the disk.
    MutexLock lock{wake_mutex_};
    if (!stop_) checkpoint_cv_.wait_for(wake_mutex_, std::chrono::milliseconds{200});
  }
}

}  // namespace indra
