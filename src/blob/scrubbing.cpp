// Every stored byte read and compared with its hash, in slices.
#include <algorithm>

#include "blob/internal/store.h"

namespace indra::blob {
namespace {
constexpr int kTries = 3;                     // what does not match may have been changed under the reader
constexpr std::size_t kBlobsAtOnce = 256;     // asked for at once
constexpr std::uint64_t kRowCost = 256;       // bytes that looking at a blob's row counts for
constexpr std::size_t kSharersNamed = 10000;  // blobs named for one damaged chunk
}  // namespace

class Scrub {
 public:
  Scrub(Store& s, Store::Scrubbed& done, ContentStore::ScrubSlice& out, std::uint64_t budget)
      : s_{s}, done_{done}, out_{out}, budget_{budget} {}

  /// One blob from a chunk on. True: all of it was read.
  Result<bool> blob(BlobId id, std::uint64_t chunk) {
    spent_ += kRowCost;
    auto lease = s_.lease(id, false);
    if (!lease) {
      if (lease.error().code == std::errc::no_such_file_or_directory) return true;  // it is being collected
      return damaged_whole(id, lease.error());
    }
    BlobState& state = (*lease)->state();
    for (;;) {
      Manifest m;
      {
        const ReadLock lock{state.rw};
        if (chunk == 0) {
          for (const auto& [block, bytes] : state.patches) spent_ += bytes->size();  // verified by lease()
          out_.bytes += state.inline_data.size();
        }
        if (state.is_inline) break;
        m = state.m;
        version_ = state.version;
      }
      again_ = false;
      at_ = chunk;
      INDRA_LET(const bool all, below(state, m, *m.root, m.height(), 0, chunk));
      chunk = at_;
      if (again_) continue;
      if (!all) {
        out_.next = {id, at_};
        return false;
      }
      break;
    }
    return spent_ < budget_ ? Result<bool>{true} : stop_after(id);
  }

 private:
  Result<bool> stop_after(BlobId id) {
    out_.next = {BlobId{id.raw() + 1}, 0};
    return false;
  }

  Result<bool> damaged_whole(BlobId id, const Error& e) {
    if (s_.writer().failed() || !is_damage(e)) return fail(e);
    INDRA_LET(const std::uint64_t size, s_.writer().read([&](Tx& tx) -> Result<std::uint64_t> {
      Statement q{tx, "SELECT size FROM blobs WHERE id = ?1"};
      INDRA_LET(const bool row, q.bind(1, id).step());
      return row ? static_cast<std::uint64_t>(q.int64_at(0)) : 0;
    }));
    out_.damage.push_back({id, 0, size, e.text()});
    return true;
  }

  /// False: the budget is spent, or the blob was changed (again_).
  Result<bool> below(BlobState& state, const Manifest& m, const Page& page, int height, std::uint64_t first,
                     std::uint64_t from) {
    const std::uint64_t span = span_of(height);
    for (std::size_t i = 0; i < page.entries.size(); ++i) {
      const Entry& e = page.entries[i];
      const std::uint64_t index = first + i * span;
      if (!e.present() || index + span <= from) continue;
      at_ = std::max(index, from);
      if (height == 1) {
        if (spent_ >= budget_) return false;
        INDRA_TRY(chunk(state, index, e));
        if (again_) return false;
        at_ = index + 1;
        continue;
      }
      if (e.where != 0 && done_.pages.contains(e.where)) continue;
      PagePtr next = page.child(i);
      if (!next) {
        auto loaded = s_.loader()(e.where);
        if (!loaded) {
          if (changed(state)) return false;
          if (s_.writer().failed() || !is_damage(loaded.error())) return fail(loaded.error());
          out_.damage.push_back({state.id, index * kChunkSize, std::min(m.size, (index + span) * kChunkSize),
                                 loaded.error().text()});
          continue;
        }
        next = std::move(*loaded);
      }
      INDRA_LET(const bool all, below(state, m, *next, height - 1, index, from));
      if (!all) return false;
      if (e.where != 0 && from <= index) done_.pages.insert(e.where);
    }
    return true;
  }

  bool changed(BlobState& state) {
    const ReadLock lock{state.rw};
    again_ = state.version != version_;
    return again_;
  }

  Result<void> chunk(BlobState& state, std::uint64_t index, const Entry& e) {
    const bool whole_blocks = e.segment() == kInDatabase || e.length >= kBlockSize;
    const std::size_t slot = e.segment() == kInDatabase ? e.offset() : e.offset() / kBlockSize;
    if (whole_blocks)
      if (const auto it = done_.chunks.find(e.segment());
          it != done_.chunks.end() && slot < it->second.size() && it->second[slot])
        return {};
    for (int n = 1;; ++n) {
      const ReadLock lock{state.rw};
      if (state.version != version_) {
        again_ = true;
        return {};
      }
      const auto r = matches(state, index, e);
      if (r) break;
      if (!is_damage(r.error())) return r;
      if (n < kTries) continue;
      const std::uint64_t from = index * kChunkSize;
      out_.damage.push_back({state.id, from, from + e.length, r.error().text()});
      s_.cache_.drop(e.where);
      shared_.emplace_back(state.id, e.where);
      break;
    }
    spent_ += e.length;
    out_.bytes += e.length;
    if (whole_blocks) {
      auto& bits = done_.chunks[e.segment()];
      if (slot >= bits.size()) bits.resize(slot + 1 + slot / 4);
      bits[slot] = true;
    }
    return {};
  }

  INDRA_NO_ANALYSIS Result<void> matches(BlobState& state, std::uint64_t index, const Entry& e) {
    s_.bytes().uncache(e.where, e.length);
    if (const auto torn = state.torn.find(index); torn != state.torn.end()) {
      INDRA_TRY(s_.read_torn(state, e, index, e.root, torn->second));
      return {};
    }
    buffer_.resize(e.length);
    INDRA_TRY(s_.bytes().read(e.where, buffer_));
    if (s_.untold_ && !state.patches.empty()) return {};  // cannot be checked until they are folded (C23)
    const bool good = e.root ? std::ranges::equal(BlobHash::of(buffer_).bytes(), e.cv.bytes)
                             : chunk_cv(index, buffer_) == e.cv;
    if (good) return {};
    return fail(Errc::corrupt, "chunk " + std::to_string(index) + " at " + std::to_string(e.segment()) + ":" +
                                   std::to_string(e.offset()) + " does not match its hash");
  }

 public:
  /// The other blobs of the family that hold a chunk found damaged.
  Result<void> name_sharers() {
    for (const auto& [found_in, where] : shared_) {
      INDRA_LET(const auto others, s_.writer().read([&,
                                                     id = found_in](Tx& tx) -> Result<std::vector<BlobId>> {
        std::vector<BlobId> ids;
        Statement f{tx, "SELECT coalesce(family, id) FROM blobs WHERE id = ?1"};
        INDRA_LET(const bool row, f.bind(1, id).step());
        if (!row) return ids;
        Statement q{tx,
                    "SELECT id FROM blobs WHERE (family = ?1 OR (id = ?1 AND family IS NULL)) AND form <> 0 "
                    "AND id <> ?2 LIMIT ?3"};
        q.bind(1, f.int64_at(0)).bind(2, id).bind(3, static_cast<std::int64_t>(kSharersNamed));
        for (;;) {
          INDRA_LET(const bool more, q.step());
          if (!more) return ids;
          ids.push_back(q.id_at<BlobId>(0));
        }
      }));
      for (const BlobId id : others) {
        const auto lease = s_.lease(id, false);
        if (!lease) continue;  // collected meanwhile, or damaged itself: then it is named by itself
        Manifest m;
        {
          const ReadLock lock{(*lease)->state().rw};
          m = (*lease)->state().m;
        }
        (void)each_chunk(m, 0, s_.loader(),
                         [&, w = where](std::uint64_t index, const Entry& e) -> Result<bool> {
                           if (e.where == w)
                             out_.damage.push_back({id, index * kChunkSize, index * kChunkSize + e.length,
                                                    "it shares damaged chunk " + std::to_string(w >> 32) +
                                                        ":" + std::to_string(w & 0xFFFFFFFF)});
                           return true;
                         });
      }
    }
    return {};
  }

 private:
  Store& s_;
  Store::Scrubbed& done_;
  ContentStore::ScrubSlice& out_;
  const std::uint64_t budget_;
  std::uint64_t spent_ = 0, version_ = 0, at_ = 0;
  bool again_ = false;
  Bytes buffer_;
  std::vector<std::pair<BlobId, std::uint64_t>> shared_;
};

Result<ContentStore::ScrubSlice> Store::scrub(ScrubPlace from, std::uint64_t bytes) {
  const MutexLock lock{scrub_mutex_};
  if (from == ScrubPlace{}) scrubbed_ = {};
  ScrubSlice out;
  Scrub scrub{*this, scrubbed_, out, bytes};
  BlobId first = from.blob;
  for (bool more = true; more && !out.end;) {
    INDRA_LET(const auto ids, writer_.read([&](Tx& tx) -> Result<std::vector<BlobId>> {
      std::vector<BlobId> some;
      Statement q{tx, "SELECT id FROM blobs WHERE id >= ?1 ORDER BY id LIMIT ?2"};
      q.bind(1, first).bind(2, static_cast<std::int64_t>(kBlobsAtOnce));
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) return some;
        some.push_back(q.id_at<BlobId>(0));
      }
    }));
    if (ids.empty()) {
      out.end = true;
      scrubbed_ = {};
    }
    for (const BlobId id : ids) {
      INDRA_LET(more, scrub.blob(id, id == from.blob ? from.chunk : 0));
      if (!more) break;
      first = BlobId{id.raw() + 1};
    }
  }
  INDRA_TRY(scrub.name_sharers());
  return out;
}

}  // namespace indra::blob
