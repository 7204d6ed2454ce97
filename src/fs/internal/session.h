// What lies between opening a file for writing and its content being published. One per (branch, node) in the
// daemon, shared by all handles of all live views.
//
// Locks: `mutex` guards the content and what is written about it below; it is taken before the writer's
// mutex, never while a shard of the session table is held. The atomics let getattr() answer without it (S3).
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/strong.h"
#include "base/sync.h"
#include "base/time.h"
#include "blob/content_store.h"
#include "tree/tree.h"

namespace indra {

struct SessionKey {
  BranchId branch;
  NodeId node;
  auto operator<=>(const SessionKey&) const = default;
};
struct SessionKeyHash {
  std::size_t operator()(const SessionKey& k) const noexcept {
    return std::hash<NodeId>{}(k.node) * 31 + std::hash<BranchId>{}(k.branch);
  }
};

struct Session {
  Session(BranchId b, NodeId n) : key{b, n} {}
  const SessionKey key;

  SharedMutex mutex;
  std::unique_ptr<Content> content INDRA_GUARDED_BY(mutex);  ///< opened with the first read or write
  BlobId private_blob INDRA_GUARDED_BY(mutex);  ///< what was persisted without being published; 0 = nothing
  Who who INDRA_GUARDED_BY(mutex);              ///< who wrote last

  std::atomic<bool> temporary{false};  ///< made without a name (O_TMPFILE)

  // Ahead of the node's row while `ahead`: what getattr() must answer.
  std::atomic<bool> ahead{false};
  std::atomic<std::uint64_t> size{0}, stored{0};
  std::atomic<TimeNs> mtime{0}, ctime{0};

  // Clockwork: steady times, 0 = not.
  std::atomic<TimeNs> dirty_since{0};        ///< bytes that are in no row yet
  std::atomic<TimeNs> unpublished_since{0};  ///< written, perhaps fsynced, not yet published with an event
  std::atomic<TimeNs> published_at{0};
  std::atomic<bool> synced_unpublished{false};  ///< fsynced, event still owed (S6)
  std::atomic<bool> unlinked{false};            ///< lost its last name: nothing to publish
  /// Another file took its place while it was open for writing (S13): the pin just before, 0 = not so. What
  /// is written is a version of the line there. Set inside the writer's transaction, as `unlinked` is.
  std::atomic<std::int64_t> replaced_before{0};
  std::atomic<int> writers{0};  ///< handles that may write

  /// Nobody can find it any more, and its bytes live as long as its handles.
  [[nodiscard]] bool dead() const { return unlinked && !temporary && replaced_before == 0; }

  // Guarded by the session table's shard.
  int handles = 0;
};

/// The sessions by (branch, node), sharded. A session exists while a handle, or somebody working on it, holds
/// it.
class SessionTable {
 public:
  /// Makes it if need be, and counts one handle.
  std::shared_ptr<Session> acquire(SessionKey);
  /// Only if it exists; counts nothing.
  [[nodiscard]] std::shared_ptr<Session> find(SessionKey) const;
  /// One handle less; true when it was the last: the session is then out of the table.
  bool release(const std::shared_ptr<Session>&);
  [[nodiscard]] bool open(SessionKey) const;  ///< has handles
  [[nodiscard]] std::size_t count() const { return count_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::vector<std::shared_ptr<Session>> all() const;

 private:
  struct Shard {
    mutable Mutex mutex;
    std::unordered_map<SessionKey, std::shared_ptr<Session>, SessionKeyHash> map INDRA_GUARDED_BY(mutex);
  };
  static constexpr std::size_t kShards = 64;
  [[nodiscard]] Shard& shard(SessionKey k) { return shards_[SessionKeyHash{}(k) % kShards]; }
  [[nodiscard]] const Shard& shard(SessionKey k) const { return shards_[SessionKeyHash{}(k) % kShards]; }
  std::array<Shard, kShards> shards_;
  std::atomic<std::size_t> count_{0};
};

}  // namespace indra
