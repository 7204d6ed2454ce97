#include <fmt/format.h>

#include "cli/app.h"
#include "cli/terminal.h"

namespace indra::cli {

std::string damage_text(const Json& d) {
  std::string files;
  for (const Json& f : d.value("files", Json::array()))
    files +=
        fmt::format("{}{} {}", files.empty() ? "" : ", ", shown_name(name_field(f, "where").value_or("?")),
                    shown_name(name_field(f, "path").value_or("?")));
  if (!files.empty()) files += fmt::format(", bytes {} to {}: ", int_field(d, "from"), int_field(d, "to"));
  return files + shown_name(text_field(d, "what"));
}

namespace {

std::uint64_t figure(const Json& j, const char* group, const char* key) {
  const auto it = j.find(group);
  return it != j.end() ? static_cast<std::uint64_t>(int_field(*it, key)) : 0;
}

void print_mounts(const Json& j) {
  for (const Json& m : j.value("mounts", Json::array())) {
    const std::string snapshot = name_field(m, "snapshot").value_or("");
    fmt::print("Mounted:   {} ({} {}, layout {}{})\n", shown_name(name_field(m, "mountpoint").value_or("?")),
               snapshot.empty() ? "branch" : "snapshot",
               shown_name(snapshot.empty() ? name_field(m, "branch").value_or("main") : snapshot),
               text_field(m, "layout"), bool_field(m, "read_only") ? ", read-only" : "");
  }
  if (j.value("mounts", Json::array()).empty()) fmt::print("Mounted:   nowhere\n");
}

void print_artifacts(const Json& j) {
  fmt::print("Artifacts: {} ({} trees, {} leaves, {} symlinks, {} others)\n", figure(j, "artifacts", "total"),
             figure(j, "artifacts", "trees"), figure(j, "artifacts", "leaves"),
             figure(j, "artifacts", "symlinks"), figure(j, "artifacts", "others"));
}

void print_space(const Json& j) {
  fmt::print("Space:     {} in files, {} of it unique, {} on disk (dedup {:.2f}x)\n",
             size_text(figure(j, "space", "logical")), size_text(figure(j, "space", "unique")),
             size_text(figure(j, "space", "physical")), j.value("dedup_ratio", 1.0));
}

void print_scrub(const Json& s) {
  const std::string state = text_field(s, "state");
  const auto bytes = static_cast<std::uint64_t>(int_field(s, "bytes")),
             total = static_cast<std::uint64_t>(int_field(s, "total"));
  if (state == "running")
    fmt::print("Scrub:     {} of about {} read\n", size_text(bytes), size_text(total));
  else if (state == "done")
    fmt::print("Scrub:     ended {}, {} read, {}\n", time_text(int_field(s, "finished")), size_text(bytes),
               bool_field(s, "clean") ? "all well" : "damage found:");
  for (const Json& d : s.value("damage", Json::array())) fmt::print("DAMAGED:   {}\n", damage_text(d));
}

std::string todo(const Json& j) {
  std::string s;
  const auto add = [&](const char* key, const char* what, bool bytes) {
    const std::uint64_t n = figure(j, "todo", key);
    if (n == 0) return;
    s += s.empty() ? "" : ", ";
    s += bytes ? fmt::format("{} {}", size_text(n), what) : fmt::format("{} {}", n, what);
  };
  add("dirty_bytes", "to be published", true);
  add("patches", "patches to fold", false);
  add("dead", "to be collected", true);
  add("wal", "of log to check in", true);
  return s;
}

/// The vault that `argument` (a place in a mount), or the options, name.
Result<Json> ask(Context& ctx, const std::string& argument, const char* verb = "status") {
  const std::string vault = argument.empty() ? ctx.vault() : ctx.place(argument).vault;
  INDRA_LET(Client * client, ctx.reach(vault));
  return client->call({{"verb", verb}});
}

}  // namespace

void add_status(CLI::App& app, Context& ctx) {
  auto where = std::make_shared<std::string>();
  CLI::App* verb = add_verb(
      app, ctx, "status",
      "Show a vault: where it is mounted, what it holds, what it is doing, what is damaged",
      "  indrafs status\n  indrafs status ~/indra\n  indrafs status --json --vault ~/work.vault",
      [&ctx, where]() -> Result<int> {
        // A mount point means its mount even where its layout has more than the branch.
        std::string argument = *where;
        if (!argument.empty()) {
          const auto mounts = indrafs_mounts();
          if (const HostMount* m = mount_of(mounts, absolute(argument, true));
              m != nullptr && m->source.starts_with('/')) {
            ctx.vault_option = m->source;
            argument.clear();
          }
        }
        INDRA_LET(const Json j, ask(ctx, argument));
        if (ctx.json) {
          fmt::print("{}\n", j.dump(2, ' ', false, Json::error_handler_t::replace));
          return 0;
        }
        print_mounts(j);
        fmt::print("Vault:     {}\nPlayer:    {}\n", shown_name(text_field(j, "vault")),
                   text_field(j, "player"));
        if (const auto pid = int_field(j, "daemon"); pid != 0) fmt::print("Daemon:    process {}\n", pid);
        print_artifacts(j);
        fmt::print("Versions:  {} past rows, {} pins\n", figure(j, "versions", "past_rows"),
                   figure(j, "versions", "pins"));
        print_space(j);
        if (const auto n = int_field(j, "open_files"); n != 0) fmt::print("Open:      {} files\n", n);
        if (bool_field(j, "failed"))
          fmt::print(
              "State:     FAILED: a write to the disk went wrong; nothing more is changed. See "
              "{}/daemon.log\n",
              text_field(j, "vault"));
        else if (bool_field(j, "at_rest"))
          fmt::print("State:     at rest\n");
        else
          fmt::print("State:     at work{}{}\n", todo(j).empty() ? "" : ": ", todo(j));
        print_scrub(j.value("scrub", Json::object()));
        for (const Json& d : j.value("damage", Json::array()))
          fmt::print("DAMAGED:   {}\n", shown_name(d.get<std::string>()));
        if (const auto pid = int_field(j, "blocking_reader"); pid != 0)
          fmt::print("Note:      process {} reads vault.db and keeps its log from being checked in\n", pid);
        return bool_field(j, "failed") ? 1 : 0;
      });
  verb->add_option("MOUNTPOINT", *where,
                   "a mount, or a place in one (default: the vault that --vault or the default names)");
  add_json(verb, ctx);
}

void add_stats(CLI::App& app, Context& ctx) {
  CLI::App* verb = add_verb(app, ctx, "stats", "Show a vault's figures, and how much could be given back",
                            "  indrafs stats\n  indrafs stats --json | jq .space", [&ctx]() -> Result<int> {
                              INDRA_LET(const Json j, ask(ctx, {}, "stats"));
                              if (ctx.json) {
                                fmt::print("{}\n", j.dump(2, ' ', false, Json::error_handler_t::replace));
                                return 0;
                              }
                              for (const char* group : {"artifacts", "versions", "space", "reclaim", "todo"})
                                for (const auto& [key, value] : j.value(group, Json::object()).items())
                                  fmt::print("{:<22} {}\n", std::string{group} + "." + key, value.dump());
                              for (const char* key : {"blobs", "open_files", "dedup_ratio", "at_rest"})
                                if (j.contains(key)) fmt::print("{:<22} {}\n", key, j[key].dump());
                              return 0;
                            });
  add_json(verb, ctx);
}

}  // namespace indra::cli
