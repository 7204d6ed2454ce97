// Schedules and rules: what puts jobs into queues by itself (E28, E30).
#include <algorithm>
#include <cerrno>

#include "events/cron.h"
#include "events/internal/coord_state.h"

namespace indra::coord {
namespace {

constexpr int kCatchUp = 64;  // times made up for at once; the rest is counted as missed

Result<void> schedule(Call& c) {
  INDRA_LET(const std::string name, c.name(0, "schedule"));
  INDRA_LET(const std::string queue, c.name(1, "queue"));
  INDRA_LET(const std::string expr, c.text(2, "when"));
  INDRA_LET(sqlite3_value * payload, c.payload(3));
  INDRA_LET(const Json options, c.options(4, {INDRA_JOB_OPTIONS}));
  INDRA_TRY(JobOptions::read(options));
  INDRA_LET(const Cron cron, Cron::parse(expr));
  INDRA_TRY(known_queue(c.s, queue));
  INDRA_TRY(allowed(c.s, queue));
  INDRA_LET(const std::int64_t next, cron.next_after(c.s.now()));
  // Who makes it again, as programs do when they start, loses no time that is due.
  Query q{
      c.s,
      "INSERT INTO indra_schedules(name, queue, expr, payload, options, next_at) VALUES(?1, ?2, ?3, ?4, ?5, "
      "?6) ON CONFLICT DO UPDATE SET queue = ?2, expr = ?3, payload = ?4, options = ?5, next_at = CASE WHEN "
      "expr = ?3 THEN MIN(next_at, ?6) ELSE ?6 END RETURNING next_at"};
  INDRA_TRY(q.bind(name, queue, expr, payload, options.dump(), next).step());
  c.s.wakes = true;
  c.answer_seconds(q.integer(0));
  return {};
}

Result<void> missing(const std::string& name) { return fail(ENOENT, "there is no schedule '" + name + "'"); }

Result<void> unschedule(Call& c) {
  INDRA_LET(const std::string name, c.name(0, "schedule"));
  INDRA_TRY(Query{c.s, "DELETE FROM indra_schedules WHERE name = ?1"}.bind(name).run());
  if (sqlite3_changes(c.s.db) == 0) return missing(name);
  c.answer(std::int64_t{1});
  return {};
}

Result<void> pause(Call& c) {
  INDRA_LET(const std::string name, c.name(0, "schedule"));
  INDRA_TRY(Query{c.s, "UPDATE indra_schedules SET paused = 1 WHERE name = ?1"}.bind(name).run());
  if (sqlite3_changes(c.s.db) == 0) return missing(name);
  c.answer(std::int64_t{1});
  return {};
}

/// From now on: what would have fired meanwhile is left out.
Result<void> resume(Call& c) {
  INDRA_LET(const std::string name, c.name(0, "schedule"));
  std::int64_t next = 0;
  {
    Query q{c.s, "SELECT expr FROM indra_schedules WHERE name = ?1"};
    INDRA_LET(const bool row, q.bind(name).step());
    if (!row) return missing(name);
    INDRA_LET(const Cron cron, Cron::parse(q.text(0)));
    INDRA_LET(next, cron.next_after(c.s.now()));
  }
  c.s.wakes = true;
  c.answer_seconds(next);
  return Query{c.s, "UPDATE indra_schedules SET paused = 0, next_at = ?2 WHERE name = ?1 AND paused = 1"}
      .bind(name, next)
      .run();
}

Result<void> tick(Call& c) {
  const std::int64_t now = c.s.now();
  struct Due {
    std::string name, queue, expr, options;
    std::optional<std::string> payload;
    std::int64_t next;
  };
  std::vector<Due> due;
  {
    Query q{c.s,
            "SELECT name, queue, expr, options, payload, next_at FROM indra_schedules WHERE paused = 0 AND "
            "next_at <= ?1 "
            "ORDER BY next_at, name"};
    q.bind(now);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      due.push_back({q.text(0), q.text(1), q.text(2), q.text(3),
                     q.null(4) ? std::nullopt : std::optional{q.text(4)}, q.integer(5)});
    }
  }
  std::int64_t fired = 0;
  for (const Due& d : due) {
    INDRA_LET(const Cron cron, Cron::parse(d.expr));
    INDRA_LET(const JobOptions options, JobOptions::read(Json::parse(d.options, nullptr, false)));
    int times = 0;
    std::int64_t at = d.next, missed = 0;
    while (at <= now) {
      if (times == kCatchUp) {
        // What is left out may be a million times: it is estimated by the step, and the next one found from
        // now.
        INDRA_LET(const std::int64_t step, cron.next_after(at));
        missed = (now - at) / std::max<std::int64_t>(1, step - at) + 1;
        INDRA_LET(at, cron.next_after(now));
        break;
      }
      INDRA_LET(const std::int64_t id,
                enqueue(c.s, d.queue, nullptr,
                        d.payload ? std::optional<std::string_view>{*d.payload} : std::nullopt, options));
      (void)id;
      ++times;
      INDRA_LET(at, cron.next_after(at));
    }
    fired += times;
    INDRA_TRY(Query{
        c.s,
        "UPDATE indra_schedules SET next_at = ?2, last_at = ?3, fired = fired + ?4, missed = missed + ?5 "
        "WHERE name = ?1"}
                  .bind(d.name, at, now, times, missed)
                  .run());
  }
  c.answer(fired);
  return {};
}

Result<void> next(Call& c) {
  Query q{c.s, "SELECT MIN(next_at) FROM indra_schedules WHERE paused = 0"};
  INDRA_TRY(q.step());
  if (!q.null(0)) c.answer_seconds(q.integer(0));
  return {};
}

Result<void> cron_next(Call& c) {
  INDRA_LET(const std::string expr, c.text(0, "when"));
  INDRA_LET(const Cron cron, Cron::parse(expr));
  std::int64_t from = c.s.now();
  if (c.has(1)) {
    INDRA_LET(from, c.seconds(1, "from", true));
  }
  INDRA_LET(const std::int64_t at, cron.next_after(from));
  c.answer_seconds(at);
  return {};
}

Result<void> rule(Call& c) {
  INDRA_LET(const std::string name, c.name(0, "rule"));
  INDRA_LET(const std::string queue, c.name(1, "queue"));
  INDRA_LET(const Json j, c.options(2, {"bucket", "branch", "path", "kinds", "since"}));
  INDRA_TRY(known_queue(c.s, queue));
  INDRA_TRY(allowed(c.s, queue));
  std::optional<std::string> branch, path;
  std::string bucket = "main", kinds;
  for (const char* key : {"bucket", "branch", "path", "kinds"})
    if (j.contains(key) && !j[key].is_null() && !j[key].is_string())
      return fail(EINVAL, std::string{key} + " must be text");
  if (j.contains("bucket") && j["bucket"].is_string()) bucket = j["bucket"];
  if (j.contains("branch") && j["branch"].is_string()) branch = j["branch"].get<std::string>();
  if (j.contains("path") && j["path"].is_string()) path = j["path"].get<std::string>();
  if (j.contains("kinds") && j["kinds"].is_string()) kinds = j["kinds"];
  if (path && !path->starts_with('/')) return fail(EINVAL, "path must begin with '/'");
  INDRA_LET(const auto since, integer_option(j, "since", 0, INT64_MAX));
  if (!since)
    return fail(
        EINVAL,
        "since is missing: the number of the newest change, SELECT MAX(seq) FROM changes in vault.db");
  // The first rule: there was no relay that kept the position.
  INDRA_TRY(Query{c.s,
                  "UPDATE indra_meta SET value = MAX(value, ?1) WHERE name = 'relayed' AND NOT EXISTS(SELECT "
                  "1 FROM indra_rules)"}
                .bind(*since)
                .run());
  INDRA_TRY(Query{
      c.s,
      "INSERT INTO indra_rules(name, queue, bucket, branch, path, kinds, since) VALUES(?1, ?2, ?3, ?4, ?5, "
      "?6, ?7) ON CONFLICT DO UPDATE SET queue = ?2, bucket = ?3, branch = ?4, path = ?5, kinds = ?6, since "
      "= "
      "MAX(since, ?7)"}
                .bind(name, queue, bucket, branch, path, kinds, *since)
                .run());
  c.s.wakes = true;
  c.answer(std::int64_t{1});
  return {};
}

Result<void> rule_delete(Call& c) {
  INDRA_LET(const std::string name, c.name(0, "rule"));
  INDRA_TRY(Query{c.s, "DELETE FROM indra_rules WHERE name = ?1"}.bind(name).run());
  if (sqlite3_changes(c.s.db) == 0) return fail(ENOENT, "there is no rule '" + name + "'");
  c.answer(std::int64_t{1});
  return {};
}

}  // namespace

const std::vector<Function> kScheduleFunctions = {
    {"indra_schedule", 4, 5, true, schedule, "schedule, queue, when, payload, options"},
    {"indra_unschedule", 1, 1, true, unschedule, "schedule"},
    {"indra_schedule_pause", 1, 1, true, pause, "schedule"},
    {"indra_schedule_resume", 1, 1, true, resume, "schedule"},
    {"indra_schedule_tick", 0, 0, true, tick, ""},
    {"indra_schedule_next", 0, 0, false, next, ""},
    {"indra_cron_next", 1, 2, false, cron_next, "when, from"},
    {"indra_rule", 3, 3, true, rule, "rule, queue, options"},
    {"indra_rule_delete", 1, 1, true, rule_delete, "rule"},
};

}  // namespace indra::coord
