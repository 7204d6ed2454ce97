#include "mount/internal/loop.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <unordered_map>

#include "base/log.h"

namespace indra {
namespace {

using namespace std::chrono_literals;
constexpr auto kParked = 5s;              // an extra worker that nobody needs for this long ends
constexpr auto kTick = 1ms;               // an operation seen in two looks is one that waits
constexpr int kQuietTicks = 50;           // the supervisor sleeps after so many looks at nothing
constexpr std::size_t kLong = 128 << 10;  // bytes of a request that takes a while
constexpr unsigned kBase = 1;             // workers that serve when little comes
constexpr unsigned kQueue = 8;            // so many requests without a pause: another worker helps
constexpr TimeNs kBeside = 30'000;        // a worker that finds nothing beside another goes after this long

unsigned crew(const MountOptions& o) {
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  return std::min(o.workers != 0 ? o.workers : 3U, cores);
}

}  // namespace

Loop::Loop(Connection& connection, Dispatcher& dispatcher, const MountOptions& options)
    : connection_{connection},
      dispatcher_{dispatcher},
      crew_{crew(options)},
      most_{std::max(options.max_workers, crew_ + 1)},
      spin_{std::thread::hardware_concurrency() > 1 ? options.spin : 0} {}

void Loop::start() {
  const MutexLock lock{mutex_};
  for (unsigned i = 0; i < kBase; ++i) add();
  supervisor_ = std::thread{[this] { supervise(); }};
}

void Loop::add() {
  for (auto it = workers_.begin(); it != workers_.end();) {  // those that ended meanwhile
    if (it->done) {
      it->thread.join();
      it = workers_.erase(it);
    } else {
      ++it;
    }
  }
  workers_.emplace_back();
  Worker& w = workers_.back();
  ++serving_;
  running_.fetch_add(1, std::memory_order_relaxed);
  w.thread = std::thread{[this, &w] { work(w); }};
}

void Loop::join() INDRA_NO_ANALYSIS {
  mutex_.lock();
  while (!ended_ || running_.load() != 0) done_cv_.wait(mutex_);
  mutex_.unlock();
  supervisor_.join();
  for (Worker& w : workers_) w.thread.join();  // nobody adds any more
  workers_.clear();
}

void Loop::work(Worker& w) {
  Here here{*this, w};
  Absence::tell(
      [](void* me) {
        const Here& h = *static_cast<Here*>(me);
        if (const std::uint64_t turn = h.worker.turns.load(); turn % 2 != 0) h.loop.leave(h.worker, turn);
      },
      &here);
  {
    Buffer buffer;
    while (serve(w, buffer) && park()) {
    }
  }
  const MutexLock lock{mutex_};
  w.done = true;
  running_.fetch_sub(1, std::memory_order_relaxed);
  done_cv_.notify_all();
}

bool Loop::serve(Worker& w, Buffer& buffer) {
  TimeNs last = system_clock().steady();
  unsigned row = 0;
  asking_.fetch_add(1, std::memory_order_relaxed);
  for (;;) {
    std::size_t size = 0;
    switch (connection_.receive(buffer.request(), size)) {
      case Connection::Received::ended: {
        const MutexLock lock{mutex_};
        ended_ = true;
        parked_cv_.notify_all();
        supervisor_cv_.notify_all();
        return false;
      }
      case Connection::Received::request: {
        const bool last_asker = asking_.fetch_sub(1, std::memory_order_relaxed) == 1;
        const std::uint64_t turn = w.turns.fetch_add(1, std::memory_order_relaxed) + 1;
        if (Dispatcher::slow(buffer))
          leave(w, turn);
        else if (!watched_.load(std::memory_order_relaxed)) [[unlikely]]
          watch();
        if (++row % kQueue == 0 || (last_asker && size >= kLong)) help();
        dispatcher_.handle(buffer, size);
        w.turns.fetch_add(1, std::memory_order_relaxed);
        if (w.away.load(std::memory_order_relaxed) && !come_back(w)) return true;
        asking_.fetch_add(1, std::memory_order_relaxed);
        last = system_clock().steady();
        break;
      }
      case Connection::Received::nothing: {
        row = 0;
        const TimeNs idle = system_clock().steady() - last;
        if (idle >= kBeside && step_aside()) return true;
        if (idle >= spin_)
          connection_.wait(-1);
        else
          ::sched_yield();  // to the caller that was just answered, if it waits for this core
        break;
      }
    }
  }
}

bool Loop::park() INDRA_NO_ANALYSIS {
  mutex_.lock();
  ++parked_;
  const auto until = std::chrono::steady_clock::now() + kParked;
  while (called_ == 0 && !ended_ && parked_cv_.wait_until(mutex_, until) != std::cv_status::timeout) {
  }
  --parked_;
  const bool go_on = called_ > 0 && !ended_;
  if (go_on) {
    --called_;
    ++serving_;
  }
  mutex_.unlock();
  return go_on;
}

void Loop::leave(Worker& w, std::uint64_t turn) {
  const MutexLock lock{mutex_};
  if (w.away.load() || w.turns.load() != turn) return;
  w.away.store(true);
  --serving_;
  if (serving_ == 0) replace();
}

bool Loop::come_back(Worker& w) {
  const MutexLock lock{mutex_};
  w.away.store(false);
  if (serving_ >= kBase && !ended_) return false;
  ++serving_;
  return true;
}

void Loop::help() {
  const MutexLock lock{mutex_};
  if (serving_ + called_ < crew_) replace();
}

bool Loop::step_aside() {
  unsigned n = asking_.load(std::memory_order_relaxed);
  do {
    if (n < 2) return false;
  } while (!asking_.compare_exchange_weak(n, n - 1, std::memory_order_relaxed));
  const MutexLock lock{mutex_};
  --serving_;
  return true;
}

void Loop::replace() {
  if (ended_) return;
  if (called_ < parked_) {
    ++called_;
    parked_cv_.notify_one();
  } else if (running_.load(std::memory_order_relaxed) < most_) {
    try {
      add();
    } catch (const std::system_error& e) {
      workers_.pop_back();
      --serving_;
      running_.fetch_sub(1, std::memory_order_relaxed);
      log::warn("no more threads to be had: {}", e.what());
    }
  }
}

void Loop::watch() {
  const MutexLock lock{mutex_};
  watched_.store(true, std::memory_order_relaxed);
  supervisor_cv_.notify_one();
}

void Loop::supervise() INDRA_NO_ANALYSIS {
  std::unordered_map<const Worker*, std::uint64_t> seen;
  std::uint64_t total = 0;
  int quiet = 0;
  mutex_.lock();
  while (!ended_) {
    if (!watched_.load(std::memory_order_relaxed)) {
      seen.clear();
      quiet = 0;
      supervisor_cv_.wait(mutex_);
      continue;
    }
    supervisor_cv_.wait_for(mutex_, kTick);
    std::uint64_t sum = 0;
    bool inside = false;
    for (Worker& w : workers_) {
      const std::uint64_t turn = w.turns.load(std::memory_order_relaxed);
      sum += turn;
      if (turn % 2 == 0 || w.away.load(std::memory_order_relaxed)) continue;
      inside = true;
      if (const auto it = seen.find(&w); it != seen.end() && it->second == turn) {
        w.away.store(true);
        --serving_;
      }
      seen[&w] = turn;
    }
    while (serving_ + called_ < kBase && !ended_) {
      const unsigned before = serving_ + called_;
      replace();
      if (serving_ + called_ == before) break;
    }
    quiet = inside || sum != total ? 0 : quiet + 1;
    total = sum;
    if (quiet >= kQuietTicks) watched_.store(false, std::memory_order_relaxed);
  }
  mutex_.unlock();
}

}  // namespace indra
