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
void Workers::help() {
  if (count_ > 0) return;
  for (;;) {
    std::function<void()> job;
    {
      const std::lock_guard lock{mutex_};
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
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
  if (!free_garbage())
    return;  // of files that were closed without being staged: no later start would find it
  if (!free_ends_of_blocks()) return;
  if (!bytes_->sync_freed()) return;  // after an orderly end nobody looks for what nobody refers to
  // A patched chunk that was half folded stays without a CV until it is folded, however orderly this end is
  // (C23). Likewise what a crash left behind and nobody could look for (C34).
  (void)writer_.mutate([this](Tx& tx) {
    return Statement{tx,
                     "UPDATE content_state SET value = NOT (?2 OR (?1 AND EXISTS(SELECT 1 FROM "
                     "patch_places))) WHERE name = "
                     "'clean'"}
        .bind(1, std::int64_t{untold_})
        .bind(2, std::int64_t{!unscavenged_.empty()})
        .run();
  });
}

// A segment in which nothing lives any more goes: opening the others removes a file that has no row. But a
// count can be wrong, and a file is gone for good: so one that still takes room is looked for in all
// manifests (C36).
Result<void> Store::drop_empty_segments(Tx& tx, const std::string& dir) {
  std::vector<std::uint32_t> empty;
  {
    Statement q{
        tx,
        "SELECT id FROM segments WHERE live <= 0 AND NOT EXISTS(SELECT 1 FROM dead_extents WHERE segment "
        "= id)"};
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) break;
      empty.push_back(static_cast<std::uint32_t>(q.int64_at(0)));
    }
  }
  constexpr std::uint64_t kHeaders = 64 * 1024;  // what a file without any extent may take
  std::map<std::uint32_t, std::uint64_t> found;
  bool walked = false;
  for (const std::uint32_t id : empty) {
    const auto file = disk_.open(Segments::path_of(dir, id), false);
    auto takes = file ? (*file)->allocated() : Result<std::uint64_t>{0};
    if (!takes || *takes > kHeaders) {
      if (!walked) {
        auto all = live_bytes(tx);
        if (!all) {
          log::error("content store: {}; no segment is removed", all.error().text());
          return {};
        }
        found = std::move(*all);
        walked = true;
      }
      if (const auto it = found.find(id); it != found.end()) {
        log::error("content store: segment {} was counted empty, and holds {} bytes; mended", id, it->second);
        INDRA_TRY(Statement(tx, "UPDATE segments SET live = ?2 WHERE id = ?1")
                      .bind(1, std::int64_t{id})
                      .bind(2, static_cast<std::int64_t>(it->second))
                      .run());
        continue;
      }
    }
    INDRA_TRY(Statement(tx, "DELETE FROM segments WHERE id = ?1").bind(1, std::int64_t{id}).run());
    INDRA_TRY(Statement(tx, "DELETE FROM dead_parts WHERE segment = ?1").bind(1, std::int64_t{id}).run());
  }
  return {};
}

Result<void> Store::start(const std::string& dir) {
  std::map<std::uint32_t, std::uint64_t> ends;
  INDRA_TRY(writer_.mutate([&](Tx& tx) -> Result<void> {
    bool clean = true, folds = false;  // folds: such as are under way have rows
    unparted_ = true;
    {
      Statement q{tx, "SELECT name, value FROM content_state"};
      for (;;) {
        INDRA_LET(const bool more, q.step());
        if (!more) break;
        if (q.text_at(0) == "ids")
          reserved_ = static_cast<std::uint64_t>(q.int64_at(1));
        else if (q.text_at(0) == "folds")
          folds = true;
        else if (q.text_at(0) == "parts")
          unparted_ = false;
        else
          clean = q.int64_at(1) != 0;
      }
    }
    unclean_ = !clean;
    untold_ = unclean_ && !folds;
    if (!untold_)
      INDRA_TRY(Statement(tx, "INSERT OR REPLACE INTO content_state(name, value) VALUES('folds', 1)").run());
    INDRA_TRY(Statement(tx, "INSERT OR REPLACE INTO content_state(name, value) VALUES('clean', 0)").run());
    if (!options_.single_file) INDRA_TRY(drop_empty_segments(tx, dir));
    // Behind the end of what is referred to places are given again.
    INDRA_TRY(Statement(tx,
                        "DELETE FROM dead_parts WHERE offset >= coalesce((SELECT (end + 4095) / 4096 * 4096 "
                        "FROM segments WHERE id = segment), 0)")
                  .run());
    Statement s{tx, "SELECT id, end FROM segments"};
    for (;;) {
      INDRA_LET(const bool more, s.step());
      if (!more) break;
      ends[static_cast<std::uint32_t>(s.int64_at(0))] = static_cast<std::uint64_t>(s.int64_at(1));
    }
    INDRA_TRY(find_free_slots(tx));
    Statement p{tx, "SELECT blob, count(*) FROM patch_places GROUP BY blob"};
    const MutexLock lock{patched_mutex_};
    for (;;) {
      INDRA_LET(const bool more, p.step());
      if (!more) return {};
      patched_[p.id_at<BlobId>(0)] = {.last = clock_.steady(),
                                      .bytes = static_cast<std::uint64_t>(p.int64_at(1)) * kBlockSize,
                                      .next = 0};
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
  if (unclean_ || unparted_) INDRA_TRY(scavenge());
  INDRA_TRY(free_ends_of_blocks());
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
  garbage_.push_back(e);
  garbage_bytes_ += e.length;
}
void Store::settle(const Entry& e) { bytes_->settled({e.segment(), e.offset(), e.length}); }

Result<bool> Store::work(Work what) {
  const MutexLock lock{work_mutex_};
  if (what == Work::fold) return fold_slice();
  // What fails keeps nothing else waiting; nor do those who delete all the time keep the space from coming
  // back.
  constexpr int kCollectedAtMost = 16;
  std::optional<Error> failed;
  const auto done = [&](Result<bool> r) {
    if (r) return *r;
    if (!failed) failed = std::move(r).error();
    return false;
  };
  const auto slice = collect_slice();
  const bool collected = done(slice);
  if (collected && ++collected_ < kCollectedAtMost) return true;
  collected_ = 0;
  bool more = done(punch_slice(slice && !*slice));
  if (!more && !collected) more = done(remove_empty_segments());
  if (more || collected) return true;
  return failed ? Result<bool>{fail(*failed)} : false;
}

std::shared_ptr<void> Store::hold() {
  const MutexLock lock{work_mutex_};  // no slice is under way
  ++holds_;
  return {this, [this](void*) { --holds_; }};
}

bool is_damage(const Error& e) {
  return e.code == make_error_code(Errc::corrupt) || e.code == std::errc::io_error;
}

bool Store::set_aside(BlobId id, std::uint64_t chunk, const Error& e) {
  if (writer_.failed() || !is_damage(e)) return false;
  const std::string text = "blob " + std::to_string(id.raw()) + ": " + e.text();
  const MutexLock lock{aside_mutex_};
  if (!aside_[id].try_emplace(chunk, text).second) return true;
  log::error("content store: {}; left as it is, the rest goes on", text);
  return true;
}
bool Store::set_family_aside(std::int64_t family, const Error& e) {
  if (writer_.failed() || !is_damage(e)) return false;
  const std::string text = "versions sharing with blob " + std::to_string(family) + ": " + e.text() +
                           "; none of their space is freed";
  const MutexLock lock{aside_mutex_};
  if (families_aside_.try_emplace(family, text).second) log::error("content store: {}", text);
  return true;
}
void Store::try_damaged_again() {
  const MutexLock lock{aside_mutex_};
  aside_.clear();
  families_aside_.clear();
}
bool Store::is_aside(BlobId id, std::uint64_t chunk) {
  const MutexLock lock{aside_mutex_};
  const auto it = aside_.find(id);
  return it != aside_.end() && it->second.contains(chunk);
}
bool Store::is_family_aside(std::int64_t family) {
  const MutexLock lock{aside_mutex_};
  return families_aside_.contains(family);
}

Result<bool> Store::at_rest(Work what) {
  if (what == Work::free) {
    const MutexLock lock{garbage_mutex_};
    if (!garbage_.empty()) return false;
  }
  std::set<BlobId> blobs_aside;
  std::set<std::int64_t> families_aside;
  {
    const MutexLock lock{aside_mutex_};
    for (const auto& [id, chunks] : aside_) blobs_aside.insert(id);
    for (const auto& [family, text] : families_aside_) families_aside.insert(family);
  }
  return writer_.read([&](Tx& tx) -> Result<bool> {
    const auto none = [&](const char* sql, const auto& aside) -> Result<bool> {
      Statement q{tx, sql};
      for (;;) {
        INDRA_LET(const bool more, q.step());
        if (!more) return true;
        if (!aside(q.int64_at(0))) return false;
      }
    };
    if (what == Work::fold)
      return none("SELECT DISTINCT blob FROM patch_places",
                  [&](std::int64_t b) { return blobs_aside.contains(BlobId{b}); });
    INDRA_LET(const bool dead,
              none("SELECT segment FROM dead_extents LIMIT 1", [&](std::int64_t) { return holds_ != 0; }));
    if (!dead) return false;
    INDRA_LET(const bool loose, none("SELECT DISTINCT family FROM loose",
                                     [&](std::int64_t f) { return families_aside.contains(f); }));
    if (!loose) return false;
    Statement z{tx, "SELECT id, coalesce(family, id) FROM blobs WHERE refs = 0"};
    for (;;) {
      INDRA_LET(const bool more, z.step());
      if (!more) return true;
      if (blobs_aside.contains(z.id_at<BlobId>(0)) || families_aside.contains(z.int64_at(1))) continue;
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
    Statement p{
        tx,
        "SELECT (SELECT count(*) FROM patch_places), (SELECT coalesce(sum(length), 0) FROM dead_extents),"
        " (SELECT coalesce(sum(live), 0) FROM segments)"};
    INDRA_TRY(p.step());
    s.patches = static_cast<std::uint64_t>(p.int64_at(0));
    s.dead = static_cast<std::uint64_t>(p.int64_at(1));
    s.unique = static_cast<std::uint64_t>(p.int64_at(2)) + s.inline_bytes;
    return {};
  }));
  INDRA_LET(s.physical, bytes_->allocated());
  if (segments_) s.damage = segments_->damage();
  if (!unscavenged_.empty()) s.damage.push_back(unscavenged_);
  const MutexLock lock{aside_mutex_};
  for (const auto& [id, chunks] : aside_)
    for (const auto& [chunk, text] : chunks) s.damage.push_back(text);
  for (const auto& [family, text] : families_aside_) s.damage.push_back(text);
  return s;
}

}  // namespace blob
}  // namespace indra
