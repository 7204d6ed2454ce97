#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "cli/transfer.h"
#include "events/path_lock.h"

namespace indra::cli {
namespace {

struct PutArgs {
  std::vector<std::string> places;
  std::string conflict = "replace";
  bool recursive = false, parents = false;
  std::optional<std::int64_t> token;
};

std::string last_name(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const std::string name = path.substr(path.rfind('/') + 1);
  return name == "." || name == ".." || name == "/" ? last_name(absolute(path, true)) : name;
}

Result<int> put(Context& ctx, const PutArgs& a) {
  std::vector<std::string> from = a.places;
  if (from.size() < 2) throw Usage{"say what to put and where: put SRC... DEST"};
  const Place dest = ctx.place(from.back());
  from.pop_back();
  INDRA_LET(Client * client, ctx.reach(dest.vault));
  // Into a directory that is there, else to be the last name itself.
  Place dir = dest;
  std::string name;
  Json ask = dest.request("stat");
  ask["follow"] = true;
  const auto there = client->call(ask);
  const bool into = there && S_ISDIR(static_cast<std::uint32_t>(int_field(*there, "mode")));
  if (!there && there.error().code != std::errc::no_such_file_or_directory) return fail(there.error());
  if (!into) {
    if (from.size() > 1 || dest.path.ends_with('/'))
      return fail(there ? ENOTDIR : ENOENT, dest.shown + " is no directory");
    const std::size_t slash = dest.path.rfind('/');
    name = dest.path.substr(slash + 1);
    dir.path = slash == 0 ? "/" : dest.path.substr(0, slash);
  }
  std::uint64_t total = 0;
  bool known = true;
  for (const std::string& f : from) {
    struct stat st {};
    if (f == "-" && into) throw Usage{"- has no name: say DEST as the file it shall be"};
    if (f == "-" || ::stat(f.c_str(), &st) != 0 || S_ISDIR(st.st_mode))
      known = false;
    else
      total += static_cast<std::uint64_t>(st.st_size);
  }
  Json request = dir.request("put");
  request["conflict"] = a.conflict;
  request["make"] = a.parents;
  if (a.token) {
    request["lock"] = path_lock("main", dest.branch, dest.path);
    request["token"] = *a.token;
  }
  Progress progress{"put", known ? total : 0};
  INDRA_LET(const Sent sent,
            send_items(ctx, *client, request, progress, true, [&](const ItemSinks& sinks) -> Result<void> {
              for (const std::string& f : from) {
                if (f == "-")
                  INDRA_TRY(read_stream(STDIN_FILENO, name, sinks));
                else
                  INDRA_TRY(read_host(f, into ? last_name(f) : name, a.recursive, true, sinks));
              }
              return {};
            }));
  return sent.failed > 0 ? 1 : 0;
}

}  // namespace

void add_put(CLI::App& app, Context& ctx) {
  auto a = std::make_shared<PutArgs>();
  CLI::App* verb = add_verb(app, ctx, "put", "Copy files into a vault, each whole or not at all",
                            "  indrafs put report.pdf :/documents\n  date | indrafs put - :/now.txt\n  "
                            "indrafs put -r photos agent:/gallery",
                            [&ctx, a] { return put(ctx, *a); });
  verb->add_option(
          "SRC", a->places,
          "files of the host (- = standard input), then where to: [BRANCH]:/PATH, or a path in a mount")
      ->required();
  verb->add_flag("-r,-R,--recursive", a->recursive, "directories with all in them");
  verb->add_flag("-p,--parents", a->parents, "make the directories that DEST lies in");
  verb->add_option(
      "--lock-token", a->token,
      "refused once this token of `lock acquire --path DEST` is stale: never over a later holder's");
  verb->add_option("--on-conflict", a->conflict, "what to do where a name is taken (default: replace)")
      ->check(CLI::IsMember({"replace", "skip", "fail"}));
}

}  // namespace indra::cli
