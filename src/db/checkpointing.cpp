// Moving the WAL into the database file: beside other work as far as it goes, the last bit while mutations
// wait.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>

#include "base/log.h"
#include "db/writer.h"

namespace indra {
namespace {
constexpr int kFewFrames = 256;  // moved while others wait

bool is_sync(int rc) { return rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC; }
}  // namespace

Result<Writer::Frames> Writer::passive() {
  Frames f{};
  const int rc = sqlite3_wal_checkpoint_v2(side_->raw(), "main", SQLITE_CHECKPOINT_PASSIVE, &f.log, &f.moved);
  if (rc == SQLITE_OK) return f;
  if ((rc & 0xff) == SQLITE_BUSY) return Frames{std::max(1, wal_frames_.load()), 0};
  return fail(checkpoint_failure(side_->raw(), rc, "checkpoint " + path_));
}

// Tried again it would trust a second sync of what the kernel has forgotten (W5).
Error Writer::checkpoint_failure(sqlite3* db, int rc, const std::string& context) {
  Error e = sqlite_failure(db, rc, context).value();
  return is_sync(rc) ? poison(std::move(e)) : e;
}

Result<void> Writer::checkpoint() {
  MutexLock lock{checkpoint_mutex_};
  if (failed_) return fail(Errc::failed);
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
  Result<bool> ended = false;
  if (f) {
    blocked_ = f->moved < f->log;
    if (!blocked_) {
      moved_commits_ = commits_.load();
      wal_frames_ = 0;  // the next write begins the WAL anew,
      ended = end_wal();
      wal_tail_ = ended && *ended ? 0 : std::max(0, f->log);  // unless somebody reads from it
    }
  }
  FairLock inner{mutex_};
  if (ended && *ended) wal_was_ended(wal_file());
  hold_still(false);
  if (!f) return fail(f.error());
  return ended ? Result<void>{} : Result<void>{fail(ended.error())};
}

// By the connection that writes: were it another's, this one would find the WAL changed and forget its pages.
Result<bool> Writer::end_wal() {
  sqlite3_file* wal = nullptr;
  {
    FairLock lock{mutex_};
    sqlite3_busy_timeout(db_->raw(), 0);
    const int rc =
        sqlite3_wal_checkpoint_v2(db_->raw(), "main", SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
    sqlite3_busy_timeout(db_->raw(), kBusyTimeout);
    if ((rc & 0xff) == SQLITE_BUSY) return false;
    if (rc != SQLITE_OK) return fail(checkpoint_failure(db_->raw(), rc, "end " + path_ + "-wal"));
    wal = wal_file();
  }
  if (wal == nullptr || wal->pMethods == nullptr) return false;
  if (const int rc = wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL); rc != SQLITE_OK)
    return fail(poison(sqlite_failure(nullptr, rc, "sync " + path_ + "-wal").value()));
  return true;
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
