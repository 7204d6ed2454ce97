#include "testkit/mem_disk.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "base/sync.h"

namespace indra {

std::string dir_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

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
  void resize(std::uint64_t to) {
    if (to < size) {
      blocks.erase(blocks.lower_bound((to + kBlock - 1) / kBlock), blocks.end());
      if (const auto it = blocks.find(to / kBlock); it != blocks.end())
        std::memset(it->second.data() + to % kBlock, 0, kBlock - to % kBlock);
    }
    size = to;
  }
  [[nodiscard]] std::uint64_t allocated() const { return blocks.size() * kBlock; }
};

struct Change {
  enum Kind { write, punch, resize } kind;
  std::uint64_t at;  // of a resize: the new size
  std::uint64_t n;
  Bytes bytes;

  void apply(Image& to) const {
    switch (kind) {
      case write:
        return to.write(at, bytes);
      case punch:
        return to.punch(at, n);
      case resize:
        return to.resize(at);
    }
  }
  void apply(Image& to, std::uint64_t from, std::uint64_t count) const {
    if (kind == write)
      to.write(at + from, ByteView{bytes}.subspan(from, count));
    else
      to.punch(at + from, count);
  }
};

struct Inode {
  bool directory = false;
  Image durable, now;
  std::vector<Change> unsynced;
  std::vector<std::byte> mapped;  // what memory says; `now` follows

  void change(Change c) {
    c.apply(now);
    unsynced.push_back(std::move(c));
  }
  /// The kernel may write a mapped page whenever it likes, each sector by itself.
  void absorb() {
    std::array<std::byte, kSector> old;
    for (std::uint64_t at = 0; at < mapped.size(); at += kSector) {
      const auto sector = std::span{mapped}.subspan(at, kSector);
      (void)now.read(at, old);
      if (!std::equal(old.begin(), old.end(), sector.begin()))
        change({Change::write, at, kSector, Bytes(sector.begin(), sector.end())});
    }
  }
  void make_durable() {
    absorb();
    for (const Change& c : unsynced) c.apply(durable);
    unsynced.clear();
  }
};
using InodePtr = std::shared_ptr<Inode>;

struct NameChange {
  std::string path;
  InodePtr inode;  // null: removed
};
using Names = std::map<std::string, InodePtr>;

void rename_in(const NameChange& c, Names& to) {
  if (c.inode)
    to[c.path] = c.inode;
  else
    to.erase(c.path);
}

}  // namespace

struct MemDisk::State {
  mutable Mutex mutex;
  std::uint64_t capacity INDRA_GUARDED_BY(mutex) = 0;
  std::uint64_t generation INDRA_GUARDED_BY(mutex) = 0;  // of open files
  std::uint64_t boot INDRA_GUARDED_BY(mutex) = 1;
  std::uint64_t steps INDRA_GUARDED_BY(mutex) = 0, off_at INDRA_GUARDED_BY(mutex) = 0;
  bool power INDRA_GUARDED_BY(mutex) = true;
  Names durable INDRA_GUARDED_BY(mutex), now INDRA_GUARDED_BY(mutex);
  std::map<std::string, std::vector<NameChange>> unsynced INDRA_GUARDED_BY(mutex);  // by directory
  std::set<std::string> made INDRA_GUARDED_BY(mutex);  // directories that were not always there
  std::map<Op, std::uint64_t> counts INDRA_GUARDED_BY(mutex);
  std::vector<InodePtr> mapped INDRA_GUARDED_BY(mutex);
  InodePtr put_off INDRA_GUARDED_BY(mutex);
  Fault fault;

  /// What the fault says; its errors are returned.
  [[nodiscard]] Result<int> ask(Op op, const std::string& path) const {
    const int say = fault ? fault(op, path) : 0;
    if (say > 0) return fail(say, path);
    return say;
  }
  [[nodiscard]] Result<void> alive(const std::string& path) const INDRA_REQUIRES(mutex) {
    if (!power) return fail(EIO, path + " (the power is off)");
    return {};
  }
  /// A step begins. False: it is the one in which the power goes.
  [[nodiscard]] bool step() INDRA_REQUIRES(mutex) {
    for (const InodePtr& i : mapped) i->absorb();
    if (++steps != off_at) return true;
    power = false;
    return false;
  }
  [[nodiscard]] Result<void> done(Op op, bool powered, const std::string& path) INDRA_REQUIRES(mutex) {
    if (!powered) return fail(EIO, path + " (the power went off)");
    ++counts[op];
    return {};
  }
  void change_name(NameChange c, int say) INDRA_REQUIRES(mutex) {
    if (say == kSwallow) return;
    rename_in(c, now);
    if (say == kAtOnce) rename_in(c, durable);
    unsynced[dir_of(c.path)].push_back(std::move(c));
  }
  void changed(Inode& i, Change c, int say) INDRA_REQUIRES(mutex) {
    if (say == kSwallow) return;
    if (say == kAtOnce) c.apply(i.durable);
    i.change(std::move(c));
  }
  [[nodiscard]] bool has_dir(const std::string& path) const INDRA_REQUIRES(mutex) {
    if (!made.contains(path)) return true;
    const auto it = now.find(path);
    return it != now.end() && it->second->directory;
  }
  [[nodiscard]] std::uint64_t used() const INDRA_REQUIRES(mutex) {
    std::uint64_t n = 0;
    for (const auto& [path, i] : now) n += i->now.allocated();
    return n;
  }
  void power_back() INDRA_REQUIRES(mutex) {
    ++generation;
    ++boot;
    power = true;
    off_at = 0;
    for (const std::string& dir : made)  // what lay in a directory that is lost is lost
      if (!durable.contains(dir))
        std::erase_if(durable, [&](const auto& e) { return dir_of(e.first) == dir; });
    now = durable;
    unsynced.clear();
    mapped.clear();
    put_off = nullptr;
    for (auto& [path, i] : now) {
      i->now = i->durable;
      i->unsynced.clear();
      i->mapped.clear();
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
    i_->absorb();
    ++s_->counts[Op::read];
    return i_->now.read(at, out);
  }
  Result<void> write(std::uint64_t at, ByteView bytes) override {
    INDRA_LET(const int say, s_->ask(Op::write, path_));
    const MutexLock lock{s_->mutex};
    INDRA_TRY(alive());
    std::uint64_t wanted = 0;
    if (!bytes.empty())
      for (std::uint64_t b = at / kBlock; b <= (at + bytes.size() - 1) / kBlock; ++b)
        wanted += i_->now.blocks.contains(b) ? 0 : kBlock;
    if (wanted != 0 && s_->used() + wanted > s_->capacity) return fail(ENOSPC, path_);
    const bool powered = s_->step();
    s_->changed(*i_, {Change::write, at, bytes.size(), Bytes(bytes.begin(), bytes.end())}, say);
    return s_->done(Op::write, powered, path_);
  }
  Result<void> sync() override {
    INDRA_LET(const int say, s_->ask(Op::sync, path_));
    const MutexLock lock{s_->mutex};
    INDRA_TRY(alive());
    const bool powered = s_->step();
    if (powered && say == kPutOff) s_->put_off = i_;
    if (powered && say != kPutOff && say != kSwallow) {
      i_->make_durable();
      if (s_->put_off && s_->put_off != i_) std::exchange(s_->put_off, nullptr)->make_durable();
    }
    return s_->done(Op::sync, powered, path_);
  }
  Result<void> punch(std::uint64_t at, std::uint64_t n) override {
    INDRA_LET(const int say, s_->ask(Op::punch, path_));
    const MutexLock lock{s_->mutex};
    INDRA_TRY(alive());
    const bool powered = s_->step();
    s_->changed(*i_, {Change::punch, at, n, {}}, say);
    return s_->done(Op::punch, powered, path_);
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
    if (s_->generation != generation_) return fail(EIO, path_ + " (open when the power went)");
    return s_->alive(path_);
  }
  std::shared_ptr<State> s_;
  InodePtr i_;
  std::string path_;
  std::uint64_t generation_;
};

class MemDisk::Map final : public DiskMap {
 public:
  Map(std::shared_ptr<State> s, InodePtr i, std::string path, std::uint64_t generation, std::size_t size)
      : s_{std::move(s)}, i_{std::move(i)}, path_{std::move(path)}, generation_{generation}, memory_(size) {}
  ~Map() override {
    const MutexLock lock{s_->mutex};
    if (s_->generation != generation_) return;
    if (s_->power) i_->absorb();
    std::erase(s_->mapped, i_);
  }
  MutableBytes bytes() override {
    const MutexLock lock{s_->mutex};
    // Memory outlives the power here: who has it mapped may be anywhere in its code when it goes.
    return s_->generation == generation_ ? MutableBytes{i_->mapped} : MutableBytes{memory_};
  }
  Result<void> sync() override {
    INDRA_LET(const int say, s_->ask(Op::sync, path_));
    const MutexLock lock{s_->mutex};
    if (s_->generation != generation_) return fail(EIO, path_ + " (mapped when the power went)");
    INDRA_TRY(s_->alive(path_));
    const bool powered = s_->step();
    if (powered && say != kSwallow) i_->make_durable();
    return s_->done(Op::sync, powered, path_);
  }

 private:
  std::shared_ptr<State> s_;
  InodePtr i_;
  std::string path_;
  std::uint64_t generation_;
  Bytes memory_;
};

MemDisk::MemDisk(std::uint64_t capacity) : state_{std::make_shared<State>()} { set_capacity(capacity); }
MemDisk::~MemDisk() = default;

std::unique_ptr<MemDisk> MemDisk::copy() const {
  auto to = std::make_unique<MemDisk>();
  const MutexLock lock{state_->mutex};
  State& t = *to->state_;
  const MutexLock other{t.mutex};
  t.capacity = state_->capacity;
  t.boot = state_->boot + 1;
  t.made = state_->made;
  for (const auto& [path, i] : state_->durable) {
    auto c = std::make_shared<Inode>();
    c->directory = i->directory;
    c->durable = c->now = i->durable;
    t.durable[path] = t.now[path] = std::move(c);
  }
  return to;
}

void MemDisk::crash(std::uint64_t seed) {
  std::mt19937_64 random{seed};
  State& s = *state_;
  const MutexLock lock{s.mutex};
  if (s.power)
    for (const InodePtr& i : s.mapped) i->absorb();
  for (auto& [dir, changes] : s.unsynced)
    for (const NameChange& c : changes)
      if (random() % 2 == 0) rename_in(c, s.durable);
  for (auto& [path, i] : s.durable) {
    // Now and then a disk that wrote all it had of a file, or nothing: each by itself is rarely so.
    const auto mood = random() % 4;
    for (const Change& c : i->unsynced) {
      const auto fate = mood == 0 ? 0 : mood == 1 ? 1 : random() % 3;  // done, lost, torn
      if (fate == 0 || (fate == 2 && c.kind == Change::resize)) c.apply(i->durable);
      if (fate != 2 || c.kind == Change::resize) continue;
      for (std::uint64_t at = 0; at < c.n;) {
        const std::uint64_t n = std::min<std::uint64_t>(c.n - at, kSector - (c.at + at) % kSector);
        if (random() % 2 == 0) c.apply(i->durable, at, n);
        at += n;
      }
    }
  }
  s.power_back();
}

void MemDisk::crash_strictly() {
  const MutexLock lock{state_->mutex};
  state_->power_back();
}

void MemDisk::kill() {
  State& s = *state_;
  const MutexLock lock{s.mutex};
  for (const InodePtr& i : s.mapped) {
    if (s.power) i->absorb();
    i->mapped.clear();
  }
  s.mapped.clear();
  ++s.generation;
  s.power = true;
  s.off_at = 0;
}

void MemDisk::power_off_at(std::uint64_t n) {
  const MutexLock lock{state_->mutex};
  state_->off_at = n == 0 ? 0 : state_->steps + n;
}

void MemDisk::power_off() {
  const MutexLock lock{state_->mutex};
  if (state_->power)
    for (const InodePtr& i : state_->mapped) i->absorb();
  state_->power = false;
}

bool MemDisk::power() const {
  const MutexLock lock{state_->mutex};
  return state_->power;
}

std::uint64_t MemDisk::steps() const {
  const MutexLock lock{state_->mutex};
  return state_->steps;
}

std::uint64_t MemDisk::boot() const {
  const MutexLock lock{state_->mutex};
  return state_->boot;
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
    for (const Change& c : i->unsynced) n += c.kind == Change::resize ? 1 : c.n;
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

std::vector<std::uint64_t> MemDisk::blocks(const std::string& path) const {
  const MutexLock lock{state_->mutex};
  std::vector<std::uint64_t> out;
  if (const auto it = state_->now.find(path); it != state_->now.end())
    for (const auto& [block, bytes] : it->second->now.blocks) out.push_back(block * kBlock);
  return out;
}

Result<void> MemDisk::resize(const std::string& path, std::uint64_t size) {
  INDRA_LET(const int say, state_->ask(Op::resize, path));
  State& s = *state_;
  const MutexLock lock{s.mutex};
  INDRA_TRY(s.alive(path));
  const auto it = s.now.find(path);
  if (it == s.now.end()) return fail(ENOENT, "resize " + path);
  const bool powered = s.step();
  s.changed(*it->second, {Change::resize, size, 0, {}}, say);
  return s.done(Op::resize, powered, path);
}

Result<std::unique_ptr<DiskFile>> MemDisk::open(const std::string& path, bool create) {
  INDRA_LET(const int say, state_->ask(create ? Op::create : Op::open, path));
  State& s = *state_;
  const MutexLock lock{s.mutex};
  INDRA_TRY(s.alive(path));
  auto it = s.now.find(path);
  if (create) {
    if (it != s.now.end()) return fail(EEXIST, "create " + path);
    if (!s.has_dir(dir_of(path))) return fail(ENOENT, "create " + path);
    const bool powered = s.step();
    const auto inode = std::make_shared<Inode>();
    s.change_name({path, inode}, say);
    INDRA_TRY(s.done(Op::create, powered, path));
    return std::make_unique<File>(state_, inode, path, s.generation);
  }
  if (it == s.now.end()) return fail(ENOENT, "open " + path);
  if (it->second->directory) return fail(EISDIR, "open " + path);
  ++s.counts[Op::open];
  return std::make_unique<File>(state_, it->second, path, s.generation);
}

bool MemDisk::exists(const std::string& path) {
  const MutexLock lock{state_->mutex};
  return state_->now.contains(path);
}

Result<std::unique_ptr<DiskMap>> MemDisk::map(const std::string& path, std::size_t size) {
  if (!exists(path)) INDRA_TRY(open(path, true));
  State& s = *state_;
  const MutexLock lock{s.mutex};
  INDRA_TRY(s.alive(path));
  const InodePtr& i = s.now.at(path);
  if (i->now.size < size) {
    const bool powered = s.step();
    s.changed(*i, {Change::resize, size, 0, {}}, 0);
    INDRA_TRY(s.done(Op::resize, powered, path));
  }
  i->mapped.resize(size);
  (void)i->now.read(0, i->mapped);
  s.mapped.push_back(i);
  return std::make_unique<Map>(state_, i, path, s.generation, size);
}

Result<void> MemDisk::make_dir(const std::string& path) {
  INDRA_LET(const int say, state_->ask(Op::make_dir, path));
  State& s = *state_;
  const MutexLock lock{s.mutex};
  INDRA_TRY(s.alive(path));
  if (s.now.contains(path)) return {};
  if (!s.has_dir(dir_of(path))) return fail(ENOENT, "mkdir " + path);
  const bool powered = s.step();
  const auto inode = std::make_shared<Inode>();
  inode->directory = true;
  s.made.insert(path);
  s.change_name({path, inode}, say);
  return s.done(Op::make_dir, powered, path);
}

Result<void> MemDisk::remove(const std::string& path) {
  INDRA_LET(const int say, state_->ask(Op::remove, path));
  State& s = *state_;
  const MutexLock lock{s.mutex};
  INDRA_TRY(s.alive(path));
  if (!s.now.contains(path)) return fail(ENOENT, "unlink " + path);
  const bool powered = s.step();
  s.change_name({path, nullptr}, say);
  return s.done(Op::remove, powered, path);
}

Result<std::vector<std::string>> MemDisk::list(const std::string& dir) {
  const MutexLock lock{state_->mutex};
  INDRA_TRY(state_->alive(dir));
  if (!state_->has_dir(dir)) return fail(ENOENT, "list " + dir);
  std::vector<std::string> names;
  for (const auto& [path, i] : state_->now)
    if (dir_of(path) == dir) names.push_back(path.substr(dir.size() + 1));
  return names;
}

Result<void> MemDisk::sync_dir(const std::string& path) {
  INDRA_LET(const int say, state_->ask(Op::sync_dir, path));
  State& s = *state_;
  const MutexLock lock{s.mutex};
  INDRA_TRY(s.alive(path));
  const bool powered = s.step();
  if (powered && say != kSwallow) {
    for (const NameChange& c : s.unsynced[path]) rename_in(c, s.durable);
    s.unsynced.erase(path);
  }
  return s.done(Op::sync_dir, powered, path);
}

Result<Disk::Space> MemDisk::space(const std::string&) {
  const MutexLock lock{state_->mutex};
  const std::uint64_t used = state_->used();
  return Space{state_->capacity - std::min(used, state_->capacity), state_->capacity};
}

}  // namespace indra
