#include "db/mark.h"

#include <array>
#include <atomic>
#include <span>

#include "base/log.h"

namespace indra {
namespace {

constexpr std::size_t kSize = 4096;
constexpr std::size_t kSecondRecord = 2048;  // another sector
constexpr std::uint64_t kMagic = 0x326B72614D41444Eull;

std::uint64_t fold(ByteView bytes) {
  std::uint64_t h = 0xCBF29CE484222325ull;
  for (const std::byte b : bytes) h = (h ^ static_cast<std::uint64_t>(b)) * 0x100000001B3ull;
  return h != 0 ? h : 1;
}

std::uint64_t sum_of(const Mark::Record& r) {
  return fold(std::as_bytes(std::span{&r, 1}).first(sizeof r - sizeof r.checksum));
}

struct Wal {
  bool header = false;  // a sound one
  std::uint32_t salt1 = 0, salt2 = 0;
  std::uint32_t commits_to = 0;  // the last sound frame that ends a transaction
  bool has_durable = false;      // the frame that the mark names is there, with the same sums
  bool has_commit = false;
  std::optional<std::array<std::byte, 100>> first_page;
};

/// Follows the frames as SQLite's recovery does.
Result<Wal> walk(const std::string& path, const char* vfs, const Mark::Record* mark) {
  Wal w;
  auto file = RawFile::open(path, vfs);
  if (!file) return w;  // none
  std::array<std::byte, kWalHeader> h;
  INDRA_LET(const bool whole, (*file)->read(0, h));
  if (!whole) return w;
  const std::uint32_t magic = load_be32(h.data());
  std::uint32_t s1 = 0, s2 = 0;
  wal_checksum(ByteView{h}.first(24), s1, s2);
  if (magic != kWalMagic || load_be32(h.data() + 8) != kDbPage || s1 != load_be32(h.data() + 24) ||
      s2 != load_be32(h.data() + 28))
    return w;
  w.header = true;
  w.salt1 = load_be32(h.data() + 16);
  w.salt2 = load_be32(h.data() + 20);
  std::array<std::byte, kWalFrame> f;
  std::optional<std::array<std::byte, 100>> first_page;
  for (std::uint32_t n = 1;; ++n) {
    INDRA_LET(const bool more, (*file)->read(kWalHeader + (n - 1) * std::uint64_t{kWalFrame}, f));
    if (!more || load_be32(f.data() + 8) != w.salt1 || load_be32(f.data() + 12) != w.salt2) break;
    wal_checksum(ByteView{f}.first(8), s1, s2);
    wal_checksum(ByteView{f}.subspan(kWalFrameHeader), s1, s2);
    if (s1 != load_be32(f.data() + 16) || s2 != load_be32(f.data() + 20)) break;
    if (load_be32(f.data()) == 1) {
      first_page.emplace();
      std::memcpy(first_page->data(), f.data() + kWalFrameHeader, first_page->size());
    }
    if (load_be32(f.data() + 4) == 0) continue;
    w.commits_to = n;
    if (first_page) w.first_page = first_page;
    const auto is = [&](const Mark::Record::Claim& c) {
      return n == c.frame && s1 == c.sum1 && s2 == c.sum2;
    };
    if (mark != nullptr && is(mark->durable)) w.has_durable = true;
    if (mark != nullptr && is(mark->commit)) w.has_commit = true;
  }
  return w;
}

/// Whether the file holds the last commit: then nothing of the WAL is missed.
Result<bool> holds_last(RawFile& db, const Mark::Record& r) {
  if (r.last_page == 0) return true;  // not known
  std::array<std::byte, kDbPage> page;
  INDRA_LET(const bool whole, db.read((r.last_page - 1) * std::uint64_t{kDbPage}, page));
  return whole && page_checksum(r.last_page, page.data()) == r.last_sum;
}

Result<void> compare(const std::string& path, RawFile& db, const Mark::Record& r, const Wal& w,
                     const Mark::Record::Claim& claim, bool has, bool same_boot) {
  if (claim.frame == 0) return {};
  const std::string hint = "; remove " + path + "-mark to go on with what is left";
  if (w.header && w.salt1 == claim.salt1 && w.salt2 == claim.salt2) {
    if (has) return {};
    return fail(Errc::corrupt, path + "-wal is damaged: sound up to frame " + std::to_string(w.commits_to) +
                                   ", but it was written up to " + std::to_string(claim.frame) + hint);
  }
  // Each restart of the WAL counts its first salt up, and comes after all of it went into the file.
  if (w.header && static_cast<std::int32_t>(w.salt1 - claim.salt1) > 0) return {};
  INDRA_LET(const bool held, holds_last(db, r));
  if (held) return {};
  if (!same_boot) {
    // After a power cut the mark may be older than the file, so this proves nothing.
    log::warn("{}-wal is missing and was not when last seen", path);
    return {};
  }
  return fail(Errc::corrupt, path + "-wal is lost: the database lacks its last commits" + hint);
}

}  // namespace

std::optional<Mark::Record> Mark::load(Disk& disk, const std::string& path) {
  std::optional<Record> best;
  const auto file = disk.open(path, false);
  if (!file) return best;
  for (const std::size_t at : {std::size_t{0}, kSecondRecord}) {
    Record r{};
    const auto n = (*file)->read(at, std::as_writable_bytes(std::span{&r, 1}));
    if (!n || *n != sizeof r || r.magic != kMagic || r.checksum != sum_of(r)) continue;
    if (!best || r.turn > best->turn) best = r;
  }
  return best;
}

Result<void> Mark::open(Disk& disk, const std::string& path) {
  const auto before = load(disk, path);
  MutexLock lock{mutex_};
  INDRA_LET(map_, disk.map(path, kSize));
  if (before) now_ = *before;
  now_.magic = kMagic;
  now_.boot = disk.boot();
  now_.commit = {};  // it was of the time before
  return {};
}

void Mark::put() {
  if (map_ == nullptr) return;
  ++now_.turn;
  now_.checksum = sum_of(now_);
  // The other record stays whole until this one is: a kill in between leaves the one before.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(map_->bytes().data() + (now_.turn % 2 != 0 ? kSecondRecord : 0), &now_, sizeof now_);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void Mark::committing() {
  MutexLock lock{mutex_};
  now_.last_page = 0;
  put();
}

void Mark::committed(const WalPosition& last) {
  MutexLock lock{mutex_};
  now_.last_page = last.frame != 0 ? last.page : 0;
  now_.last_sum = last.page_sum;
  now_.commit = {last.salt1, last.salt2, last.frame, last.sum1, last.sum2};
  put();
}

void Mark::durable(const WalPosition& p) {
  if (p.frame == 0) return;
  MutexLock lock{mutex_};
  now_.durable = {p.salt1, p.salt2, p.frame, p.sum1, p.sum2};
  put();
}

Result<void> Mark::clear() {
  MutexLock lock{mutex_};
  now_.durable = {};
  now_.commit = {};
  now_.last_page = 0;
  put();
  put();  // both records: neither may speak of a WAL that is about to go
  return map_ != nullptr ? map_->sync() : Result<void>{};
}

Result<Inspected> inspect(const std::string& path, Disk& disk, const char* vfs) {
  Inspected out;
  if (!disk.exists(path)) return out;
  INDRA_LET(auto db, RawFile::open(path, vfs));
  INDRA_LET(const std::uint64_t size, db->size());
  const auto mark = Mark::load(disk, path + "-mark");
  INDRA_LET(const Wal wal, walk(path + "-wal", vfs, mark ? &*mark : nullptr));
  std::array<std::byte, 100> header{};
  if (size >= header.size()) {
    INDRA_TRY(db->read(0, header));
    if (as_text(ByteView{header}.first(16)) != std::string_view{"SQLite format 3\0", 16})
      return fail(Errc::bad_format, path + " is not a database");
  } else if (size != 0) {
    return fail(Errc::bad_format, path + " is cut short");
  }
  if (wal.first_page) header = *wal.first_page;
  out.exists = size != 0 || wal.first_page.has_value();
  out.user_version = load_be32(header.data() + 60);
  out.application_id = load_be32(header.data() + 68);
  out.page_size = load_be32(header.data() + 16) >> 16;
  out.spare = std::to_integer<unsigned>(header[20]);
  if (mark) {
    const bool same_boot = mark->boot != 0 && mark->boot == disk.boot();
    INDRA_TRY(compare(path, *db, *mark, wal, mark->durable, wal.has_durable, same_boot));
    if (same_boot) INDRA_TRY(compare(path, *db, *mark, wal, mark->commit, wal.has_commit, same_boot));
  }
  return out;
}

}  // namespace indra
