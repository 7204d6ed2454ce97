#include "mount/internal/notifier.h"

#include <cerrno>
#include <utility>
#include <vector>

#include "base/log.h"
#include "mount/layout.h"

namespace indra {

void Notifier::start() {
  thread_ = std::thread{[this] { run(); }};
}

void Notifier::stop() {
  {
    const MutexLock lock{mutex_};
    stopping_ = true;
  }
  wake_.notify_all();
  told_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::size_t Notifier::waiting() const {
  const MutexLock lock{mutex_};
  return items_.size();
}

bool Notifier::caught_up(std::chrono::milliseconds limit) INDRA_NO_ANALYSIS {
  std::unique_lock lock{mutex_};
  const std::uint64_t upto = pushed_;
  return told_.wait_for(lock, limit, [&]() INDRA_NO_ANALYSIS { return stopping_ || done_ >= upto; });
}

std::uint64_t Notifier::pushed() const {
  const MutexLock lock{mutex_};
  return pushed_;
}

bool Notifier::wait_until_told(std::uint64_t upto, const std::atomic<bool>& wanted) INDRA_NO_ANALYSIS {
  std::unique_lock lock{mutex_};
  told_.wait(lock, [&]() INDRA_NO_ANALYSIS { return stopping_ || !wanted || done_ >= upto; });
  return done_ >= upto;
}

void Notifier::wake() {
  const MutexLock lock{mutex_};
  told_.notify_all();
}

void Notifier::after(std::function<void()> then) {
  {
    const MutexLock lock{mutex_};
    if (stopping_) return;
    if (done_ < pushed_) {
      owed_.emplace_back(pushed_, std::move(then));
      return;
    }
  }
  then();
}

void Notifier::push(Item item) {
  bool overflowed = false;
  {
    const MutexLock lock{mutex_};
    if (stopping_) return;
    ++pushed_;
    if (everything_) return;  // what waits covers it
    if (items_.size() >= limit_) {
      items_.clear();
      everything_ = overflowed = true;
      overflows_.fetch_add(1, std::memory_order_relaxed);
    } else {
      items_.push_back(std::move(item));
    }
  }
  if (overflowed && overflows_.load(std::memory_order_relaxed) % 100 == 1)
    log::warn("more than {} changes wait to be told to the kernel: dropping its caches (time {})", limit_,
              overflows());
  wake_.notify_one();
}

void Notifier::run() INDRA_NO_ANALYSIS {
  for (;;) {
    Item item{};
    bool everything = false;
    std::uint64_t covers = 0;  // what has been told after this
    {
      mutex_.lock();
      while (!stopping_ && !everything_ && items_.empty()) wake_.wait(mutex_);
      if (stopping_) {
        mutex_.unlock();
        return;
      }
      everything = everything_;
      everything_ = false;
      covers = everything ? pushed_ : done_ + 1;
      if (!everything) {
        item = std::move(items_.front());
        items_.pop_front();
      }
      mutex_.unlock();
    }
    if (everything) {
      tell_everything();
    } else {
      tell(item);
    }
    std::vector<std::function<void()>> now;
    {
      const MutexLock lock{mutex_};
      done_ = covers;
      for (; !owed_.empty() && owed_.front().first <= done_; owed_.pop_front())
        now.push_back(std::move(owed_.front().second));
    }
    told_.notify_all();
    for (const auto& then : now) then();
  }
}

void Notifier::tell(const Item& item) {
  switch (item.kind) {
    case Item::Kind::attributes:
      tell_inode(item.node, false);
      break;
    case Item::Kind::data:
      tell_inode(item.node, true);
      break;
    case Item::Kind::entry: {
      // Entry first: it waits for lookups and readdirs of the directory that are under way, so what they
      // bring is dropped by what follows.
      const auto what = item.node != 0 ? known_.find(item.node) : std::nullopt;
      (void)connection_.notify_entry(item.parent, item.name, what && what->directory);
      sent_.fetch_add(1, std::memory_order_relaxed);
      tell_inode(item.parent, true);  // the cached listing
      if (what) tell_inode(item.node, false);
      break;
    }
  }
}

void Notifier::tell_inode(std::uint64_t node, bool data) {
  sent_.fetch_add(1, std::memory_order_relaxed);
  const std::int64_t from = data ? 0 : -1;
  if (connection_.notify_inode(node, from) != ENOENT) return;
  // The kernel does not hold it, yet has a reference: the reply that introduces it is still being taken in,
  // under its directory's lock. An entry notification waits for that lock, whatever its name.
  const auto known = known_.find(node);
  if (!known || known->parent == 0) return;
  (void)connection_.notify_entry(known->parent, "\x01", true);
  (void)connection_.notify_inode(node, from);
}

void Notifier::tell_everything() {
  if (const int e = connection_.notify_all_entries(); e != 0)
    log::warn("this kernel cannot drop all names at once (errno {}); names changed elsewhere may show late",
              e);
  (void)connection_.notify_inode(fixed_id::root, 0);  // held by the kernel without having been told of it
  for (const std::uint64_t node : known_.all()) {
    if (connection_.ended()) return;
    sent_.fetch_add(1, std::memory_order_relaxed);
    (void)connection_.notify_inode(node, 0);
  }
}

}  // namespace indra
