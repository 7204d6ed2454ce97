// merge, branch refresh.
#include <fmt/format.h>

#include "cli/app.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

struct Options {
  std::string name, into = "main";
  std::vector<std::string> ours, theirs, only;
  bool markers = false, dry_run = false;
};

std::string name_of(const Json& j, const char* key) { return shown_name(name_field(j, key).value_or("")); }

/// What a conflict means, in words.
std::string told(const Json& c, const std::string& source, const std::string& target) {
  const std::string kind = text_field(c, "kind"), outcome = text_field(c, "outcome");
  const std::string mine = outcome == "source" ? source : target;
  std::string what;
  if (kind == "content")
    what = "both changed its content";
  else if (kind == "added")
    what = "both added that name";
  else if (kind == "deleted-there")
    what = target + " deleted it, " + source + " changed it";
  else if (kind == "deleted-here")
    what = source + " deleted it, " + target + " changed it";
  else if (kind == "place")
    what = outcome == "both" ? "its new name is taken" : "both moved or renamed it";
  else if (kind == "cycle")
    what = "each moved one directory into the other";
  else if (kind == "mode" || kind == "owner")
    what = "both changed its " + kind;
  else if (kind == "xattr")
    what = "both changed " + name_of(c, "attribute");
  else
    what = source + " deleted it, something is left in it";
  if (outcome == "both") return what + "; " + source + "'s is " + name_of(c, "second");
  if (outcome == "markers") return what + "; it holds both, between markers";
  return what + "; as in " + mine;
}

int show(const Json& j, bool dry) {
  const std::string source = name_of(j, "source"), target = name_of(j, "target");
  for (const Json& s : j.value("steps", Json::array())) {
    const std::string kind = text_field(s, "kind");
    const char* sign = kind == "remove" ? "D" : kind == "move" ? "R" : kind == "change" ? "M" : "A";
    fmt::print("{} {}{}\n", sign, name_of(s, "path"), bool_field(s, "joined") ? "  (joined)" : "");
  }
  const Json conflicts = j.value("conflicts", Json::array());
  for (const Json& c : conflicts) fmt::print("C {}: {}\n", name_of(c, "path"), told(c, source, target));
  if (!dry && !bool_field(j, "applied")) fmt::print("{} has all of {}\n", target, source);
  return conflicts.empty() ? 0 : 1;
}

Json names_json(const std::vector<std::string>& all) {
  Json j = Json::array();
  for (const std::string& s : all) j.push_back(name_to_json(s));
  return j;
}

Result<int> send(Context& ctx, const Options& o, Json request) {
  request["ours"] = names_json(o.ours);
  request["theirs"] = names_json(o.theirs);
  request["markers"] = o.markers;
  request["dry_run"] = o.dry_run;
  Json only = Json::array();
  for (std::string path : o.only) {
    if (const auto p = parse_vault_path(path)) path = p->path;
    if (!path.starts_with('/')) path.insert(0, "/");
    only.push_back(name_to_json(path));
  }
  request["only"] = std::move(only);
  INDRA_LET(Client * client, ctx.reach(ctx.vault()));
  INDRA_LET(const Json j, merged(*client, request));
  if (!ctx.json) return show(j, o.dry_run);
  fmt::print("{}\n", j.dump(2));
  return j.value("conflicts", Json::array()).empty() ? 0 : 1;
}

void add_options(CLI::App* verb, Options& o, Context& ctx) {
  verb->add_flag("-n,--dry-run", o.dry_run, "only show what would be done");
  verb->add_option("--ours", o.ours, "where both changed a path like PATTERN, keep the target's")
      ->allow_extra_args(false);
  verb->add_option("--theirs", o.theirs, "where both changed a path like PATTERN, take the source's")
      ->allow_extra_args(false);
  verb->add_flag("--markers", o.markers, "overlapping text stays in one file, between conflict markers");
  add_json(verb, ctx);
}

}  // namespace

Result<Json> merged(Client& client, const Json& request) {
  Json lists = {{"steps", Json::array()}, {"conflicts", Json::array()}};
  INDRA_LET(Json j, client.call(request, [&](Message m) -> Result<void> {
    for (auto& [key, all] : lists.items())
      for (Json& one : m.head[key]) all.push_back(std::move(one));
    return {};
  }));
  j.update(lists);
  return j;
}

void add_merge(CLI::App& app, Context& ctx) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "merge", "Take over what another branch changed: all or nothing",
      "  indrafs merge agent\n  indrafs merge --dry-run agent\n  indrafs merge agent "
      "--into release --theirs '*.lock'\n  indrafs merge agent --only /src/net.c",
      [&ctx, o]() -> Result<int> {
        return send(
            ctx, *o,
            {{"verb", "merge"}, {"source", name_to_json(o->name)}, {"target", name_to_json(o->into)}});
      });
  verb->add_option("BRANCH", o->name, "whose changes")->required();
  verb->add_option("--into", o->into, "the branch that takes them (default: main)");
  verb->add_option("--only", o->only, "these paths alone, without the rest of its history")
      ->allow_extra_args(false);
  add_options(verb, *o, ctx);
}

void add_refresh(CLI::App& branch, Context& ctx) {
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(branch, ctx, "refresh", "Bring a fork up to date with what it was forked from",
               "  indrafs branch refresh agent", [&ctx, o]() -> Result<int> {
                 return send(ctx, *o, {{"verb", "branch_refresh"}, {"name", name_to_json(o->name)}});
               });
  verb->add_option("NAME", o->name, "which")->required();
  add_options(verb, *o, ctx);
}

}  // namespace indra::cli
