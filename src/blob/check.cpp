// Long because all its parts share what one walk over the manifests has gathered.
#include "blob/check.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "blob/internal/store.h"

namespace indra {
namespace {

using namespace blob;

constexpr std::uint64_t kHeaderSize = 4096;

std::uint64_t round_up(std::uint64_t n) { return (n + kBlockSize - 1) / kBlockSize * kBlockSize; }

struct Segment {
  std::uint64_t end = 0;
  std::int64_t live = 0;
  bool packed = false, readable = false;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> gaps;  // from and to
};

class ContentCheck {
 public:
  ContentCheck(Tx& tx, std::string dir, Checking& c) : tx_{tx}, dir_{std::move(dir)}, c_{c} {}

  Result<void> run() {
    INDRA_TRY(tx_.db().execute(
        "DROP TABLE IF EXISTS temp.place; CREATE TEMP TABLE place(segment INTEGER, offset INTEGER, "
        "length INTEGER, family INTEGER, blob INTEGER, PRIMARY KEY(segment, offset, length, family)) WITHOUT "
        "ROWID"));
    INDRA_TRY(state());
    INDRA_TRY(segment_rows());
    INDRA_TRY(references());
    INDRA_TRY(patches());
    INDRA_TRY(folds());
    INDRA_TRY(blobs());
    INDRA_TRY(loose());
    INDRA_TRY(pages());
    INDRA_TRY(slots());
    INDRA_TRY(dead());
    INDRA_TRY(files());
    return tx_.db().execute("DROP TABLE temp.place");
  }

 private:
  void found(const char* rule, std::string what, BlobId blob = {}) {
    c_.found({.rule = rule, .what = std::move(what), .blob = blob});
  }
  void found(const char* rule, std::string what, BlobId blob, std::string mending, std::string sql) {
    c_.found({.rule = rule,
              .what = std::move(what),
              .blob = blob,
              .mending = std::move(mending),
              .mend = [sql = std::move(sql)](Tx& tx) { return run_once(tx, sql); }});
  }

  /// What no manifest names goes only when all of them could be read: else it may be of the one that could
  /// not.
  void nobodys(const char* rule, std::string what, std::string mending, std::string sql) {
    if (unread_)
      found(rule, std::move(what));
    else
      found(rule, std::move(what), {}, std::move(mending), std::move(sql));
  }

  /// A part of a manifest could not be read.
  void unread(std::string what, BlobId blob) {
    unread_ = true;
    found("F14", std::move(what), blob);
  }

  // ---- F2: the store's numbers ----
  Result<void> state() {
    {
      Statement q{tx_, "SELECT value FROM content_state WHERE name = 'ids'"};
      INDRA_LET(const bool row, q.step());
      if (row) ids_ = q.int64_at(0);
    }
    Statement q{
        tx_,
        "SELECT max(coalesce((SELECT max(id) FROM blobs), 0), coalesce((SELECT max(owner) FROM blobs), "
        "0), coalesce((SELECT max(id) FROM pages), 0))"};
    INDRA_TRY(q.step());
    if (const std::int64_t highest = q.int64_at(0); highest > ids_) {
      found("F2",
            fmt::format("content number {} is in use, but only those up to {} were reserved", highest, ids_),
            {}, "reserved up to it",
            fmt::format("INSERT OR REPLACE INTO content_state(name, value) VALUES('ids', {})", highest));
      ids_ = highest;
    }
    Statement p{tx_, "SELECT value FROM properties WHERE name = 'content'"};
    INDRA_LET(const bool row, p.step());
    single_file_ = row && p.text_at(0) == "single-file";
    return {};
  }

  Result<void> segment_rows() {
    Statement q{tx_, "SELECT id, end, live FROM segments"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      Segment s;
      s.end = static_cast<std::uint64_t>(q.int64_at(1));
      s.live = q.int64_at(2);
      segments_[static_cast<std::uint32_t>(q.int64_at(0))] = s;
    }
  }

  // ---- F13: references ----
  Result<void> references() {
    Statement q{
        tx_,
        "SELECT blob, count(*) FROM (SELECT blob FROM nodes WHERE blob IS NOT NULL UNION ALL SELECT blob "
        "FROM nodes_past WHERE blob IS NOT NULL UNION ALL SELECT blob FROM sessions) GROUP BY blob ORDER "
        "BY blob"};
    Statement b{tx_, "SELECT id, refs FROM blobs ORDER BY id"};
    INDRA_LET(bool have, q.step());
    for (;;) {
      INDRA_LET(const bool row, b.step());
      const std::int64_t id = row ? b.int64_at(0) : INT64_MAX;
      while (have && q.int64_at(0) < id) {
        unread_ = true;
        found("F13", fmt::format("content {} is missing: its row is gone", q.int64_at(0)),
              q.id_at<BlobId>(0));
        INDRA_LET(have, q.step());
      }
      if (!row) return {};
      const std::int64_t n = have && q.int64_at(0) == id ? q.int64_at(1) : 0;
      if (b.int64_at(1) != n)
        found("F13", fmt::format("content {} counts {} references, there are {}", id, b.int64_at(1), n),
              BlobId{id}, fmt::format("counted as {}", n),
              fmt::format("UPDATE blobs SET refs = {} WHERE id = {}", n, id));
      if (have && q.int64_at(0) == id) {
        INDRA_LET(have, q.step());
      }
      INDRA_TRY(c_.count());
    }
  }

  // ---- F15: patches ----
  Result<void> patches() {
    Statement q{
        tx_,
        "SELECT p.blob, p.block, p.seal, p.data, b.size, b.form FROM patches p LEFT JOIN blobs b ON b.id = "
        "p.blob"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      INDRA_TRY(c_.count());
      const auto blob = q.id_at<BlobId>(0);
      const auto block = static_cast<std::uint64_t>(q.int64_at(1));
      if (q.is_null(4)) {
        found("F15", fmt::format("a patch belongs to content {}, which there is not", blob.raw()), {},
              "the patch removed",
              fmt::format("DELETE FROM patches WHERE blob = {} AND block = {}", blob.raw(), q.int64_at(1)));
        continue;
      }
      const auto size = static_cast<std::uint64_t>(q.int64_at(4));
      const ByteView data = q.blob_at(3);
      const std::string which = fmt::format("the patch of content {} at block {}", blob.raw(), block);
      if (load_le<std::int64_t>(BlobHash::of(data).bytes().data()) != q.int64_at(2))
        found("F15", which + " does not match its checksum", blob);
      if (block * kBlockSize >= size || q.int64_at(5) == 0)
        found("F15", which + " lies beyond its end", blob, "the patch removed",
              fmt::format("DELETE FROM patches WHERE blob = {} AND block = {}", blob.raw(), q.int64_at(1)));
      else if (data.size() > kBlockSize || data.empty())
        found("F15", fmt::format("{} has {} bytes", which, data.size()), blob);
      patched_[blob.raw()].emplace_back(block, data.size());
    }
  }

  Result<void> folds() {
    Statement q{
        tx_, "SELECT f.blob, f.chunk, length(f.cv), b.size FROM folds f LEFT JOIN blobs b ON b.id = f.blob"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      const auto blob = q.id_at<BlobId>(0);
      const bool there =
          !q.is_null(3) && q.int64_at(1) * static_cast<std::int64_t>(kChunkSize) < q.int64_at(3);
      if (!there)
        found("F15",
              fmt::format("a fold of chunk {} of content {} began, which there is not", q.int64_at(1),
                          blob.raw()),
              {}, "forgotten",
              fmt::format("DELETE FROM folds WHERE blob = {} AND chunk = {}", blob.raw(), q.int64_at(1)));
      else if (q.int64_at(2) != 32)
        found("F15",
              fmt::format("the fold of chunk {} of content {} has no proper hash", q.int64_at(1), blob.raw()),
              blob);
    }
  }

  // ---- F14: blobs and their manifests ----
  struct Sub {
    std::optional<Cv> cv;      // of a page all of which is known
    std::uint64_t stored = 0;  // bytes in its chunks
    std::int64_t family = 0;
  };

  Result<PagePtr> load(std::uint64_t id, BlobId blob) {
    Statement q{tx_, "SELECT data FROM pages WHERE id = ?1"};
    INDRA_LET(const bool row, q.bind(1, static_cast<std::int64_t>(id)).step());
    if (!row) {
      unread(fmt::format("page {} of the manifest of content {} is missing", id, blob.raw()), blob);
      return PagePtr{};
    }
    auto page = std::make_shared<Page>();
    if (auto r = decode_page(q.blob_at(0), std::nullopt, *page); !r) {
      unread(fmt::format("page {} of the manifest of content {}: {}", id, blob.raw(), r.error().text()),
             blob);
      return PagePtr{};
    }
    return PagePtr{std::move(page)};
  }

  struct Walk {
    BlobId blob;
    std::int64_t family;
    std::uint64_t size;
  };

  Result<void> chunk(const Walk& w, std::uint64_t index, const Entry& e) {
    const std::string which = fmt::format("chunk {} of content {}", index, w.blob.raw());
    if (index >= chunks_in(w.size)) {
      found("F14", which + " lies beyond its end", w.blob);
      return {};
    }
    if (e.length > kChunkSize || e.root != (w.size <= kChunkSize))
      if (e.length > kChunkSize) found("F14", which + " is too long", w.blob);
    if (static_cast<std::int64_t>(e.birth) > ids_)
      found("F2", fmt::format("{} was born under number {}, which was never reserved", which, e.birth),
            w.blob);
    if (e.segment() == kInDatabase) {
      Statement q{tx_, "SELECT length(data) FROM chunks WHERE id = ?1"};
      INDRA_LET(const bool row, q.bind(1, std::int64_t{e.offset()}).step());
      if (!row)
        found("F14", which + " is missing: its row is gone", w.blob);
      else if (q.int64_at(0) != e.length)
        found("F14",
              fmt::format("{} has {} bytes in its row, the manifest says {}", which, q.int64_at(0), e.length),
              w.blob);
    } else {
      const auto s = segments_.find(e.segment());
      const std::uint64_t to = std::uint64_t{e.offset()} + e.length;
      if (s == segments_.end())
        found("F16", fmt::format("{} lies in segment {}, which there is not", which, e.segment()), w.blob);
      else if (to > s->second.end)
        found("F16",
              fmt::format("{} reaches to byte {} of segment {}, which ends at {}", which, to, e.segment(),
                          s->second.end),
              w.blob, "the segment's end put behind it",
              fmt::format("UPDATE segments SET end = max(end, {}) WHERE id = {}", to, e.segment()));
      if (e.offset() < kHeaderSize || (e.length >= kBlockSize && e.offset() % kBlockSize != 0))
        found("F16", fmt::format("{} lies at {}:{}, where no chunk can lie", which, e.segment(), e.offset()),
              w.blob);
    }
    return place(e.segment(), e.offset(), space_of(e), w.family, w.blob);
  }

  Result<void> place(std::uint32_t segment, std::uint32_t offset, std::uint32_t length, std::int64_t family,
                     BlobId blob) {
    return Statement{
        tx_,
        "INSERT OR IGNORE INTO temp.place(segment, offset, length, family, blob) VALUES(?1, ?2, ?3, ?4, ?5)"}
        .bind(1, std::int64_t{segment})
        .bind(2, std::int64_t{offset})
        .bind(3, std::int64_t{length})
        .bind(4, family)
        .bind(5, blob)
        .run();
  }

  /// What is below one page; nothing where damage was found.
  Result<std::optional<Sub>> below(const Walk& w, const Page& page, int height, std::uint64_t first) {
    Sub sub{.cv = {}, .stored = 0, .family = w.family};
    const std::uint64_t span = span_of(height);
    std::vector<Cv> cvs;
    bool known = true, sound = true;
    for (std::size_t i = 0; i < kFanout; ++i) {
      const std::uint64_t index = first + i * span;
      const Entry e = page.at(i);
      if (index >= chunks_in(w.size)) {
        if (e.present() && height > 1)
          found("F14", fmt::format("the manifest of content {} goes on behind its end", w.blob.raw()),
                w.blob);
        if (!e.present()) continue;
      }
      if (height == 1) {
        if (e.present()) {
          INDRA_TRY(chunk(w, index, e));
          sub.stored += e.length;
          if (cv_fits(e, w.size, index))
            cvs.push_back(e.cv);
          else
            known = false;
        } else if (holes_++ < 4096) {
          cvs.push_back(zero_chunk_cv(index, chunk_length(w.size, index)));
        } else {
          known = false;
        }
        continue;
      }
      if (!e.present()) {
        known = false;  // a large hole: not worth computing here
        continue;
      }
      INDRA_LET(const auto kid, page_below(w, e, height - 1, index));
      if (!kid) {
        sound = false;
        continue;
      }
      sub.stored += kid->stored;
      if (e.cv != Cv{} && kid->cv && *kid->cv != e.cv) {
        found("F14",
              fmt::format("page {} of the manifest of content {} does not match its hash", e.where,
                          w.blob.raw()),
              w.blob);
        sound = false;
      }
      if (kid->cv)
        cvs.push_back(*kid->cv);
      else
        known = false;
    }
    if (!sound) return std::nullopt;
    if (known && !cvs.empty()) sub.cv = join(cvs);
    last_ = known ? std::move(cvs) : std::vector<Cv>{};
    return sub;
  }

  Result<std::optional<Sub>> page_below(const Walk& w, const Entry& e, int height, std::uint64_t first) {
    if (const auto it = seen_.find(e.where); it != seen_.end()) {
      if (it->second && it->second->family != w.family)
        found("F16",
              fmt::format("page {} belongs to two families of content, {} and {}", e.where,
                          it->second->family, w.family),
              w.blob);
      return it->second;
    }
    INDRA_TRY(c_.count());
    if (static_cast<std::int64_t>(e.birth) > ids_)
      found("F2", fmt::format("page {} was born under number {}, which was never reserved", e.where, e.birth),
            w.blob);
    std::optional<Sub> sub;
    INDRA_LET(const PagePtr page, load(e.where, w.blob));
    if (page) {
      INDRA_LET(sub, below(w, *page, height, first));
    }
    seen_[e.where] = sub;
    return sub;
  }

  Result<void> blobs() {
    Statement q{
        tx_,
        "SELECT id, coalesce(family, id), refs, size, coalesce(stored, size), hash, form, data, bucket, "
        "coalesce(owner, id) FROM blobs ORDER BY id"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      INDRA_TRY(c_.count());
      const auto id = q.id_at<BlobId>(0);
      const Walk w{id, q.int64_at(1), static_cast<std::uint64_t>(q.int64_at(3))};
      const auto stored = static_cast<std::uint64_t>(q.int64_at(4));
      if (q.int64_at(3) < 0 || w.size > kMaxFileSize) {
        unread(fmt::format("content {} has the size {}", id.raw(), q.int64_at(3)), id);
        continue;
      }
      std::optional<BlobHash> hash;
      if (!q.is_null(5)) {
        if (q.blob_at(5).size() != 32) {
          unread(fmt::format("the hash of content {} is {} bytes long", id.raw(), q.blob_at(5).size()), id);
          continue;
        }
        hash = BlobHash::from_digest(q.blob_at(5));
      }
      const ByteView data = q.blob_at(7);
      if (q.int64_at(6) == 0) {
        if (data.size() != w.size)
          found("F14",
                fmt::format("content {} holds {} bytes, its size is {}", id.raw(), data.size(), w.size), id);
        else if (hash && BlobHash::of(data) != *hash)
          found("F14", fmt::format("content {} does not match its hash", id.raw()), id);
        continue;
      }
      if (q.int64_at(6) != 1) {
        unread(fmt::format("content {} has the unknown form {}", id.raw(), q.int64_at(6)), id);
        continue;
      }
      Page root;
      if (auto r = decode_page(data, hash, root); !r) {
        unread(fmt::format("the manifest of content {}: {}", id.raw(), r.error().text()), id);
        continue;
      }
      const auto& patched = patched_[id.raw()];
      last_.clear();
      holes_ = 0;
      INDRA_LET(const auto sub, below(w, root, height_of(w.size), 0));
      if (!sub) continue;
      std::uint64_t have = sub->stored;
      INDRA_LET(const std::uint64_t over, patched_holes(id, w.size, root, patched));
      have += over;
      if (have != stored)
        found("F14",
              fmt::format("content {} counts {} bytes as stored, there are {}", id.raw(), stored, have), id,
              fmt::format("counted as {}", have),
              fmt::format("UPDATE blobs SET stored = {} WHERE id = {}",
                          have == w.size ? "NULL" : std::to_string(have), id.raw()));
      if (!hash || !patched.empty() || last_.empty()) continue;
      const bool good = w.size <= kChunkSize
                            ? last_.size() == 1 && std::ranges::equal(last_[0].bytes, hash->bytes())
                            : root_of(last_) == *hash;
      if (!good && (w.size > kChunkSize || root.at(0).present()))
        found("F14", fmt::format("the hash of content {} does not follow from its chunks", id.raw()), id);
    }
  }

  /// Bytes of patches where the chunk under them has none.
  Result<std::uint64_t> patched_holes(BlobId blob, std::uint64_t size, const Page& root,
                                      const std::vector<std::pair<std::uint64_t, std::size_t>>& patches) {
    if (patches.empty()) return 0;
    auto top = std::make_shared<Page>();
    top->entries = root.entries;
    const Manifest m{size, top};
    std::uint64_t n = 0;
    const PageLoader loader = [&](std::uint64_t id) -> Result<PagePtr> {
      INDRA_LET(PagePtr page, load(id, blob));
      if (!page) return fail(Errc::corrupt);
      return page;
    };
    for (const auto& [block, bytes] : patches) {
      if (block * kBlockSize >= size) continue;
      INDRA_LET(const Entry under, find_chunk(m, block / kBlocks, loader));
      if (block % kBlocks * kBlockSize >= under.length) n += bytes;
    }
    return n;
  }

  // ---- F16: slots ----
  Result<void> loose() {
    Statement q{tx_, "SELECT family, segment, place, length FROM loose"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      if (q.int64_at(1) == 0)
        loose_pages_.insert(static_cast<std::uint64_t>(q.int64_at(2)));
      else
        INDRA_TRY(place(static_cast<std::uint32_t>(q.int64_at(1)), static_cast<std::uint32_t>(q.int64_at(2)),
                        static_cast<std::uint32_t>(q.int64_at(3)), q.int64_at(0), {}));
    }
  }

  Result<void> pages() {
    Statement q{tx_, "SELECT id FROM pages"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      INDRA_TRY(c_.count());
      const auto id = static_cast<std::uint64_t>(q.int64_at(0));
      if (!seen_.contains(id) && !loose_pages_.contains(id))
        nobodys("F18", fmt::format("manifest page {} belongs to nothing", id), "removed",
                fmt::format("DELETE FROM pages WHERE id = {}", id));
    }
  }

  Result<void> slots() {
    Statement q{
        tx_, "SELECT segment, offset, length, family, blob FROM temp.place ORDER BY segment, offset, length"};
    struct Last {
      std::uint64_t segment = 0, from = 0, length = 0, to = 0;
      std::int64_t family = 0, blob = 0;
    } last;
    std::map<std::uint32_t, std::int64_t> live;
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      INDRA_TRY(c_.count());
      Last now{static_cast<std::uint64_t>(q.int64_at(0)),
               static_cast<std::uint64_t>(q.int64_at(1)),
               static_cast<std::uint64_t>(q.int64_at(2)),
               static_cast<std::uint64_t>(q.int64_at(1) + q.int64_at(2)),
               q.int64_at(3),
               q.int64_at(4)};
      const auto id = static_cast<std::uint32_t>(now.segment);
      const bool again = now.segment == last.segment && now.from == last.from && now.length == last.length;
      if (now.segment == last.segment && now.from < last.to)
        found("F16",
              again ? fmt::format("the bytes at {}:{} belong to content of two families, {} (content {}) and "
                                  "{} (content {})",
                                  now.segment, now.from, last.family, last.blob, now.family, now.blob)
                    : fmt::format("the bytes at {}:{} are used twice, by content {} and content {}",
                                  now.segment, now.from, last.blob, now.blob),
              BlobId{now.blob});
      if (!again) live[id] += static_cast<std::int64_t>(now.length);
      const auto s = segments_.find(id);
      if (s != segments_.end()) {
        const std::uint64_t before =
            std::max(now.segment == last.segment ? last.to : kHeaderSize, kHeaderSize);
        if (now.from > before) s->second.gaps.emplace_back(before, now.from);
      }
      if (now.segment == last.segment) now.to = std::max(now.to, last.to);
      last = now;
      tail_[id] = std::max(tail_[id], now.to);
    }
    for (auto& [id, s] : segments_) {
      if (const std::int64_t n = live[id]; n != s.live)
        nobodys("F16", fmt::format("segment {} counts {} living bytes, there are {}", id, s.live, n),
                fmt::format("counted as {}", n),
                fmt::format("UPDATE segments SET live = {} WHERE id = {}", n, id));
      const std::uint64_t from = std::max(tail_[id], kHeaderSize);
      if (round_up(s.end) > from) s.gaps.emplace_back(from, round_up(s.end));
    }
    return {};
  }

  Result<void> dead() {
    INDRA_TRY(given_up("dead_extents", dead_));
    return given_up("dead_parts", dead_parts_);
  }

  using Rows = std::map<std::uint32_t, std::vector<std::pair<std::uint64_t, std::uint64_t>>>;
  Result<void> given_up(const std::string& table, Rows& rows) {
    const bool parts = table == "dead_parts";
    const char* const query =
        parts
            ? "SELECT d.segment, d.offset, d.length, (SELECT blob FROM temp.place p WHERE p.segment = "
              "d.segment AND p.offset < d.offset + d.length AND p.offset >= d.offset - 65536 AND p.offset + "
              "p.length > d.offset) FROM dead_parts d ORDER BY d.segment, d.offset"
            : "SELECT d.segment, d.offset, d.length, (SELECT blob FROM temp.place p WHERE p.segment = "
              "d.segment AND p.offset < d.offset + d.length AND p.offset >= d.offset - 65536 AND p.offset + "
              "p.length > d.offset) FROM dead_extents d ORDER BY d.segment, d.offset";
    Statement q{tx_, query};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      INDRA_TRY(c_.count());
      const auto id = static_cast<std::uint32_t>(q.int64_at(0));
      const auto from = static_cast<std::uint64_t>(q.int64_at(1)),
                 to = from + static_cast<std::uint64_t>(q.int64_at(2));
      const std::string forget =
          fmt::format("DELETE FROM {} WHERE segment = {} AND offset = {}", table, id, from);
      if (!q.is_null(3))
        found("F16",
              fmt::format("the bytes at {}:{} are given up and used by content {}", id, from, q.int64_at(3)),
              q.id_at<BlobId>(3), "no longer given up", forget);
      else if (parts && (to <= from || from / kBlockSize != (to - 1) / kBlockSize))
        found("F16", fmt::format("the dead part of a block at {}:{} is none", id, from), {}, "forgotten",
              forget);
      if (id == kInDatabase) continue;
      const auto s = segments_.find(id);
      if (s == segments_.end()) {
        found("F16", fmt::format("bytes of segment {} are given up, which there is not", id), {}, "forgotten",
              forget);
        continue;
      }
      rows[id].emplace_back(from, to);
    }
  }

  // ---- F17, F18: files ----
  Result<void> files() {
    for (auto& [id, s] : segments_) {
      INDRA_TRY(file(id, s));
      INDRA_TRY(c_.count());
    }
    if (!single_file_ || !c_.at_rest) return {};
    Statement q{
        tx_,
        "SELECT id FROM chunks c WHERE NOT EXISTS(SELECT 1 FROM temp.place WHERE segment = 4294967295 AND "
        "offset = c.id) AND NOT EXISTS(SELECT 1 FROM dead_extents d WHERE segment = 4294967295 AND offset <= "
        "c.id "
        "AND offset > c.id - 1073741824 AND offset + length > c.id)"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      nobodys("F18", fmt::format("chunk row {} belongs to nothing", q.int64_at(0)), "removed",
              fmt::format("DELETE FROM chunks WHERE id = {}", q.int64_at(0)));
    }
  }

  Result<void> file(std::uint32_t id, Segment& s) {
    const std::string path = fmt::format("{}/{:08}.seg", dir_, id);
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
      found("F17", fmt::format("segment {}: {}", path,
                               Error{std::error_code{errno, std::generic_category()}, {}}.text()));
      return {};
    }
    struct Close {
      int fd;
      ~Close() { ::close(fd); }
    } const close{fd};
    struct stat st {};
    if (::fstat(fd, &st) != 0) return fail(errno, path);
    if (static_cast<std::uint64_t>(st.st_size) < std::max(s.end, kHeaderSize))
      found("F17", fmt::format("segment {} has {} bytes, the vault says {}", path, st.st_size, s.end));
    Bytes h(kHeaderSize);
    const ssize_t n = ::pread(fd, h.data(), h.size(), 0);
    if (n != static_cast<ssize_t>(h.size()) || !segment_header_is_sound(h)) {
      found("F17", fmt::format("segment {}: its header is damaged; what is in it can still be read", path));
      return {};
    }
    if (load_le<std::uint32_t>(h.data() + 12) != id) {
      found("F17", fmt::format("segment {} is another one, renamed: number {}", path,
                               load_le<std::uint32_t>(h.data() + 12)));
      return {};
    }
    if (!c_.at_rest) return {};
    // Nothing under way: each byte on the device belongs to something, or, where small extents share blocks,
    // each block (C8).
    const bool packed = load_le<std::uint32_t>(h.data() + 16) != 0;
    const auto& dead = dead_[id];
    for (const auto& gap : s.gaps) {
      const std::uint64_t from = packed ? round_up(gap.first) : gap.first,
                          to = packed ? gap.second / kBlockSize * kBlockSize : gap.second;
      std::uint64_t at = from;
      while (at < to) {
        const off_t data = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
        if (data < 0 || static_cast<std::uint64_t>(data) >= to) break;
        const off_t hole = ::lseek(fd, data, SEEK_HOLE);
        std::uint64_t lo = static_cast<std::uint64_t>(data),
                      hi = std::min<std::uint64_t>(to, static_cast<std::uint64_t>(hole));
        at = hi;
        for (const auto& [a, b] : dead) {  // few: a vault at rest has hardly any
          if (a <= lo && b > lo) lo = std::min(hi, round_up(b));
          if (a > lo && a < hi) hi = packed ? std::max(lo, a / kBlockSize * kBlockSize) : a;
        }
        if (lo >= hi) continue;
        at = hi;
        nobodys("F18", fmt::format("{} bytes at {}:{} belong to nothing", hi - lo, id, lo), "given up",
                fmt::format("INSERT OR IGNORE INTO dead_extents(segment, offset, length) VALUES({}, {}, {})",
                            id, lo, hi - lo));
      }
    }
    return {};
  }

  Tx& tx_;
  const std::string dir_;
  Checking& c_;
  std::int64_t ids_ = 0;
  bool single_file_ = false;
  bool unread_ = false;  // a part of a manifest
  std::map<std::uint32_t, Segment> segments_;
  std::unordered_map<std::int64_t, std::vector<std::pair<std::uint64_t, std::size_t>>> patched_;
  std::unordered_map<std::uint64_t, std::optional<Sub>> seen_;
  std::unordered_set<std::uint64_t> loose_pages_;
  std::vector<Cv> last_;  // CVs right below the page that below() returned from last
  int holes_ = 0;
  std::map<std::uint32_t, std::uint64_t> tail_;
  Rows dead_, dead_parts_;
};

}  // namespace

Result<void> check_content(Tx& tx, const std::string& segments, Checking& c) {
  return ContentCheck{tx, segments, c}.run();
}

}  // namespace indra
