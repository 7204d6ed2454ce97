// config: settings that a vault keeps.
#include <fmt/format.h>

#include <array>

#include "cli/space.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

struct Setting {
  const char* name;
  const char* key;  // in the request and its answer
  bool age;         // else a switch
  const char* help;
};
constexpr std::array kSettings = {
    Setting{"changes.keep", "keep_changes", true,
            "how long `watch --from` can resume; older changes are forgotten"},
    Setting{"versions", "versions", false, "whether versions are made automatically"},
    Setting{"versions.all", "versions_all", true, "so long all automatic versions are kept"},
    Setting{"versions.hourly", "versions_hourly", true, "up to this age one an hour"},
    Setting{"versions.daily", "versions_daily", true, "up to this age one a day; older ones go"},
};

std::string names() {
  std::string all;
  for (const Setting& s : kSettings) all += (all.empty() ? "" : ", ") + std::string{s.name};
  return all;
}

bool parse_switch(const std::string& text) {
  if (text == "on" || text == "off") return text == "on";
  throw Usage{fmt::format("'{}' is neither on nor off", text)};
}

Result<int> config(Context& ctx, const std::string& name, const std::string& value,
                   const std::string& bucket) {
  const Setting* chosen = nullptr;
  for (const Setting& s : kSettings)
    if (name == s.name) chosen = &s;
  if (!name.empty() && chosen == nullptr)
    throw Usage{fmt::format("there is no setting '{}'; there are {}", name, names())};
  Json request = {{"verb", "config"}, {"bucket", bucket}};
  if (!value.empty()) {
    if (chosen->age)
      request[chosen->key] = parse_age(value);
    else
      request[chosen->key] = parse_switch(value);
  }
  INDRA_LET(Client * client, ctx.reach(ctx.vault()));
  INDRA_LET(const Json j, client->call(request));
  if (!value.empty()) return 0;
  Json shown = Json::object();
  for (const Setting& s : kSettings) {
    if (chosen != nullptr && chosen != &s) continue;
    shown[s.name] = j.value(s.key, Json(nullptr));
    if (ctx.json) continue;
    fmt::print("{:<16} {:<8} {}\n", s.name,
               s.age ? age_text(int_field(j, s.key)) : std::string{bool_field(j, s.key) ? "on" : "off"},
               s.help);
  }
  if (ctx.json) fmt::print("{}\n", shown.dump(2));
  return 0;
}

}  // namespace

std::string age_text(std::int64_t seconds) {
  if (seconds == 0) return "0";
  for (const auto& [unit, length] : {std::pair{"d", 86400}, std::pair{"h", 3600}, std::pair{"m", 60}})
    if (seconds % length == 0) return fmt::format("{}{}", seconds / length, unit);
  return fmt::format("{}s", seconds);
}

std::int64_t parse_age(const std::string& text) {
  if (text == "0") return 0;
  // As for --at: from now to then.
  const auto then = parse_when(text, 0);
  if (text.find_first_not_of("0123456789") == 0 || text.find(':') != text.npos || !then ||
      int_field(*then, "time") >= 0)
    throw Usage{fmt::format("'{}' is no age; say 90d, 12h or 30m", text)};
  return -int_field(*then, "time") / kSecond;
}

void add_config(CLI::App& app, Context& ctx) {
  struct Options {
    std::string name, value, bucket = "main";
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(app, ctx, "config", "Show or change a vault's settings",
               "  indrafs config\n  indrafs config changes.keep 30d\n  indrafs config versions.all 2d\n"
               "  indrafs config versions off         no versions but snapshots from now on",
               [&ctx, o] { return config(ctx, o->name, o->value, o->bucket); });
  verb->add_option("NAME", o->name, "which setting: " + names());
  verb->add_option("VALUE", o->value, "what it shall be: an age, as 30d or 12h; for versions on or off");
  verb->add_option("--bucket", o->bucket, "whose versions (default: main)");
  add_json(verb, ctx);
}

}  // namespace indra::cli
