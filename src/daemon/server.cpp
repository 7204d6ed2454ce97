#include "daemon/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/log.h"
#include "base/owned.h"

namespace indra {
namespace {

/// A socket address for VAULT/control.sock that fits however long the vault's path is: by the directory's
/// descriptor.
class Address {
 public:
  explicit Address(const std::string& vault) : dir_{::open(vault.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)} {
    if (dir_ < 0) error_ = errno;
    at.sun_family = AF_UNIX;
    const std::string path = "/proc/self/fd/" + std::to_string(dir_) + "/control.sock";
    path.copy(at.sun_path, sizeof at.sun_path - 1);
  }
  ~Address() {
    if (dir_ >= 0) ::close(dir_);
  }
  Address(const Address&) = delete;
  Address& operator=(const Address&) = delete;
  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] int dir() const { return dir_; }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&at); }

 private:
  sockaddr_un at{};
  int dir_, error_ = 0;
};

}  // namespace

Result<std::unique_ptr<Channel>> connect_daemon(const std::string& vault) {
  const Address address{vault};
  if (address.error() != 0) return fail(address.error(), vault);
  struct stat dir {
  }, socket{};
  if (::stat(vault.c_str(), &dir) != 0) return fail(errno, vault);
  if (::lstat((vault + "/control.sock").c_str(), &socket) == 0 && S_ISLNK(socket.st_mode))
    return fail(ELOOP, vault + "/control.sock is a symbolic link, which no file of a vault is; remove it");
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(errno, "control socket");
  if (::connect(fd, address.get(), sizeof(sockaddr_un)) != 0) {
    const int err = errno;
    ::close(fd);
    return fail(err, vault + "/control.sock");
  }
  // Who answers is the vault's user, ourselves or root: nobody else is told anything.
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
      (peer.uid != ::geteuid() && peer.uid != 0 && peer.uid != dir.st_uid)) {
    ::close(fd);
    return fail(EPERM, vault + "/control.sock is another user's; remove it");
  }
  return socket_channel(fd);
}

Result<std::unique_ptr<Server>> Server::open(const std::string& vault, Service& service) {
  const std::string path = vault + "/control.sock";
  const Address address{vault};
  if (address.error() != 0) return fail(address.error(), vault);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fail(errno, path);
  ::unlink(path.c_str());  // this process owns the vault's lock: a socket that is there is a dead one's
  struct stat st {};
  const auto bound = [&] {
    const AsOwnerOf owner{address.dir()};
    return ::bind(fd, address.get(), sizeof(sockaddr_un)) == 0;
  };
  if (::fstat(address.dir(), &st) != 0 || ::fchmod(fd, 0600) != 0 || !bound() || ::listen(fd, 64) != 0) {
    const int err = errno;
    ::close(fd);
    return fail(err, path);
  }
  return std::unique_ptr<Server>{new Server{path, fd, st.st_uid, service}};
}

Server::Server(std::string path, int listener, uid_t owner, Service& service)
    : path_{std::move(path)},
      owner_{owner},
      service_{service},
      listener_{listener},
      wake_{::eventfd(0, EFD_CLOEXEC)},
      thread_{[this] { accept_all(); }} {}

Server::~Server() {
  stop(true);
  farewell();
  ::close(wake_);
}

void Server::accept_all() {
  for (;;) {
    std::array<pollfd, 2> p{pollfd{listener_, POLLIN, 0}, pollfd{wake_, POLLIN, 0}};
    if (::poll(p.data(), p.size(), -1) < 0 && errno != EINTR) return;
    if (stopping_) return;
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE) ::usleep(100'000);
      continue;
    }
    ucred peer{};
    socklen_t size = sizeof peer;
    auto channel = socket_channel(fd);
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
        (peer.uid != ::geteuid() && peer.uid != owner_ && peer.uid != 0)) {
      (void)channel->send(
          error_message({std::make_error_code(std::errc::operation_not_permitted), "control socket"}));
      continue;
    }
    sweep();
    const std::lock_guard lock{mutex_};
    const auto too_many = error_message(
        {std::make_error_code(std::errc::device_or_resource_busy), "too many commands at once"});
    if (clients_.size() >= kMaxConnections) {
      (void)channel->send(too_many);
      continue;
    }
    Client& c = clients_.emplace_back();
    c.channel = std::move(channel);
    c.caller = {peer.uid, peer.gid, peer.pid};
    c.fd = fd;
    try {
      c.thread = std::thread{[this, &c] { serve(c); }};
    } catch (const std::system_error&) {  // no more threads to be had: the mounts go on
      (void)c.channel->send(too_many);
      clients_.pop_back();
    }
  }
}

void Server::serve(Client& c) {
  for (;;) {
    auto m = c.channel->receive();
    if (!m) {
      (void)c.channel->send(error_message(m.error()));
      break;
    }
    if (!*m) break;
    if ((*m)->type != FrameType::json) continue;  // the rest of items whose request failed
    {
      const std::lock_guard lock{mutex_};
      c.busy = true;
    }
    const auto done = service_.run((*m)->head, c.caller, *c.channel);
    {
      const std::lock_guard lock{mutex_};
      c.busy = false;
    }
    idle_.notify_all();
    if (!done) break;
  }
  const std::lock_guard lock{mutex_};
  if (!stopping_) c.channel->close();
  c.gone = true;
}

void Server::sweep() {
  std::list<Client> dead;
  {
    const std::lock_guard lock{mutex_};
    for (auto it = clients_.begin(); it != clients_.end();) {
      const auto next = std::next(it);
      if (it->gone) dead.splice(dead.end(), clients_, it);
      it = next;
    }
  }
  for (Client& c : dead) c.thread.join();
}

void Server::stop(bool now) {
  if (!stopping_.exchange(true)) {
    (void)::eventfd_write(wake_, 1);
    thread_.join();
    ::close(listener_);
    ::unlink(path_.c_str());
  }
  std::unique_lock lock{mutex_};
  if (!now)
    idle_.wait(lock, [&] {
      for (const Client& c : clients_)
        if (c.busy) return false;
      return true;
    });
  for (Client& c : clients_) ::shutdown(c.fd, now && c.busy ? SHUT_RDWR : SHUT_RD);
  lock.unlock();
  for (Client& c : clients_)
    if (c.thread.joinable()) c.thread.join();
}

void Server::farewell() {
  for (Client& c : clients_) {
    Message m;
    m.head = {{"committed", true}};
    (void)c.channel->send(std::move(m));
    c.channel->close();
  }
  clients_.clear();
}

}  // namespace indra
