// queue: jobs for workers, at least once; rules that make them of changes.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "cli/coord.h"
#include "cli/terminal.h"
#include "events/feed.h"

namespace indra::cli {
namespace {

struct QueueArgs {
  std::string name, payload, worker, error = "given back", result;
  std::int64_t job = 0, count = 1, limit = 0;
  std::optional<double> wait, visibility, delay, backoff, backoff_max, expires;
  std::optional<std::int64_t> max_attempts, priority;
  std::vector<std::string> command, kinds;
  std::string place, bucket = "main";
  bool once = false;
  JobOptionArgs job_options;
};
using Args = std::shared_ptr<QueueArgs>;

std::string text(const Json& j) { return j.is_string() ? j.get<std::string>() : j.dump(); }

/// When something can be claimed or a schedule fires: seconds since 1970, 0 for now, nothing for never.
Result<std::optional<double>> next_chance(Coord& c, const std::string& queue) {
  INDRA_LET(const Json job, c.call("indra_next_at", {queue}));
  INDRA_LET(const Json fire, c.call("indra_schedule_next", {}));
  std::optional<double> at;
  if (job.is_number()) at = job.get<double>();
  if (fire.is_number()) at = std::min(at.value_or(1e18), fire.get<double>());
  return at;
}

/// Claims up to `n` jobs; sleeps until there are some, for `wait` seconds at most. Whoever waits also fires
/// schedules that are due: so they fire without a daemon.
Result<Json> claim(Coord& c, const QueueArgs& a, std::int64_t n, std::optional<double> wait) {
  const double until = wait ? seconds_now() + *wait : 0;
  for (bool first = true;; first = false) {  // the first is asked for all the same: it may be refused
    const auto seen = c.ticket();
    INDRA_LET(const Json fire, c.call("indra_schedule_next", {}));
    if (fire.is_number() && fire.get<double>() <= seconds_now()) INDRA_TRY(c.call("indra_schedule_tick", {}));
    INDRA_LET(const auto next, next_chance(c, a.name));
    if (first || (next && *next <= seconds_now())) {
      Coord::Arguments arguments{a.name, a.worker, n};
      if (a.visibility) arguments.emplace_back(*a.visibility);
      INDRA_LET(Json jobs, c.call_json("indra_claim", arguments));
      if (!jobs.empty()) return jobs;
      INDRA_LET(const auto again, next_chance(c, a.name));
      if (again && *again <= seconds_now() && c.ticket() != seen)
        continue;  // others were quicker: look again
    }
    const double now = seconds_now();
    if (wait && now >= until) return Json::array();
    INDRA_LET(const auto chance, next_chance(c, a.name));
    double sleep = chance ? std::max(0.001, *chance - now) : -1;
    if (wait && (sleep < 0 || now + sleep > until)) sleep = until - now;
    c.wait(seen, sleep < 0 ? -1 : static_cast<TimeNs>(std::min(sleep, 1e6) * 1e9));
  }
}

Result<int> work(Context& ctx, const QueueArgs& a) {
  INDRA_LET(const auto c, open_coord(ctx));
  QueueArgs mine = a;
  if (mine.worker.empty()) mine.worker = own_name("worker");
  INDRA_LET(const Json stats, c->call_json("indra_stats", {a.name}));
  const double visibility = a.visibility.value_or(stats.value("visibility", 60.0));
  for (std::int64_t done = 0; a.limit == 0 || done < a.limit; ++done) {
    INDRA_LET(const Json jobs, claim(*c, mine, 1, a.once ? std::optional{a.wait.value_or(0)} : a.wait));
    if (jobs.empty()) return 0;
    const Json& job = jobs[0];
    const std::int64_t id = int_field(job, "id");
    const Json& payload = job["payload"];
    const std::string input = payload.is_null() ? "" : name_from_json(payload).value_or(payload.dump());
    bool lost = false;
    INDRA_LET(const int status, run_program(a.command,
                                            {{"INDRA_JOB", std::to_string(id)},
                                             {"INDRA_QUEUE", a.name},
                                             {"INDRA_ATTEMPT", std::to_string(int_field(job, "attempt"))},
                                             {"INDRA_WORKER", mine.worker}},
                                            &input, std::max(0.05, visibility / 3), [&] {
                                              if (!c->call("indra_heartbeat", {id, mine.worker, visibility}))
                                                lost = true;
                                            }));
    const auto answered =
        status == 0 ? c->call("indra_ack", {id, mine.worker})
                    : c->call("indra_retry", {id, mine.worker, fmt::format("exit status {}", status)});
    if (!answered)
      ctx.complain(fmt::format("job {}{}", id, lost ? " (its claim was lost meanwhile)" : ""),
                   answered.error());
    if (ctx.json)
      fmt::print("{}\n",
                 Json{{"job", id}, {"status", status}, {"acknowledged", answered && status == 0}}.dump());
    std::fflush(stdout);
  }
  return 0;
}

Result<int> list(Context& ctx) {
  INDRA_LET(const auto c, open_coord(ctx));
  INDRA_LET(const auto names, c->select("SELECT queue FROM indra_queues ORDER BY queue"));
  Json all = Json::array();
  for (const Json& row : names) {
    INDRA_LET(Json stats, c->call_json("indra_stats", {row[0].get<std::string>()}));
    all.push_back(std::move(stats));
  }
  if (ctx.json) {
    fmt::print("{}\n", all.dump(2));
    return 0;
  }
  for (const Json& q : all)
    fmt::print("{:<24} {} ready, {} delayed, {} claimed, {} dead; {} done{}\n",
               shown_name(text_field(q, "queue")), int_field(q, "ready"), int_field(q, "delayed"),
               int_field(q, "claimed"), int_field(q, "dead"), int_field(q, "done"),
               bool_field(q, "paused") ? "; paused" : "");
  return 0;
}

Result<int> jobs(Context& ctx, const QueueArgs& a) {
  INDRA_LET(const auto c, open_coord(ctx));
  INDRA_TRY(c->call("indra_stats", {a.name}));  // there is such a queue
  INDRA_LET(Json all,
            objects(*c,
                    "SELECT id, CASE state WHEN 0 THEN 'ready' WHEN 1 THEN 'claimed' ELSE 'delayed' "
                    "END, attempts, worker, key, error, run_at / 1000.0, claim_until / 1000.0, "
                    "created / 1000.0 FROM indra_jobs WHERE queue = ? ORDER BY id",
                    {"id", "state", "attempts", "worker", "key", "error", "run_at", "claim_until", "created"},
                    {a.name}));
  if (ctx.json) {
    fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  for (const Json& j : all)
    fmt::print("{:>8} {:<8} {:<16} {} attempts{}{}\n", int_field(j, "id"), text_field(j, "state"),
               shown_name(text_field(j, "key")), int_field(j, "attempts"),
               j["worker"].is_string() ? ", " + shown_name(text_field(j, "worker")) : "",
               j["error"].is_string() ? ": " + shown_name(text_field(j, "error")) : "");
  return 0;
}

/// One function, its answer printed.
Result<int> one(Context& ctx, const char* function, const Coord::Arguments& arguments, bool print = true) {
  INDRA_LET(const auto c, open_coord(ctx));
  INDRA_LET(const Json j, c->call(function, arguments));
  if (print && !j.is_null()) fmt::print("{}\n", text(j));
  return 0;
}

Result<int> add_rule(Context& ctx, const QueueArgs& a) {
  Json options = {{"bucket", a.bucket}};
  std::string vault = ctx.vault();
  if (!a.place.empty()) {
    const Place p = ctx.place(a.place);
    if (p.vault != vault) throw Usage{a.place + " lies in another vault; name it with --vault"};
    options["branch"] = p.branch;
    options["path"] = p.path;
  }
  std::string kinds;
  for (const auto& k : a.kinds) kinds += (kinds.empty() ? "" : ",") + k;
  options["kinds"] = kinds;
  // From the changes that are to come: the newest one is asked for, and unknown kinds are refused.
  ChangeFilter filter;
  filter.bucket = a.bucket;
  filter.kinds = a.kinds;
  INDRA_LET(const auto c, open_coord(ctx));
  INDRA_LET(const auto feed, Feed::open(vault, filter, std::nullopt));
  options["since"] = feed->position().raw();
  INDRA_TRY(c->call("indra_rule", {a.error, a.name, options.dump()}));
  return 0;
}

CLI::App* with_job(CLI::App* verb, const Args& a) {
  verb->add_option("JOB", a->job, "its number")->required()->check(CLI::PositiveNumber);
  return verb;
}
CLI::App* with_worker(CLI::App* verb, const Args& a) {
  verb->add_option("--worker", a->worker, "who claimed it")->required();
  return verb;
}

void add_rules(CLI::App* group, Context& ctx) {
  CLI::App* rules = group->add_subcommand("rule", "Rules: a job for each change of the vault that fits");
  rules->require_subcommand(1);
  auto a = std::make_shared<QueueArgs>();
  CLI::App* add = add_verb(*rules, ctx, "add", "From now on, a job for each change: exactly once",
                           "  indrafs queue rule add thumbnails images :/photos --kind write",
                           [&ctx, a] { return add_rule(ctx, *a); });
  add->add_option("RULE", a->error, "its name")->required();
  add->add_option("QUEUE", a->name, "where the jobs go")->required();
  add->add_option("PLACE", a->place, "only changes here and below");
  add->add_option("--kind", a->kinds, "only changes of this kind: create, write, ...")
      ->allow_extra_args(false);
  add->add_option("--bucket", a->bucket, "of which bucket (default: main)");
  CLI::App* list =
      add_verb(*rules, ctx, "list", "List the rules", "  indrafs queue rule list", [&ctx]() -> Result<int> {
        INDRA_LET(const auto c, open_coord(ctx));
        INDRA_LET(
            const Json all,
            objects(*c,
                    "SELECT name, queue, bucket, branch, path, kinds, made FROM indra_rules ORDER BY name",
                    {"name", "queue", "bucket", "branch", "path", "kinds", "made"}));
        if (ctx.json)
          fmt::print("{}\n", all.dump(2));
        else
          for (const Json& r : all)
            fmt::print("{:<24} -> {:<16} {}:{} {} ({} jobs so far)\n", shown_name(text_field(r, "name")),
                       shown_name(text_field(r, "queue")), text_field(r, "branch"), text_field(r, "path"),
                       text_field(r, "kinds"), int_field(r, "made"));
        return 0;
      });
  add_json(list, ctx);
  CLI::App* remove =
      add_verb(*rules, ctx, "remove", "No more jobs by this rule", "  indrafs queue rule remove thumbnails",
               [&ctx, a] { return one(ctx, "indra_rule_delete", {a->name}, false); });
  remove->add_option("RULE", a->name, "its name")->required();
}

}  // namespace

void add_queue(CLI::App& app, Context& ctx) {
  CLI::App* group = app.add_subcommand("queue", "Queues: jobs for workers, done at least once");
  group->require_subcommand(1);
  auto a = std::make_shared<QueueArgs>();
  const auto verb = [&](const char* name, const char* about, const char* examples,
                        std::function<Result<int>()> run) {
    return add_verb(*group, ctx, name, about, examples, std::move(run));
  };
  const auto named = [&](CLI::App* v) {
    v->add_option("QUEUE", a->name, "its name")->required();
    return v;
  };

  CLI::App* create =
      named(verb("create", "Make a queue, or change what its jobs get by default",
                 "  indrafs queue create mail --max-attempts 5 --backoff 10", [&ctx, a]() -> Result<int> {
                   Json j = Json::object();
                   const auto set = [&](const char* key, const auto& v) {
                     if (v) j[key] = *v;
                   };
                   set("max_attempts", a->max_attempts), set("visibility", a->visibility);
                   set("backoff", a->backoff), set("backoff_max", a->backoff_max);
                   set("priority", a->priority), set("expires", a->expires);
                   return one(ctx, "indra_queue_create", {a->name, j.dump()}, false);
                 }));
  create->add_option("--max-attempts", a->max_attempts, "claims of a job before it is dead (3)");
  create->add_option("--visibility", a->visibility, "seconds a claim lasts (60)");
  create->add_option("--backoff", a->backoff,
                     "seconds before the second attempt; doubles for each further one (1)");
  create->add_option("--backoff-max", a->backoff_max, "the longest, in seconds (3600)");
  create->add_option("--priority", a->priority, "of jobs that say nothing (0)");
  create->add_option("--expires", a->expires,
                     "jobs that nobody claimed for so many seconds are dead (never)");
  add_json(verb("list", "List the queues with their figures", "  indrafs queue list",
                [&ctx] { return list(ctx); }),
           ctx);
  named(verb("stats", "Figures and settings of a queue, as JSON", "  indrafs queue stats mail",
             [&ctx, a] { return one(ctx, "indra_stats", {a->name}); }));
  named(verb("pause", "Nothing is claimed until resume", "  indrafs queue pause mail",
             [&ctx, a] { return one(ctx, "indra_queue_pause", {a->name}, false); }));
  named(verb("resume", "Jobs are claimed again", "  indrafs queue resume mail",
             [&ctx, a] { return one(ctx, "indra_queue_resume", {a->name}, false); }));
  named(verb("delete", "Remove a queue with all its jobs", "  indrafs queue delete mail",
             [&ctx, a] { return one(ctx, "indra_queue_delete", {a->name}, false); }));

  CLI::App* push =
      named(verb("push", "Put a job in; prints its number",
                 "  indrafs queue push mail '{\"to\": \"me\"}' --delay 2.5\n  indrafs queue push mail - <job",
                 [&ctx, a]() -> Result<int> {
                   INDRA_LET(const std::string payload, payload_of(a->payload));
                   return one(ctx, "indra_enqueue", {a->name, payload, a->job_options.json()});
                 }));
  push->add_option("PAYLOAD", a->payload, "what is to be done; - is standard input");
  a->job_options.add(push);
  CLI::App* pop = named(verb("claim", "Claim jobs, as JSON",
                             "  indrafs queue claim mail --worker me --wait 60", [&ctx, a]() -> Result<int> {
                               INDRA_LET(const auto c, open_coord(ctx));
                               INDRA_LET(const Json jobs, claim(*c, *a, a->count, a->wait.value_or(0)));
                               fmt::print("{}\n", jobs.dump());
                               return 0;
                             }));
  pop->add_option("--worker", a->worker, "your name, to be used with ack")->required();
  pop->add_option("--count", a->count, "so many at most")->check(CLI::PositiveNumber);
  pop->add_option("--wait", a->wait, "seconds to wait for one")->check(CLI::NonNegativeNumber);
  pop->add_option("--visibility", a->visibility, "seconds the claim lasts");
  CLI::App* worker =
      named(verb("work", "Run a program for each job, with the payload on its standard input",
                 "  indrafs queue work mail -- ./send\n  indrafs queue work mail --once -- cat",
                 [&ctx, a] { return work(ctx, *a); }));
  worker->add_option("COMMAND", a->command, "exit status 0: done; else the job is tried again later")
      ->required();
  worker->add_option("--worker", a->worker, "a name for this worker");
  worker->add_option("--visibility", a->visibility,
                     "seconds a claim lasts; it is renewed while the program runs");
  worker->add_option("--limit", a->limit, "end after so many jobs")->check(CLI::PositiveNumber);
  worker->add_option("--wait", a->wait, "end when there was nothing to do for so many seconds");
  worker->add_flag("--once", a->once, "end when nothing is left");
  add_json(worker, ctx);

  with_worker(with_job(verb("ack", "A claimed job is done", "  indrafs queue ack 7 --worker me",
                            [&ctx, a] {
                              Coord::Arguments arguments{a->job, a->worker};
                              if (!a->result.empty()) arguments.emplace_back(a->result);
                              return one(ctx, "indra_ack", arguments, false);
                            }),
                       a),
              a)
      ->add_option("--result", a->result, "kept for a day: indrafs queue result");
  CLI::App* retry =
      with_worker(with_job(verb("retry", "Give a claimed job back", "  indrafs queue retry 7 --worker me",
                                [&ctx, a] {
                                  Coord::Arguments arguments{a->job, a->worker, a->error};
                                  if (a->delay) arguments.emplace_back(*a->delay);
                                  return one(ctx, "indra_retry", arguments);
                                }),
                           a),
                  a);
  retry->add_option("--error", a->error, "why");
  retry->add_option("--delay", a->delay, "seconds (default: the queue's backoff)");
  with_worker(with_job(verb("fail", "A claimed job can never be done",
                            "  indrafs queue fail 7 --worker me --error 'no such address'",
                            [&ctx, a] {
                              return one(ctx, "indra_fail", {a->job, a->worker, a->error}, false);
                            }),
                       a),
              a)
      ->add_option("--error", a->error, "why");
  with_worker(
      with_job(
          verb("heartbeat", "Keep a claim for longer", "  indrafs queue heartbeat 7 --worker me",
               [&ctx, a] {
                 return one(ctx, "indra_heartbeat", {a->job, a->worker, a->visibility.value_or(60)}, false);
               }),
          a),
      a)
      ->add_option("--visibility", a->visibility, "seconds from now (60)");
  with_job(verb("cancel", "Take a job out, also a claimed one", "  indrafs queue cancel 7",
                [&ctx, a]() -> Result<int> {
                  INDRA_LET(const auto c, open_coord(ctx));
                  INDRA_LET(const Json j, c->call("indra_cancel", {a->job}));
                  return j == 1 ? Result<int>{0}
                                : fail(ENOENT,
                                       fmt::format("there is no unfinished job {}; it may be done, or dead",
                                                   a->job));
                }),
           a);
  with_job(verb("show", "A job, as JSON", "  indrafs queue show 7",
                [&ctx, a]() -> Result<int> {
                  INDRA_LET(const auto c, open_coord(ctx));
                  INDRA_LET(const Json j, c->call("indra_job", {a->job}));
                  if (j.is_null())
                    return fail(ENOENT, fmt::format("there is no job {}; it may be done", a->job));
                  fmt::print("{}\n", text(j));
                  return 0;
                }),
           a);
  with_job(verb("result", "What the worker said when it acknowledged a job", "  indrafs queue result 7",
                [&ctx, a]() -> Result<int> {
                  INDRA_LET(const auto c, open_coord(ctx));
                  INDRA_LET(const Json j, c->call("indra_result", {a->job}));
                  if (j.is_null()) return fail(ENOENT, fmt::format("there is no result of job {}", a->job));
                  fmt::print("{}\n", text(j));
                  return 0;
                }),
           a);
  add_json(
      named(verb(
          "dead", "Dead letters: jobs that failed too often, or for good", "  indrafs queue dead mail",
          [&ctx, a]() -> Result<int> {
            INDRA_LET(const auto c, open_coord(ctx));
            INDRA_TRY(c->call("indra_sweep", {a->name}));
            INDRA_LET(
                const Json all,
                objects(
                    *c,
                    "SELECT id, attempts, worker, error, payload FROM indra_dead WHERE queue = ? ORDER BY id",
                    {"id", "attempts", "worker", "error", "payload"}, {a->name}));
            if (ctx.json)
              fmt::print("{}\n", all.dump(2));
            else
              for (const Json& d : all)
                fmt::print("{:>8} after {} attempts: {}\n", int_field(d, "id"), int_field(d, "attempts"),
                           shown_name(text_field(d, "error")));
            return 0;
          })),
      ctx);
  add_json(named(verb(
               "jobs", "The jobs that are not finished: state, attempts, worker, last error",
               "  indrafs queue jobs mail\n  indrafs queue jobs indra:work     # what the vault itself does",
               [&ctx, a] { return jobs(ctx, *a); })),
           ctx);
  with_job(verb("revive", "Put a dead letter back into its queue", "  indrafs queue revive 7",
                [&ctx, a] { return one(ctx, "indra_dead_retry", {a->job}, false); }),
           a);
  add_rules(group, ctx);
}

}  // namespace indra::cli
