#include "blob/kept.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <unordered_set>

#include "blob/internal/store.h"

namespace indra {
namespace {

using namespace blob;

/// Chunks that a fold was overwriting, of one blob.
using Torn = std::map<std::uint64_t, KeptChunk>;

Result<std::map<std::int64_t, Torn>> read_torn(Tx& tx) {
  std::map<std::int64_t, Torn> all;
  Statement q{tx,
              "SELECT f.blob, f.chunk, f.cv, b.size FROM folds f JOIN blobs b ON b.id = f.blob WHERE EXISTS("
              "SELECT 1 FROM patches p WHERE p.blob = f.blob)"};
  for (;;) {
    INDRA_LET(const bool more, q.step());
    if (!more) break;
    KeptChunk c;
    c.index = static_cast<std::uint64_t>(q.int64_at(1));
    c.root = static_cast<std::uint64_t>(q.int64_at(3)) <= kChunkSize;
    if (q.blob_at(2).size() != c.cv.bytes.size()) return fail(Errc::corrupt, "fold");
    std::ranges::copy(q.blob_at(2), c.cv.bytes.begin());
    all[q.int64_at(0)][c.index] = std::move(c);
  }
  for (auto& [id, chunks] : all)
    for (auto& [index, c] : chunks) {
      Statement p{tx, "SELECT block, data FROM patches WHERE blob = ?1 AND block >= ?2 AND block < ?3"};
      p.bind(1, id)
          .bind(2, static_cast<std::int64_t>(index * kBlocks))
          .bind(3, static_cast<std::int64_t>((index + 1) * kBlocks));
      for (;;) {
        INDRA_LET(const bool more, p.step());
        if (!more) break;
        const ByteView data = p.blob_at(1);
        c.over.emplace_back(
            static_cast<std::uint32_t>(static_cast<std::uint64_t>(p.int64_at(0)) % kBlocks * kBlockSize),
            Bytes{data.begin(), data.end()});
      }
    }
  return all;
}

class Walk {
 public:
  Walk(Tx& tx, const std::function<Result<void>(KeptChunk)>& see) : tx_{tx}, see_{see} {}
  Result<void> below(const Page& page, int height, std::uint64_t first, Torn* torn) {
    for (std::size_t i = 0; i < page.entries.size(); ++i) {
      const Entry& e = page.entries[i];
      if (!e.present()) continue;
      const std::uint64_t index = first + i * span_of(height);
      if (height > 1) {
        if (!seen_.insert(e.where).second) continue;
        INDRA_LET(const PagePtr next, page_row(tx_, e.where));
        INDRA_TRY(below(*next, height - 1, index, torn));
        continue;
      }
      if (e.segment() == kInDatabase) continue;
      if (e.segment() == 0) return fail(Errc::corrupt, "a chunk of segment 0");
      KeptChunk c;
      if (torn != nullptr)
        if (const auto it = torn->find(index); it != torn->end()) c = it->second;
      if (c.over.empty()) {
        c.cv = e.cv;
        c.root = e.root;
      }
      c.where = e.where;
      c.index = index;
      c.length = e.length;
      INDRA_TRY(see_(std::move(c)));
    }
    return {};
  }

 private:
  Tx& tx_;
  const std::function<Result<void>(KeptChunk)>& see_;
  std::unordered_set<std::uint64_t>
      seen_;  // pages: what is below one has its place in the file, so once does
};

}  // namespace

Result<void> each_kept(Tx& tx, const std::function<Result<void>(KeptChunk)>& see) {
  {
    Statement q{tx,
                "SELECT EXISTS(SELECT 1 FROM patches) AND NOT EXISTS(SELECT 1 FROM content_state WHERE name "
                "= 'folds') AND NOT EXISTS(SELECT 1 FROM content_state WHERE name = 'clean' AND value <> 0)"};
    INDRA_TRY(q.step());
    if (q.int64_at(0) != 0)
      return fail(EAGAIN,
                  "an older program left the vault with changes that are still being folded into their "
                  "files; try again in a minute");
  }
  INDRA_LET(auto torn, read_torn(tx));
  Walk walk{tx, see};
  Statement q{tx, "SELECT id, size, hash, data FROM blobs WHERE form <> 0"};
  for (;;) {
    INDRA_LET(const bool more, q.step());
    if (!more) return {};
    std::optional<BlobHash> hash;
    if (!q.is_null(2)) {
      if (q.blob_at(2).size() != 32) return fail(Errc::corrupt, "hash of a blob");
      hash = BlobHash::from_digest(q.blob_at(2));
    }
    Page page;
    INDRA_TRY(decode_page(q.blob_at(3), hash, page));
    const auto it = torn.find(q.int64_at(0));
    INDRA_TRY(walk.below(page, height_of(static_cast<std::uint64_t>(q.int64_at(1))), 0,
                         it != torn.end() ? &it->second : nullptr));
  }
}

Result<std::vector<std::pair<std::uint32_t, std::uint64_t>>> segment_ends(Tx& tx) {
  std::vector<std::pair<std::uint32_t, std::uint64_t>> out;
  Statement q{tx, "SELECT id, end FROM segments ORDER BY id"};
  for (;;) {
    INDRA_LET(const bool more, q.step());
    if (!more) return out;
    out.emplace_back(static_cast<std::uint32_t>(q.int64_at(0)), static_cast<std::uint64_t>(q.int64_at(1)));
  }
}

bool matches(const KeptChunk& c, MutableBytes bytes) {
  if (bytes.size() != c.length || bytes.empty()) return false;
  for (const auto& [at, data] : c.over)
    if (at < bytes.size())
      std::memcpy(bytes.data() + at, data.data(), std::min<std::size_t>(data.size(), bytes.size() - at));
  return c.root ? std::ranges::equal(BlobHash::of(bytes).bytes(), c.cv.bytes)
                : chunk_cv(c.index, bytes) == c.cv;
}

}  // namespace indra
