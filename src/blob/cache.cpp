#include "blob/internal/cache.h"

namespace indra::blob {

SharedBytes ChunkCache::find(std::uint64_t where) {
  Shard& s = shard(where);
  const MutexLock lock{s.mutex};
  const auto it = s.by.find(where);
  if (it == s.by.end()) return nullptr;
  s.order.splice(s.order.begin(), s.order, it->second);
  return it->second->bytes;
}

void ChunkCache::put(std::uint64_t where, SharedBytes bytes) {
  if (bytes->size() > limit_) return;
  Shard& s = shard(where);
  const MutexLock lock{s.mutex};
  if (s.by.contains(where)) return;
  s.bytes += bytes->size();
  s.order.push_front({where, std::move(bytes)});
  s.by[where] = s.order.begin();
  while (s.bytes > limit_) {
    s.bytes -= s.order.back().bytes->size();
    s.by.erase(s.order.back().where);
    s.order.pop_back();
  }
}

void ChunkCache::drop(std::uint64_t where) {
  Shard& s = shard(where);
  const MutexLock lock{s.mutex};
  const auto it = s.by.find(where);
  if (it == s.by.end()) return;
  s.bytes -= it->second->bytes->size();
  s.order.erase(it->second);
  s.by.erase(it);
}

}  // namespace indra::blob
