// The store's rows: who owns what, what died, where segments end.
#include <algorithm>

#include "blob/internal/store.h"

namespace indra::blob {
namespace {
std::int64_t as_int(std::uint64_t v) { return static_cast<std::int64_t>(v); }
}  // namespace

Result<Standing> Store::standing(Tx& tx, BlobId id) {
  Statement q{tx, "SELECT refs, coalesce(family, id), coalesce(owner, id) FROM blobs WHERE id = ?1"};
  q.bind(1, id);
  INDRA_LET(const bool found, q.step());
  if (!found) return fail(ENOENT, "blob");
  Standing s;
  s.refs = q.int64_at(0);
  s.family = q.int64_at(1);
  s.owner = q.int64_at(2);
  Statement others{tx,
                   "SELECT EXISTS(SELECT 1 FROM blobs WHERE family = ?1 AND id <> ?2)"
                   " OR EXISTS(SELECT 1 FROM blobs WHERE id = ?1 AND id <> ?2 AND family IS NULL)"
                   " OR EXISTS(SELECT 1 FROM loose WHERE family = ?1)"};
  others.bind(1, s.family).bind(2, id);
  INDRA_TRY(others.step());
  s.alone = others.int64_at(0) == 0;
  return s;
}

Result<void> Store::kill(Tx& tx, const std::vector<Extent>& dead) {
  std::map<std::uint32_t, std::int64_t> lost;
  for (const Extent& e : dead) {
    INDRA_TRY(Statement(tx,
                        "INSERT INTO dead_extents(segment, offset, length) VALUES(?1, ?2, ?3) "
                        "ON CONFLICT(segment, offset) DO UPDATE SET length = max(length, ?3)")
                  .bind(1, static_cast<std::int64_t>(e.segment))
                  .bind(2, static_cast<std::int64_t>(e.offset))
                  .bind(3, static_cast<std::int64_t>(e.length))
                  .run());
    if (e.segment != kInDatabase) lost[e.segment] += e.length;
  }
  for (const auto& [segment, n] : lost)
    INDRA_TRY(Statement(tx, "UPDATE segments SET live = live - ?2 WHERE id = ?1")
                  .bind(1, static_cast<std::int64_t>(segment))
                  .bind(2, n)
                  .run());
  return {};
}

Result<void> Store::let_go(Tx& tx, const Standing& s, std::span<const Entry> entries) {
  std::vector<Extent> dead;
  for (const Entry& e : entries) {
    const std::uint32_t units = space_of(e);
    if (s.alone || as_int(e.birth) == s.owner) {
      if (!dead.empty() && dead.back().segment == e.segment() &&
          dead.back().offset + dead.back().length == e.offset() && dead.back().length < (1u << 30))
        dead.back().length += units;
      else
        dead.push_back({e.segment(), e.offset(), units});
    } else {
      disturb(s.family);
      INDRA_TRY(
          Statement(tx, "INSERT OR IGNORE INTO loose(family, segment, place, length) VALUES(?1, ?2, ?3, ?4)")
              .bind(1, s.family)
              .bind(2, static_cast<std::int64_t>(e.segment()))
              .bind(3, static_cast<std::int64_t>(e.offset()))
              .bind(4, static_cast<std::int64_t>(units))
              .run());
    }
  }
  return kill(tx, dead);
}

Result<void> Store::let_go_page(Tx& tx, const Standing& s, std::uint64_t id, std::uint64_t birth) {
  if (s.alone || as_int(birth) == s.owner)
    return Statement{tx, "DELETE FROM pages WHERE id = ?1"}.bind(1, as_int(id)).run();
  disturb(s.family);
  return Statement{tx, "INSERT OR IGNORE INTO loose(family, segment, place, length) VALUES(?1, 0, ?2, 0)"}
      .bind(1, s.family)
      .bind(2, as_int(id))
      .run();
}

Result<void> Store::refer(Tx& tx, std::span<const Entry> entries) {
  struct Seg {
    std::int64_t end = 0, live = 0;
  };
  std::map<std::uint32_t, Seg> segs;
  for (const Entry& e : entries) {
    if (e.segment() == kInDatabase) continue;
    Seg& s = segs[e.segment()];
    s.end = std::max<std::int64_t>(s.end, std::int64_t{e.offset()} + e.length);
    s.live += space_of(e);
  }
  for (const auto& [id, s] : segs)
    INDRA_TRY(Statement(tx,
                        "INSERT INTO segments(id, end, live) VALUES(?1, ?2, ?3) "
                        "ON CONFLICT(id) DO UPDATE SET end = max(end, ?2), live = live + ?3")
                  .bind(1, static_cast<std::int64_t>(id))
                  .bind(2, s.end)
                  .bind(3, s.live)
                  .run());
  return {};
}

PageSink Store::page_sink(Tx& tx, const Standing* own, std::uint64_t owner) {
  return {
      owner,
      [this, &tx, own](std::uint64_t old_id, std::uint64_t birth, ByteView data) -> Result<std::uint64_t> {
        if (own != nullptr && old_id != 0 && (own->alone || as_int(birth) == own->owner)) {
          INDRA_TRY(Statement(tx, "UPDATE pages SET data = ?2 WHERE id = ?1")
                        .bind(1, as_int(old_id))
                        .bind_blob(2, data)
                        .run());
          return old_id;
        }
        const std::uint64_t id = next_id();
        INDRA_TRY(Statement(tx, "INSERT INTO pages(id, data) VALUES(?1, ?2)")
                      .bind(1, as_int(id))
                      .bind_blob(2, data)
                      .run());
        if (own != nullptr && old_id != 0) INDRA_TRY(let_go_page(tx, *own, old_id, birth));
        return id;
      }};
}

Result<void> Store::put_patch(Tx& tx, BlobId blob, std::uint64_t block, ByteView data) {
  return Statement{tx, "INSERT OR REPLACE INTO patches(blob, block, seal, data) VALUES(?1, ?2, ?3, ?4)"}
      .bind(1, blob)
      .bind(2, as_int(block))
      .bind(3, load_le<std::int64_t>(BlobHash::of(data).bytes().data()))
      .bind_blob(4, data)
      .run();
}
Result<void> Store::drop_patches(Tx& tx, BlobId blob, std::uint64_t from, std::uint64_t to) {
  // A chunk that loses patches is a new one, or cut off.
  INDRA_TRY(Statement(tx, "DELETE FROM folds WHERE blob = ?1 AND chunk >= ?2 AND chunk < ?3")
                .bind(1, blob)
                .bind(2, as_int(from / kBlocks))
                .bind(3, as_int((to + kBlocks - 1) / kBlocks))
                .run());
  return Statement{tx, "DELETE FROM patches WHERE blob = ?1 AND block >= ?2 AND block < ?3"}
      .bind(1, blob)
      .bind(2, as_int(from))
      .bind(3, as_int(to))
      .run();
}

Result<void> Store::merge_families(Tx& tx, std::int64_t from, std::int64_t into) {
  disturb(from);
  disturb(into);
  if (from == into) return {};
  INDRA_TRY(
      Statement(tx, "UPDATE blobs SET family = ?2 WHERE family = ?1").bind(1, from).bind(2, into).run());
  INDRA_TRY(Statement(tx, "UPDATE blobs SET family = ?2 WHERE id = ?1 AND family IS NULL")
                .bind(1, from)
                .bind(2, into)
                .run());
  return Statement{tx, "UPDATE loose SET family = ?2 WHERE family = ?1"}.bind(1, from).bind(2, into).run();
}

Result<BlobId> Store::find_hash(Tx& tx, BucketId bucket, const BlobHash& hash) {
  Statement q{tx, "SELECT id FROM blobs WHERE bucket = ?1 AND hash = ?2 AND hash IS NOT NULL AND twin = 0"};
  q.bind(1, bucket).bind_blob(2, hash.bytes());
  INDRA_LET(const bool found, q.step());
  return found ? q.id_at<BlobId>(0) : BlobId{};
}

Result<BlobInfo> Store::info(Tx& tx, BlobId id) {
  if (!id) return BlobInfo{{}, 0, BlobHash::of({}), 0, 1};
  Statement q{tx, "SELECT size, hash, coalesce(stored, size), refs FROM blobs WHERE id = ?1"};
  q.bind(1, id);
  INDRA_LET(const bool found, q.step());
  if (!found) return fail(ENOENT, "blob");
  BlobInfo i;
  i.id = id;
  i.size = static_cast<std::uint64_t>(q.int64_at(0));
  if (!q.is_null(1)) i.hash = BlobHash::from_digest(q.blob_at(1));
  i.stored = static_cast<std::uint64_t>(q.int64_at(2));
  i.refs = q.int64_at(3);
  return i;
}

Result<void> Store::add_ref(Tx& tx, BlobId id) {
  if (!id) return {};
  INDRA_TRY(Statement(tx, "UPDATE blobs SET refs = refs + 1 WHERE id = ?1").bind(1, id).run());
  return tx.db().changes() == 1 ? Result<void>{} : fail(ENOENT, "blob");
}
Result<void> Store::drop_ref(Tx& tx, BlobId id) {
  if (!id) return {};
  INDRA_TRY(Statement(tx, "UPDATE blobs SET refs = refs - 1 WHERE id = ?1 AND refs > 0").bind(1, id).run());
  return tx.db().changes() == 1 ? Result<void>{} : fail(ENOENT, "blob");
}

}  // namespace indra::blob
