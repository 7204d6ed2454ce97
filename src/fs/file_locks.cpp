#include "fs/file_locks.h"

#include <algorithm>
#include <cerrno>
#include <set>

namespace indra {
namespace {

bool overlap(const FileLocks::Lock& a, const FileLocks::Lock& b) {
  return a.first <= b.last && b.first <= a.last;
}
bool compatible(const FileLocks::Lock& a, const FileLocks::Lock& b) {
  return a.kind == FileLocks::Kind::read && b.kind == FileLocks::Kind::read;
}

}  // namespace

std::uint64_t FileLocks::new_front() {
  const MutexLock guard{mutex_};
  return ++fronts_;
}

Result<void> FileLocks::write_through(std::uint64_t space, std::uint64_t front, const std::string& where) {
  const MutexLock guard{mutex_};
  const auto [it, made] = keepers_.try_emplace(space, Keeper{front, where, 0});
  if (it->second.front != front) return fail(EBUSY, "is written through the mount at " + it->second.where);
  ++it->second.count;
  return {};
}

void FileLocks::wrote(std::uint64_t space) {
  const MutexLock guard{mutex_};
  const auto it = keepers_.find(space);
  if (it != keepers_.end() && --it->second.count == 0) keepers_.erase(it);
}

const FileLocks::Held* FileLocks::blocker(const Table& t, Owner owner, const Lock& wanted) {
  for (const Held& h : t.held)
    if (h.owner != owner && overlap(h.lock, wanted) && !compatible(h.lock, wanted)) return &h;
  return nullptr;
}

void FileLocks::cut(Table& t, Owner owner, std::uint64_t first, std::uint64_t last) {
  std::vector<Held> kept;
  kept.reserve(t.held.size() + 1);
  for (const Held& h : t.held) {
    if (h.owner != owner || h.lock.last < first || last < h.lock.first) {
      kept.push_back(h);
      continue;
    }
    if (h.lock.first < first) {
      kept.push_back(h);
      kept.back().lock.last = first - 1;
    }
    if (last < h.lock.last) {
      kept.push_back(h);
      kept.back().lock.first = last + 1;
    }
  }
  t.held = std::move(kept);
}

void FileLocks::put(Table& t, Owner owner, const Lock& lock) {
  cut(t, owner, lock.first, lock.last);
  Lock joined = lock;
  std::erase_if(t.held, [&](const Held& h) {  // neighbours of the same kind become one
    if (h.owner != owner || h.lock.kind != lock.kind || h.lock.handle != lock.handle) return false;
    if (h.lock.last + 1 != joined.first && joined.last + 1 != h.lock.first) return false;
    joined.first = std::min(joined.first, h.lock.first);
    joined.last = std::max(joined.last, h.lock.last);
    return true;
  });
  t.held.push_back({owner, joined});
}

void FileLocks::serve(Table& t) {
  for (auto it = t.waits.begin(); it != t.waits.end();) {
    if (blocker(t, it->owner, it->lock) != nullptr) {
      ++it;
      continue;
    }
    put(t, it->owner, it->lock);
    it->done(0);
    it = t.waits.erase(it);
  }
}

void FileLocks::tidy(const File& file) {
  const auto it = tables_.find(file);
  if (it != tables_.end() && it->second.held.empty() && it->second.waits.empty()) tables_.erase(it);
}

std::optional<FileLocks::Lock> FileLocks::conflict(const File& file, Owner owner, const Lock& wanted) const {
  const MutexLock guard{mutex_};
  const auto it = tables_.find(file);
  if (it == tables_.end()) return std::nullopt;
  const Held* h = blocker(it->second, owner, wanted);
  return h == nullptr ? std::nullopt : std::optional{h->lock};
}

int FileLocks::lock(const File& file, Owner owner, const Lock& lock) {
  const MutexLock guard{mutex_};
  Table& t = tables_[file];
  if (blocker(t, owner, lock) != nullptr) return EAGAIN;
  put(t, owner, lock);
  serve(t);  // what it replaced may have been in somebody's way
  return 0;
}

// Who waits for whom: `owner` would wait for those in its way, they perhaps for others, and so on. Coming
// back to `owner` means that nobody would ever go on. flock knows no such check anywhere.
bool FileLocks::would_deadlock(const Table& t, Owner owner, const Lock& wanted) const {
  std::set<Owner> seen;
  std::vector<Owner> next;
  const auto in_the_way = [&](const Table& table, Owner who, const Lock& lock) {
    for (const Held& h : table.held)
      if (h.owner != who && overlap(h.lock, lock) && !compatible(h.lock, lock) && seen.insert(h.owner).second)
        next.push_back(h.owner);
  };
  in_the_way(t, owner, wanted);
  while (!next.empty()) {
    const Owner who = next.back();
    next.pop_back();
    if (who == owner) return true;
    for (const auto& [file, table] : tables_) {
      if (file.family != Family::posix) continue;
      for (const Wait& w : table.waits)
        if (w.owner == who) in_the_way(table, who, w.lock);
    }
    if (seen.contains(owner)) return true;
  }
  return false;
}

void FileLocks::lock_or_wait(const File& file, Owner owner, const Lock& lock, std::uint64_t ticket,
                             Done done) {
  const MutexLock guard{mutex_};
  Table& t = tables_[file];
  if (blocker(t, owner, lock) == nullptr) {
    put(t, owner, lock);
    done(0);
    serve(t);
  } else if (file.family == Family::posix && would_deadlock(t, owner, lock)) {
    done(EDEADLK);
  } else {
    if (file.family == Family::flock)
      cut(t, owner, 0, kEnd);  // as Linux: the old lock goes before the new one comes
    t.waits.push_back({owner, lock, ticket, std::move(done)});
    serve(t);
  }
}

void FileLocks::unlock(const File& file, Owner owner, std::uint64_t first, std::uint64_t last) {
  const MutexLock guard{mutex_};
  const auto it = tables_.find(file);
  if (it == tables_.end()) return;
  cut(it->second, owner, first, last);
  serve(it->second);
  tidy(file);
}

void FileLocks::close(const File& file, std::uint64_t front, std::uint64_t handle) {
  const MutexLock guard{mutex_};
  const auto it = tables_.find(file);
  if (it == tables_.end()) return;
  std::erase_if(it->second.held,
                [&](const Held& h) { return h.owner.front == front && h.lock.handle == handle; });
  serve(it->second);
  tidy(file);
}

bool FileLocks::cancel(std::uint64_t front, std::uint64_t ticket) {
  const MutexLock guard{mutex_};
  for (auto& [file, t] : tables_) {
    const auto it = std::find_if(t.waits.begin(), t.waits.end(),
                                 [&](const Wait& w) { return w.owner.front == front && w.ticket == ticket; });
    if (it == t.waits.end()) continue;
    it->done(EINTR);
    t.waits.erase(it);
    tidy(File{file});
    return true;
  }
  return false;
}

void FileLocks::forget(std::uint64_t front) {
  const MutexLock guard{mutex_};
  for (auto it = tables_.begin(); it != tables_.end();) {
    Table& t = it->second;
    t.waits.remove_if([&](const Wait& w) { return w.owner.front == front; });
    std::erase_if(t.held, [&](const Held& h) { return h.owner.front == front; });
    serve(t);
    it = t.held.empty() && t.waits.empty() ? tables_.erase(it) : std::next(it);
  }
}

std::size_t FileLocks::files() const {
  const MutexLock guard{mutex_};
  return tables_.size();
}

}  // namespace indra
