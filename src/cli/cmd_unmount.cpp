#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "cli/app.h"

namespace indra::cli {
namespace {

/// The mount of a daemon that is no more.
Result<void> remove_dead(const std::string& mountpoint) {
  if (::umount2(mountpoint.c_str(), MNT_DETACH) == 0) return {};
  const int err = errno;
  const pid_t child = ::fork();
  if (child == 0) {
    ::execlp("fusermount3", "fusermount3", "-u", "-z", "--", mountpoint.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 1;
  while (child > 0 && ::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return child > 0 && status == 0 ? Result<void>{} : fail(err, mountpoint);
}

Result<void> unmount(Context& ctx, const std::string& argument, bool force) {
  const std::string at = absolute(argument, true);
  const auto mounts = indrafs_mounts();
  const HostMount* m = mount_of(mounts, at);
  if (m == nullptr || m->mountpoint != at)
    return fail(
        EINVAL,
        at + (m != nullptr ? " is no mount point; the mount it lies in is " + m->mountpoint
                           : " is no indrafs mount; `indrafs status` tells where the vault is mounted"));
  for (const std::string& vault : {m->source, ctx.vault()}) {
    if (!vault.starts_with('/')) continue;
    auto daemon = Client::daemon(vault);
    if (!daemon) continue;
    const Json request = {{"verb", "unmount"}, {"mountpoint", name_to_json(at)}, {"force", force}};
    auto r = (*daemon)->call(request);
    // Whoever lists all mounts (df, a desktop) holds each for a moment.
    for (int n = 0; n < 20 && !r && r.error().code == std::errc::device_or_resource_busy; ++n) {
      std::this_thread::sleep_for(std::chrono::milliseconds{50});
      r = (*daemon)->call(request);
    }
    if (r && r->contains("lingering")) ctx.say(text_field(*r, "lingering"));
    if (r) return bool_field(*r, "ending") ? (*daemon)->wait_committed() : Result<void>{};
    if (r.error().code == std::errc::device_or_resource_busy)
      return fail(r.error().code,
                  at + " has open files (fuser -m " + at + " tells whose); close them, or use --force");
    if (r.error().code != std::errc::invalid_argument) return fail(r.error());
  }
  INDRA_TRY(remove_dead(at));
  ctx.say(at + ": its daemon did not answer any more; the mount was taken away");
  return {};
}

}  // namespace

void add_unmount(CLI::App& app, Context& ctx) {
  struct Options {
    std::vector<std::string> mountpoints;
    bool force = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(app, ctx, "unmount", "Unmount; returns after the last commit",
               "  indrafs unmount ~/indra\n  indrafs unmount --force ~/indra", [&ctx, o]() -> Result<int> {
                 int status = 0;
                 for (const std::string& m : o->mountpoints)
                   if (auto r = unmount(ctx, m, o->force); !r) {
                     ctx.complain(m, r.error());
                     status = 1;
                   }
                 return status;
               });
  verb->add_option("MOUNTPOINT", o->mountpoints, "where")->required();
  verb->add_flag("--force,-f,--lazy", o->force, "also while files are open: they are cut off");
}

}  // namespace indra::cli
