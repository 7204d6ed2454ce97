#include <fmt/format.h>

#include "cli/app.h"

namespace indra::cli {
namespace {

std::string words(const CLI::App& app) {
  std::string out;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    out += (out.empty() ? "" : " ") + sub->get_name();
  return out;
}

std::string options(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* o : app.get_options())
    for (const std::string& name : o->get_lnames()) out += (out.empty() ? "--" : " --") + name;
  return out;
}

/// "verb) ...;;" for each verb, and "group verb) ...;;" for those in groups.
std::string cases(const CLI::App& app, const std::string& prefix) {
  std::string out;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    const std::string subs = words(*sub);
    out += fmt::format("    \"{}{}\") words=\"{}\"; subs=\"{}\" ;;\n", prefix, sub->get_name(), options(*sub),
                       subs);
    out += cases(*sub, prefix + sub->get_name() + " ");
  }
  return out;
}

/// Both shells run this: zsh through its emulation of bash's completion.
std::string script(const CLI::App& app) {
  return fmt::format(R"(_indrafs() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} verb= i words= subs=
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in -*) ;; *) verb="${{verb:+$verb }}${{COMP_WORDS[i]}}"; case $verb in branch|snapshot|queue|"queue rule"|stream|lock|schedule) ;; *) break ;; esac ;; esac
  done
  case $verb in
    "") words="{}"; subs="{}" ;;
{}  esac
  case $cur in
    -*) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W "$subs" -- "$cur"))
       [ -n "$subs" ] || COMPREPLY=($(compgen -f -- "$cur")) ;;
  esac
}}
complete -o filenames -o bashdefault -F _indrafs indrafs
)",
                     options(app), words(app), cases(app, ""));
}

}  // namespace

void add_completion(CLI::App& app, Context& ctx) {
  auto shell = std::make_shared<std::string>();
  CLI::App* verb = add_verb(
      app, ctx, "completion", "Print a script that completes verbs and options",
      "  source <(indrafs completion bash)\n  source <(indrafs completion zsh)",
      [&app, shell]() -> Result<int> {
        if (*shell == "zsh")
          fmt::print("autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n");
        fmt::print("{}", script(app));
        return 0;
      });
  verb->add_option("SHELL", *shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}));
}

void add_version(CLI::App& app, Context& ctx) {
  CLI::App* verb =
      add_verb(app, ctx, "version", "Print the version", "  indrafs version --json", [&ctx]() -> Result<int> {
        if (ctx.json)
          fmt::print("{}\n", Json{{"version", INDRA_VERSION}}.dump(2));
        else
          fmt::print("indrafs {}\n", INDRA_VERSION);
        return 0;
      });
  add_json(verb, ctx);
}

}  // namespace indra::cli
