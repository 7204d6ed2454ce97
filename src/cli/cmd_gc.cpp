// gc and prune: room that nobody needs any more.
#include <fmt/format.h>

#include "cli/space.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

Result<Json> ask(Context& ctx, const Json& request) {
  INDRA_LET(Client * client, ctx.reach(ctx.vault()));
  Progress progress{"freed"};
  return client->call(request, [&](Message m) -> Result<void> {
    progress.bytes = static_cast<std::uint64_t>(int_field(m.head, "freed"));
    return {};
  });
}

std::uint64_t bytes_of(const Json& j, const char* key) {
  return static_cast<std::uint64_t>(int_field(j, key));
}

void print_unreadable(const Json& j) {
  if (const auto n = int_field(j, "unreadable"); n != 0)
    fmt::print("Of {} {} nothing is freed, since a part of them cannot be read; `indrafs scrub` says more\n",
               n, n == 1 ? "group of versions that share content" : "groups of versions that share content");
}

void print_json(const Json& j) { fmt::print("{}\n", j.dump(2, ' ', false, Json::error_handler_t::replace)); }

}  // namespace

void add_gc(CLI::App& app, Context& ctx) {
  struct Options {
    bool wait = false, dry_run = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "gc", "Give back the space of what nothing refers to any more",
      "  indrafs gc                    have it done now, in the background, as it would be anyway\n"
      "  indrafs gc --wait             until all is given back that nothing referred to\n"
      "  indrafs gc --dry-run          how much that would be",
      [&ctx, o]() -> Result<int> {
        INDRA_LET(const Json j, ask(ctx, {{"verb", "gc"}, {"wait", o->wait}, {"dry_run", o->dry_run}}));
        const Json damage = j.value("damage", Json::array());
        const int status = damage.empty() && int_field(j, "unreadable") == 0 ? 0 : 1;
        if (ctx.json) {
          print_json(j);
          return status;
        }
        if (o->dry_run)
          fmt::print("{} would be given back\n", size_text(bytes_of(j, "bytes")));
        else if (text_field(j, "state") == "running")
          fmt::print("Under way; `indrafs status` shows when the vault is at rest\n");
        else
          fmt::print("{} given back, {} on disk\n", size_text(bytes_of(j, "freed")),
                     size_text(bytes_of(j, "physical")));
        print_unreadable(j);
        for (const Json& d : damage) fmt::print("DAMAGED: {}\n", shown_name(d.get<std::string>()));
        return status;
      });
  verb->add_flag("--wait", o->wait, "until it is done (without a daemon always)")
      ->excludes(verb->add_flag("-n,--dry-run", o->dry_run, "only say how much it would be"));
  add_json(verb, ctx);
}

void add_prune(CLI::App& app, Context& ctx) {
  struct Options {
    bool wait = false, dry_run = false;
    std::string bucket = "main", older;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "prune", "Give up automatic versions, and the space that they alone take",
      "  indrafs prune                 those that the settings versions.* no longer keep (done hourly "
      "anyway)\n"
      "  indrafs prune --older 2d -n   how much would come back if those older than two days went\n"
      "  indrafs prune --older 0       all of them; snapshots and branches stay",
      [&ctx, o]() -> Result<int> {
        Json request = {{"verb", "prune"}, {"bucket", o->bucket}, {"dry_run", o->dry_run}, {"wait", o->wait}};
        if (!o->older.empty()) request["older"] = parse_age(o->older);
        INDRA_LET(const Json j, ask(ctx, request));
        const int status = int_field(j, "unreadable") == 0 ? 0 : 1;
        if (ctx.json) {
          print_json(j);
          return status;
        }
        const auto n = int_field(j, "versions");
        const std::string what = fmt::format("{} automatic version{}", n, n == 1 ? "" : "s");
        if (o->dry_run)
          fmt::print("{} would go, and {} come back\n", what, size_text(bytes_of(j, "bytes")));
        else if (j.contains("freed"))
          fmt::print("{} given up, {} given back\n", what, size_text(bytes_of(j, "freed")));
        else
          fmt::print("{} given up; about {} come back in the background\n", what,
                     size_text(bytes_of(j, "bytes")));
        print_unreadable(j);
        return status;
      });
  verb->add_option("--bucket", o->bucket, "whose versions (default: main)");
  verb->add_option("--older", o->older,
                   "all of this age and more, as 2d or 12h, whatever the settings say; 0: all");
  verb->add_flag("--wait", o->wait, "until the space is there (without a daemon always)")
      ->excludes(verb->add_flag("-n,--dry-run", o->dry_run, "only say what would go"));
  add_json(verb, ctx);
}

}  // namespace indra::cli
