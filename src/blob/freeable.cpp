// What freeing would give back.
#include "blob/internal/marks.h"

namespace indra {

using namespace blob;

Freed freed(const ContentStore& s) { return static_cast<const Store&>(s).freed(); }
void try_damaged_again(ContentStore& s) { static_cast<Store&>(s).try_damaged_again(); }

Result<Freeable> freeable(Tx& tx, const std::map<BlobId, std::int64_t>& dropped) {
  Freeable out;
  const auto bytes = [](const Entry& e) -> std::uint64_t {
    return e.segment() == kInDatabase ? e.length : space_of(e);
  };
  {
    Statement q{tx,
                "SELECT (SELECT coalesce(sum(length), 0) FROM dead_extents WHERE segment <> ?1) + (SELECT "
                "coalesce(sum(length(c.data)), 0) FROM dead_extents d JOIN chunks c ON c.id >= d.offset AND "
                "c.id < d.offset + d.length WHERE d.segment = ?1)"};
    INDRA_TRY(q.bind(1, std::int64_t{kInDatabase}).step());
    out.bytes = static_cast<std::uint64_t>(q.int64_at(0));
  }
  std::set<BlobId> dying;
  std::set<std::int64_t> families;
  {
    Statement q{tx, "SELECT id, coalesce(family, id) FROM blobs WHERE refs = 0"};
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) break;
      dying.insert(q.id_at<BlobId>(0));
      families.insert(q.int64_at(1));
    }
    Statement l{tx, "SELECT DISTINCT family FROM loose"};
    for (;;) {
      INDRA_LET(const bool more, l.step());
      if (!more) break;
      families.insert(l.int64_at(0));
    }
  }
  for (const auto& [id, n] : dropped) {
    Statement q{tx, "SELECT coalesce(family, id) FROM blobs WHERE id = ?1 AND refs <= ?2"};
    INDRA_LET(const bool goes, q.bind(1, id).bind(2, n).step());
    if (!goes) continue;
    dying.insert(id);
    families.insert(q.int64_at(0));
  }
  out.blobs = dying.size();
  const PageLoader load = [&](std::uint64_t id) { return page_row(tx, id); };
  for (const std::int64_t family : families) {
    std::map<std::uint64_t, std::uint64_t> places;  // that may go: by where, bytes
    const auto whole = [&]() -> Result<void> {
      std::vector<Row> living;
      std::set<std::uint64_t> seen, kept;
      Statement q{
          tx,
          "SELECT id, size, hash, form, data, refs FROM blobs WHERE family = ?1 OR (id = ?1 AND family "
          "IS NULL)"};
      q.bind(1, family);
      for (;;) {
        INDRA_LET(const bool more, q.step());
        if (!more) break;
        INDRA_LET(Row row, row_of(q));
        if (!dying.contains(row.id))
          living.push_back(std::move(row));
        else
          INDRA_TRY(walk(
              row.m, load, [&](std::uint64_t id) { return seen.insert(id).second; },
              [&](const Entry& e) { places[e.where] = bytes(e); }));
      }
      Statement l{
          tx,
          "SELECT segment, place, CASE segment WHEN ?2 THEN (SELECT length(data) FROM chunks WHERE id "
          "= place) ELSE length END FROM loose WHERE family = ?1 AND segment <> 0"};
      l.bind(1, family).bind(2, std::int64_t{kInDatabase});
      for (;;) {
        INDRA_LET(const bool more, l.step());
        if (!more) break;
        places[static_cast<std::uint64_t>(l.int64_at(0)) << 32 | static_cast<std::uint64_t>(l.int64_at(1))] =
            static_cast<std::uint64_t>(l.int64_at(2));
      }
      for (const Row& r : living)
        INDRA_TRY(walk(
            r.m, load, [&](std::uint64_t id) { return kept.insert(id).second; },
            [&](const Entry& e) { places.erase(e.where); }));
      return {};
    };
    if (const auto r = whole(); !r) {
      if (!is_damage(r.error())) return fail(r.error());
      ++out.unreadable;
      continue;
    }
    for (const auto& [where, n] : places) out.bytes += n;
  }
  return out;
}

}  // namespace indra
