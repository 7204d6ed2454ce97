#include "mount/internal/prepare.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/log.h"
#include "base/mountinfo.h"

extern char** environ;

namespace indra {
namespace {

/// Resolves all but the last component, which a dead mount may cover.
Result<std::string> absolute(const std::string& path) {
  if (path.empty()) return fail(ENOENT, "no mount point given");
  char real[PATH_MAX];
  if (::realpath(path.c_str(), real) != nullptr) return std::string{real};
  const int why = errno;
  if (why != ENOTCONN) return fail(why, "mount point " + path);
  std::string p = path;
  while (p.size() > 1 && p.back() == '/') p.pop_back();
  const auto slash = p.rfind('/');
  const std::string dir = slash == std::string::npos ? "." : slash == 0 ? "/" : p.substr(0, slash);
  const std::string name = slash == std::string::npos ? p : p.substr(slash + 1);
  if (::realpath(dir.c_str(), real) == nullptr) return fail(errno, "mount point " + path);
  return (std::strcmp(real, "/") == 0 ? std::string{} : std::string{real}) + "/" + name;
}

/// Whether nobody serves the mount at `path` any more.
Result<bool> is_dead_mount(const std::string& path) {
  struct stat st {};
  struct statfs asked {};  // the kernel answers stat of a dead mount from its cache, but never this
  if (::statfs(path.c_str(), &asked) == 0 && ::stat(path.c_str(), &st) == 0) return false;
  if (errno == ENOTCONN || errno == ECONNABORTED) return true;
  return fail(errno, "mount point " + path);
}

bool is_empty(const std::string& path) {
  DIR* d = ::opendir(path.c_str());
  if (d == nullptr) return true;  // mount(2) will say what is wrong
  bool empty = true;
  while (const dirent* e = ::readdir(d)) {
    const std::string_view name{e->d_name};
    if (name != "." && name != "..") {
      empty = false;
      break;
    }
  }
  ::closedir(d);
  return empty;
}

std::string read_all(int fd) {
  std::string out;
  char buf[512];
  for (;;) {
    const ssize_t n = ::read(fd, buf, sizeof buf);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    out.append(buf, static_cast<std::size_t>(n));
  }
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

constexpr int kReadAhead = 4 << 20;  // bytes: requests of 1 MiB, several at a time

/// The last one covers the others.
MountInfo mount_at(const std::string& path) {
  MountInfo found;
  for (MountInfo& m : mountinfo())
    if (m.mountpoint == path) found = std::move(m);
  return found;
}

}  // namespace

std::string mounted_type(const std::string& path) { return mount_at(path).type; }

void read_further_ahead(const std::string& path) {
  if (::geteuid() != 0) return;
  const std::string device = mount_at(path).device;
  if (device.empty()) return;
  std::ofstream out{"/sys/class/bdi/" + device + "/read_ahead_kb"};
  out << kReadAhead / 1024 << std::flush;
  if (!out) log::debug("{}: the kernel's read-ahead stays as it is", path);
}

bool user_may_allow_other() {
  std::ifstream in{"/etc/fuse.conf"};
  for (std::string line; std::getline(in, line);) {
    const auto from = line.find_first_not_of(" \t");
    if (from == std::string::npos) continue;
    const auto to = line.find_last_not_of(" \t\r");
    if (line.substr(from, to - from + 1) == "user_allow_other") return true;
  }
  return false;
}

Result<pid_t> spawn_fusermount(const std::vector<std::string>& args, int socket, int errors) {
  std::vector<std::string> words{"fusermount3"};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (auto& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  std::vector<std::string> vars;
  for (char** e = environ; *e != nullptr; ++e)
    if (std::strncmp(*e, "_FUSE_COMMFD=", 13) != 0) vars.emplace_back(*e);
  if (socket >= 0) vars.emplace_back("_FUSE_COMMFD=3");
  std::vector<char*> envp;
  for (auto& v : vars) envp.push_back(v.data());
  envp.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (errors >= 0) posix_spawn_file_actions_adddup2(&actions, errors, 2);
  if (socket >= 0) posix_spawn_file_actions_adddup2(&actions, socket, 3);
  pid_t pid = -1;
  const int rc = ::posix_spawnp(&pid, "fusermount3", &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  if (rc == ENOENT)
    return fail(ENOENT,
                "fusermount3 is needed to mount as an ordinary user and was not found "
                "(Debian: apt-get install fuse3)");
  if (rc != 0) return fail(rc, "run fusermount3");
  return pid;
}

Result<Ran> run_fusermount(const std::vector<std::string>& args) {
  int err[2];
  if (::pipe2(err, O_CLOEXEC) != 0) return fail(errno, "pipe");
  auto pid = spawn_fusermount(args, -1, err[1]);
  ::close(err[1]);
  if (!pid) {
    ::close(err[0]);
    return fail(std::move(pid).error());
  }
  Ran ran;
  ran.errors = read_all(err[0]);
  ::close(err[0]);
  int status = 0;
  while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
  }
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

Result<void> unmount_path(const std::string& path, bool lazy) {
  if (::geteuid() == 0) {
    if (::umount2(path.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) return {};
    if (errno == EBUSY) return fail(EBUSY, path + " is in use: files are open or a program works in it");
    return fail(errno, "unmount " + path);
  }
  INDRA_LET(const Ran ran, run_fusermount({lazy ? "-uz" : "-u", "--", path}));
  if (ran.status == 0) return {};
  if (ran.errors.find("busy") != std::string::npos)
    return fail(EBUSY, path + " is in use: files are open or a program works in it");
  return fail(EPERM, ran.errors.empty() ? "fusermount3 could not unmount " + path : ran.errors);
}

Result<std::string> prepare_mountpoint(const MountOptions& options) {
  INDRA_LET(std::string path, absolute(options.mountpoint));
  struct stat st {};
  INDRA_LET(const bool dead, is_dead_mount(path));
  if (dead) {
    log::warn("{} is a dead mount of a daemon that ended; taking it away", path);
    if (auto gone = unmount_path(path, true); !gone) {
      INDRA_LET(const bool still, is_dead_mount(path));  // an --auto-unmount of it may have been faster
      if (still) return fail(gone.error());
    }
  }
  if (::stat(path.c_str(), &st) != 0) return fail(errno, "mount point " + path);
  if (!S_ISDIR(st.st_mode)) return fail(ENOTDIR, "mount point " + path);
  if (mounted_type(path) == "fuse.indrafs")
    return fail(EBUSY, path + " is mounted already; `indrafs unmount` it first");
  if (!options.nonempty && !is_empty(path))
    return fail(ENOTEMPTY, "mount point " + path + " (its files would be hidden; nonempty allows it)");
  return path;
}

}  // namespace indra
