// rm, mv, cp, sync.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "cli/app.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

/// Runs a request whose single items may fail; returns how many did.
Result<std::uint64_t> run(Context& ctx, Client& client, const Json& request, Progress* progress = nullptr) {
  std::uint64_t failed = 0;
  INDRA_LET(const Json done, client.call(request, [&](Message m) -> Result<void> {
    if (const auto path = name_field(m.head, "failed")) {
      ++failed;
      ctx.complain(*path, error_of(m));
    }
    if (progress != nullptr && m.head.contains("copied"))
      progress->bytes = static_cast<std::uint64_t>(int_field(m.head, "copied"));
    return {};
  }));
  (void)done;
  return failed;
}

struct TwoPlaces {
  std::vector<std::string> places;
  std::string snapshot, at;
  bool recursive = false, no_clobber = false;
};

/// mv and cp: each source, with the one destination.
Result<int> each(Context& ctx, const TwoPlaces& o, const char* verb, bool progress) {
  if (o.places.size() < 2) throw Usage{"say what and where to: SRC... DEST"};
  const Place dest = ctx.place(o.places.back());
  int status = 0;
  if (o.places.size() > 2) {
    INDRA_LET(Client * client, ctx.reach(dest.vault));
    Json ask = dest.request("stat");
    ask["follow"] = true;
    const auto there = client->call(ask);
    if (!there) return fail(there.error());
    if (!S_ISDIR(static_cast<std::uint32_t>(int_field(*there, "mode")))) return fail(ENOTDIR, dest.shown);
  }
  std::optional<Progress> bar;
  if (progress) bar.emplace("copied");
  for (std::size_t i = 0; i + 1 < o.places.size(); ++i) {
    Place from = ctx.place(o.places[i]);
    INDRA_TRY(ctx.as_of(from, o.snapshot, o.at));
    if (from.vault != dest.vault)
      return fail(EXDEV, o.places[i] + " and " + dest.shown + " are in different vaults; use get and put");
    if (!dest.snapshot.empty() || !dest.at.is_null() ||
        ((!from.snapshot.empty() || !from.at.is_null()) && !progress))
      return fail(EROFS, "the past cannot be changed");
    INDRA_LET(Client * client, ctx.reach(from.vault));
    Json request = from.request(verb);
    request["to"] = name_to_json(dest.path);
    request["to_branch"] = name_to_json(dest.branch);
    request["recursive"] = o.recursive;
    request["follow"] = !o.recursive;
    request["no_clobber"] = o.no_clobber;
    const auto failed = run(ctx, *client, request, bar ? &*bar : nullptr);
    if (!failed) ctx.complain(o.places[i], failed.error());
    if (!failed || *failed > 0) status = 1;
  }
  return status;
}

}  // namespace

void add_rm(CLI::App& app, Context& ctx) {
  struct Options {
    std::vector<std::string> places;
    bool recursive = false, force = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(app, ctx, "rm", "Remove files of a branch; snapshots keep what they hold",
               "  indrafs rm :/old.txt\n  indrafs rm -r agent:/build", [&ctx, o]() -> Result<int> {
                 int status = 0;
                 for (const std::string& argument : o->places) {
                   const Place p = ctx.place(argument);
                   if (!p.snapshot.empty()) return fail(EROFS, "the past cannot be changed");
                   INDRA_LET(Client * client, ctx.reach(p.vault));
                   Json request = p.request("remove");
                   request["recursive"] = o->recursive;
                   request["force"] = o->force;
                   auto failed = run(ctx, *client, request);
                   if (!failed && failed.error().code == std::errc::is_a_directory)
                     failed = fail(EISDIR, argument + " is a directory; remove it with -r");
                   if (!failed) ctx.complain(argument, failed.error());
                   if (!failed || *failed > 0) status = 1;
                 }
                 return status;
               });
  verb->add_option("PLACE", o->places, "[BRANCH]:/PATH, or a path in a mount")->required();
  verb->add_flag("-r,-R,--recursive", o->recursive, "directories with all in them");
  verb->add_flag("-f,--force", o->force, "no error for what is not there");
}

void add_mv(CLI::App& app, Context& ctx) {
  auto o = std::make_shared<TwoPlaces>();
  CLI::App* verb = add_verb(app, ctx, "mv", "Move or rename within a branch",
                            "  indrafs mv :/a.txt :/b.txt\n  indrafs mv :/a.txt :/b.txt :/archive",
                            [&ctx, o] { return each(ctx, *o, "move", false); });
  verb->add_option("PLACE", o->places, "what, then where to")->required();
  verb->add_flag("-n,--no-clobber", o->no_clobber, "fail where the name is taken");
}

void add_cp(CLI::App& app, Context& ctx) {
  auto o = std::make_shared<TwoPlaces>();
  CLI::App* verb = add_verb(app, ctx, "cp", "Copy within a vault; the copies share their content",
                            "  indrafs cp :/a.txt :/b.txt\n  indrafs cp -r :/site agent:/site\n  indrafs cp "
                            "--snapshot monday :/notes/a.md :/notes/a-monday.md",
                            [&ctx, o] { return each(ctx, *o, "copy", true); });
  verb->add_option("PLACE", o->places, "what, then where to")->required();
  verb->add_flag("-r,-R,--recursive", o->recursive, "directories with all in them");
  verb->add_flag("-n,--no-clobber", o->no_clobber, "fail where the name is taken");
  add_as_of(verb, o->snapshot, o->at);
}

void add_sync(CLI::App& app, Context& ctx) {
  auto publish = std::make_shared<bool>(false);
  CLI::App* verb =
      add_verb(app, ctx, "sync", "Return when everything done so far survives a power cut",
               "  indrafs sync\n  indrafs sync --publish", [&ctx, publish]() -> Result<int> {
                 INDRA_LET(Client * client, ctx.reach(ctx.vault()));
                 INDRA_LET(const Json done, client->call({{"verb", "sync"}, {"publish", *publish}}));
                 (void)done;
                 return 0;
               });
  verb->add_flag("--publish", *publish, "publish files that are being written, too");
}

}  // namespace indra::cli
