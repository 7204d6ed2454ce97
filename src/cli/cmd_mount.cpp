#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/log.h"
#include "cli/app.h"
#include "cli/not_empty.h"
#include "daemon/daemon.h"

namespace indra::cli {
namespace {

struct MountArgs {
  std::string mountpoint, branch, snapshot, at, layout = "vault", locks = "kernel", events = "watched",
                                                log_level = "info";
  std::vector<std::string> generic;
  bool read_only = false, allow_other = false, auto_unmount = false, foreground = false, nonempty = false;
};

Json request_of(const Context& ctx, const MountArgs& a, const std::string& mountpoint) {
  Json r = {{"verb", "mount"},
            {"mountpoint", name_to_json(mountpoint)},
            {"branch", name_to_json(a.branch.empty() ? "main" : a.branch)},
            {"snapshot", name_to_json(a.snapshot)},
            {"layout", a.layout},
            {"locks", a.locks},
            {"events", a.events},
            {"read_only", a.read_only},
            {"allow_other", a.allow_other},
            {"auto_unmount", a.auto_unmount},
            {"nonempty", a.nonempty}};
  if (!ctx.player.empty()) r["player"] = ctx.player;
  for (const std::string& list : a.generic)
    for (std::size_t i = 0; i <= list.size();) {
      const std::size_t end = std::min(list.find(',', i), list.size());
      const std::string one = list.substr(i, end - i);
      i = end + 1;
      if (one.starts_with("fsname="))
        r["fsname"] = name_to_json(one.substr(7));
      else if (one == "ro")
        r["read_only"] = true;
      else if (one == "allow_other")
        r["allow_other"] = true;
      else if (one == "auto_unmount")
        r["auto_unmount"] = true;
      else if (one == "nonempty")
        r["nonempty"] = true;
      else if (!one.empty() && one != "rw" && one != "defaults")
        throw Usage{"-o " + one +
                    " is not known (known: fsname=NAME, ro, allow_other, auto_unmount, nonempty)"};
    }
  return r;
}

Result<int> mount(Context& ctx, const MountArgs& a) {
  for (const std::string* name : {&a.branch, &a.snapshot})
    if (!name->empty() && !valid_name(*name)) throw Usage{*name + " is no name of a branch or snapshot"};
  const std::string mountpoint = absolute(a.mountpoint, true);
  struct stat st {};
  if (::stat(mountpoint.c_str(), &st) != 0 && errno == ENOENT)
    return fail(ENOENT, mountpoint + " does not exist; make it first: mkdir -p " + mountpoint);
  DaemonOptions d;
  d.vault = ctx.vault();
  d.create = ctx.default_vault();
  d.log_level = a.log_level;
  d.mount = request_of(ctx, a, mountpoint);
  if (!a.at.empty()) {
    Place p;
    p.vault = d.vault;
    if (!a.branch.empty()) p.branch = a.branch;
    INDRA_TRY(ctx.as_of(p, a.snapshot, a.at));
    d.mount["at"] = p.at;
    ctx.close();  // the daemon opens the vault itself
  }
  const auto mounted = [&](const Json& what, const char* how) {
    if (ctx.json)
      fmt::print("{}\n", what.dump(2));
    else if (::isatty(STDERR_FILENO) == 1 || a.foreground)
      ctx.say(fmt::format(
          "{} is mounted at {}{}",
          a.snapshot.empty() ? "branch " + text_field(what, "branch", "main") : "snapshot " + a.snapshot,
          mountpoint, how));
    return 0;
  };
  // Whoever holds the vault may be ending (its last commit), starting, or a command at work: then it is our
  // turn next.
  constexpr int kQuiet = 10;  // turns: a command at work is mostly gone before anybody needs to know
  for (int turn = 0;; ++turn, std::this_thread::sleep_for(std::chrono::milliseconds{50})) {
    Error why;
    if (auto running = Client::daemon(d.vault)) {
      if (a.foreground) {
        const auto hello = (*running)->call({{"verb", "hello"}});
        if (hello)
          return fail(EBUSY, fmt::format("the vault is served by process {} already; leave out --foreground, "
                                         "and it will mount this too",
                                         int_field(*hello, "pid")));
      }
      auto r = (*running)->call(d.mount);
      if (r) return mounted(*r, "");
      if (r.error().code != std::errc::broken_pipe) return fail(r.error());
      why = r.error();
      why.context = "the daemon of this vault is ending: its last commit";
    } else if (a.foreground) {
      block_signals();
      log::set_level(a.log_level);
      auto r = run_daemon(d, [&](const Result<Json>& ready) {
        if (ready) mounted(*ready, "");
      });
      if (r) return 0;
      if (r.error().code != std::errc::operation_would_block) return fail(r.error());
      why = r.error();
    } else {
      auto r = start_daemon(d);
      if (r) return mounted(*r, "");
      if (r.error().code != std::errc::operation_would_block) return fail(r.error());
      why = r.error();
    }
    if (turn == kQuiet) ctx.say("waiting: " + why.context);
  }
}

}  // namespace

void add_mount(CLI::App& app, Context& ctx) {
  auto a = std::make_shared<MountArgs>();
  CLI::App* verb = add_verb(app, ctx, "mount", "Mount a branch at a directory",
                            "  indrafs mount ~/indra\n"
                            "  indrafs mount --branch agent --layout plain /srv/agent\n"
                            "  indrafs mount --at-snapshot before-cleanup ~/old\n"
                            "  indrafs mount --at yesterday --layout plain ~/old\n"
                            "  indrafs mount --vault ~/work.vault --foreground --log-level debug ~/work",
                            [&ctx, a] { return mount(ctx, *a); });
  verb->add_option("MOUNTPOINT", a->mountpoint, "a directory; it is not made")->required();
  verb->add_option("--branch", a->branch, "the branch (default: main)");
  verb->add_option("--at-snapshot,--snapshot", a->snapshot, "a snapshot instead, read-only")
      ->check(not_empty);
  verb->add_option("--at", a->at, "the branch as it was then, read-only: '2026-01-31 12:00', '2h ago', seq:N")
      ->check(not_empty);
  verb->add_option("--layout", a->layout,
                   "vault: with branches/ and snapshots/ beside it; plain: the branch alone")
      ->check(CLI::IsMember({"vault", "plain"}));
  verb->add_flag("--read-only,-r", a->read_only, "nothing can be changed through this mount");
  verb->add_flag("--allow-other", a->allow_other, "let other users in");
  verb->add_flag("--auto-unmount", a->auto_unmount, "unmount even when the daemon dies");
  verb->add_flag("--nonempty", a->nonempty, "cover a directory that holds something");
  verb->add_flag("--foreground,-f", a->foreground, "stay in the terminal, and log there");
  verb->add_option("--locks", a->locks,
                   "who keeps file locks; a second writable mount of a branch needs daemon on both")
      ->check(CLI::IsMember({"kernel", "daemon"}));
  verb->add_option(
          "--events", a->events,
          "inotify events for changes made elsewhere: for who is seen to watch, for whatever the kernel "
          "holds, or none")
      ->check(CLI::IsMember({"watched", "always", "off"}));
  verb->add_option("--log-level", a->log_level, "trace, debug, info, warn, error or off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}));
  verb->add_option("-o", a->generic,
                   "options as mount(8) gives them: fsname=NAME, ro, allow_other, auto_unmount, nonempty");
  add_json(verb, ctx);
}

}  // namespace indra::cli
