// The workers that read requests: one that asks, spinning for a moment after each request and asleep when
// nothing comes; others while requests queue up, or while operations wait for a disk.
//
// A worker is away while its operation is of a kind that waits for a disk, or has lasted some milliseconds.
// When all are away another takes over. One that comes back and is not needed, and one that finds nothing to
// do beside another that asks, parks, and ends after a while.
//
// Source: docs/design/mount.md, M3, M4.
#pragma once
#include <atomic>
#include <condition_variable>
#include <list>
#include <thread>

#include "base/sync.h"
#include "mount/internal/dispatch.h"

namespace indra {

class Loop {
 public:
  Loop(Connection& connection, Dispatcher& dispatcher, const MountOptions& options);
  void start() INDRA_EXCLUDES(mutex_);
  void join() INDRA_EXCLUDES(mutex_);  ///< returns when the mount has ended and every request was answered
  [[nodiscard]] unsigned workers() const noexcept { return running_.load(std::memory_order_relaxed); }

 private:
  struct Worker {
    std::atomic<std::uint64_t> turns{0};  // odd: inside an operation
    std::atomic<bool> away{false};        // set under mutex_
    bool done = false;                    // under mutex_: its thread has nothing left to do
    std::thread thread;
  };
  void work(Worker&) INDRA_EXCLUDES(mutex_);
  /// Takes requests until the mount ends (false) or this worker is one too many (true).
  bool serve(Worker&, Buffer&) INDRA_EXCLUDES(mutex_);
  /// False: nobody needed this worker for a while.
  bool park() INDRA_EXCLUDES(mutex_);
  void leave(Worker&, std::uint64_t turn) INDRA_EXCLUDES(mutex_);  // it is away now
  /// As it hears itself, in an operation that has to wait.
  struct Here {
    Loop& loop;
    Worker& worker;
  };
  bool come_back(Worker&) INDRA_EXCLUDES(mutex_);  // false: park
  void help() INDRA_EXCLUDES(mutex_);              // requests queue up: one more, if there may be
  bool step_aside() INDRA_EXCLUDES(mutex_);        // true: somebody else asks, so park
  void replace() INDRA_REQUIRES(mutex_);
  void add() INDRA_REQUIRES(mutex_);
  void watch() INDRA_EXCLUDES(mutex_);
  void supervise() INDRA_EXCLUDES(mutex_);

  Connection& connection_;
  Dispatcher& dispatcher_;
  const unsigned crew_, most_;  // so many serve at the same time; with those that are away
  const TimeNs spin_;
  std::atomic<unsigned> running_{0};
  std::atomic<unsigned> asking_{0};   // serving and not inside an operation
  std::atomic<bool> watched_{false};  // the supervisor looks every few milliseconds
  Mutex mutex_;
  std::condition_variable_any parked_cv_, supervisor_cv_, done_cv_;
  std::list<Worker> workers_ INDRA_GUARDED_BY(mutex_);
  unsigned serving_ INDRA_GUARDED_BY(mutex_) = 0;  // neither away nor parked
  unsigned parked_ INDRA_GUARDED_BY(mutex_) = 0;
  unsigned called_ INDRA_GUARDED_BY(mutex_) = 0;  // parked ones that shall come out
  bool ended_ INDRA_GUARDED_BY(mutex_) = false;
  std::thread supervisor_;
};

}  // namespace indra
