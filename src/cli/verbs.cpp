// The command line as a whole.
#include "cli/app.h"
#include "cli/space.h"

namespace indra::cli {

void add_all(CLI::App& app, Context& ctx) {
  app.name("indrafs");
  app.description("A versioned, content-addressed filesystem");
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
}

}  // namespace indra::cli
