// backup, and restore --from: copies of a whole vault.
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>

#include "backup/backup.h"
#include "cli/app.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

std::uint64_t u64(const Json& j, const char* key) { return static_cast<std::uint64_t>(int_field(j, key)); }

/// The vault's content stays as it is while the answer's `release` was not called.
BackupSource held_by(Client& client, const std::string& vault) {
  return {.vault = vault,
          .hold = [&client]() -> Result<void> {
            Message m;
            m.head = {{"verb", "hold"}};
            INDRA_TRY(client.line().send(std::move(m)));
            INDRA_LET(auto answer, client.line().receive());
            if (!answer) return fail(EPIPE, "the vault's daemon ended before it answered");
            if (answer->type == FrameType::error) return fail(error_of(*answer));
            return {};
          },
          .release = [&client]() -> Result<void> {
            Message m;
            m.type = FrameType::end;
            INDRA_TRY(client.line().send(std::move(m)));
            if (auto r = client.finish(nullptr); !r)
              return fail(r.error().code, "the vault's daemon ended meanwhile; back it up again");
            return {};
          }};
}

void tell(const Context& ctx, const std::vector<std::string>& damage) {
  for (const std::string& d : damage) ctx.say("DAMAGED: " + d);
}

Result<int> run_backup(Context& ctx, const std::string& dest, bool verify) {
  const std::string vault = ctx.vault(), to = absolute(dest, true);
  const auto mounts = indrafs_mounts();
  if (const HostMount* m = mount_of(mounts, to); m != nullptr && m->source == absolute(vault, true))
    return fail(
        EINVAL,
        dest + " lies in a mount of the vault itself; name a directory elsewhere, best on another disk");
  INDRA_LET(Client * client, ctx.reach(vault));
  BackupOptions o;
  o.verify = verify;
  Progress progress{"backed up"};
  o.progress = [&](std::uint64_t done, std::uint64_t total) {
    progress.bytes = done;
    progress.total = total;
  };
  INDRA_LET(const BackupReport r, back_up(held_by(*client, vault), to, o));
  const Json j = {{"number", r.number},         {"blocks", r.blocks},       {"bytes", r.bytes},
                  {"new_blocks", r.new_blocks}, {"new_bytes", r.new_bytes}, {"again", r.again},
                  {"damage", r.damage}};
  if (ctx.json)
    fmt::print("{}\n", j.dump(2, ' ', false, Json::error_handler_t::replace));
  else
    fmt::print("Backup {}: {}, of which {} were new\n", r.number, size_text(r.bytes),
               size_text(u64(j, "new_bytes")));
  tell(ctx, r.damage);
  return r.damage.empty() ? 0 : 1;
}

}  // namespace

Result<int> restore_from(Context& ctx, const std::string& from, const std::string& vault) {
  if (vault == ctx.vault() && ctx.default_vault())  // on a machine that never had one
    for (std::size_t i = vault.find('/', 1); i != std::string::npos; i = vault.find('/', i + 1))
      ::mkdir(vault.substr(0, i).c_str(), 0700);
  Progress progress{"restored"};
  INDRA_LET(const RestoreReport r, restore_backup(absolute(from, true), absolute(vault, true),
                                                  [&](std::uint64_t done, std::uint64_t total) {
                                                    progress.bytes = done;
                                                    progress.total = total;
                                                  }));
  if (ctx.json)
    fmt::print("{}\n", Json{{"vault", name_to_json(vault)},
                            {"number", r.number},
                            {"made", r.made},
                            {"player", r.player},
                            {"blocks", r.blocks},
                            {"bytes", r.bytes},
                            {"damage", r.damage}}
                           .dump(2, ' ', false, Json::error_handler_t::replace));
  else
    fmt::print("{}: restored from backup {} of {}, {}\n", shown_name(vault), r.number, time_text(r.made),
               size_text(r.bytes));
  tell(ctx, r.damage);
  return r.damage.empty() ? 0 : 1;
}

void add_backup(CLI::App& app, Context& ctx) {
  struct Options {
    std::string dest;
    bool verify = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(app, ctx, "backup", "Copy the whole vault to a directory; again: only what is new",
               "  indrafs backup /media/disk/vault        as often as you like\n"
               "  indrafs restore --from /media/disk/vault ~/vault",
               [&ctx, o] { return run_backup(ctx, o->dest, o->verify); });
  verb->add_option("DEST", o->dest, "a directory: new, empty, or of an earlier backup of this vault")
      ->required();
  verb->add_flag("--verify", o->verify, "read back what is there already; what is damaged is copied again");
  add_json(verb, ctx);
}

}  // namespace indra::cli
