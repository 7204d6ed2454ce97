// How a command reaches a vault: through its daemon when one runs, else by opening it in this process.
// Either way the same Service answers.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "daemon/service.h"

namespace indra {

class Client {
 public:
  struct Options {
    std::string vault;
    bool create = false;
    bool single_file = false;  ///< with create
    std::string player;        ///< when given, the vault must be this player's
    int wait_seconds = 10;     ///< while another process holds the vault
    std::function<void(const std::string&)>
        waiting;  ///< told once, when it takes more than a moment, with the reason
  };
  /// Errors: those of FileSystem::open; EPERM for another player's vault.
  [[nodiscard]] static Result<std::unique_ptr<Client>> reach(const Options&);
  /// Only a daemon: ENOENT or ECONNREFUSED when none runs.
  [[nodiscard]] static Result<std::unique_ptr<Client>> daemon(const std::string& vault);
  ~Client();

  [[nodiscard]] bool is_daemon() const { return fs_ == nullptr; }
  /// The line to the service; requests go one after another.
  [[nodiscard]] Channel& line() { return *line_; }
  using OnMessage = std::function<Result<void>(Message)>;
  /// Sends a request, hands what comes to `on` (may be null), and returns the `end` message's head.
  [[nodiscard]] Result<Json> call(const Json& request, const OnMessage& on = nullptr);
  /// The second half of call(), for requests that send items after their request.
  [[nodiscard]] Result<Json> finish(const OnMessage& on);
  /// After an answer that announced the daemon's end: waits until everything is committed.
  [[nodiscard]] Result<void> wait_committed();

 private:
  Client() = default;
  std::string vault_;
  std::unique_ptr<FileSystem> fs_;  // of this process; null with a daemon
  std::unique_ptr<Service> service_;
  std::unique_ptr<Channel> line_, far_;
  std::thread thread_;
};

}  // namespace indra
