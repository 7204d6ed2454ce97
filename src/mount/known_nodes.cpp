#include "mount/internal/known_nodes.h"

namespace indra {

/// Where `node` is, or the free place where it belongs.
std::size_t KnownNodes::slot(const std::vector<Item>& items, std::uint64_t node) {
  const std::size_t mask = items.size() - 1;
  std::size_t i = (mix(node) / kShards) & mask;
  while (items[i].node != 0 && items[i].node != node) i = (i + 1) & mask;
  return i;
}

void KnownNodes::grow(Shard& s, std::size_t to) INDRA_NO_ANALYSIS {
  std::vector<Item> old(to);
  old.swap(s.items);
  for (const Item& item : old)
    if (item.node != 0) s.items[slot(s.items, item.node)] = item;
}

void KnownNodes::add(std::uint64_t node, std::uint64_t parent, bool directory) {
  Shard& s = shard(node);
  const MutexLock lock{s.mutex};
  if ((s.used + 1) * 4 > s.items.size() * 3) grow(s, s.items.empty() ? 64 : s.items.size() * 2);
  Item& item = s.items[slot(s.items, node)];
  if (item.node == 0) ++s.used;
  item.node = node;
  item.parent = parent;
  item.directory = directory ? 1 : 0;
  ++item.refs;
}

void KnownNodes::forget(std::uint64_t node, std::uint64_t n) {
  Shard& s = shard(node);
  const MutexLock lock{s.mutex};
  if (s.items.empty()) return;
  std::size_t i = slot(s.items, node);
  Item& item = s.items[i];
  if (item.node == 0) return;
  if (item.refs > n) {
    item.refs = (item.refs - n) & ~(1ull << 63);
    return;
  }
  const std::size_t mask = s.items.size() - 1;
  for (std::size_t next = (i + 1) & mask; s.items[next].node != 0; next = (next + 1) & mask) {
    const std::size_t home = (mix(s.items[next].node) / kShards) & mask;
    if (((next - home) & mask) < ((next - i) & mask)) continue;  // it would land before its home
    s.items[i] = s.items[next];
    i = next;
  }
  s.items[i] = Item{};
  --s.used;
  if (s.items.size() > 64 && s.used * 8 < s.items.size()) grow(s, s.items.size() / 2);
}

std::optional<KnownNodes::Known> KnownNodes::find(std::uint64_t node) const {
  const Shard& s = shard(node);
  const MutexLock lock{s.mutex};
  if (s.items.empty()) return std::nullopt;
  const Item& item = s.items[slot(s.items, node)];
  if (item.node == 0) return std::nullopt;
  return Known{item.parent, item.directory != 0};
}

std::vector<std::uint64_t> KnownNodes::all() const {
  std::vector<std::uint64_t> out;
  for (const Shard& s : shards_) {
    const MutexLock lock{s.mutex};
    for (const Item& item : s.items)
      if (item.node != 0) out.push_back(item.node);
  }
  return out;
}

std::size_t KnownNodes::size() const {
  std::size_t n = 0;
  for (const Shard& s : shards_) {
    const MutexLock lock{s.mutex};
    n += s.used;
  }
  return n;
}

}  // namespace indra
