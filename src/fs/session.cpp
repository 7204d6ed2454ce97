#include "fs/internal/session.h"

namespace indra {

std::shared_ptr<Session> SessionTable::acquire(SessionKey key) {
  Shard& s = shard(key);
  const MutexLock lock{s.mutex};
  auto& slot = s.map[key];
  if (!slot) {
    slot = std::make_shared<Session>(key.branch, key.node);
    count_.fetch_add(1, std::memory_order_relaxed);
  }
  ++slot->handles;
  return slot;
}

std::shared_ptr<Session> SessionTable::find(SessionKey key) const {
  if (count() == 0) return nullptr;
  const Shard& s = shard(key);
  const MutexLock lock{s.mutex};
  const auto it = s.map.find(key);
  return it == s.map.end() ? nullptr : it->second;
}

bool SessionTable::release(const std::shared_ptr<Session>& session) {
  Shard& s = shard(session->key);
  const MutexLock lock{s.mutex};
  if (--session->handles > 0) return false;
  s.map.erase(session->key);
  count_.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

bool SessionTable::open(SessionKey key) const { return find(key) != nullptr; }

std::vector<std::shared_ptr<Session>> SessionTable::all() const {
  std::vector<std::shared_ptr<Session>> out;
  out.reserve(count());
  for (const Shard& s : shards_) {
    const MutexLock lock{s.mutex};
    for (const auto& [key, session] : s.map) out.push_back(session);
  }
  return out;
}

}  // namespace indra
