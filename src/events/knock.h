// The knock: how a commit wakes whoever waits for it, in this and in other processes, without polling.
//
// A knock is a small file that all map: a counter. Whoever committed counts it up and wakes the sleepers;
// whoever waits sleeps in the kernel until the number is another than the one it saw before it looked (so no
// knock falls between looking and sleeping). A byte is written too, so that inotify(7) on the file works for
// programs that do not map it.
//
// Units:    timeouts are nanoseconds.
// Threads:  every member may be called from any thread.
// Durable:  nothing here is; what was committed is found by looking.
// Errors:   the errno of opening or mapping the file.
// Source:   docs/design/events.md (E6, E7).
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/time.h"

namespace indra {

class Knock {
 public:
  /// Makes the file (mode 0600) when it is not there.
  [[nodiscard]] static Result<std::unique_ptr<Knock>> open(const std::string& path);
  ~Knock();
  Knock(const Knock&) = delete;
  Knock& operator=(const Knock&) = delete;

  /// After the commit is visible, with no lock held. Never waits, never fails.
  void ring() noexcept;
  /// Taken before looking.
  using Ticket = std::uint32_t;
  [[nodiscard]] Ticket ticket() const noexcept;
  /// Returns when somebody knocked after `seen`, when `timeout` has passed (< 0: never), or at a signal.
  void wait(Ticket seen, TimeNs timeout) const noexcept;

 private:
  Knock(int fd, void* map) : fd_{fd}, map_{map} {}
  int fd_;
  void* map_;
};

/// The file that a commit in vault.db knocks on.
[[nodiscard]] inline std::string vault_knock(const std::string& vault) { return vault + "/knock"; }
/// The one of a database that programs coordinate in.
[[nodiscard]] inline std::string coord_knock(const std::string& db) { return db + "-knock"; }

}  // namespace indra
