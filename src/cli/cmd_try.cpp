// try: a command in a fork of the branch that the working directory lies in.
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "cli/covered.h"
#include "cli/diff.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

constexpr std::size_t kLinesShown = 100;

struct TryArgs {
  std::vector<std::string> command;
  std::string name;
  bool merge = false, keep = false, drop = false, patch = false, beside = false;
};

/// Where the working directory lies: the branch, and the host path at which its root (or the part of it
/// that is mounted) is seen.
struct Here {
  Place place;
  std::string directory;   ///< the working directory
  std::string root;        ///< where the branch is seen
  std::string part;        ///< of the branch that is seen there: "" = all, or "/a/b"
  std::string mountpoint;  ///< the daemon's mount
  bool plain = false;
};

Result<Here> find_here(Context& ctx) {
  Here h;
  char* cwd = ::getcwd(nullptr, 0);
  if (cwd == nullptr) return fail(errno, "the working directory");
  h.directory = cwd;
  ::free(cwd);
  const auto mounts = indrafs_mounts();
  const HostMount* m = mount_of(mounts, h.directory);
  if (m == nullptr)
    throw Usage{h.directory + " does not lie in an indrafs mount; cd to where the command is to work"};
  h.place = ctx.place(h.directory);
  if (!h.place.snapshot.empty() || !h.place.at.is_null())
    throw Usage{h.directory + " is a moment of the past; try works in a branch"};
  INDRA_LET(Client * client, ctx.reach(h.place.vault));
  INDRA_LET(const Json hello, client->call({{"verb", "hello"}}));
  const HostMount* made = made_as(mounts, *m, hello["mounts"]);
  if (made == nullptr) return fail(ENOENT, "the mount at " + m->mountpoint);
  h.mountpoint = made->mountpoint;
  for (const Json& row : hello["mounts"])
    if (name_field(row, "mountpoint") == made->mountpoint) h.plain = text_field(row, "layout") == "plain";
  // From the mount's own root: where the branch begins, and where what is mounted here begins.
  const std::string below = h.directory.substr(m->mountpoint == "/" ? 0 : m->mountpoint.size());
  const std::string begins = m->root == "/" ? "" : m->root, all = begins + below;
  const std::string path = h.place.path == "/" ? "" : h.place.path;
  if (!all.ends_with(path)) return fail(ENOENT, h.directory);
  const std::string branch = all.substr(0, all.size() - path.size());
  if (branch.size() >= begins.size()) {
    h.root = (m->mountpoint == "/" ? "" : m->mountpoint) + branch.substr(begins.size());
  } else {
    h.root = m->mountpoint;
    h.part = begins.substr(branch.size());
  }
  return h;
}

/// A mount of the fork alone, for as long as this lives.
class SideMount {
 public:
  explicit SideMount(std::string vault) : vault_{std::move(vault)} {}
  SideMount(const SideMount&) = delete;
  SideMount& operator=(const SideMount&) = delete;
  ~SideMount() {
    if (dir_.empty()) return;
    if (auto client = Client::daemon(vault_); client && mounted_) {
      const auto end = [&](bool force) {
        return (*client)->call({{"verb", "unmount"}, {"mountpoint", name_to_json(dir_)}, {"force", force}});
      };
      if (!end(false)) (void)end(true);
    }
    ::rmdir(dir_.c_str());
  }
  Result<void> make(Client& client, const std::string& branch) {
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    std::string pattern =
        std::string{runtime != nullptr && *runtime == '/' ? runtime : "/tmp"} + "/indrafs-try-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) return fail(errno, pattern);
    dir_ = pattern;
    INDRA_TRY(client.call({{"verb", "mount"},
                           {"mountpoint", name_to_json(dir_)},
                           {"branch", name_to_json(branch)},
                           {"layout", "plain"}}));
    mounted_ = true;
    return {};
  }
  [[nodiscard]] const std::string& dir() const { return dir_; }

 private:
  const std::string vault_;
  std::string dir_;
  bool mounted_ = false;
};

Result<std::string> make_fork(Client& client, const Place& from, const std::string& wanted) {
  const std::time_t now = std::time(nullptr);
  std::tm tm{};
  ::localtime_r(&now, &tm);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &tm);
  for (int i = 1;; ++i) {
    const std::string name = !wanted.empty() ? wanted : fmt::format("try-{}-{}.{}", stamp, ::getpid(), i);
    const auto made = client.call(
        {{"verb", "branch_create"}, {"name", name_to_json(name)}, {"from", name_to_json(from.branch)}});
    if (made) return name;
    if (made.error().code != std::errc::file_exists || !wanted.empty() || i == 100) return fail(made.error());
  }
}

enum class Outcome { kept, dropped, merged };

Outcome choose(const Context& ctx, const std::string& name) {
  if (::isatty(STDIN_FILENO) != 1 || ::isatty(STDERR_FILENO) != 1) return Outcome::kept;
  for (;;) {
    fmt::print(stderr, "indrafs: {}: [m]erge the branch {}, [k]eep it, or [d]rop it? ", ctx.verb,
               shown_name(name, true));
    std::string answer;
    for (int c = std::getchar(); c != '\n'; c = std::getchar()) {
      if (c == EOF) return Outcome::kept;
      answer += static_cast<char>(c);
    }
    if (answer == "m" || answer == "merge") return Outcome::merged;
    if (answer == "k" || answer == "keep") return Outcome::kept;
    if (answer == "d" || answer == "drop") return Outcome::dropped;
  }
}

Result<void> drop(Client& client, const std::string& name) {
  INDRA_TRY(client.call({{"verb", "branch_delete"}, {"name", name_to_json(name)}}));
  return {};
}

/// How many conflicts there were; each is told, and the merge keeps both versions.
Result<std::size_t> merge_into(Context& ctx, Client& client, const std::string& name, const Place& into) {
  INDRA_LET(const Json done, merged(client, {{"verb", "merge"},
                                             {"source", name_to_json(name)},
                                             {"target", name_to_json(into.branch)}}));
  const Json conflicts = done.value("conflicts", Json::array());
  for (const Json& c : conflicts)
    ctx.say("conflict: " + name_field(c, "path").value_or("?") + " (" + text_field(c, "kind") + ")");
  return conflicts.size();
}

Result<int> run_try(Context& ctx, const TryArgs& o) {
  INDRA_LET(const Here here, find_here(ctx));
  INDRA_LET(Client * before, ctx.reach(here.place.vault));
  if (!before->is_daemon()) return fail(ENOENT, "the daemon of " + here.mountpoint);
  INDRA_LET(const std::string name, make_fork(*before, here.place, o.name));
  int status = 0;
  std::size_t changes = 0;
  Json rows;
  {
    SideMount side{here.place.vault};
    CoveredCommand c;
    c.argv = o.command;
    c.directory = here.directory;
    c.stdout_to_stderr = ctx.json;
    const auto ran = [&]() -> Result<int> {
      if (here.plain) INDRA_TRY(side.make(*before, name));
      const std::string root = here.plain ? side.dir() : here.mountpoint + "/branches/" + name;
      if (o.beside) {
        c.directory = root + (here.place.path == "/" ? "" : here.place.path);
      } else {
        c.source = root + here.part;
        c.target = here.root;
      }
      ctx.close();  // the command may take long, and a daemon answers 64 at a time
      return run_covered(c);
    }();
    if (!ran) {
      INDRA_LET(Client * client, ctx.reach(here.place.vault));
      if (const auto gone = drop(*client, name); !gone) ctx.complain(name, gone.error());
      return fail(ran.error());
    }
    status = *ran;
  }
  INDRA_LET(Client * client, ctx.reach(here.place.vault));
  INDRA_TRY(client->call({{"verb", "sync"}, {"publish", true}}));  // what it left running has written, too
  DiffPrinter out{{.json = ctx.json, .patch = o.patch, .to = stderr, .most = kLinesShown}};
  Json from = {{"branch", name_to_json(name)}, {"fork_point", true}}, to = {{"branch", name_to_json(name)}};
  INDRA_LET(const int unread, diff_in_vault(ctx, *client, from, to, "/", out));
  changes = out.entries();
  if (ctx.json)
    rows = out.take();
  else
    out.finish();

  Outcome outcome = Outcome::kept;
  if (!o.keep && unread == 0) {
    if (o.drop || changes == 0)
      outcome = Outcome::dropped;
    else if (o.merge)
      outcome = status == 0 ? Outcome::merged : Outcome::kept;
    else
      outcome = choose(ctx, name);
  }
  if (outcome == Outcome::merged) {
    const auto conflicts = merge_into(ctx, *client, name, here.place);
    if (!conflicts) ctx.complain(name, conflicts.error());
    if (!conflicts || *conflicts > 0) {
      outcome = Outcome::kept;
      if (status == 0) status = 1;
    } else if (const auto gone = drop(*client, name); !gone) {
      ctx.complain(name, gone.error());
    }
  }
  if (outcome == Outcome::dropped)
    if (const auto gone = drop(*client, name); !gone) {
      ctx.complain(name, gone.error());
      outcome = Outcome::kept;
      if (status == 0) status = 1;
    }
  if (ctx.json) {
    const Json all = {{"branch", name_to_json(name)},
                      {"status", status},
                      {"changes", std::move(rows)},
                      {"outcome", outcome == Outcome::kept     ? "kept"
                                  : outcome == Outcome::merged ? "merged"
                                                               : "dropped"}};
    fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
  } else if (outcome == Outcome::kept) {
    ctx.say(
        fmt::format("kept as branch {}; `indrafs diff {}` shows it again, `indrafs branch delete {}` "
                    "drops it",
                    name, name, name));
  } else if (changes == 0) {
    ctx.say("nothing was changed");
  }
  return status;
}

}  // namespace

void add_try(CLI::App& app, Context& ctx) {
  auto o = std::make_shared<TryArgs>();
  CLI::App* verb = add_verb(
      app, ctx, "try", "Run a command in a fork of the branch you are in; look, then merge, keep or drop it",
      "  cd ~/indra/vault/project && indrafs try -- make test\n"
      "  indrafs try --drop -- ./cleanup.sh\n  indrafs try --keep --name agent-7 -- agent --task 7\n"
      "The command sees the fork in the place of the branch, at the same paths; nobody else does. Its exit\n"
      "status is the command's (128 + N for signal N). Without --merge, --keep or --drop, and without a\n"
      "terminal to ask at, the fork is kept; one without changes is dropped. After a merge with conflicts\n"
      "the fork is kept, too, and the status is not 0.",
      [&ctx, o]() -> Result<int> { return run_try(ctx, *o); });
  verb->add_option("COMMAND", o->command, "after --: the command and its arguments")->required();
  auto* merge = verb->add_flag(
      "--merge", o->merge, "take the changes into the branch if the command succeeds; else keep the fork");
  auto* keep = verb->add_flag("--keep", o->keep, "keep the fork as a branch, without asking");
  auto* drop = verb->add_flag("--drop", o->drop, "drop the fork, without asking");
  merge->excludes(keep)->excludes(drop);
  keep->excludes(drop);
  verb->add_option("--name", o->name, "of the fork (default: try-TIME-PID)");
  verb->add_flag("-p,--patch", o->patch, "show the lines that differ");
  verb->add_flag("--beside", o->beside, "run in the fork's own directory instead: needs no namespace");
  add_json(verb, ctx);
}

}  // namespace indra::cli
