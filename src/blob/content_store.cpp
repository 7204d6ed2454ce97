// Opening and closing the store, its numbers, its workers, and the order of background work.
#include "blob/content_store.h"

#include "base/log.h"
#include "blob/internal/store.h"

namespace indra {

Result<std::unique_ptr<ContentStore>> ContentStore::open(Writer& writer, Disk& disk, const std::string& dir,
                                                         const Clock& clock, Options options) {
  auto store = std::make_unique<blob::Store>(writer, disk, clock, std::move(options));
  INDRA_TRY(store->start(dir));
  return store;
}

namespace blob {

Workers::~Workers() {
  {
    const std::lock_guard lock{mutex_};
    stop_ = true;
  }
  more_.notify_all();
  for (auto& t : threads_) t.join();
}
void Workers::run(std::function<void()> job) {
  {
    const std::lock_guard lock{mutex_};
    jobs_.push_back(std::move(job));
    if (static_cast<int>(threads_.size()) < count_) threads_.emplace_back([this] { loop(); });
  }
  more_.notify_one();
}
void Workers::loop() {
  std::unique_lock lock{mutex_};
  for (;;) {
    more_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const auto job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
}

Store::Store(Writer& w, Disk& d, const Clock& c, Options o)
    : writer_{w},
      disk_{d},
      clock_{c},
      options_{std::move(o)},
      cache_{options_.cache_limit},
      workers_{options_.workers} {}

Store::~Store() {
  if (!small_lane_ || writer_.failed()) return;
  if (!bytes_->sync()) return;
  {  // appended for files that were closed without being staged: no later start would find it
    const MutexLock lock{garbage_mutex_};
    if (!garbage_.empty() && !bytes_->free(garbage_)) return;
  }
  (void)writer_.mutate([](Tx& tx) {
    return Statement{tx, "UPDATE content_state SET value = 1 WHERE name = 'clean'"}.run();
  });
}

Result<void> Store::start(const std::string& dir) {
  std::map<std::uint32_t, std::uint64_t> ends;
  INDRA_TRY(writer_.mutate([&](Tx& tx) -> Result<void> {
    bool clean = true;
    {
      Statement q{tx, "SELECT name, value FROM content_state"};
      for (;;) {
        INDRA_LET(const bool more, q.step());
        if (!more) break;
        if (q.text_at(0) == "ids")
          reserved_ = static_cast<std::uint64_t>(q.int64_at(1));
        else
          clean = q.int64_at(1) != 0;
      }
    }
    unclean_ = !clean;
    INDRA_TRY(Statement(tx, "INSERT OR REPLACE INTO content_state(name, value) VALUES('clean', 0)").run());
    // A segment in which nothing lives any more goes: opening the others removes a file that has no row.
    INDRA_TRY(Statement(tx,
                        "DELETE FROM segments WHERE live = 0 AND NOT EXISTS(SELECT 1 FROM dead_extents WHERE "
                        "segment = id)")
                  .run());
    Statement s{tx, "SELECT id, end FROM segments"};
    for (;;) {
      INDRA_LET(const bool more, s.step());
      if (!more) break;
      ends[static_cast<std::uint32_t>(s.int64_at(0))] = static_cast<std::uint64_t>(s.int64_at(1));
    }
    Statement p{tx, "SELECT blob, count(*) FROM patches GROUP BY blob"};
    const MutexLock lock{patched_mutex_};
    for (;;) {
      INDRA_LET(const bool more, p.step());
      if (!more) return {};
      patched_[p.id_at<BlobId>(0)] = {clock_.steady(),
                                      static_cast<std::uint64_t>(p.int64_at(1)) * kBlockSize};
    }
  }));
  ids_ = reserved_ + 1;
  INDRA_TRY(ensure_ids(1));
  INDRA_TRY(writer_.barrier());
  if (options_.single_file) {
    INDRA_LET(bytes_, bytes_in(writer_));
  } else {
    INDRA_TRY(disk_.make_dir(dir));
    Segments::Options o;
    o.segment_size = options_.segment_size;
    o.reservation = std::min<std::size_t>(o.reservation, options_.segment_size / 16);
    o.faults = options_.faults;
    INDRA_LET(segments_, Segments::open(disk_, dir, std::move(ends), std::move(o)));
    bytes_ = bytes_in(*segments_);
  }
  if (unclean_) INDRA_TRY(scavenge());
  small_lane_ = bytes_->lane();
  return {};
}

Result<void> Store::ensure_ids(std::uint64_t n) {
  constexpr std::uint64_t kSlack = 1 << 16;
  const std::lock_guard lock{ids_mutex_};
  if (ids_ + n + kSlack <= reserved_) return {};
  const std::uint64_t more = ids_ + n + 4 * kSlack;
  INDRA_TRY(writer_.mutate([&](Tx& tx) {
    return Statement{tx, "INSERT OR REPLACE INTO content_state(name, value) VALUES('ids', ?1)"}
        .bind(1, static_cast<std::int64_t>(more))
        .run();
  }));
  reserved_ = more;
  return {};
}

Result<std::unique_ptr<Content>> Store::open_content(BucketId bucket, BlobId base) {
  LeasePtr held;
  if (base) {
    INDRA_LET(held, lease(base, true));
  }
  return make_content(*this, bucket, std::move(held), false);
}
Result<std::unique_ptr<Content>> Store::open_frozen(BucketId bucket, BlobId base) {
  LeasePtr held;
  if (base) {
    INDRA_LET(held, lease(base, true));
  }
  return make_content(*this, bucket, std::move(held), true);
}

Result<Entry> Store::append(ChunkBytes::Lane& lane, Mutex& mutex, std::uint64_t index, bool root,
                            ByteView bytes, const std::optional<BlobHash>& known) {
  Entry e;
  e.length = static_cast<std::uint32_t>(bytes.size());
  e.root = root;
  if (root) {
    const BlobHash h = known ? *known : BlobHash::of(bytes);
    std::memcpy(e.cv.bytes.data(), h.bytes().data(), 32);
  } else {
    e.cv = chunk_cv(index, bytes);
  }
  {
    const MutexLock lock{mutex};
    INDRA_LET(e.where, bytes_->append(lane, bytes));
  }
  return e;
}

void Store::discard(const Entry& e) {
  const MutexLock lock{garbage_mutex_};
  if (garbage_.empty()) garbage_since_ = clock_.steady();
  garbage_.push_back({e.segment(), e.offset(), space_of(e)});
  garbage_bytes_ += e.length;
}
void Store::settle(const Entry&) {}

Result<bool> Store::work(Work what) {
  const MutexLock lock{work_mutex_};
  if (what == Work::fold) return fold_slice();
  INDRA_LET(const bool collected, collect_slice());
  if (collected) return true;
  return punch_slice();
}

Result<bool> Store::at_rest(Work what) {
  if (what == Work::fold)
    return writer_.read([](Tx& tx) -> Result<bool> {
      Statement q{tx, "SELECT EXISTS(SELECT 1 FROM patches)"};
      INDRA_TRY(q.step());
      return q.int64_at(0) == 0;
    });
  {
    const MutexLock lock{garbage_mutex_};
    if (!garbage_.empty()) return false;
  }
  return writer_.read([&](Tx& tx) -> Result<bool> {
    Statement q{tx, "SELECT EXISTS(SELECT 1 FROM dead_extents) OR EXISTS(SELECT 1 FROM loose)"};
    INDRA_TRY(q.step());
    if (q.int64_at(0) != 0) return false;
    Statement z{tx, "SELECT id FROM blobs WHERE refs = 0"};
    for (;;) {
      INDRA_LET(const bool more, z.step());
      if (!more) return true;
      const std::lock_guard lock{registry_};
      if (!states_.contains(z.id_at<BlobId>(0))) return false;  // one in use stays until it is closed
    }
  });
}

Result<ContentStore::Stats> Store::stats() {
  Stats s;
  INDRA_TRY(writer_.read([&](Tx& tx) -> Result<void> {
    Statement q{tx,
                "SELECT count(*), coalesce(sum(refs * size), 0), coalesce(sum(CASE form WHEN 0 THEN size "
                "END), 0) FROM blobs"};
    INDRA_TRY(q.step());
    s.blobs = static_cast<std::uint64_t>(q.int64_at(0));
    s.logical = static_cast<std::uint64_t>(q.int64_at(1));
    s.inline_bytes = static_cast<std::uint64_t>(q.int64_at(2));
    Statement p{tx,
                "SELECT (SELECT count(*) FROM patches), (SELECT coalesce(sum(length), 0) FROM dead_extents),"
                " (SELECT coalesce(sum(live), 0) FROM segments)"};
    INDRA_TRY(p.step());
    s.patches = static_cast<std::uint64_t>(p.int64_at(0));
    s.dead = static_cast<std::uint64_t>(p.int64_at(1));
    s.unique = static_cast<std::uint64_t>(p.int64_at(2)) + s.inline_bytes;
    return {};
  }));
  INDRA_LET(s.physical, bytes_->allocated());
  return s;
}

}  // namespace blob
}  // namespace indra
