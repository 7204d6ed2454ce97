// Locks that carry Clang's thread-safety attributes (the standard ones do not).
#pragma once
#include <condition_variable>
#include <mutex>
#include <shared_mutex>

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

/// A mutex with a queue: whoever waits goes before whoever locks again at once.
class INDRA_ATTR(capability("mutex")) FairMutex {
 public:
  void lock() INDRA_ATTR(acquire_capability()) {
    turn_.lock();
    gate_.lock();
    turn_.unlock();
  }
  void unlock() INDRA_ATTR(release_capability()) { gate_.unlock(); }

 private:
  std::mutex turn_, gate_;
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

}  // namespace indra
