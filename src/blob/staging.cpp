// From an open file to rows: what becomes patches, what becomes chunks, what is equal to a blob already
// there.
#include <algorithm>
#include <bit>
#include <cerrno>

#include "blob/internal/content_impl.h"

namespace indra::blob {
namespace {

constexpr std::uint64_t kPatchChunk =
    kChunkSize / 4;                             // a chunk with more than this dirty is written as a whole
constexpr std::uint64_t kPatchAll = 64 * 1024;  // as little as this in all goes through the WAL
constexpr std::uint64_t kCompare = 1 << 20;     // equal hashes up to this size: the bytes are compared
constexpr std::uint64_t kCheapHoles = 4 << 20;  // zeros that are hashed while somebody waits

std::uint16_t blocks_below(std::uint32_t bytes) {
  return static_cast<std::uint16_t>((1u << ((bytes + kBlockSize - 1) / kBlockSize)) - 1);
}

// As drop_patches().
void forget_torn(std::map<std::uint64_t, Cv>& torn, std::uint64_t from, std::uint64_t to) {
  torn.erase(torn.lower_bound(from / kBlocks), torn.lower_bound((to + kBlocks - 1) / kBlocks));
}

}  // namespace

class StagedImpl final : public Content::Staged {
 public:
  StagedImpl(ContentImpl& c, Content::For how) : c_{c}, s_{c.store_}, how_{how} {}
  ~StagedImpl() override {
    if (applying_) s_.done_applying(base_->state());
    busy_.reset();
    fresh_lease_.reset();
    c_.open_gate();
  }
  // Not analysed: the gate that stage() closed keeps the slots as they are; no lock is needed to look at
  // them.
  Result<void> prepare() INDRA_NO_ANALYSIS;
  Result<BlobInfo> apply(Tx& tx, bool in_place) override;
  bool needs_content_sync() const override { return !appended_.empty() && kind_ == Kind::tree; }
  void accept() override INDRA_NO_ANALYSIS;

 private:
  enum class Kind { same, empty, twin, inline_row, tree };
  Result<void> cut_edges() INDRA_NO_ANALYSIS;
  Result<void> find_places() INDRA_NO_ANALYSIS;
  Result<void> collect_changes() INDRA_NO_ANALYSIS;
  Result<void> take_slot(std::uint64_t index, bool patches_do,
                         std::vector<Change>& changes) INDRA_NO_ANALYSIS;
  [[nodiscard]] bool torn(std::uint64_t index) const;
  Result<void> make_patches(std::uint64_t index, std::uint16_t blocks, const Bytes& bytes,
                            const Entry& under);
  Result<void> forget_patches(std::uint64_t from_block, std::uint64_t to_block);
  [[nodiscard]] bool is_gone(std::uint64_t block) const;
  Result<void> find_hash();
  Result<void> find_twin();
  Result<void> write_patches(Tx&, BlobId);
  Result<BlobInfo> apply_in_place(Tx&, const Standing&);
  Result<BlobInfo> apply_new(Tx&, const std::optional<Standing>&) INDRA_NO_ANALYSIS;
  Result<void> share(Tx&, std::int64_t family);
  Bytes root_data(const Manifest& m) const { return encode_page(*m.root, hash_ && size_ <= kChunkSize); }
  Patches patches_after() const INDRA_NO_ANALYSIS;
  [[nodiscard]] std::optional<std::int64_t> stored_column() const {
    return stored_ == size_ ? std::nullopt : std::optional{static_cast<std::int64_t>(stored_)};
  }

  ContentImpl& c_;
  Store& s_;
  const Content::For how_;
  Kind kind_ = Kind::same;
  LeasePtr base_;
  std::unique_ptr<Busy> busy_;
  bool fresh_ = true;  // nothing of the base is in the new content
  std::uint64_t size_ = 0, limit_ = 0, stored_ = 0;
  Manifest below_;
  bool was_inline_ = false;
  std::optional<BlobHash> old_hash_, hash_;
  std::optional<BlobHash> whole_;  // of a new file of one chunk, before it is written
  std::uint64_t old_stored_ = 0;
  Bytes inline_;
  bool tree_changes_ = false;
  Draft draft_;
  std::vector<Entry> appended_;
  std::vector<LeasePtr> sources_;
  std::set<std::uint64_t> places_;  // of chunks, when some are shared: no content has one twice (C12)
  std::vector<std::pair<std::uint64_t, SharedBytes>> patches_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> gone_;  // ranges of blocks
  LeasePtr twin_;

  bool applying_ = false;
  bool in_place_ = false;
  Manifest result_;
  LeasePtr fresh_lease_;
};

Result<std::unique_ptr<Content::Staged>> ContentImpl::stage(For how) {
  if (frozen_) return fail(EBADF);
  Gate gate{*this};
  wait_for_workers();
  {
    const std::lock_guard lock{jobs_mutex_};
    job_error_.reset();  // what failed is a buffer again, and tried now
  }
  gate.pass_on();
  auto staged = std::make_unique<StagedImpl>(*this, how);
  INDRA_TRY(staged->prepare());
  return staged;
}

// Stage
// -------------------------------------------------------------------------------------------------------

Result<void> StagedImpl::prepare() {
  size_ = c_.size_;
  base_ = c_.base_;
  limit_ = c_.base_limit_;
  if (!c_.dirty_) return {};
  if (size_ == 0) {
    kind_ = Kind::empty;
    hash_ = BlobHash::of({});
    return {};
  }
  below_ = {0, std::make_shared<Page>()};
  if (base_) {
    busy_ = s_.take_staging(base_->pointer());
    const ReadLock lock{base_->state().rw};
    fresh_ = limit_ == 0;
    was_inline_ = base_->state().is_inline;
    old_hash_ = base_->state().hash;
    old_stored_ = base_->state().stored;
    if (!fresh_ && !was_inline_) below_ = base_->state().m;
  }
  if (size_ <= kInlineLimit) {
    kind_ = Kind::inline_row;
    inline_.resize(size_);
    INDRA_TRY(c_.read(0, inline_));
    hash_ = BlobHash::of(inline_);
    stored_ = size_;
    INDRA_TRY(s_.ensure_ids(16));
    return find_twin();
  }
  kind_ = Kind::tree;
  if (how_ == Content::For::publish && fresh_ && size_ <= kChunkSize) {
    // Small and new: an equal blob is found before anything is written.
    const auto it = c_.slots_.find(0);
    if (it != c_.slots_.end() && it->second.kind == Slot::buffer && it->second.bytes->size() == size_) {
      hash_ = whole_ = BlobHash::of(*it->second.bytes);
      INDRA_TRY(find_twin());
      if (kind_ == Kind::twin) return {};
      INDRA_TRY(collect_changes());
      return find_hash();
    }
  }
  INDRA_TRY(cut_edges());
  INDRA_TRY(collect_changes());
  INDRA_TRY(find_hash());
  return hash_ && how_ == Content::For::publish ? find_twin() : Result<void>{};
}

/// Chunks whose bytes stay but whose shape changes are taken up as a whole.
Result<void> StagedImpl::cut_edges() {
  if (fresh_) return {};
  if (was_inline_) return c_.take_up(0, false);
  const auto rewrite = [&](std::uint64_t index) INDRA_NO_ANALYSIS -> Result<void> {
    if (index * kChunkSize >= size_) return {};
    const auto it = c_.slots_.find(index);
    if (it != c_.slots_.end() && it->second.kind != Slot::buffer) return {};
    INDRA_LET(const bool data, c_.has_data(index));
    return data ? c_.take_up(index, true) : Result<void>{};
  };
  if (limit_ < below_.size && limit_ % kChunkSize != 0) INDRA_TRY(rewrite(limit_ / kChunkSize));
  if ((below_.size <= kChunkSize) != (size_ <= kChunkSize)) INDRA_TRY(rewrite(0));
  // A last chunk that has grown by zeros.
  if (size_ > limit_ && limit_ % kChunkSize != 0 && !c_.slots_.contains(limit_ / kChunkSize))
    INDRA_TRY(rewrite(limit_ / kChunkSize));
  return {};
}

bool StagedImpl::is_gone(std::uint64_t block) const {
  return std::any_of(gone_.begin(), gone_.end(),
                     [&](const auto& g) { return block >= g.first && block < g.second; });
}

Result<void> StagedImpl::make_patches(std::uint64_t index, std::uint16_t blocks, const Bytes& bytes,
                                      const Entry& under) {
  const std::uint32_t logical = chunk_length(size_, index);
  for (std::uint32_t b = 0; b < kBlocks; ++b) {
    if ((blocks >> b & 1) == 0) continue;
    const std::uint32_t from = b * static_cast<std::uint32_t>(kBlockSize);
    auto data = std::make_shared<Bytes>(std::min<std::uint32_t>(kBlockSize, logical - from));
    if (from < bytes.size())
      std::memcpy(data->data(), bytes.data() + from, std::min(data->size(), bytes.size() - from));
    if (from >= under.length) {
      stored_ += data->size();
      if (base_ && !fresh_ && !was_inline_) {
        BlobState& state = base_->state();
        const ReadLock lock{state.rw};
        const auto it = state.patches.find(index * kBlocks + b);
        if (it != state.patches.end() && !is_gone(it->first)) stored_ -= it->second->size();
      }
    }
    patches_.emplace_back(index * kBlocks + b, std::move(data));
  }
  return {};
}

Result<void> StagedImpl::forget_patches(std::uint64_t from, std::uint64_t to) {
  if (!base_ || was_inline_) return {};
  bool any = false;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> sizes;  // of those that stored_ counts
  {
    BlobState& state = base_->state();
    const ReadLock lock{state.rw};
    for (auto it = state.patches.lower_bound(from); it != state.patches.end() && it->first < to; ++it) {
      any = true;
      if (!fresh_ && !is_gone(it->first)) sizes.emplace_back(it->first, it->second->size());
    }
  }
  if (any) gone_.emplace_back(from, to);
  for (const auto& [block, n] : sizes) {
    INDRA_LET(const Entry under, find_chunk(below_, block / kBlocks, s_.loader()));
    if (block % kBlocks * kBlockSize >= under.length) stored_ -= n;
  }
  return {};
}

/// A fold began to overwrite the chunk: what it has to become is known, and must not change (C23).
bool StagedImpl::torn(std::uint64_t index) const {
  if (!base_ || fresh_ || was_inline_) return false;
  const ReadLock lock{base_->state().rw};
  return base_->state().torn.contains(index);
}

Result<void> StagedImpl::take_slot(std::uint64_t index, bool patches_do, std::vector<Change>& changes) {
  Slot* slot = &c_.slots_.at(index);
  const std::uint32_t logical = chunk_length(size_, index);
  const bool root = size_ <= kChunkSize;
  if (logical == 0) return {};
  const Placed* const place = slot->place.get();
  if (place != nullptr && (place->e.length != logical || place->e.root != root ||
                           (!place->mine && !places_.insert(place->e.where).second))) {
    INDRA_TRY(c_.take_up(index, true));
    slot = &c_.slots_.at(index);
  }
  if (slot->kind == Slot::buffer) {
    INDRA_LET(Entry under, find_chunk(below_, index, s_.loader()));
    if (index >= chunks_in(limit_)) under = {};  // cut off meanwhile
    const std::uint16_t mask = under.present() ? slot->over : slot->written;
    const auto blocks = static_cast<std::uint16_t>(mask & blocks_below(logical));
    if (slot->over == 0 || (blocks == 0 && !slot->whole && !under.present())) return {};
    const std::uint64_t n = static_cast<std::uint64_t>(std::popcount(blocks)) * kBlockSize;
    const bool as_patches =
        !torn(index) &&
        (how_ == Content::For::sync ? patches_do || n <= kPatchChunk
                                    : !fresh_ && size_ > kChunkSize && under.present() && n <= kPatchChunk);
    if (as_patches && !slot->whole) return make_patches(index, blocks, *slot->bytes, under);
    INDRA_TRY(c_.spill(index, whole_));
    slot = &c_.slots_.at(index);
  }
  INDRA_TRY(forget_patches(index * kBlocks, (index + 1) * kBlocks));
  if (slot->kind == Slot::hole) {
    changes.push_back({index, {}});
    return {};
  }
  const Placed& p = *slot->place;
  changes.push_back({index, p.e});
  stored_ += p.e.length;
  if (p.mine)
    appended_.push_back(p.e);
  else
    sources_.push_back(p.source);
  return {};
}

/// Those of the base that stay. Who is alone frees and overwrites what it lets go: so a chunk that would
/// stand in a second place is copied.
Result<void> StagedImpl::find_places() {
  const auto shared = [](const auto& s) { return s.second.place && !s.second.place->mine; };
  if (fresh_ || was_inline_ || std::ranges::none_of(c_.slots_, shared)) return {};
  const auto note = [&](std::uint64_t i, const Entry& e) INDRA_NO_ANALYSIS -> Result<bool> {
    const auto it = c_.slots_.find(i);  // a buffer may become patches over it
    if (it == c_.slots_.end() || it->second.kind == Slot::buffer) places_.insert(e.where);
    return true;
  };
  return each_chunk(below_, 0, s_.loader(), note);
}

Result<void> StagedImpl::collect_changes() {
  stored_ = fresh_ || was_inline_ ? 0 : old_stored_;
  std::uint64_t dirty = 0;
  std::vector<std::uint64_t> indices;
  for (const auto& [index, slot] : c_.slots_) {
    indices.push_back(index);
    if (slot.kind == Slot::buffer)
      dirty += static_cast<std::uint64_t>(std::popcount(slot.over)) * kBlockSize;
    else
      dirty += kChunkSize;
  }
  if (!fresh_ && limit_ < below_.size)
    INDRA_TRY(forget_patches((limit_ + kBlockSize - 1) / kBlockSize, UINT64_MAX >> 1));
  INDRA_TRY(find_places());
  std::vector<Change> changes;
  for (const std::uint64_t index : indices) INDRA_TRY(take_slot(index, dirty <= kPatchAll, changes));
  tree_changes_ = fresh_ || was_inline_ || !changes.empty() || size_ != below_.size || limit_ < below_.size;
  INDRA_TRY(s_.ensure_ids(changes.size() * 4 + 64));
  if (!tree_changes_) return {};
  // What a truncation cut off goes first: growing again must not show it.
  Manifest from = below_;
  if (limit_ < below_.size && size_ > limit_) {
    std::vector<Change> holes;
    INDRA_TRY(each_chunk(below_, chunks_in(limit_), s_.loader(),
                         [&](std::uint64_t i, const Entry&) -> Result<bool> {
                           if (i >= chunks_in(size_)) return false;
                           holes.push_back({i, {}});
                           return true;
                         }));
    for (const Change& h : holes) {
      const auto it = std::lower_bound(changes.begin(), changes.end(), h.index,
                                       [](const Change& c, std::uint64_t i) { return c.index < i; });
      if (it == changes.end() || it->index != h.index) changes.insert(it, h);
    }
  }
  INDRA_LET(draft_, edit(from, size_, changes, s_.loader()));
  for (const Entry& e : draft_.dropped) stored_ -= e.length;
  return {};
}

Result<void> StagedImpl::find_hash() {
  if (!patches_.empty()) return {};
  if (base_ && !fresh_ && !was_inline_) {
    const ReadLock lock{base_->state().rw};
    for (const auto& [block, data] : base_->state().patches)
      if (!is_gone(block)) return {};
  }
  if (!tree_changes_) {
    hash_ = old_hash_;
    return {};
  }
  if (size_ <= kChunkSize && appended_.size() == 1 && appended_[0].root) {
    hash_ = BlobHash::from_digest(appended_[0].cv.bytes);
    return {};
  }
  const PageSink preview{
      1, [n = std::uint64_t{0}](std::uint64_t, std::uint64_t, ByteView) mutable -> Result<std::uint64_t> {
        return ++n;
      }};
  INDRA_LET(const Manifest m, write_draft(draft_, preview));
  auto h = s_.hash_manifest(m, {}, nullptr, kCheapHoles);
  if (h) hash_ = *h;  // else: pending, or a damaged chunk that this change does not touch
  return {};
}

Result<void> StagedImpl::find_twin() {
  INDRA_LET(const BlobId id, s_.writer().read([&](Tx& tx) { return s_.find_hash(tx, c_.bucket_, *hash_); }));
  if (!id || (base_ && id == base_->state().id) || size_ > kCompare) return {};
  auto lease = s_.lease(id, true);
  if (!lease) return {};
  Bytes ours(size_), theirs(size_);
  {
    const ReadLock lock{(*lease)->state().rw};
    if ((*lease)->state().m.size != size_) return {};
  }
  INDRA_TRY(c_.read(0, ours));
  if (!s_.read_blob((*lease)->state(), 0, theirs) || ours != theirs)
    return {};  // a damaged blob swallows nothing
  twin_ = std::move(*lease);
  kind_ = Kind::twin;
  return {};
}

// Apply
// -------------------------------------------------------------------------------------------------------

Result<BlobInfo> StagedImpl::apply(Tx& tx, bool in_place) {
  if (kind_ == Kind::same) return s_.info(tx, base_ ? base_->state().id : BlobId{});
  if (kind_ == Kind::empty) return s_.info(tx, BlobId{});
  if (kind_ == Kind::twin) return s_.info(tx, twin_->state().id);
  std::optional<Standing> standing;
  if (base_ && !fresh_ && (kind_ == Kind::tree || was_inline_)) {
    INDRA_LET(standing, s_.standing(tx, base_->state().id));
    if (in_place && standing->refs <= 1 && !applying_) applying_ = s_.begin_applying(base_->state());
  }
  in_place_ = in_place && applying_ && standing->refs <= 1;
  return in_place_ ? apply_in_place(tx, *standing) : apply_new(tx, standing);
}

Result<void> StagedImpl::write_patches(Tx& tx, BlobId id) {
  for (const auto& [from, to] : gone_) INDRA_TRY(s_.drop_patches(tx, id, from, to));
  for (const auto& [block, data] : patches_) INDRA_TRY(s_.put_patch(tx, id, block, *data));
  return {};
}

/// Chunks shared from other blobs: from now on one family, and nobody's own.
Result<void> StagedImpl::share(Tx& tx, std::int64_t family) {
  for (const LeasePtr& l : sources_) {
    INDRA_LET(const Standing s, s_.standing(tx, l->state().id));
    INDRA_TRY(s_.merge_families(tx, s.family, family));
    INDRA_TRY(Statement(tx, "UPDATE blobs SET owner = ?2 WHERE id = ?1")
                  .bind(1, l->state().id)
                  .bind(2, static_cast<std::int64_t>(s_.next_id()))
                  .run());
  }
  return {};
}

Result<BlobInfo> StagedImpl::apply_in_place(Tx& tx, const Standing& own) {
  const BlobId id = base_->state().id;
  BlobInfo info{id, size_, hash_, stored_, own.refs};
  if (kind_ == Kind::tree && !tree_changes_) {
    if (old_hash_ != hash_ || stored_ != old_stored_)
      INDRA_TRY(Statement(tx, "UPDATE blobs SET hash = NULL, twin = 0, stored = ?2, data = ?3 WHERE id = ?1")
                    .bind(1, id)
                    .bind(2, stored_column())
                    .bind_blob(3, encode_page(*below_.root))
                    .run());
    result_ = below_;
    INDRA_TRY(write_patches(tx, id));
    return info;
  }
  std::int64_t twin = 0;
  if (hash_) {
    INDRA_LET(const BlobId equal, s_.find_hash(tx, c_.bucket_, *hash_));
    twin = equal && equal != id ? 1 : 0;
  }
  Bytes data;
  if (kind_ == Kind::tree) {
    INDRA_LET(result_, write_draft(draft_, s_.page_sink(tx, &own, static_cast<std::uint64_t>(own.owner))));
    INDRA_TRY(s_.let_go(tx, own, draft_.dropped));
    for (const auto& [page, birth] : draft_.dropped_pages) INDRA_TRY(s_.let_go_page(tx, own, page, birth));
    INDRA_TRY(s_.refer(tx, appended_));
    INDRA_TRY(share(tx, own.family));
    data = root_data(result_);
  }
  const ByteView bytes = kind_ == Kind::tree ? ByteView{data} : ByteView{inline_};
  Statement q{
      tx,
      "UPDATE blobs SET size = ?2, stored = ?3, hash = ?4, twin = ?5, form = ?6, data = ?7 WHERE id = ?1"};
  q.bind(1, id)
      .bind(2, static_cast<std::int64_t>(size_))
      .bind(3, stored_column())
      .bind(5, twin)
      .bind(6, std::int64_t{kind_ == Kind::tree})
      .bind_blob(7, bytes);
  if (hash_)
    q.bind_blob(4, hash_->bytes());
  else
    q.bind(4, nullptr);
  INDRA_TRY(q.run());
  INDRA_TRY(write_patches(tx, id));
  return info;
}

Result<BlobInfo> StagedImpl::apply_new(Tx& tx, const std::optional<Standing>& base) {
  const BlobId id{static_cast<std::int64_t>(s_.next_id())};
  const bool shares = base && kind_ == Kind::tree && !was_inline_;
  std::int64_t family = id.raw();
  Bytes data;
  if (shares) {
    family = base->family;
    s_.disturb(family);
    // What the base holds is no longer its own.
    INDRA_TRY(Statement(tx, "UPDATE blobs SET owner = ?2 WHERE id = ?1")
                  .bind(1, base_->state().id)
                  .bind(2, static_cast<std::int64_t>(s_.next_id()))
                  .run());
  }
  if (kind_ == Kind::tree) {
    if (tree_changes_) {
      INDRA_LET(result_,
                write_draft(draft_, s_.page_sink(tx, nullptr, static_cast<std::uint64_t>(id.raw()))));
    } else {
      result_ = below_;
    }
    INDRA_TRY(s_.refer(tx, appended_));
    data = root_data(result_);
  }
  std::int64_t twin = 0;
  if (hash_) {
    INDRA_LET(const BlobId equal, s_.find_hash(tx, c_.bucket_, *hash_));
    twin = equal ? 1 : 0;
  }
  {
    Statement q{tx,
                "INSERT INTO blobs(id, bucket, family, refs, size, stored, hash, twin, form, data) "
                "VALUES(?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9)"};
    q.bind(1, id)
        .bind(2, c_.bucket_)
        .bind(4, static_cast<std::int64_t>(size_))
        .bind(5, stored_column())
        .bind(7, twin)
        .bind(8, std::int64_t{kind_ == Kind::tree})
        .bind_blob(9, kind_ == Kind::tree ? ByteView{data} : ByteView{inline_});
    if (shares)
      q.bind(3, family);
    else
      q.bind(3, nullptr);
    if (hash_)
      q.bind_blob(6, hash_->bytes());
    else
      q.bind(6, nullptr);
    INDRA_TRY(q.run());
  }
  INDRA_TRY(share(tx, family));
  if (shares)
    INDRA_TRY(
        Statement(tx, "INSERT INTO folds(blob, chunk, cv) SELECT ?2, chunk, cv FROM folds WHERE blob = ?1")
            .bind(1, base_->state().id)
            .bind(2, id)
            .run());
  if (shares)
    INDRA_TRY(Statement(tx,
                        "INSERT INTO patches(blob, block, seal, data) SELECT ?2, block, seal, data FROM "
                        "patches WHERE blob = ?1")
                  .bind(1, base_->state().id)
                  .bind(2, id)
                  .run());
  if (kind_ == Kind::tree) INDRA_TRY(write_patches(tx, id));

  auto state = std::make_shared<BlobState>(id);  // nobody else's yet: not locked, since a Tx is held
  state->bucket = c_.bucket_;
  state->m = kind_ == Kind::tree ? result_ : Manifest{size_, std::make_shared<Page>()};
  state->hash = hash_;
  state->is_inline = kind_ == Kind::inline_row;
  if (state->is_inline) state->inline_data = inline_;
  state->stored = stored_;
  // Whoever finds the row opens it before accept(). The base's stay as they are: it is staged, and not alone.
  state->patches = patches_after();
  if (shares) state->torn = base_->state().torn;
  for (const auto& [from, to] : gone_) forget_torn(state->torn, from, to);
  fresh_lease_ = s_.adopt(std::move(state));
  return BlobInfo{id, size_, hash_, stored_, 0};
}

// Accept
// ------------------------------------------------------------------------------------------------------

Patches StagedImpl::patches_after() const {
  Patches p;
  if (kind_ != Kind::tree) return p;
  if (base_ && !fresh_ && !was_inline_) p = base_->state().patches;
  for (const auto& [from, to] : gone_) p.erase(p.lower_bound(from), p.lower_bound(to));
  for (const auto& [block, data] : patches_) p[block] = data;
  return p;
}

void StagedImpl::accept() {
  if (kind_ == Kind::same) return;
  LeasePtr next = base_;
  if (kind_ == Kind::twin) {
    next = twin_;
  } else if (kind_ == Kind::empty) {
    next = nullptr;
  } else if (!in_place_) {
    next = fresh_lease_;
  } else {
    BlobState& state = base_->state();
    const WriteLock lock{state.rw};
    for (const auto& [from, to] : gone_) {
      state.patches.erase(state.patches.lower_bound(from), state.patches.lower_bound(to));
      forget_torn(state.torn, from, to);
    }
    for (auto& [block, data] : patches_) state.patches[block] = data;
    state.m = kind_ == Kind::tree ? result_ : Manifest{size_, std::make_shared<Page>()};
    state.is_inline = kind_ == Kind::inline_row;
    state.inline_data = inline_;
    state.hash = hash_;
    state.stored = stored_;
    ++state.version;
  }
  if (next && kind_ == Kind::tree) {
    const ReadLock lock{next->state().rw};
    if (!next->state().patches.empty())
      s_.note_patched(next->state().id, next->state().patches.size() * kBlockSize);
  }
  std::map<std::uint64_t, Slot> slots;
  LeasePtr before;
  {
    const WriteLock lock{c_.lock_};
    slots.swap(c_.slots_);
    before = std::move(c_.base_);
    c_.base_ = next;
    c_.base_limit_ = size_;
    c_.charge(-static_cast<std::int64_t>(c_.held_.load()));
    c_.dirty_ = false;
    ++c_.accepted_;
  }
  if (kind_ == Kind::tree)
    for (auto& [index, slot] : slots)
      if (slot.place && slot.place->mine) {
        slot.place->kept = true;
        s_.settle(slot.place->e);
      }
  if (applying_) s_.done_applying(base_->state());
  applying_ = false;
  kind_ = Kind::same;
}

}  // namespace indra::blob
