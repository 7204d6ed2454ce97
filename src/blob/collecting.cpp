// Content that nobody refers to: found, put among the dead with the rows that named it, and punched after a
// barrier.
#include <algorithm>
#include <set>

#include "base/log.h"
#include "blob/internal/marks.h"

namespace indra::blob {
namespace {

constexpr int kSmallAtOnce = 8;  // blobs of one page taken apart in one mutation: others wait meanwhile
constexpr std::size_t kRowsAtOnce = 64;    // rows of punched extents deleted in one mutation
constexpr std::size_t kBlocksAtOnce = 64;  // whose dead parts are looked at, or written, in one
constexpr std::size_t kExtentsAtOnce = 4096;
constexpr std::size_t kReadAtOnce = 128;   // rows read in one go
constexpr std::size_t kSweptAtOnce = 128;  // rows that a sweep may change in one mutation
constexpr std::uint64_t kGarbageLimit = 64ull << 20;
constexpr TimeNs kGarbageWaits = 5 * kSecond;

constexpr std::uint64_t block_of(std::uint64_t where) { return where / kBlockSize * kBlockSize; }
std::uint64_t where_of(const Extent& e) { return std::uint64_t{e.segment} << 32 | e.offset; }

/// Its manifest is another one by now than when it was read: pages of that one may be gone.
Result<bool> changed_since(Tx& tx, const Row& r) {
  Statement q{tx, "SELECT data FROM blobs WHERE id = ?1"};
  INDRA_LET(const bool there, q.bind(1, r.id).step());
  return !there || !std::ranges::equal(q.blob_at(0), r.data);
}

Result<void> delete_blob(Tx& tx, BlobId id) {
  INDRA_TRY(Statement(tx, "DELETE FROM patches WHERE blob = ?1").bind(1, id).run());
  INDRA_TRY(Statement(tx, "DELETE FROM folds WHERE blob = ?1").bind(1, id).run());
  return Statement{tx, "DELETE FROM blobs WHERE id = ?1"}.bind(1, id).run();
}

}  // namespace

Result<bool> Store::collect_slice() {
  std::vector<BlobId> dying, gone;
  std::optional<std::int64_t> family;
  struct Undo {
    Store& s;
    std::vector<BlobId>& ids;
    ~Undo() {
      for (const BlobId id : ids) s.done_dying(id);
    }
  } const undo{*this, dying};
  auto r = writer_.mutate([&](Tx& tx) -> Result<bool> {
    std::vector<Row> rows;
    {
      Statement q{tx, "SELECT id, size, hash, form, data, refs FROM blobs WHERE refs = 0 ORDER BY id"};
      while (rows.size() < kSmallAtOnce) {
        INDRA_LET(const bool more, q.step());
        if (!more) break;
        const auto id = q.id_at<BlobId>(0);
        if (is_aside(id, kWhole) || !begin_dying(id)) continue;
        dying.push_back(id);
        auto row = row_of(q);
        if (!row && !set_aside(id, kWhole, row.error())) return fail(row.error());
        if (row) rows.push_back(std::move(*row));
      }
    }
    bool did = false;
    for (const Row& row : rows) {
      if (!row.is_inline) {
        INDRA_LET(const Standing s, standing(tx, row.id));
        if (row.m.height() > 1 || !s.alone) {
          if (!family && !is_family_aside(s.family)) family = s.family;
          continue;
        }
        std::vector<Entry> entries;
        for (const Entry& e : row.m.root->entries)
          if (e.present()) entries.push_back(e);
        INDRA_TRY(let_go(tx, s, entries));
      }
      INDRA_TRY(delete_blob(tx, row.id));
      gone.push_back(row.id);
      did = true;
    }
    if (!family) {
      Statement q{tx, "SELECT DISTINCT family FROM loose"};
      while (!family) {
        INDRA_LET(const bool some, q.step());
        if (!some) break;
        if (!is_family_aside(q.int64_at(0))) family = q.int64_at(0);
      }
    }
    return did;
  });
  if (!r) return r;
  for (const BlobId id : dying) done_dying(id);
  dying.clear();
  for (const BlobId id : gone) note_unpatched(id);
  if (!family) return *r;
  auto swept = sweep(*family);
  // Nothing of a family is freed while a part of it cannot be read.
  if (!swept && set_family_aside(*family, swept.error())) return true;
  return swept;
}

namespace {
/// What dies with a sweep: a page (segment 0), or a chunk's bytes as they were given.
struct Piece {
  std::uint32_t segment;
  std::uint64_t place;
  std::uint32_t length;
};
}  // namespace

/// Marks what the living of a family refer to; the rest of what its dead held, and of what is loose, dies.
Result<bool> Store::sweep(std::int64_t family) {
  std::vector<Row> dead, living;
  struct Undo {
    Store& s;
    std::vector<Row>& rows;
    ~Undo() {
      for (const Row& r : rows) s.done_dying(r.id);
      s.swept_ = 0;
    }
  } const undo{*this, dead};
  disturbed_ = false;
  swept_ = family;
  Ranges ranges;
  std::set<std::uint64_t> pages, places;
  std::vector<Piece> loose;
  INDRA_TRY(writer_.read([&](Tx& tx) -> Result<void> {
    Statement q{tx,
                "SELECT id, size, hash, form, data, refs FROM blobs WHERE family = ?1 OR (id = ?1 AND family "
                "IS NULL)"};
    q.bind(1, family);
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) return {};
      INDRA_LET(Row row, row_of(q));
      (row.refs == 0 && begin_dying(row.id) ? dead : living).push_back(std::move(row));
    }
  }));
  for (bool more = true; more;)
    INDRA_TRY(writer_.read([&](Tx& tx) -> Result<void> {
      Statement l{
          tx,
          "SELECT segment, place, length FROM loose WHERE family = ?1 AND (segment, place) > (?2, ?3) "
          "ORDER BY segment, place LIMIT ?4"};
      l.bind(1, family).bind(4, static_cast<std::int64_t>(kReadAtOnce));
      l.bind(2, loose.empty() ? -1 : std::int64_t{loose.back().segment});
      l.bind(3, loose.empty() ? 0 : static_cast<std::int64_t>(loose.back().place));
      std::size_t n = 0;
      for (;; ++n) {
        INDRA_LET(const bool row, l.step());
        if (!row) break;
        loose.push_back({static_cast<std::uint32_t>(l.int64_at(0)), static_cast<std::uint64_t>(l.int64_at(1)),
                         static_cast<std::uint32_t>(l.int64_at(2))});
      }
      more = n == kReadAtOnce;
      return {};
    }));
  const auto may_go = [&](std::uint64_t where, std::uint32_t units) {
    ranges.add(where, units);
    places.insert(where);
  };
  for (const Piece& p : loose) {
    if (p.segment == 0)
      pages.insert(p.place);
    else
      may_go(std::uint64_t{p.segment} << 32 | p.place, p.length);
  }
  const PageLoader load = loader();
  std::set<std::uint64_t> seen, walked;  // a page may be loose, and what is below it not
  for (const Row& r : dead)
    INDRA_TRY(walk(
        r.m, load,
        [&](std::uint64_t id) {
          pages.insert(id);
          return walked.insert(id).second;
        },
        [&](const Entry& e) { may_go(e.where, space_of(e)); }));
  for (const Row& r : living) {
    auto w = walk(
        r.m, load,
        [&](std::uint64_t id) {
          pages.erase(id);
          return seen.insert(id).second;
        },
        [&](const Entry& e) { ranges.subtract(e.where, space_of(e)); });
    if (w) continue;
    INDRA_LET(const bool changed, writer_.read([&](Tx& tx) { return changed_since(tx, r); }));
    if (!changed) return fail(w.error());
    return true;  // under the walk: again
  }
  INDRA_TRY(options_.faults.at("collect.rows"));

  // Whoever shares or lets go has the sweep begun again (C31). A page of a living blob may have been
  // rewritten or deleted meanwhile, never shared anew.
  const std::vector<Extent> extents = ranges.extents();
  const auto drop_page = [](Tx& tx, std::uint64_t id) {
    return Statement{tx, "DELETE FROM pages WHERE id = ?1"}.bind(1, static_cast<std::int64_t>(id)).run();
  };
  if (pages.size() + extents.size() + loose.size() + dead.size() <= kSweptAtOnce)
    return writer_.mutate([&](Tx& tx) -> Result<bool> {
      if (disturbed_) return true;
      INDRA_TRY(kill(tx, extents));
      for (const std::uint64_t id : pages) INDRA_TRY(drop_page(tx, id));
      INDRA_TRY(Statement(tx, "DELETE FROM loose WHERE family = ?1").bind(1, family).run());
      for (const Row& r : dead) INDRA_TRY(delete_blob(tx, r.id));
      return true;
    });

  // More than others should wait for: what dies is loose first, then the blobs go, then what is loose.
  // Interrupted anywhere the next sweep finds the same.
  const bool few = extents.size() + dead.size() <= kSweptAtOnce / 4 &&
                   std::ranges::all_of(loose, [](const Piece& p) { return p.segment == 0; });
  std::vector<Piece> pieces;
  for (const std::uint64_t id : pages) pieces.push_back({0, id, 0});
  if (!few)
    for (const Extent& e : extents) {
      std::uint64_t at = where_of(e);
      const std::uint64_t end = at + e.length;
      for (auto it = places.upper_bound(at); at < end; ++it) {
        const std::uint64_t to = it == places.end() ? end : std::min(*it, end);
        pieces.push_back({e.segment, at & UINT32_MAX, static_cast<std::uint32_t>(to - at)});
        at = to;
        if (it == places.end()) break;
      }
    }
  const auto in_slices = [&](const auto& items, std::size_t at_once, const auto& each) -> Result<bool> {
    for (std::size_t i = 0; i < items.size(); i += at_once) {
      INDRA_LET(const bool go, writer_.mutate([&](Tx& tx) -> Result<bool> {
        if (disturbed_) return false;
        INDRA_TRY(each(tx, std::span{items}.subspan(i, std::min(at_once, items.size() - i))));
        return true;
      }));
      if (!go) return false;
      INDRA_TRY(options_.faults.at("collect.slice"));
    }
    return true;
  };
  const auto no_more_loose = [&](Tx& tx, const Piece& p) {
    return Statement{tx, "DELETE FROM loose WHERE family = ?1 AND segment = ?2 AND place = ?3"}
        .bind(1, family)
        .bind(2, std::int64_t{p.segment})
        .bind(3, static_cast<std::int64_t>(p.place))
        .run();
  };
  if (!dead.empty()) {
    INDRA_LET(
        const bool noted,
        in_slices(pieces, kRowsAtOnce, [&](Tx& tx, std::span<const Piece> some) -> Result<void> {
          for (const Piece& p : some)
            INDRA_TRY(Statement(tx,
                                "INSERT INTO loose(family, segment, place, length) VALUES(?1, ?2, ?3, ?4) "
                                "ON CONFLICT(family, segment, place) DO UPDATE SET length = max(length, ?4)")
                          .bind(1, family)
                          .bind(2, std::int64_t{p.segment})
                          .bind(3, static_cast<std::int64_t>(p.place))
                          .bind(4, std::int64_t{p.length})
                          .run());
          return {};
        }));
    if (!noted) return true;
    INDRA_LET(const bool gone, in_slices(dead, few ? dead.size() : kSmallAtOnce,
                                         [&](Tx& tx, std::span<const Row> some) -> Result<void> {
                                           if (few) INDRA_TRY(kill(tx, extents));
                                           for (const Row& r : some) INDRA_TRY(delete_blob(tx, r.id));
                                           return {};
                                         }));
    if (!gone) return true;
  }
  INDRA_LET(const bool killed,
            in_slices(pieces, kRowsAtOnce, [&](Tx& tx, std::span<const Piece> some) -> Result<void> {
              Ranges dying;
              for (const Piece& p : some) {
                if (p.segment == 0)
                  INDRA_TRY(drop_page(tx, p.place));
                else
                  dying.add(std::uint64_t{p.segment} << 32 | p.place, p.length);
                INDRA_TRY(no_more_loose(tx, p));
              }
              return kill(tx, dying.extents());
            }));
  if (!killed) return true;
  std::set<std::pair<std::uint32_t, std::uint64_t>> done;
  for (const Piece& p : pieces) done.emplace(p.segment, p.place);
  std::erase_if(loose, [&](const Piece& p) { return done.contains({p.segment, p.place}); });
  INDRA_TRY(in_slices(loose, kRowsAtOnce, [&](Tx& tx, std::span<const Piece> some) -> Result<void> {
    for (const Piece& p : some) INDRA_TRY(no_more_loose(tx, p));  // somebody who lives has it
    return {};
  }));
  return true;
}

// Done again after a crash at any point it comes to the same: the dead are still listed then.
Result<void> Store::free(const std::vector<Extent>& dead) {
  std::map<std::uint64_t, std::vector<Extent>> blocks;  // shared ones: the dead parts that were known
  Ranges all;
  for (const Extent& e : dead) {
    all.add(where_of(e), e.length);
    if (!segments_ || e.length == 0 || !segments_->is_packed(e.segment)) continue;
    blocks[block_of(where_of(e))];
    blocks[block_of(where_of(e) + e.length - 1)];
  }
  for (auto it = blocks.begin(); it != blocks.end();)
    INDRA_TRY(writer_.read([&](Tx& tx) -> Result<void> {
      for (std::size_t n = 0; n < kBlocksAtOnce && it != blocks.end(); ++n, ++it) {
        Statement q{
            tx, "SELECT offset, length FROM dead_parts WHERE segment = ?1 AND offset >= ?2 AND offset < ?3"};
        const auto segment = static_cast<std::uint32_t>(it->first >> 32);
        const auto from = static_cast<std::int64_t>(it->first & UINT32_MAX);
        q.bind(1, std::int64_t{segment}).bind(2, from).bind(3, from + static_cast<std::int64_t>(kBlockSize));
        for (;;) {
          INDRA_LET(const bool more, q.step());
          if (!more) break;
          it->second.push_back({segment, static_cast<std::uint32_t>(q.int64_at(0)),
                                static_cast<std::uint32_t>(q.int64_at(1))});
          all.add(where_of(it->second.back()), it->second.back().length);
        }
      }
      return {};
    }));
  INDRA_LET(const std::vector<Extent> left, bytes_->free(all.extents()));
  std::map<std::uint64_t, std::vector<Extent>> after;
  for (const Extent& e : left) after[block_of(where_of(e))].push_back(e);
  std::erase_if(blocks, [&](const auto& b) {
    const auto now = after.find(b.first);
    return now == after.end() ? b.second.empty() : now->second == b.second;
  });
  for (auto it = blocks.begin(); it != blocks.end();)
    INDRA_TRY(writer_.mutate([&](Tx& tx) -> Result<void> {
      for (std::size_t n = 0; n < kBlocksAtOnce && it != blocks.end(); ++n, ++it) {
        for (const Extent& e : it->second)
          INDRA_TRY(Statement(tx, "DELETE FROM dead_parts WHERE segment = ?1 AND offset = ?2")
                        .bind(1, std::int64_t{e.segment})
                        .bind(2, std::int64_t{e.offset})
                        .run());
        for (const Extent& e : after[it->first])
          INDRA_TRY(
              Statement(tx, "INSERT OR REPLACE INTO dead_parts(segment, offset, length) VALUES(?1, ?2, ?3)")
                  .bind(1, std::int64_t{e.segment})
                  .bind(2, std::int64_t{e.offset})
                  .bind(3, std::int64_t{e.length})
                  .run());
      }
      return {};
    }));
  return {};
}

/// What was appended and that no row came to refer to.
Result<void> Store::free_garbage() {
  std::vector<Entry> never;
  {
    const MutexLock lock{garbage_mutex_};
    never.swap(garbage_);
    garbage_bytes_ = 0;
  }
  if (never.empty()) return {};
  std::vector<Extent> dead;
  for (const Entry& e : never) dead.push_back({e.segment(), e.offset(), space_of(e)});
  auto r = bytes_->dirty() ? bytes_->sync() : Result<void>{};  // else a buffer would write them again
  if (r) r = free(dead);
  if (!r) {
    const MutexLock lock{garbage_mutex_};
    for (const Entry& e : never) garbage_bytes_ += e.length;
    garbage_.insert(garbage_.end(), never.begin(), never.end());
    return r;
  }
  for (const Entry& e : never) settle(e);
  return {};
}

/// Before anything is appended, and when nothing will be any more: of packed segments what follows the last
/// byte in the last block that was begun belongs to nobody.
Result<void> Store::free_ends_of_blocks() {
  if (!segments_) return {};
  std::vector<Extent> ends;
  INDRA_TRY(writer_.read([&](Tx& tx) -> Result<void> {
    Statement q{tx, "SELECT id, end FROM segments WHERE end % 4096 <> 0"};
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) return {};
      const auto end = static_cast<std::uint32_t>(q.int64_at(1));
      constexpr auto kBlock = static_cast<std::uint32_t>(kBlockSize);
      if (end > kBlock)
        ends.push_back({static_cast<std::uint32_t>(q.int64_at(0)), end, kBlock - end % kBlock});
    }
  }));
  std::erase_if(ends, [&](const Extent& e) { return !segments_->is_packed(e.segment); });
  return ends.empty() ? Result<void>{} : free(ends);
}

// A file goes once the row that says so is durable, and never while bytes for it are under way. One that
// still takes room may have been counted wrongly, and stays until the next opening, which looks (C36).
Result<bool> Store::remove_empty_segments() {
  constexpr std::uint64_t kHeaders = 64 * 1024;
  if (!segments_) return false;
  std::vector<std::uint32_t> empty;
  INDRA_TRY(writer_.read([&](Tx& tx) -> Result<void> {
    Statement q{tx,
                "SELECT id FROM segments WHERE live <= 0 AND NOT EXISTS(SELECT 1 FROM dead_extents WHERE "
                "segment = id) AND NOT EXISTS(SELECT 1 FROM loose WHERE segment = segments.id)"};
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) return {};
      empty.push_back(static_cast<std::uint32_t>(q.int64_at(0)));
    }
  }));
  bool did = false;
  for (const std::uint32_t id : empty) {
    INDRA_LET(const bool idle, segments_->retire(id));
    if (!idle) continue;
    INDRA_LET(const std::uint64_t takes, segments_->allocated(id));
    if (takes > kHeaders) continue;
    INDRA_LET(const bool gone, writer_.mutate([&](Tx& tx) -> Result<bool> {
      INDRA_TRY(Statement(tx,
                          "DELETE FROM segments WHERE id = ?1 AND live <= 0 AND NOT EXISTS(SELECT 1 FROM "
                          "dead_extents WHERE segment = ?1)")
                    .bind(1, std::int64_t{id})
                    .run());
      if (tx.db().changes() != 1) return false;
      INDRA_TRY(Statement(tx, "DELETE FROM dead_parts WHERE segment = ?1").bind(1, std::int64_t{id}).run());
      return true;
    }));
    if (!gone) continue;
    INDRA_TRY(writer_.barrier());
    INDRA_TRY(options_.faults.at("collect.segment"));
    INDRA_TRY(segments_->remove(id));
    did = true;
  }
  return did;
}

Result<bool> Store::punch_slice(bool whole) {
  bool had = false, due = false;
  {
    // A commit makes the buffers durable soon anyway: a sync of our own only when much, or for long, waited.
    const MutexLock lock{garbage_mutex_};
    had = !garbage_.empty();
    due = had && (garbage_bytes_ >= kGarbageLimit || clock_.steady() - garbage_since_ >= kGarbageWaits ||
                  !bytes_->dirty());
  }
  if (due) INDRA_TRY(free_garbage());
  if (holds_ != 0) return due;
  std::uint64_t ticket = 0;
  std::vector<Extent> dead;
  for (bool more = true; more && dead.size() < kExtentsAtOnce;)
    INDRA_TRY(writer_.read([&](Tx& tx) -> Result<void> {
      ticket = next_ticket();
      Statement q{
          tx,
          "SELECT segment, offset, length FROM dead_extents WHERE (segment, offset) > (?1, ?2) ORDER BY "
          "segment, offset LIMIT ?3"};
      q.bind(1, dead.empty() ? -1 : std::int64_t{dead.back().segment});
      q.bind(2, dead.empty() ? 0 : std::int64_t{dead.back().offset});
      q.bind(3, static_cast<std::int64_t>(kReadAtOnce));
      std::size_t n = 0;
      for (;; ++n) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        dead.push_back({static_cast<std::uint32_t>(q.int64_at(0)), static_cast<std::uint32_t>(q.int64_at(1)),
                        static_cast<std::uint32_t>(q.int64_at(2))});
      }
      more = n == kReadAtOnce;
      return {};
    }));
  whole = whole && dead.size() < kExtentsAtOnce;
  if (dead.empty()) {
    if (whole) ++rounds_;
    return due;
  }
  if (writer_.durable() < writer_.mutations() && !options_.faults.leaves_out("collect.barrier"))
    INDRA_TRY(writer_.barrier());
  // Between apply() and accept() readers still go by the old manifest: later, then (C32).
  if (!accepted_below(ticket)) return due;
  INDRA_TRY(options_.faults.at("collect.punch"));
  INDRA_TRY(free(dead));
  for (std::span<const Extent> rest{dead}; !rest.empty();) {
    const auto some = rest.first(std::min(kRowsAtOnce, rest.size()));
    rest = rest.subspan(some.size());
    INDRA_TRY(writer_.mutate([&](Tx& tx) -> Result<void> {
      for (const Extent& e : some)
        INDRA_TRY(Statement(tx, "DELETE FROM dead_extents WHERE segment = ?1 AND offset = ?2")
                      .bind(1, static_cast<std::int64_t>(e.segment))
                      .bind(2, static_cast<std::int64_t>(e.offset))
                      .run());
      return {};
    }));
  }
  for (const Extent& e : dead) freed_ += e.length;
  if (whole) ++rounds_;
  return true;
}

namespace {
/// What blobs refer to, shared pages once.
template <class F>
Result<void> each_entry(Tx& tx, F&& fn) {
  const PageLoader load = [&](std::uint64_t id) { return page_row(tx, id); };
  std::set<std::uint64_t> seen;
  Statement q{tx, "SELECT id, size, hash, form, data, refs FROM blobs WHERE form <> 0"};
  for (;;) {
    INDRA_LET(const bool more, q.step());
    if (!more) return {};
    INDRA_LET(const Row r, row_of(q));
    INDRA_TRY(walk(
        r.m, load, [&](std::uint64_t id) { return seen.insert(id).second; }, fn));
  }
}
}  // namespace

Result<std::map<std::uint32_t, std::uint64_t>> Store::live_bytes(Tx& tx) {
  std::set<std::uint64_t> known;
  std::map<std::uint32_t, std::uint64_t> live;
  INDRA_TRY(each_entry(tx, [&](const Entry& e) {
    if (known.insert(e.where).second) live[e.segment()] += space_of(e);
  }));
  return live;
}

/// After a crash: bytes that were appended but that no row came to refer to. Called before anything is
/// written. While a manifest cannot be read nobody knows what it refers to: nothing is freed, and whoever
/// opens the vault next looks again (C34).
Result<void> Store::scavenge() {
  Ranges free;
  auto marked = writer_.read([&](Tx& tx) -> Result<void> {
    Statement s{tx, "SELECT id, (end + 4095) / 4096 * 4096 FROM segments"};
    for (;;) {
      INDRA_LET(const bool more, s.step());
      if (!more) break;
      if (s.int64_at(1) > 4096)
        free.add(static_cast<std::uint64_t>(s.int64_at(0)) << 32 | 4096,
                 static_cast<std::uint64_t>(s.int64_at(1)) - 4096);
    }
    if (options_.single_file) {
      Statement c{tx, "SELECT id FROM chunks"};
      for (;;) {
        INDRA_LET(const bool more, c.step());
        if (!more) break;
        free.add(static_cast<std::uint64_t>(kInDatabase) << 32 | static_cast<std::uint64_t>(c.int64_at(0)),
                 1);
      }
    }
    return each_entry(tx, [&](const Entry& e) { free.subtract(e.where, space_of(e)); });
  });
  if (!marked) {
    if (!is_damage(marked.error())) return marked;
    unscavenged_ = marked.error().text() + "; what the last crash left behind is not looked for";
    log::error("content store: {}", unscavenged_);
    return {};
  }
  INDRA_TRY(writer_.mutate([](Tx& tx) { return Statement{tx, "DELETE FROM dead_parts"}.run(); }));
  INDRA_TRY(this->free(free.extents()));
  if (!unparted_) return {};
  unparted_ = false;
  return writer_.mutate([](Tx& tx) {
    return Statement{tx, "INSERT OR REPLACE INTO content_state(name, value) VALUES('parts', 1)"}.run();
  });
}

}  // namespace indra::blob
