// indrafs: the command.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "base/log.h"
#include "cli/app.h"
#include "mount/raise_program.h"

namespace indra::cli {
namespace {

int run(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  log::to_stderr();
  log::set_level("warn");
  Context ctx;
  CLI::App app;
  add_all(app, ctx);
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
