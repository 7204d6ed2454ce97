// Verified chunks kept for reading: least recently used goes first. Thread-safe; keyed by where the bytes
// lie.
#pragma once
#include <array>
#include <list>
#include <memory>
#include <unordered_map>

#include "base/bytes.h"
#include "base/sync.h"

namespace indra::blob {

using SharedBytes = std::shared_ptr<const Bytes>;

class ChunkCache {
 public:
  explicit ChunkCache(std::uint64_t limit) : limit_{limit / kShards} {}
  [[nodiscard]] SharedBytes find(std::uint64_t where);
  void put(std::uint64_t where, SharedBytes bytes);
  void drop(std::uint64_t where);

 private:
  static constexpr std::size_t kShards = 8;
  struct Item {
    std::uint64_t where;
    SharedBytes bytes;
  };
  struct Shard {
    Mutex mutex;
    std::list<Item> order INDRA_GUARDED_BY(mutex);  // newest first
    std::unordered_map<std::uint64_t, std::list<Item>::iterator> by INDRA_GUARDED_BY(mutex);
    std::uint64_t bytes INDRA_GUARDED_BY(mutex) = 0;
  };
  Shard& shard(std::uint64_t where) { return shards_[(where * 0x9E3779B97F4A7C15ull >> 40) % kShards]; }
  std::uint64_t limit_;
  std::array<Shard, kShards> shards_;
};

}  // namespace indra::blob
