// Long because one Content has one lock, and every operation on its overlay needs the others.
// Reading and changing an open file. What becomes of it: staging.cpp.
#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "blob/internal/content_impl.h"

namespace indra::blob {
namespace {

constexpr std::uint64_t kQueueLimit = 16 << 20;  // bytes that wait for the workers, all files together

std::uint16_t blocks_of(std::uint32_t lo, std::uint32_t hi) {  // those that [lo, hi) touches
  constexpr std::uint32_t kBlock = kBlockSize;
  const std::uint32_t first = lo / kBlock, last = (hi + kBlock - 1) / kBlock;
  return static_cast<std::uint16_t>(((1u << last) - 1) & ~((1u << first) - 1));
}

void copy_out(const Bytes& from, std::size_t at, MutableBytes out) {
  const std::size_t n = at < from.size() ? std::min(out.size(), from.size() - at) : 0;
  if (n != 0) std::memcpy(out.data(), from.data() + at, n);
  if (n < out.size()) std::memset(out.data() + n, 0, out.size() - n);
}

}  // namespace

ContentImpl::ContentImpl(Store& s, BucketId bucket, LeasePtr base, bool frozen)
    : store_{s}, bucket_{bucket}, frozen_{frozen}, base_{std::move(base)} {
  if (!base_) return;
  const ReadLock lock{base_->state().rw};
  size_ = base_->state().m.size;
  base_limit_ = size_;
}

ContentImpl::~ContentImpl() {
  wait_for_workers();
  const WriteLock lock{lock_};
  slots_.clear();
  store_.buffered -= held_;
}

std::unique_ptr<Content> make_content(Store& s, BucketId bucket, LeasePtr base, bool frozen) {
  return std::make_unique<ContentImpl>(s, bucket, std::move(base), frozen);
}

void ContentImpl::close_gate() {
  std::unique_lock lock{gate_mutex_};
  gate_open_.wait(lock, [this] { return !gate_; });
  gate_ = true;
}
void ContentImpl::open_gate() {
  {
    const std::lock_guard lock{gate_mutex_};
    gate_ = false;
  }
  gate_open_.notify_one();
}

void ContentImpl::charge(std::int64_t n) {
  held_ += static_cast<std::uint64_t>(n);
  store_.buffered += static_cast<std::uint64_t>(n);
}

// Reading
// -----------------------------------------------------------------------------------------------------

Result<void> ContentImpl::read_below(const LeasePtr& base, std::uint64_t limit, std::uint64_t at,
                                     MutableBytes out) const {
  const std::size_t n = base && at < limit ? std::min<std::uint64_t>(out.size(), limit - at) : 0;
  if (n != 0) INDRA_TRY(store_.read_blob(base->state(), at, out.first(n)));
  if (n < out.size()) std::memset(out.data() + n, 0, out.size() - n);
  return {};
}

Result<std::size_t> ContentImpl::read(std::uint64_t at, MutableBytes out) const {
  for (int tries = 0;; ++tries) {
    const std::uint64_t before = accepted_;
    auto r = read_once(at, out);
    // What was looked at may have been replaced and freed meanwhile.
    if (r) return r;
    if (accepted_ != before && tries < 8) continue;
    if (r.error().code == make_error_code(Errc::corrupt))
      log::error("{}: these bytes cannot be read", r.error().text());
    return r;
  }
}

Result<std::size_t> ContentImpl::read_once(std::uint64_t at, MutableBytes out) const {
  struct Range {
    std::uint64_t at;
    MutableBytes out;
  };
  std::vector<Range> below;
  struct FromPlace {
    PlacedPtr place;
    std::uint64_t index;
    std::uint32_t at;
    MutableBytes out;
  };
  std::vector<FromPlace> placed;
  LeasePtr base;
  std::uint64_t limit = 0;
  {
    const ReadLock lock{lock_};
    const std::uint64_t size = size_;
    if (at >= size) return std::size_t{0};
    out = out.first(std::min<std::uint64_t>(out.size(), size - at));
    base = base_;
    limit = base_limit_;
    const auto add_below = [&](std::uint64_t p, MutableBytes o) {
      if (!below.empty() && below.back().at + below.back().out.size() == p &&
          below.back().out.data() + below.back().out.size() == o.data())
        below.back().out = {below.back().out.data(), below.back().out.size() + o.size()};
      else
        below.push_back({p, o});
    };
    auto it = slots_.lower_bound(at / kChunkSize);
    std::uint64_t p = at;
    MutableBytes rest = out;
    while (!rest.empty()) {
      const std::uint64_t index = p / kChunkSize;
      while (it != slots_.end() && it->first < index) ++it;
      if (it == slots_.end() || it->first > index) {
        const std::uint64_t until = it == slots_.end()
                                        ? p + rest.size()
                                        : std::min<std::uint64_t>(p + rest.size(), it->first * kChunkSize);
        add_below(p, rest.first(until - p));
        rest = rest.subspan(until - p);
        p = until;
        continue;
      }
      const Slot& s = it->second;
      const auto in_chunk = static_cast<std::uint32_t>(p % kChunkSize);
      const std::size_t n = std::min<std::size_t>(rest.size(), kChunkSize - in_chunk);
      const MutableBytes piece = rest.first(n);
      if (s.kind == Slot::hole) {
        std::memset(piece.data(), 0, n);
      } else if (s.kind == Slot::placed) {
        placed.push_back({s.place, index, in_chunk, piece});
      } else if (s.kind == Slot::queued || s.over == kAllBlocks) {
        copy_out(*s.bytes, in_chunk, piece);
      } else {
        for (std::size_t done = 0; done < n;) {
          const std::size_t pos = in_chunk + done;
          const std::size_t m = std::min(n - done, kBlockSize - pos % kBlockSize);
          if ((s.over >> (pos / kBlockSize) & 1) != 0)
            copy_out(*s.bytes, pos, piece.subspan(done, m));
          else
            add_below(p + done, piece.subspan(done, m));
          done += m;
        }
      }
      rest = rest.subspan(n);
      p += n;
    }
  }
  for (const auto& f : placed) INDRA_TRY(store_.read_entry(f.place->e, f.index, f.at, f.out));
  for (const auto& r : below) INDRA_TRY(read_below(base, limit, r.at, r.out));
  return out.size();
}

// Writing
// -----------------------------------------------------------------------------------------------------

void ContentImpl::drop_slot(std::map<std::uint64_t, Slot>::iterator it) INDRA_NO_ANALYSIS {
  if (it->second.kind == Slot::buffer) charge(-static_cast<std::int64_t>(it->second.bytes->size()));
  slots_.erase(it);
}

bool ContentImpl::below_has(std::uint64_t index) const INDRA_NO_ANALYSIS {
  return base_ && index * kChunkSize < base_limit_;
}

Result<Slot*> ContentImpl::buffer_for(std::uint64_t index, bool discard_old) {
  PlacedPtr place;
  {
    const WriteLock lock{lock_};
    auto [it, fresh] = slots_.try_emplace(index);
    Slot& s = it->second;
    if (fresh) {
      s.bytes = std::make_shared<Bytes>();
      s.over = below_has(index) ? 0 : kAllBlocks;
      return &s;
    }
    if (s.kind == Slot::buffer) return &s;
    if (s.kind == Slot::queued) {
      s = Slot{Slot::buffer, std::make_shared<Bytes>(*s.bytes), kAllBlocks, kAllBlocks, false, nullptr};
      charge(static_cast<std::int64_t>(s.bytes->size()));
      return &s;
    }
    if (s.kind == Slot::hole || discard_old) {
      s = Slot{Slot::buffer, std::make_shared<Bytes>(), kAllBlocks, 0, s.kind == Slot::hole, nullptr};
      return &s;
    }
    place = s.place;
  }
  auto bytes = std::make_shared<Bytes>(place->e.length);
  INDRA_TRY(store_.read_entry(place->e, index, 0, *bytes));
  const WriteLock lock{lock_};
  Slot& s = slots_[index];
  charge(static_cast<std::int64_t>(bytes->size()));
  const std::uint16_t written = blocks_of(0, static_cast<std::uint32_t>(bytes->size()));
  s = Slot{Slot::buffer, std::move(bytes), kAllBlocks, written, true, nullptr};
  return &s;
}

Result<void> ContentImpl::write_chunk(std::uint64_t index, std::uint32_t lo, ByteView bytes) {
  const auto hi = static_cast<std::uint32_t>(lo + bytes.size());
  INDRA_LET(Slot* const slot, buffer_for(index, bytes.size() == kChunkSize));
  // Partial blocks are completed from below: the first, the last.
  struct Fill {
    std::uint32_t block;
    std::array<std::byte, kBlockSize> bytes;
  };
  std::vector<Fill> fills;
  if (slot->over != kAllBlocks) {
    LeasePtr base;
    std::uint64_t limit = 0;
    {
      const ReadLock lock{lock_};
      base = base_;
      limit = base_limit_;
    }
    const auto fill = [&](std::uint32_t block, std::uint32_t from, std::uint32_t to) -> Result<void> {
      const std::uint64_t start = index * kChunkSize + std::uint64_t{block} * kBlockSize;
      if ((slot->over >> block & 1) != 0 || start >= limit) return {};
      const std::uint64_t shown = std::min<std::uint64_t>(limit - start, kBlockSize);
      if (from == 0 && to >= shown) return {};
      fills.push_back({block, {}});
      return read_below(base, limit, start, fills.back().bytes);
    };
    constexpr std::uint32_t kBlock = kBlockSize;
    const std::uint32_t first = lo / kBlock, last = (hi - 1) / kBlock;
    INDRA_TRY(fill(first, lo % kBlock, first == last ? hi - first * kBlock : kBlock));
    if (last != first) INDRA_TRY(fill(last, 0, hi - last * kBlock));
  }
  const WriteLock lock{lock_};
  Bytes& b = *slot->bytes;
  const std::size_t before = b.size();
  std::size_t want = hi;
  for (const Fill& f : fills) want = std::max(want, (f.block + 1) * kBlockSize);
  if (b.empty() && lo == 0 && fills.empty()) {
    b.assign(bytes.begin(), bytes.end());  // no zeros first
  } else {
    if (b.size() < want) {
      if (b.capacity() < want && !b.empty())
        b.reserve(std::min(kChunkSize, std::max(want, 2 * b.capacity())));
      b.resize(want);
    }
    for (const Fill& f : fills) std::memcpy(b.data() + f.block * kBlockSize, f.bytes.data(), kBlockSize);
    std::memcpy(b.data() + lo, bytes.data(), bytes.size());
  }
  charge(static_cast<std::int64_t>(b.size()) - static_cast<std::int64_t>(before));
  const std::uint16_t touched = blocks_of(lo, hi);
  slot->over |= touched;
  slot->written |= touched;
  dirty_ = true;
  const std::uint64_t end = index * kChunkSize + hi;
  if (end > size_) size_ = end;
  if (slot->written == kAllBlocks && b.size() == kChunkSize && hi == kChunkSize) hand_on(index, *slot);
  return {};
}

void ContentImpl::hand_on(std::uint64_t index, Slot& slot) INDRA_NO_ANALYSIS {
  slot.kind = Slot::queued;
  if (!lane_) lane_ = store_.bytes().lane();
  charge(-static_cast<std::int64_t>(kChunkSize));
  store_.queued += kChunkSize;
  {
    const std::lock_guard lock{jobs_mutex_};
    ++jobs_;
  }
  store_.workers().run([this, index, bytes = slot.bytes] {
    // A file's only chunk has another value; that is seen to when it is staged (C2).
    auto e = store_.append(*lane_, lane_mutex_, index, false, *bytes);
    PlacedPtr mine = e ? std::make_shared<Placed>(store_, *e, true, nullptr) : nullptr;
    {
      const WriteLock lock{lock_};
      const auto it = slots_.find(index);
      if (it != slots_.end() && it->second.kind == Slot::queued && it->second.bytes == bytes) {
        if (mine) {
          it->second = Slot{Slot::placed, nullptr, 0, 0, false, std::move(mine)};
        } else {  // kept, and tried again when staged
          it->second.kind = Slot::buffer;
          it->second.over = kAllBlocks;
          it->second.written = 0;
          it->second.whole = true;
          charge(static_cast<std::int64_t>(kChunkSize));
        }
      }
    }
    mine.reset();
    {
      const std::lock_guard lock{store_.queue_mutex};
      store_.queued -= kChunkSize;
    }
    store_.queue_room.notify_all();
    const std::lock_guard lock{jobs_mutex_};
    if (!e) job_error_ = e.error();
    --jobs_;
    jobs_done_.notify_all();
  });
}

void ContentImpl::wait_for_workers() {
  store_.workers().help();
  std::unique_lock lock{jobs_mutex_};
  jobs_done_.wait(lock, [this] { return jobs_ == 0; });
}

Result<void> ContentImpl::spill(std::uint64_t index, const std::optional<BlobHash>& known) {
  INDRA_TRY(take_up(index, true));
  const auto read = [&] {
    const ReadLock lock{lock_};
    return slots_.at(index).bytes;
  };
  const std::shared_ptr<Bytes> bytes = read();
  const std::uint32_t n = chunk_length(size_, index);
  if (bytes->size() < n) {
    const WriteLock lock{lock_};
    charge(static_cast<std::int64_t>(n) - static_cast<std::int64_t>(bytes->size()));
    bytes->resize(n);
  }
  const bool root = size_ <= kChunkSize;
  auto e = n < kChunkSize && !lane_
               ? store_.append(store_.small_lane(), store_.small_mutex(), index, root,
                               ByteView{*bytes}.first(n), known)
               : store_.append(lane_ ? *lane_ : *(lane_ = store_.bytes().lane()), lane_mutex_, index, root,
                               ByteView{*bytes}.first(n), known);
  if (!e) return fail(e.error());
  const WriteLock lock{lock_};
  charge(-static_cast<std::int64_t>(bytes->size()));
  slots_[index] =
      Slot{Slot::placed, nullptr, 0, 0, false, std::make_shared<Placed>(store_, *e, true, nullptr)};
  return {};
}

Result<void> ContentImpl::take_up(std::uint64_t index, bool whole) {
  {
    const WriteLock lock{lock_};
    const auto it = slots_.find(index);
    if (it != slots_.end() && it->second.kind == Slot::buffer && it->second.over == kAllBlocks) {
      it->second.whole = it->second.whole || whole;
      return {};
    }
  }
  auto bytes = std::make_shared<Bytes>(chunk_length(size_, index));
  INDRA_TRY(read(index * kChunkSize, *bytes));
  const WriteLock lock{lock_};
  if (const auto it = slots_.find(index); it != slots_.end()) drop_slot(it);
  charge(static_cast<std::int64_t>(bytes->size()));
  const std::uint16_t written = blocks_of(0, static_cast<std::uint32_t>(bytes->size()));
  slots_[index] = Slot{Slot::buffer, std::move(bytes), kAllBlocks, written, whole, nullptr};
  return {};
}

Result<void> ContentImpl::keep_bounds(std::uint64_t spare) {
  if (store_.queued > kQueueLimit) {
    store_.workers().help();
    std::unique_lock lock{store_.queue_mutex};
    store_.queue_room.wait(lock, [this] { return store_.queued <= kQueueLimit; });
  }
  while (store_.buffered > store_.options().buffer_limit) {
    std::uint64_t victim = UINT64_MAX;
    {
      const ReadLock lock{lock_};
      for (const auto& [index, s] : slots_)
        if (s.kind == Slot::buffer && (victim == UINT64_MAX || index != spare)) victim = index;
    }
    if (victim == UINT64_MAX) return {};
    INDRA_TRY(spill(victim));
  }
  return {};
}

Result<void> ContentImpl::write(std::uint64_t at, ByteView bytes) {
  if (frozen_) return fail(EBADF);
  if (at > kMaxFileSize || bytes.size() > kMaxFileSize - at) return fail(EFBIG);
  const Gate gate{*this};
  while (!bytes.empty()) {
    const std::uint64_t index = at / kChunkSize;
    const auto lo = static_cast<std::uint32_t>(at % kChunkSize);
    const std::size_t n = std::min<std::size_t>(bytes.size(), kChunkSize - lo);
    INDRA_TRY(write_chunk(index, lo, bytes.first(n)));
    INDRA_TRY(keep_bounds(index));
    bytes = bytes.subspan(n);
    at += n;
  }
  return {};
}

Result<void> ContentImpl::truncate(std::uint64_t size) {
  if (frozen_) return fail(EBADF);
  if (size > kMaxFileSize) return fail(EFBIG);
  const Gate gate{*this};
  if (size == size_) return {};
  const std::uint64_t edge = size / kChunkSize;
  if (size < size_ && size % kChunkSize != 0) {
    bool cut = false;
    {
      const ReadLock lock{lock_};
      const auto it = slots_.find(edge);
      cut = it != slots_.end() && (it->second.kind == Slot::placed || it->second.kind == Slot::queued);
    }
    if (cut) {
      INDRA_LET(Slot* const s, buffer_for(edge, false));
      (void)s;
    }
  }
  const WriteLock lock{lock_};
  if (size < size_) {
    for (auto it = slots_.lower_bound(chunks_in(size)); it != slots_.end();) drop_slot(it++);
    if (const auto it = slots_.find(edge); it != slots_.end() && it->second.kind == Slot::buffer) {
      Bytes& b = *it->second.bytes;
      const std::size_t n = size % kChunkSize;
      if (b.size() > n) {
        charge(static_cast<std::int64_t>(n) - static_cast<std::int64_t>(b.size()));
        b.resize(n);
      }
    }
    base_limit_ = std::min(base_limit_, size);
  }
  size_ = size;
  dirty_ = true;
  return {};
}

Result<void> ContentImpl::punch(std::uint64_t at, std::uint64_t n) {
  if (frozen_) return fail(EBADF);
  const Gate gate{*this};
  if (at >= size_ || n == 0) return {};
  std::uint64_t end = n > size_ - at ? size_.load() : at + n;
  if (end == size_) end = chunks_in(end) * kChunkSize;  // the last chunk as a whole
  for (std::uint64_t index = at / kChunkSize; index * kChunkSize < end; ++index) {
    INDRA_LET(index, next_data(index));  // holes have nothing to punch
    if (index == UINT64_MAX || index * kChunkSize >= end) break;
    const std::uint64_t from = std::max(at, index * kChunkSize),
                        to = std::min<std::uint64_t>(end, (index + 1) * kChunkSize);
    if (from == index * kChunkSize && to == from + kChunkSize) {
      const WriteLock lock{lock_};
      if (const auto it = slots_.find(index); it != slots_.end()) drop_slot(it);
      if (below_has(index)) slots_[index].kind = Slot::hole;
      dirty_ = true;
      continue;
    }
    const Bytes zeros(std::min(to, size_.load()) - from);
    if (!zeros.empty()) INDRA_TRY(write_chunk(index, static_cast<std::uint32_t>(from % kChunkSize), zeros));
  }
  return {};
}

// Holes
// -------------------------------------------------------------------------------------------------------

Result<std::uint64_t> ContentImpl::next_data(std::uint64_t index) const {
  LeasePtr base;
  std::uint64_t limit = 0;
  std::map<std::uint64_t, bool> over;  // slots from index on: data or hole
  {
    const ReadLock lock{lock_};
    base = base_;
    limit = base_limit_;
    for (auto it = slots_.lower_bound(index); it != slots_.end(); ++it) {
      const Slot& s = it->second;
      // A buffer of nothing but zeros that were never written is a hole too.
      const bool data =
          s.kind == Slot::placed || s.kind == Slot::queued || (s.kind == Slot::buffer && !s.bytes->empty());
      over[it->first] = data;
      if (data) break;
    }
  }
  std::uint64_t best = UINT64_MAX;
  for (const auto& [i, data] : over)
    if (data) best = i;
  if (!base) return best;
  Manifest m;
  {
    const ReadLock lock{base->state().rw};
    if (base->state().is_inline) {
      const bool hidden = over.contains(0);
      return index == 0 && limit > 0 && !hidden ? 0 : best;
    }
    m = base->state().m;
    for (auto it = base->state().patches.lower_bound(index * kBlocks); it != base->state().patches.end();
         ++it) {
      const std::uint64_t i = it->first / kBlocks;
      if (i >= best || it->first * kBlockSize >= limit) break;
      if (!over.contains(i)) {
        best = i;
        break;
      }
    }
  }
  INDRA_TRY(each_chunk(m, index, store_.loader(), [&](std::uint64_t i, const Entry&) -> Result<bool> {
    if (i >= best || i * kChunkSize >= limit) return false;
    if (over.contains(i)) return true;
    best = i;
    return false;
  }));
  return best;
}

Result<bool> ContentImpl::has_data(std::uint64_t index) const {
  INDRA_LET(const std::uint64_t next, next_data(index));
  return next == index;
}

// Which blocks of a chunk hold data. At the edge of a hole, and at the beginning, blocks of zeros belong to
// the hole: they are what the write of another part left. Elsewhere, and where nothing but zeros was written,
// all do.
Result<std::bitset<kBlocks>> ContentImpl::data_blocks(std::uint64_t index, bool at_edge) const {
  std::bitset<kBlocks> data;
  if (at_edge) {
    Bytes bytes(kChunkSize);  // what lies behind the end of the file is not read: zeros
    INDRA_LET(const std::size_t n, read(index * kChunkSize, bytes));
    for (std::size_t i = 0; i * kBlockSize < n; ++i) {
      const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(i * kBlockSize);
      data[i] = !std::all_of(from, from + kBlockSize, [](std::byte b) { return b == std::byte{0}; });
    }
  }
  if (data.none()) data.set();
  return data;
}

Result<std::uint64_t> ContentImpl::seek(std::uint64_t at, bool hole) const {
  const std::uint64_t size = size_;
  if (at >= size) return fail(ENXIO);
  std::uint64_t index = at / kChunkSize;
  bool edge_before = index == 0;
  if (index > 0) {
    INDRA_LET(const bool data, has_data(index - 1));
    edge_before = !data;
  }
  for (; index * kChunkSize < size; ++index) {
    INDRA_LET(const std::uint64_t next, next_data(index));
    if (next != index) {
      if (hole) return std::max(at, index * kChunkSize);
      if (next == UINT64_MAX || next * kChunkSize >= size) return fail(ENXIO);
      index = next;
      edge_before = true;
    }
    bool edge_behind = false;
    if ((index + 1) * kChunkSize < size) {
      INDRA_LET(const bool data, has_data(index + 1));
      edge_behind = !data;
    }
    INDRA_LET(const auto data, data_blocks(index, edge_before || edge_behind));
    const std::uint64_t begin = index * kChunkSize;
    for (std::uint64_t i = at > begin ? (at - begin) / kBlockSize : 0; i < kBlocks; ++i) {
      const std::uint64_t found = std::max(at, begin + i * kBlockSize);
      if (found >= size) break;
      if (data[i] != hole) return found;
    }
    edge_before = false;
  }
  if (!hole) return fail(ENXIO);
  return size;
}

std::uint64_t ContentImpl::stored() const {
  const ReadLock lock{lock_};
  std::uint64_t n = 0;
  if (base_) {
    const ReadLock state{base_->state().rw};
    n = std::min(base_->state().stored, base_limit_);
  }
  for (const auto& [index, s] : slots_) {
    if (index * kChunkSize < base_limit_ && s.kind != Slot::hole) continue;
    n += s.kind == Slot::buffer ? s.bytes->size() : s.kind == Slot::hole ? 0 : chunk_length(size_, index);
  }
  return std::min<std::uint64_t>(n, size_);
}

// Sharing
// -----------------------------------------------------------------------------------------------------

Result<std::uint64_t> ContentImpl::copy_from(Content& other, std::uint64_t from_at, std::uint64_t at,
                                             std::uint64_t n) {
  if (frozen_) return fail(EBADF);
  auto& from = static_cast<ContentImpl&>(other);
  const std::uint64_t size = from.size();
  if (from_at >= size) return std::uint64_t{0};
  n = std::min(n, size - from_at);
  if (at > kMaxFileSize || n > kMaxFileSize - at) return fail(EFBIG);
  Bytes buffer;
  std::uint64_t done = 0;
  while (done < n) {
    const std::uint64_t index = (at + done) / kChunkSize, source = (from_at + done) / kChunkSize;
    const std::uint64_t piece = std::min<std::uint64_t>(n - done, kChunkSize - (at + done) % kChunkSize);
    if (piece == kChunkSize && (from_at + done) % kChunkSize == 0 && bucket_ == from.bucket_) {
      LeasePtr base;
      bool at_rest = false;
      {
        const ReadLock lock{from.lock_};
        base = from.base_;
        at_rest = base && !from.slots_.contains(source) && (source + 1) * kChunkSize <= from.base_limit_;
      }
      if (at_rest) {
        BlobState& state = base->state();
        Manifest m;
        bool plain = false;
        {
          const ReadLock lock{state.rw};
          const auto p = state.patches.lower_bound(source * kBlocks);
          plain = !state.is_inline && !state.torn.contains(source) &&
                  (p == state.patches.end() || p->first >= (source + 1) * kBlocks);
          m = state.m;
        }
        if (plain) {
          INDRA_LET(Entry e, find_chunk(m, source, store_.loader()));
          if (e.present() && e.length == kChunkSize && !e.root) {
            if (source != index) {  // the bytes are shared, never the CV (C5)
              buffer.resize(kChunkSize);
              INDRA_TRY(store_.read_entry(e, source, 0, buffer));
              e.cv = chunk_cv(index, buffer);
            }
            // Leased for itself: from here on the source's owner may not change it in place.
            INDRA_LET(LeasePtr held, store_.lease(state.id, true));
            bool still = false;
            {
              const ReadLock lock{state.rw};
              still = state.m.root == m.root;
            }
            if (still) {
              const Gate gate{*this};
              const WriteLock lock{lock_};
              if (const auto it = slots_.find(index); it != slots_.end()) drop_slot(it);
              slots_[index] = Slot{Slot::placed,
                                   nullptr,
                                   0,
                                   0,
                                   false,
                                   std::make_shared<Placed>(store_, e, false, std::move(held))};
              dirty_ = true;
              size_ = std::max(size_.load(), (index + 1) * kChunkSize);
              done += piece;
              continue;
            }
          }
        }
      }
    }
    buffer.resize(piece);
    INDRA_LET(const std::size_t got, from.read(from_at + done, buffer));
    if (got == 0) break;
    INDRA_TRY(write(at + done, ByteView{buffer}.first(got)));
    done += got;
  }
  return done;
}

}  // namespace indra::blob
