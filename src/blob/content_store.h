// The content store: blobs by id, read verified, written through a Content, folded, collected.
//
// Shapes:   a blob is 0 .. 16 TiB; id 0 is the empty blob. Up to kInlineLimit bytes lie in the row, the rest
// in
//           segments behind a manifest: a radix tree of pages, 64 entries each, {CV, where, birth}.
//           A patch is a 4 KiB block of a blob, newer than the chunk under it, kept as a row until folded.
// Units:    sizes and offsets are bytes.
// Threads:  every member may be called from any thread. What takes a Tx runs inside the Writer's transaction
// and
//           never touches a segment.
// Durable:  rows are durable with the Writer's next barrier; bytes are durable before any committed row that
//           refers to them (D3): apply() must run inside Writer::mutate_content().
// Errors:   Errc::corrupt for a chunk that does not match its CV (only that range), ENOSPC, EFBIG, EIO.
// Source:   docs/design/content.md (C1..), docs/formats/manifest-v1.md.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/fault.h"
#include "base/result.h"
#include "base/strong.h"
#include "base/time.h"
#include "blob/hash.h"
#include "db/writer.h"

namespace indra {

inline constexpr std::size_t kBlockSize = 4096;    // unit of patches
inline constexpr std::size_t kInlineLimit = 1024;  // docs/decisions/0004-thresholds.md
inline constexpr std::uint64_t kMaxFileSize = 16ull << 40;

extern const Migration kBlobSchema, kBlobSchema2,
    kBlobSchema3;  ///< tables blobs, pages, patches, segments, dead_extents

struct BlobInfo {
  BlobId id;
  std::uint64_t size = 0;
  std::optional<BlobHash> hash;  ///< absent: not computed yet
  std::uint64_t stored = 0;      ///< bytes that are not holes, at this blob (shared ones counted)
  std::int64_t refs = 0;
};

class ContentStore;

/// The bytes of one file that may be open for writing: a blob, and over it what has been written since.
/// One Content per (branch, node) in the daemon; all handles share it. Thread-safe: reads run beside each
/// other. Memory is bounded: full chunks go to segments as they fill (hashed by worker threads).
class Content {
 public:
  virtual ~Content() = default;
  [[nodiscard]] virtual std::uint64_t size() const = 0;
  [[nodiscard]] virtual std::uint64_t stored() const = 0;  ///< bytes that are not holes, for st_blocks
  /// Sees every write that returned. Fewer bytes than asked only at the end.
  [[nodiscard]] virtual Result<std::size_t> read(std::uint64_t at, MutableBytes out) const = 0;
  [[nodiscard]] virtual Result<void> write(std::uint64_t at, ByteView bytes) = 0;
  [[nodiscard]] virtual Result<void> truncate(std::uint64_t size) = 0;
  [[nodiscard]] virtual Result<void> punch(std::uint64_t at,
                                           std::uint64_t n) = 0;  ///< never changes the size
  /// The first data (or hole) at or after `at`; ENXIO as lseek(2).
  [[nodiscard]] virtual Result<std::uint64_t> seek(std::uint64_t at, bool hole) const = 0;
  /// Shares whole aligned chunks where both sides allow it, copies the rest. Returns the bytes done.
  [[nodiscard]] virtual Result<std::uint64_t> copy_from(Content& from, std::uint64_t from_at,
                                                        std::uint64_t at, std::uint64_t n) = 0;
  /// Changed since the last accept().
  [[nodiscard]] virtual bool dirty() const = 0;
  /// Bytes held in memory only.
  [[nodiscard]] virtual std::uint64_t dirty_bytes() const = 0;

  /// What must become rows. From stage() to accept() or its destruction no write gets in.
  class Staged {
   public:
    virtual ~Staged() = default;
    /// Inserts or updates rows. `in_place`: the caller guarantees that only the row being rewritten needs the
    /// base blob (refs = 1, no pin); then the same id may come back with new content, else a new id with refs
    /// = 0. An equal blob of the bucket (same hash, same bytes) comes back instead where there is one.
    [[nodiscard]] virtual Result<BlobInfo> apply(Tx&, bool in_place) = 0;
    /// apply() will refer to segment bytes that are not durable yet: it must then run in mutate_content().
    /// Else mutate() do.
    [[nodiscard]] virtual bool needs_content_sync() const = 0;
    /// The rows are in the transaction: what was staged is now the base. Called after mutate() has returned,
    /// not in it.
    virtual void accept() = 0;
  };
  enum class For {
    publish,  ///< close: whole chunks to segments, hash known afterwards wherever that costs only what
              ///< changed
    sync,     ///< fsync: small dirty parts become patch rows, so that one WAL sync makes them durable
  };
  [[nodiscard]] virtual Result<std::unique_ptr<Staged>> stage(For) = 0;
};

class ContentStore {
 public:
  struct Options {
    TimeNs fold_after = 2 * kSecond;         ///< patches of a blob without new ones for this long are folded
    std::uint64_t patch_limit = 8ull << 20;  ///< bytes of patches of one blob before they are folded anyway
    std::uint64_t buffer_limit = 64ull << 20;  ///< bytes of unstaged writes in memory, all Contents together
    std::uint64_t cache_limit = 32ull << 20;   ///< verified chunks kept for reading
    enum class Verify { always, sample, never } verify = Verify::always;
    int workers = 0;  ///< hashing threads; 0 = as many as cores; < 0 = none, who waits does the work (tests)
    bool single_file = false;  ///< chunk bytes live in vault.db (table chunks) instead of segments
    std::uint64_t segment_size = 1ull << 30;
    FaultPoints faults;
  };
  [[nodiscard]] static Result<std::unique_ptr<ContentStore>> open(Writer&, Disk&,
                                                                  const std::string& segments_dir,
                                                                  const Clock&, Options);
  virtual ~ContentStore() = default;

  // For WriterOptions.
  [[nodiscard]] virtual Result<void> sync_content() = 0;
  [[nodiscard]] virtual bool content_dirty() const = 0;

  /// Content over `base` (0 = empty) for one file of `bucket`. While it lives it holds a lease on `base`.
  [[nodiscard]] virtual Result<std::unique_ptr<Content>> open_content(BucketId bucket, BlobId base) = 0;
  /// A verified read-only view of one blob as it is now; later changes in place do not reach it (the blob is
  /// frozen while it lives). Holds a lease.
  [[nodiscard]] virtual Result<std::unique_ptr<Content>> open_frozen(BucketId bucket, BlobId blob) = 0;

  // References from node rows; a blob without any is collected once no lease holds it.
  [[nodiscard]] virtual Result<BlobInfo> info(Tx&, BlobId) = 0;
  [[nodiscard]] virtual Result<void> add_ref(Tx&, BlobId) = 0;
  [[nodiscard]] virtual Result<void> drop_ref(Tx&, BlobId) = 0;

  /// Computes (and stores) the hash; costs what is not known yet. Errors: EAGAIN ("pending") for holes above
  /// 1 GiB unless `wait`.
  [[nodiscard]] virtual Result<BlobHash> hash(BlobId, bool wait) = 0;

  enum class Work {
    fold,  ///< patches into their chunks
    free,  ///< blobs without references taken apart, their extents punched after the commit that freed them
           ///< is durable, empty segments removed
  };
  /// One slice of background work. True: there is more to do at once. What is damaged is left alone and named
  /// in stats(); the rest goes on. Errors: what may pass (a full disk).
  [[nodiscard]] virtual Result<bool> work(Work) = 0;
  /// But for what is damaged nothing of that kind is left, now or later: no patches; no blob without
  /// references, no dead extents.
  [[nodiscard]] virtual Result<bool> at_rest(Work) = 0;
  /// One slice of either; what fails of one does not keep the other waiting.
  [[nodiscard]] Result<bool> work() {
    auto folded = work(Work::fold);
    if (folded && *folded) return true;
    auto freed = work(Work::free);
    return folded || (freed && *freed) ? freed : folded;
  }
  [[nodiscard]] Result<bool> at_rest() {
    INDRA_LET(const bool folded, at_rest(Work::fold));
    return folded ? at_rest(Work::free) : Result<bool>{false};
  }

  /// While it lives, bytes that a committed row refers to stay as they are: nothing is punched, and folds go
  /// to new chunks. Rows change as ever. For who reads the segments by a snapshot of the rows (backup). At
  /// rest then means: but for what waits for this.
  [[nodiscard]] virtual std::shared_ptr<void> hold() = 0;

  /// Where a scrub is: everything before it was read. {} is the beginning.
  struct ScrubPlace {
    BlobId blob;
    std::uint64_t chunk = 0;
    friend bool operator==(const ScrubPlace&, const ScrubPlace&) = default;
  };
  struct Damage {
    BlobId blob;
    std::uint64_t from = 0, to = 0;  ///< bytes of it
    std::string what;
  };
  struct ScrubSlice {
    ScrubPlace next;
    bool end = false;
    std::uint64_t bytes = 0;     ///< read from where they lie, and compared with their hash
    std::vector<Damage> damage;  ///< each blob that holds the damaged bytes
  };
  /// Reads about `bytes` of what is stored, from the device where it can, and compares them with their
  /// hashes, whatever `verify` says: chunks, patches and what lies in rows, of every blob that is referred to
  /// or in use. What several blobs share is read once in a pass that begins at {}. One caller at a time.
  [[nodiscard]] virtual Result<ScrubSlice> scrub(ScrubPlace from, std::uint64_t bytes) = 0;

  /// Bytes that were accepted and that the host's file system has not been given yet.
  [[nodiscard]] virtual std::uint64_t unwritten() const = 0;

  struct Stats {
    std::uint64_t blobs = 0, logical = 0, unique = 0, physical = 0, patches = 0, dead = 0, inline_bytes = 0;
    std::vector<std::string> damage;  ///< what background work met and left alone
  };
  [[nodiscard]] virtual Result<Stats> stats() = 0;
};

}  // namespace indra
