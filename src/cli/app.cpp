#include "cli/app.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "cli/terminal.h"

namespace indra::cli {

std::string advice(const std::error_code& code) {
  if (code == make_error_code(Errc::newer_format)) return "use the newer indrafs that made it";
  if (code == make_error_code(Errc::corrupt))
    return "what is damaged was not changed; restore it from a snapshot or a backup";
  if (code == make_error_code(Errc::failed)) return "unmount, see to the disk, and mount again";
  if (code.category() != std::generic_category()) return {};
  switch (code.value()) {
    case EWOULDBLOCK:
      return "wait until it has finished, or mount the vault: then commands share it";
    case ENOSPC:
      return "free some space on the vault's disk";
    case EDQUOT:
      return "delete something, or have the quota raised";
    case EXDEV:
      return "copy instead, with: indrafs cp";
    default:
      return {};
  }
}

void Context::complain(std::string_view thing, const Error& e) const {
  std::string line = "indrafs: ";
  if (!verb.empty()) line += verb + ": ";
  // A context that names the way out ("...; do this") says it all; else the code's text tells what is wrong.
  const bool whole = e.context.find("; ") != std::string::npos;
  std::string text = whole ? e.context : e.text();
  if (!thing.empty() && !text.starts_with(thing)) line += shown_name(thing, true) + ": ";
  line += shown_name(text, true);
  if (const std::string way = advice(e.code); !way.empty() && !whole) line += "; " + way;
  fmt::print(stderr, "{}\n", line);
}

void Context::say(std::string_view text) const {
  fmt::print(stderr, "indrafs: {}: {}\n", verb, shown_name(text, true));
}

Result<Client*> Context::reach(const std::string& vault) {
  if (client_ && client_vault_ == vault) return client_.get();
  client_.reset();
  Client::Options o;
  o.vault = vault;
  o.player = player;
  o.waiting = [this](const std::string& what) { say("waiting: " + what); };
  auto client = Client::reach(o);
  if (!client && client.error().code == std::errc::no_such_file_or_directory &&
      ::access((vault + "/vault.db").c_str(), F_OK) != 0)
    return fail(ENOENT, vault + " holds no vault; make one with: indrafs init" +
                            (default_vault() ? "" : " " + vault));
  if (!client) return fail(client.error());
  client_ = std::move(*client);
  client_vault_ = vault;
  return client_.get();
}

CLI::App* add_verb(CLI::App& app, Context& ctx, const std::string& name, const std::string& about,
                   const std::string& examples, std::function<Result<int>()> run) {
  CLI::App* verb = app.add_subcommand(name, about);
  std::string footer = "Examples:\n" + examples;
  verb->footer(footer);
  const std::string full =
      app.get_name() == "indrafs" || app.get_name().empty() ? name : app.get_name() + " " + name;
  verb->callback([&ctx, full, run = std::move(run)] {
    ctx.verb = full;
    ctx.run = run;
  });
  return verb;
}

void add_json(CLI::App* verb, Context& ctx) { verb->add_flag("--json", ctx.json, "print JSON"); }

}  // namespace indra::cli
