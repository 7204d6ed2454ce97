// The control socket of a vault: VAULT/control.sock, mode 0600, for the vault's owner, the daemon's own user
// and root.
//
// Threads:  one for accepting, one for each connection (at most kMaxConnections).
// Errors:   open(): the errno of the socket call.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "daemon/service.h"

namespace indra {

class Server {
 public:
  static constexpr std::size_t kMaxConnections = 64;
  [[nodiscard]] static Result<std::unique_ptr<Server>> open(const std::string& vault, Service&);
  ~Server();
  /// No new connections, the socket's name removed; returns when the running requests have ended. `now`: they
  /// are cut off.
  void stop(bool now);
  /// After stop() and the last commit: tells whoever still listens, and closes.
  void farewell();

 private:
  struct Client {
    std::unique_ptr<Channel> channel;
    Caller caller;
    std::thread thread;
    bool busy = false, gone = false;  // under mutex_
    int fd = -1;
  };
  Server(std::string path, int listener, uid_t owner, Service&);
  void accept_all();
  void serve(Client&);
  void sweep();

  const std::string path_;
  const uid_t owner_;  // of the vault's directory
  Service& service_;
  int listener_, wake_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::list<Client> clients_;  // under mutex_; elements are stable
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

/// Connects to the vault's daemon. ENOENT or ECONNREFUSED when none runs.
[[nodiscard]] Result<std::unique_ptr<Channel>> connect_daemon(const std::string& vault);

}  // namespace indra
