// diff, log.
#include <fmt/format.h>

#include "cli/app.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

/// A side as it is written: NAME (a branch, else a snapshot), or BRANCH:WHEN (main's with nothing before
/// ':').
Result<Json> side(Context& ctx, Client& client, const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon != text.npos) {
    Place p;
    p.vault = ctx.vault();
    if (colon != 0) p.branch = text.substr(0, colon);
    INDRA_TRY(ctx.as_of(p, {}, text.substr(colon + 1)));
    return Json{{"branch", name_to_json(p.branch)}, {"at", p.at}};
  }
  INDRA_LET(const Json all, client.call({{"verb", "branch_list"}}));
  for (const Json& b : all["branches"])
    if (name_field(b, "name") == text) return Json{{"branch", name_to_json(text)}};
  return Json{{"snapshot", name_to_json(text)}};
}

std::string letter(const Json& e) {
  if (e["a"].is_null()) return "A";
  if (e["b"].is_null()) return "D";
  std::string s;
  if (bool_field(e, "moved")) s += 'R';
  if (bool_field(e, "content")) s += 'M';
  if (bool_field(e, "mode") || bool_field(e, "owner")) s += 'm';
  if (bool_field(e, "xattrs")) s += 'x';
  return s;
}

}  // namespace

void add_diff(CLI::App& app, Context& ctx) {
  struct Options {
    std::vector<std::string> sides;
    std::string path = "/";
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "diff", "What differs between two branches, snapshots or moments",
      "  indrafs diff agent                 # what agent changed since it was forked\n"
      "  indrafs diff main agent\n  indrafs diff monday main --path /notes\n  indrafs diff ':2h ago' main",
      [&ctx, o]() -> Result<int> {
        INDRA_LET(Client * client, ctx.reach(ctx.vault()));
        INDRA_LET(const Json last, side(ctx, *client, o->sides.back()));
        Json first = last;
        if (o->sides.size() == 2) {
          INDRA_LET(first, side(ctx, *client, o->sides.front()));
        } else {
          first["fork_point"] = true;
        }
        Json all = Json::array();
        INDRA_TRY(client->call({{"verb", "diff"}, {"a", first}, {"b", last}, {"path", name_to_json(o->path)}},
                               [&](Message m) -> Result<void> {
                                 for (Json& e : m.head["rows"]) {
                                   if (ctx.json) {
                                     all.push_back(std::move(e));
                                     continue;
                                   }
                                   const std::string from =
                                       e["a"].is_null() ? "" : name_field(e["a"], "path").value_or("");
                                   const std::string to =
                                       e["b"].is_null() ? "" : name_field(e["b"], "path").value_or("");
                                   const std::int64_t was = e["a"].is_null() ? 0 : int_field(e["a"], "size"),
                                                      is = e["b"].is_null() ? 0 : int_field(e["b"], "size");
                                   fmt::print("{:<4} {}{}{}\n", letter(e), shown_name(to.empty() ? from : to),
                                              bool_field(e, "moved") ? "  from " + shown_name(from) : "",
                                              was != is ? fmt::format("  {:+} bytes", is - was) : "");
                                 }
                                 return {};
                               }));
        if (ctx.json) fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
        return 0;
      });
  verb->add_option("A B", o->sides, "a branch, a snapshot, or BRANCH:WHEN; one branch alone: since its fork")
      ->required()
      ->expected(1, 2);
  verb->add_option("--path", o->path, "only this and what is below it");
  add_json(verb, ctx);
}

void add_log(CLI::App& app, Context& ctx) {
  auto place = std::make_shared<std::string>();
  CLI::App* verb =
      add_verb(app, ctx, "log", "The kept versions of a file, newest first", "  indrafs log :/notes/a.md",
               [&ctx, place]() -> Result<int> {
                 const Place p = ctx.place(*place);
                 INDRA_LET(Client * client, ctx.reach(p.vault));
                 INDRA_LET(const Json j, client->call(p.request("log")));
                 const Json rows = j.value("versions", Json::array());
                 if (ctx.json) fmt::print("{}\n", rows.dump(2, ' ', false, Json::error_handler_t::replace));
                 if (!ctx.json)
                   for (const Json& v : rows)
                     fmt::print("{:>8} {} {:>12} {}\n", int_field(v, "seq"), time_text(int_field(v, "time")),
                                int_field(v, "size"), shown_name(name_field(v, "program").value_or("")));
                 return 0;
               });
  verb->add_option("PLACE", *place, "[BRANCH]:/PATH, or a path in a mount")->required();
  add_json(verb, ctx);
}

}  // namespace indra::cli
