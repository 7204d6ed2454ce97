// SQLite, one connection at a time: open, prepare, bind, step.
//
// Units:    parameters count from 1, columns from 0, as SQLite does.
// Threads:  a Db and its Statements belong to whoever holds its Tx; nothing here locks.
// Durable:  see writer.h.
// Errors:   sqlite_category() codes, each mapped to an errno (SQLITE_FULL -> ENOSPC, SQLITE_CORRUPT -> EIO,
// ...).
#pragma once
#include <sqlite3.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/disk.h"
#include "base/result.h"
#include "base/strong.h"

namespace indra {

const std::error_category& sqlite_category() noexcept;
/// The error that `db` reports now, with its message and `context`.
[[nodiscard]] Failure sqlite_failure(sqlite3* db, int rc, std::string_view context);

class Db;

/// Proof that this thread holds the connection, inside a transaction.
class Tx {
 public:
  Tx(const Tx&) = delete;
  Tx& operator=(const Tx&) = delete;
  [[nodiscard]] Db& db() const noexcept { return db_; }

 private:
  friend class Db;
  friend class Writer;
  explicit Tx(Db& db) : db_{db} {}
  Db& db_;
};

/// One use of a prepared statement. Borrowed from the connection's cache; resets itself when it goes.
///
///   auto q = Statement{tx, "SELECT size FROM nodes WHERE node = ?1"};
///   q.bind(1, node);
///   INDRA_LET(bool row, q.step());
///
/// `sql` must be a string literal: the cache is keyed by its address. A mistake in the SQL is reported by
/// step().
class Statement {
 public:
  Statement(Tx& tx, const char* sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(int index, std::int64_t v);
  Statement& bind(int index, std::nullptr_t);
  Statement& bind_text(int index, std::string_view v);  ///< not copied: must stay alive until the next step()
  Statement& bind_blob(int index, ByteView v);          ///< not copied likewise; names are stored as blobs
  template <class Tag, class Rep>
  Statement& bind(int index, Strong<Tag, Rep> v) {
    return bind(index, static_cast<std::int64_t>(v.raw()));
  }
  template <class T>
  Statement& bind(int index, const std::optional<T>& v) {
    return v ? bind(index, *v) : bind(index, nullptr);
  }
  /// Binds nothing for 0: NULL.
  template <class Id>
  Statement& bind_or_null(int index, Id v) {
    return v ? bind(index, v) : bind(index, nullptr);
  }

  /// true: a row is ready; false: done.
  [[nodiscard]] Result<bool> step();
  /// For INSERT, UPDATE, DELETE: step() once and reset.
  [[nodiscard]] Result<void> run();

  [[nodiscard]] bool is_null(int column) const { return sqlite3_column_type(s_, column) == SQLITE_NULL; }
  [[nodiscard]] std::int64_t int64_at(int column) const { return sqlite3_column_int64(s_, column); }
  template <class Id>
  [[nodiscard]] Id id_at(int column) const {
    return Id{sqlite3_column_int64(s_, column)};
  }
  [[nodiscard]] ByteView blob_at(int column) const;          ///< valid until the next step()
  [[nodiscard]] std::string_view text_at(int column) const;  ///< also for blobs
  /// Ready for new binds.
  void reset();

 private:
  Db& db_;
  sqlite3_stmt* s_ = nullptr;
  const char* sql_;
  int first_error_ = SQLITE_OK;
};

inline constexpr int kBusyTimeout = 5000;  ///< ms that a connection waits for the locks of others

/// How a database file is opened.
struct DbOptions {
  int cache_kib = 32 * 1024;
  bool read_only = false;
  bool create = false;
  /// A VFS wrapped by ours (vfs.h): page checksums, and the observer that proves what was synced.
  const char* vfs = nullptr;  ///< null: our own; or a name registered with SQLite
  /// What our own lies over: null is "unix"; tests put a simulated disk there.
  const char* vfs_below = nullptr;
  bool unsealed = false;  ///< of a format before V3: pages may be without checksum
  Disk* disk = nullptr;   ///< where `create` makes the file; null: the machine's
};

/// One connection. WAL, synchronous=NORMAL, no automatic checkpoint, secure_delete off, temp_store in memory,
/// 4096-byte pages with 8 reserved bytes for the page checksum.
class Db {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Db>> open(const std::string& path, const DbOptions&);
  ~Db();
  Db(const Db&) = delete;
  Db& operator=(const Db&) = delete;

  [[nodiscard]] sqlite3* raw() const noexcept { return db_; }
  /// Any SQL, several statements; for schemas and pragmas.
  [[nodiscard]] Result<void> execute(const std::string& sql);
  [[nodiscard]] Result<std::int64_t> pragma(const char* sql);  ///< first column of the first row
  /// A Tx for code that runs its own BEGIN and COMMIT (readers, migrations, tests).
  [[nodiscard]] Tx borrow() noexcept { return Tx{*this}; }
  [[nodiscard]] std::int64_t last_rowid() const { return sqlite3_last_insert_rowid(db_); }
  [[nodiscard]] std::int64_t changes() const { return sqlite3_changes64(db_); }
  /// Bytes of texts and blobs bound so far, for whatever.
  [[nodiscard]] std::uint64_t bound() const { return bound_; }

 private:
  friend class Statement;
  explicit Db(sqlite3* db) : db_{db} {}
  sqlite3_stmt* take(const char* sql, int& rc);
  void give_back(const char* sql, sqlite3_stmt*);
  sqlite3* db_;
  std::uint64_t bound_ = 0;
  std::unordered_map<const char*, std::vector<sqlite3_stmt*>> cache_;  // by address: literals only
};

/// One step of a schema: applied once, in order, in one transaction with the version.
struct Migration {
  const char* name;  ///< "tree: nodes, edges"
  const char* sql;
  bool seals = false;  ///< before it each page of the file gets its checksum (V3)
};

}  // namespace indra
