#include "db/db.h"

#include <sys/stat.h>

#include <cerrno>

#include "db/vfs.h"

namespace indra {
namespace {

class Category final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "sqlite"; }
  [[nodiscard]] std::string message(int rc) const override { return sqlite3_errstr(rc); }
  [[nodiscard]] std::error_condition default_error_condition(int rc) const noexcept override {
    return {errno_of(rc), std::generic_category()};
  }

 private:
  static int errno_of(int rc) noexcept {
    switch (rc) {
      case SQLITE_IOERR_NOMEM:
        return ENOMEM;
      case SQLITE_CONSTRAINT_FOREIGNKEY:
      case SQLITE_CONSTRAINT_CHECK:
      case SQLITE_CONSTRAINT_NOTNULL:
        return EINVAL;
      default:
        break;
    }
    switch (rc & 0xff) {
      case SQLITE_FULL:
        return ENOSPC;
      case SQLITE_READONLY:
        return EROFS;
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
        return EBUSY;
      case SQLITE_NOMEM:
        return ENOMEM;
      case SQLITE_CONSTRAINT:
        return EEXIST;
      case SQLITE_TOOBIG:
        return EFBIG;
      case SQLITE_PERM:
      case SQLITE_AUTH:
        return EACCES;
      case SQLITE_CANTOPEN:
        return ENOENT;
      case SQLITE_INTERRUPT:
        return EINTR;
      case SQLITE_MISMATCH:
      case SQLITE_RANGE:
      case SQLITE_MISUSE:
        return EINVAL;
      default:
        return EIO;  // IOERR, CORRUPT, NOTADB, FORMAT, PROTOCOL, ERROR, ...
    }
  }
};

}  // namespace

const std::error_category& sqlite_category() noexcept {
  static const Category category;
  return category;
}

Failure sqlite_failure(sqlite3* db, int rc, std::string_view context) {
  std::string text{context};
  if (db != nullptr && (sqlite3_errcode(db) & 0xff) == (rc & 0xff)) {
    if (!text.empty()) text += ": ";
    text += sqlite3_errmsg(db);
  }
  // What stood in the way, where the system said it: SQLite has one word for all of it.
  if (db != nullptr && (rc & 0xff) == SQLITE_CANTOPEN)
    for (const int err : {EACCES, EPERM, ELOOP, EMFILE, ENFILE})
      if (sqlite3_system_errno(db) == err) return fail(err, std::move(text));
  // Damage is one kind for our callers, whoever found it: the page checksum or SQLite itself.
  if (rc == SQLITE_IOERR_DATA || (rc & 0xff) == SQLITE_CORRUPT) return fail(Errc::corrupt, std::move(text));
  return fail(std::error_code{rc, sqlite_category()}, std::move(text));
}

Statement::Statement(Tx& tx, const char* sql) : db_{tx.db()}, sql_{sql} { s_ = db_.take(sql, first_error_); }

Statement::~Statement() {
  if (s_ != nullptr) db_.give_back(sql_, s_);
}

Statement& Statement::bind(int index, std::int64_t v) {
  if (first_error_ == SQLITE_OK) first_error_ = sqlite3_bind_int64(s_, index, v);
  return *this;
}

Statement& Statement::bind(int index, std::nullptr_t) {
  if (first_error_ == SQLITE_OK) first_error_ = sqlite3_bind_null(s_, index);
  return *this;
}

// An empty view may have no address, and SQLite takes a null address for NULL.
Statement& Statement::bind_text(int index, std::string_view v) {
  db_.bound_ += v.size();
  if (first_error_ == SQLITE_OK)
    first_error_ =
        sqlite3_bind_text64(s_, index, v.empty() ? "" : v.data(), v.size(), SQLITE_STATIC, SQLITE_UTF8);
  return *this;
}

Statement& Statement::bind_blob(int index, ByteView v) {
  db_.bound_ += v.size();
  if (first_error_ == SQLITE_OK) {
    const void* at = v.empty() ? static_cast<const void*>("") : v.data();
    first_error_ = sqlite3_bind_blob64(s_, index, at, v.size(), SQLITE_STATIC);
  }
  return *this;
}

Result<bool> Statement::step() {
  int rc = first_error_;
  if (rc == SQLITE_OK) {
    rc = sqlite3_step(s_);
    if (rc == SQLITE_ROW) return true;
    if (rc == SQLITE_DONE) return false;
  }
  return sqlite_failure(db_.raw(), rc, sql_);
}

Result<void> Statement::run() {
  INDRA_TRY(step());
  sqlite3_reset(s_);
  return {};
}

ByteView Statement::blob_at(int column) const {
  const auto* p =
      static_cast<const std::byte*>(sqlite3_column_blob(s_, column));  // before the size: may convert
  return {p, static_cast<std::size_t>(sqlite3_column_bytes(s_, column))};
}

std::string_view Statement::text_at(int column) const { return as_text(blob_at(column)); }

void Statement::reset() {
  if (s_ == nullptr) return;
  sqlite3_reset(s_);
  sqlite3_clear_bindings(s_);
  first_error_ = SQLITE_OK;
}

sqlite3_stmt* Db::take(const char* sql, int& rc) {
  auto& idle = cache_[sql];
  if (!idle.empty()) {
    sqlite3_stmt* s = idle.back();
    idle.pop_back();
    return s;
  }
  sqlite3_stmt* s = nullptr;
  rc = sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, nullptr);
  if (rc == SQLITE_OK && s == nullptr) rc = SQLITE_MISUSE;  // nothing but a comment
  return s;
}

void Db::give_back(const char* sql, sqlite3_stmt* s) {
  sqlite3_reset(s);
  sqlite3_clear_bindings(s);
  cache_[sql].push_back(s);
}

Db::~Db() {
  for (auto& [sql, idle] : cache_)
    for (sqlite3_stmt* s : idle) sqlite3_finalize(s);
  sqlite3_close(db_);
}

Result<void> Db::execute(const std::string& sql) {
  if (const int rc = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr); rc != SQLITE_OK)
    return sqlite_failure(db_, rc, sql.substr(0, 80));
  return {};
}

Result<std::int64_t> Db::pragma(const char* sql) {
  sqlite3_stmt* s = nullptr;
  int rc = sqlite3_prepare_v2(db_, sql, -1, &s, nullptr);
  std::int64_t value = 0;
  if (rc == SQLITE_OK) {
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
      value = sqlite3_column_int64(s, 0);
      rc = SQLITE_OK;
    } else if (rc == SQLITE_DONE) {
      rc = SQLITE_OK;
    }
  }
  auto failure = rc == SQLITE_OK ? Result<std::int64_t>{value} : sqlite_failure(db_, rc, sql);
  sqlite3_finalize(s);
  return failure;
}

Result<std::unique_ptr<Db>> Db::open(const std::string& path, const DbOptions& options) {
  if (options.vfs == nullptr && options.vfs_below == nullptr)
    for (const char* end : {"", "-wal", "-shm"}) {  // SQLite would follow them
      struct stat st {};
      if (::lstat((path + end).c_str(), &st) == 0 && S_ISLNK(st.st_mode))
        return fail(ELOOP, path + end + " is a symbolic link, which no file of a vault is; remove it");
    }
  if (options.create) {
    // SQLite would make it readable for the group. Nobody has a file open that is new, so closing is
    // harmless.
    Disk& disk = options.disk != nullptr ? *options.disk : real_disk();
    if (auto made = disk.open(path, true); !made && made.error().code != std::errc::file_exists)
      return fail(made.error());
  }
  // NOMUTEX: whoever uses the connection holds its Tx, so SQLite's own lock would be taken for nothing.
  const int flags = SQLITE_OPEN_NOMUTEX | (options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
  sqlite3* raw = nullptr;
  const char* vfs = options.vfs != nullptr ? options.vfs : our_vfs(options.vfs_below);
  const int rc = sqlite3_open_v2(path.c_str(), &raw, flags, vfs);
  if (rc != SQLITE_OK) {
    auto failure = sqlite_failure(raw, rc, "open " + path);
    sqlite3_close(raw);
    return failure;
  }
  std::unique_ptr<Db> db{new Db{raw}};
  if (options.unsealed) expect_unsealed(raw, true);
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, kBusyTimeout);
  INDRA_TRY(
      db->execute("PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=OFF; PRAGMA mmap_size=0;"
                  "PRAGMA temp_store=MEMORY; PRAGMA secure_delete=OFF; PRAGMA cell_size_check=ON;"
                  "PRAGMA cache_size=-" +
                  std::to_string(options.cache_kib)));
  if (options.read_only) return db;
  INDRA_LET(const std::int64_t pages, db->pragma("PRAGMA page_count"));
  if (pages == 0) {
    INDRA_TRY(db->execute("PRAGMA page_size=4096"));
    int reserved = kDbSpare;
    sqlite3_file_control(raw, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved);
  }
  INDRA_TRY(db->execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0"));
  return db;
}

}  // namespace indra
