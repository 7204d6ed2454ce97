// The workers that read requests: few, spinning for a moment after each request, asleep when nothing comes, more of
// them while operations wait for a disk.
//
// Source: docs/design/mount.md, M3, M4.
#pragma once
#include <atomic>
#include <thread>
#include <vector>

#include "base/sync.h"
#include "mount/internal/dispatch.h"

namespace indra {

class Loop {
 public:
  Loop(Connection& connection, Dispatcher& dispatcher, const MountOptions& options);
  void start();
  void join();  ///< returns when the mount has ended and every request was answered
  [[nodiscard]] unsigned workers() const noexcept { return running_.load(); }

 private:
  void work(bool extra);
  void add(bool extra) INDRA_EXCLUDES(mutex_);

  Connection& connection_;
  Dispatcher& dispatcher_;
  const unsigned base_, most_;
  const TimeNs spin_;
  std::atomic<unsigned> running_{0}, busy_{0};
  Mutex mutex_;
  std::vector<std::thread> threads_ INDRA_GUARDED_BY(mutex_);
};

}  // namespace indra
