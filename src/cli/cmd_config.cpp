// config: settings that a vault keeps.
#include <fmt/format.h>

#include "cli/app.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

constexpr const char* kChangesKeep = "changes.keep";

std::string age_text(std::int64_t seconds) {
  for (const auto& [unit, length] : {std::pair{"d", 86400}, std::pair{"h", 3600}, std::pair{"m", 60}})
    if (seconds % length == 0) return fmt::format("{}{}", seconds / length, unit);
  return fmt::format("{}s", seconds);
}

Result<int> config(Context& ctx, const std::string& name, const std::string& value) {
  if (!name.empty() && name != kChangesKeep)
    throw Usage{fmt::format("there is no setting '{}'; there is {}", name, kChangesKeep)};
  Json request = {{"verb", "config"}};
  if (!value.empty()) {
    // An age as for --at: from now to then.
    const TimeNs now = 0;
    const auto then = parse_when(value, now);
    if (value.find_first_not_of("0123456789") == 0 || value.find(':') != value.npos || !then ||
        int_field(*then, "time") >= 0)
      throw Usage{fmt::format("'{}' is no age; say 90d, 12h or 30m", value)};
    request["keep_changes"] = -int_field(*then, "time") / kSecond;
  }
  INDRA_LET(Client * client, ctx.reach(ctx.vault()));
  INDRA_LET(const Json j, client->call(request));
  if (!value.empty()) return 0;
  const std::int64_t seconds = int_field(j, "keep_changes");
  if (ctx.json)
    fmt::print("{}\n", Json{{kChangesKeep, seconds}}.dump(2));
  else
    fmt::print("{:<16} {:<8} how long `watch --from` can resume; older changes are forgotten\n", kChangesKeep,
               age_text(seconds));
  return 0;
}

}  // namespace

void add_config(CLI::App& app, Context& ctx) {
  struct Options {
    std::string name, value;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(app, ctx, "config", "Show or change a vault's settings",
                            "  indrafs config\n  indrafs config changes.keep 30d",
                            [&ctx, o] { return config(ctx, o->name, o->value); });
  verb->add_option("NAME", o->name, "which setting: changes.keep");
  verb->add_option("VALUE", o->value, "what it shall be: for changes.keep an age, as 30d or 12h");
  add_json(verb, ctx);
}

}  // namespace indra::cli
