// Locks that carry Clang's thread-safety attributes (the standard ones do not).
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <shared_mutex>
#include <thread>

#if defined(__clang__)
#define INDRA_ATTR(x) __attribute__((x))
#else
#define INDRA_ATTR(x)
#endif
#define INDRA_GUARDED_BY(m) INDRA_ATTR(guarded_by(m))
#define INDRA_REQUIRES(...) INDRA_ATTR(requires_capability(__VA_ARGS__))
#define INDRA_REQUIRES_SHARED(...) INDRA_ATTR(requires_shared_capability(__VA_ARGS__))
#define INDRA_EXCLUDES(...) INDRA_ATTR(locks_excluded(__VA_ARGS__))
#define INDRA_NO_ANALYSIS INDRA_ATTR(no_thread_safety_analysis)

namespace indra {

class INDRA_ATTR(capability("mutex")) Mutex {
 public:
  void lock() INDRA_ATTR(acquire_capability()) { m_.lock(); }
  void unlock() INDRA_ATTR(release_capability()) { m_.unlock(); }
  bool try_lock() INDRA_ATTR(try_acquire_capability(true)) { return m_.try_lock(); }
  std::mutex& native() { return m_; }

 private:
  std::mutex m_;
};

class INDRA_ATTR(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& m) INDRA_ATTR(acquire_capability(m)) : m_{m} { m_.lock(); }
  ~MutexLock() INDRA_ATTR(release_capability()) { m_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& m_;
};

class INDRA_ATTR(capability("mutex")) SharedMutex {
 public:
  void lock() INDRA_ATTR(acquire_capability()) { m_.lock(); }
  void unlock() INDRA_ATTR(release_capability()) { m_.unlock(); }
  void lock_shared() INDRA_ATTR(acquire_shared_capability()) { m_.lock_shared(); }
  void unlock_shared() INDRA_ATTR(release_shared_capability()) { m_.unlock_shared(); }

 private:
  std::shared_mutex m_;
};

class INDRA_ATTR(scoped_lockable) WriteLock {
 public:
  explicit WriteLock(SharedMutex& m) INDRA_ATTR(acquire_capability(m)) : m_{m} { m_.lock(); }
  ~WriteLock() INDRA_ATTR(release_capability()) { m_.unlock(); }
  WriteLock(const WriteLock&) = delete;
  WriteLock& operator=(const WriteLock&) = delete;

 private:
  SharedMutex& m_;
};

class INDRA_ATTR(scoped_lockable) ReadLock {
 public:
  explicit ReadLock(SharedMutex& m) INDRA_ATTR(acquire_shared_capability(m)) : m_{m} { m_.lock_shared(); }
  ~ReadLock() INDRA_ATTR(release_capability()) { m_.unlock_shared(); }
  ReadLock(const ReadLock&) = delete;
  ReadLock& operator=(const ReadLock&) = delete;

 private:
  SharedMutex& m_;
};

/// Who serves others (a mount's worker) hears that its thread is about to do something that takes a while,
/// such as waiting for a disk: somebody else can take its place meanwhile.
class Absence {
 public:
  using Told = void (*)(void* whom);
  static void tell(Told told, void* whom) noexcept {
    told_ = told;
    whom_ = whom;
  }
  static void begins() {
    if (told_ != nullptr) told_(whom_);
  }

 private:
  static inline thread_local Told told_ = nullptr;
  static inline thread_local void* whom_ = nullptr;
};

/// A mutex for critical sections of some microseconds that nobody waits for long: whoever runs may take it
/// when it is free, since waking a sleeper costs more than such a section; but when the first in the queue
/// has not got it after some 20 us, nobody goes before it any more. But for those in a hurry, whose sections
/// are short: they pass the queue, and wait for whoever has the mutex, and for each other; a few of them,
/// then the queue has its turn.
class INDRA_ATTR(capability("mutex")) FairMutex {
 public:
  void lock() INDRA_ATTR(acquire_capability()) {
    if (!held_back_.load(std::memory_order_relaxed) && ask(gate_)) return;
    turn_.lock();
    if (!ask(gate_)) {
      held_back_.store(true, std::memory_order_relaxed);
      gate_.lock();
      passed_.store(0, std::memory_order_relaxed);
      held_back_.store(false, std::memory_order_relaxed);
    }
    turn_.unlock();
  }
  void lock_in_a_hurry() INDRA_ATTR(acquire_capability()) INDRA_NO_ANALYSIS {
    if (held_back_.load(std::memory_order_relaxed) &&
        passed_.fetch_add(1, std::memory_order_relaxed) >= kPass)
      return lock();
    if (gate_.try_lock()) return;
    hurried_.fetch_add(1, std::memory_order_relaxed);
    if (!ask(gate_, true)) gate_.lock();
    hurried_.fetch_sub(1, std::memory_order_relaxed);
  }
  void unlock() INDRA_ATTR(release_capability()) { gate_.unlock(); }

 private:
  bool ask(std::mutex& m, bool hurried = false) {
    static const int often = std::thread::hardware_concurrency() > 1 ? 200 : 1;  // some 20 us
    for (int i = 0; i < often; ++i) {
      if ((hurried || hurried_.load(std::memory_order_relaxed) == 0) && m.try_lock()) return true;
      for (int k = 0; k < 8; ++k) relax();
    }
    return false;
  }
  static void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
  std::mutex turn_, gate_;
  std::atomic<bool> held_back_{false};
  static constexpr int kPass = 8;
  std::atomic<int> hurried_{0};  // they wait for gate_
  std::atomic<int> passed_{0};   // since the first in the queue has been waiting
};

class INDRA_ATTR(scoped_lockable) FairLock {
 public:
  explicit FairLock(FairMutex& m) INDRA_ATTR(acquire_capability(m)) : m_{m} { m_.lock(); }
  ~FairLock() INDRA_ATTR(release_capability()) { m_.unlock(); }
  FairLock(const FairLock&) = delete;
  FairLock& operator=(const FairLock&) = delete;

 private:
  FairMutex& m_;
};

class INDRA_ATTR(scoped_lockable) HurriedLock {
 public:
  explicit HurriedLock(FairMutex& m) INDRA_ATTR(acquire_capability(m)) : m_{m} { m_.lock_in_a_hurry(); }
  ~HurriedLock() INDRA_ATTR(release_capability()) { m_.unlock(); }
  HurriedLock(const HurriedLock&) = delete;
  HurriedLock& operator=(const HurriedLock&) = delete;

 private:
  FairMutex& m_;
};

}  // namespace indra
