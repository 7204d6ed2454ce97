// Long because buffers, places and files of the segments share one lock order, which is easier seen in one
// file.
#include "blob/segments.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <optional>
#include <set>
#include <unordered_set>

#include "base/log.h"
#include "base/time.h"
#include "blob/hash.h"

namespace indra {
namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kHeader = kBlock;
constexpr std::size_t kMaxExtent = 64 * 1024;
constexpr std::uint64_t kMaxSegment = (1ull << 32) - kBlock;
constexpr std::size_t kOpenFiles = 64;
constexpr std::size_t kIdleRuns = 16;
constexpr std::size_t kSpares = 1024;
constexpr std::size_t kSpareBlocks = 4;
constexpr std::string_view kMagic = "IndraSeg";
constexpr std::uint32_t kVersion = 1;

/// Aligned: every extent starts on a block. Packed: extents below 4 KiB, one behind the other.
enum class Kind : std::uint32_t { aligned = 0, packed = 1 };
constexpr std::size_t at(Kind k) { return static_cast<std::size_t>(k); }

constexpr std::uint64_t round_up(std::uint64_t n) { return (n + kBlock - 1) / kBlock * kBlock; }
constexpr std::uint64_t round_down(std::uint64_t n) { return n / kBlock * kBlock; }

Bytes header_of(std::uint32_t id, Kind kind) {
  Bytes h(kHeader);
  std::memcpy(h.data(), kMagic.data(), kMagic.size());
  store_le<std::uint32_t>(h.data() + 8, kVersion);
  store_le<std::uint32_t>(h.data() + 12, id);
  store_le<std::uint32_t>(h.data() + 16, static_cast<std::uint32_t>(kind));
  store_le<std::uint32_t>(h.data() + 20, kBlock);
  store_le<std::int64_t>(h.data() + 24, system_clock().now());
  const BlobHash seal = BlobHash::of(ByteView{h}.first(kHeader - 32));
  std::memcpy(h.data() + kHeader - 32, seal.bytes().data(), 32);
  return h;
}

std::string name_of(std::uint32_t id) {
  std::array<char, 24> name{};
  std::snprintf(name.data(), name.size(), "%08u.seg", id);
  return name.data();
}

/// 0 when `name` is not one of ours.
std::uint32_t id_of(const std::string& name) {
  unsigned id = 0;
  if (std::sscanf(name.c_str(), "%10u.seg", &id) != 1 || name != name_of(id)) return 0;
  return id;
}

struct Segment;
struct Run;

/// The memory of buffers, used again: fresh pages cost more than what is copied into them.
class Pool {
 public:
  using Block = std::unique_ptr<std::byte[]>;
  explicit Pool(std::size_t size) : size_{size} { spare_.reserve(kSpareBlocks); }
  Block take() {
    {
      const MutexLock lock{mutex_};
      if (!spare_.empty()) {
        Block b = std::move(spare_.back());
        spare_.pop_back();
        return b;
      }
    }
    return std::make_unique_for_overwrite<std::byte[]>(size_);
  }
  void give(Block b) {
    const MutexLock lock{mutex_};
    if (spare_.size() < kSpareBlocks) spare_.push_back(std::move(b));
  }

 private:
  const std::size_t size_;
  Mutex mutex_;
  std::vector<Block> spare_ INDRA_GUARDED_BY(mutex_);
};

/// Neighbouring extents on their way to the file: filled by one Run, sealed, written once.
/// Bytes below `size` never change, so readers need no lock for them.
struct Buffer {
  Buffer(std::shared_ptr<Segment> s, std::uint64_t from, std::size_t room, std::weak_ptr<Run> r,
         std::shared_ptr<Pool> p)
      : segment{std::move(s)},
        start{from},
        capacity{room},
        run{std::move(r)},
        pool{std::move(p)},
        bytes{pool->take()} {}
  ~Buffer() { pool->give(std::move(bytes)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  [[nodiscard]] bool holds(std::uint64_t from, std::size_t n) const {
    return from >= start && from + n <= start + size.load(std::memory_order_acquire);
  }

  const std::shared_ptr<Segment> segment;
  const std::uint64_t start;
  const std::size_t capacity;
  const std::weak_ptr<Run> run;
  const std::shared_ptr<Pool> pool;
  Pool::Block bytes;  // the same one while the buffer lives
  std::atomic<std::size_t> size{0};
  Mutex writing;  // held during the pwrite: whoever else wants the buffer written waits here
  bool written INDRA_GUARDED_BY(writing) = false;
};
using BufferPtr = std::shared_ptr<Buffer>;

struct Segment {
  Segment(std::uint32_t i, std::string p, Kind k, std::uint64_t e)
      : id{i}, path{std::move(p)}, kind{k}, end{e} {}
  const std::uint32_t id;
  const std::string path;
  const Kind kind;
  std::atomic<std::uint64_t> end;     // of what was appended
  std::atomic<bool> unsynced{false};  // written since the last fdatasync began
  std::atomic<bool> fresh{false};     // its name is not durable yet
  std::atomic<bool> removed{false};
  bool lost = false;                      // its file is missing or another's; set before anybody else sees it
  std::atomic<std::uint64_t> used_at{0};  // which file is closed first
  std::atomic<std::int64_t> allocated{-1};  // -1: ask

  SharedMutex mutex;
  std::map<std::uint64_t, BufferPtr> pending INDRA_GUARDED_BY(mutex);  // by start; not in the file yet
  std::shared_ptr<DiskFile> file INDRA_GUARDED_BY(mutex);              // while open
  std::atomic<std::uint64_t> awaiting{0};                              // bytes appended and not settled()

  // Guarded by Impl::places.
  std::uint64_t reserved = 0;  // bytes behind are nobody's
  int runs = 0;
};
using SegmentPtr = std::shared_ptr<Segment>;

/// The place where a stream appends. Outlives the stream: the next one goes on in its buffer and its
/// reservation.
struct Run {
  explicit Run(Kind k) : kind{k} {}
  const Kind kind;
  Mutex mutex;  // held to copy bytes, never during input or output
  SegmentPtr segment INDRA_GUARDED_BY(mutex);
  std::uint64_t next INDRA_GUARDED_BY(mutex) = 0, end INDRA_GUARDED_BY(mutex) = 0;  // reserved and free
  BufferPtr buffer INDRA_GUARDED_BY(mutex);
};
using RunPtr = std::shared_ptr<Run>;

}  // namespace

bool segment_header_is_sound(ByteView h) {
  return h.size() == kHeader && as_text(h).starts_with(kMagic) &&
         std::ranges::equal(BlobHash::of(h.first(kHeader - 32)).bytes(), h.last(32));
}

class Segments::Stream {
 public:
  explicit Stream(RunPtr r) : run{std::move(r)} {}
  RunPtr run;
};

// Lock order: a Run's mutex, then any one of the others; Buffer::writing before Segment::mutex. No input or
// output under any lock but Buffer::writing and `creating`.
struct Segments::Impl {
  Impl(Disk& d, std::string where, Options o) : disk{d}, dir{std::move(where)}, options{std::move(o)} {
    options.segment_size =
        std::clamp<std::uint64_t>(round_down(options.segment_size), kHeader + 2 * kMaxExtent, kMaxSegment);
    options.buffer = std::max(options.buffer, kMaxExtent);
    options.reservation = std::max(round_up(options.reservation), std::uint64_t{kMaxExtent});
    pool = std::make_shared<Pool>(options.buffer);
  }
  ~Impl() {
    const ReadLock lock{table_mutex};
    for (auto& [id, s] : table) {  // buffers and segments hold each other
      const WriteLock l{s->mutex};
      s->pending.clear();
    }
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Disk& disk;
  const std::string dir;
  Options options;
  std::shared_ptr<Pool> pool;

  std::vector<std::string> damage;  // by open() alone

  mutable SharedMutex table_mutex;
  std::map<std::uint32_t, SegmentPtr> table INDRA_GUARDED_BY(table_mutex);

  struct Spare {
    SegmentPtr segment;
    std::uint64_t from, to;
  };
  Mutex places;
  std::array<SegmentPtr, 2> current INDRA_GUARDED_BY(places);
  std::array<std::vector<Spare>, 2> spares INDRA_GUARDED_BY(places);

  Mutex creating;
  std::uint32_t next_id INDRA_GUARDED_BY(creating) = 1;

  Mutex runs_mutex;
  std::vector<RunPtr> runs INDRA_GUARDED_BY(runs_mutex);  // all
  std::vector<RunPtr> idle INDRA_GUARDED_BY(runs_mutex);  // without a stream
  std::atomic<std::size_t> run_count{0};
  const RunPtr small = std::make_shared<Run>(Kind::packed);

  Mutex sealed_mutex;
  std::unordered_set<BufferPtr> sealed INDRA_GUARDED_BY(sealed_mutex);  // complete, to be written
  std::atomic<bool> stuck{false};  // a write failed; its buffer is still there

  mutable Mutex files_mutex;
  mutable std::vector<SegmentPtr> open_files INDRA_GUARDED_BY(files_mutex);
  mutable std::atomic<std::uint64_t> uses{0};

  Mutex marks_mutex;
  std::set<SegmentPtr> marks INDRA_GUARDED_BY(marks_mutex);  // unsynced ones
  std::set<SegmentPtr> holed INDRA_GUARDED_BY(marks_mutex);  // punched since sync_holes()
  std::atomic<std::uint64_t> changes{0};                     // 0: everything is durable
  std::atomic<bool> failed{false};
  std::atomic<bool> told_no_punch{false};

  std::mutex sync_mutex;  // rounds of sync(): those who come during one share the next
  std::condition_variable sync_done;
  bool syncing = false;
  std::uint64_t begun = 0, ended = 0, succeeded = 0;
  std::optional<Error> last_error;

  Result<SegmentPtr> find(std::uint32_t id) const {
    const ReadLock lock{table_mutex};
    const auto it = table.find(id);
    if (it == table.end())
      return fail(make_error_code(Errc::corrupt), "segment " + dir + "/" + name_of(id) + " is not there");
    return it->second;
  }

  // ---- files

  Result<std::shared_ptr<DiskFile>> file(const SegmentPtr& s) const {
    if (s->lost) return fail(make_error_code(Errc::corrupt), "segment " + s->path + " is missing");
    s->used_at.store(uses.fetch_add(1, std::memory_order_relaxed), std::memory_order_relaxed);
    {
      const ReadLock lock{s->mutex};
      if (s->file) return s->file;
    }
    INDRA_LET(std::shared_ptr<DiskFile> opened, disk.open(s->path, false));
    {
      const WriteLock lock{s->mutex};
      if (s->file) return s->file;  // somebody else was quicker
      s->file = opened;
    }
    opened_file(s);
    return opened;
  }
  /// Closes the files used longest ago. One that awaits its fdatasync stays: closing it could lose an error.
  void opened_file(const SegmentPtr& s) const {
    const MutexLock lock{files_mutex};
    open_files.push_back(s);
    while (open_files.size() > kOpenFiles) {
      auto oldest = open_files.end();
      for (auto it = open_files.begin(); it != open_files.end(); ++it)
        if (*it != s && !(*it)->unsynced &&
            (oldest == open_files.end() || (*it)->used_at < (*oldest)->used_at))
          oldest = it;
      if (oldest == open_files.end()) return;
      close_file(**oldest);
      open_files.erase(oldest);
    }
  }
  static void close_file(Segment& s) {
    std::shared_ptr<DiskFile> gone;
    const WriteLock lock{s.mutex};
    gone.swap(s.file);
  }

  // ---- what awaits an fdatasync

  void mark(const SegmentPtr& s) {
    s->allocated = -1;
    if (s->unsynced.exchange(true)) return;
    const MutexLock lock{marks_mutex};
    marks.insert(s);
  }
  void changed() { changes.fetch_add(1); }

  // ---- places

  /// How much to reserve at once: less when very many write at the same time.
  std::uint64_t reservation() const {
    return std::max<std::uint64_t>(kMaxExtent, round_down(options.reservation / (1 + run_count / 32)));
  }

  /// Makes room for `n` bytes in the run. False: a new segment is needed.
  bool make_room(Run& r, std::size_t n) INDRA_REQUIRES(r.mutex) INDRA_EXCLUDES(places) {
    const MutexLock lock{places};
    const std::uint64_t want = reservation();
    const std::uint64_t from = r.kind == Kind::aligned ? round_up(r.next) : r.next;
    if (r.segment && r.segment->reserved == r.end &&
        from + n <= options.segment_size) {  // nobody is behind: grow
      r.end = std::min(std::max(r.end + want, round_up(from + n)), options.segment_size);
      r.segment->reserved = r.end;
      return true;
    }
    auto& free = spares[at(r.kind)];
    auto& cur = current[at(r.kind)];
    const auto take_spare = [&]() INDRA_NO_ANALYSIS {
      for (auto it = free.rbegin(); it != free.rend(); ++it)
        if (it->to - it->from >= n) {
          const Spare got = *it;
          free.erase(std::next(it).base());
          move_run(r, got.segment, got.from, got.to);
          return true;
        }
      return false;
    };
    // A file that turns out long goes on in a run of its own, a new one begins in what others left over.
    if (!r.segment && take_spare()) return true;
    if (cur && cur->reserved + round_up(n) <= options.segment_size) {
      const std::uint64_t begin = cur->reserved,
                          end = std::min(begin + std::max(want, round_up(n)), options.segment_size);
      cur->reserved = end;
      move_run(r, cur, begin, end);
      return true;
    }
    cur.reset();
    return take_spare();
  }
  void move_run(Run& r, const SegmentPtr& s, std::uint64_t from, std::uint64_t to)
      INDRA_REQUIRES(r.mutex, places) {
    give_back(r);
    ++s->runs;
    r.segment = s;
    r.next = from;
    r.end = to;
  }
  void give_back(Run& r) INDRA_REQUIRES(r.mutex, places) {
    if (!r.segment) return;
    --r.segment->runs;
    const std::uint64_t from = round_up(r.next);
    if (from < r.end) {
      auto& free = spares[at(r.kind)];
      if (r.segment->reserved == r.end && r.segment == current[at(r.kind)]) {
        r.segment->reserved = from;
      } else if (r.end - from >= kMaxExtent) {
        if (free.size() == kSpares) free.erase(free.begin());
        free.push_back({r.segment, from, r.end});
      }
    }
    r.segment.reset();
    r.next = r.end = 0;
  }

  Result<void> create(Kind kind) {
    const MutexLock one{creating};
    {
      const MutexLock lock{places};
      const auto& cur = current[at(kind)];
      if (cur && cur->reserved + kMaxExtent <= options.segment_size) return {};  // somebody else was quicker
    }
    INDRA_TRY(options.faults.at("segment.create"));
    const std::uint32_t id = next_id++;
    auto s = std::make_shared<Segment>(id, dir + "/" + name_of(id), kind, kHeader);
    INDRA_LET(std::shared_ptr<DiskFile> f, disk.open(s->path, true));
    if (auto r = f->write(0, header_of(id, kind)); !r) {
      f.reset();
      if (!disk.remove(s->path)) log::warn("{} could not be written, nor removed", s->path);
      return r;
    }
    s->fresh = true;
    s->reserved = kHeader;
    {
      const WriteLock lock{s->mutex};
      s->file = std::move(f);
    }
    {
      const WriteLock lock{table_mutex};
      table[id] = s;
    }
    mark(s);
    changed();
    opened_file(s);
    const MutexLock lock{places};
    current[at(kind)] = s;
    return {};
  }

  // ---- buffers

  void seal(Run& r) INDRA_REQUIRES(r.mutex) {
    if (!r.buffer) return;
    const MutexLock lock{sealed_mutex};
    sealed.insert(std::move(r.buffer));
    r.buffer.reset();
  }

  /// Writes a sealed buffer, unless that was done. After an error it is still there.
  Result<void> flush(const BufferPtr& b) {
    const MutexLock one{b->writing};
    if (b->written) return {};
    const SegmentPtr& s = b->segment;
    mark(s);  // before: the file stays open; after: an fdatasync that began meanwhile does not count
    auto r = [&]() -> Result<void> {
      INDRA_TRY(options.faults.at("segment.write"));
      INDRA_LET(const auto f, file(s));
      return f->write(b->start, ByteView{b->bytes.get(), b->size});
    }();
    mark(s);
    if (!r) {
      stuck = true;
      return r;
    }
    b->written = true;
    {
      const WriteLock lock{s->mutex};
      s->pending.erase(b->start);
    }
    const MutexLock lock{sealed_mutex};
    sealed.erase(b);
    return {};
  }
  /// Everything sealed before the call. Tries all of them; the first error.
  Result<void> flush_sealed() {
    std::vector<BufferPtr> all;
    {
      const MutexLock lock{sealed_mutex};
      all.assign(sealed.begin(), sealed.end());
    }
    stuck = false;
    Result<void> first;
    for (const BufferPtr& b : all)
      if (auto r = flush(b); !r && first) first = std::move(r);
    return first;
  }
  /// What [from, to) of the segment still has in memory gets written.
  Result<void> settle(const SegmentPtr& s, std::uint64_t from, std::uint64_t to) {
    std::vector<BufferPtr> there;
    {
      const ReadLock lock{s->mutex};
      auto it = s->pending.lower_bound(to);
      while (it != s->pending.begin()) {
        --it;
        if (it->first + it->second->capacity <= from) break;
        if (it->first + it->second->size > from) there.push_back(it->second);
      }
    }
    for (const BufferPtr& b : there) {
      if (const RunPtr r = b->run.lock()) {
        const MutexLock lock{r->mutex};
        if (r->buffer == b) seal(*r);
      }
      INDRA_TRY(flush(b));
    }
    return {};
  }

  // ---- sync

  Result<void> sync_round() {
    if (failed) return fail(make_error_code(Errc::failed), "segments: an earlier sync failed");
    const std::uint64_t seen = changes;
    if (seen == 0) return {};
    std::vector<RunPtr> all;
    {
      const MutexLock lock{runs_mutex};
      all = runs;
    }
    all.push_back(small);
    for (const RunPtr& r : all) {
      const MutexLock lock{r->mutex};
      seal(*r);
    }
    INDRA_TRY(flush_sealed());
    std::set<SegmentPtr> files;
    {
      const MutexLock lock{marks_mutex};
      files.swap(marks);
    }
    const auto sync_all = [&]() -> Result<void> {
      bool new_name = false;
      for (const SegmentPtr& s : files) {
        if (s->removed) continue;
        const auto f = file(s);
        if (!f && s->removed) continue;
        if (!f) return fail(f.error());
        INDRA_TRY(options.faults.at("segment.sync"));
        s->unsynced = false;
        INDRA_TRY((*f)->sync());
        new_name = new_name || s->fresh;
      }
      if (!new_name) return {};
      INDRA_TRY(disk.sync_dir(dir));
      for (const SegmentPtr& s : files) s->fresh = false;
      return {};
    };
    if (auto r = sync_all(); !r) {
      failed = true;
      // Even for want of space: what the kernel could not write it has forgotten. It must not look as if it
      // could be tried again.
      const int code = to_errno(r.error());
      if (code == ENOSPC || code == EDQUOT) return fail(EIO, r.error().text());
      return r;
    }
    std::uint64_t expected = seen;  // nothing came since: clean
    changes.compare_exchange_strong(expected, 0);
    return {};
  }

  // ---- punching

  /// Frees the whole blocks of the dead bytes [from, to). What is left at the ends, by block, lies in `left`.
  Result<void> punch(const SegmentPtr& s, std::uint64_t from, std::uint64_t to, std::vector<Extent>& left) {
    if (s->lost) return {};
    from = std::max(from, kHeader);
    // Of aligned ones the padding belongs to the extent before it.
    const bool aligned = s->kind == Kind::aligned;
    const std::uint64_t lo = round_up(from), hi = aligned ? round_up(to) : round_down(to);
    if (!aligned) {
      const auto part = [&](std::uint64_t a, std::uint64_t b) {
        if (a < b) left.push_back({s->id, static_cast<std::uint32_t>(a), static_cast<std::uint32_t>(b - a)});
      };
      part(from, std::min(lo, to));
      part(std::max(hi, lo), to);
    }
    if (hi <= lo) return {};
    // Else the buffer would come after it. On a full disk it cannot be written: giving space back goes on all
    // the same.
    if (auto r = settle(s, lo, hi); !r) log::debug("{}", r.error().text());
    INDRA_TRY(options.faults.at("segment.punch"));
    const auto f = file(s);
    if (!f && s->removed) return {};
    if (!f) return fail(f.error());
    auto r = (*f)->punch(lo, hi - lo);
    s->allocated = -1;
    if (r) {
      const MutexLock lock{marks_mutex};
      holed.insert(s);
    }
    if (!r) {
      if (r.error().code != std::errc::operation_not_supported) return r;
      if (!told_no_punch.exchange(true))
        log::warn(
            "{}: the file system cannot free parts of a file; space comes back with whole segments only",
            dir);
    }
    return {};
  }
};

Segments::Segments(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Segments::~Segments() = default;

Result<std::unique_ptr<Segments>> Segments::open(Disk& disk, std::string dir,
                                                 std::map<std::uint32_t, std::uint64_t> ends,
                                                 Options options) {
  auto impl = std::make_unique<Impl>(disk, std::move(dir), std::move(options));
  Impl& m = *impl;
  INDRA_TRY(disk.make_dir(m.dir));
  INDRA_LET(const auto names, disk.list(m.dir));
  std::set<std::uint32_t> there;
  std::uint32_t last = 0;
  for (const std::string& n : names) {
    const std::uint32_t id = id_of(n);
    if (id == 0) {
      log::warn("{}/{} is not a segment; left alone", m.dir, n);
    } else if (!ends.contains(id)) {
      log::info("{}/{} was begun and never used; removed", m.dir, n);
      INDRA_TRY(disk.remove(m.dir + "/" + n));
      last = std::max(last, id);  // its number is not given again at once
    } else {
      there.insert(id);
    }
  }
  std::array<SegmentPtr, 2> newest;
  std::set<SegmentPtr> damaged;
  std::map<std::uint32_t, SegmentPtr> table;
  for (const auto& recorded : ends) {
    const std::uint32_t id = recorded.first;
    const std::uint64_t end = std::max(recorded.second, kHeader);
    const std::string path = m.dir + "/" + name_of(id);
    last = std::max(last, id);
    const auto damaged_by = [&](const std::string& what) {
      m.damage.push_back("segment " + path + " " + what + ": files whose bytes were there cannot be read");
      log::error("{}", m.damage.back());
    };
    const auto lose = [&](const std::string& what) {
      damaged_by(what);
      auto s = std::make_shared<Segment>(id, path, Kind::packed, end);
      s->reserved = round_up(end);
      s->lost = true;
      table[id] = std::move(s);
    };
    if (!there.contains(id)) {
      lose("is missing");
      continue;
    }
    INDRA_LET(std::shared_ptr<DiskFile> f, disk.open(path, false));
    INDRA_LET(const std::uint64_t size, f->size());
    const bool cut = size < end;
    if (cut) damaged_by("is shorter than the vault says");
    Bytes h(kHeader);
    INDRA_LET(const std::size_t n, f->read(0, h));
    const bool sound = segment_header_is_sound(ByteView{h}.first(n));
    Kind kind = Kind::packed;  // the careful one, where the header does not say
    if (sound) {
      if (load_le<std::uint32_t>(h.data() + 8) > kVersion)
        return fail(make_error_code(Errc::newer_format), "segment " + path);
      if (load_le<std::uint32_t>(h.data() + 12) != id) {
        lose("is another one, renamed");
        continue;
      }
      if (load_le<std::uint32_t>(h.data() + 16) == static_cast<std::uint32_t>(Kind::aligned))
        kind = Kind::aligned;
    } else {
      log::warn("{}: the header is damaged; it is read, and nothing more is written to it", path);
    }
    if (size >
        round_up(
            end))  // leftovers of a crash; where they cannot be freed they stay, and nothing refers to them
      if (auto r = f->punch(round_up(end), round_up(size) - round_up(end)); !r)
        log::warn("{}", r.error().text());
    auto s = std::make_shared<Segment>(id, path, kind, end);
    s->reserved = round_up(end);
    if (!sound || cut) damaged.insert(s);
    table[id] = s;
    newest[at(kind)] = s;
  }
  {
    const MutexLock lock{m.creating};
    m.next_id = last + 1;
  }
  {
    const MutexLock lock{m.places};
    for (std::size_t k = 0; k < newest.size(); ++k)
      if (newest[k] && !damaged.contains(newest[k]) && newest[k]->reserved <= m.options.segment_size / 4 * 3)
        m.current[k] = newest[k];
  }
  {
    const WriteLock lock{m.table_mutex};
    m.table = std::move(table);
  }
  return std::unique_ptr<Segments>{new Segments{std::move(impl)}};
}

Segments::StreamPtr Segments::stream() {
  Impl& m = *impl_;
  const MutexLock lock{m.runs_mutex};
  RunPtr r;
  if (!m.idle.empty()) {
    r = std::move(m.idle.back());
    m.idle.pop_back();
  } else {
    r = std::make_shared<Run>(Kind::aligned);
    m.runs.push_back(r);
    m.run_count = m.runs.size();
  }
  return {new Stream{std::move(r)}, StreamEnd{this}};
}

void Segments::close(Stream* s) {
  Impl& m = *impl_;
  const std::unique_ptr<Stream> own{s};
  RunPtr retired;
  {
    const MutexLock lock{m.runs_mutex};
    m.idle.push_back(own->run);
    if (m.idle.size() <= kIdleRuns) return;
    retired = m.idle.front();
    m.idle.erase(m.idle.begin());
  }
  {
    const MutexLock lock{retired->mutex};
    m.seal(*retired);
    const MutexLock places{m.places};
    m.give_back(*retired);
  }
  const MutexLock lock{m.runs_mutex};  // only now: a sync that looks meanwhile still finds it
  std::erase(m.runs, retired);
  m.run_count = m.runs.size();
}

Result<Extent> Segments::append(Stream& stream, ByteView bytes) {
  Impl& m = *impl_;
  const std::size_t n = bytes.size();
  if (n == 0 || n > kMaxExtent) return fail(EINVAL, "extent of this size");
  if (m.stuck)
    INDRA_TRY(m.flush_sealed());  // what could not be written comes first, so that memory stays bounded
  const RunPtr run = n < kBlock ? m.small : stream.run;
  Run& r = *run;
  for (;;) {
    BufferPtr full;
    bool new_segment = false;
    {
      const MutexLock lock{r.mutex};
      const auto place = [&]() INDRA_NO_ANALYSIS {
        return r.kind == Kind::aligned ? round_up(r.next) : r.next;
      };
      if (!r.segment || place() + n > r.end) {
        const SegmentPtr before = r.segment;
        const std::uint64_t was = r.next;
        new_segment = !m.make_room(r, n);
        if (new_segment || r.segment != before || r.next != was) {  // elsewhere: this buffer gets no more
          full = r.buffer;
          m.seal(r);
        }
      }
      if (!new_segment) {
        const std::uint64_t from = place();
        if (r.buffer && from + n > r.buffer->start + r.buffer->capacity) {
          full = r.buffer;
          m.seal(r);
        }
        if (!full) {
          if (!r.buffer) {
            r.buffer = std::make_shared<Buffer>(r.segment, from, m.options.buffer, run, m.pool);
            const WriteLock seg{r.segment->mutex};
            r.segment->pending[from] = r.buffer;
          }
          Buffer& b = *r.buffer;
          const std::size_t have = b.size.load(std::memory_order_relaxed),
                            to = static_cast<std::size_t>(from - b.start);
          std::memset(b.bytes.get() + have, 0, to - have);
          std::memcpy(b.bytes.get() + to, bytes.data(), n);
          b.size.store(to + n, std::memory_order_release);
          r.next = from + n;
          r.segment->awaiting += n;
          auto end = r.segment->end.load();
          while (end < r.next && !r.segment->end.compare_exchange_weak(end, r.next)) {
          }
          m.changed();
          return Extent{r.segment->id, static_cast<std::uint32_t>(from), static_cast<std::uint32_t>(n)};
        }
      }
    }
    if (full) INDRA_TRY(m.flush(full));
    if (new_segment) INDRA_TRY(m.create(r.kind));
  }
}

Result<void> Segments::read(const Extent& e, std::uint32_t at, MutableBytes out) const {
  if (std::uint64_t{at} + out.size() > e.length) return fail(EINVAL, "read beyond an extent");
  INDRA_LET(const SegmentPtr s, impl_->find(e.segment));
  const std::uint64_t from = std::uint64_t{e.offset} + at;
  BufferPtr buffer;
  {
    const ReadLock lock{s->mutex};
    auto it = s->pending.upper_bound(from);
    if (it != s->pending.begin() && (--it)->second->holds(from, out.size())) buffer = it->second;
  }
  if (buffer) {
    std::memcpy(out.data(), buffer->bytes.get() + (from - buffer->start), out.size());
    return {};
  }
  INDRA_LET(const auto f, impl_->file(s));
  INDRA_LET(const std::size_t n, f->read(from, out));
  if (n < out.size()) return fail(make_error_code(Errc::corrupt), "segment " + s->path + " ends too early");
  return {};
}

void Segments::uncache(const Extent& e) const {
  const auto s = impl_->find(e.segment);
  if (!s) return;
  if (const auto f = impl_->file(*s)) (*f)->uncache(e.offset, e.length);
}

Result<void> Segments::overwrite(const Extent& e, std::uint32_t at, ByteView bytes) {
  Impl& m = *impl_;
  if (std::uint64_t{at} + bytes.size() > e.length) return fail(EINVAL, "write beyond an extent");
  INDRA_LET(const SegmentPtr s, m.find(e.segment));
  const std::uint64_t from = std::uint64_t{e.offset} + at;
  INDRA_TRY(m.settle(s, from, from + bytes.size()));  // else the buffer would come after it
  INDRA_TRY(m.options.faults.at("segment.write"));
  m.mark(s);
  auto r = [&]() -> Result<void> {
    INDRA_LET(const auto f, m.file(s));
    return f->write(from, bytes);
  }();
  m.mark(s);
  m.changed();
  return r;
}

Result<void> Segments::sync() {
  Impl& m = *impl_;
  std::unique_lock lock{m.sync_mutex};
  const std::uint64_t mine = m.begun + 1;  // one that has begun may have passed what the caller wrote
  while (m.ended < mine && m.syncing) m.sync_done.wait(lock);
  if (m.ended < mine) {
    m.syncing = true;
    const std::uint64_t round = ++m.begun;
    lock.unlock();
    auto r = m.sync_round();
    lock.lock();
    m.syncing = false;
    m.ended = round;
    if (r)
      m.succeeded = round;
    else
      m.last_error = r.error();
    m.sync_done.notify_all();
  }
  if (m.succeeded >= mine) return {};
  return fail(*m.last_error);
}

bool Segments::dirty() const noexcept { return impl_->changes.load(std::memory_order_acquire) != 0; }

Result<std::vector<Extent>> Segments::punch(std::vector<Extent> dead) {
  std::vector<Extent> left;
  std::ranges::sort(dead, {}, [](const Extent& e) { return std::pair{e.segment, e.offset}; });
  for (std::size_t i = 0; i < dead.size();) {
    INDRA_LET(const SegmentPtr s, impl_->find(dead[i].segment));
    const std::uint64_t from = dead[i].offset;
    std::uint64_t to = from + dead[i].length;
    // Neighbours together, so that the blocks they share go too.
    for (++i; i < dead.size() && dead[i].segment == s->id &&
              dead[i].offset <= (s->kind == Kind::aligned ? round_up(to) : to);
         ++i)
      to = std::max(to, std::uint64_t{dead[i].offset} + dead[i].length);
    INDRA_TRY(impl_->punch(s, from, to, left));
  }
  return left;
}

void Segments::settled(const Extent& e) {
  if (const auto s = impl_->find(e.segment)) (*s)->awaiting -= e.length;
}

bool Segments::is_packed(std::uint32_t segment) const {
  const auto s = impl_->find(segment);
  return s && !(*s)->lost && (*s)->kind == Kind::packed;
}

Result<void> Segments::sync_holes() {
  Impl& m = *impl_;
  std::set<SegmentPtr> holed;
  {
    const MutexLock lock{m.marks_mutex};
    holed.swap(m.holed);
  }
  for (const SegmentPtr& s : holed) {
    const auto f = m.file(s);
    if (!f && s->removed) continue;
    if (!f) return fail(f.error());
    INDRA_TRY((*f)->sync());
  }
  return {};
}

std::uint64_t Segments::end_of(std::uint32_t segment) const {
  const auto s = impl_->find(segment);
  return s ? (*s)->end.load() : 0;
}

Result<bool> Segments::retire(std::uint32_t segment) {
  Impl& m = *impl_;
  INDRA_LET(const SegmentPtr s, m.find(segment));
  if (s->lost || s->awaiting != 0) return false;
  std::vector<RunPtr> idle;
  {
    const MutexLock lock{m.runs_mutex};
    idle = m.idle;
  }
  for (const RunPtr& r : idle) {  // nobody's stream: it need not go on here
    const MutexLock lock{r->mutex};
    if (r->segment != s) continue;
    m.seal(*r);
    const MutexLock places{m.places};
    m.give_back(*r);
  }
  {
    const MutexLock lock{m.places};
    if (s->runs != 0 || s == m.current[at(s->kind)]) return false;
    std::erase_if(m.spares[at(s->kind)], [&](const Impl::Spare& p) { return p.segment == s; });
  }
  return s->awaiting == 0;
}

Result<void> Segments::remove(std::uint32_t segment) {
  Impl& m = *impl_;
  INDRA_LET(const bool idle, retire(segment));
  INDRA_LET(const SegmentPtr s, m.find(segment));
  if (!idle) return fail(EBUSY, "segment " + s->path + " is being appended to");
  INDRA_TRY(m.settle(s, 0, kMaxSegment));
  s->removed = true;
  {
    const WriteLock lock{m.table_mutex};
    m.table.erase(segment);
  }
  {
    const MutexLock lock{m.marks_mutex};
    m.marks.erase(s);
    m.holed.erase(s);
  }
  {
    const MutexLock lock{m.files_mutex};
    std::erase(m.open_files, s);
    Impl::close_file(*s);
  }
  return m.disk.remove(s->path);
}

std::vector<std::string> Segments::damage() const { return impl_->damage; }

std::string Segments::path_of(const std::string& dir, std::uint32_t segment) {
  return dir + "/" + name_of(segment);
}

Result<std::uint64_t> Segments::allocated() const {
  std::vector<std::uint32_t> all;
  {
    const ReadLock lock{impl_->table_mutex};
    for (const auto& [id, s] : impl_->table) all.push_back(id);
  }
  std::uint64_t sum = 0;
  for (const std::uint32_t id : all) {
    INDRA_LET(const std::uint64_t n, allocated(id));
    sum += n;
  }
  return sum;
}

Result<std::uint64_t> Segments::allocated(std::uint32_t segment) const {
  const auto found = impl_->find(segment);
  if (!found || (*found)->lost) return 0;  // removed meanwhile
  const SegmentPtr& s = *found;
  if (const std::int64_t n = s->allocated; n >= 0) return static_cast<std::uint64_t>(n);
  const auto f = impl_->file(s);
  if (!f && s->removed) return 0;
  if (!f) return fail(f.error());
  INDRA_LET(const std::uint64_t n, (*f)->allocated());
  if (!s->unsynced) s->allocated = static_cast<std::int64_t>(n);
  return n;
}

}  // namespace indra
