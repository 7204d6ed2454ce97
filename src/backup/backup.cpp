// One backup: the rows as a reader sees them, then the bytes they name that DEST does not have.
#include "backup/backup.h"

#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <unordered_map>

#include "backup/internal/dest.h"
#include "base/log.h"
#include "blob/kept.h"
#include "blob/segments.h"
#include "db/copying.h"

namespace indra {
namespace {

using namespace backup;

constexpr std::uint64_t kSmallPack = 8ull << 20;
constexpr std::size_t kSmallPacks = 32;  // more of them are made one

std::string real_path(const std::string& path) {
  std::array<char, PATH_MAX> buffer{};
  return ::realpath(path.c_str(), buffer.data()) != nullptr ? std::string{buffer.data()} : std::string{};
}

/// Where `path` is or would be, links resolved.
std::string resolved(std::string path) {
  if (std::string there = real_path(path); !there.empty()) return there;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const std::size_t slash = path.rfind('/');
  const std::string dir = real_path(slash == std::string::npos ? "."
                                    : slash == 0               ? "/"
                                                               : path.substr(0, slash));
  return dir.empty() ? path : (dir == "/" ? "" : dir) + "/" + path.substr(slash + 1);
}

class Backup {
 public:
  Backup(const BackupSource& source, Dest& dest, const BackupOptions& options)
      : source_{source}, dest_{dest}, options_{options}, packs_{dest, options.pack_size, next_} {}

  Result<BackupReport> run() {
    const State& old = dest_.state();
    next_.number = old.number + 1;
    next_.made = system_clock().now();
    choose_packs();
    INDRA_TRY(source_.hold());
    // In this order: what the queues speak of has then happened in the vault.
    INDRA_TRY(coordination());
    INDRA_TRY(rows());
    INDRA_TRY(key());
    INDRA_TRY(options_.faults.at("backup.copy"));
    INDRA_TRY(chunks());
    INDRA_TRY(source_.release());
    INDRA_TRY(packs_.finish());
    std::ranges::sort(next_.records, {}, &Record::where);
    for (const Record& r : next_.records) {
      report_.bytes += r.length;
      next_.packs.try_emplace(r.pack, 0);
      if (const auto it = old.packs.find(r.pack); it != old.packs.end()) next_.packs[r.pack] = it->second;
    }
    report_.blocks = next_.records.size();
    report_.number = next_.number;
    INDRA_TRY(dest_.commit(std::move(next_), options_.faults));
    return std::move(report_);
  }

 private:
  /// Packs whose bytes are for the most part needed no longer, and small ones when there are many, are copied
  /// anew from the vault, and then go.
  void choose_packs() {
    const State& old = dest_.state();
    std::map<std::uint32_t, std::uint64_t> living;
    for (const Record& r : old.records) living[r.pack] += r.length;
    std::vector<std::uint32_t> small;
    for (const auto& [pack, bytes] : old.packs) {
      keep_[pack] = living[pack] * 2 >= bytes - std::min(bytes, kPackHeader) && dest_.sound(pack);
      if (keep_[pack] && bytes < kSmallPack) small.push_back(pack);
    }
    if (small.size() > kSmallPacks)
      for (const std::uint32_t pack : small) keep_[pack] = false;
  }

  /// The block as DEST has it already; null: it must be copied.
  const Record* known(const Record& r) {
    const Record* old = dest_.state().find(r.where);
    if (old == nullptr || !old->same_bytes(r)) return nullptr;
    if (keep_[old->pack]) {
      if (!options_.verify) return old;
      scratch_.resize(r.length);
      if (dest_.read(*old, scratch_)) return old;
      log::warn("{} is damaged at {}: its block is copied again", dest_.pack_path(old->pack), old->offset);
    }
    report_.again += r.length;
    return nullptr;
  }

  /// `bytes` are the record's: put into the packs unless they are there.
  Result<void> keep(Record r, ByteView bytes) {
    if (const Record* old = known(r)) {
      next_.records.push_back(*old);
      return {};
    }
    INDRA_TRY(add(r, bytes));
    return {};
  }
  Result<void> add(Record r, ByteView bytes) {
    INDRA_TRY(options_.faults.at("backup.block"));
    INDRA_TRY(packs_.append(r, bytes));
    ++report_.new_blocks;
    report_.new_bytes += r.length;
    next_.records.push_back(r);
    return {};
  }
  Result<void> keep_file(std::uint32_t file, std::uint32_t block, ByteView bytes) {
    return keep(whole(std::uint64_t{file} << 32 | block, bytes), bytes);
  }
  static Record whole(std::uint64_t where, ByteView bytes) {
    Record r;
    r.where = where;
    r.length = static_cast<std::uint32_t>(bytes.size());
    r.root = true;
    std::ranges::copy(BlobHash::of(bytes).bytes(), r.cv.begin());
    return r;
  }
  void damaged(std::string what) {
    if (report_.damage.size() < kDamageTold) report_.damage.push_back(std::move(what));
  }

  Result<void> coordination() {
    const std::string path = source_.vault + "/coord.db";
    struct stat st {};
    if (::lstat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) return {};
    const std::size_t before = next_.records.size();
    const auto copied = [&]() -> Result<void> {
      INDRA_LET(const auto db, Db::open(path, {.read_only = true}));
      INDRA_TRY(db->execute("BEGIN"));
      return copy_database(*db,
                           [&](std::uint32_t block, ByteView b) { return keep_file(kCoordDb, block, b); });
    }();
    if (copied) return {};
    // Of a first page that is damaged SQLite says that it is of no database.
    if (copied.error().code != make_error_code(Errc::corrupt) &&
        copied.error().code != std::error_code{SQLITE_NOTADB, sqlite_category()})
      return copied;
    next_.records.resize(before);  // the files are worth more than the queues
    const bool had = keep_queues();
    damaged(path + ": " + copied.error().text() + (had ? " (the backup has it as it was)" : ""));
    return {};
  }

  /// coord.db as an earlier backup has it, all of it or nothing.
  bool keep_queues() {
    std::vector<Record> all;
    for (const Record& r : dest_.state().records) {
      if (r.segment() != kCoordDb) continue;
      scratch_.resize(r.length);
      if (!dest_.read(r, scratch_)) return false;
      all.push_back(r);
    }
    next_.records.insert(next_.records.end(), all.begin(), all.end());
    return !all.empty();
  }

  Result<void> rows() {
    INDRA_LET(const auto db, Db::open(source_.vault + "/vault.db", {.read_only = true}));
    INDRA_TRY(db->execute("BEGIN"));
    Tx tx = db->borrow();
    INDRA_TRY(identify(tx));
    INDRA_TRY(
        copy_database(*db, [&](std::uint32_t block, ByteView b) { return keep_file(kVaultDb, block, b); }));
    INDRA_TRY(each_kept(tx, [&](KeptChunk c) -> Result<void> {
      Want w{c.where, c.index, c.length, c.root, !c.over.empty(), c.cv.bytes};
      if (w.torn) torn_[c.where] = std::move(c);
      wanted_.push_back(w);
      return {};
    }));
    INDRA_LET(ends_, segment_ends(tx));
    return db->execute("COMMIT");
  }

  Result<void> identify(Tx& tx) {
    Statement q{tx, "SELECT value FROM properties WHERE name = 'vault_id'"};
    INDRA_LET(const bool row, q.step());
    const Bytes id = row ? from_hex(q.text_at(0)) : Bytes{};
    if (id.size() != next_.vault_id.size())
      return fail(Errc::corrupt, source_.vault + "/vault.db: its vault_id");
    std::ranges::copy(id, next_.vault_id.begin());
    if (const State& old = dest_.state(); old.number != 0 && old.vault_id != next_.vault_id)
      return fail(EEXIST, dest_.path() + " holds the backup of another vault, " + to_hex(old.vault_id) +
                              "; name a directory of its own for each vault");
    return {};
  }

  Result<void> key() {
    const std::string path = source_.vault + "/identity.key";
    INDRA_LET(const Fd fd, open_to_read(path));
    Bytes secret(kBlockMax);
    INDRA_LET(const std::size_t n, read_at(fd, 0, secret, path));
    if (n == 0 || n > 4096) return fail(Errc::bad_format, path + " is not a key");
    secret.resize(n);
    // The second half of an Ed25519 secret key is the public one.
    if (n == 64) std::copy_n(secret.begin() + 32, 32, next_.player.begin());
    return keep_file(kKey, 0, secret);
  }

  struct Want {
    std::uint64_t where, index;
    std::uint32_t length;
    bool root, torn;
    std::array<std::byte, 32> cv;
  };

  Result<void> chunks() {
    // By place, so that segments are read from front to back. What several blobs name comes once.
    std::ranges::sort(wanted_, [](const Want& a, const Want& b) {
      return std::tuple{a.where, !a.torn, a.index, a.root, a.length} <
             std::tuple{b.where, !b.torn, b.index, b.root, b.length};
    });
    // Not std::ranges::unique: Clang 14 does not compile it with the library of GCC 12.
    wanted_.erase(std::unique(wanted_.begin(), wanted_.end(),
                              [](const Want& a, const Want& b) { return a.where == b.where; }),
                  wanted_.end());
    std::uint64_t total = 0, done = 0;
    std::vector<Want> missing;
    for (const Want& w : wanted_) {
      Record r;
      r.where = w.where;
      r.index = w.index;
      r.length = w.length;
      r.root = w.root;
      r.cv = w.cv;
      if (const Record* old = known(r)) {
        next_.records.push_back(*old);
      } else {
        total += w.length;
        missing.push_back(w);
      }
    }
    wanted_ = {};
    INDRA_TRY(headers());
    Bytes bytes;
    for (const Want& w : missing) {
      Record r;
      r.where = w.where;
      r.index = w.index;
      r.length = w.length;
      r.root = w.root;
      r.cv = w.cv;
      bytes.resize(w.length);
      if (auto got = fetch(w, bytes); got) {
        INDRA_TRY(add(r, bytes));
      } else if (got.error().code != make_error_code(Errc::corrupt)) {
        return got;
      } else if (const Record* old = dest_.state().find(w.where);
                 old != nullptr && old->same_bytes(r) && dest_.read(*old, bytes)) {
        next_.records.push_back(*old);  // what the vault has lost, the backup keeps
        damaged(got.error().text() + " (the backup has it)");
      } else {
        damaged(got.error().text());
      }
      done += w.length;
      if (options_.progress) options_.progress(done, total);
    }
    return {};
  }

  /// The first block of each segment, and where it ends.
  Result<void> headers() {
    for (const auto& [segment, end] : ends_) {
      const std::string path = Segments::path_of(source_.vault + "/segments", segment);
      Bytes header(kSegmentHeader);
      auto fd = open_to_read(path);
      const auto n = fd ? read_at(*fd, 0, header, path) : Result<std::size_t>{fail(fd.error())};
      if (n && *n == header.size()) {
        Record r = whole(std::uint64_t{segment} << 32, header);
        r.index = std::min<std::uint64_t>(end, UINT32_MAX);
        INDRA_TRY(keep(r, header));
        continue;
      }
      if (!n && n.error().code != std::errc::no_such_file_or_directory) return fail(n.error());
      damaged("segment " + path + " is missing or cut short");
      if (const Record* old = dest_.state().find(std::uint64_t{segment} << 32)) next_.records.push_back(*old);
    }
    return {};
  }

  Result<void> fetch(const Want& w, MutableBytes out) {
    const auto segment = static_cast<std::uint32_t>(w.where >> 32);
    const std::string path = Segments::path_of(source_.vault + "/segments", segment);
    if (segment != open_segment_) {
      auto fd = open_to_read(path);
      if (!fd && fd.error().code != std::errc::no_such_file_or_directory) return fail(fd.error());
      segment_ = fd ? std::move(*fd) : Fd{};
      open_segment_ = segment;
    }
    const auto lost = [&] {
      return fail(Errc::corrupt,
                  fmt::format("{} at {} does not match its hash", path, static_cast<std::uint32_t>(w.where)));
    };
    if (!segment_) return lost();
    const auto n = read_at(segment_, static_cast<std::uint32_t>(w.where), out, path);
    if (!n && n.error().code != std::errc::io_error) return fail(n.error());
    KeptChunk c;
    if (w.torn) c = torn_[w.where];
    c.where = w.where;
    c.index = w.index;
    c.length = w.length;
    c.root = w.root;
    c.cv.bytes = w.cv;
    return n && *n == out.size() && indra::matches(c, out) ? Result<void>{} : lost();
  }

  const BackupSource& source_;
  Dest& dest_;
  const BackupOptions& options_;
  State next_;
  PackWriter packs_;
  BackupReport report_;
  std::map<std::uint32_t, bool> keep_;
  std::vector<Want> wanted_;
  std::unordered_map<std::uint64_t, KeptChunk> torn_;
  std::vector<std::pair<std::uint32_t, std::uint64_t>> ends_;
  std::uint32_t open_segment_ = 0;
  Fd segment_;
  Bytes scratch_;
};

}  // namespace

Result<BackupReport> back_up(const BackupSource& source, const std::string& dest,
                             const BackupOptions& options) {
  const std::string vault = resolved(source.vault), to = resolved(dest);
  if ((to + "/").starts_with(vault + "/"))
    return fail(EINVAL, dest + " lies in the vault itself; name a directory elsewhere, best on another disk");
  INDRA_LET(Dest d, Dest::open(dest));
  Backup b{source, d, options};
  return b.run();
}

}  // namespace indra
