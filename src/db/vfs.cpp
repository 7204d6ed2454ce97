// Long because the file and its WAL share one State, and what is known of a frame is used by both.
#include "db/vfs.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "base/log.h"

namespace indra {
namespace {

constexpr std::uint32_t kNoFrame = std::numeric_limits<std::uint32_t>::max();
constexpr int kReserveStep = 256 << 10;
constexpr std::size_t kHeld =
    96 << 10;  // bytes of new frames written at once; SQLite writes less than 128 KiB

// ---- hooks ----

struct Hooks {
  std::atomic<bool> any{false};
  std::shared_mutex mutex;
  std::function<void(const DiskEvent&)> observer;
  std::function<int(const DiskEvent&)> fault;
};
Hooks& hooks() {
  static Hooks h;
  return h;
}

int ask(DiskEvent::Kind kind, const std::string& path) {
  Hooks& h = hooks();
  if (!h.any.load(std::memory_order_relaxed)) [[likely]]
    return SQLITE_OK;
  const std::shared_lock lock{h.mutex};
  return h.fault ? h.fault({kind, path}) : SQLITE_OK;
}

int tell(int rc, DiskEvent::Kind kind, const std::string& path) {
  Hooks& h = hooks();
  if (!h.any.load(std::memory_order_relaxed)) [[likely]]
    return rc;
  const std::shared_lock lock{h.mutex};
  if (rc == SQLITE_OK && h.observer) h.observer({kind, path});
  return rc;
}

// ---- files ----

enum class Kind { database, wal, other };
enum class Protected { unknown, yes, no };

/// What we know of one open file. SQLite calls each file from one thread at a time, except for xSync.
struct State {
  Kind kind = Kind::other;
  std::string path;

  // database
  Protected pages = Protected::unknown;
  bool unsealed = false;  // of a format before V3: 0 means that a page has no checksum yet

  // WAL
  sqlite3_file* database = nullptr;                 // whose WAL it is, when that is a file of ours
  std::array<std::byte, kWalFrameHeader> header{};  // written last, for the frame below
  std::uint32_t header_frame = 0;                   // 0: its page has been written
  std::uint32_t unsummed = kNoFrame;  // from here on pages may be ahead of their frames' checksums
  bool foreign = false;               // big-endian: not checked
  bool magic_known = false;
  bool ended = false;  // zeros in place of its header, durably: nothing is replayed (V6)
  // Who wrote a header over an ended WAL, and nothing since: SQLite's sync of it, which comes next, is left
  // out. A barrier beside it is another thread's.
  std::atomic<std::thread::id> needs_no_sync{};
  WalPosition commit;
  std::atomic<std::uint64_t> reserved{0};
  // New frames on their way to the file: a transaction's frames are written together, since nobody may look
  // at one before its commit frame is there.
  std::vector<std::byte> held;
  sqlite3_int64 held_at = 0;
  std::uint32_t last_frame = 0;  // highest that was written since the WAL began anew

  std::mutex first_sync;
  std::atomic<bool> synced{false};
};

std::atomic<std::uint64_t> beyond_reserve{0};

struct File {
  sqlite3_file base;
  State* state;
};
static_assert(sizeof(File) % alignof(std::max_align_t) == 0);

State& state(sqlite3_file* f) { return *reinterpret_cast<File*>(f)->state; }
sqlite3_file* real(sqlite3_file* f) {
  return reinterpret_cast<sqlite3_file*>(reinterpret_cast<File*>(f) + 1);
}

void learn(State& s, const std::byte* header) {
  if (as_text({header, 16}) != std::string_view{"SQLite format 3\0", 16}) return;
  const bool ours = header[16] == std::byte{0x10} && header[17] == std::byte{0} && header[20] == std::byte{8};
  s.pages = ours ? Protected::yes : Protected::no;
}

bool is_page(const State& s, int n, sqlite3_int64 at) {
  return s.kind == Kind::database && n == static_cast<int>(kDbPage) &&
         at % static_cast<sqlite3_int64>(kDbPage) == 0;
}

/// The frame, from 1, whose page (offset 24) or header (offset 0) is at `at`; 0: none.
std::uint32_t frame_at(sqlite3_int64 at, std::size_t offset) {
  const sqlite3_int64 rel = at - static_cast<sqlite3_int64>(kWalHeader + offset);
  if (rel < 0 || rel % static_cast<sqlite3_int64>(kWalFrame) != 0) return 0;
  return static_cast<std::uint32_t>(rel / static_cast<sqlite3_int64>(kWalFrame)) + 1;
}

/// Whether the pages of this database file bear checksums.
bool bears_sums(sqlite3_file* f) {
  State& s = state(f);
  if (s.pages == Protected::unknown) {
    std::array<std::byte, 100> header;
    if (real(f)->pMethods->xRead(real(f), header.data(), 100, 0) == SQLITE_OK) learn(s, header.data());
  }
  return s.pages == Protected::yes;
}

int read_database_page(sqlite3_file* f, State& s, void* out, sqlite3_int64 at) {
  auto* page = static_cast<std::byte*>(out);
  const int rc = real(f)->pMethods->xRead(real(f), out, kDbPage, at);
  if (rc != SQLITE_OK) return rc;
  if (at == 0) learn(s, page);
  if (!bears_sums(f)) return rc;
  const auto number = static_cast<std::uint32_t>(at / static_cast<sqlite3_int64>(kDbPage)) + 1;
  if (page_is_sound(number, page) || (s.unsealed && load_le<std::uint64_t>(page + kSummed) == 0)) return rc;
  log::error("{}: page {} does not match its checksum", s.path, number);
  return SQLITE_IOERR_DATA;
}

int write_database_page(sqlite3_file* f, State& s, const void* in, sqlite3_int64 at) {
  if (at == 0) learn(s, static_cast<const std::byte*>(in));
  if (!bears_sums(f)) return real(f)->pMethods->xWrite(real(f), in, kDbPage, at);
  std::array<std::byte, kDbPage> page;
  std::memcpy(page.data(), in, kSummed);
  const auto number = static_cast<std::uint32_t>(at / static_cast<sqlite3_int64>(kDbPage)) + 1;
  store_le<std::uint64_t>(page.data() + kSummed, page_checksum(number, page.data()));
  return real(f)->pMethods->xWrite(real(f), page.data(), kDbPage, at);
}

int learn_magic(sqlite3_file* f, State& s) {
  if (s.magic_known) return SQLITE_OK;
  std::array<std::byte, 4> magic;
  if (const int rc = real(f)->pMethods->xRead(real(f), magic.data(), 4, 0); rc != SQLITE_OK) return rc;
  s.foreign = load_be32(magic.data()) != kWalMagic;
  s.magic_known = true;
  return SQLITE_OK;
}

/// A frame's checksum runs over the 8 first bytes of its header and its page, and begins with that of the
/// frame before: what is needed stands in the file, so frames of other processes are checked as well as our
/// own.
int read_wal_page(sqlite3_file* f, State& s, void* out, sqlite3_int64 at, std::uint32_t frame) {
  const auto* m = real(f)->pMethods;
  if (const int rc = learn_magic(f, s); rc != SQLITE_OK) return rc;
  if (s.foreign || frame >= s.unsummed) return m->xRead(real(f), out, kDbPage, at);
  std::array<std::byte, kWalFrame> bytes;
  int rc = m->xRead(real(f), bytes.data(), kWalFrame, at - static_cast<sqlite3_int64>(kWalFrameHeader));
  if (rc != SQLITE_OK) return rc;
  std::array<std::byte, 8> before;
  rc = m->xRead(real(f), before.data(), 8,
                frame == 1 ? 24 : at - static_cast<sqlite3_int64>(kWalFrameHeader + kWalFrame) + 16);
  if (rc != SQLITE_OK) return rc;
  std::uint32_t s1 = load_be32(before.data()), s2 = load_be32(before.data() + 4);
  wal_checksum(ByteView{bytes}.first(8), s1, s2);
  wal_checksum(ByteView{bytes}.subspan(kWalFrameHeader), s1, s2);
  if (s1 != load_be32(bytes.data() + 16) || s2 != load_be32(bytes.data() + 20)) {
    log::error("{}: frame {} does not match its checksum", s.path, frame);
    return SQLITE_IOERR_DATA;
  }
  std::memcpy(out, bytes.data() + kWalFrameHeader, kDbPage);
  return SQLITE_OK;
}

/// Follows what SQLite writes into the WAL: where the last commit ends, and which pages it wrote again in
/// place (their frames' checksums are only put right with the commit).
void note_wal_write(State& s, const std::byte* in, int n, sqlite3_int64 at) {
  if (at == 0 && n == static_cast<int>(kWalHeader)) {
    s.unsummed = kNoFrame;
    s.header_frame = 0;
    s.commit = {};
    return;
  }
  if (n == static_cast<int>(kWalFrameHeader)) {
    const std::uint32_t frame = frame_at(at, 0);
    std::memcpy(s.header.data(), in, kWalFrameHeader);
    s.header_frame = frame;
    if (frame == s.unsummed) ++s.unsummed;
    if (frame == s.commit.frame) {
      s.commit.sum1 = load_be32(in + 16);
      s.commit.sum2 = load_be32(in + 20);
    }
    return;
  }
  const std::uint32_t frame = n == static_cast<int>(kDbPage) ? frame_at(at, kWalFrameHeader) : 0;
  if (frame == 0) return;
  if (frame != s.header_frame) {
    s.unsummed = std::min(s.unsummed, frame);
    return;
  }
  s.header_frame = 0;
  const std::byte* h = s.header.data();
  if (load_be32(h + 4) == 0) return;  // not the last of its transaction
  const std::uint32_t page = load_be32(h);
  s.commit = {load_be32(h + 8),       load_be32(h + 12), frame, load_be32(h + 16), load_be32(h + 20), page,
              page_checksum(page, in)};
}

int write_held(sqlite3_file* f, State& s) {
  if (s.held.empty()) return SQLITE_OK;
  const int rc =
      real(f)->pMethods->xWrite(real(f), s.held.data(), static_cast<int>(s.held.size()), s.held_at);
  s.held.clear();
  return rc;
}

sqlite3_int64 place_of(std::uint32_t frame) {
  return static_cast<sqlite3_int64>(kWalHeader + (frame - 1) * kWalFrame);
}

/// Where the checksum of the frame before `frame` stands: in its header, or in that of the WAL.
int read_sum_before(sqlite3_file* f, std::uint32_t frame, std::array<std::byte, 8>& out) {
  return real(f)->pMethods->xRead(real(f), out.data(), 8, frame == 1 ? 24 : place_of(frame - 1) + 16);
}

/// The frame's checksum, `before` being that of the frame before: SQLite's own is of a page without ours.
void sum_frame(std::byte* header, const std::byte* page, const std::byte* before) {
  std::uint32_t s1 = load_be32(before), s2 = load_be32(before + 4);
  wal_checksum(ByteView{header, 8}, s1, s2);
  wal_checksum(ByteView{page, kDbPage}, s1, s2);
  store_be32(header + 16, s1);
  store_be32(header + 20, s2);
}

void seal_page(std::uint32_t number, std::byte* page) {
  store_le<std::uint64_t>(page + kSummed, page_checksum(number, page));
}

/// V3: a page goes into the WAL with its checksum, so that whoever moves it to the file, moves that along;
/// and the frame's checksum is made to fit. SQLite reads both back from the file only.
void seal_frame(std::byte* frame, const std::byte* before) {
  seal_page(load_be32(frame), frame + kWalFrameHeader);
  sum_frame(frame, frame + kWalFrameHeader, before);
}

int is_sealed(sqlite3_file* f, State& s, bool& yes) {
  yes = s.database != nullptr && bears_sums(s.database);
  const int rc = yes ? learn_magic(f, s) : SQLITE_OK;
  yes = yes && !s.foreign;
  return rc;
}

/// A new frame, held until the last one of its transaction has come.
int hold_frame(sqlite3_file* f, State& s, const std::byte* in, int n, sqlite3_int64 at, std::uint32_t page) {
  if (s.held.empty()) {
    s.held_at = at;
    try {
      s.held.reserve(kHeld + kWalFrame);
    } catch (const std::bad_alloc&) {
      return SQLITE_IOERR_NOMEM;
    }
  }
  s.held.insert(s.held.end(), in, in + n);
  if (page == 0) {
    std::memcpy(s.header.data(), in, kWalFrameHeader);
    s.header_frame = frame_at(at, 0);
    return SQLITE_OK;
  }
  std::byte* const frame = s.held.data() + s.held.size() - kWalFrame;
  bool sealed = false;
  if (const int rc = is_sealed(f, s, sealed); rc != SQLITE_OK) return rc;
  if (sealed) {
    std::array<std::byte, 8> before;
    if (s.held.size() > kWalFrame)
      std::memcpy(before.data(), frame - kWalFrame + 16, 8);
    else if (const int rc = read_sum_before(f, page, before); rc != SQLITE_OK)
      return rc;
    seal_frame(frame, before.data());
  }
  const WalPosition before = s.commit;
  note_wal_write(s, frame, static_cast<int>(kWalFrameHeader), place_of(page));
  note_wal_write(s, frame + kWalFrameHeader, n, at);
  const bool last = load_be32(frame + 4) != 0;
  const int rc = last || s.held.size() >= kHeld ? write_held(f, s) : SQLITE_OK;
  if (rc != SQLITE_OK) s.commit = before;
  return rc;
}

/// A frame's header or page that is written by itself: again, within its transaction.
int write_again(sqlite3_file* f, State& s, const std::byte* in, int n, sqlite3_int64 at, std::uint32_t header,
                std::uint32_t page) {
  const auto* m = real(f)->pMethods;
  const std::uint32_t frame = header != 0 ? header : page;
  std::array<std::byte, kWalFrame> bytes;
  std::byte* const body = bytes.data() + kWalFrameHeader;
  const bool whole = page != 0 && page == s.header_frame;  // its header came just before
  bool sealed = false;
  if (frame != 0)
    if (const int rc = is_sealed(f, s, sealed); rc != SQLITE_OK) return rc;
  if (sealed) {
    std::array<std::byte, 8> before;
    if (const int rc = read_sum_before(f, frame, before); rc != SQLITE_OK) return rc;
    if (whole) {
      std::memcpy(bytes.data(), s.header.data(), kWalFrameHeader);
      std::memcpy(body, in, kDbPage);
      seal_frame(bytes.data(), before.data());
      if (const int rc = m->xWrite(real(f), bytes.data(), kWalFrameHeader, place_of(frame)); rc != SQLITE_OK)
        return rc;
      note_wal_write(s, bytes.data(), static_cast<int>(kWalFrameHeader), place_of(frame));
      in = body;
    } else if (header != 0) {
      std::memcpy(bytes.data(), in, kWalFrameHeader);
      const int rc = m->xRead(real(f), body, kDbPage, at + static_cast<sqlite3_int64>(kWalFrameHeader));
      if (rc != SQLITE_OK && rc != SQLITE_IOERR_SHORT_READ) return rc;
      if (rc == SQLITE_OK) sum_frame(bytes.data(), body, before.data());  // else the page is yet to come
      in = bytes.data();
    } else {
      if (const int rc = m->xRead(real(f), bytes.data(), kWalFrameHeader, place_of(frame)); rc != SQLITE_OK)
        return rc;
      std::memcpy(body, in, kDbPage);
      seal_page(load_be32(bytes.data()), body);
      in = body;
    }
  }
  if (const int rc = m->xWrite(real(f), in, n, at); rc != SQLITE_OK) return rc;
  note_wal_write(s, in, n, at);
  return SQLITE_OK;
}

/// Whether the zeros of an ended WAL still stand where its header was: a stranger may have used it meanwhile.
bool holds_no_header(sqlite3_file* f) {
  std::array<std::byte, kWalHeader> now{};
  return real(f)->pMethods->xRead(real(f), now.data(), kWalHeader, 0) == SQLITE_OK &&
         std::ranges::all_of(now, [](std::byte b) { return b == std::byte{0}; });
}

/// SQLite syncs a WAL's header before it writes the first frame behind it. It need not when what the header
/// takes the place of could not be replayed anyhow (V6).
int write_wal_header(sqlite3_file* f, State& s, const std::byte* in) {
  const bool free = s.ended && holds_no_header(f);
  s.ended = false;
  const int rc = real(f)->pMethods->xWrite(real(f), in, kWalHeader, 0);
  if (rc != SQLITE_OK) return rc;
  if (free) s.needs_no_sync = std::this_thread::get_id();
  note_wal_write(s, in, static_cast<int>(kWalHeader), 0);
  return SQLITE_OK;
}

/// A new frame is held until the last one of its transaction has come; all else goes to the file at once.
int write_wal(sqlite3_file* f, State& s, const std::byte* in, int n, sqlite3_int64 at) {
  const std::uint32_t header = n == static_cast<int>(kWalFrameHeader) ? frame_at(at, 0) : 0;
  const std::uint32_t page = n == static_cast<int>(kDbPage) ? frame_at(at, kWalFrameHeader) : 0;
  const bool next = at == s.held_at + static_cast<sqlite3_int64>(s.held.size());
  if (s.reserved != 0 && static_cast<std::uint64_t>(at) + static_cast<std::uint64_t>(n) > s.reserved)
    ++beyond_reserve;
  s.needs_no_sync = std::thread::id{};
  int rc = SQLITE_OK;
  if (header > s.last_frame || (page > s.last_frame && page == s.header_frame && next && !s.held.empty())) {
    if (!s.held.empty() && !next) rc = write_held(f, s);
    if (rc == SQLITE_OK) rc = hold_frame(f, s, in, n, at, page);
  } else {
    rc = write_held(f, s);
    if (rc == SQLITE_OK)
      rc = at == 0 && n == static_cast<int>(kWalHeader) ? write_wal_header(f, s, in)
                                                        : write_again(f, s, in, n, at, header, page);
  }
  if (rc != SQLITE_OK) return rc;
  if (at == 0) {
    s.last_frame = 0;
    s.magic_known = false;
  }
  s.last_frame = std::max(s.last_frame, page);
  return SQLITE_OK;
}

int x_close(sqlite3_file* f) {
  const int rc = real(f)->pMethods->xClose(real(f));
  delete reinterpret_cast<File*>(f)->state;
  return rc;
}

int x_read(sqlite3_file* f, void* out, int n, sqlite3_int64 at) {
  State& s = state(f);
  if (is_page(s, n, at)) return read_database_page(f, s, out, at);
  if (s.kind == Kind::wal)
    if (const int rc = write_held(f, s); rc != SQLITE_OK) return rc;
  if (s.kind == Kind::wal && n == static_cast<int>(kDbPage))
    if (const std::uint32_t frame = frame_at(at, kWalFrameHeader); frame != 0)
      return read_wal_page(f, s, out, at, frame);
  const int rc = real(f)->pMethods->xRead(real(f), out, n, at);
  if (rc == SQLITE_OK && s.kind == Kind::database && at == 0 && n >= 100)
    learn(s, static_cast<std::byte*>(out));
  return rc;
}

int x_write(sqlite3_file* f, const void* in, int n, sqlite3_int64 at) {
  State& s = state(f);
  if (s.kind == Kind::other) return real(f)->pMethods->xWrite(real(f), in, n, at);
  if (const int rc = ask(DiskEvent::write, s.path); rc != SQLITE_OK) {
    // As on a disk: what was reserved is there, however full it is by now.
    const bool room =
        s.kind == Kind::wal && static_cast<std::uint64_t>(at) + static_cast<std::uint64_t>(n) <= s.reserved;
    if (rc != SQLITE_FULL || !room) return rc;
  }
  if (is_page(s, n, at)) return tell(write_database_page(f, s, in, at), DiskEvent::write, s.path);
  if (s.kind == Kind::wal)
    return tell(write_wal(f, s, static_cast<const std::byte*>(in), n, at), DiskEvent::write, s.path);
  return tell(real(f)->pMethods->xWrite(real(f), in, n, at), DiskEvent::write, s.path);
}

/// SQLite ends a WAL by cutting it to nothing. Its room is kept, and its header goes, which says the same;
/// who asked for it sees to the sync (V6).
int end_wal(sqlite3_file* f, State& s) {
  constexpr std::array<std::byte, kWalHeader> kNone{};
  if (const int rc = ask(DiskEvent::write, s.path); rc != SQLITE_OK) return rc;
  const int rc = real(f)->pMethods->xWrite(real(f), kNone.data(), kWalHeader, 0);
  s.ended = false;
  s.last_frame = 0;
  note_wal_write(s, kNone.data(), kWalHeader, 0);
  return tell(rc, DiskEvent::write, s.path);
}

int x_truncate(sqlite3_file* f, sqlite3_int64 size) {
  State& s = state(f);
  if (const int rc = write_held(f, s); rc != SQLITE_OK) return rc;
  if (s.kind == Kind::wal && size == 0) return end_wal(f, s);
  s.reserved = 0;
  return real(f)->pMethods->xTruncate(real(f), size);
}

// Leaves alone what is held: a barrier syncs beside the connection's thread, and what it covers was written
// with its commit frame.
int x_sync(sqlite3_file* f, int flags) {
  State& s = state(f);
  if (s.kind == Kind::other) return real(f)->pMethods->xSync(real(f), flags);
  if (auto me = std::this_thread::get_id(); s.needs_no_sync.compare_exchange_strong(me, {})) return SQLITE_OK;
  if (const int rc = ask(DiskEvent::sync, s.path); rc != SQLITE_OK) return rc == kSwallow ? SQLITE_OK : rc;
  int rc = SQLITE_OK;
  if (s.synced.load(std::memory_order_acquire)) {
    rc = real(f)->pMethods->xSync(real(f), flags);
  } else {
    // The first sync of a new WAL also syncs its directory and notes that in the file: one thread at a time.
    const std::scoped_lock lock{s.first_sync};
    rc = real(f)->pMethods->xSync(real(f), flags);
    if (rc == SQLITE_OK) s.synced.store(true, std::memory_order_release);
  }
  return tell(rc, DiskEvent::sync, s.path);
}

int x_file_size(sqlite3_file* f, sqlite3_int64* n) { return real(f)->pMethods->xFileSize(real(f), n); }
int x_lock(sqlite3_file* f, int l) { return real(f)->pMethods->xLock(real(f), l); }
int x_unlock(sqlite3_file* f, int l) { return real(f)->pMethods->xUnlock(real(f), l); }
int x_check_reserved(sqlite3_file* f, int* r) { return real(f)->pMethods->xCheckReservedLock(real(f), r); }
int x_control(sqlite3_file* f, int op, void* arg) {
  return real(f)->pMethods->xFileControl(real(f), op, arg);
}
int x_sector(sqlite3_file* f) { return real(f)->pMethods->xSectorSize(real(f)); }
int x_device(sqlite3_file* f) { return real(f)->pMethods->xDeviceCharacteristics(real(f)); }
int x_shm_map(sqlite3_file* f, int r, int n, int extend, void volatile** p) {
  return real(f)->pMethods->xShmMap(real(f), r, n, extend, p);
}
int x_shm_lock(sqlite3_file* f, int at, int n, int flags) {
  return real(f)->pMethods->xShmLock(real(f), at, n, flags);
}
void x_shm_barrier(sqlite3_file* f) { real(f)->pMethods->xShmBarrier(real(f)); }
int x_shm_unmap(sqlite3_file* f, int remove) { return real(f)->pMethods->xShmUnmap(real(f), remove); }

// Version 2: with shared memory for the WAL, without xFetch, so that no page is read past us.
const sqlite3_io_methods kMethods = {
    2,          x_close,       x_read,           x_write,   x_truncate, x_sync,   x_file_size,
    x_lock,     x_unlock,      x_check_reserved, x_control, x_sector,   x_device, x_shm_map,
    x_shm_lock, x_shm_barrier, x_shm_unmap,      nullptr,   nullptr};

sqlite3_vfs* below(sqlite3_vfs* ours) { return static_cast<sqlite3_vfs*>(ours->pAppData); }

int x_delete(sqlite3_vfs* v, const char* name, int sync_dir) {
  return below(v)->xDelete(below(v), name, sync_dir);
}
int x_access(sqlite3_vfs* v, const char* name, int flags, int* out) {
  return below(v)->xAccess(below(v), name, flags, out);
}
int x_full_path(sqlite3_vfs* v, const char* name, int n, char* out) {
  return below(v)->xFullPathname(below(v), name, n, out);
}

int x_open(sqlite3_vfs* v, const char* name, sqlite3_file* f, int flags, int* out) {
  auto* file = reinterpret_cast<File*>(f);
  file->base.pMethods = nullptr;
  const int rc = below(v)->xOpen(below(v), name, real(f), flags, out);
  if (rc != SQLITE_OK) return rc;
  auto* s = new (std::nothrow) State;
  if (s == nullptr) {
    real(f)->pMethods->xClose(real(f));
    return SQLITE_NOMEM;
  }
  if ((flags & SQLITE_OPEN_MAIN_DB) != 0) s->kind = Kind::database;
  if ((flags & SQLITE_OPEN_WAL) != 0) {
    s->kind = Kind::wal;
    sqlite3_file* db = sqlite3_database_file_object(name);
    if (db != nullptr && db->pMethods == &kMethods) s->database = db;
  }
  if (name != nullptr) s->path = name;
  file->state = s;
  file->base.pMethods = &kMethods;
  return SQLITE_OK;
}

sqlite3_file* main_file(sqlite3* db) {
  sqlite3_file* f = nullptr;
  const int rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, static_cast<void*>(&f));
  return rc == SQLITE_OK && f != nullptr && f->pMethods == &kMethods ? f : nullptr;
}

}  // namespace

const char* our_vfs(const char* name) {
  struct Ours {
    sqlite3_vfs vfs;
    std::string name;
  };
  static std::mutex mutex;
  static std::map<std::string, Ours> all;
  // Before SQLite starts: its count of memory takes a lock at each allocation, and nobody asks for it.
  static const int once = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  (void)once;
  const std::scoped_lock lock{mutex};
  const std::string key = name != nullptr ? name : "unix";
  const auto [it, first] = all.try_emplace(key);
  Ours& o = it->second;
  if (first) {
    sqlite3_vfs* lower = sqlite3_vfs_find(key.c_str());
    o.name = key == "unix" ? "indra" : "indra-" + key;
    o.vfs = *lower;
    o.vfs.pNext = nullptr;
    o.vfs.pAppData = lower;
    o.vfs.zName = o.name.c_str();
    o.vfs.szOsFile = static_cast<int>(sizeof(File)) + lower->szOsFile;
    o.vfs.xOpen = x_open;
    o.vfs.xDelete = x_delete;
    o.vfs.xAccess = x_access;
    o.vfs.xFullPathname = x_full_path;
    sqlite3_vfs_register(&o.vfs, 0);
  }
  return o.vfs.zName;
}

void set_vfs_observer(std::function<void(const DiskEvent&)> observer) {
  Hooks& h = hooks();
  const std::unique_lock lock{h.mutex};
  h.observer = std::move(observer);
  h.any = h.observer || h.fault;
}

void set_vfs_fault(std::function<int(const DiskEvent&)> fault) {
  Hooks& h = hooks();
  const std::unique_lock lock{h.mutex};
  h.fault = std::move(fault);
  h.any = h.observer || h.fault;
}

void expect_unsealed(sqlite3* db, bool on) {
  if (sqlite3_file* f = main_file(db); f != nullptr) state(f).unsealed = on;
}

int seal_pages(sqlite3* db) {
  sqlite3_file* f = main_file(db);
  if (f == nullptr || !bears_sums(f)) return SQLITE_OK;
  const auto* m = real(f)->pMethods;
  const std::string& path = state(f).path;
  sqlite3_int64 size = 0;
  if (const int rc = m->xFileSize(real(f), &size); rc != SQLITE_OK) return rc;
  std::array<std::byte, kDbPage> page;
  const auto pages = static_cast<std::uint32_t>(size / static_cast<sqlite3_int64>(kDbPage));
  for (std::uint32_t n = 1; n <= pages; ++n) {
    const sqlite3_int64 at = static_cast<sqlite3_int64>(n - 1) * static_cast<sqlite3_int64>(kDbPage);
    if (const int rc = m->xRead(real(f), page.data(), kDbPage, at); rc != SQLITE_OK) return rc;
    if (n == kLockPage || load_le<std::uint64_t>(page.data() + kSummed) != 0) continue;
    seal_page(n, page.data());
    int rc = ask(DiskEvent::write, path);
    if (rc == SQLITE_OK)
      rc = m->xWrite(real(f), page.data() + kSummed, kDbSpare, at + static_cast<sqlite3_int64>(kSummed));
    if (rc != SQLITE_OK) return rc;
    (void)tell(rc, DiskEvent::write, path);
  }
  return f->pMethods->xSync(f, SQLITE_SYNC_NORMAL);
}

WalPosition last_commit(sqlite3_file* wal) {
  if (wal == nullptr || wal->pMethods != &kMethods) return {};
  return state(wal).commit;
}

void wal_was_ended(sqlite3_file* wal) {
  if (wal != nullptr && wal->pMethods == &kMethods) state(wal).ended = true;
}

std::uint64_t writes_beyond_reserve() { return beyond_reserve; }

int reserve(sqlite3_file* wal, std::uint64_t bytes) {
  if (wal == nullptr || wal->pMethods != &kMethods) return SQLITE_OK;
  State& s = state(wal);
  if (bytes <= s.reserved) return SQLITE_OK;
  if (ask(DiskEvent::write, s.path) != SQLITE_OK) return SQLITE_FULL;
  sqlite3_file* r = real(wal);
  int step = kReserveStep;
  (void)r->pMethods->xFileControl(r, SQLITE_FCNTL_CHUNK_SIZE, &step);
  auto size = static_cast<sqlite3_int64>(bytes);
  if (r->pMethods->xFileControl(r, SQLITE_FCNTL_SIZE_HINT, &size) != SQLITE_OK) return SQLITE_FULL;
  s.reserved = (bytes + kReserveStep - 1) / kReserveStep * kReserveStep;
  return SQLITE_OK;
}

}  // namespace indra
