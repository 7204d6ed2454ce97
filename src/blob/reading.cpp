// Verified reading, and hashes from chaining values.
#include <algorithm>

#include "blob/internal/store.h"

namespace indra::blob {
namespace {

/// CV of `n` = 64^(height-1) chunks of zeros from chunk `first` on. Remembered: they depend on the place
/// (C4).
Cv zero_cv(int height, std::uint64_t first) {
  if (height == 1) return zero_chunk_cv(first);
  static Mutex mutex;
  static std::map<std::pair<int, std::uint64_t>, Cv> known;
  {
    const MutexLock lock{mutex};
    if (const auto it = known.find({height, first}); it != known.end()) return it->second;
  }
  std::array<Cv, kFanout> below;
  for (std::size_t i = 0; i < kFanout; ++i) below[i] = zero_cv(height - 1, first + i * span_of(height - 1));
  const Cv cv = join(below);
  const MutexLock lock{mutex};
  known.emplace(std::pair{height, first}, cv);
  return cv;
}

void lay_over(const Patches& patches, std::uint64_t at, MutableBytes out) {
  for (auto it = patches.lower_bound(at / kBlockSize);
       it != patches.end() && it->first * kBlockSize < at + out.size(); ++it) {
    const std::uint64_t from = it->first * kBlockSize;
    const std::uint64_t lo = std::max(from, at),
                        hi = std::min<std::uint64_t>(from + kBlockSize, at + out.size());
    const Bytes& b = *it->second;
    for (std::uint64_t p = lo; p < hi;) {  // a short block ends in zeros
      const std::uint64_t have = p - from < b.size() ? std::min<std::uint64_t>(hi, from + b.size()) - p : 0;
      if (have != 0) {
        std::memcpy(out.data() + (p - at), b.data() + (p - from), have);
        p += have;
      } else {
        std::memset(out.data() + (p - at), 0, hi - p);
        p = hi;
      }
    }
  }
}

bool patched(const Patches& patches, std::uint64_t first_chunk, std::uint64_t chunks) {
  const auto it = patches.lower_bound(first_chunk * kBlocks);
  return it != patches.end() && it->first < (first_chunk + chunks) * kBlocks;
}

}  // namespace

Result<PagePtr> page_row(Tx& tx, std::uint64_t id) {
  Statement q{tx, "SELECT data FROM pages WHERE id = ?1"};
  q.bind(1, static_cast<std::int64_t>(id));
  INDRA_LET(const bool found, q.step());
  if (!found) return fail(Errc::corrupt, "manifest page is missing");
  auto page = std::make_shared<Page>();
  page->id = id;
  INDRA_TRY(decode_page(q.blob_at(0), std::nullopt, *page));
  return page;
}

PageLoader Store::loader() {
  return [this](std::uint64_t id) -> Result<PagePtr> {
    return writer_.read([&](Tx& tx) { return page_row(tx, id); });
  };
}

Result<void> Store::read_entry(const Entry& e, std::uint64_t index, std::uint32_t at, MutableBytes out,
                               bool void_cv) {
  const std::size_t n = at < e.length ? std::min<std::size_t>(out.size(), e.length - at) : 0;
  if (n < out.size()) std::memset(out.data() + n, 0, out.size() - n);
  if (n == 0) return {};
  if (const SharedBytes cached = cache_.find(e.where)) {
    std::memcpy(out.data(), cached->data() + at, n);
    return {};
  }
  static std::atomic<unsigned> sample{0};
  const auto verify = [&](ByteView b) -> Result<void> {
    if (void_cv || options_.verify == Options::Verify::never) return {};
    if (options_.verify == Options::Verify::sample &&
        sample.fetch_add(1, std::memory_order_relaxed) % 16 != 0)
      return {};
    const bool good =
        e.root ? std::ranges::equal(BlobHash::of(b).bytes(), e.cv.bytes) : chunk_cv(index, b) == e.cv;
    if (good) return {};
    return fail(Errc::corrupt, "chunk " + std::to_string(index) + " at " + std::to_string(e.segment()) + ":" +
                                   std::to_string(e.offset()));
  };
  if (at == 0 && n == e.length) {
    INDRA_TRY(bytes_->read(e.where, out.first(n)));
    return verify(out.first(n));
  }
  auto all = std::make_shared<Bytes>(e.length);
  INDRA_TRY(bytes_->read(e.where, *all));
  INDRA_TRY(verify(*all));
  std::memcpy(out.data(), all->data() + at, n);
  if (!void_cv) cache_.put(e.where, std::move(all));
  return {};
}

INDRA_NO_ANALYSIS Result<Bytes> Store::read_torn(const BlobState& s, const Entry& e, std::uint64_t index,
                                                 bool root, const Cv& expected) {
  Bytes all(e.length);
  INDRA_TRY(bytes_->read(e.where, all));
  lay_over(s.patches, index * kChunkSize, all);
  const bool good = options_.verify == Options::Verify::never ||
                    (root ? std::ranges::equal(BlobHash::of(all).bytes(), expected.bytes)
                          : chunk_cv(index, all) == expected);
  if (good) return all;
  return fail(Errc::corrupt, "chunk " + std::to_string(index) + " at " + std::to_string(e.segment()) + ":" +
                                 std::to_string(e.offset()) + ", being folded");
}

Result<void> Store::read_blob(BlobState& s, std::uint64_t at, MutableBytes out) {
  const PageLoader load = loader();
  while (!out.empty()) {
    const std::uint64_t index = at / kChunkSize;
    const auto in_chunk = static_cast<std::uint32_t>(at % kChunkSize);
    const std::size_t n = std::min<std::size_t>(out.size(), kChunkSize - in_chunk);
    const MutableBytes piece = out.first(n);
    for (;;) {
      Manifest m;
      std::uint64_t version = 0;
      {
        const ReadLock lock{s.rw};
        if (s.is_inline) {
          std::memset(piece.data(), 0, n);
          if (at < s.inline_data.size())
            std::memcpy(piece.data(), s.inline_data.data() + at,
                        std::min<std::size_t>(n, s.inline_data.size() - at));
          break;
        }
        m = s.m;
        version = s.version;
      }
      const std::size_t inside = at < m.size ? std::min<std::uint64_t>(n, m.size - at) : 0;
      std::memset(piece.data() + inside, 0, n - inside);
      if (inside == 0) break;
      INDRA_LET(const Entry e, find_chunk(m, index, load));
      const ReadLock lock{s.rw};
      if (s.version != version) continue;
      if (const auto torn = s.torn.find(index); torn != s.torn.end()) {
        INDRA_LET(const Bytes all, read_torn(s, e, index, m.size <= kChunkSize, torn->second));
        const std::size_t have =
            in_chunk < all.size() ? std::min<std::size_t>(inside, all.size() - in_chunk) : 0;
        std::memcpy(piece.data(), all.data() + in_chunk, have);
        std::memset(piece.data() + have, 0, inside - have);
        break;
      }
      const bool void_cv = untold_ && patched(s.patches, index, 1);
      INDRA_TRY(read_entry(e, index, in_chunk, piece.first(inside), void_cv));
      if (!s.patches.empty()) lay_over(s.patches, at, piece.first(inside));
      break;
    }
    out = out.subspan(n);
    at += n;
  }
  return {};
}

Result<BlobHash> Store::hash_manifest(const Manifest& m, const Patches& patches, BlobState* state,
                                      std::uint64_t hole_limit) {
  const PageLoader load = loader();
  std::uint64_t holes = 0;
  const auto content = [&](std::uint64_t index, const Entry& e, MutableBytes out) -> Result<void> {
    if (state != nullptr) return read_blob(*state, index * kChunkSize, out);
    INDRA_TRY(read_entry(e, index, 0, out));
    lay_over(patches, index * kChunkSize, out);
    return {};
  };
  if (m.size <= kChunkSize) {
    if (m.size == 0) return BlobHash::of({});
    const Entry e = m.root->at(0);
    if (cv_fits(e, m.size, 0) && patches.empty()) return BlobHash::from_digest(e.cv.bytes);
    Bytes all(m.size);
    INDRA_TRY(content(0, e, all));
    return BlobHash::of(all);
  }
  const std::function<Result<std::vector<Cv>>(const Page*, int, std::uint64_t)> below =
      [&](const Page* page, int height, std::uint64_t first) -> Result<std::vector<Cv>> {
    const std::uint64_t span = span_of(height), end = chunks_in(m.size);
    std::vector<Cv> cvs;
    for (std::size_t i = 0; i < kFanout && first + i * span < end; ++i) {
      const std::uint64_t index = first + i * span;
      const Entry e = page != nullptr ? page->at(i) : Entry{};
      const bool full = (index + span) * kChunkSize <= m.size;
      const bool over = patched(patches, index, span);
      if (height == 1) {
        if (!over && cv_fits(e, m.size, index)) {
          cvs.push_back(e.cv);
          continue;
        }
        const std::uint32_t n = chunk_length(m.size, index);
        if (!over && !e.present()) {
          holes += n;
          if (holes > hole_limit) return fail(EAGAIN, "hash of a large hole is pending");
          cvs.push_back(zero_chunk_cv(index, n));
          continue;
        }
        Bytes all(n);
        INDRA_TRY(content(index, e, all));
        cvs.push_back(chunk_cv(index, all));
      } else if (full && !over && e.present() && e.cv != Cv{}) {
        cvs.push_back(e.cv);
      } else if (full && !over && !e.present()) {
        holes += span * kChunkSize;
        if (holes > hole_limit) return fail(EAGAIN, "hash of a large hole is pending");
        cvs.push_back(zero_cv(height, index));
      } else {
        PagePtr next;
        if (e.present()) {
          INDRA_LET(next, load_child(*page, i, load));
        }
        INDRA_LET(const auto kids, below(next.get(), height - 1, index));
        cvs.push_back(join(kids));
      }
    }
    return cvs;
  };
  INDRA_LET(const auto cvs, below(m.root.get(), m.height(), 0));
  return root_of(cvs);
}

}  // namespace indra::blob
