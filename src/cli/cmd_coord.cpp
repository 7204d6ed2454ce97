// notify, listen, stream, lock, rate, schedule.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <thread>

#include "cli/coord.h"
#include "cli/terminal.h"
#include "events/path_lock.h"

namespace indra::cli {
namespace {

std::string text(const Json& j) { return j.is_string() ? j.get<std::string>() : j.dump(); }

Result<int> one(Context& ctx, const char* function, const Coord::Arguments& arguments, bool print = true) {
  INDRA_LET(const auto c, open_coord(ctx));
  INDRA_LET(const Json j, c->call(function, arguments));
  if (print && !j.is_null()) fmt::print("{}\n", text(j));
  return 0;
}

struct ListenArgs {
  std::vector<std::string> channels;
  std::string channel, payload;
  std::int64_t count = 0;
  std::optional<double> wait;
};

Result<int> listen(Context& ctx, const ListenArgs& a) {
  INDRA_LET(const auto c, open_coord(ctx));
  INDRA_LET(
      const auto last,
      c->select("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'indra_notifications'"));
  auto at = last.at(0).at(0).get<std::int64_t>();
  const double until = a.wait ? seconds_now() + *a.wait : 0;
  for (std::int64_t left = a.count;;) {
    const auto seen = c->ticket();
    INDRA_LET(const auto rows, c->select("SELECT id, channel, payload, created FROM indra_notifications "
                                         "WHERE id > ? ORDER BY id LIMIT 1000",
                                         {at}));
    for (const Json& row : rows) {
      // Ids leave no gap but one: what was removed before it was read.
      if (const auto id = row[0].get<std::int64_t>(); id > at + 1)
        ctx.say(fmt::format("too slow: {} notifications of all channels were missed", id - at - 1));
      at = row[0].get<std::int64_t>();
      const std::string channel = row[1].get<std::string>();
      if (std::find(a.channels.begin(), a.channels.end(), channel) == a.channels.end()) continue;
      const std::string payload = row[2].is_null() ? "" : text(row[2]);
      if (ctx.json)
        fmt::print("{}\n", Json{{"id", at},
                                {"channel", channel},
                                {"payload", row[2].is_null() ? Json(nullptr) : name_to_json(payload)},
                                {"time", row[3].get<double>() / 1000}}
                               .dump());
      else
        fmt::print("{}\n", a.channels.size() > 1 ? channel + " " + payload : payload);
      if (left > 0 && --left == 0) return 0;
    }
    if (std::fflush(stdout) != 0) return fail(EPIPE);
    if (!rows.empty()) continue;
    if (a.wait && seconds_now() >= until) return 1;
    c->wait(seen, a.wait ? static_cast<TimeNs>((until - seconds_now()) * 1e9) : -1);
  }
}

struct StreamArgs {
  std::string topic, payload, key, consumer;
  std::int64_t after = -1, limit = 0, offset = 0;
  bool follow = false;
};

Result<int> read_stream(Context& ctx, const StreamArgs& a) {
  INDRA_LET(const auto c, open_coord(ctx));
  std::int64_t at = std::max<std::int64_t>(a.after, 0);
  if (!a.consumer.empty() && a.after < 0) {
    INDRA_LET(const Json offset, c->call("indra_consumer_offset", {a.topic, a.consumer}));
    at = offset.get<std::int64_t>();
  }
  for (std::int64_t left = a.limit;;) {
    const auto seen = c->ticket();
    const std::int64_t n = left > 0 ? std::min<std::int64_t>(left, 1000) : 1000;
    auto read = c->call_json("indra_read", {a.topic, at, n});
    if (!read && a.follow && read.error().code == std::errc::no_such_file_or_directory) {
      c->wait(seen);  // nobody has published yet
      continue;
    }
    INDRA_LET(const Json events, std::move(read));
    for (const Json& e : events) {
      at = int_field(e, "offset");
      fmt::print("{}\n", ctx.json ? e.dump() : e["payload"].is_null() ? "" : text(e["payload"]));
    }
    if (std::fflush(stdout) != 0) return fail(EPIPE);
    // What has been handed on is dealt with as far as we can know: after a kill the last ones come again.
    if (!a.consumer.empty() && !events.empty())
      INDRA_TRY(c->call("indra_consumer_save", {a.topic, a.consumer, at}));
    if (left > 0 && (left -= static_cast<std::int64_t>(events.size())) <= 0) return 0;
    if (!events.empty()) continue;
    if (!a.follow) return 0;
    c->wait(seen);
  }
}

struct LockArgs {
  std::string name, owner;
  double ttl = 30;
  std::optional<double> wait;
  std::int64_t token = 0;
  std::vector<std::string> command;
  bool path = false;
  /// LOCK as it was written, or the lock of the place that it is.
  void find(Context& ctx) {
    if (!path) return;
    const Place p = ctx.place(name);
    if (!p.snapshot.empty()) throw Usage{name + " lies in a snapshot: nothing is written there"};
    if (p.vault != ctx.vault()) ctx.vault_option = p.vault;
    name = path_lock("main", p.branch, p.path);
    path = false;
  }
};

/// The token; waits for whoever holds it. EBUSY when that took too long.
Result<std::int64_t> take_lock(Coord& c, const LockArgs& a) {
  const double until = seconds_now() + a.wait.value_or(0);
  for (;;) {
    const auto seen = c.ticket();
    INDRA_LET(const Json token, c.call("indra_lock", {a.name, a.owner, a.ttl}));
    if (token.is_number()) return token.get<std::int64_t>();
    INDRA_LET(const auto held, c.select("SELECT owner, expires FROM indra_locks WHERE name = ?", {a.name}));
    const double now = seconds_now();
    if (now >= until)
      return fail(EBUSY, fmt::format("lock '{}' is held by '{}'; --wait SECONDS waits for it", a.name,
                                     held.empty() ? "somebody" : held[0][0].get<std::string>()));
    const double ends = held.empty() ? now : held[0][1].get<double>() / 1000;
    c.wait(seen, static_cast<TimeNs>(std::max(0.001, std::min(until, ends) - now) * 1e9));
  }
}

Result<int> run_locked(Context& ctx, LockArgs a) {
  INDRA_LET(const auto c, open_coord(ctx));
  a.owner = own_name("run");
  INDRA_LET(const std::int64_t token, take_lock(*c, a));
  bool lost = false;
  auto status = run_program(a.command, {{"INDRA_LOCK", a.name}, {"INDRA_LOCK_TOKEN", std::to_string(token)}},
                            nullptr, std::max(0.02, a.ttl / 3), [&] {
                              if (!lost && !c->call("indra_lock_renew", {a.name, a.owner, a.ttl})) {
                                lost = true;
                                ctx.say("the lock was lost while the program ran");
                              }
                            });
  if (!lost) (void)c->call("indra_unlock", {a.name, a.owner});
  return status;
}

struct RateArgs {
  std::string name;
  std::int64_t limit = 0;
  double per = 1, wait = 0;
};

Result<int> pass_rate(Context& ctx, const RateArgs& a) {
  INDRA_LET(const auto c, open_coord(ctx));
  const double until = seconds_now() + a.wait;
  for (;;) {
    INDRA_LET(const Json passed, c->call("indra_rate", {a.name, a.limit, a.per}));
    if (passed == 1) return 0;
    INDRA_LET(const Json room, c->call("indra_rate_wait", {a.name, a.limit, a.per}));
    const double seconds = room.get<double>();
    if (seconds_now() + seconds > until)
      return fail(EBUSY, fmt::format("'{}' has no room for another {:.3f} s; --wait SECONDS waits for it",
                                     a.name, seconds));
    std::this_thread::sleep_for(std::chrono::duration<double>{std::max(0.001, seconds)});
  }
}

struct ScheduleArgs {
  std::string name, queue, when, payload;
  JobOptionArgs job_options;
};

}  // namespace

void add_notify(CLI::App& app, Context& ctx) {
  auto a = std::make_shared<ListenArgs>();
  CLI::App* notify = add_verb(app, ctx, "notify", "Tell whoever listens on a channel now",
                              "  indrafs notify builds 'done: 42'\n  indrafs notify builds - <message",
                              [&ctx, a]() -> Result<int> {
                                INDRA_LET(const std::string payload, payload_of(a->payload));
                                return one(ctx, "indra_notify", {a->channel, payload}, false);
                              });
  notify->add_option("CHANNEL", a->channel, "its name")->required();
  notify->add_option("PAYLOAD", a->payload, "what to tell; - is standard input");
  CLI::App* listen_verb = add_verb(app, ctx, "listen", "Print what is notified on channels, from now on",
                                   "  indrafs listen builds\n  indrafs listen builds --count 1 --wait 60",
                                   [&ctx, a] { return listen(ctx, *a); });
  listen_verb->add_option("CHANNEL", a->channels, "their names")->required();
  listen_verb->add_option("--count", a->count, "end after so many")->check(CLI::PositiveNumber);
  listen_verb->add_option("--wait", a->wait, "end after so many seconds, with status 1")
      ->check(CLI::NonNegativeNumber);
  add_json(listen_verb, ctx);
}

void add_stream(CLI::App& app, Context& ctx) {
  CLI::App* group = app.add_subcommand("stream", "Durable streams: events in order, read by named consumers");
  group->require_subcommand(1);
  auto a = std::make_shared<StreamArgs>();
  CLI::App* publish = add_verb(*group, ctx, "publish", "Append an event; prints its offset",
                               "  indrafs stream publish orders '{\"id\": 1}'", [&ctx, a]() -> Result<int> {
                                 INDRA_LET(const std::string payload, payload_of(a->payload));
                                 Coord::Arguments arguments{a->topic, payload};
                                 if (!a->key.empty()) arguments.emplace_back(a->key);
                                 return one(ctx, "indra_publish", arguments);
                               });
  publish->add_option("TOPIC", a->topic, "the stream's name")->required();
  publish->add_option("PAYLOAD", a->payload, "the event; - is standard input");
  publish->add_option("--key", a->key, "what it is about");
  CLI::App* read = add_verb(
      *group, ctx, "read", "Print events, in order",
      "  indrafs stream read orders --consumer bookkeeping --follow\n  indrafs stream read orders --after 17",
      [&ctx, a] { return read_stream(ctx, *a); });
  read->add_option("TOPIC", a->topic, "the stream's name")->required();
  read->add_option("--consumer", a->consumer, "go on where this consumer was, and remember how far it came");
  read->add_option("--after", a->after, "what came after this offset (0: all)")
      ->check(CLI::NonNegativeNumber);
  read->add_option("--limit", a->limit, "so many at most")->check(CLI::PositiveNumber);
  read->add_flag("--follow", a->follow, "wait for more");
  add_json(read, ctx);
  CLI::App* trim = add_verb(*group, ctx, "trim", "Remove events up to an offset; prints how many",
                            "  indrafs stream trim orders 1000", [&ctx, a] {
                              return one(ctx, "indra_trim", {a->topic, a->offset});
                            });
  trim->add_option("TOPIC", a->topic, "the stream's name")->required();
  trim->add_option("OFFSET", a->offset, "the last one to go")->required();
  CLI::App* list = add_verb(
      *group, ctx, "list", "List streams and how far their consumers are", "  indrafs stream list",
      [&ctx]() -> Result<int> {
        INDRA_LET(const auto c, open_coord(ctx));
        INDRA_LET(
            Json all,
            objects(*c,
                    "SELECT topic, (SELECT COUNT(*) FROM indra_events e WHERE e.topic = s.topic), "
                    "COALESCE((SELECT MAX(offset) FROM "
                    "indra_events e WHERE e.topic = s.topic), trimmed) FROM indra_streams s ORDER BY topic",
                    {"topic", "events", "newest"}));
        for (Json& s : all) {
          INDRA_LET(
              s["consumers"],
              objects(*c, "SELECT consumer, offset FROM indra_consumers WHERE topic = ? ORDER BY consumer",
                      {"consumer", "offset"}, {text_field(s, "topic")}));
          if (ctx.json) continue;
          fmt::print("{:<24} {} events, the newest {}\n", shown_name(text_field(s, "topic")),
                     int_field(s, "events"), int_field(s, "newest"));
          for (const Json& k : s["consumers"])
            fmt::print("  {:<22} at {}\n", shown_name(text_field(k, "consumer")), int_field(k, "offset"));
        }
        if (ctx.json) fmt::print("{}\n", all.dump(2));
        return 0;
      });
  add_json(list, ctx);
}

void add_lock(CLI::App& app, Context& ctx) {
  CLI::App* group = app.add_subcommand("lock", "Named locks that end by themselves, with fencing tokens");
  group->require_subcommand(1);
  auto a = std::make_shared<LockArgs>();
  const auto verb = [&](const char* name, const char* about, const char* examples,
                        std::function<Result<int>()> run) {
    CLI::App* v = add_verb(*group, ctx, name, about, examples, [&ctx, a, run = std::move(run)] {
      a->find(ctx);
      return run();
    });
    v->add_option("LOCK", a->name, "its name")->required();
    v->add_flag("--path", a->path, "LOCK is a place: the lock of that path, as for `put --lock-token`");
    return v;
  };
  const auto owned = [&](CLI::App* v) {
    v->add_option("--owner", a->owner, "who you are")->required();
    return v;
  };
  CLI::App* run = verb("run", "Hold a lock while a program runs ($INDRA_LOCK_TOKEN is its token)",
                       "  indrafs lock run deploy --wait 600 -- make deploy\n  indrafs lock run --path "
                       ":/a.md -- ./edit-and-put",
                       [&ctx, a] { return run_locked(ctx, *a); });
  run->add_option("COMMAND", a->command, "its exit status is ours")->required();
  CLI::App* take =
      owned(verb("acquire", "Take a lock; prints its fencing token",
                 "  indrafs lock acquire deploy --owner me --ttl 60", [&ctx, a]() -> Result<int> {
                   INDRA_LET(const auto c, open_coord(ctx));
                   INDRA_LET(const std::int64_t token, take_lock(*c, *a));
                   fmt::print("{}\n", token);
                   return 0;
                 }));
  CLI::App* renew =
      owned(verb("renew", "Hold it for longer", "  indrafs lock renew deploy --owner me --ttl 60", [&ctx, a] {
        return one(ctx, "indra_lock_renew", {a->name, a->owner, a->ttl});
      }));
  for (CLI::App* v : {run, take, renew})
    v->add_option("--ttl", a->ttl, "seconds until it ends unless renewed (30)");
  for (CLI::App* v : {run, take})
    v->add_option("--wait", a->wait, "seconds to wait for whoever holds it")->check(CLI::NonNegativeNumber);
  owned(verb("release", "Give a lock up", "  indrafs lock release deploy --owner me", [&ctx, a] {
    return one(ctx, "indra_unlock", {a->name, a->owner}, false);
  }));
  verb("check", "Does this token still hold the lock? Status 1 if not", "  indrafs lock check deploy 17",
       [&ctx, a] {
         return one(ctx, "indra_lock_check", {a->name, a->token}, false);
       })
      ->add_option("TOKEN", a->token, "as acquire printed it")
      ->required();
  CLI::App* list = add_verb(
      *group, ctx, "list", "List the locks that are held", "  indrafs lock list", [&ctx]() -> Result<int> {
        INDRA_LET(const auto c, open_coord(ctx));
        INDRA_LET(const Json all, objects(*c,
                                          "SELECT name, owner, token, taken / 1000.0, expires / 1000.0 FROM "
                                          "indra_locks WHERE expires > ? ORDER BY name",
                                          {"name", "owner", "token", "taken", "expires"},
                                          {static_cast<std::int64_t>(seconds_now() * 1000)}));
        if (ctx.json)
          fmt::print("{}\n", all.dump(2));
        else
          for (const Json& l : all)
            fmt::print("{:<24} {:<24} token {}\n", shown_name(text_field(l, "name")),
                       shown_name(text_field(l, "owner")), int_field(l, "token"));
        return 0;
      });
  add_json(list, ctx);
}

void add_rate(CLI::App& app, Context& ctx) {
  auto a = std::make_shared<RateArgs>();
  CLI::App* verb =
      add_verb(app, ctx, "rate", "Rate limits: status 0 while fewer than LIMIT passed in this window",
               "  indrafs rate mails --limit 10 --per 60 && ./send-mail\n  indrafs rate api "
               "--limit 3 --per 1 --wait 5",
               [&ctx, a] { return pass_rate(ctx, *a); });
  verb->add_option("NAME", a->name, "the limit's name")->required();
  verb->add_option("--limit", a->limit, "how many may pass in a window")->required();
  verb->add_option("--per", a->per, "seconds that a window lasts (1)");
  verb->add_option("--wait", a->wait, "seconds to wait for the next window")->check(CLI::NonNegativeNumber);
}

void add_schedule(CLI::App& app, Context& ctx) {
  CLI::App* group = app.add_subcommand("schedule", "Schedules: jobs by the clock");
  group->require_subcommand(1);
  auto a = std::make_shared<ScheduleArgs>();
  CLI::App* add = add_verb(
      *group, ctx, "add", "Put a job into a queue again and again; prints when first (seconds since 1970)",
      "  indrafs schedule add backup jobs '30 4 * * *' backup\n  indrafs schedule add ping jobs '@every "
      "500ms' ping --key ping",
      [&ctx, a] {
        return one(ctx, "indra_schedule", {a->name, a->queue, a->when, a->payload, a->job_options.json()});
      });
  add->add_option("SCHEDULE", a->name, "its name")->required();
  add->add_option("QUEUE", a->queue, "where the jobs go")->required();
  add->add_option("WHEN", a->when,
                  "minute hour day month weekday; six fields begin with the second; @daily; @every 90s")
      ->required();
  add->add_option("PAYLOAD", a->payload, "of the jobs");
  a->job_options.add(add);
  for (const auto& [name, function, about] :
       {std::tuple{"remove", "indra_unschedule", "Remove a schedule"},
        std::tuple{"pause", "indra_schedule_pause", "No jobs until resume"},
        std::tuple{"resume", "indra_schedule_resume", "From now on again; what was left out stays out"}}) {
    CLI::App* v = add_verb(*group, ctx, name, about, "  indrafs schedule " + std::string{name} + " backup",
                           [&ctx, a, f = function] { return one(ctx, f, {a->name}, false); });
    v->add_option("SCHEDULE", a->name, "its name")->required();
  }
  CLI::App* list =
      add_verb(*group, ctx, "list", "List the schedules", "  indrafs schedule list", [&ctx]() -> Result<int> {
        INDRA_LET(const auto c, open_coord(ctx));
        INDRA_LET(const Json all,
                  objects(*c,
                          "SELECT name, queue, expr, payload, next_at / 1000.0, last_at / 1000.0, fired, "
                          "missed, paused FROM indra_schedules ORDER BY name",
                          {"name", "queue", "when", "payload", "next", "last", "fired", "missed", "paused"}));
        if (ctx.json)
          fmt::print("{}\n", all.dump(2));
        else
          for (const Json& s : all)
            fmt::print("{:<24} {:<16} -> {:<16} next {}{}\n", shown_name(text_field(s, "name")),
                       text_field(s, "when"), shown_name(text_field(s, "queue")),
                       time_text(static_cast<TimeNs>(s["next"].get<double>()) * kSecond),
                       int_field(s, "paused") != 0 ? " (paused)" : "");
        return 0;
      });
  add_json(list, ctx);
  CLI::App* next = add_verb(*group, ctx, "next", "When a cron expression fires next (seconds since 1970)",
                            "  indrafs schedule next '30 4 * * *'",
                            [&ctx, a] { return one(ctx, "indra_cron_next", {a->when}); });
  next->add_option("WHEN", a->when, "the expression")->required();
}

}  // namespace indra::cli
