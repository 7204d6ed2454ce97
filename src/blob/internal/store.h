// The store behind ContentStore: what its parts (content, staging, folding, collecting) share.
//
// Lock order, outermost first: Content's gate - busy (of a blob) - Content's lock - BlobState::rw - Writer -
// registry. So nothing that runs inside a Tx takes a Content's lock or an rw; and only a vault of a single
// file waits for the Writer with rw held, as its chunks are rows.
#pragma once
#include <condition_variable>
#include <deque>
#include <map>
#include <set>
#include <thread>
#include <unordered_map>

#include "blob/collecting.h"
#include "blob/internal/cache.h"
#include "blob/internal/chunk_bytes.h"
#include "blob/internal/manifest.h"

namespace indra::blob {

inline constexpr std::size_t kBlocks = kChunkSize / kBlockSize;  // of a chunk
using Patches = std::map<std::uint64_t, SharedBytes>;            // by block

/// What all who use one blob share. `rw` held alone: its rows were changed, or a chunk is being overwritten.
struct BlobState {
  explicit BlobState(BlobId i) : id{i} {}
  const BlobId id;
  BucketId bucket;

  Mutex load;           // held while the row is read
  bool loaded = false;  // guarded by load

  SharedMutex rw;
  Manifest m INDRA_GUARDED_BY(rw);
  std::optional<BlobHash> hash INDRA_GUARDED_BY(rw);
  bool is_inline INDRA_GUARDED_BY(rw) = false;
  Bytes inline_data INDRA_GUARDED_BY(rw);
  std::uint64_t stored INDRA_GUARDED_BY(rw) = 0;
  Patches patches INDRA_GUARDED_BY(rw);
  // Chunks that a fold in place began to overwrite: what their CV (or hash) is with the patches laid over
  // (C23).
  std::map<std::uint64_t, Cv> torn INDRA_GUARDED_BY(rw);
  std::uint64_t version INDRA_GUARDED_BY(rw) = 0;

  // Guarded by Store's registry mutex.
  int leases = 0;              // who may read it: not collected, not changed in place by others
  int pins = 0;                // not collected
  bool busy = false;           // folded, or its hash looked for
  int staging = 0;             // staged by so many
  std::uint64_t applying = 0;  // changed in place in the transaction, not yet in memory: its ticket
};
using StatePtr = std::shared_ptr<BlobState>;

/// What a chunk takes up: whole blocks from 4 KiB on, in `chunks` one row.
[[nodiscard]] inline std::uint32_t space_of(const Entry& e) {
  constexpr auto kBlock = static_cast<std::uint32_t>(kBlockSize);
  if (e.segment() == kInDatabase) return 1;
  return e.length < kBlock ? e.length : (e.length + kBlock - 1) / kBlock * kBlock;
}

class Store;

/// While it lives the blob stays; a counted one also keeps others from changing it in place.
class Lease {
 public:
  Lease(Store& s, StatePtr p, bool counted) : store_{s}, state_{std::move(p)}, counted_{counted} {}
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  [[nodiscard]] BlobState& state() const { return *state_; }
  [[nodiscard]] const StatePtr& pointer() const { return state_; }

 private:
  Store& store_;
  StatePtr state_;
  bool counted_;
};
using LeasePtr = std::shared_ptr<Lease>;

/// Nobody else folds the blob, nor stages it unless this stages it too: several contents over one blob may be
/// staged together, since none of them changes it in place then (C13).
class Busy {
 public:
  Busy(Store& s, StatePtr p, bool staging = false) : store_{s}, state_{std::move(p)}, staging_{staging} {}
  ~Busy();
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  Store& store_;
  StatePtr state_;
  const bool staging_;
};

/// Chunk bytes that no row refers to yet: thrown away unless kept.
struct Placed {
  Placed(Store& s, const Entry& entry, bool own, LeasePtr from)
      : store{s}, e{entry}, mine{own}, source{std::move(from)} {}
  ~Placed();
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;
  Store& store;
  Entry e;
  bool mine;  ///< written by us, else shared from `source`
  LeasePtr source;
  std::atomic<bool> kept{false};  ///< rows refer to it
};
using PlacedPtr = std::shared_ptr<Placed>;

class Workers {
 public:
  explicit Workers(int n)
      : count_{n != 0 ? std::max(0, n) : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))} {
  }
  ~Workers();
  void run(std::function<void()> job);
  /// Without threads: who is about to wait for jobs does them here. Else nothing.
  void help();

 private:
  void loop();
  int count_;
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  bool stop_ = false;
};

/// What a row of `blobs` says about ownership.
struct Standing {
  std::int64_t refs = 0, family = 0, owner = 0;
  bool alone = false;  ///< nobody else is in the family, and nothing of it is loose
};

/// It will not pass by itself, and it concerns what is stored.
[[nodiscard]] bool is_damage(const Error&);

/// A page of a manifest from its row.
[[nodiscard]] Result<PagePtr> page_row(Tx&, std::uint64_t id);

class Store final : public ContentStore {
 public:
  Store(Writer& w, Disk& d, const Clock& c, Options o);
  ~Store() override;
  Result<void> start(const std::string& dir);

  Result<void> sync_content() override { return bytes_->sync(); }
  bool content_dirty() const override { return bytes_->dirty(); }
  Result<std::unique_ptr<Content>> open_content(BucketId bucket, BlobId base) override;
  Result<std::unique_ptr<Content>> open_frozen(BucketId bucket, BlobId blob) override;
  Result<BlobInfo> info(Tx&, BlobId) override;
  Result<void> add_ref(Tx&, BlobId) override;
  Result<void> drop_ref(Tx&, BlobId) override;
  Result<BlobHash> hash(BlobId, bool wait) override;
  using ContentStore::at_rest;
  using ContentStore::work;
  Result<bool> work(Work) override;
  Result<bool> at_rest(Work) override;
  std::shared_ptr<void> hold() override;
  void try_damaged_again();
  [[nodiscard]] Freed freed() const { return {rounds_, freed_}; }
  Result<ScrubSlice> scrub(ScrubPlace from, std::uint64_t bytes) override;
  std::uint64_t unwritten() const override { return queued + buffered; }  // in the order in which they go
  Result<Stats> stats() override;

  // States and leases (registry.cpp).
  [[nodiscard]] Result<LeasePtr> lease(BlobId, bool counted);
  [[nodiscard]] LeasePtr adopt(StatePtr);  ///< a new blob's state, filled by the caller
  [[nodiscard]] std::unique_ptr<Busy> take_busy(const StatePtr&);
  [[nodiscard]] std::unique_ptr<Busy> try_busy(const StatePtr&);
  [[nodiscard]] std::unique_ptr<Busy> take_staging(const StatePtr&);
  /// True when only `mine` leases it: from now on nobody opens it until done_applying().
  [[nodiscard]] bool begin_applying(BlobState&);
  void done_applying(BlobState&);
  /// Everything applied in place so far has a ticket below this ...
  [[nodiscard]] std::uint64_t next_ticket();
  /// ... and nobody reads by what was there before it.
  [[nodiscard]] bool accepted_below(std::uint64_t ticket);
  [[nodiscard]] bool begin_dying(BlobId);  ///< false: somebody uses it
  void done_dying(BlobId);

  // Reading (reading.cpp).
  [[nodiscard]] PageLoader loader();
  /// Bytes of the blob from `at`, patches laid over, zeros beyond its end.
  [[nodiscard]] Result<void> read_blob(BlobState&, std::uint64_t at, MutableBytes out);
  /// Bytes of one chunk from `at` within it; zeros beyond e.length.
  [[nodiscard]] Result<void> read_entry(const Entry&, std::uint64_t index, std::uint32_t at, MutableBytes out,
                                        bool void_cv = false);
  /// A chunk that a fold began to overwrite: its bytes with the patches over them, verified.
  [[nodiscard]] Result<Bytes> read_torn(const BlobState&, const Entry&, std::uint64_t index, bool root,
                                        const Cv& expected);
  [[nodiscard]] Result<BlobHash> hash_manifest(const Manifest&, const Patches&, BlobState*,
                                               std::uint64_t hole_limit);

  // Rows (rows.cpp).
  [[nodiscard]] Result<Standing> standing(Tx&, BlobId);
  /// Bytes that blob `b` of standing `s` no longer refers to.
  [[nodiscard]] Result<void> let_go(Tx&, const Standing& s, std::span<const Entry>);
  [[nodiscard]] Result<void> let_go_page(Tx&, const Standing& s, std::uint64_t id, std::uint64_t birth);
  [[nodiscard]] Result<void> refer(Tx&, std::span<const Entry>);
  [[nodiscard]] Result<void> kill(Tx&, const std::vector<Extent>&);
  [[nodiscard]] PageSink page_sink(Tx&, const Standing* own, std::uint64_t owner);
  [[nodiscard]] Result<void> put_patch(Tx&, BlobId, std::uint64_t block, ByteView data);
  [[nodiscard]] Result<void> drop_patches(Tx&, BlobId, std::uint64_t from_block, std::uint64_t to_block);
  [[nodiscard]] Result<std::int64_t> take_slot(Tx&);
  [[nodiscard]] Result<void> free_slot(Tx&, std::int64_t slot);
  [[nodiscard]] Result<void> find_free_slots(Tx&);
  [[nodiscard]] Result<void> merge_families(Tx&, std::int64_t from, std::int64_t into);
  /// The blob of the bucket with this hash that others may be pointed at; 0 = none.
  [[nodiscard]] Result<BlobId> find_hash(Tx&, BucketId, const BlobHash&);

  // Numbers.
  [[nodiscard]] Result<void> ensure_ids(std::uint64_t n);
  [[nodiscard]] std::uint64_t next_id() { return ids_.fetch_add(1); }

  /// `known`: the hash of the bytes, when `root` and somebody has computed it.
  [[nodiscard]] Result<Entry> append(ChunkBytes::Lane&, Mutex&, std::uint64_t index, bool root, ByteView,
                                     const std::optional<BlobHash>& known = {});
  void discard(const Entry&);
  void settle(const Entry&);  ///< rows refer to it now
  /// Gives back what nobody refers to. Of blocks that small extents share the dead parts are remembered,
  /// until the last of the block dies (C8).
  [[nodiscard]] Result<void> free(const std::vector<Extent>&);
  void note_patched(BlobId, std::uint64_t bytes);
  void note_unpatched(BlobId);

  Writer& writer() { return writer_; }
  const Options& options() const { return options_; }
  ChunkBytes& bytes() { return *bytes_; }
  ChunkCache& cache() { return cache_; }
  Workers& workers() { return workers_; }
  ChunkBytes::Lane& small_lane() { return *small_lane_; }
  Mutex& small_mutex() { return small_mutex_; }

  std::atomic<std::uint64_t> buffered{0};  ///< bytes of unstaged writes
  std::atomic<std::uint64_t> queued{0};    ///< of those, waiting for a worker
  std::mutex queue_mutex;
  std::condition_variable queue_room;
  /// Inside a transaction: something of the family was shared, or let go. A sweep under way begins again.
  void disturb(std::int64_t family) {
    if (family == swept_) disturbed_ = true;
  }

 private:
  friend class Lease;
  friend class Busy;
  Result<void> load(BlobState&);
  void unlease(const StatePtr&, bool counted);

  Result<bool> fold_slice();
  Result<bool> fold(BlobId);
  /// Found damaged while in the background: told once, then left alone until it changes or the vault is
  /// opened again. `chunk` kWhole: the blob's manifest. False: it is no damage.
  bool set_aside(BlobId, std::uint64_t chunk, const Error&);
  bool set_family_aside(std::int64_t, const Error&);
  [[nodiscard]] bool is_aside(BlobId, std::uint64_t chunk);
  [[nodiscard]] bool is_family_aside(std::int64_t);
  static constexpr std::uint64_t kWhole = UINT64_MAX;
  Result<bool> collect_slice();
  Result<bool> sweep(std::int64_t family);
  /// `whole`: nothing was there to be collected before it.
  Result<bool> punch_slice(bool whole);
  Result<bool> remove_empty_segments();
  [[nodiscard]] Result<void> free_garbage();
  [[nodiscard]] Result<void> free_ends_of_blocks();
  Result<void> scavenge();
  Result<void> drop_empty_segments(Tx&, const std::string& dir);
  /// By segment: the bytes that blobs refer to. Walks all manifests.
  Result<std::map<std::uint32_t, std::uint64_t>> live_bytes(Tx&);

  // Scrubbing (scrubbing.cpp).
  friend class Scrub;
  struct Scrubbed {
    std::map<std::uint32_t, std::vector<bool>> chunks;  ///< by segment, one a block
    std::set<std::uint64_t> pages;                      ///< all below them was read
  };

  Writer& writer_;
  Disk& disk_;
  const Clock& clock_;
  Options options_;
  std::unique_ptr<Segments> segments_;
  std::unique_ptr<ChunkBytes> bytes_;
  ChunkCache cache_;
  bool unclean_ = false;     ///< the last end was not an orderly close
  bool unparted_ = false;    ///< which parts of shared blocks are dead is not known: an older program's vault
  std::string unscavenged_;  ///< why what that left behind was not looked for
  bool untold_ = false;      ///< and folds that were under way left no rows: an older program's vault

  std::mutex registry_;
  std::condition_variable changed_;
  std::unordered_map<BlobId, StatePtr> states_;
  std::set<BlobId> dying_;
  std::uint64_t tickets_ = 0;
  std::set<std::uint64_t> applying_;

  struct Patched {
    TimeNs last;
    std::uint64_t bytes;
    std::uint64_t next = 0;  ///< chunk: where the next slice of a fold goes on
  };
  static constexpr std::size_t kFreeSlots = 512;  // kept for patches to come: 2 MiB
  std::vector<std::int64_t> free_slots_;          // as far as known; only with a Tx

  Mutex patched_mutex_;
  std::map<BlobId, Patched> patched_ INDRA_GUARDED_BY(patched_mutex_);

  Mutex aside_mutex_;
  std::map<BlobId, std::map<std::uint64_t, std::string>> aside_ INDRA_GUARDED_BY(aside_mutex_);
  std::map<std::int64_t, std::string> families_aside_ INDRA_GUARDED_BY(aside_mutex_);

  Mutex garbage_mutex_;
  std::vector<Entry> garbage_ INDRA_GUARDED_BY(garbage_mutex_);  // never referred to by a row
  std::uint64_t garbage_bytes_ INDRA_GUARDED_BY(garbage_mutex_) = 0;
  TimeNs garbage_since_ INDRA_GUARDED_BY(garbage_mutex_) = 0;
  std::atomic<std::uint64_t> rounds_{0}, freed_{0};
  std::atomic<std::int64_t> swept_{0};  // the family under a sweep
  std::atomic<bool> disturbed_{false};
  int collected_ = 0;  // slices since the last that punched; guarded by work_mutex_

  std::atomic<std::uint64_t> ids_{1};
  std::uint64_t reserved_ = 0;  // guarded by ids_mutex_
  std::mutex ids_mutex_;
  Mutex work_mutex_;           // one slice at a time
  std::atomic<int> holds_{0};  // begun between two slices (hold())

  Mutex scrub_mutex_;
  Scrubbed scrubbed_ INDRA_GUARDED_BY(scrub_mutex_);

  std::unique_ptr<ChunkBytes::Lane> small_lane_;
  Mutex small_mutex_;
  Workers workers_;  // last: its jobs use everything above
};

[[nodiscard]] std::unique_ptr<Content> make_content(Store&, BucketId, LeasePtr base, bool frozen);

}  // namespace indra::blob
