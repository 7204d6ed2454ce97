// What one connection has for the functions indra_*: its statements, its clock, its knock; and what a call of
// one is.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "events/internal/sqlite_api.h"
#include "events/knock.h"

namespace indra::coord {

using Json = nlohmann::json;

inline constexpr std::size_t kMaxPayload = 1 << 20;
inline constexpr std::size_t kMaxName = 200;
inline constexpr std::int64_t kMaxSeconds = 100LL * 366 * 86400;
inline constexpr int kCheckpointFrames = 1000;  // SQLite's own default

extern const char* const kSchema;

struct State {
  sqlite3* db = nullptr;
  const Clock* clock = nullptr;  ///< null: the machine's
  bool wakes = false;            ///< the open transaction did what others wait for
  bool own = false;              ///< the vault itself: it may use its own queues (E40)
  std::unique_ptr<Knock> knock;
  std::unordered_map<const char*, std::vector<sqlite3_stmt*>> idle;  // by address: literals only

  ~State() { finalize(); }
  void finalize();
  [[nodiscard]] std::int64_t now() const;  ///< ms
};

/// The error that `db` reports, in words that help.
[[nodiscard]] Failure sql_failure(sqlite3* db, int rc);

/// One use of a prepared statement, kept for the next one. `sql` must be a literal.
class Query {
 public:
  Query(State& s, const char* sql);
  ~Query();
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  template <class... T>
  Query& bind(const T&... values) {
    (put(++bound_, values), ...);
    return *this;
  }
  [[nodiscard]] Result<bool> step();
  [[nodiscard]] Result<void> run();
  [[nodiscard]] bool null(int c) const { return sqlite3_column_type(s_, c) == SQLITE_NULL; }
  [[nodiscard]] std::int64_t integer(int c) const { return sqlite3_column_int64(s_, c); }
  [[nodiscard]] std::string text(int c) const;
  [[nodiscard]] sqlite3_value* value(int c) const { return sqlite3_column_value(s_, c); }
  [[nodiscard]] Json json(int c) const;  ///< null, a string, or {"hex": ...} for bytes that are no text

 private:
  void put(int i, std::int64_t v) { rc(sqlite3_bind_int64(s_, i, v)); }
  void put(int i, int v) { rc(sqlite3_bind_int64(s_, i, v)); }
  void put(int i, std::nullptr_t) { rc(sqlite3_bind_null(s_, i)); }
  void put(int i, std::string_view v);
  void put(int i, const std::string& v) { put(i, std::string_view{v}); }
  void put(int i, const char* v) { put(i, std::string_view{v}); }
  void put(int i, sqlite3_value* v) { v == nullptr ? put(i, nullptr) : rc(sqlite3_bind_value(s_, i, v)); }
  template <class T>
  void put(int i, const std::optional<T>& v) {
    v ? put(i, *v) : put(i, nullptr);
  }
  void rc(int code) {
    if (rc_ == SQLITE_OK) rc_ = code;
  }
  State& state_;
  const char* sql_;
  sqlite3_stmt* s_ = nullptr;
  int bound_ = 0, rc_ = SQLITE_OK;
};

/// A call of a function from SQL.
class Call {
 public:
  Call(State& st, sqlite3_context* c, int n, sqlite3_value** v) : s{st}, context_{c}, count_{n}, values_{v} {}
  State& s;

  [[nodiscard]] bool has(int i) const { return i < count_ && sqlite3_value_type(values_[i]) != SQLITE_NULL; }
  /// A name: 1 to 200 bytes of text. `what` is for the error: "queue".
  [[nodiscard]] Result<std::string> name(int i, const char* what) const;
  [[nodiscard]] Result<std::string> text(int i, const char* what) const;
  /// Text or bytes, at most 1 MiB; null when it is absent.
  [[nodiscard]] Result<sqlite3_value*> payload(int i) const;
  [[nodiscard]] Result<std::int64_t> integer(int i, const char* what, std::int64_t low,
                                             std::int64_t high) const;
  /// Seconds, with fractions, as milliseconds.
  [[nodiscard]] Result<std::int64_t> seconds(int i, const char* what, bool zero) const;
  /// An object of options; each key must be one of `known`.
  [[nodiscard]] Result<Json> options(int i, std::initializer_list<const char*> known) const;

  void answer(std::int64_t v) { sqlite3_result_int64(context_, v); }
  void answer_seconds(std::int64_t ms) { sqlite3_result_double(context_, static_cast<double>(ms) / 1000); }
  void answer(const std::string& v);
  void answer(const Json& v) { answer(v.dump(-1, ' ', false, Json::error_handler_t::replace)); }
  void answer_value(sqlite3_value* v) { sqlite3_result_value(context_, v); }

 private:
  sqlite3_context* context_;
  int count_;
  sqlite3_value** values_;
};

using Fn = Result<void> (*)(Call&);
struct Function {
  const char* name;
  int least, most;
  bool writes;
  Fn fn;
  const char* arguments;  ///< for errors and the list of functions
};
extern const std::vector<Function> kQueueFunctions, kStreamFunctions, kLockFunctions, kScheduleFunctions;

/// Options of a job that came as JSON: seconds become ms; checked.
struct JobOptions {
  std::optional<std::int64_t> priority, max_attempts, run_at, expires;  // expires: ms from now
  std::int64_t delay = 0;
  std::optional<std::string> key;
  [[nodiscard]] static Result<JobOptions> read(const Json&);
};
#define INDRA_JOB_OPTIONS "delay", "run_at", "priority", "max_attempts", "expires", "key"
/// A number of seconds in options, as ms.
[[nodiscard]] Result<std::optional<std::int64_t>> seconds_option(const Json&, const char* key, bool zero);
[[nodiscard]] Result<std::optional<std::int64_t>> integer_option(const Json&, const char* key,
                                                                 std::int64_t low, std::int64_t high);
/// Puts a job in; the id, or that of the unfinished job with the same key. ENOENT for an unknown queue.
[[nodiscard]] Result<std::int64_t> enqueue(State&, const std::string& queue, sqlite3_value* payload,
                                           std::optional<std::string_view> text, const JobOptions&);
[[nodiscard]] Result<void> known_queue(State&, const std::string& queue);
/// EPERM for a queue of the vault's own, unless the connection is the vault's (E40).
[[nodiscard]] Result<void> allowed(const State&, const std::string& queue);
/// Its name begins with "indra:": the vault's own.
[[nodiscard]] inline bool reserved(std::string_view queue) { return queue.starts_with("indra:"); }

/// Registers functions, wal hook and busy timeout. SQLITE_OK, or SQLite's code.
int install(sqlite3* db, const Clock* clock, bool own = false);

}  // namespace indra::coord
