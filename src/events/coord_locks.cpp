// Named locks with fencing tokens, and rate limits (E26, E27).
#include <cerrno>

#include "events/internal/coord_state.h"

namespace indra::coord {
namespace {

struct Lock {
  bool held = false;
  std::string owner;
  std::int64_t token = 0, expires = 0;
};

Result<Lock> look(State& s, const std::string& name) {
  Lock l;
  Query q{s, "SELECT owner, token, expires FROM indra_locks WHERE name = ?1"};
  INDRA_LET(const bool row, q.bind(name).step());
  if (row) l = {q.integer(2) > s.now(), q.text(0), q.integer(1), q.integer(2)};
  return l;
}

Result<void> lock(Call& c) {
  INDRA_LET(const std::string name, c.name(0, "lock"));
  INDRA_LET(const std::string owner, c.name(1, "owner"));
  INDRA_LET(const std::int64_t ttl, c.seconds(2, "seconds", false));
  INDRA_LET(const Lock l, look(c.s, name));
  if (l.held) {
    if (l.owner == owner) c.answer(l.token);
    return {};
  }
  INDRA_TRY(Query{c.s, "UPDATE indra_meta SET value = value + 1 WHERE name = 'fence'"}.run());
  Query q{c.s, "SELECT value FROM indra_meta WHERE name = 'fence'"};
  INDRA_TRY(q.step());
  const std::int64_t token = q.integer(0), now = c.s.now();
  c.answer(token);
  return Query{
      c.s,
      "INSERT OR REPLACE INTO indra_locks(name, owner, token, taken, expires) VALUES(?1, ?2, ?3, ?4, ?5)"}
      .bind(name, owner, token, now, now + ttl)
      .run();
}

/// Why `owner` does not hold it.
Failure not_held(const std::string& name, const std::string& owner, const Lock& l) {
  const std::string it = "lock '" + name + "'";
  if (l.owner.empty()) return fail(EPERM, it + " is not held by anybody");
  if (l.owner != owner) return fail(EPERM, it + " is held by '" + l.owner + "', not by '" + owner + "'");
  return fail(EPERM, it + " has expired");
}

Result<void> renew(Call& c) {
  INDRA_LET(const std::string name, c.name(0, "lock"));
  INDRA_LET(const std::string owner, c.name(1, "owner"));
  INDRA_LET(const std::int64_t ttl, c.seconds(2, "seconds", false));
  INDRA_LET(const Lock l, look(c.s, name));
  if (!l.held || l.owner != owner) return not_held(name, owner, l);
  c.answer(l.token);
  return Query{c.s, "UPDATE indra_locks SET expires = ?2 WHERE name = ?1"}.bind(name, c.s.now() + ttl).run();
}

Result<void> unlock(Call& c) {
  INDRA_LET(const std::string name, c.name(0, "lock"));
  INDRA_LET(const std::string owner, c.name(1, "owner"));
  INDRA_LET(const Lock l, look(c.s, name));
  if (!l.held || l.owner != owner) return not_held(name, owner, l);
  c.s.wakes = true;
  c.answer(std::int64_t{1});
  return Query{c.s, "DELETE FROM indra_locks WHERE name = ?1"}.bind(name).run();
}

Result<void> check(Call& c) {
  INDRA_LET(const std::string name, c.name(0, "lock"));
  INDRA_LET(const std::int64_t token, c.integer(1, "token", 1, INT64_MAX));
  INDRA_LET(const Lock l, look(c.s, name));
  const std::string stale = "token " + std::to_string(token) + " of lock '" + name + "' is stale: ";
  if (l.token != token)
    return fail(EPERM, stale + (l.token == 0 ? "the lock was given up"
                                             : "it was granted again, with " + std::to_string(l.token)));
  if (!l.held) return fail(EPERM, stale + "the lock has expired");
  c.answer(std::int64_t{1});
  return {};
}

struct Window {
  std::int64_t now = 0, started = 0, count = 0, limit = 0, per = 0;
};
Result<Window> window(Call& c, std::string& name) {
  Window w;
  INDRA_LET(name, c.name(0, "rate limit"));
  INDRA_LET(w.limit, c.integer(1, "limit", 1, INT64_MAX));
  INDRA_LET(w.per, c.seconds(2, "seconds", false));
  w.now = c.s.now();
  w.started = w.now / w.per * w.per;
  Query q{c.s, "SELECT started, count FROM indra_rates WHERE name = ?1"};
  INDRA_LET(const bool row, q.bind(name).step());
  if (row && q.integer(0) == w.started) w.count = q.integer(1);
  return w;
}

Result<void> rate(Call& c) {
  std::string name;
  INDRA_LET(const Window w, window(c, name));
  const bool ok = w.count < w.limit;
  c.answer(std::int64_t{ok});
  if (!ok) return {};
  return Query{c.s, "INSERT OR REPLACE INTO indra_rates(name, started, per, count) VALUES(?1, ?2, ?3, ?4)"}
      .bind(name, w.started, w.per, w.count + 1)
      .run();
}

Result<void> rate_wait(Call& c) {
  std::string name;
  INDRA_LET(const Window w, window(c, name));
  c.answer_seconds(w.count < w.limit ? 0 : w.started + w.per - w.now);
  return {};
}

Result<void> rate_sweep(Call& c) {
  INDRA_TRY(Query{c.s, "DELETE FROM indra_rates WHERE started + per <= ?1"}.bind(c.s.now()).run());
  c.answer(std::int64_t{sqlite3_changes(c.s.db)});
  return {};
}

}  // namespace

const std::vector<Function> kLockFunctions = {
    {"indra_lock", 3, 3, true, lock, "lock, owner, seconds"},
    {"indra_lock_renew", 3, 3, true, renew, "lock, owner, seconds"},
    {"indra_unlock", 2, 2, true, unlock, "lock, owner"},
    {"indra_lock_check", 2, 2, false, check, "lock, token"},
    {"indra_rate", 3, 3, true, rate, "name, limit, seconds"},
    {"indra_rate_wait", 3, 3, false, rate_wait, "name, limit, seconds"},
    {"indra_rate_sweep", 0, 0, true, rate_sweep, ""},
};

}  // namespace indra::coord
