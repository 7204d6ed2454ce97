// Coordination between processes in one SQLite file, VAULT/coord.db: notify and listen, durable streams,
// queues, named locks, rate limits, schedules.
//
// One implementation: the SQL functions indra_* (docs/coordination.md). Here they are called on a connection
// of our own; the loadable extension brings the same ones into anybody's connection, into their own
// transactions.
//
// Shapes:   rows are JSON as the functions give it. Payloads are text or bytes, at most 1 MiB.
// Units:    seconds with fractions in SQL and JSON; TimeNs here for timeouts.
// Threads:  a Coord belongs to one thread, but for ring().
// Durable:  as the connection's commits: after a power cut the last ones may be missing, unless opened
// `durable`. Errors:   EINVAL (bad input), ENOENT (no such queue, job, ...), EPERM (somebody else's), EBUSY
// (somebody holds the
//           file's write lock for longer than `busy`), EMSGSIZE, ESTALE; the text says what was wrong.
// Source:   docs/design/events.md (E10..).
#pragma once
#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "events/knock.h"

struct sqlite3;
struct sqlite3_stmt;

namespace indra {

class Coord {
 public:
  using Json = nlohmann::json;
  struct Options {
    bool create = true;            ///< make the file and its tables when they are not there
    bool durable = false;          ///< a commit that returned survives a power cut
    TimeNs busy = 5 * kSecond;     ///< how long to wait for somebody else's write transaction
    const Clock* clock = nullptr;  ///< null: the machine's
    bool own = false;              ///< the vault itself: it may use its own queues, indra:... (E40)
  };
  /// `path` is the database file, as "VAULT/coord.db".
  [[nodiscard]] static Result<std::unique_ptr<Coord>> open(const std::string& path, Options);
  [[nodiscard]] static Result<std::unique_ptr<Coord>> open(const std::string& path) {
    return open(path, Options{});
  }
  ~Coord();
  Coord(const Coord&) = delete;
  Coord& operator=(const Coord&) = delete;

  using Argument = std::variant<std::nullptr_t, std::int64_t, double, std::string>;
  using Arguments = std::vector<Argument>;
  /// One function in a transaction of its own: call("indra_enqueue", {"mail", "hello"}). What it answers, as
  /// JSON: null, a number, or text.
  [[nodiscard]] Result<Json> call(std::string_view function, const Arguments&);
  /// The same, for functions that answer with JSON text.
  [[nodiscard]] Result<Json> call_json(std::string_view function, const Arguments&);
  /// Any SELECT; rows as arrays.
  [[nodiscard]] Result<std::vector<Json>> select(const std::string& sql, const Arguments& = {});
  /// Any statements, for transactions: "BEGIN IMMEDIATE", "COMMIT".
  [[nodiscard]] Result<void> execute(const std::string& sql);

  /// Before looking for something to do; then wait() returns when somebody changed something after that.
  [[nodiscard]] Knock::Ticket ticket() const { return knock_->ticket(); }
  void wait(Knock::Ticket seen, TimeNs timeout = -1) const { knock_->wait(seen, timeout); }
  /// Wakes everybody who waits, here and elsewhere.
  void ring() { knock_->ring(); }
  [[nodiscard]] sqlite3* raw() const { return db_; }

 private:
  Coord() = default;
  [[nodiscard]] Result<std::vector<Json>> rows(const std::string& sql, const Arguments&);
  sqlite3* db_ = nullptr;
  std::unique_ptr<std::atomic<std::int64_t>> busy_;  // ns
  std::unordered_map<std::string, sqlite3_stmt*> statements_;
  std::unique_ptr<Knock> knock_;
};

}  // namespace indra
