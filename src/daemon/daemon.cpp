#include "daemon/daemon.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>

#include "base/fd.h"
#include "base/log.h"
#include "daemon/internal/mounts.h"
#include "daemon/server.h"
#include "events/attendant.h"

namespace indra {
namespace {

sigset_t ending_signals() {
  sigset_t s;
  sigemptyset(&s);
  for (const int n : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&s, n);
  return s;
}

constexpr int kTrimEvery = 10'000;  // ms
constexpr std::size_t kTrimAbove = 24 << 20;

std::size_t resident() {
  std::size_t pages = 0, all = 0;
  std::ifstream{"/proc/self/statm"} >> all >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// Makes VAULT's parents, for the default vault's first use.
void make_parents(const std::string& path) {
  for (std::size_t i = path.find('/', 1); i != std::string::npos; i = path.find('/', i + 1))
    ::mkdir(path.substr(0, i).c_str(), 0700);
}

}  // namespace

void block_signals() {
  const sigset_t s = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &s, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

Result<void> run_daemon(const DaemonOptions& o, const std::function<void(const Result<Json>&)>& ready) {
  const auto refuse = [&](const Error& e) -> Result<void> {
    ready(fail(e));
    return fail(e);
  };
  // At rest a daemon stays small: few arenas, and freed memory goes back.
  ::mallopt(M_ARENA_MAX, 4);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 20);
  ::mallopt(M_MMAP_THRESHOLD, 256 << 10);
  if (o.create) make_parents(o.vault);
  FileSystem::Options options;
  options.create = o.create;
  options.jobs = true;
  auto opened = FileSystem::open(o.vault, options);
  if (!opened) return refuse(opened.error());
  std::unique_ptr<FileSystem> fs = std::move(*opened);

  // Rules and schedules.
  auto attendant = Attendant::start(
      o.vault, [f = fs.get()] { return f->sync(false); }, [f = fs.get()] { f->look_for_jobs(); });
  if (!attendant) return refuse(attendant.error());

  const Fd wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  const sigset_t signals = ending_signals();
  const Fd signal{::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK)};
  Mounts mounts{*fs, kernel_mounter(), [fd = wake.get()] { (void)::eventfd_write(fd, 1); }};
  Service service{*fs, &mounts};
  auto server = Server::open(o.vault, service);
  if (!server) return refuse(server.error());
  auto first = mounts.mount(o.mount);
  if (!first) {
    (*server)->stop(false);
    (*server)->farewell();
    return refuse(first.error());
  }
  ready(first);
  log::info("serving vault {}", o.vault);

  bool cut_off = false;
  while (!mounts.sweep()) {
    std::array<pollfd, 2> p{pollfd{wake.get(), POLLIN, 0}, pollfd{signal.get(), POLLIN, 0}};
    const int n = ::poll(p.data(), p.size(), kTrimEvery);
    if (n < 0 && errno != EINTR) break;
    if (n == 0 && resident() > kTrimAbove)
      ::malloc_trim(0);  // what an import or a large write has left behind
    if ((p[0].revents & POLLIN) != 0) {
      eventfd_t times = 0;
      (void)::eventfd_read(wake.get(), &times);
    }
    if ((p[1].revents & POLLIN) != 0) {
      signalfd_siginfo info{};
      if (::read(signal.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info))
        log::info("ending: signal {}", info.ssi_signo);
      cut_off = true;
      break;
    }
  }
  (*server)->stop(cut_off);
  if (!mounts.unmount_all()) {
    // A mount that cannot be ended keeps its threads: what is written is committed, and the process ends
    // around them.
    if (auto r = fs->sync(true); !r) log::error("last commit: {}", r.error().text());
    (*server)->farewell();
    ::_exit(0);
  }
  attendant->reset();  // its threads use the vault
  relay_before_closing(o.vault, [&] { return fs->sync(true); });
  fs.reset();  // the last commit; the lock is free afterwards
  log::info("vault {} is closed", o.vault);
  (*server)->farewell();
  return {};
}

Result<Json> start_daemon(const DaemonOptions& o) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return fail(errno, "pipe");
  const pid_t child = ::fork();
  if (child < 0) {
    const int err = errno;
    ::close(pipe[0]);
    ::close(pipe[1]);
    return fail(err, "fork");
  }
  if (child == 0) {
    ::close(pipe[0]);
    ::setsid();
    // A grandchild: no zombie, and no terminal can become its own.
    if (const pid_t second = ::fork(); second != 0) ::_exit(second < 0 ? 1 : 0);
    block_signals();
    log::set_level("warn");  // until it is ready, the caller's terminal is where it speaks
    const int out = pipe[1];
    const auto ready = [&](const Result<Json>& r) {
      Message m;
      if (r)
        m.head = *r;
      else
        m = error_message(r.error());
      m.head["pid"] = ::getpid();
      m.head["ok"] = r.has_value();
      const std::string text = m.head.dump(-1, ' ', false, Json::error_handler_t::replace);
      if (r) {
        // From here on the log is where it speaks. Standard error is let go of, so that a pipe of the
        // caller's ends.
        log::to_file(o.vault + "/daemon.log");
        log::set_level(o.log_level);
        const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
        for (const int fd : {0, 1, 2}) ::dup2(null, fd);
        if (null > 2) ::close(null);
        if (::chdir("/") != 0) log::warn("cannot change to /");
      }
      if (::write(out, text.data(), text.size()) < 0) log::warn("nobody waits for the start");
      ::close(out);
    };
    const auto r = run_daemon(o, ready);
    ::_exit(r ? 0 : 1);
  }
  ::close(pipe[1]);
  std::string text;
  std::array<char, 4096> buf{};
  for (;;) {
    const ssize_t n = ::read(pipe[0], buf.data(), buf.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(buf.data(), static_cast<std::size_t>(n));
  }
  ::close(pipe[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  Message m;
  m.head = Json::parse(text, nullptr, false);
  if (m.head.is_discarded() || !m.head.is_object())
    return fail(EIO, "the daemon ended before it was ready; see " + o.vault + "/daemon.log");
  if (!bool_field(m.head, "ok")) return fail(error_of(m));
  return std::move(m.head);
}

}  // namespace indra
