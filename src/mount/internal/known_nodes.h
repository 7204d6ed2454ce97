// The nodes the kernel holds a reference on: what there is to invalidate.
//
// Threads: every member may be called from any thread.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/sync.h"

namespace indra {

class KnownNodes {
 public:
  /// One more reference, given in a reply for a name in `parent`.
  void add(std::uint64_t node, std::uint64_t parent, bool directory);
  void forget(std::uint64_t node, std::uint64_t n);
  struct Known {
    std::uint64_t parent;  ///< where it was last found
    bool directory;
  };
  [[nodiscard]] std::optional<Known> find(std::uint64_t node) const;
  [[nodiscard]] std::vector<std::uint64_t> all() const;
  [[nodiscard]] std::size_t size() const;

 private:
  struct Item {
    std::uint64_t node = 0, parent = 0;  // node 0: free
    std::uint64_t refs : 63 = 0;
    std::uint64_t directory : 1 = 0;
  };
  /// Open addressing, linear probing; erasing moves the followers back.
  struct Shard {
    mutable Mutex mutex;
    std::vector<Item> items INDRA_GUARDED_BY(mutex);
    std::size_t used INDRA_GUARDED_BY(mutex) = 0;
  };
  static constexpr std::size_t kShards = 16;
  static std::uint64_t mix(std::uint64_t v) noexcept {
    v *= 0x9E3779B97F4A7C15ull;
    return v ^ (v >> 29);
  }
  Shard& shard(std::uint64_t node) { return shards_[mix(node) % kShards]; }
  const Shard& shard(std::uint64_t node) const { return shards_[mix(node) % kShards]; }
  static std::size_t slot(const std::vector<Item>& items, std::uint64_t node);
  static void grow(Shard&, std::size_t to);

  std::array<Shard, kShards> shards_;
};

}  // namespace indra
