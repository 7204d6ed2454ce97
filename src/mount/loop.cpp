#include "mount/internal/loop.h"

#include <algorithm>

namespace indra {
namespace {
constexpr int kExtraIdleMs = 5000;  // an extra worker that finds nothing for this long goes

unsigned base_workers(const MountOptions& o) {
  if (o.workers != 0) return o.workers;
  return std::thread::hardware_concurrency() > 1 ? 2 : 1;
}
}  // namespace

Loop::Loop(Connection& connection, Dispatcher& dispatcher, const MountOptions& options)
    : connection_{connection},
      dispatcher_{dispatcher},
      base_{base_workers(options)},
      most_{std::max(options.max_workers, base_)},
      spin_{options.spin} {}

void Loop::start() {
  for (unsigned i = 0; i < base_; ++i) add(false);
}

void Loop::add(bool extra) {
  const MutexLock lock{mutex_};
  ++running_;
  threads_.emplace_back([this, extra] { work(extra); });
}

void Loop::join() {
  for (;;) {
    std::vector<std::thread> some;
    {
      const MutexLock lock{mutex_};
      some.swap(threads_);
    }
    if (some.empty()) return;
    for (std::thread& t : some) t.join();
  }
}

void Loop::work(bool extra) {
  Buffer buffer;
  TimeNs last = system_clock().steady();
  for (;;) {
    std::size_t size = 0;
    switch (connection_.receive(buffer.request(), size)) {
      case Connection::Received::ended:
        --running_;
        return;
      case Connection::Received::request: {
        // Somebody must stay to read on while this one may wait for a disk.
        if (++busy_ >= running_ && running_ < most_ && Dispatcher::slow(buffer)) add(true);
        dispatcher_.handle(buffer, size);
        --busy_;
        last = system_clock().steady();
        break;
      }
      case Connection::Received::nothing:
        if (system_clock().steady() - last < spin_) break;
        connection_.wait(extra ? kExtraIdleMs : -1);
        if (extra && !connection_.request_waits() && system_clock().steady() - last > TimeNs{kExtraIdleMs} * 1'000'000) {
          --running_;
          return;
        }
        break;
    }
  }
}

}  // namespace indra
