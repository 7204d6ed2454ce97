// Patches become part of their chunks: in place where the blob alone owns the chunk, else as new chunks.
//
// A crash or an error anywhere leaves the rows, and folding again gives the same bytes (C22): only blocks
// that have a patch are overwritten, after the patch is durable.
#include <algorithm>

#include "base/log.h"
#include "blob/internal/store.h"

namespace indra::blob {
namespace {
constexpr std::size_t kSlice = 32;  // chunks folded while the blob is held
constexpr std::uint64_t kCheapHoles = 4 << 20;
}  // namespace

void Store::note_patched(BlobId id, std::uint64_t bytes) {
  {
    const MutexLock lock{patched_mutex_};
    Patched& p = patched_[id];
    p.last = clock_.steady();
    p.bytes = bytes;
  }
  const MutexLock lock{aside_mutex_};  // it may have been mended
  aside_.erase(id);
}
void Store::note_unpatched(BlobId id) {
  {
    const MutexLock lock{patched_mutex_};
    patched_.erase(id);
  }
  const MutexLock lock{aside_mutex_};
  aside_.erase(id);
}

Result<bool> Store::fold_slice() {
  std::vector<BlobId> due;
  {
    const MutexLock lock{patched_mutex_};
    const TimeNs now = clock_.steady();
    for (const auto& [id, p] : patched_)
      if (now - p.last >= options_.fold_after || p.bytes > options_.patch_limit) due.push_back(id);
  }
  std::optional<Error> failed;
  for (const BlobId id : due) {
    auto did = fold(id);
    if (did && *did) return true;
    if (did || set_aside(id, kWhole, did.error())) continue;
    if (!failed) failed = std::move(did).error();
  }
  return failed ? Result<bool>{fail(*failed)} : false;
}

Result<bool> Store::fold(BlobId id) {
  auto lease = this->lease(id, false);
  if (!lease) {
    if (lease.error().code != std::errc::no_such_file_or_directory) return fail(lease.error());
    note_unpatched(id);
    return false;
  }
  BlobState& state = (*lease)->state();
  const auto busy = try_busy((*lease)->pointer());
  if (!busy) return false;
  Manifest m;
  Patches patches;
  std::uint64_t stored = 0;
  {
    const ReadLock lock{state.rw};
    m = state.m;
    patches = state.patches;
    stored = state.stored;
  }
  if (patches.empty()) {
    note_unpatched(id);
    return false;
  }
  INDRA_LET(const Standing before, writer_.read([&](Tx& tx) { return standing(tx, id); }));
  INDRA_TRY(ensure_ids(1024));

  std::vector<Change> changes;
  std::vector<Entry> appended;
  std::vector<PlacedPtr> guards;
  struct InPlace {
    Change to;
    Entry old;
    Patches::iterator from, end;
  };
  std::vector<InPlace> in_place;
  const bool root = m.size <= kChunkSize;
  bool damaged = false;
  // Round and round: were the first chunks always folded first, those would have few patches each, and the
  // manifest pages over them be written for a handful.
  auto it = patches.begin();
  {
    const MutexLock lock{patched_mutex_};
    const auto p = patched_.find(id);
    if (p != patched_.end()) it = patches.lower_bound(p->second.next * kBlocks);
    if (it == patches.end()) it = patches.begin();
  }
  const bool from_begin = it == patches.begin();
  while (it != patches.end() && changes.size() < kSlice) {
    const std::uint64_t index = it->first / kBlocks;
    const auto from = it;
    while (it != patches.end() && it->first / kBlocks == index) ++it;
    if (is_aside(id, index)) {
      damaged = true;
      continue;
    }
    const std::uint32_t logical = chunk_length(m.size, index);
    INDRA_LET(const Entry old, find_chunk(m, index, loader()));
    Bytes all(logical);
    if (auto r = read_blob(state, index * kChunkSize, all); !r) {
      if (!set_aside(id, index, r.error())) return fail(r.error());
      damaged = true;
      continue;
    }
    Entry e = old;
    stored -= old.length;
    for (auto p = from; p != it; ++p)
      if (p->first % kBlocks * kBlockSize >= old.length) stored -= p->second->size();
    if (holds_ == 0 && old.present() && old.length == logical &&
        (before.alone || static_cast<std::int64_t>(old.birth) == before.owner)) {
      const BlobHash whole = root ? BlobHash::of(all) : BlobHash{};
      if (root)
        std::memcpy(e.cv.bytes.data(), whole.bytes().data(), 32);
      else
        e.cv = chunk_cv(index, all);
      e.root = root;
      in_place.push_back({{index, e}, old, from, it});
    } else {
      INDRA_LET(e, append(*small_lane_, small_mutex_, index, root, all));
      guards.push_back(std::make_shared<Placed>(*this, e, true, nullptr));
      appended.push_back(e);
    }
    stored += e.length;
    changes.push_back({index, e});
  }
  {
    const MutexLock lock{patched_mutex_};
    if (changes.empty() && from_begin) {  // only what is damaged is left
      patched_.erase(id);
      return false;
    }
    if (const auto p = patched_.find(id); p != patched_.end())
      p->second.next = it == patches.end() ? 0 : it->first / kBlocks;
    if (changes.empty()) return true;
  }
  const bool finished = from_begin && it == patches.end(), last = finished && !damaged;

  // What the chunks will be is durable before they are touched: so are the patches (C22, C23).
  if (!in_place.empty()) {
    INDRA_TRY(writer_.mutate([&](Tx& tx) -> Result<void> {
      for (const InPlace& c : in_place)
        INDRA_TRY(Statement(tx, "INSERT OR REPLACE INTO folds(blob, chunk, cv) VALUES(?1, ?2, ?3)")
                      .bind(1, id)
                      .bind(2, static_cast<std::int64_t>(c.to.index))
                      .bind_blob(3, c.to.entry.cv.bytes)
                      .run());
      return {};
    }));
    {
      const WriteLock lock{state.rw};
      for (const InPlace& c : in_place) state.torn[c.to.index] = c.to.entry.cv;
    }
    INDRA_TRY(writer_.barrier());
  }
  for (const InPlace& c : in_place) {
    INDRA_TRY(options_.faults.at("fold.overwrite"));
    const WriteLock lock{state.rw};
    cache_.drop(c.old.where);
    for (auto p = c.from; p != c.end; ++p) {
      const auto at = static_cast<std::uint32_t>(p->first % kBlocks * kBlockSize);
      INDRA_TRY(bytes_->overwrite(c.old.where, c.old.length, at, *p->second));
      INDRA_TRY(options_.faults.at("fold.overwritten"));
    }
  }
  INDRA_LET(const Draft draft, edit(m, m.size, changes, loader()));
  std::optional<BlobHash> hash;
  if (last) {
    const PageSink preview{
        1, [n = std::uint64_t{0}](std::uint64_t, std::uint64_t, ByteView) mutable -> Result<std::uint64_t> {
          return ++n;
        }};
    INDRA_LET(const Manifest whole, write_draft(draft, preview));
    if (auto h = hash_manifest(whole, {}, nullptr, kCheapHoles)) hash = *h;
  }
  INDRA_TRY(options_.faults.at("fold.rows"));
  INDRA_LET(Manifest after, writer_.mutate_content([&](Tx& tx) -> Result<Manifest> {
    INDRA_LET(const Standing own, standing(tx, id));
    INDRA_LET(Manifest result,
              write_draft(draft, page_sink(tx, &own, static_cast<std::uint64_t>(own.owner))));
    INDRA_TRY(let_go(tx, own, draft.dropped));
    INDRA_TRY(refer(tx, appended));
    for (const Change& c : changes)
      INDRA_TRY(drop_patches(tx, id, c.index * kBlocks, (c.index + 1) * kBlocks));
    std::int64_t twin = 0;
    if (hash) {
      INDRA_LET(const BlobId equal, find_hash(tx, state.bucket, *hash));
      twin = equal && equal != id ? 1 : 0;
    }
    const Bytes data = encode_page(*result.root, hash && m.size <= kChunkSize);
    Statement q{tx, "UPDATE blobs SET stored = ?2, hash = ?3, twin = ?4, data = ?5 WHERE id = ?1"};
    q.bind(1, id).bind(4, twin).bind_blob(5, data);
    if (stored == m.size)
      q.bind(2, nullptr);
    else
      q.bind(2, static_cast<std::int64_t>(stored));
    if (hash)
      q.bind_blob(3, hash->bytes());
    else
      q.bind(3, nullptr);
    INDRA_TRY(q.run());
    return result;
  }));
  for (const auto& g : guards) {
    g->kept = true;
    settle(g->e);
  }
  {
    const WriteLock lock{state.rw};
    state.m = std::move(after);
    state.hash = hash;
    state.stored = stored;
    for (const Change& c : changes) {
      state.torn.erase(c.index);
      state.patches.erase(state.patches.lower_bound(c.index * kBlocks),
                          state.patches.lower_bound((c.index + 1) * kBlocks));
    }
    ++state.version;
  }
  if (last) {
    note_unpatched(id);
  } else if (finished) {
    const MutexLock lock{patched_mutex_};
    patched_.erase(id);
  }
  return true;
}

Result<BlobHash> Store::hash(BlobId id, bool wait) {
  if (!id) return BlobHash::of({});
  INDRA_LET(const LeasePtr held, lease(id, false));
  BlobState& state = held->state();
  const auto known = [&] {
    const ReadLock lock{state.rw};
    return state.hash;
  };
  if (const auto h = known()) return *h;
  const auto busy = take_busy(held->pointer());
  if (const auto h = known()) return *h;
  Manifest m;
  Patches patches;
  {
    const ReadLock lock{state.rw};
    m = state.m;
    patches = state.patches;
  }
  INDRA_LET(const BlobHash h, hash_manifest(m, patches, &state, wait ? UINT64_MAX : 1ull << 30));
  INDRA_TRY(writer_.mutate([&](Tx& tx) -> Result<void> {
    INDRA_LET(const BlobId equal, find_hash(tx, state.bucket, h));
    return Statement{tx, "UPDATE blobs SET hash = ?2, twin = ?3 WHERE id = ?1"}
        .bind(1, id)
        .bind_blob(2, h.bytes())
        .bind(3, std::int64_t{equal && equal != id})
        .run();
  }));
  const WriteLock lock{state.rw};
  state.hash = h;
  return h;
}

}  // namespace indra::blob
