// sqlite3_backup into a file that is not there: its writes are gathered into blocks, which are handed on.
#include "db/copying.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <vector>

#include "db/vfs.h"

namespace indra {
namespace {

/// What one copy gathers. A block is complete when all its pages were written; the first one, whose first
/// page is written again at the end, is kept until then.
class Blocks {
 public:
  using Take = std::function<Result<void>(std::uint32_t, ByteView)>;
  Blocks(std::size_t page, bool sums, const Take& take) : page_{page}, sums_{sums}, take_{take} {}

  int write(const void* bytes, int n, sqlite3_int64 at) {
    if (static_cast<std::size_t>(n) != page_ || at % n != 0) return SQLITE_IOERR_WRITE;
    const auto number = static_cast<std::uint64_t>(at) / page_;
    const auto block = static_cast<std::uint32_t>(number / per_block());
    if (done(block)) return SQLITE_IOERR_WRITE;  // it was handed on
    Open& o = open_[block];
    if (o.bytes.empty()) o.bytes.resize(kCopyBlock);
    const std::size_t slot = number % per_block();
    std::byte* to = o.bytes.data() + slot * page_;
    std::memcpy(to, bytes, page_);
    if (sums_) store_le(to + page_ - kDbSpare, page_checksum(static_cast<std::uint32_t>(number) + 1, to));
    o.pages |= 1ull << slot;
    size_ = std::max(size_, (number + 1) * page_);
    if (block == 0 || o.pages != full()) return SQLITE_OK;
    return hand_on(block);
  }
  int read(void* out, int n, sqlite3_int64 at) const {
    std::memset(out, 0, static_cast<std::size_t>(n));
    const auto from = static_cast<std::uint64_t>(at);
    const auto it = open_.find(static_cast<std::uint32_t>(from / kCopyBlock));
    if (it == open_.end() || from % kCopyBlock + static_cast<std::size_t>(n) > kCopyBlock)
      return from < size_ ? SQLITE_IOERR_READ : SQLITE_IOERR_SHORT_READ;
    std::memcpy(out, it->second.bytes.data() + from % kCopyBlock, static_cast<std::size_t>(n));
    return from + static_cast<std::uint64_t>(n) <= size_ ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
  }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// What is left: the first block, the last one, and the one with the page that SQLite never uses.
  Result<void> finish(std::uint64_t size) {
    if (size != size_) return fail(Errc::corrupt, "the copy of a database has another size");
    while (!open_.empty()) {
      const std::uint32_t block = open_.begin()->first;
      const std::uint64_t from = std::uint64_t{block} * kCopyBlock;
      const std::size_t have = std::min<std::uint64_t>(kCopyBlock, size_ - from);
      std::uint64_t missing =
          (have == kCopyBlock ? full() : (1ull << have / page_) - 1) & ~open_.begin()->second.pages;
      // The page at 1 GiB, where SQLite's locks lie.
      const std::uint64_t unused = (1ull << 30) / page_;
      if (unused / per_block() == block) missing &= ~(1ull << unused % per_block());
      if (missing != 0) return fail(Errc::corrupt, "a page of a database is missing in its copy");
      open_.begin()->second.bytes.resize(have);
      if (hand_on(block) != SQLITE_OK) break;
    }
    if (error_) return fail(*error_);
    const auto blocks = static_cast<std::uint32_t>((size_ + kCopyBlock - 1) / kCopyBlock);
    for (std::uint32_t b = 0; b < blocks; ++b)
      if (!done(b)) return fail(Errc::corrupt, "a block of a database is missing in its copy");
    return {};
  }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 private:
  struct Open {
    Bytes bytes;
    std::uint64_t pages = 0;  // bit i: page i of the block was written
  };
  [[nodiscard]] std::size_t per_block() const { return kCopyBlock / page_; }
  [[nodiscard]] std::uint64_t full() const { return per_block() == 64 ? ~0ull : (1ull << per_block()) - 1; }
  [[nodiscard]] bool done(std::uint32_t block) const { return block < done_.size() && done_[block]; }
  int hand_on(std::uint32_t block) {
    const auto it = open_.find(block);
    auto r = error_ ? Result<void>{} : take_(block, it->second.bytes);
    if (!r) error_ = std::move(r).error();
    open_.erase(it);
    if (block >= done_.size()) done_.resize(block + 1 + block / 4);
    done_[block] = true;
    return error_ ? SQLITE_IOERR_WRITE : SQLITE_OK;
  }

  const std::size_t page_;
  const bool sums_;
  const Take& take_;
  std::map<std::uint32_t, Open> open_;
  std::vector<bool> done_;
  std::uint64_t size_ = 0;
  std::optional<Error> error_;
};

// ---- the file that is not there ----

struct SinkFile {
  sqlite3_file base;
  Blocks* blocks;
};
Blocks& blocks_of(sqlite3_file* f) { return *reinterpret_cast<SinkFile*>(f)->blocks; }
thread_local Blocks* opening = nullptr;  // what the file being opened by this thread writes to

int sink_close(sqlite3_file*) { return SQLITE_OK; }
int sink_read(sqlite3_file* f, void* out, int n, sqlite3_int64 at) { return blocks_of(f).read(out, n, at); }
int sink_write(sqlite3_file* f, const void* p, int n, sqlite3_int64 at) {
  return blocks_of(f).write(p, n, at);
}
int sink_truncate(sqlite3_file* f, sqlite3_int64 size) {
  return static_cast<std::uint64_t>(size) == blocks_of(f).size() ? SQLITE_OK : SQLITE_IOERR_TRUNCATE;
}
int sink_sync(sqlite3_file*, int) { return SQLITE_OK; }
int sink_size(sqlite3_file* f, sqlite3_int64* out) {
  *out = static_cast<sqlite3_int64>(blocks_of(f).size());
  return SQLITE_OK;
}
int sink_lock(sqlite3_file*, int) { return SQLITE_OK; }
int sink_reserved(sqlite3_file*, int* out) {
  *out = 0;
  return SQLITE_OK;
}
int sink_control(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int sink_sector(sqlite3_file*) { return 4096; }
int sink_traits(sqlite3_file*) { return 0; }
const sqlite3_io_methods kSinkMethods = {
    1,         sink_close, sink_read,     sink_write,   sink_truncate, sink_sync,   sink_size,
    sink_lock, sink_lock,  sink_reserved, sink_control, sink_sector,   sink_traits, nullptr,
    nullptr,   nullptr,    nullptr,       nullptr,      nullptr};

int sink_open(sqlite3_vfs*, const char*, sqlite3_file* f, int flags, int* out) {
  f->pMethods = nullptr;
  if ((flags & SQLITE_OPEN_MAIN_DB) == 0 || opening == nullptr) return SQLITE_CANTOPEN;
  reinterpret_cast<SinkFile*>(f)->blocks = opening;
  f->pMethods = &kSinkMethods;
  if (out != nullptr) *out = flags;
  return SQLITE_OK;
}
int sink_delete(sqlite3_vfs*, const char*, int) { return SQLITE_OK; }
int sink_access(sqlite3_vfs*, const char*, int, int* out) {
  *out = 0;
  return SQLITE_OK;
}
int sink_path(sqlite3_vfs*, const char* name, int n, char* out) {
  sqlite3_snprintf(n, out, "%s", name);
  return SQLITE_OK;
}
int sink_random(sqlite3_vfs*, int n, char* out) {
  std::memset(out, 0, static_cast<std::size_t>(n));
  return n;
}
int sink_sleep(sqlite3_vfs*, int n) { return n; }
int sink_time(sqlite3_vfs*, double* out) {
  *out = 2440587.5;
  return SQLITE_OK;
}
int sink_error(sqlite3_vfs*, int, char*) { return 0; }

const char* sink_vfs() {
  static sqlite3_vfs vfs{};
  static std::once_flag once;
  std::call_once(once, [] {
    vfs.iVersion = 1;
    vfs.szOsFile = sizeof(SinkFile);
    vfs.mxPathname = 64;
    vfs.zName = "indra-copy";
    vfs.xOpen = sink_open;
    vfs.xDelete = sink_delete;
    vfs.xAccess = sink_access;
    vfs.xFullPathname = sink_path;
    vfs.xRandomness = sink_random;
    vfs.xSleep = sink_sleep;
    vfs.xCurrentTime = sink_time;
    vfs.xGetLastError = sink_error;
    sqlite3_vfs_register(&vfs, 0);
  });
  return vfs.zName;
}

struct Connection {
  sqlite3* db = nullptr;
  ~Connection() { sqlite3_close(db); }
};

}  // namespace

Result<void> copy_database(Db& source, const std::function<Result<void>(std::uint32_t, ByteView)>& take) {
  INDRA_LET(const std::int64_t page, source.pragma("PRAGMA page_size"));
  if (page < 1024 || kCopyBlock % static_cast<std::size_t>(page) != 0)
    return fail(Errc::bad_format, "a database with pages of " + std::to_string(page) + " bytes");
  int spare = -1;
  sqlite3_file_control(source.raw(), "main", SQLITE_FCNTL_RESERVE_BYTES, &spare);
  Blocks blocks{static_cast<std::size_t>(page),
                page == static_cast<std::int64_t>(kDbPage) && spare == static_cast<int>(kDbSpare), take};
  Connection to;
  opening = &blocks;
  int rc = sqlite3_open_v2("copy", &to.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                           sink_vfs());
  if (rc == SQLITE_OK)
    rc = sqlite3_exec(to.db,
                      "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
                      "PRAGMA cache_size=64; PRAGMA temp_store=MEMORY",
                      nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) return sqlite_failure(to.db, rc, "copying a database");
  sqlite3_backup* copy = sqlite3_backup_init(to.db, "main", source.raw(), "main");
  if (copy == nullptr) return sqlite_failure(to.db, sqlite3_errcode(to.db), "copying a database");
  do {
    rc = sqlite3_backup_step(copy, -1);
  } while (rc == SQLITE_OK);
  const std::uint64_t pages = static_cast<std::uint64_t>(sqlite3_backup_pagecount(copy));
  const int finished = sqlite3_backup_finish(copy);
  opening = nullptr;
  if (blocks.error()) return fail(*blocks.error());
  if (rc != SQLITE_DONE || finished != SQLITE_OK) {
    return sqlite_failure(nullptr, rc != SQLITE_DONE && rc != SQLITE_OK ? rc : finished,
                          "copying a database");
  }
  return blocks.finish(pages * static_cast<std::uint64_t>(page));
}

}  // namespace indra
