#include "events/internal/coord_state.h"

#include <cerrno>
#include <cmath>
#include <cstring>

#include "base/bytes.h"

namespace indra::coord {
namespace {

bool is_text(std::string_view s) {  // UTF-8, by what the JSON library takes
  try {
    (void)Json(s).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

Json json_of(int type, const void* at, int size) {
  const std::string_view bytes{static_cast<const char*>(at), static_cast<std::size_t>(size)};
  if (type == SQLITE_NULL) return nullptr;
  if (type == SQLITE_TEXT && is_text(bytes)) return bytes;
  return Json{{"hex", to_hex(as_view(bytes))}};
}

std::string counted(std::int64_t n) { return std::to_string(n); }

}  // namespace

void State::finalize() {
  for (auto& [sql, all] : idle)
    for (sqlite3_stmt* st : all) sqlite3_finalize(st);
  idle.clear();
}

std::int64_t State::now() const { return (clock != nullptr ? *clock : system_clock()).now() / 1'000'000; }

Failure sql_failure(sqlite3* db, int rc) {
  const std::string text = sqlite3_errmsg(db);
  switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return fail(
          EBUSY, rc == SQLITE_BUSY_SNAPSHOT
                     ? "the transaction began with a read, and somebody has written since; begin such "
                       "transactions with BEGIN IMMEDIATE"
                     : "somebody else has held a write transaction on this database for longer than the busy "
                       "timeout; try again, or see who it is");
    case SQLITE_FULL:
      return fail(ENOSPC, text);
    case SQLITE_READONLY:
      return fail(EROFS, text);
    case SQLITE_NOMEM:
      return fail(ENOMEM, text);
    default:
      break;
  }
  if (text.find("no such table: indra_") != std::string::npos)
    return fail(ENOENT, "this database has no indra_ tables yet; make them with SELECT indra_bootstrap()");
  return fail(EIO, text);
}

Query::Query(State& s, const char* sql) : state_{s}, sql_{sql} {
  auto& all = s.idle[sql];
  if (!all.empty()) {
    s_ = all.back();
    all.pop_back();
    return;
  }
  rc_ = sqlite3_prepare_v3(s.db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s_, nullptr);
}

Query::~Query() {
  if (s_ == nullptr) return;
  sqlite3_reset(s_);
  sqlite3_clear_bindings(s_);
  state_.idle[sql_].push_back(s_);
}

void Query::put(int i, std::string_view v) {
  rc(sqlite3_bind_text64(s_, i, v.empty() ? "" : v.data(), v.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}

Result<bool> Query::step() {
  int code = rc_;
  if (code == SQLITE_OK) {
    code = sqlite3_step(s_);
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
  }
  return sql_failure(state_.db, sqlite3_extended_errcode(state_.db));
}

Result<void> Query::run() {
  INDRA_TRY(step());
  sqlite3_reset(s_);
  return {};
}

std::string Query::text(int c) const {
  const auto* p = reinterpret_cast<const char*>(sqlite3_column_text(s_, c));
  return {p == nullptr ? "" : p, static_cast<std::size_t>(sqlite3_column_bytes(s_, c))};
}

Json Query::json(int c) const {
  const int type = sqlite3_column_type(s_, c);
  if (type == SQLITE_INTEGER) return integer(c);
  if (type == SQLITE_FLOAT) return sqlite3_column_double(s_, c);
  const void* at = sqlite3_column_blob(s_, c);
  return json_of(type, at, sqlite3_column_bytes(s_, c));
}

Result<std::string> Call::text(int i, const char* what) const {
  if (!has(i)) return fail(EINVAL, std::string{what} + " is missing");
  if (sqlite3_value_type(values_[i]) == SQLITE_BLOB)
    return fail(EINVAL, std::string{what} + " must be text, not a blob");
  const auto* p = reinterpret_cast<const char*>(sqlite3_value_text(values_[i]));
  std::string v{p == nullptr ? "" : p, static_cast<std::size_t>(sqlite3_value_bytes(values_[i]))};
  if (!is_text(v)) return fail(EINVAL, std::string{what} + " is not UTF-8");
  return v;
}

Result<std::string> Call::name(int i, const char* what) const {
  INDRA_LET(std::string v, text(i, what));
  if (v.empty()) return fail(EINVAL, std::string{what} + " is empty");
  if (v.size() > kMaxName)
    return fail(EINVAL, std::string{what} + " has " + counted(static_cast<std::int64_t>(v.size())) +
                            " bytes, at most 200 are allowed");
  if (v.find('\0') != std::string::npos) return fail(EINVAL, std::string{what} + " holds a NUL byte");
  return v;
}

Result<sqlite3_value*> Call::payload(int i) const {
  if (!has(i)) return nullptr;
  const auto size = static_cast<std::size_t>(sqlite3_value_bytes(values_[i]));
  if (size > kMaxPayload)
    return fail(EMSGSIZE, "payload has " + std::to_string(size) + " bytes, at most " +
                              std::to_string(kMaxPayload) +
                              " are allowed; put what is large into a file and its path here");
  return values_[i];
}

Result<std::int64_t> Call::integer(int i, const char* what, std::int64_t low, std::int64_t high) const {
  if (!has(i)) return fail(EINVAL, std::string{what} + " is missing");
  if (sqlite3_value_numeric_type(values_[i]) != SQLITE_INTEGER)
    return fail(EINVAL, std::string{what} + " must be a whole number");
  const std::int64_t v = sqlite3_value_int64(values_[i]);
  if (v < low || v > high)
    return fail(EINVAL, std::string{what} + " is " + counted(v) + ", not within " + counted(low) + " to " +
                            counted(high));
  return v;
}

namespace {
Result<std::int64_t> to_ms(double s, const char* what, bool zero) {
  const std::string w{what};
  if (std::isnan(s)) return fail(EINVAL, w + " is not a number");
  if (s < 0) return fail(EINVAL, w + " is negative");
  if (s > static_cast<double>(kMaxSeconds)) return fail(EINVAL, w + " is more than a hundred years");
  const auto ms = static_cast<std::int64_t>(std::llround(s * 1000));
  if (ms == 0 && !zero) return fail(EINVAL, w + " must be more than 0");
  return ms;
}
}  // namespace

Result<std::int64_t> Call::seconds(int i, const char* what, bool zero) const {
  if (!has(i)) return fail(EINVAL, std::string{what} + " is missing");
  const int type = sqlite3_value_numeric_type(values_[i]);
  if (type != SQLITE_INTEGER && type != SQLITE_FLOAT)
    return fail(EINVAL, std::string{what} + " must be a number of seconds");
  return to_ms(sqlite3_value_double(values_[i]), what, zero);
}

Result<Json> Call::options(int i, std::initializer_list<const char*> known) const {
  if (!has(i)) return Json::object();
  INDRA_LET(const std::string given, text(i, "options"));
  Json j = Json::parse(given, nullptr, false);
  if (!j.is_object())
    return fail(EINVAL,
                "options must be a JSON object, such as {\"" + std::string{*known.begin()} + "\": 1}");
  for (const auto& [key, value] : j.items()) {
    bool found = false;
    for (const char* k : known) found = found || key == k;
    if (found) continue;
    std::string all;
    for (const char* k : known) all += (all.empty() ? "" : ", ") + std::string{k};
    return fail(EINVAL, "there is no option '" + key + "'; there are " + all);
  }
  return j;
}

void Call::answer(const std::string& v) {
  sqlite3_result_text64(context_, v.data(), v.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

Result<std::optional<std::int64_t>> seconds_option(const Json& j, const char* key, bool zero) {
  const auto it = j.find(key);
  if (it == j.end() || it->is_null()) return std::nullopt;
  if (!it->is_number()) return fail(EINVAL, std::string{key} + " must be a number of seconds");
  INDRA_LET(const std::int64_t ms, to_ms(it->get<double>(), key, zero));
  return ms;
}

Result<std::optional<std::int64_t>> integer_option(const Json& j, const char* key, std::int64_t low,
                                                   std::int64_t high) {
  const auto it = j.find(key);
  if (it == j.end() || it->is_null()) return std::nullopt;
  if (!it->is_number_integer()) return fail(EINVAL, std::string{key} + " must be a whole number");
  const auto v = it->get<std::int64_t>();
  if (v < low || v > high)
    return fail(EINVAL, std::string{key} + " is " + counted(v) + ", not within " + counted(low) + " to " +
                            counted(high));
  return v;
}

Result<JobOptions> JobOptions::read(const Json& j) {
  JobOptions o;
  INDRA_LET(const auto delay, seconds_option(j, "delay", true));
  o.delay = delay.value_or(0);
  INDRA_LET(o.run_at, seconds_option(j, "run_at", true));
  if (o.run_at && delay) return fail(EINVAL, "delay and run_at exclude each other");
  INDRA_LET(o.priority, integer_option(j, "priority", -1'000'000, 1'000'000));
  INDRA_LET(o.max_attempts, integer_option(j, "max_attempts", 1, 1'000'000));
  INDRA_LET(o.expires, seconds_option(j, "expires", false));
  if (const auto it = j.find("key"); it != j.end() && !it->is_null()) {
    if (!it->is_string() || it->get<std::string>().empty() || it->get<std::string>().size() > kMaxName)
      return fail(EINVAL, "key must be text of 1 to 200 bytes");
    o.key = it->get<std::string>();
  }
  return o;
}

}  // namespace indra::coord
