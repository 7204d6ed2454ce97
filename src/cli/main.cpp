// indrafs: the command.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "base/log.h"
#include "cli/app.h"
#include "cli/space.h"
#include "mount/raise_program.h"

namespace indra::cli {
namespace {

int run(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  log::to_stderr();
  log::set_level("warn");
  Context ctx;
  CLI::App app{"A versioned, content-addressed filesystem", "indrafs"};
  app.footer(
      "PLACE is [BRANCH]:/PATH in the vault (:/notes/a.md = branch main), or a path inside a mount.\n"
      "Vault: --vault, then $INDRAFS_VAULT, then $XDG_DATA_HOME/indrafs/default. Exit status: 0 done, 1 "
      "failed, 2 usage.\n"
      "indrafs VERB --help shows more, with examples.");
  app.add_option("--vault", ctx.vault_option, "the vault's directory");
  app.add_option("--player", ctx.player, "the vault must be this player's (64 hex digits)");
  app.set_version_flag("--version", std::string{"indrafs "} + INDRA_VERSION);
  app.require_subcommand(1);
  app.fallthrough();  // --vault and --player also after the verb
  for (auto* add :
       {add_init,   add_mount,   add_unmount,  add_status,   add_ls,     add_cat,        add_put,
        add_get,    add_rm,      add_mv,       add_cp,       add_stat,   add_tree,       add_import,
        add_export, add_sync,    add_branch,   add_snapshot, add_diff,   add_log,        add_merge,
        add_try,    add_restore, add_undelete, add_backup,   add_pack,   add_unpack,     add_gc,
        add_prune,  add_fsck,    add_scrub,    add_stats,    add_watch,  add_notify,     add_queue,
        add_stream, add_lock,    add_rate,     add_schedule, add_config, add_completion, add_version})
    add(app, ctx);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    std::string chosen;
    for (const CLI::App* sub = &app; !sub->get_subcommands().empty();) {
      sub = sub->get_subcommands().front();
      chosen += " " + sub->get_name();
    }
    fmt::print(stderr, "indrafs:{}{} {}; see: indrafs{} --help\n", chosen, chosen.empty() ? "" : ":",
               e.what(), chosen);
    return 2;
  }
  try {
    const auto r = ctx.run();
    ctx.close();  // an own vault's last commit
    const bool flushed = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    if (!r) {
      if (r.error().code == std::errc::broken_pipe && r.error().context.empty())
        return 1;  // the reader of a pipe had enough
      ctx.complain({}, r.error());
      return 1;
    }
    return flushed ? *r : 1;
  } catch (const Usage& u) {
    fmt::print(stderr, "indrafs: {}: {}\n", ctx.verb, u.text);
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "indrafs: {}: {}\n", ctx.verb, e.what());
    return 1;
  }
}

}  // namespace
}  // namespace indra::cli

int main(int argc, char** argv) {
  // Not a verb for people: a mount runs it (docs/design/editor-events.md).
  if (argc > 1 && std::string_view{argv[1]} == "raise-events")
    return indra::run_raise_program(argc - 2, argv + 2);
  return indra::cli::run(argc, argv);
}
