#include "events/coord.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "base/bytes.h"
#include "base/owned.h"
#include "events/internal/coord_state.h"

namespace indra {
namespace {

/// Somebody writes: asks again after a moment, sooner than SQLite's own handler would. 0: long enough.
int busy(void* p, int n) {
  const std::int64_t limit = static_cast<const std::atomic<std::int64_t>*>(p)->load();
  const std::int64_t step = n < 20 ? 200'000 : n < 100 ? 1'000'000 : 10'000'000;
  const std::int64_t waited = n < 20    ? n * 200'000
                              : n < 100 ? 4'000'000 + (n - 20) * 1'000'000LL
                                        : 84'000'000 + (n - 100) * 10'000'000LL;
  if (waited >= limit) return 0;
  const timespec t{0, step};
  ::nanosleep(&t, nullptr);
  return 1;
}

std::error_code code_of(int rc) {
  const auto e = [](int n) { return std::error_code{n, std::generic_category()}; };
  switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return e(EBUSY);
    case SQLITE_FULL:
      return e(ENOSPC);
    case SQLITE_READONLY:
      return e(EROFS);
    case SQLITE_PERM:
      return e(EPERM);
    case SQLITE_NOTFOUND:
      return e(ENOENT);
    case SQLITE_TOOBIG:
      return e(EMSGSIZE);
    case SQLITE_RANGE:
      return e(ESTALE);
    case SQLITE_MISMATCH:
      return e(EINVAL);
    case SQLITE_CANTOPEN:
      return e(ENOENT);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return make_error_code(Errc::corrupt);
    default:
      return e(EIO);
  }
}

Failure failure(sqlite3* db, int rc) {
  std::string text = db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
  if (text == sqlite3_errstr(SQLITE_BUSY))
    text = "coord.db is busy: somebody else holds a write transaction on it";
  if (db != nullptr && (rc & 0xff) == SQLITE_CANTOPEN)  // one word of SQLite's for whatever stood in the way
    for (const int err : {EACCES, EPERM, ELOOP, EMFILE, ENFILE})
      if (sqlite3_system_errno(db) == err) return fail(err, std::move(text));
  return fail(code_of(rc), std::move(text));
}

}  // namespace

Result<std::unique_ptr<Coord>> Coord::open(const std::string& path, Options o) {
  for (const char* end : {"", "-wal", "-shm"}) {  // SQLite would follow them
    struct stat st {};
    if (::lstat((path + end).c_str(), &st) == 0 && S_ISLNK(st.st_mode))
      return fail(ELOOP, path + end + " is a symbolic link, which no file of a vault is; remove it");
  }
  std::unique_ptr<Coord> c{new Coord};
  if (o.create) {
    // SQLite would make it readable for others. Nobody has a file open that is new.
    const int fd = open_owned(path, O_RDWR | O_CREAT | O_EXCL);
    if (fd < 0 && errno != EEXIST) return fail(errno, "create " + path);
    if (fd >= 0) ::close(fd);
  }
  int rc = sqlite3_open_v2(path.c_str(), &c->db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (rc != SQLITE_OK) {
    Error e = failure(c->db_, rc).value();
    e.context = path + ": " + e.context;
    return fail(std::move(e));
  }
  sqlite3_extended_result_codes(c->db_, 1);
  c->busy_ = std::make_unique<std::atomic<std::int64_t>>(o.busy);
  sqlite3_busy_handler(c->db_, busy, c->busy_.get());
  // Of those who make the file at once one turns it into a WAL database. The others hold a read lock then,
  // under which SQLite asks no busy handler (two might wait for each other). The failed attempt has given it
  // back.
  for (int n = 0;; ++n) {
    const auto wal = c->execute("PRAGMA journal_mode=WAL");
    if (wal) break;
    if (wal.error().code != std::errc::device_or_resource_busy || busy(c->busy_.get(), n) == 0)
      return fail(wal.error());
  }
  INDRA_TRY(c->execute(o.durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"));
  INDRA_TRY(c->execute("PRAGMA temp_store=MEMORY; PRAGMA cache_size=-4096; PRAGMA trusted_schema=OFF"));
  if (rc = coord::install(c->db_, o.clock, o.own); rc != SQLITE_OK) return failure(c->db_, rc);
  // The path that SQLite knows: others' extensions will find the same knock by it.
  INDRA_LET(c->knock_, Knock::open(coord_knock(sqlite3_db_filename(c->db_, "main"))));
  INDRA_LET(const auto there, c->select("SELECT COUNT(*) FROM sqlite_schema WHERE name = 'indra_meta'"));
  if (there.at(0).at(0) == 0) {
    if (!o.create) return fail(ENOENT, path + " has no indra_ tables");
    INDRA_TRY(c->execute("BEGIN IMMEDIATE"));
    const auto made = c->call("indra_bootstrap", {});
    INDRA_TRY(c->execute(made ? "COMMIT" : "ROLLBACK"));
    if (!made) return fail(made.error());
  }
  INDRA_LET(const auto version, c->select("SELECT value FROM indra_meta WHERE name = 'version'"));
  if (version.empty() || version[0][0] != 1) return fail(make_error_code(Errc::newer_format), path);
  return c;
}

Coord::~Coord() {
  for (auto& [sql, s] : statements_) sqlite3_finalize(s);
  if (db_ != nullptr) sqlite3_close_v2(db_);
}

Result<void> Coord::execute(const std::string& sql) {
  if (const int rc = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr); rc != SQLITE_OK)
    return failure(db_, rc);
  return {};
}

Result<std::vector<Coord::Json>> Coord::rows(const std::string& sql, const Arguments& arguments) {
  auto& kept = statements_[sql];
  if (kept == nullptr)
    if (const int rc = sqlite3_prepare_v3(db_, sql.c_str(), static_cast<int>(sql.size()),
                                          SQLITE_PREPARE_PERSISTENT, &kept, nullptr);
        rc != SQLITE_OK)
      return failure(db_, rc);
  sqlite3_stmt* s = kept;
  struct Reset {
    sqlite3_stmt* s;
    ~Reset() {
      sqlite3_reset(s);
      sqlite3_clear_bindings(s);
    }
  } const reset{s};
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const int n = static_cast<int>(i) + 1;
    if (const auto* v = std::get_if<std::int64_t>(&arguments[i]))
      sqlite3_bind_int64(s, n, *v);
    else if (const auto* d = std::get_if<double>(&arguments[i]))
      sqlite3_bind_double(s, n, *d);
    else if (const auto* t = std::get_if<std::string>(&arguments[i]))
      sqlite3_bind_text64(s, n, t->data(), t->size(), SQLITE_STATIC, SQLITE_UTF8);
  }
  std::vector<Json> all;
  for (;;) {
    const int rc = sqlite3_step(s);
    if (rc == SQLITE_DONE) return all;
    if (rc != SQLITE_ROW) return failure(db_, rc);
    Json row = Json::array();
    for (int i = 0; i < sqlite3_column_count(s); ++i) {
      switch (sqlite3_column_type(s, i)) {
        case SQLITE_INTEGER:
          row.push_back(sqlite3_column_int64(s, i));
          break;
        case SQLITE_FLOAT:
          row.push_back(sqlite3_column_double(s, i));
          break;
        case SQLITE_NULL:
          row.push_back(nullptr);
          break;
        default: {
          const auto* p = static_cast<const char*>(sqlite3_column_blob(s, i));
          row.push_back(
              std::string{p == nullptr ? "" : p, static_cast<std::size_t>(sqlite3_column_bytes(s, i))});
        }
      }
    }
    all.push_back(std::move(row));
  }
}

Result<std::vector<Coord::Json>> Coord::select(const std::string& sql, const Arguments& a) {
  return rows(sql, a);
}

Result<Coord::Json> Coord::call(std::string_view function, const Arguments& arguments) {
  std::string sql = "SELECT " + std::string{function} + "(";
  for (std::size_t i = 0; i < arguments.size(); ++i) sql += i == 0 ? "?" : ", ?";
  INDRA_LET(auto all, rows(sql + ")", arguments));
  return std::move(all.at(0).at(0));
}

Result<Coord::Json> Coord::call_json(std::string_view function, const Arguments& arguments) {
  INDRA_LET(Json j, call(function, arguments));
  if (!j.is_string()) return j;
  Json parsed = Json::parse(j.get_ref<const std::string&>(), nullptr, false);
  return parsed.is_discarded() ? j : parsed;
}

}  // namespace indra
