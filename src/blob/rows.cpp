// The store's rows: who owns what, what died, where segments end.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

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

namespace {

std::string owner_of(BlobId blob, std::int64_t block) {
  return fmt::format("{:016x}{:016x}", static_cast<std::uint64_t>(blob.raw()),
                     static_cast<std::uint64_t>(block));
}

Result<std::int64_t> slot_of(Tx& tx, BlobId blob, std::int64_t block) {  // 0: there is no such patch
  Statement q{tx, "SELECT slot FROM patch_places WHERE blob = ?1 AND block = ?2"};
  INDRA_LET(const bool found, q.bind(1, blob).bind(2, block).step());
  return found ? q.int64_at(0) : 0;
}

}  // namespace

/// A slot that no patch is in; 0: a new one is needed. What was noted as free may have been taken back with
/// the transaction that freed it: so its row is asked (C42).
Result<std::int64_t> Store::take_slot(Tx& tx) {
  while (!free_slots_.empty()) {
    const std::int64_t slot = free_slots_.back();
    free_slots_.pop_back();
    Statement q{tx, "SELECT owner FROM patch_slots WHERE slot = ?1"};
    INDRA_LET(const bool there, q.bind(1, slot).step());
    const std::string owner{there ? q.text_at(0) : std::string_view{}};
    if (owner.size() != 32) continue;
    std::uint64_t blob = 0, block = 0;
    if (std::from_chars(owner.data(), owner.data() + 16, blob, 16).ptr != owner.data() + 16 ||
        std::from_chars(owner.data() + 16, owner.data() + 32, block, 16).ptr != owner.data() + 32)
      continue;
    INDRA_LET(const std::int64_t holds, slot_of(tx, BlobId{as_int(blob)}, as_int(block)));
    if (holds != slot) return slot;
  }
  return 0;
}

Result<void> Store::free_slot(Tx& tx, std::int64_t slot) {
  if (free_slots_.size() >= kFreeSlots)
    return Statement{tx, "DELETE FROM patch_slots WHERE slot = ?1"}.bind(1, slot).run();
  free_slots_.push_back(slot);
  return {};
}

Result<void> Store::find_free_slots(Tx& tx) {
  std::vector<std::int64_t> free;
  {
    Statement q{tx, "SELECT slot FROM patch_slots EXCEPT SELECT slot FROM patch_places"};
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) break;
      free.push_back(q.int64_at(0));
    }
  }
  free_slots_.clear();
  for (const std::int64_t slot : free) INDRA_TRY(free_slot(tx, slot));
  return {};
}

Result<void> Store::put_patch(Tx& tx, BlobId blob, std::uint64_t block, ByteView data) {
  const auto seal = load_le<std::int64_t>(BlobHash::of(data).bytes().data());
  const std::string owner = owner_of(blob, as_int(block));
  const auto fill = [&](const char* sql, std::int64_t slot) {
    return Statement{tx, sql}.bind(1, slot).bind_text(2, owner).bind(3, seal).bind_blob(4, data).run();
  };
  INDRA_LET(std::int64_t slot, slot_of(tx, blob, as_int(block)));
  if (slot != 0) {
    INDRA_TRY(fill("UPDATE patch_slots SET seal = ?3, data = ?4 WHERE slot = ?1 AND owner = ?2", slot));
    if (tx.db().changes() == 1) return {};  // else it is another's, or gone: damage, which goes with this
  }
  INDRA_LET(slot, take_slot(tx));
  if (slot != 0) {
    INDRA_TRY(fill("UPDATE patch_slots SET owner = ?2, seal = ?3, data = ?4 WHERE slot = ?1", slot));
  } else {
    INDRA_TRY(Statement(tx, "INSERT INTO patch_slots(owner, seal, data) VALUES(?1, ?2, ?3)")
                  .bind_text(1, owner)
                  .bind(2, seal)
                  .bind_blob(3, data)
                  .run());
    slot = tx.db().last_rowid();
  }
  return Statement{tx, "INSERT OR REPLACE INTO patch_places(blob, block, slot) VALUES(?1, ?2, ?3)"}
      .bind(1, blob)
      .bind(2, as_int(block))
      .bind(3, slot)
      .run();
}

Result<void> Store::drop_patches(Tx& tx, BlobId blob, std::uint64_t from, std::uint64_t to) {
  // A chunk that loses patches is a new one, or cut off.
  INDRA_TRY(Statement(tx, "DELETE FROM folds WHERE blob = ?1 AND chunk >= ?2 AND chunk < ?3")
                .bind(1, blob)
                .bind(2, as_int(from / kBlocks))
                .bind(3, as_int((to + kBlocks - 1) / kBlocks))
                .run());
  std::vector<std::int64_t> slots;
  {
    Statement q{tx, "DELETE FROM patch_places WHERE blob = ?1 AND block >= ?2 AND block < ?3 RETURNING slot"};
    q.bind(1, blob).bind(2, as_int(from)).bind(3, as_int(to));
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) break;
      slots.push_back(q.int64_at(0));
    }
  }
  for (const std::int64_t slot : slots) INDRA_TRY(free_slot(tx, slot));
  return {};
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
