// restore, undelete.
#include <fmt/format.h>
#include <sys/stat.h>

#include "cli/app.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

const char* letter(const Json& step) {
  const std::string kind = text_field(step, "kind");
  if (kind == "remove") return "D";
  if (kind == "move") return "R";
  if (kind == "change") return bool_field(step, "content") ? "M" : "m";
  return "A";
}

/// Sends the request and shows what was done.
Result<int> carry_out(Context& ctx, const std::string& vault, const Json& request) {
  INDRA_LET(Client * client, ctx.reach(vault));
  Json steps = Json::array();
  INDRA_LET(const Json done, client->call(request, [&](Message m) -> Result<void> {
    for (Json& s : m.head["rows"]) {
      if (ctx.json)
        steps.push_back(std::move(s));
      else
        fmt::print("{:<4} {}\n", letter(s), shown_name(name_field(s, "path").value_or("")));
    }
    return {};
  }));
  if (ctx.json) {
    Json all = {{"steps", std::move(steps)}, {"before", nullptr}};
    if (const auto before = int_field(done, "before"); before != 0) all["before"] = before;
    fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
  } else if (int_field(done, "steps") == 0) {
    ctx.say("nothing to do: it is so already");
  } else if (!bool_field(request, "dry_run")) {
    ctx.say(fmt::format("as it was before: --at seq:{}", int_field(done, "before")));
  }
  return 0;
}

/// --to: a path in the same branch.
std::string path_in(const Context& ctx, const Place& p, const std::string& to) {
  if (to.empty()) return {};
  const Place there = ctx.place(to);
  if (there.vault != p.vault || there.branch != p.branch || !there.snapshot.empty() || !there.at.is_null())
    throw Usage{"--to " + to + " lies in another branch than " + p.shown};
  return there.path;
}

Place place_of_branch(const Context& ctx, const std::string& argument) {
  Place p = ctx.place(argument);
  if (!p.snapshot.empty() || !p.at.is_null())
    throw Usage{argument + " is a moment of the past: it stays as it is"};
  return p;
}

void list(const Json& rows) {
  std::size_t number = 1, size = 1;
  for (const Json& r : rows) {
    number = std::max(number, std::to_string(int_field(r, "number")).size());
    size = std::max(size, std::to_string(int_field(r, "size")).size());
  }
  for (const Json& r : rows) {
    const bool dir = S_ISDIR(static_cast<std::uint32_t>(int_field(r, "mode")));
    const std::string when = r["deleted"].is_null() ? "long ago" : time_text(int_field(r, "deleted"));
    fmt::print("{:>{}}  {:<19}  {:>{}}  {:<12} {}{}\n", int_field(r, "number"), number, when,
               int_field(r, "size"), size, shown_name(name_field(r, "program").value_or("")),
               shown_name(name_field(r, "path").value_or("")), dir ? "/" : "");
  }
}

}  // namespace

void add_restore(CLI::App& app, Context& ctx) {
  struct Options {
    std::string place, snapshot, at, to, from;
    bool dry_run = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(app, ctx, "restore", "Make a file or directory what it was; what it is now stays a version",
               "  indrafs restore :/notes --at '2h ago'\n  indrafs restore :/notes/a.md --snapshot monday\n"
               "  indrafs restore :/notes --at yesterday --to :/notes-yesterday\n"
               "  indrafs restore --from /media/disk/vault ~/vault   a whole vault, from its backup\n"
               "A line for each name: M content, m attributes, A came back, D went, R moved back.",
               [&ctx, o]() -> Result<int> {
                 if (!o->from.empty())
                   return restore_from(ctx, o->from, o->place.empty() ? ctx.vault() : o->place);
                 if (o->place.empty()) throw Usage{"say what: a PLACE, or --from BACKUP"};
                 const Place p = place_of_branch(ctx, o->place);
                 if (o->snapshot.empty() && o->at.empty())
                   throw Usage{"say from when: --at TIME or --snapshot NAME"};
                 Place from = p;
                 INDRA_TRY(ctx.as_of(from, o->snapshot, o->at));
                 return carry_out(ctx, p.vault,
                                  {{"verb", "restore"},
                                   {"branch", name_to_json(p.branch)},
                                   {"path", name_to_json(p.path)},
                                   {"from",
                                    {{"branch", name_to_json(from.branch)},
                                     {"snapshot", name_to_json(from.snapshot)},
                                     {"at", from.at}}},
                                   {"to", name_to_json(path_in(ctx, p, o->to))},
                                   {"dry_run", o->dry_run}});
               });
  verb->add_option("PLACE", o->place,
                   "[BRANCH]:/PATH, or a path in a mount; with --from: the new vault's directory");
  add_as_of(verb, o->snapshot, o->at);
  verb->add_option("--to", o->to, "put it there, beside what is there now");
  verb->add_flag("-n,--dry-run", o->dry_run, "only show what would be done");
  verb->add_option("--from", o->from, "make a vault of what `indrafs backup` put there")
      ->excludes("--at")
      ->excludes("--snapshot")
      ->excludes("--to")
      ->excludes("--dry-run");
  add_json(verb, ctx);
}

void add_undelete(CLI::App& app, Context& ctx) {
  struct Options {
    std::string place = ":/", to;
    std::int64_t number = 0;
    bool dry_run = false, list = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "undelete", "List what was deleted, or bring it back: a directory with all that went with it",
      "  indrafs undelete :/notes            # what was deleted there\n"
      "  indrafs undelete :/notes/a.md       # bring it back\n"
      "  indrafs undelete --number 4711 --to :/notes/old.md",
      [&ctx, o]() -> Result<int> {
        const Place p = place_of_branch(ctx, o->place);
        INDRA_LET(Client * client, ctx.reach(p.vault));
        Json ask = p.request("stat");
        const bool bring = !o->list && (o->number != 0 || !client->call(ask));
        if (bring)
          return carry_out(ctx, p.vault,
                           {{"verb", "undelete"},
                            {"branch", name_to_json(p.branch)},
                            {"path", name_to_json(p.path)},
                            {"number", o->number},
                            {"to", name_to_json(path_in(ctx, p, o->to))},
                            {"dry_run", o->dry_run}});
        if (!o->to.empty() || o->dry_run)
          throw Usage{o->place + " is there; to bring back another that was deleted there, say its --number"};
        Json rows = Json::array();
        INDRA_TRY(client->call(p.request("deleted"), [&](Message m) -> Result<void> {
          for (Json& r : m.head["rows"]) rows.push_back(std::move(r));
          return {};
        }));
        if (ctx.json)
          fmt::print("{}\n", rows.dump(2, ' ', false, Json::error_handler_t::replace));
        else
          list(rows);
        return 0;
      });
  verb->add_option("PLACE", o->place,
                   "what is there: list below it; what is not: bring it back (default: :/)");
  verb->add_option("--number", o->number, "bring this one back, by its number in the list")
      ->check(CLI::PositiveNumber);
  verb->add_option("--to", o->to, "put it there instead of where it was");
  verb->add_flag("--list", o->list, "list, in any case");
  verb->add_flag("-n,--dry-run", o->dry_run, "only show what would be done");
  add_json(verb, ctx);
}

}  // namespace indra::cli
