// Tells the kernel what changed behind its back. One thread, holding no lock while it tells.
//
// Threads:  every member may be called from any thread; none of them waits for the kernel.
// Source:   docs/design/mount.md, M5 to M8.
#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "base/sync.h"
#include "mount/internal/known_nodes.h"
#include "mount/transport.h"

namespace indra {

/// How often something changed that the kernel may hold, by key. Read before a reply is computed, compared
/// when it is sent and again after: a reply that a change overtook must not stay cached.
class ChangeCounters {
 public:
  using Counter = std::atomic<std::uint64_t>;
  [[nodiscard]] const Counter& of(std::uint64_t node) const noexcept { return shards_[index(node)]; }
  [[nodiscard]] const Counter& any() const noexcept { return any_; }
  void bump(std::uint64_t node) noexcept {
    shards_[index(node)].fetch_add(1, std::memory_order_seq_cst);
    any_.fetch_add(1, std::memory_order_seq_cst);
  }

 private:
  static std::size_t index(std::uint64_t node) noexcept { return (node * 0x9E3779B97F4A7C15ull) >> 54; }
  std::array<Counter, 1024> shards_{};
  Counter any_{0};
};

class Notifier {
 public:
  /// Beyond `limit` waiting items everything known is invalidated instead.
  Notifier(Connection& connection, const KnownNodes& known, std::size_t limit)
      : connection_{connection}, known_{known}, limit_{limit} {}
  ~Notifier() { stop(); }
  void start();
  void stop() INDRA_EXCLUDES(mutex_);  ///< forgets what waits

  void attributes(std::uint64_t node) { push({Item::Kind::attributes, node, 0, {}}); }
  void data(std::uint64_t node) { push({Item::Kind::data, node, 0, {}}); }
  /// `node`: what the name meant, 0 if nothing.
  void entry(std::uint64_t parent, std::string_view name, std::uint64_t node) {
    push({Item::Kind::entry, node, parent, std::string{name}});
  }
  [[nodiscard]] std::uint64_t sent() const noexcept { return sent_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t overflows() const noexcept {
    return overflows_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::size_t waiting() const INDRA_EXCLUDES(mutex_);
  /// Runs `then` once the kernel knows what was pushed before the call: at once in this thread, or later in
  /// the notifier's. It sends an answer or enqueues, nothing else. Forgotten when the mount ends first.
  void after(std::function<void()> then) INDRA_EXCLUDES(mutex_);
  /// Returns once the kernel knows what was pushed before the call; false when that takes longer than
  /// `limit`.
  [[nodiscard]] bool caught_up(std::chrono::milliseconds limit) INDRA_EXCLUDES(mutex_);
  /// How much there was to tell so far.
  [[nodiscard]] std::uint64_t pushed() const INDRA_EXCLUDES(mutex_);
  /// Returns once the kernel was told so much; false when this ends first, or `wanted` is false after wake().
  [[nodiscard]] bool wait_until_told(std::uint64_t upto, const std::atomic<bool>& wanted)
      INDRA_EXCLUDES(mutex_);
  void wake() INDRA_EXCLUDES(mutex_);

 private:
  struct Item {
    enum class Kind { attributes, data, entry } kind;
    std::uint64_t node, parent;
    std::string name;
  };
  void push(Item item) INDRA_EXCLUDES(mutex_);
  void run() INDRA_EXCLUDES(mutex_);
  void tell(const Item&);
  void tell_inode(std::uint64_t node, bool data);
  void tell_everything();

  Connection& connection_;
  const KnownNodes& known_;
  const std::size_t limit_;
  mutable Mutex mutex_;
  std::condition_variable_any wake_, told_;
  std::deque<Item> items_ INDRA_GUARDED_BY(mutex_);
  std::deque<std::pair<std::uint64_t, std::function<void()>>> owed_
      INDRA_GUARDED_BY(mutex_);                        // after how many
  std::uint64_t pushed_ INDRA_GUARDED_BY(mutex_) = 0;  // items, ever
  std::uint64_t done_ INDRA_GUARDED_BY(mutex_) = 0;    // of them the kernel was told
  bool everything_ INDRA_GUARDED_BY(mutex_) = false;
  bool stopping_ INDRA_GUARDED_BY(mutex_) = false;
  std::atomic<std::uint64_t> sent_{0}, overflows_{0};
  std::thread thread_;
};

}  // namespace indra
