// A two-way line of messages: over a socket to a daemon, or between two threads of one process.
//
// Threads:  send() from any thread, receive() from one at a time; both may run at once.
// Errors:   EPIPE when the other side is gone, EPROTO for malformed bytes.
#pragma once
#include <memory>
#include <optional>
#include <utility>

#include "daemon/wire.h"

namespace indra {

class Channel {
 public:
  virtual ~Channel() = default;
  /// Waits while the other side is behind.
  [[nodiscard]] virtual Result<void> send(Message) = 0;
  /// Waits for a message; nothing when the other side closed.
  [[nodiscard]] virtual Result<std::optional<Message>> receive() = 0;
  /// No more messages either way: wakes whoever waits, here and there.
  virtual void close() = 0;
};

/// Owns `fd`, a connected stream socket.
[[nodiscard]] std::unique_ptr<Channel> socket_channel(int fd);
/// Two ends of one line in memory; a side that is ahead waits.
[[nodiscard]] std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> local_channels();

}  // namespace indra
