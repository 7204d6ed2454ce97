// Content that nobody refers to: found, put among the dead with the rows that named it, and punched after a
// barrier.
#include <algorithm>
#include <set>

#include "base/log.h"
#include "blob/internal/store.h"

namespace indra::blob {
namespace {

constexpr int kSmallAtOnce = 8;  // blobs of one page taken apart in one mutation: others wait meanwhile
constexpr std::size_t kRowsAtOnce = 64;  // rows of dead extents looked at, or deleted, while others wait
constexpr std::size_t kExtentsAtOnce = 4096;
constexpr std::uint64_t kGarbageLimit = 64ull << 20;
constexpr TimeNs kGarbageWaits = 5 * kSecond;

/// Sets of bytes (or rows), by `where`.
class Ranges {
 public:
  void add(std::uint64_t from, std::uint64_t n) {
    auto it = by_.lower_bound(from);
    if (it != by_.begin() && std::prev(it)->second >= from) --it;
    std::uint64_t to = from + n;
    while (it != by_.end() && it->first <= to && it->first >> 32 == from >> 32) {
      from = std::min(from, it->first);
      to = std::max(to, it->second);
      it = by_.erase(it);
    }
    by_[from] = to;
  }
  void subtract(std::uint64_t from, std::uint64_t n) {
    const std::uint64_t to = from + n;
    auto it = by_.upper_bound(from);
    if (it != by_.begin()) --it;
    while (it != by_.end() && it->first < to) {
      const auto [a, b] = *it;
      if (b <= from) {
        ++it;
        continue;
      }
      it = by_.erase(it);
      if (a < from) by_[a] = from;
      if (b > to) by_[to] = b;
    }
  }
  [[nodiscard]] std::vector<Extent> extents() const {
    std::vector<Extent> out;
    for (const auto& [from, to] : by_)
      out.push_back({static_cast<std::uint32_t>(from >> 32), static_cast<std::uint32_t>(from),
                     static_cast<std::uint32_t>(to - from)});
    return out;
  }
  [[nodiscard]] bool empty() const { return by_.empty(); }

 private:
  std::map<std::uint64_t, std::uint64_t> by_;
};

struct Row {
  BlobId id;
  Manifest m;
  bool is_inline = false;
  std::int64_t refs = 0;
};

Result<Row> row_of(Statement& q) {  // id, size, hash, form, data, refs
  Row r;
  r.id = q.id_at<BlobId>(0);
  r.m.size = static_cast<std::uint64_t>(q.int64_at(1));
  std::optional<BlobHash> hash;
  if (!q.is_null(2)) hash = BlobHash::from_digest(q.blob_at(2));
  r.is_inline = q.int64_at(3) == 0;
  auto page = std::make_shared<Page>();
  if (!r.is_inline) INDRA_TRY(decode_page(q.blob_at(4), hash, *page));
  r.m.root = std::move(page);
  r.refs = q.int64_at(5);
  return r;
}

Result<void> delete_blob(Tx& tx, BlobId id) {
  INDRA_TRY(Statement(tx, "DELETE FROM patches WHERE blob = ?1").bind(1, id).run());
  INDRA_TRY(Statement(tx, "DELETE FROM folds WHERE blob = ?1").bind(1, id).run());
  return Statement{tx, "DELETE FROM blobs WHERE id = ?1"}.bind(1, id).run();
}

}  // namespace

Result<bool> Store::collect_slice() {
  std::vector<BlobId> dying;
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
  for (const BlobId id : dying) {
    done_dying(id);
    note_unpatched(id);
  }
  dying.clear();
  if (!family) return *r;
  auto swept = sweep(*family);
  // Nothing of a family is freed while a part of it cannot be read.
  if (!swept && set_family_aside(*family, swept.error())) return true;
  return swept;
}

/// Marks what the living of a family refer to; the rest of what its dead held dies with them.
Result<bool> Store::sweep(std::int64_t family) {
  const std::uint64_t changes = family_changes;
  std::vector<Row> dead, living;
  struct Undo {
    Store& s;
    std::vector<Row>& rows;
    ~Undo() {
      for (const Row& r : rows) s.done_dying(r.id);
    }
  } const undo{*this, dead};
  Ranges ranges;
  std::set<std::uint64_t> pages;
  INDRA_TRY(writer_.read([&](Tx& tx) -> Result<void> {
    Statement q{tx,
                "SELECT id, size, hash, form, data, refs FROM blobs WHERE family = ?1 OR (id = ?1 AND family "
                "IS NULL)"};
    q.bind(1, family);
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) break;
      INDRA_LET(Row row, row_of(q));
      (row.refs == 0 && begin_dying(row.id) ? dead : living).push_back(std::move(row));
    }
    Statement l{tx, "SELECT segment, place, length FROM loose WHERE family = ?1"};
    l.bind(1, family);
    for (;;) {
      INDRA_LET(const bool more, l.step());
      if (!more) break;
      const auto place = static_cast<std::uint64_t>(l.int64_at(1));
      if (l.int64_at(0) == 0)
        pages.insert(place);
      else
        ranges.add(static_cast<std::uint64_t>(l.int64_at(0)) << 32 | place,
                   static_cast<std::uint64_t>(l.int64_at(2)));
    }
    return {};
  }));
  const PageLoader load = loader();
  std::set<std::uint64_t> seen;
  for (const Row& r : dead)
    INDRA_TRY(walk(
        r.m, load, [&](std::uint64_t id) { return pages.insert(id).second; },
        [&](const Entry& e) { ranges.add(e.where, space_of(e)); }));
  for (const Row& r : living) {
    auto w = walk(
        r.m, load,
        [&](std::uint64_t id) {
          pages.erase(id);
          return seen.insert(id).second;
        },
        [&](const Entry& e) { ranges.subtract(e.where, space_of(e)); });
    if (!w) {
      if (r.refs == 0 || writer_.failed()) return fail(w.error());
      return true;  // changed under the walk: again
    }
  }
  INDRA_TRY(options_.faults.at("collect.rows"));
  return writer_.mutate([&](Tx& tx) -> Result<bool> {
    if (family_changes != changes) return true;  // again
    // A page of a living blob may have been rewritten or deleted meanwhile, never shared anew.
    INDRA_TRY(kill(tx, ranges.extents()));
    for (const std::uint64_t id : pages)
      INDRA_TRY(
          Statement(tx, "DELETE FROM pages WHERE id = ?1").bind(1, static_cast<std::int64_t>(id)).run());
    INDRA_TRY(Statement(tx, "DELETE FROM loose WHERE family = ?1").bind(1, family).run());
    for (const Row& r : dead) INDRA_TRY(delete_blob(tx, r.id));
    ++family_changes;
    return true;
  });
}

Result<bool> Store::punch_slice() {
  std::vector<Extent> never;
  {
    // A commit makes the buffers durable soon anyway: a sync of our own only when much, or for long, waited.
    const MutexLock lock{garbage_mutex_};
    if (garbage_bytes_ >= kGarbageLimit || clock_.steady() - garbage_since_ >= kGarbageWaits ||
        !bytes_->dirty()) {
      never.swap(garbage_);
      garbage_bytes_ = 0;
    }
  }
  if (!never.empty()) {
    if (bytes_->dirty()) INDRA_TRY(bytes_->sync());  // else a buffer would write them again
    INDRA_TRY(bytes_->free(never));
  }
  if (holds_ != 0) return !never.empty();
  std::uint64_t ticket = 0;
  std::vector<Extent> dead;
  const auto some_more = [&](Tx& tx) -> Result<bool> {
    ticket = next_ticket();
    Statement q{tx,
                "SELECT segment, offset, length FROM dead_extents WHERE (segment, offset) > (?1, ?2)"
                " ORDER BY segment, offset LIMIT ?3"};
    q.bind(1, dead.empty() ? -1 : static_cast<std::int64_t>(dead.back().segment))
        .bind(2, dead.empty() ? -1 : static_cast<std::int64_t>(dead.back().offset))
        .bind(3, static_cast<std::int64_t>(kRowsAtOnce));
    for (std::size_t n = 0;; ++n) {
      INDRA_LET(const bool row, q.step());
      if (!row) return n == kRowsAtOnce;
      dead.push_back({static_cast<std::uint32_t>(q.int64_at(0)), static_cast<std::uint32_t>(q.int64_at(1)),
                      static_cast<std::uint32_t>(q.int64_at(2))});
    }
  };
  for (bool more = true; more && dead.size() < kExtentsAtOnce;) {
    INDRA_LET(more, writer_.read(some_more));
  }
  if (dead.empty()) return !never.empty();
  if (writer_.durable() < writer_.mutations() && !options_.faults.leaves_out("collect.barrier"))
    INDRA_TRY(writer_.barrier());
  // Between apply() and accept() readers still go by the old manifest: later, then (C32).
  if (!accepted_below(ticket)) return !never.empty();
  INDRA_TRY(options_.faults.at("collect.punch"));
  INDRA_TRY(bytes_->free(dead));
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
/// written.
Result<void> Store::scavenge() {
  Ranges free;
  INDRA_TRY(writer_.read([&](Tx& tx) -> Result<void> {
    Statement s{tx, "SELECT id, end FROM segments"};
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
  }));
  if (free.empty()) return {};
  return bytes_->free(free.extents());
}

}  // namespace indra::blob
