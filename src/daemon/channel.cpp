#include "daemon/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <vector>

namespace indra {
namespace {

class SocketChannel final : public Channel {
 public:
  explicit SocketChannel(int fd) : fd_{fd}, chunk_(256 << 10) {}
  ~SocketChannel() override { ::close(fd_); }

  Result<void> send(Message m) override {
    INDRA_LET(std::string prefix, encode_prefix(m));
    const std::lock_guard lock{send_mutex_};
    std::array<iovec, 2> parts{iovec{prefix.data(), prefix.size()}, iovec{m.body.data(), m.body.size()}};
    std::size_t first = 0;
    while (first < parts.size()) {
      if (parts[first].iov_len == 0) {
        ++first;
        continue;
      }
      msghdr h{};
      h.msg_iov = &parts[first];
      h.msg_iovlen = parts.size() - first;
      const ssize_t n = ::sendmsg(fd_, &h, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail(errno == ECONNRESET ? EPIPE : errno, "control socket");
      auto left = static_cast<std::size_t>(n);
      while (left > 0) {
        const std::size_t take = std::min(left, parts[first].iov_len);
        parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + take;
        parts[first].iov_len -= take;
        left -= take;
        if (parts[first].iov_len == 0) ++first;
      }
    }
    return {};
  }

  Result<std::optional<Message>> receive() override {
    for (;;) {
      INDRA_LET(auto m, reader_.next());
      if (m) return m;
      const ssize_t n = ::recv(fd_, chunk_.data(), chunk_.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno != ECONNRESET) return fail(errno, "control socket");
      if (n <= 0) {
        if (!reader_.empty()) return fail(EPIPE, "control socket");
        return std::nullopt;
      }
      reader_.feed(ByteView{chunk_}.first(static_cast<std::size_t>(n)));
    }
  }

  void close() override { ::shutdown(fd_, SHUT_RDWR); }

 private:
  const int fd_;
  Bytes chunk_;
  FrameReader reader_;
  std::mutex send_mutex_;
};

/// One direction of a local line.
class Pipe {
 public:
  Result<void> push(Message m) {
    std::unique_lock lock{mutex_};
    room_.wait(lock, [&] { return closed_ || bytes_ < kLimit; });
    if (closed_) return fail(EPIPE);
    bytes_ += cost(m);
    queue_.push_back(std::move(m));
    lock.unlock();
    filled_.notify_one();
    return {};
  }
  std::optional<Message> pop() {
    std::unique_lock lock{mutex_};
    filled_.wait(lock, [&] { return closed_ || !queue_.empty(); });
    if (queue_.empty()) return std::nullopt;
    Message m = std::move(queue_.front());
    queue_.pop_front();
    bytes_ -= cost(m);
    lock.unlock();
    room_.notify_one();
    return m;
  }
  void close() {
    {
      const std::lock_guard lock{mutex_};
      closed_ = true;
    }
    room_.notify_all();
    filled_.notify_all();
  }

 private:
  static constexpr std::size_t kLimit = 8 << 20;
  static std::size_t cost(const Message& m) { return m.body.size() + 1024; }
  std::mutex mutex_;
  std::condition_variable room_, filled_;
  std::deque<Message> queue_;
  std::size_t bytes_ = 0;
  bool closed_ = false;
};

class LocalChannel final : public Channel {
 public:
  LocalChannel(std::shared_ptr<Pipe> out, std::shared_ptr<Pipe> in)
      : out_{std::move(out)}, in_{std::move(in)} {}
  ~LocalChannel() override { close(); }
  Result<void> send(Message m) override { return out_->push(std::move(m)); }
  Result<std::optional<Message>> receive() override { return in_->pop(); }
  void close() override {
    out_->close();
    in_->close();
  }

 private:
  std::shared_ptr<Pipe> out_, in_;
};

}  // namespace

std::unique_ptr<Channel> socket_channel(int fd) { return std::make_unique<SocketChannel>(fd); }

std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> local_channels() {
  auto a = std::make_shared<Pipe>(), b = std::make_shared<Pipe>();
  return {std::make_unique<LocalChannel>(a, b), std::make_unique<LocalChannel>(b, a)};
}

}  // namespace indra
