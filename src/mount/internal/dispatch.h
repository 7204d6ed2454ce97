// The wire: decodes a request, calls the adapter, encodes and sends the answer.
//
// Threads:  handle() may be called from any thread, each with a buffer of its own.
// Errors:   this is the one place that turns an Error or an exception into an errno on the wire.
#pragma once
#include <array>
#include <atomic>
#include <deque>

#include "base/sync.h"
#include "mount/adapter.h"
#include "mount/internal/wire.h"
#include "mount/transport.h"

namespace indra {

/// Requests by opcode, and what became of them.
struct Counters {
  std::array<std::atomic<std::uint64_t>, wire::kOpCount> requests{};
  std::atomic<std::uint64_t> errors{0}, exceptions{0}, undelivered{0};
};
[[nodiscard]] std::string_view opcode_name(std::uint32_t opcode) noexcept;

class Dispatcher {
 public:
  Dispatcher(Connection& connection, Adapter& adapter) : connection_{connection}, adapter_{adapter} {}
  void handle(Buffer& buffer, std::size_t size);
  /// Whether the request in `buffer` is of a kind that may wait for a disk.
  [[nodiscard]] static bool slow(Buffer& buffer) noexcept;
  [[nodiscard]] const Counters& counters() const noexcept { return counters_; }

 private:
  struct Request;
  void run(Request&);
  [[nodiscard]] bool replay(Request&);
  void lookup(Request&);
  void forget(Request&);
  void attributes(Request&);
  void setattr(Request&);
  void statx(Request&);
  void make(Request&);
  void rename(Request&);
  void open(Request&);
  void create(Request&);
  void read(Request&);
  void list(Request&);
  void xattr(Request&);
  void data(Request&);
  void locks(Request&);
  void granted(std::uint64_t unique);
  void interrupt(Request&) INDRA_EXCLUDES(interrupts_mutex_);

  int ok(Request&, std::span<const iovec> body = {});
  void error(Request&, int);
  void send_entry(Request&, const Entry&);
  void send_attr(Request&, const AttrReply&);
  void send_open(Request&, const OpenReply&, int flags);
  void answer(Request& r, const Result<void>& done);

  Connection& connection_;
  Adapter& adapter_;
  Counters counters_;
  // Interrupts that came before the request they mean, which another worker holds. The kernel never uses a
  // number twice, so the oldest may be forgotten.
  Mutex interrupts_mutex_;
  std::deque<std::uint64_t> interrupts_ INDRA_GUARDED_BY(interrupts_mutex_);
};

}  // namespace indra
