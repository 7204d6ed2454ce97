#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "cli/app.h"

namespace indra::cli {

void add_init(CLI::App& app, Context& ctx) {
  struct Options {
    std::string dir;
    bool single_file = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(app, ctx, "init", "Make a vault",
               "  indrafs init ~/work.vault\n  indrafs init --single-file /media/usb/notes.vault",
               [&ctx, o]() -> Result<int> {
                 const std::string dir = o->dir.empty() ? ctx.vault() : absolute(o->dir, true);
                 struct stat st {};  // an empty one: its making was cut
                 if (::stat((dir + "/vault.db").c_str(), &st) == 0 && st.st_size != 0)
                   return fail(EEXIST, dir + " holds a vault already; nothing was changed");
                 if (o->dir.empty() && ctx.default_vault())
                   for (std::size_t i = dir.find('/', 1); i != std::string::npos; i = dir.find('/', i + 1))
                     ::mkdir(dir.substr(0, i).c_str(), 0700);
                 Client::Options c;
                 c.vault = dir;
                 c.create = true;
                 c.single_file = o->single_file;
                 INDRA_LET(const auto client, Client::reach(c));
                 INDRA_LET(const Json hello, client->call({{"verb", "hello"}}));
                 const std::string player = text_field(hello, "player");
                 if (ctx.json)
                   fmt::print("{}\n", Json{{"vault", name_to_json(dir)}, {"player", player}}.dump(2));
                 else
                   fmt::print("Vault:  {}\nPlayer: {}\n", dir, player);
                 return 0;
               });
  verb->add_option("DIR", o->dir,
                   "where; made if missing (default: the vault that --vault or the default names)");
  verb->add_flag("--single-file", o->single_file, "keep file contents inside vault.db too");
  add_json(verb, ctx);
}

}  // namespace indra::cli
