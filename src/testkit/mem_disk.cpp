#include "testkit/mem_disk.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <random>
#include <set>

#include "base/sync.h"

namespace indra {
namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::size_t kSector = 512;

/// Bytes of a file; blocks never written are holes.
struct Image {
  std::map<std::uint64_t, std::array<std::byte, kBlock>> blocks;
  std::uint64_t size = 0;

  void write(std::uint64_t at, ByteView bytes) {
    size = std::max(size, at + bytes.size());
    while (!bytes.empty()) {
      const std::uint64_t in = at % kBlock, n = std::min<std::uint64_t>(bytes.size(), kBlock - in);
      std::memcpy(blocks[at / kBlock].data() + in, bytes.data(), n);
      bytes = bytes.subspan(n);
      at += n;
    }
  }
  void punch(std::uint64_t at, std::uint64_t n) {
    const std::uint64_t to = std::min(at + n, (size + kBlock - 1) / kBlock * kBlock);
    for (std::uint64_t pos = at; pos < to;) {
      const std::uint64_t in = pos % kBlock, len = std::min(to - pos, kBlock - in);
      if (const auto it = blocks.find(pos / kBlock); it != blocks.end()) {
        if (len == kBlock)
          blocks.erase(it);
        else
          std::memset(it->second.data() + in, 0, len);
      }
      pos += len;
    }
  }
  std::size_t read(std::uint64_t at, MutableBytes out) const {
    if (at >= size) return 0;
    const std::size_t all = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), size - at));
    for (std::size_t done = 0; done < all;) {
      const std::uint64_t pos = at + done, in = pos % kBlock,
                          n = std::min<std::uint64_t>(all - done, kBlock - in);
      const auto it = blocks.find(pos / kBlock);
      if (it == blocks.end())
        std::memset(out.data() + done, 0, n);
      else
        std::memcpy(out.data() + done, it->second.data() + in, n);
      done += n;
    }
    return all;
  }
  [[nodiscard]] std::uint64_t allocated() const { return blocks.size() * kBlock; }
};

struct Change {
  std::uint64_t at;
  std::uint64_t punched;  // 0: a write
  Bytes bytes;
};

struct Inode {
  Image durable, now;
  std::vector<Change> unsynced;
};
using InodePtr = std::shared_ptr<Inode>;

struct NameChange {
  std::string path;
  InodePtr inode;  // null: removed
};

std::string dir_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

}  // namespace

struct MemDisk::State {
  mutable Mutex mutex;
  std::uint64_t capacity INDRA_GUARDED_BY(mutex) = 0;
  std::uint64_t generation INDRA_GUARDED_BY(mutex) = 0;  // of the power
  std::map<std::string, InodePtr> durable INDRA_GUARDED_BY(mutex), now INDRA_GUARDED_BY(mutex);
  std::map<std::string, std::vector<NameChange>> unsynced INDRA_GUARDED_BY(mutex);  // by directory
  std::set<std::string> dirs INDRA_GUARDED_BY(mutex);
  std::map<Op, std::uint64_t> counts INDRA_GUARDED_BY(mutex);
  Fault fault;

  [[nodiscard]] Result<void> ask(Op op, const std::string& path) const {
    if (fault)
      if (const int err = fault(op, path); err != 0) return fail(err, path);
    return {};
  }
  [[nodiscard]] std::uint64_t used() const INDRA_REQUIRES(mutex) {
    std::uint64_t n = 0;
    for (const auto& [path, i] : now) n += i->now.allocated();
    return n;
  }
  void power_back() INDRA_REQUIRES(mutex) {
    ++generation;
    now = durable;
    unsynced.clear();
    for (auto& [path, i] : now) {
      i->now = i->durable;
      i->unsynced.clear();
    }
  }
};

class MemDisk::File final : public DiskFile {
 public:
  File(std::shared_ptr<State> s, InodePtr i, std::string path, std::uint64_t generation)
      : s_{std::move(s)}, i_{std::move(i)}, path_{std::move(path)}, generation_{generation} {}

  Result<std::size_t> read(std::uint64_t at, MutableBytes out) const override {
    INDRA_TRY(s_->ask(Op::read, path_));
    const MutexLock lock{s_->mutex};
    INDRA_TRY(alive());
    ++s_->counts[Op::read];
    return i_->now.read(at, out);
  }
  Result<void> write(std::uint64_t at, ByteView bytes) override {
    INDRA_TRY(s_->ask(Op::write, path_));
    const MutexLock lock{s_->mutex};
    INDRA_TRY(alive());
    std::uint64_t wanted = 0;
    if (!bytes.empty())
      for (std::uint64_t b = at / kBlock; b <= (at + bytes.size() - 1) / kBlock; ++b)
        wanted += i_->now.blocks.contains(b) ? 0 : kBlock;
    if (wanted != 0 && s_->used() + wanted > s_->capacity) return fail(ENOSPC, path_);
    i_->now.write(at, bytes);
    i_->unsynced.push_back({at, 0, Bytes(bytes.begin(), bytes.end())});
    ++s_->counts[Op::write];
    return {};
  }
  Result<void> sync() override {
    INDRA_TRY(s_->ask(Op::sync, path_));
    const MutexLock lock{s_->mutex};
    INDRA_TRY(alive());
    for (const Change& c : i_->unsynced) {
      if (c.punched != 0)
        i_->durable.punch(c.at, c.punched);
      else
        i_->durable.write(c.at, c.bytes);
    }
    i_->unsynced.clear();
    ++s_->counts[Op::sync];
    return {};
  }
  Result<void> punch(std::uint64_t at, std::uint64_t n) override {
    INDRA_TRY(s_->ask(Op::punch, path_));
    const MutexLock lock{s_->mutex};
    INDRA_TRY(alive());
    i_->now.punch(at, n);
    i_->unsynced.push_back({at, n, {}});
    ++s_->counts[Op::punch];
    return {};
  }
  Result<std::uint64_t> size() const override {
    const MutexLock lock{s_->mutex};
    INDRA_TRY(alive());
    return i_->now.size;
  }
  Result<std::uint64_t> allocated() const override {
    const MutexLock lock{s_->mutex};
    INDRA_TRY(alive());
    return i_->now.allocated();
  }

 private:
  Result<void> alive() const INDRA_REQUIRES(s_->mutex) {
    if (s_->generation != generation_) return fail(EIO, path_ + " (the power was gone)");
    return {};
  }
  std::shared_ptr<State> s_;
  InodePtr i_;
  std::string path_;
  std::uint64_t generation_;
};

MemDisk::MemDisk(std::uint64_t capacity) : state_{std::make_shared<State>()} { set_capacity(capacity); }
MemDisk::~MemDisk() = default;

void MemDisk::crash(std::uint64_t seed) {
  std::mt19937_64 random{seed};
  State& s = *state_;
  const MutexLock lock{s.mutex};
  for (auto& [dir, changes] : s.unsynced) {
    const std::size_t kept = random() % (changes.size() + 1);
    for (std::size_t i = 0; i < kept; ++i) {
      if (changes[i].inode)
        s.durable[changes[i].path] = changes[i].inode;
      else
        s.durable.erase(changes[i].path);
    }
  }
  for (auto& [path, i] : s.durable)
    for (const Change& c : i->unsynced) {
      const auto fate = random() % 3;  // done, lost, torn
      if (fate == 0 && c.punched != 0) i->durable.punch(c.at, c.punched);
      if (fate == 0 && c.punched == 0) i->durable.write(c.at, c.bytes);
      if (fate != 2) continue;
      const std::uint64_t all = c.punched != 0 ? c.punched : c.bytes.size();
      for (std::uint64_t at = 0; at < all;) {
        const std::uint64_t n = std::min<std::uint64_t>(all - at, kSector - (c.at + at) % kSector);
        if (random() % 2 == 0) {
          if (c.punched != 0)
            i->durable.punch(c.at + at, n);
          else
            i->durable.write(c.at + at, ByteView{c.bytes}.subspan(at, n));
        }
        at += n;
      }
    }
  s.power_back();
}

void MemDisk::crash_strictly() {
  const MutexLock lock{state_->mutex};
  state_->power_back();
}

void MemDisk::set_fault(Fault f) { state_->fault = std::move(f); }
void MemDisk::set_capacity(std::uint64_t n) {
  const MutexLock lock{state_->mutex};
  state_->capacity = n;
}

std::size_t MemDisk::unsynced() const {
  const MutexLock lock{state_->mutex};
  std::size_t n = 0;
  for (const auto& [dir, changes] : state_->unsynced) n += changes.size();
  for (const auto& [path, i] : state_->now)
    for (const Change& c : i->unsynced)
      n += c.punched != 0 ? static_cast<std::size_t>(c.punched) : c.bytes.size();
  return n;
}

std::uint64_t MemDisk::count(Op op) const {
  const MutexLock lock{state_->mutex};
  const auto it = state_->counts.find(op);
  return it == state_->counts.end() ? 0 : it->second;
}

void MemDisk::flip(const std::string& path, std::uint64_t at) {
  const MutexLock lock{state_->mutex};
  for (Image* image : {&state_->now.at(path)->now, &state_->now.at(path)->durable})
    if (const auto it = image->blocks.find(at / kBlock); it != image->blocks.end())
      it->second[at % kBlock] ^= std::byte{1};
}

Result<std::unique_ptr<DiskFile>> MemDisk::open(const std::string& path, bool create) {
  INDRA_TRY(state_->ask(create ? Op::create : Op::open, path));
  State& s = *state_;
  const MutexLock lock{s.mutex};
  auto it = s.now.find(path);
  if (create) {
    if (it != s.now.end()) return fail(EEXIST, "create " + path);
    if (!s.dirs.contains(dir_of(path))) return fail(ENOENT, "create " + path);
    it = s.now.emplace(path, std::make_shared<Inode>()).first;
    s.unsynced[dir_of(path)].push_back({path, it->second});
  } else if (it == s.now.end()) {
    return fail(ENOENT, "open " + path);
  }
  ++s.counts[create ? Op::create : Op::open];
  return std::make_unique<File>(state_, it->second, path, s.generation);
}

Result<void> MemDisk::make_dir(const std::string& path) {
  const MutexLock lock{state_->mutex};
  state_->dirs.insert(path);
  return {};
}

Result<void> MemDisk::remove(const std::string& path) {
  INDRA_TRY(state_->ask(Op::remove, path));
  State& s = *state_;
  const MutexLock lock{s.mutex};
  if (s.now.erase(path) == 0) return fail(ENOENT, "unlink " + path);
  s.unsynced[dir_of(path)].push_back({path, nullptr});
  ++s.counts[Op::remove];
  return {};
}

Result<std::vector<std::string>> MemDisk::list(const std::string& dir) {
  const MutexLock lock{state_->mutex};
  if (!state_->dirs.contains(dir)) return fail(ENOENT, "list " + dir);
  std::vector<std::string> names;
  for (const auto& [path, i] : state_->now)
    if (dir_of(path) == dir) names.push_back(path.substr(dir.size() + 1));
  return names;
}

Result<void> MemDisk::sync_dir(const std::string& path) {
  INDRA_TRY(state_->ask(Op::sync_dir, path));
  State& s = *state_;
  const MutexLock lock{s.mutex};
  for (const NameChange& c : s.unsynced[path]) {
    if (c.inode)
      s.durable[c.path] = c.inode;
    else
      s.durable.erase(c.path);
  }
  s.unsynced.erase(path);
  ++s.counts[Op::sync_dir];
  return {};
}

Result<Disk::Space> MemDisk::space(const std::string&) {
  const MutexLock lock{state_->mutex};
  const std::uint64_t used = state_->used();
  return Space{state_->capacity - std::min(used, state_->capacity), state_->capacity};
}

}  // namespace indra
