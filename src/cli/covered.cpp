#include "cli/covered.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace indra::cli {
namespace {

/// What went wrong in the child before the command ran.
struct Report {
  enum Stage : int { ran, no_namespace, mount, directory, command } stage = ran;
  int error = 0;
};

bool put(const char* path, const std::string& text) {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool ok = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(fd);
  return ok;
}

/// A mount namespace of its own; where that needs rights, in a user namespace in which the user stays who
/// he is.
bool own_namespace() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    if (!put("/proc/self/uid_map", fmt::format("{} {} 1", uid, uid))) return false;
    (void)put("/proc/self/setgroups", "deny");
    if (!put("/proc/self/gid_map", fmt::format("{} {} 1", gid, gid))) return false;
  }
  // What is unmounted outside is unmounted here; nothing that is done here is seen outside.
  return ::mount("none", "/", nullptr, MS_REC | MS_SLAVE, nullptr) == 0;
}

[[noreturn]] void run_child(const CoveredCommand& c, int report_fd) {
  const auto give_up = [&](Report::Stage stage, int status) {
    const Report r{stage, errno};
    (void)!::write(report_fd, &r, sizeof r);
    ::_exit(status);
  };
  for (const int s : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(s, SIG_DFL);
  if (!c.target.empty()) {
    if (!own_namespace()) give_up(Report::no_namespace, 1);
    if (::mount(c.source.c_str(), c.target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
      give_up(Report::mount, 1);
  }
  if (::chdir(c.directory.c_str()) != 0) give_up(Report::directory, 1);
  ::setenv("PWD", c.directory.c_str(), 1);
  if (c.stdout_to_stderr) ::dup2(STDERR_FILENO, STDOUT_FILENO);
  std::vector<char*> argv;
  for (const std::string& a : c.argv) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  give_up(Report::command, errno == ENOENT ? 127 : 126);
  ::_exit(1);
}

volatile sig_atomic_t g_child = 0;
void pass_on(int signal) {
  if (g_child > 0) ::kill(g_child, signal);
}

/// Until it goes: the terminal's interrupts are the command's, and what ends us ends it first.
class Signals {
 public:
  Signals() {
    struct sigaction a {};
    a.sa_handler = SIG_IGN;
    ::sigaction(SIGINT, &a, &old_[0]);
    ::sigaction(SIGQUIT, &a, &old_[1]);
    a.sa_handler = pass_on;
    ::sigaction(SIGTERM, &a, &old_[2]);
    ::sigaction(SIGHUP, &a, &old_[3]);
  }
  ~Signals() {
    constexpr std::array all{SIGINT, SIGQUIT, SIGTERM, SIGHUP};
    for (std::size_t i = 0; i < all.size(); ++i) ::sigaction(all[i], &old_[i], nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

 private:
  std::array<struct sigaction, 4> old_{};
};

}  // namespace

Result<int> run_covered(const CoveredCommand& c) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return fail(errno);
  const Signals signals;
  const pid_t child = ::fork();
  if (child < 0) {
    const int e = errno;
    ::close(pipe[0]);
    ::close(pipe[1]);
    return fail(e, "fork");
  }
  if (child == 0) run_child(c, pipe[1]);
  g_child = child;
  ::close(pipe[1]);
  Report r;
  ssize_t got = 0;
  while ((got = ::read(pipe[0], &r, sizeof r)) < 0 && errno == EINTR) {
  }
  ::close(pipe[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  g_child = 0;
  if (got != static_cast<ssize_t>(sizeof r)) r.stage = Report::ran;
  switch (r.stage) {
    case Report::ran:
      break;
    case Report::no_namespace:
      return fail(EPERM, fmt::format("this user may not make a namespace here ({}); allow it with `sysctl "
                                     "kernel.unprivileged_userns_clone=1` (and on Ubuntu `sysctl "
                                     "kernel.apparmor_restrict_unprivileged_userns=0`), or use --beside",
                                     std::error_code{r.error, std::generic_category()}.message()));
    case Report::mount:
      return fail(r.error, "the fork cannot be put over " + c.target + "; use --beside");
    case Report::directory:
      return fail(r.error, c.directory);
    case Report::command:
      fmt::print(stderr, "indrafs: try: {}: {}\n", c.argv.front(),
                 std::error_code{r.error, std::generic_category()}.message());
      break;
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace indra::cli
