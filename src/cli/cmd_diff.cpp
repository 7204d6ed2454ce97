// diff, log.
#include <fmt/format.h>
#include <sys/stat.h>

#include "cli/diff.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

/// A side of a comparison: a place in a vault, or a directory outside.
struct Side {
  Place place;
  std::string dir;  ///< not empty: outside
};

Json moment(const Place& p) {
  return {{"branch", name_to_json(p.branch)}, {"snapshot", name_to_json(p.snapshot)}, {"at", p.at}};
}

/// As it is written: [BRANCH]:/PATH, BRANCH:WHEN, NAME (a branch, else a snapshot), a path in a mount, or a
/// directory outside, which has a '/' in it.
Result<Side> side(Context& ctx, const std::string& text) {
  Side s;
  s.place.vault = ctx.vault();
  s.place.shown = text;
  if (parse_vault_path(text)) {
    s.place = ctx.place(text);
    return s;
  }
  if (text.find('/') != text.npos || text == "." || text == "..") {
    if (mount_of(indrafs_mounts(), absolute(text, true)) != nullptr) {
      s.place = ctx.place(text);
      return s;
    }
    struct stat st {};
    if (::stat(text.c_str(), &st) != 0) return fail(errno, text);
    if (!S_ISDIR(st.st_mode)) return fail(ENOTDIR, text);
    s.dir = text;
    while (s.dir.size() > 1 && s.dir.back() == '/') s.dir.pop_back();
    return s;
  }
  if (const std::size_t colon = text.find(':'); colon != text.npos) {
    if (colon != 0) s.place.branch = text.substr(0, colon);
    if (colon + 1 == text.size()) throw Usage{text + " says no moment; the branch alone is its head"};
    INDRA_TRY(ctx.as_of(s.place, {}, text.substr(colon + 1)));
    return s;
  }
  INDRA_LET(Client * client, ctx.reach(s.place.vault));
  INDRA_LET(const Json all, client->call({{"verb", "branch_list"}}));
  for (const Json& b : all["branches"])
    if (name_field(b, "name") == text) {
      s.place.branch = text;
      return s;
    }
  INDRA_LET(const Json kept, client->call({{"verb", "snapshot_list"}}));
  for (const Json& b : kept["snapshots"])
    if (name_field(b, "name") == text) {
      s.place.snapshot = text;
      s.place.branch = name_field(b, "branch").value_or("main");
      return s;
    }
  return fail(ENOENT, "there is no branch or snapshot " + text +
                          "; `indrafs branch list` and `indrafs snapshot list` show them");
}

struct DiffArgs {
  std::vector<std::string> sides;
  std::string path;
  bool patch = false;
  unsigned context = 3;
};

Result<int> diff(Context& ctx, const DiffArgs& o) {
  INDRA_LET(Side last, side(ctx, o.sides.back()));
  Side first = last;
  Json from, to = moment(last.place);
  if (o.sides.size() == 2) {
    INDRA_LET(first, side(ctx, o.sides.front()));
    from = moment(first.place);
  } else if (!last.dir.empty()) {
    throw Usage{"say what to compare " + last.dir + " with"};
  } else if (!last.place.snapshot.empty() || !last.place.at.is_null()) {
    from = moment(last.place);  // what has changed since
    to = {{"branch", name_to_json(last.place.branch)}};
  } else {
    from = moment(last.place);
    from["fork_point"] = true;
  }
  if (!first.dir.empty() && !last.dir.empty())
    throw Usage{"neither side is in a vault: diff -r compares directories"};
  Place& in = first.dir.empty() ? first.place : last.place;
  DiffPrinter out{{.json = ctx.json, .patch = o.patch, .context = o.context}};
  if (!o.path.empty() && in.path != "/") throw Usage{"say the path once: " + in.shown + " or --path"};
  if (!o.path.empty()) in.path = o.path.starts_with('/') ? o.path : "/" + o.path;
  INDRA_LET(Client * client, ctx.reach(in.vault));
  int failed = 0;
  if (!first.dir.empty() || !last.dir.empty()) {
    INDRA_LET(failed, diff_outside(ctx, *client, in, first.dir.empty() ? last.dir : first.dir,
                                   !first.dir.empty(), out));
  } else {
    if (first.place.vault != last.place.vault) throw Usage{"the two sides lie in different vaults"};
    if (o.path.empty() && first.place.path != "/" && last.place.path != "/" &&
        first.place.path != last.place.path)
      throw Usage{"the two sides name different paths; compare one path, or export one side"};
    const std::string path = in.path != "/" ? in.path : last.place.path;
    INDRA_LET(failed, diff_in_vault(ctx, *client, from, to, path, out));
  }
  out.finish();
  return failed > 0 ? 1 : 0;
}

std::string who(const Json& v) {
  const std::string program = name_field(v, "program").value_or("");
  if (text_field(v, "op").empty()) return "";  // the change log no longer says
  return fmt::format("{} (uid {})", program.empty() ? text_field(v, "front_end") : shown_name(program),
                     int_field(v, "uid"));
}

}  // namespace

void add_diff(CLI::App& app, Context& ctx) {
  auto o = std::make_shared<DiffArgs>();
  CLI::App* verb = add_verb(
      app, ctx, "diff", "What differs between two branches, snapshots, moments, or a directory outside",
      "  indrafs diff agent                 # what agent changed since it was forked\n"
      "  indrafs diff monday                # what changed since snapshot monday\n"
      "  indrafs diff main agent -p\n  indrafs diff monday main --path /notes\n"
      "  indrafs diff ':2h ago' main        # main two hours ago and now\n"
      "  indrafs diff :/notes ~/notes-copy  # and a directory of the host\n"
      "A added, D removed, R moved, M other content, m mode or owner, x extended attributes.",
      [&ctx, o]() -> Result<int> { return diff(ctx, *o); });
  verb->add_option("A B", o->sides,
                   "NAME (branch or snapshot), BRANCH:WHEN, [BRANCH]:/PATH, or a directory (with a '/')")
      ->required()
      ->expected(1, 2);
  verb->add_option("--path", o->path, "only this and what is below it");
  verb->add_flag("-p,--patch", o->patch, "the lines that differ, as git writes them");
  verb->add_option("-U,--unified", o->context, "so many lines around each change (default: 3)")
      ->check(CLI::Range(0U, 1000000U));
  add_json(verb, ctx);
}

void add_log(CLI::App& app, Context& ctx) {
  struct Options {
    std::string place, snapshot, at;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "log", "The kept versions of a file, newest first: when, how large, by whom",
      "  indrafs log :/notes/a.md\n  indrafs cat --at seq:4711 :/notes/a.md   # a version by its number",
      [&ctx, o]() -> Result<int> {
        Place p = ctx.place(o->place);
        INDRA_TRY(ctx.as_of(p, o->snapshot, o->at));
        INDRA_LET(Client * client, ctx.reach(p.vault));
        Json all = Json::array();
        INDRA_TRY(client->call(p.request("log"), [&](Message m) -> Result<void> {
          for (Json& v : m.head["rows"]) all.push_back(std::move(v));
          return {};
        }));
        if (ctx.json) {
          fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
          return 0;
        }
        for (const Json& v : all)
          fmt::print("{:<12} {}  {:>10} bytes ({:+})  {}\n",
                     v["at"].is_null() ? "now" : fmt::format("seq:{}", int_field(v, "at")),
                     time_text(int_field(v, "time")), int_field(v, "size"), int_field(v, "grew"), who(v));
        return 0;
      });
  verb->add_option("PLACE", o->place, "[BRANCH]:/PATH, or a path in a mount")->required();
  add_as_of(verb, o->snapshot, o->at);
  add_json(verb, ctx);
}

}  // namespace indra::cli
