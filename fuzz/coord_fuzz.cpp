// Any call of the SQL functions that a program can make with its own SQLite: names, payloads, options, ids,
// numbers. Nothing crashes; what is refused says why and leaves nothing; the figures of queues stay true.
// Corpus: fuzz/corpus/coord/.
#include <sqlite3.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "events/internal/coord_state.h"
#include "events/own_work.h"

namespace {

struct Input {
  const std::uint8_t* p;
  std::size_t left;
  std::uint8_t byte() {
    if (left == 0) return 0;
    --left;
    return *p++;
  }
  std::string bytes(std::size_t n) {
    n = std::min(n, left);
    std::string s{reinterpret_cast<const char*>(p), n};
    p += n;
    left -= n;
    return s;
  }
};

std::vector<std::string> names_of_functions(sqlite3* db) {
  std::vector<std::string> names;
  sqlite3_stmt* s = nullptr;
  sqlite3_prepare_v2(db, "SELECT name FROM indra_functions", -1, &s, nullptr);
  while (sqlite3_step(s) == SQLITE_ROW)
    names.emplace_back(reinterpret_cast<const char*>(sqlite3_column_text(s, 0)));
  sqlite3_finalize(s);
  return names;
}

void run(sqlite3* db, const char* sql) {
  if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK) std::abort();
}

std::int64_t number(sqlite3* db, const char* sql) {
  sqlite3_stmt* s = nullptr;
  if (sqlite3_prepare_v2(db, sql, -1, &s, nullptr) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW)
    std::abort();
  const std::int64_t n = sqlite3_column_int64(s, 0);
  sqlite3_finalize(s);
  return n;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace indra;
  static ManualClock clock;
  static sqlite3* const db = [] {
    sqlite3* d = nullptr;
    if (sqlite3_open(":memory:", &d) != SQLITE_OK || coord::install(d, &clock) != SQLITE_OK) std::abort();
    run(d, "SELECT indra_bootstrap(); SELECT indra_queue_create('q'); SELECT indra_enqueue('q', 'x')");
    return d;
  }();
  static const auto names = names_of_functions(db);
  run(db, "BEGIN IMMEDIATE");  // as in the caller's transaction; nothing of it stays
  Input in{data, size};
  while (in.left > 0) {
    const std::uint8_t which = in.byte();
    if (which == 255) {
      clock.advance(static_cast<TimeNs>(in.byte()) * kSecond);
      continue;
    }
    const std::string& name = names[which % names.size()];
    const int n = in.byte() % 6;
    std::string sql = "SELECT " + name + "(";
    for (int i = 0; i < n; ++i) sql += i == 0 ? "?" : ", ?";
    sqlite3_stmt* s = nullptr;
    if (sqlite3_prepare_v2(db, (sql + ")").c_str(), -1, &s, nullptr) != SQLITE_OK) std::abort();
    for (int i = 1; i <= n; ++i) {
      const std::uint8_t kind = in.byte();
      const std::string text = in.bytes(kind >> 3);
      switch (kind % 8) {
        case 0:
          sqlite3_bind_null(s, i);
          break;
        case 1:
          sqlite3_bind_int64(s, i, static_cast<std::int64_t>(kind >> 3));
          break;
        case 2: {
          std::int64_t v = 0;
          std::memcpy(&v, text.data(), std::min(sizeof v, text.size()));
          sqlite3_bind_int64(s, i, v);
          break;
        }
        case 3: {
          double v = 0;
          std::memcpy(&v, text.data(), std::min(sizeof v, text.size()));
          sqlite3_bind_double(s, i, v);
          break;
        }
        case 4:
          sqlite3_bind_text(s, i, "q", 1, SQLITE_STATIC);
          break;
        case 5:
          sqlite3_bind_blob(s, i, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
          break;
        default:
          sqlite3_bind_text(s, i, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
          if (auto plan = SnapshotPlan::of(coord::Json::parse(text, nullptr, false)); plan && plan->keep < 1)
            std::abort();
      }
    }
    const int rc = sqlite3_step(s);
    if (rc != SQLITE_ROW) {
      const std::string why = sqlite3_errmsg(db);
      // "function: what is wrong"
      if (!why.starts_with(name + ": ") || why.size() < name.size() + 5) std::abort();
    }
    sqlite3_finalize(s);
  }
  // Every job that was put in is somewhere.
  if (number(db, "SELECT COALESCE(SUM(enqueued - done - cancelled - died), 0) FROM indra_queues") >
      number(db, "SELECT COUNT(*) FROM indra_jobs"))
    std::abort();
  if (number(db, "SELECT COUNT(*) FROM indra_jobs WHERE queue NOT IN (SELECT queue FROM indra_queues)") != 0)
    std::abort();
  if (number(db, "SELECT COUNT(*) FROM indra_jobs WHERE (state = 1) <> (worker IS NOT NULL)") != 0)
    std::abort();
  if (number(db, "SELECT COUNT(*) FROM indra_jobs WHERE queue GLOB 'indra:*'") != 0) std::abort();
  run(db, "ROLLBACK");
  return 0;
}
