// One open file: a leased blob and, over it, chunk by chunk, what has been written since.
//
// A slot stands over a whole chunk. A buffer holds the blocks of its `over` mask (a partial block is
// completed from below when it is first written); a placed chunk lies in a segment already; a hole hides what
// is below. The gate admits one writer, truncation or stage at a time; `lock_` is only held to look at or
// change the slots.
#pragma once
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>

#include "blob/internal/store.h"

namespace indra::blob {

inline constexpr std::uint16_t kAllBlocks = 0xFFFF;

struct Slot {
  enum Kind { buffer, queued, placed, hole } kind = buffer;
  std::shared_ptr<Bytes> bytes;  // buffer, queued; zeros beyond its end
  std::uint16_t over = 0;        // buffer: blocks that hide what is below
  std::uint16_t written = 0;     // buffer: blocks that hold data; the chunk is handed on when it is full
  bool whole = false;            // buffer: must become a chunk of its own, not patches
  PlacedPtr place;
};

class StagedImpl;

class ContentImpl final : public Content {
 public:
  ContentImpl(Store& s, BucketId bucket, LeasePtr base, bool frozen);
  ~ContentImpl() override;

  std::uint64_t size() const override { return size_.load(); }
  std::uint64_t stored() const override;
  Result<std::size_t> read(std::uint64_t at, MutableBytes out) const override;
  Result<void> write(std::uint64_t at, ByteView bytes) override;
  Result<void> truncate(std::uint64_t size) override;
  Result<void> punch(std::uint64_t at, std::uint64_t n) override;
  Result<std::uint64_t> seek(std::uint64_t at, bool hole) const override;
  Result<std::uint64_t> copy_from(Content& from, std::uint64_t from_at, std::uint64_t at,
                                  std::uint64_t n) override;
  bool dirty() const override { return dirty_.load(); }
  std::uint64_t dirty_bytes() const override { return held_.load(); }
  Result<std::unique_ptr<Staged>> stage(For) override;

 private:
  friend class StagedImpl;
  class Gate {  // of the caller's scope
   public:
    explicit Gate(ContentImpl& c) : c_{c} { c_.close_gate(); }
    ~Gate() {
      if (!passed_on_) c_.open_gate();
    }
    Gate(const Gate&) = delete;
    Gate& operator=(const Gate&) = delete;
    void pass_on() { passed_on_ = true; }

   private:
    ContentImpl& c_;
    bool passed_on_ = false;
  };
  void close_gate();
  void open_gate();

  Result<void> read_below(const LeasePtr& base, std::uint64_t limit, std::uint64_t at,
                          MutableBytes out) const;
  Result<std::size_t> read_once(std::uint64_t at, MutableBytes out) const;
  Result<void> write_chunk(std::uint64_t index, std::uint32_t lo, ByteView bytes);
  /// The slot of `index` as a buffer that may be changed; all of what is placed or queued is copied into it.
  Result<Slot*> buffer_for(std::uint64_t index, bool discard_old);
  /// All of the chunk as it reads now becomes a buffer that hides everything below.
  Result<void> take_up(std::uint64_t index, bool whole);
  /// The chunk goes to a segment. `known`: the file's hash, when this is its only chunk.
  Result<void> spill(std::uint64_t index, const std::optional<BlobHash>& known = {});
  void hand_on(std::uint64_t index, Slot& slot);
  void wait_for_workers();
  Result<void> keep_bounds(std::uint64_t spare);
  void charge(std::int64_t n);
  void drop_slot(std::map<std::uint64_t, Slot>::iterator it);
  bool below_has(std::uint64_t index) const;  // the base shows something in this chunk (no I/O for new files)
  Result<std::pair<std::uint64_t, std::uint64_t>> extent(std::uint64_t index, bool hole_before,
                                                         bool hole_behind) const;
  Result<bool> has_data(std::uint64_t index) const;
  Result<std::uint64_t> next_data(
      std::uint64_t index) const;  ///< chunk with data at or after; UINT64_MAX = none

  Store& store_;
  const BucketId bucket_;
  const bool frozen_;

  std::mutex gate_mutex_;
  std::condition_variable gate_open_;
  bool gate_ = false;

  mutable SharedMutex lock_;
  LeasePtr base_ INDRA_GUARDED_BY(lock_);                 // null: empty
  std::uint64_t base_limit_ INDRA_GUARDED_BY(lock_) = 0;  // of the base nothing beyond shows
  std::map<std::uint64_t, Slot> slots_ INDRA_GUARDED_BY(lock_);
  std::atomic<std::uint64_t> size_{0}, held_{0}, accepted_{0};
  std::atomic<bool> dirty_{false};

  std::mutex jobs_mutex_;
  std::condition_variable jobs_done_;
  int jobs_ = 0;
  std::optional<Error> job_error_;
  std::unique_ptr<ChunkBytes::Lane> lane_;  // made by whoever holds the gate, before a worker needs it
  Mutex lane_mutex_;
};

}  // namespace indra::blob
