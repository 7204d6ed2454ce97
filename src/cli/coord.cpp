#include "cli/coord.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/time.h"

namespace indra::cli {

Result<std::unique_ptr<Coord>> open_coord(Context& ctx, bool own) {
  const std::string vault = ctx.vault();
  if (::access((vault + "/vault.db").c_str(), F_OK) != 0)
    return fail(ENOENT, vault + " holds no vault; make one with: indrafs init" +
                            (ctx.default_vault() ? "" : " " + vault));
  Coord::Options o;
  o.durable = true;
  o.own = own;
  return Coord::open(vault + "/coord.db", o);
}

Result<std::string> payload_of(const std::string& argument) {
  if (argument != "-") return argument;
  std::string all;
  char buffer[65536];
  while (all.size() <= (1u << 20)) {
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(errno, "standard input");
    if (n == 0) return all;
    all.append(buffer, static_cast<std::size_t>(n));
  }
  return fail(EMSGSIZE,
              "a payload has at most 1048576 bytes; put what is large into a file and its path here");
}

void JobOptionArgs::add(CLI::App* verb) {
  verb->add_option("--delay", delay_, "seconds before it may be claimed; fractions too");
  verb->add_option("--priority", priority_, "higher goes first");
  verb->add_option("--max-attempts", max_attempts_, "claims before it is dead");
  verb->add_option("--expires", expires_, "dead if nobody claimed it within so many seconds");
  verb->add_option("--key", key_, "at most one unfinished job of the queue has this key");
}

std::string JobOptionArgs::json() const {
  Json j = Json::object();
  if (delay_) j["delay"] = *delay_;
  if (expires_) j["expires"] = *expires_;
  if (priority_) j["priority"] = *priority_;
  if (max_attempts_) j["max_attempts"] = *max_attempts_;
  if (!key_.empty()) j["key"] = key_;
  return j.dump(-1, ' ', false, Json::error_handler_t::replace);
}

double seconds_now() { return static_cast<double>(system_clock().now()) / 1e9; }

std::string own_name(const char* prefix) {
  return std::string{prefix} + "-" + std::to_string(::getpid()) + "-" +
         std::to_string(system_clock().now() % 1'000'000'000);
}

Result<int> run_program(const std::vector<std::string>& command,
                        const std::vector<std::pair<std::string, std::string>>& environment,
                        const std::string* input, double interval, const std::function<void()>& every) {
  int in[2] = {-1, -1};
  if (input != nullptr && ::pipe2(in, O_CLOEXEC) != 0) return fail(errno, "pipe");
  std::vector<char*> argv;
  for (const auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return fail(errno, "fork");
  if (child == 0) {
    ::signal(SIGPIPE, SIG_DFL);
    if (input != nullptr) ::dup2(in[0], STDIN_FILENO);
    for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  std::thread feeder;
  if (input != nullptr) {
    ::close(in[0]);
    feeder = std::thread{[fd = in[1], input] {
      for (std::size_t at = 0; at < input->size();) {
        const ssize_t n = ::write(fd, input->data() + at, input->size() - at);
        if (n <= 0) break;
        at += static_cast<std::size_t>(n);
      }
      ::close(fd);
    }};
  }
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  int status = 0;
  for (;;) {
    pollfd p{fd, POLLIN, 0};
    if (fd >= 0 && every && ::poll(&p, 1, static_cast<int>(interval * 1000)) == 0) {
      every();
      continue;
    }
    if (::waitpid(child, &status, 0) == child || errno != EINTR) break;
  }
  if (fd >= 0) ::close(fd);
  if (feeder.joinable()) feeder.join();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Result<Json> objects(Coord& c, const std::string& sql, const std::vector<std::string>& columns,
                     const Coord::Arguments& arguments) {
  INDRA_LET(const auto rows, c.select(sql, arguments));
  Json all = Json::array();
  for (const Json& row : rows) {
    Json o = Json::object();
    for (std::size_t i = 0; i < columns.size(); ++i)
      o[columns[i]] = row[i].is_string() ? name_to_json(row[i].get_ref<const std::string&>()) : row[i];
    all.push_back(std::move(o));
  }
  return all;
}

}  // namespace indra::cli
