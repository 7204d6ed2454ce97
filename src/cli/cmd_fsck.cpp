#include <fmt/format.h>

#include <chrono>
#include <thread>

#include "cli/app.h"
#include "cli/terminal.h"
#include "daemon/checking.h"

namespace indra::cli {
namespace {

/// In the daemon where one runs, which reads beside its own work; else here, with the vault's lock.
Result<Json> check(Context& ctx, bool repair) {
  const std::string vault = ctx.vault();
  Progress progress{"checked"};
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds{10};
  for (;;) {
    if (auto daemon = Client::daemon(vault)) {
      if (repair) return fail(EBUSY, vault + " is mounted; unmount it first: indrafs unmount");
      auto answer = (*daemon)->call({{"verb", "fsck"}}, [&](Message m) -> Result<void> {
        progress.items = static_cast<std::uint64_t>(int_field(m.head, "rows"));
        return {};
      });
      // One that is just ending may have taken the connection and never answer it.
      if (answer || answer.error().code != std::errc::broken_pipe ||
          std::chrono::steady_clock::now() >= patience)
        return answer;
    }
    FsckOptions o;
    o.repair = repair;
    o.progress = [&](std::uint64_t rows) -> Result<void> {
      progress.items = rows;
      return {};
    };
    auto report = fsck(vault, o);
    if (report) return fsck_json(*report);
    if (report.error().code != std::errc::operation_would_block ||
        std::chrono::steady_clock::now() >= patience)
      return fail(report.error());
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
}

void print(const Json& j) {
  for (const Json& f : j.value("findings", Json::array())) {
    std::string line = shown_name(name_field(f, "what").value_or("?"));
    const std::string mending = f["mending"].is_string() ? f["mending"].get<std::string>() : "";
    if (bool_field(f, "mended"))
      line += "; mended: " + mending;
    else if (!mending.empty())
      line += "; --repair would mend it: " + mending;
    fmt::print("{:<4} {}\n", text_field(f, "rule"), line);
  }
  const auto found = int_field(j, "found"), mended = int_field(j, "mended");
  const auto shown = static_cast<std::int64_t>(j.value("findings", Json::array()).size());
  if (found > shown) fmt::print("     and {} more\n", found - shown);
  if (found == 0)
    fmt::print("Clean: {} rows checked\n", int_field(j, "rows"));
  else if (mended != 0)
    fmt::print("{} found, {} mended, {} left\n", found, mended, found - mended);
  else
    fmt::print("{} found\n", found);
}

}  // namespace

void add_fsck(CLI::App& app, Context& ctx) {
  auto repair = std::make_shared<bool>(false);
  CLI::App* verb = add_verb(app, ctx, "fsck", "Check that everything in a vault is as it must be",
                            "  indrafs fsck\n  indrafs fsck --json --vault ~/work.vault\n  indrafs unmount "
                            "~/indra && indrafs fsck --repair",
                            [&ctx, repair]() -> Result<int> {
                              INDRA_LET(const Json j, check(ctx, *repair));
                              if (ctx.json)
                                fmt::print("{}\n", j.dump(2, ' ', false, Json::error_handler_t::replace));
                              else
                                print(j);
                              return bool_field(j, "clean") ? 0 : 1;
                            });
  verb->add_flag("--repair", *repair,
                 "mend what can be mended without guessing, and move what has no name to /lost+found; not "
                 "while mounted");
  add_json(verb, ctx);
}

}  // namespace indra::cli
