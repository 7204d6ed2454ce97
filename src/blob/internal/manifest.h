// The manifest of a blob: a radix tree of pages, 64 entries each, that says where every chunk is and what its
// chaining value is. In memory it is immutable; an edit makes a draft that shares all it does not touch.
//
// Shapes:   height 1 = one page of chunks (up to 4 MiB), 2 = a page of pages, ... The height follows from the
// size.
//           An entry that is absent is a hole: zeros, no bytes, no rows.
// Threads:  a Manifest is a value; pages are loaded on demand under a lock of their own.
// Source:   docs/formats/manifest-v1.md.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "blob/hash.h"

namespace indra::blob {

/// A chunk and where it is, or a page below.
struct Entry {
  Cv cv;                     ///< of the stored bytes; pages: of the whole subtree, all zero when not known
  std::uint64_t where = 0;   ///< chunk: segment << 32 | offset; page: its row
  std::uint64_t birth = 0;   ///< owner number it was written under
  std::uint32_t length = 0;  ///< bytes stored, 1..64 KiB; pages: 1; 0 = absent
  bool root = false;         ///< cv is the BlobHash of the bytes: the blob has just this chunk

  [[nodiscard]] bool present() const { return length != 0; }
  [[nodiscard]] std::uint32_t segment() const { return static_cast<std::uint32_t>(where >> 32); }
  [[nodiscard]] std::uint32_t offset() const { return static_cast<std::uint32_t>(where); }
};

class Page {
 public:
  std::uint64_t id = 0;        ///< row of `pages`; 0: the root, or not written yet
  std::vector<Entry> entries;  ///< up to 64; absent beyond the end
  [[nodiscard]] Entry at(std::size_t i) const { return i < entries.size() ? entries[i] : Entry{}; }

  [[nodiscard]] std::shared_ptr<const Page> child(std::size_t i) const;
  void remember(std::size_t i, std::shared_ptr<const Page> page) const;

 private:
  mutable Mutex mutex_;
  mutable std::vector<std::shared_ptr<const Page>> children_ INDRA_GUARDED_BY(mutex_);
};
using PagePtr = std::shared_ptr<const Page>;

struct Manifest {
  std::uint64_t size = 0;
  PagePtr root;  ///< never null

  [[nodiscard]] int height() const;
};

[[nodiscard]] std::uint64_t chunks_in(std::uint64_t size);
[[nodiscard]] int height_of(std::uint64_t size);
/// Chunks under an entry of a page of `height`.
[[nodiscard]] std::uint64_t span_of(int height);
/// Bytes that chunk `index` has in a blob of `size`.
[[nodiscard]] std::uint32_t chunk_length(std::uint64_t size, std::uint64_t index);
/// May this entry's CV be used for the hash of a blob of `size`?
[[nodiscard]] bool cv_fits(const Entry&, std::uint64_t size, std::uint64_t index);

/// `omit_cv`: of a single chunk whose CV is the blob's hash, kept in its own column.
[[nodiscard]] Bytes encode_page(const Page&, bool omit_cv = false);
[[nodiscard]] Result<Page*> decode_page(ByteView data, const std::optional<BlobHash>& hash, Page& into);

/// Reads a row of `pages`.
using PageLoader = std::function<Result<PagePtr>(std::uint64_t id)>;

[[nodiscard]] Result<PagePtr> load_child(const Page&, std::size_t i, const PageLoader&);
[[nodiscard]] Result<Entry> find_chunk(const Manifest&, std::uint64_t index, const PageLoader&);
/// Calls `see(index, entry)` for each chunk that is there, in order, from `first` on; stops when it says
/// false.
[[nodiscard]] Result<void> each_chunk(const Manifest&, std::uint64_t first, const PageLoader&,
                                      const std::function<Result<bool>(std::uint64_t, const Entry&)>& see);
/// Calls `page(id)` for each page below the root (false: leave its subtree out) and `chunk(entry)` for each
/// chunk.
[[nodiscard]] Result<void> walk(const Manifest&, const PageLoader&,
                                const std::function<bool(std::uint64_t)>& page,
                                const std::function<void(const Entry&)>& chunk);

/// A manifest being changed.
struct Draft {
  struct Node {
    std::uint64_t old_id = 0, old_birth = 0;
    std::vector<Entry> entries;
    std::uint64_t fresh = 0;    ///< bit i: entries[i] is a chunk new in this draft
    std::vector<PagePtr> kept;  ///< children as loaded, may be null
    std::vector<std::pair<std::size_t, std::unique_ptr<Node>>> changed;
  };
  std::uint64_t size = 0;
  std::unique_ptr<Node> root;
  std::vector<Entry> dropped;  ///< chunks of the base that the draft does not have
  std::vector<std::pair<std::uint64_t, std::uint64_t>> dropped_pages;  ///< id, birth: not in the draft at all
};
struct Change {
  std::uint64_t index;
  Entry entry;  ///< absent: a hole; birth 0: newly written, becomes the owner's
};
/// `changes` in order of index, each below chunks_in(size).
[[nodiscard]] Result<Draft> edit(const Manifest& base, std::uint64_t size, std::span<const Change> changes,
                                 const PageLoader&);

/// Where the pages of a draft go.
struct PageSink {
  std::uint64_t owner;  ///< birth of everything new
  /// The row that page (old_id, old_birth; 0 = a new one) is written to: the same if it may be overwritten.
  std::function<Result<std::uint64_t>(std::uint64_t old_id, std::uint64_t old_birth, ByteView data)> put;
};
/// Writes every changed page below the root and returns the tree. May be called again.
[[nodiscard]] Result<Manifest> write_draft(const Draft&, const PageSink&);

}  // namespace indra::blob
