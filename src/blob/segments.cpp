#include "blob/segments.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <list>
#include <set>
#include <unordered_map>

#include "base/log.h"

namespace indra {
namespace {

constexpr std::uint64_t kHeader = 4096;
constexpr std::size_t kBlock = 4096;
constexpr std::size_t kOpenFiles = 48;
constexpr std::string_view kMagic = "IndraSeg";
constexpr std::uint32_t kVersion = 1;

std::uint64_t round_up(std::uint64_t n, std::uint64_t to) { return (n + to - 1) / to * to; }

Bytes header_of(std::uint32_t id) {
  Bytes h(kHeader);
  std::memcpy(h.data(), kMagic.data(), kMagic.size());
  store_le<std::uint32_t>(h.data() + 8, kVersion);
  store_le<std::uint32_t>(h.data() + 12, id);
  return h;
}

std::string name_of(std::uint32_t id) {
  char buf[32];
  std::snprintf(buf, sizeof buf, "%08u.seg", id);
  return buf;
}

/// 0 when `name` is not one of ours.
std::uint32_t id_of(const std::string& name) {
  unsigned id = 0;
  char end = 0;
  if (name.size() != 12 || std::sscanf(name.c_str(), "%8u.seg%c", &id, &end) != 1 || name != name_of(id)) return 0;
  return id;
}

}  // namespace

/// A run reserved in one segment, and the bytes of it not written to the file yet.
class Segments::Stream {
 public:
  std::uint32_t segment = 0;
  std::uint64_t next = 0, end = 0;  // the run: bytes [next, end) are free
  std::uint64_t buffered_at = 0;    // where the buffer's first byte belongs
  Bytes buffer;
  bool registered = false;
};

struct Segments::Impl {
  Impl(Disk& d, std::string where, Options o) : disk{d}, dir{std::move(where)}, options{std::move(o)} {}

  Disk& disk;
  const std::string dir;
  const Options options;

  // Where things are. Guards everything below it; never held during a read, write or sync of a file.
  mutable Mutex mutex;
  std::map<std::uint32_t, std::uint64_t> ends INDRA_GUARDED_BY(mutex);    // end of what was reserved, by segment
  std::map<std::uint32_t, std::uint64_t> used INDRA_GUARDED_BY(mutex);    // end of what was appended
  std::uint32_t current INDRA_GUARDED_BY(mutex) = 0;
  std::set<std::uint32_t> dirty_files INDRA_GUARDED_BY(mutex);
  bool new_file INDRA_GUARDED_BY(mutex) = false;

  // Buffers: one lock, since copying into them is quick; flushing takes the bytes out first.
  mutable Mutex buffers_mutex;
  std::set<Stream*> streams INDRA_GUARDED_BY(buffers_mutex);
  // Bytes on their way to the file, still readable here.
  struct Flight { std::uint32_t segment; std::uint64_t at; Bytes bytes; };
  std::list<Flight> flights INDRA_GUARDED_BY(buffers_mutex);

  mutable Mutex files_mutex;
  mutable std::list<std::uint32_t> recent INDRA_GUARDED_BY(files_mutex);
  mutable std::unordered_map<std::uint32_t, std::shared_ptr<DiskFile>> files INDRA_GUARDED_BY(files_mutex);

  Mutex sync_mutex;  // one sync at a time; outermost
  std::atomic<bool> dirty{false};
  std::atomic<bool> failed{false};

  [[nodiscard]] std::string path(std::uint32_t id) const { return dir + "/" + name_of(id); }

  Result<std::shared_ptr<DiskFile>> file(std::uint32_t id) const {
    const MutexLock lock{files_mutex};
    const auto it = files.find(id);
    if (it != files.end()) {
      if (recent.front() != id) {
        recent.remove(id);
        recent.push_front(id);
      }
      return it->second;
    }
    INDRA_LET(auto f, disk.open(path(id), false));
    std::shared_ptr<DiskFile> shared = std::move(f);
    files[id] = shared;
    recent.push_front(id);
    if (recent.size() > kOpenFiles) {
      files.erase(recent.back());
      recent.pop_back();
    }
    return shared;
  }

  /// A run of `want` bytes; a new segment when the current one is full.
  Result<void> reserve(Stream& s, std::size_t want) INDRA_REQUIRES(mutex) {
    if (current == 0 || ends[current] + want > options.segment_size) {
      INDRA_TRY(options.faults.at("segment.create"));
      const std::uint32_t id = ends.empty() ? 1 : ends.rbegin()->first + 1;
      INDRA_LET(auto f, disk.open(path(id), true));
      if (auto r = f->write(0, header_of(id)); !r) {
        f.reset();
        (void)disk.remove(path(id));
        return r;
      }
      ends[id] = kHeader;
      used[id] = kHeader;
      current = id;
      new_file = true;
      dirty_files.insert(id);
      dirty = true;
    }
    s.segment = current;
    s.next = round_up(ends[current], kBlock);
    s.end = std::min(std::max<std::uint64_t>(s.next + want, s.next + options.reservation), options.segment_size);
    if (s.end < s.next + want) s.end = s.next + want;
    ends[current] = s.end;
    return {};
  }

  Result<void> flush(Stream& s) INDRA_REQUIRES(buffers_mutex) INDRA_NO_ANALYSIS {
    if (s.buffer.empty()) return {};
    flights.push_back({s.segment, s.buffered_at, std::move(s.buffer)});
    s.buffer = {};
    const auto it = std::prev(flights.end());
    s.buffered_at = 0;
    buffers_mutex.unlock();
    auto r = [&]() -> Result<void> {
      INDRA_TRY(options.faults.at("segment.write"));
      INDRA_LET(auto f, file(it->segment));
      return f->write(it->at, it->bytes);
    }();
    buffers_mutex.lock();
    if (!r) {  // kept: a retry after space was freed succeeds
      if (s.buffer.empty()) {
        s.buffered_at = it->at;
        s.buffer = std::move(it->bytes);
        flights.erase(it);
      } else {
        stuck.push_back(std::move(*it));
        flights.erase(it);
      }
      return r;
    }
    flights.erase(it);
    return {};
  }
  std::list<Flight> stuck INDRA_GUARDED_BY(buffers_mutex);  // could not be written yet

  /// Copies what of [at, at+n) is in `bytes` at `from`.
  static bool overlay(std::uint64_t at, MutableBytes out, std::uint64_t from, const Bytes& bytes) {
    const std::uint64_t lo = std::max(at, from), hi = std::min<std::uint64_t>(at + out.size(), from + bytes.size());
    if (lo >= hi) return false;
    std::memcpy(out.data() + (lo - at), bytes.data() + (lo - from), hi - lo);
    return lo == at && hi == at + out.size();
  }
};

Segments::Segments(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Segments::~Segments() = default;

Result<std::unique_ptr<Segments>> Segments::open(Disk& disk, std::string dir, std::map<std::uint32_t, std::uint64_t> ends, Options options) {
  auto impl = std::make_unique<Impl>(disk, std::move(dir), std::move(options));
  INDRA_LET(const auto names, disk.list(impl->dir));
  std::set<std::uint32_t> there;
  for (const std::string& n : names) {
    const std::uint32_t id = id_of(n);
    if (id == 0) {
      log::warn("{}/{} is not a segment; left alone", impl->dir, n);
    } else if (!ends.contains(id)) {
      log::info("{}/{} was begun and never used; removed", impl->dir, n);
      INDRA_TRY(disk.remove(impl->dir + "/" + n));
    } else {
      there.insert(id);
    }
  }
  for (auto& [id, end] : ends) {
    if (!there.contains(id)) return fail(make_error_code(Errc::corrupt), "segment " + impl->path(id) + " is missing");
    INDRA_LET(auto f, impl->file(id));
    Bytes h(16);
    INDRA_LET(const std::size_t n, f->read(0, h));
    if (n != h.size() || as_text(h).substr(0, 8) != kMagic || load_le<std::uint32_t>(h.data() + 12) != id)
      return fail(make_error_code(Errc::corrupt), "segment " + impl->path(id) + " has no valid header");
    if (load_le<std::uint32_t>(h.data() + 8) > kVersion) return fail(make_error_code(Errc::newer_format), "segment " + impl->path(id));
    INDRA_LET(const std::uint64_t size, f->size());
    if (size < end) return fail(make_error_code(Errc::corrupt), "segment " + impl->path(id) + " is shorter than the vault says");
    if (size > end) {  // leftovers of a crash
      const std::uint64_t from = round_up(end, kBlock);
      if (size > from) (void)f->punch(from, size - from);
    }
    impl->used[id] = end;
    end = std::max(end, kHeader);
  }
  {
    const MutexLock lock{impl->mutex};
    impl->ends = std::move(ends);
    if (!impl->ends.empty() && impl->ends.rbegin()->second < impl->options.segment_size / 4 * 3) impl->current = impl->ends.rbegin()->first;
  }
  return std::unique_ptr<Segments>{new Segments{std::move(impl)}};
}

void Segments::close(Stream* s) {
  if (s == nullptr) return;
  {
    const MutexLock lock{impl_->buffers_mutex};
    if (!s->buffer.empty()) impl_->stuck.push_back({s->segment, s->buffered_at, std::move(s->buffer)});
    impl_->streams.erase(s);
  }
  // The rest of the run goes back when nobody reserved behind it.
  const MutexLock lock{impl_->mutex};
  const auto it = impl_->ends.find(s->segment);
  if (it != impl_->ends.end() && it->second == s->end) it->second = s->next;
  delete s;
}

Segments::StreamPtr Segments::stream() {
  auto* s = new Stream;
  {
    const MutexLock lock{impl_->buffers_mutex};
    impl_->streams.insert(s);
  }
  return {s, StreamEnd{this}};
}

Result<Extent> Segments::append(Stream& s, ByteView bytes) {
  Impl& m = *impl_;
  if (bytes.empty() || bytes.size() > m.options.segment_size / 2) return fail(EINVAL, "extent of this size");
  std::uint64_t at = 0;
  {
    const MutexLock lock{m.buffers_mutex};
    at = bytes.size() >= kBlock ? round_up(s.next, kBlock) : s.next;
    if (s.segment == 0 || at + bytes.size() > s.end) {
      INDRA_TRY(m.flush(s));
      const MutexLock places{m.mutex};
      INDRA_TRY(m.reserve(s, std::max(bytes.size(), kBlock)));
      at = s.next;
    }
    if (s.buffer.empty()) s.buffered_at = at;
    const std::size_t gap = static_cast<std::size_t>(at - (s.buffered_at + s.buffer.size()));
    s.buffer.resize(s.buffer.size() + gap);
    s.buffer.insert(s.buffer.end(), bytes.begin(), bytes.end());
    s.next = at + bytes.size();
    {
      const MutexLock places{m.mutex};
      auto& used = m.used[s.segment];
      used = std::max(used, s.next);
      m.dirty_files.insert(s.segment);
    }
    m.dirty = true;
    const Extent e{s.segment, static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(bytes.size())};
    if (s.buffer.size() >= m.options.buffer) INDRA_TRY(m.flush(s));
    return e;
  }
}

Result<void> Segments::read(const Extent& e, std::uint32_t at, MutableBytes out) const {
  const Impl& m = *impl_;
  const std::uint64_t from = std::uint64_t{e.offset} + at;
  const auto in_memory = [&]() INDRA_REQUIRES(m.buffers_mutex) {
    for (const Stream* s : m.streams)
      if (s->segment == e.segment && Impl::overlay(from, out, s->buffered_at, s->buffer)) return true;
    for (const auto* list : {&m.flights, &m.stuck})
      for (const auto& f : *list)
        if (f.segment == e.segment && Impl::overlay(from, out, f.at, f.bytes)) return true;
    return false;
  };
  // An extent lies in one buffer as a whole, or in the file as a whole.
  {
    const MutexLock lock{m.buffers_mutex};
    if (in_memory()) return {};
  }
  INDRA_LET(auto f, m.file(e.segment));
  INDRA_LET(const std::size_t n, f->read(from, out));
  if (n < out.size()) return fail(make_error_code(Errc::corrupt), "segment " + m.path(e.segment) + " ends too early");
  return {};
}

Result<void> Segments::overwrite(const Extent& e, std::uint32_t at, ByteView bytes) {
  Impl& m = *impl_;
  {
    const MutexLock lock{m.buffers_mutex};
    const auto into = [&](std::uint64_t from, Bytes& b) {
      const std::uint64_t pos = std::uint64_t{e.offset} + at;
      if (pos < from || pos + bytes.size() > from + b.size()) return false;
      std::copy(bytes.begin(), bytes.end(), b.begin() + static_cast<std::ptrdiff_t>(pos - from));
      return true;
    };
    for (Stream* s : m.streams)
      if (s->segment == e.segment && into(s->buffered_at, s->buffer)) return {};
    for (auto& f : m.stuck)
      if (f.segment == e.segment && into(f.at, f.bytes)) return {};
  }
  INDRA_TRY(m.options.faults.at("segment.write"));
  {
    const MutexLock lock{m.mutex};
    m.dirty_files.insert(e.segment);
  }
  m.dirty = true;
  INDRA_LET(auto f, m.file(e.segment));
  return f->write(std::uint64_t{e.offset} + at, bytes);
}

Result<void> Segments::sync() {
  Impl& m = *impl_;
  const MutexLock one{m.sync_mutex};
  if (m.failed) return fail(make_error_code(Errc::failed), "segments");
  m.dirty = false;  // what is appended from here on sets it again
  std::set<std::uint32_t> files;
  bool new_file = false;
  {
    const MutexLock lock{m.mutex};
    files.swap(m.dirty_files);
    std::swap(new_file, m.new_file);
  }
  const auto again = [&](Error e) -> Failure {
    const MutexLock lock{m.mutex};
    m.dirty_files.insert(files.begin(), files.end());
    m.new_file = m.new_file || new_file;
    m.dirty = true;
    return fail(std::move(e));
  };
  {
    const MutexLock lock{m.buffers_mutex};
    while (!m.stuck.empty()) {
      auto& f = m.stuck.front();
      auto r = [&]() -> Result<void> {
        INDRA_TRY(m.options.faults.at("segment.write"));
        INDRA_LET(auto file, m.file(f.segment));
        return file->write(f.at, f.bytes);
      }();
      if (!r) return again(r.error());
      m.stuck.pop_front();
    }
    const std::vector<Stream*> streams(m.streams.begin(), m.streams.end());
    for (Stream* s : streams) {
      if (!m.streams.contains(s)) continue;  // ended while a flush let go of the lock: then its bytes are in `stuck`
      if (auto r = m.flush(*s); !r) return again(r.error());
    }
    // Bytes somebody else is writing out right now, or left by a stream that ended meanwhile.
    while (!m.flights.empty() || !m.stuck.empty()) {
      if (!m.stuck.empty()) {
        auto& f = m.stuck.front();
        INDRA_LET(auto file, m.file(f.segment));
        if (auto r = file->write(f.at, f.bytes); !r) return again(r.error());
        m.stuck.pop_front();
        continue;
      }
      m.buffers_mutex.unlock();
      timespec pause{0, 50'000};
      nanosleep(&pause, nullptr);
      m.buffers_mutex.lock();
    }
  }
  for (const std::uint32_t id : files) {
    auto f = m.file(id);
    auto r = f ? m.options.faults.at("segment.sync") : Result<void>{fail(f.error())};
    if (r) r = (*f)->sync();
    if (!r) {
      if (r.error().code == std::errc::no_such_file_or_directory) continue;  // removed meanwhile: it was wholly dead
      m.failed = true;
      return fail(r.error());
    }
  }
  if (new_file)
    if (auto r = m.disk.sync_dir(m.dir); !r) {
      m.failed = true;
      return r;
    }
  return {};
}

bool Segments::dirty() const noexcept { return impl_->dirty.load(std::memory_order_acquire); }

Result<void> Segments::punch(std::vector<Extent> dead) {
  Impl& m = *impl_;
  std::sort(dead.begin(), dead.end(), [](const Extent& a, const Extent& b) { return std::pair{a.segment, a.offset} < std::pair{b.segment, b.offset}; });
  for (std::size_t i = 0; i < dead.size();) {
    const std::uint32_t segment = dead[i].segment;
    const std::uint64_t from = dead[i].offset;
    std::uint64_t to = from + dead[i].length;
    // Neighbours together, with the padding up to the next block between them: it belongs to nobody.
    for (++i; i < dead.size() && dead[i].segment == segment && dead[i].offset <= (dead[i].offset % kBlock == 0 ? round_up(to, kBlock) : to); ++i)
      to = std::max<std::uint64_t>(to, std::uint64_t{dead[i].offset} + dead[i].length);
    const std::uint64_t lo = round_up(from, kBlock), hi = to / kBlock * kBlock;
    // The tail block of a run that began on a boundary is free when nothing small was packed behind it: an extent of
    // 4 KiB or more is followed by another on a boundary, or by a small one right at its end, which then lives or is dead too.
    if (hi <= lo) continue;
    INDRA_TRY(m.options.faults.at("segment.punch"));
    auto f = m.file(segment);
    if (!f) {
      if (f.error().code == std::errc::no_such_file_or_directory) continue;
      return fail(f.error());
    }
    INDRA_TRY((*f)->punch(lo, hi - lo));
  }
  return {};
}

std::uint64_t Segments::end_of(std::uint32_t segment) const {
  const MutexLock lock{impl_->mutex};
  const auto it = impl_->used.find(segment);
  return it == impl_->used.end() ? 0 : it->second;
}

Result<void> Segments::remove(std::uint32_t segment) {
  Impl& m = *impl_;
  {
    const MutexLock lock{m.mutex};
    if (segment == m.current) return fail(EBUSY, "segment is being appended to");
    m.dirty_files.erase(segment);
    // Its number stays taken, so that it is never given again while the process lives.
    m.used.erase(segment);
  }
  {
    const MutexLock lock{m.files_mutex};
    m.files.erase(segment);
    m.recent.remove(segment);
  }
  return m.disk.remove(m.path(segment));
}

Result<std::uint64_t> Segments::allocated() const {
  std::vector<std::uint32_t> ids;
  {
    const MutexLock lock{impl_->mutex};
    for (const auto& [id, end] : impl_->used) ids.push_back(id);
  }
  std::uint64_t sum = 0;
  for (const std::uint32_t id : ids) {
    auto f = impl_->file(id);
    if (!f) continue;
    INDRA_LET(const std::uint64_t n, (*f)->allocated());
    sum += n;
  }
  return sum;
}

}  // namespace indra
