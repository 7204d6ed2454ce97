// Queues: at least once, by claims that end (E22 .. E25).
// Long because each function of a queue is short, and they share how a job is found, buried and counted.
#include <algorithm>
#include <cerrno>
#include <map>

#include "events/internal/coord_state.h"

namespace indra::coord {
namespace {

constexpr std::int64_t kResultTtl = 24LL * 3600 * 1000;

struct Job {
  std::int64_t id = 0;
  std::string queue, worker;
  int state = 0;
  std::int64_t attempts = 0, max_attempts = 0, claim_until = 0;
};

std::string text_of(std::int64_t n) { return std::to_string(n); }

Result<void> count(State& s, const std::string& queue, const char* sql, std::int64_t n = 1) {
  return Query{s, sql}.bind(queue, n).run();
}
constexpr const char* kDone = "UPDATE indra_queues SET done = done + ?2 WHERE queue = ?1";
constexpr const char* kRetried = "UPDATE indra_queues SET retried = retried + ?2 WHERE queue = ?1";
constexpr const char* kDied = "UPDATE indra_queues SET died = died + ?2 WHERE queue = ?1";
constexpr const char* kEnqueued = "UPDATE indra_queues SET enqueued = enqueued + ?2 WHERE queue = ?1";
constexpr const char* kCancelled = "UPDATE indra_queues SET cancelled = cancelled + ?2 WHERE queue = ?1";

Result<void> bury(State& s, const Job& job, std::string_view why, std::int64_t now) {
  INDRA_TRY(Query{
      s,
      "INSERT INTO indra_dead(id, queue, priority, payload, key, attempts, max_attempts, worker, created, "
      "died, error) SELECT id, queue, priority, payload, key, attempts, max_attempts, worker, created, ?2, "
      "?3 FROM indra_jobs WHERE id = ?1"}
                .bind(job.id, now, why)
                .run());
  INDRA_TRY(Query{s, "DELETE FROM indra_jobs WHERE id = ?1"}.bind(job.id).run());
  s.wakes = true;
  return count(s, job.queue, kDied);
}

/// The job, claimed by `worker`; else an error that says who has it, or where it went. A claim whose time is
/// over but that nobody else has taken is still the worker's, unless `in_time`.
Result<Job> claimed(State& s, std::int64_t id, const std::string& worker, bool in_time) {
  Job job;
  job.id = id;
  const std::string the_job = "job " + text_of(id);
  {
    Query q{s,
            "SELECT queue, state, attempts, max_attempts, worker, claim_until FROM indra_jobs WHERE id = ?1"};
    INDRA_LET(const bool row, q.bind(id).step());
    if (row) {
      job.queue = q.text(0);
      job.state = static_cast<int>(q.integer(1));
      job.attempts = q.integer(2);
      job.max_attempts = q.integer(3);
      job.worker = q.text(4);
      job.claim_until = q.integer(5);
    } else {
      Query dead{s, "SELECT error FROM indra_dead WHERE id = ?1"};
      INDRA_LET(const bool found, dead.bind(id).step());
      if (found) return fail(EPERM, the_job + " is a dead letter: " + dead.text(0));
      return fail(ENOENT, "there is no " + the_job + ": it was done or cancelled, or never was");
    }
  }
  INDRA_TRY(allowed(s, job.queue));
  if (job.state != 1)
    return fail(EPERM, the_job + " is not claimed" + (job.attempts > 0 ? ": the claim has ended" : ""));
  if (job.worker != worker)
    return fail(EPERM, the_job + " is claimed by '" + job.worker + "', not by '" + worker + "'");
  if (in_time && job.claim_until <= s.now()) return fail(EPERM, "the claim of " + the_job + " has ended");
  return job;
}

/// Delayed jobs whose time has come are ready; claims that ended are over; what expired is dead.
Result<void> catch_up(State& s, const std::string& queue, std::int64_t now) {
  INDRA_TRY(Query{s, "UPDATE indra_jobs SET state = 0 WHERE queue = ?1 AND state = 2 AND run_at <= ?2"}
                .bind(queue, now)
                .run());
  std::vector<Job> over, expired;
  {
    Query q{s,
            "SELECT id, attempts, max_attempts, worker FROM indra_jobs WHERE queue = ?1 AND state = 1 AND "
            "claim_until "
            "<= ?2"};
    q.bind(queue, now);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      over.push_back({q.integer(0), queue, q.text(3), 1, q.integer(1), q.integer(2), 0});
    }
  }
  {
    Query q{s,
            "SELECT id FROM indra_jobs WHERE queue = ?1 AND expires_at <= ?2 AND expires_at IS NOT NULL AND "
            "state <> 1"};
    q.bind(queue, now);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      expired.push_back({q.integer(0), queue, {}, 0, 0, 0, 0});
    }
  }
  std::int64_t again = 0;
  for (const Job& job : over) {
    const std::string why = "worker '" + job.worker + "' did not finish in time";
    if (job.attempts >= job.max_attempts) {
      INDRA_TRY(bury(s, job, why, now));
      continue;
    }
    INDRA_TRY(Query{
        s, "UPDATE indra_jobs SET state = 0, worker = NULL, claim_until = NULL, error = ?2 WHERE id = ?1"}
                  .bind(job.id, why)
                  .run());
    ++again;
  }
  for (const Job& job : expired) INDRA_TRY(bury(s, job, "expired before anybody claimed it", now));
  if (again != 0) INDRA_TRY(count(s, queue, kRetried, again));
  return {};
}

struct Settings {
  std::int64_t max_attempts = 3, visibility = 60'000, backoff = 1000, backoff_max = 3'600'000, priority = 0;
  std::int64_t expires = 0;  // 0: never
};

Result<void> read_settings(const Json& j, Settings& o) {
  const auto set = [](auto& to, const auto& from) {
    if (from) to = *from;
  };
  INDRA_LET(const auto attempts, integer_option(j, "max_attempts", 1, 1'000'000));
  INDRA_LET(const auto visibility, seconds_option(j, "visibility", false));
  INDRA_LET(const auto backoff, seconds_option(j, "backoff", true));
  INDRA_LET(const auto backoff_max, seconds_option(j, "backoff_max", true));
  INDRA_LET(const auto priority, integer_option(j, "priority", -1'000'000, 1'000'000));
  INDRA_LET(const auto expires, seconds_option(j, "expires", false));
  set(o.max_attempts, attempts), set(o.visibility, visibility), set(o.backoff, backoff);
  set(o.backoff_max, backoff_max), set(o.priority, priority);
  set(o.expires, expires);
  if (j.contains("expires") && j["expires"].is_null()) o.expires = 0;
  return {};
}
#define INDRA_QUEUE_OPTIONS "max_attempts", "visibility", "backoff", "backoff_max", "priority", "expires"

Result<void> queue_create(Call& c) {
  INDRA_LET(const std::string queue, c.name(0, "queue"));
  INDRA_TRY(allowed(c.s, queue));
  INDRA_LET(const Json j, c.options(1, {INDRA_QUEUE_OPTIONS}));
  Settings o;
  bool there = false;
  {
    Query q{c.s,
            "SELECT max_attempts, visibility, backoff, backoff_max, priority, expires FROM indra_queues "
            "WHERE queue = ?1"};
    INDRA_LET(there, q.bind(queue).step());
    if (there) {
      o = {q.integer(0), q.integer(1), q.integer(2), q.integer(3), q.integer(4), q.integer(5)};
    }
  }
  INDRA_TRY(read_settings(j, o));
  if (there)
    INDRA_TRY(
        Query{c.s,
              "UPDATE indra_queues SET max_attempts = ?2, visibility = ?3, backoff = ?4, backoff_max = ?5, "
              "priority = ?6, expires = NULLIF(?7, 0) WHERE queue = ?1"}
            .bind(queue, o.max_attempts, o.visibility, o.backoff, o.backoff_max, o.priority, o.expires)
            .run());
  else
    INDRA_TRY(Query{
        c.s,
        "INSERT INTO indra_queues(queue, max_attempts, visibility, backoff, backoff_max, priority, expires, "
        "created) VALUES(?1, ?2, ?3, ?4, ?5, ?6, NULLIF(?7, 0), ?8)"}
                  .bind(queue, o.max_attempts, o.visibility, o.backoff, o.backoff_max, o.priority, o.expires,
                        c.s.now())
                  .run());
  c.answer(std::int64_t{there ? 0 : 1});
  return {};
}

Result<void> queue_delete(Call& c) {
  INDRA_LET(const std::string queue, c.name(0, "queue"));
  INDRA_TRY(known_queue(c.s, queue));
  INDRA_TRY(allowed(c.s, queue));
  {
    Query q{c.s,
            "SELECT 'schedule ' || name FROM indra_schedules WHERE queue = ?1 UNION ALL SELECT 'rule ' || "
            "name FROM "
            "indra_rules WHERE queue = ?1 LIMIT 1"};
    INDRA_LET(const bool used, q.bind(queue).step());
    if (used) return fail(EPERM, q.text(0) + " puts jobs into queue '" + queue + "'; remove it first");
  }
  for (const char* sql :
       {"DELETE FROM indra_jobs WHERE queue = ?1", "DELETE FROM indra_dead WHERE queue = ?1",
        "DELETE FROM indra_results WHERE queue = ?1", "DELETE FROM indra_queues WHERE queue = ?1"})
    INDRA_TRY(Query{c.s, sql}.bind(queue).run());
  c.answer(std::int64_t{1});
  return {};
}

Result<void> set_paused(Call& c, bool paused) {
  INDRA_LET(const std::string queue, c.name(0, "queue"));
  INDRA_TRY(known_queue(c.s, queue));
  INDRA_TRY(allowed(c.s, queue));
  INDRA_TRY(
      Query{c.s, "UPDATE indra_queues SET paused = ?2 WHERE queue = ?1"}.bind(queue, paused ? 1 : 0).run());
  c.s.wakes = true;
  c.answer(std::int64_t{1});
  return {};
}
Result<void> queue_pause(Call& c) { return set_paused(c, true); }
Result<void> queue_resume(Call& c) { return set_paused(c, false); }

Result<void> enqueue_one(Call& c) {
  INDRA_LET(const std::string queue, c.name(0, "queue"));
  INDRA_TRY(allowed(c.s, queue));
  INDRA_LET(sqlite3_value * payload, c.payload(1));
  INDRA_LET(const Json j, c.options(2, {INDRA_JOB_OPTIONS}));
  INDRA_LET(const JobOptions o, JobOptions::read(j));
  INDRA_LET(const std::int64_t id, enqueue(c.s, queue, payload, std::nullopt, o));
  c.answer(id);
  return {};
}

Result<void> claim(Call& c) {
  INDRA_LET(const std::string queue, c.name(0, "queue"));
  INDRA_LET(const std::string worker, c.name(1, "worker"));
  INDRA_TRY(allowed(c.s, queue));
  std::int64_t n = 1;
  if (c.has(2)) {
    INDRA_LET(n, c.integer(2, "number of jobs", 1, 10'000));
  }
  const std::int64_t now = c.s.now();
  std::int64_t visibility = 0;
  bool paused = false;
  {
    Query q{c.s, "SELECT visibility, paused FROM indra_queues WHERE queue = ?1"};
    INDRA_LET(const bool row, q.bind(queue).step());
    if (!row) return known_queue(c.s, queue);
    visibility = q.integer(0);
    paused = q.integer(1) != 0;
  }
  if (c.has(3)) {
    INDRA_LET(visibility, c.seconds(3, "visibility", false));
  }
  INDRA_TRY(catch_up(c.s, queue, now));
  Json jobs = Json::array();
  if (!paused) {
    Query q{c.s,
            "SELECT id, payload, attempts, max_attempts, priority, key FROM indra_jobs WHERE queue = ?1 AND "
            "state = 0 "
            "ORDER BY priority DESC, run_at, id LIMIT ?2"};
    q.bind(queue, n);
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      Json job = {{"id", q.integer(0)},
                  {"queue", queue},
                  {"payload", q.json(1)},
                  {"attempt", q.integer(2) + 1},
                  {"max_attempts", q.integer(3)},
                  {"priority", q.integer(4)},
                  {"worker", worker},
                  {"claim_until", static_cast<double>(now + visibility) / 1000}};
      if (!q.null(5)) job["key"] = q.json(5);
      jobs.push_back(std::move(job));
    }
  }
  for (const Json& job : jobs)
    INDRA_TRY(Query{
        c.s,
        "UPDATE indra_jobs SET state = 1, attempts = attempts + 1, worker = ?2, claim_until = ?3, expires_at "
        "= NULL WHERE id = ?1"}
                  .bind(job["id"].get<std::int64_t>(), worker, now + visibility)
                  .run());
  c.answer(jobs);
  return {};
}

Result<void> finish(State& s, const Job& job) {
  INDRA_TRY(Query{s, "DELETE FROM indra_jobs WHERE id = ?1"}.bind(job.id).run());
  return count(s, job.queue, kDone);
}

Result<void> save_result(State& s, std::int64_t id, const std::string& queue, sqlite3_value* value,
                         std::optional<std::int64_t> ttl) {
  const std::int64_t now = s.now();
  INDRA_TRY(
      Query{s, "DELETE FROM indra_results WHERE expires <= ?1 AND expires IS NOT NULL"}.bind(now).run());
  std::optional<std::int64_t> expires;
  if (ttl) expires = now + *ttl;
  s.wakes = true;
  return Query{
      s,
      "INSERT OR REPLACE INTO indra_results(job, queue, value, created, expires) VALUES(?1, ?2, ?3, ?4, ?5)"}
      .bind(id, queue, value, now, expires)
      .run();
}

Result<void> ack(Call& c) {
  INDRA_LET(const std::int64_t id, c.integer(0, "job", 1, INT64_MAX));
  INDRA_LET(const std::string worker, c.name(1, "worker"));
  INDRA_LET(sqlite3_value * result, c.payload(2));
  INDRA_LET(const Job job, claimed(c.s, id, worker, false));
  INDRA_TRY(finish(c.s, job));
  if (result != nullptr) INDRA_TRY(save_result(c.s, id, job.queue, result, kResultTtl));
  c.answer(std::int64_t{1});
  return {};
}

Result<void> ack_many(Call& c) {
  INDRA_LET(const std::string ids, c.text(0, "jobs"));
  INDRA_LET(const std::string worker, c.name(1, "worker"));
  const Json list = Json::parse(ids, nullptr, false);
  if (!list.is_array()) return fail(EINVAL, "jobs must be a JSON array of numbers");
  std::vector<Job> jobs;
  for (const Json& id : list) {
    if (!id.is_number_integer()) return fail(EINVAL, "jobs must be a JSON array of numbers");
    INDRA_LET(Job job, claimed(c.s, id.get<std::int64_t>(), worker, false));
    jobs.push_back(std::move(job));
  }
  std::map<std::string, std::int64_t> done;
  for (const Job& job : jobs) {
    INDRA_TRY(Query{c.s, "DELETE FROM indra_jobs WHERE id = ?1"}.bind(job.id).run());
    ++done[job.queue];
  }
  for (const auto& [queue, n] : done) INDRA_TRY(count(c.s, queue, kDone, n));
  c.answer(static_cast<std::int64_t>(jobs.size()));
  return {};
}

Result<void> retry(Call& c) {
  INDRA_LET(const std::int64_t id, c.integer(0, "job", 1, INT64_MAX));
  INDRA_LET(const std::string worker, c.name(1, "worker"));
  std::string error = "given back";
  if (c.has(2)) {
    INDRA_LET(error, c.text(2, "error"));
  }
  INDRA_LET(const Job job, claimed(c.s, id, worker, false));
  const std::int64_t now = c.s.now();
  if (job.attempts >= job.max_attempts) {
    INDRA_TRY(bury(c.s, job, error, now));
    c.answer(std::string{"dead"});
    return {};
  }
  std::int64_t delay = 0;
  if (c.has(3)) {
    INDRA_LET(delay, c.seconds(3, "delay", true));
  } else {
    Query q{c.s, "SELECT backoff, backoff_max FROM indra_queues WHERE queue = ?1"};
    INDRA_TRY(q.bind(job.queue).step());
    delay = q.integer(0);
    for (std::int64_t i = 1; i < job.attempts && delay < q.integer(1); ++i) delay *= 2;
    delay = std::min(delay, q.integer(1));
  }
  INDRA_TRY(Query{
      c.s,
      "UPDATE indra_jobs SET state = ?2, run_at = ?3, worker = NULL, claim_until = NULL, error = ?4 WHERE "
      "id = ?1"}
                .bind(id, delay > 0 ? 2 : 0, now + delay, error)
                .run());
  c.s.wakes = true;
  c.answer(std::string{delay > 0 ? "delayed" : "ready"});
  return count(c.s, job.queue, kRetried);
}

Result<void> fail_job(Call& c) {
  INDRA_LET(const std::int64_t id, c.integer(0, "job", 1, INT64_MAX));
  INDRA_LET(const std::string worker, c.name(1, "worker"));
  INDRA_LET(const std::string error, c.text(2, "error"));
  INDRA_LET(const Job job, claimed(c.s, id, worker, false));
  c.answer(std::int64_t{1});
  return bury(c.s, job, error, c.s.now());
}

Result<void> heartbeat(Call& c) {
  INDRA_LET(const std::int64_t id, c.integer(0, "job", 1, INT64_MAX));
  INDRA_LET(const std::string worker, c.name(1, "worker"));
  INDRA_LET(const std::int64_t extend, c.seconds(2, "seconds", false));
  INDRA_TRY(claimed(c.s, id, worker, true));
  const std::int64_t until = c.s.now() + extend;
  c.answer_seconds(until);
  return Query{c.s, "UPDATE indra_jobs SET claim_until = ?2 WHERE id = ?1"}.bind(id, until).run();
}

Result<void> cancel(Call& c) {
  INDRA_LET(const std::int64_t id, c.integer(0, "job", 1, INT64_MAX));
  std::string queue;
  {
    Query q{c.s, "SELECT queue FROM indra_jobs WHERE id = ?1"};
    INDRA_LET(const bool row, q.bind(id).step());
    c.answer(std::int64_t{row});
    if (!row) return {};
    queue = q.text(0);
  }
  INDRA_TRY(allowed(c.s, queue));
  INDRA_TRY(Query{c.s, "DELETE FROM indra_jobs WHERE id = ?1"}.bind(id).run());
  return count(c.s, queue, kCancelled);
}

Result<void> dead_retry(Call& c) {
  INDRA_LET(const std::int64_t id, c.integer(0, "job", 1, INT64_MAX));
  std::string queue;
  {
    Query q{c.s, "SELECT queue FROM indra_dead WHERE id = ?1"};
    INDRA_LET(const bool row, q.bind(id).step());
    if (!row) return fail(ENOENT, "there is no dead letter " + text_of(id));
    queue = q.text(0);
  }
  {
    Query q{c.s,
            "SELECT j.id FROM indra_dead d JOIN indra_jobs j ON j.queue = d.queue AND j.key = d.key WHERE "
            "d.id = ?1"};
    INDRA_LET(const bool row, q.bind(id).step());
    if (row) return fail(EEXIST, "job " + text_of(q.integer(0)) + " has the same key, and is not finished");
  }
  INDRA_TRY(Query{
      c.s,
      "INSERT INTO indra_jobs(id, queue, state, priority, run_at, payload, key, attempts, max_attempts, "
      "created, error) SELECT id, queue, 0, priority, ?2, payload, key, 0, max_attempts, created, error "
      "FROM indra_dead WHERE id = ?1"}
                .bind(id, c.s.now())
                .run());
  c.s.wakes = true;
  c.answer(std::int64_t{1});
  return Query{c.s, "DELETE FROM indra_dead WHERE id = ?1"}.bind(id).run();
}

Result<void> dead_delete(Call& c) {
  INDRA_LET(const std::int64_t id, c.integer(0, "job", 1, INT64_MAX));
  INDRA_TRY(Query{c.s, "DELETE FROM indra_dead WHERE id = ?1"}.bind(id).run());
  c.answer(std::int64_t{sqlite3_changes(c.s.db) != 0});
  return {};
}

Result<void> result_save(Call& c) {
  INDRA_LET(const std::int64_t id, c.integer(0, "job", 1, INT64_MAX));
  INDRA_LET(sqlite3_value * value, c.payload(1));
  std::optional<std::int64_t> ttl = kResultTtl;
  if (c.has(2)) {
    INDRA_LET(const std::int64_t t, c.seconds(2, "seconds to keep it", true));
    ttl = t == 0 ? std::nullopt : std::optional{t};
  }
  Query q{c.s,
          "SELECT queue FROM indra_jobs WHERE id = ?1 UNION ALL SELECT queue FROM indra_dead WHERE id = ?1"};
  INDRA_LET(const bool row, q.bind(id).step());
  if (!row) return fail(ENOENT, "there is no job " + text_of(id) + "; give the result with indra_ack");
  INDRA_TRY(allowed(c.s, q.text(0)));
  c.answer(std::int64_t{1});
  return save_result(c.s, id, q.text(0), value, ttl);
}

Result<void> result(Call& c) {
  INDRA_LET(const std::int64_t id, c.integer(0, "job", 1, INT64_MAX));
  Query q{c.s, "SELECT value FROM indra_results WHERE job = ?1 AND (expires IS NULL OR expires > ?2)"};
  INDRA_LET(const bool row, q.bind(id, c.s.now()).step());
  if (row) c.answer_value(q.value(0));
  return {};
}

Result<void> job_row(Call& c) {
  INDRA_LET(const std::int64_t id, c.integer(0, "job", 1, INT64_MAX));
  {
    Query q{c.s,
            "SELECT queue, state, priority, run_at, payload, key, attempts, max_attempts, worker, "
            "claim_until, created, "
            "error FROM indra_jobs WHERE id = ?1"};
    INDRA_LET(const bool row, q.bind(id).step());
    if (row) {
      static constexpr const char* kStates[] = {"ready", "claimed", "delayed"};
      const auto state = static_cast<std::size_t>(q.integer(1));
      c.answer(
          Json{{"id", id},
               {"queue", q.json(0)},
               {"state", kStates[std::min<std::size_t>(state, 2)]},
               {"priority", q.integer(2)},
               {"run_at", static_cast<double>(q.integer(3)) / 1000},
               {"payload", q.json(4)},
               {"key", q.json(5)},
               {"attempts", q.integer(6)},
               {"max_attempts", q.integer(7)},
               {"worker", q.json(8)},
               {"claim_until", q.null(9) ? Json(nullptr) : Json(static_cast<double>(q.integer(9)) / 1000)},
               {"created", static_cast<double>(q.integer(10)) / 1000},
               {"error", q.json(11)}});
      return {};
    }
  }
  Query q{c.s, "SELECT queue, payload, key, attempts, worker, died, error FROM indra_dead WHERE id = ?1"};
  INDRA_LET(const bool row, q.bind(id).step());
  if (!row) return {};
  c.answer(Json{{"id", id},
                {"queue", q.json(0)},
                {"state", "dead"},
                {"payload", q.json(1)},
                {"key", q.json(2)},
                {"attempts", q.integer(3)},
                {"worker", q.json(4)},
                {"died", static_cast<double>(q.integer(5)) / 1000},
                {"error", q.json(6)}});
  return {};
}

Result<void> next_at(Call& c) {
  INDRA_LET(const std::string queue, c.name(0, "queue"));
  INDRA_TRY(known_queue(c.s, queue));
  Query q{c.s,
          "SELECT CASE WHEN (SELECT paused FROM indra_queues WHERE queue = ?1) THEN NULL"
          " WHEN EXISTS(SELECT 1 FROM indra_jobs WHERE queue = ?1 AND state = 0) THEN 0 ELSE MIN("
          "COALESCE((SELECT MIN(run_at) FROM indra_jobs WHERE queue = ?1 AND state = 2), 9e18),"
          "COALESCE((SELECT MIN(claim_until) FROM indra_jobs WHERE queue = ?1 AND state = 1), 9e18)) END"};
  INDRA_TRY(q.bind(queue).step());
  if (q.null(0) || q.integer(0) > 8'000'000'000'000'000'000) return {};
  c.answer_seconds(q.integer(0));
  return {};
}

Result<void> sweep(Call& c) {
  INDRA_LET(const std::string queue, c.name(0, "queue"));
  INDRA_TRY(known_queue(c.s, queue));
  const int before = sqlite3_total_changes(c.s.db);
  INDRA_TRY(catch_up(c.s, queue, c.s.now()));
  c.answer(std::int64_t{sqlite3_total_changes(c.s.db) - before});
  return {};
}

Result<void> stats(Call& c) {
  INDRA_LET(const std::string queue, c.name(0, "queue"));
  INDRA_TRY(known_queue(c.s, queue));
  Query q{c.s,
          "SELECT (SELECT COUNT(*) FROM indra_jobs WHERE queue = ?1 AND state = 0),"
          " (SELECT COUNT(*) FROM indra_jobs WHERE queue = ?1 AND state = 2),"
          " (SELECT COUNT(*) FROM indra_jobs WHERE queue = ?1 AND state = 1),"
          " (SELECT COUNT(*) FROM indra_dead WHERE queue = ?1),"
          " (SELECT MIN(created) FROM indra_jobs WHERE queue = ?1),"
          " enqueued, done, retried, died, cancelled, paused, max_attempts, visibility, backoff, "
          "backoff_max, priority,"
          " expires FROM indra_queues WHERE queue = ?1"};
  INDRA_TRY(q.bind(queue).step());
  const auto s = [&](int i) {
    return q.null(i) ? Json(nullptr) : Json(static_cast<double>(q.integer(i)) / 1000);
  };
  c.answer(Json{{"queue", queue},
                {"ready", q.integer(0)},
                {"delayed", q.integer(1)},
                {"claimed", q.integer(2)},
                {"dead", q.integer(3)},
                {"oldest", s(4)},
                {"enqueued", q.integer(5)},
                {"done", q.integer(6)},
                {"retried", q.integer(7)},
                {"died", q.integer(8)},
                {"cancelled", q.integer(9)},
                {"paused", q.integer(10) != 0},
                {"max_attempts", q.integer(11)},
                {"visibility", s(12)},
                {"backoff", s(13)},
                {"backoff_max", s(14)},
                {"priority", q.integer(15)},
                {"expires", s(16)}});
  return {};
}

}  // namespace

Result<void> known_queue(State& s, const std::string& queue) {
  Query q{s, "SELECT 1 FROM indra_queues WHERE queue = ?1"};
  INDRA_LET(const bool row, q.bind(queue).step());
  if (row) return {};
  return fail(ENOENT, "there is no queue '" + queue + "'; make it with indra_queue_create('" + queue +
                          "') or: indrafs queue create");
}

Result<void> allowed(const State& s, const std::string& queue) {
  if (s.own || !reserved(queue)) return {};
  return fail(EPERM,
              "queue '" + queue +
                  "' is the vault's own: only the vault puts jobs in and does them; choose a name that "
                  "does not begin with 'indra:'");
}

Result<std::int64_t> enqueue(State& s, const std::string& queue, sqlite3_value* payload,
                             std::optional<std::string_view> text, const JobOptions& o) {
  std::int64_t max_attempts = 0, priority = 0;
  std::optional<std::int64_t> expires = o.expires;
  {
    Query q{s, "SELECT max_attempts, priority, expires FROM indra_queues WHERE queue = ?1"};
    INDRA_LET(const bool row, q.bind(queue).step());
    if (!row) {
      INDRA_TRY(known_queue(s, queue));
    }
    max_attempts = o.max_attempts.value_or(q.integer(0));
    priority = o.priority.value_or(q.integer(1));
    if (!expires && !q.null(2)) expires = q.integer(2);
  }
  if (o.key) {
    Query q{s, "SELECT id FROM indra_jobs WHERE queue = ?1 AND key = ?2"};
    INDRA_LET(const bool row, q.bind(queue, *o.key).step());
    if (row) return q.integer(0);
  }
  const std::int64_t now = s.now(), run_at = o.run_at.value_or(now + o.delay);
  std::optional<std::int64_t> expires_at;
  if (expires) expires_at = std::max(now, run_at) + *expires;
  {
    Query q{s,
            "INSERT INTO indra_jobs(queue, state, priority, run_at, key, attempts, max_attempts, expires_at, "
            "created, "
            "payload) VALUES(?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?9)"};
    q.bind(queue, run_at > now ? 2 : 0, priority, run_at, o.key, max_attempts, expires_at, now);
    if (text)
      q.bind(*text);
    else
      q.bind(payload);
    INDRA_TRY(q.run());
  }
  const std::int64_t id = sqlite3_last_insert_rowid(s.db);
  INDRA_TRY(count(s, queue, kEnqueued));
  s.wakes = s.wakes || !(s.own && reserved(queue));  // what the vault gives itself to do wakes nobody
  return id;
}

const std::vector<Function> kQueueFunctions = {
    {"indra_queue_create", 1, 2, true, queue_create, "queue, options"},
    {"indra_queue_delete", 1, 1, true, queue_delete, "queue"},
    {"indra_queue_pause", 1, 1, true, queue_pause, "queue"},
    {"indra_queue_resume", 1, 1, true, queue_resume, "queue"},
    {"indra_enqueue", 2, 3, true, enqueue_one, "queue, payload, options"},
    {"indra_claim", 2, 4, true, claim, "queue, worker, number, visibility"},
    {"indra_ack", 2, 3, true, ack, "job, worker, result"},
    {"indra_ack_many", 2, 2, true, ack_many, "jobs, worker"},
    {"indra_retry", 2, 4, true, retry, "job, worker, error, delay"},
    {"indra_fail", 3, 3, true, fail_job, "job, worker, error"},
    {"indra_heartbeat", 3, 3, true, heartbeat, "job, worker, seconds"},
    {"indra_cancel", 1, 1, true, cancel, "job"},
    {"indra_dead_retry", 1, 1, true, dead_retry, "job"},
    {"indra_dead_delete", 1, 1, true, dead_delete, "job"},
    {"indra_result_save", 2, 3, true, result_save, "job, value, seconds"},
    {"indra_result", 1, 1, false, result, "job"},
    {"indra_job", 1, 1, false, job_row, "job"},
    {"indra_next_at", 1, 1, false, next_at, "queue"},
    {"indra_sweep", 1, 1, true, sweep, "queue"},
    {"indra_stats", 1, 1, false, stats, "queue"},
};

}  // namespace indra::coord
