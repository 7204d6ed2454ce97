// States of blobs in use: who reads them, who changes them, and what may not be collected meanwhile.
#include <algorithm>

#include "blob/internal/store.h"

namespace indra::blob {

Lease::~Lease() { store_.unlease(state_, counted_); }
Busy::~Busy() {
  {
    const std::lock_guard lock{store_.registry_};
    if (staging_)
      --state_->staging;
    else
      state_->busy = false;
  }
  store_.changed_.notify_all();
}
Placed::~Placed() {
  if (mine && !kept) store.discard(e);
}

Result<LeasePtr> Store::lease(BlobId id, bool counted) {
  StatePtr state;
  {
    std::unique_lock lock{registry_};
    for (;;) {
      if (dying_.contains(id)) return fail(ENOENT, "blob");
      auto& slot = states_[id];
      if (!slot) slot = std::make_shared<BlobState>(id);
      if (!slot->applying) {
        state = slot;
        break;
      }
      changed_.wait(lock);
    }
    ++(counted ? state->leases : state->pins);
  }
  auto lease = std::make_shared<Lease>(*this, state, counted);
  const MutexLock lock{state->load};
  if (!state->loaded) INDRA_TRY(load(*state));
  return lease;
}

LeasePtr Store::adopt(StatePtr state) {
  {
    const MutexLock lock{state->load};
    state->loaded = true;
  }
  const std::lock_guard lock{registry_};
  states_[state->id] = state;
  ++state->leases;
  return std::make_shared<Lease>(*this, std::move(state), true);
}

void Store::unlease(const StatePtr& state, bool counted) {
  {
    const std::lock_guard lock{registry_};
    --(counted ? state->leases : state->pins);
    if (state->leases != 0 || state->pins != 0) return;
    const auto it = states_.find(state->id);
    if (it != states_.end() && it->second == state) states_.erase(it);
  }
  changed_.notify_all();
}

std::unique_ptr<Busy> Store::take_busy(const StatePtr& state) {
  std::unique_lock lock{registry_};
  changed_.wait(lock, [&] { return !state->busy && state->staging == 0; });
  state->busy = true;
  return std::make_unique<Busy>(*this, state);
}
std::unique_ptr<Busy> Store::take_staging(const StatePtr& state) {
  std::unique_lock lock{registry_};
  changed_.wait(lock, [&] { return !state->busy; });
  ++state->staging;
  return std::make_unique<Busy>(*this, state, true);
}
std::unique_ptr<Busy> Store::try_busy(const StatePtr& state) {
  const std::lock_guard lock{registry_};
  if (state->busy || state->staging != 0) return nullptr;
  state->busy = true;
  return std::make_unique<Busy>(*this, state);
}

bool Store::begin_applying(BlobState& state) {
  const std::lock_guard lock{registry_};
  if (state.leases != 1) return false;
  state.applying = ++tickets_;
  applying_.insert(state.applying);
  return true;
}
void Store::done_applying(BlobState& state) {
  {
    const std::lock_guard lock{registry_};
    applying_.erase(state.applying);
    state.applying = 0;
  }
  changed_.notify_all();
}

std::uint64_t Store::next_ticket() {
  const std::lock_guard lock{registry_};
  return tickets_ + 1;
}
bool Store::accepted_below(std::uint64_t ticket) {
  const std::lock_guard lock{registry_};
  return applying_.empty() || *applying_.begin() >= ticket;
}

bool Store::begin_dying(BlobId id) {
  const std::lock_guard lock{registry_};
  if (states_.contains(id)) return false;
  dying_.insert(id);
  return true;
}
void Store::done_dying(BlobId id) {
  const std::lock_guard lock{registry_};
  dying_.erase(id);
}

Result<void> Store::load(BlobState& state) {
  struct Row {
    BucketId bucket;
    std::uint64_t size, stored;
    std::optional<BlobHash> hash;
    bool is_inline;
    Bytes data;
    Patches patches;
    std::map<std::uint64_t, Cv> torn;
  };
  INDRA_LET(Row row, writer_.read([&](Tx& tx) -> Result<Row> {
    Statement q{tx, "SELECT bucket, size, coalesce(stored, size), hash, form, data FROM blobs WHERE id = ?1"};
    q.bind(1, state.id);
    INDRA_LET(const bool found, q.step());
    if (!found) return fail(ENOENT, "blob");
    Row r;
    r.bucket = q.id_at<BucketId>(0);
    r.size = static_cast<std::uint64_t>(q.int64_at(1));
    r.stored = static_cast<std::uint64_t>(q.int64_at(2));
    if (!q.is_null(3)) {
      if (q.blob_at(3).size() != 32) return fail(Errc::corrupt, "hash of a blob");
      r.hash = BlobHash::from_digest(q.blob_at(3));
    }
    r.is_inline = q.int64_at(4) == 0;
    const ByteView data = q.blob_at(5);
    r.data.assign(data.begin(), data.end());
    Statement p{tx, "SELECT block, seal, data FROM patches WHERE blob = ?1"};
    p.bind(1, state.id);
    for (;;) {
      INDRA_LET(const bool more, p.step());
      if (!more) break;
      const ByteView d = p.blob_at(2);
      if (p.int64_at(1) != load_le<std::int64_t>(BlobHash::of(d).bytes().data()))
        return fail(Errc::corrupt, "patch");
      r.patches[static_cast<std::uint64_t>(p.int64_at(0))] =
          std::make_shared<const Bytes>(d.begin(), d.end());
    }
    if (r.patches.empty()) return r;
    Statement t{tx, "SELECT chunk, cv FROM folds WHERE blob = ?1"};
    t.bind(1, state.id);
    for (;;) {
      INDRA_LET(const bool more, t.step());
      if (!more) break;
      Cv& cv = r.torn[static_cast<std::uint64_t>(t.int64_at(0))];
      if (t.blob_at(1).size() != cv.bytes.size()) return fail(Errc::corrupt, "fold");
      std::ranges::copy(t.blob_at(1), cv.bytes.begin());
    }
    return r;
  }));
  auto page = std::make_shared<Page>();
  if (!row.is_inline) {
    INDRA_TRY(decode_page(row.data, row.hash, *page));
  } else if (row.data.size() != row.size || (row.hash && BlobHash::of(row.data) != *row.hash)) {
    return fail(Errc::corrupt, "content in a row of blobs");
  }
  const WriteLock lock{state.rw};
  state.bucket = row.bucket;
  state.m = {row.size, std::move(page)};
  state.hash = row.hash;
  state.is_inline = row.is_inline;
  if (row.is_inline) state.inline_data = std::move(row.data);
  state.stored = row.stored;
  state.patches = std::move(row.patches);
  state.torn = std::move(row.torn);
  state.loaded = true;
  return {};
}

}  // namespace indra::blob
