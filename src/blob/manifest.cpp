#include "blob/internal/manifest.h"

#include <algorithm>
#include <bit>

namespace indra::blob {
namespace {

constexpr std::size_t kHeader = 12;  // version, flags, 2 bytes zero, bitmap
constexpr std::size_t kWithCv = 48, kWithoutCv = 16;
constexpr std::uint8_t kVersion = 1, kOmitCv = 1;
constexpr std::uint64_t kBirthMask = (1ull << 40) - 1;

std::uint64_t chunks_below(int height) {  // a page of `height`
  std::uint64_t n = 1;
  for (int i = 0; i < height; ++i) n *= kFanout;
  return n;
}

bool known(const Cv& cv) { return cv != Cv{}; }

}  // namespace

PagePtr Page::child(std::size_t i) const {
  const MutexLock lock{mutex_};
  return i < children_.size() ? children_[i] : nullptr;
}
void Page::remember(std::size_t i, PagePtr page) const {
  const MutexLock lock{mutex_};
  if (children_.size() <= i) children_.resize(std::max(i + 1, entries.size()));
  children_[i] = std::move(page);
}

std::uint64_t chunks_in(std::uint64_t size) { return (size + kChunkSize - 1) / kChunkSize; }
int height_of(std::uint64_t size) {
  int h = 1;
  for (std::uint64_t n = kFanout; n < chunks_in(size); n *= kFanout) ++h;
  return h;
}
int Manifest::height() const { return height_of(size); }
std::uint64_t span_of(int height) { return chunks_below(height - 1); }
std::uint32_t chunk_length(std::uint64_t size, std::uint64_t index) {
  const std::uint64_t at = index * kChunkSize;
  return at >= size ? 0 : static_cast<std::uint32_t>(std::min<std::uint64_t>(kChunkSize, size - at));
}
bool cv_fits(const Entry& e, std::uint64_t size, std::uint64_t index) {
  return e.present() && e.length == chunk_length(size, index) && e.root == (size <= kChunkSize);
}

Bytes encode_page(const Page& page, bool omit_cv) {
  std::uint64_t bitmap = 0;
  for (std::size_t i = 0; i < page.entries.size(); ++i)
    if (page.entries[i].present()) bitmap |= 1ull << i;
  const std::size_t each = omit_cv ? kWithoutCv : kWithCv;
  Bytes out(kHeader + each * static_cast<std::size_t>(std::popcount(bitmap)));
  out[0] = std::byte{kVersion};
  out[1] = std::byte{omit_cv ? kOmitCv : std::uint8_t{0}};
  store_le(out.data() + 4, bitmap);
  std::byte* p = out.data() + kHeader;
  for (const Entry& e : page.entries) {
    if (!e.present()) continue;
    if (!omit_cv) {
      std::memcpy(p, e.cv.bytes.data(), 32);
      p += 32;
    }
    store_le(p, e.where);
    store_le(p + 8, (e.birth & kBirthMask) | static_cast<std::uint64_t>(e.length - 1) << 40 |
                        (e.root ? 1ull << 63 : 0));
    p += 16;
  }
  return out;
}

Result<Page*> decode_page(ByteView data, const std::optional<BlobHash>& hash, Page& into) {
  if (data.size() < kHeader) return fail(Errc::corrupt, "manifest page: too short");
  if (std::to_integer<std::uint8_t>(data[0]) != kVersion) return fail(Errc::newer_format, "manifest page");
  const auto flags = std::to_integer<std::uint8_t>(data[1]);
  const bool omitted = (flags & kOmitCv) != 0;
  if ((flags & ~kOmitCv) != 0) return fail(Errc::newer_format, "manifest page: flags");
  const auto bitmap = load_le<std::uint64_t>(data.data() + 4);
  const auto count = static_cast<std::size_t>(std::popcount(bitmap));
  if (data.size() != kHeader + count * (omitted ? kWithoutCv : kWithCv) || (omitted && !hash))
    return fail(Errc::corrupt, "manifest page: wrong length");
  into.entries.assign(static_cast<std::size_t>(64 - std::countl_zero(bitmap)), Entry{});
  const std::byte* p = data.data() + kHeader;
  for (std::size_t i = 0; i < into.entries.size(); ++i) {
    if ((bitmap >> i & 1) == 0) continue;
    Entry& e = into.entries[i];
    if (omitted) {
      std::memcpy(e.cv.bytes.data(), hash->bytes().data(), 32);
    } else {
      std::memcpy(e.cv.bytes.data(), p, 32);
      p += 32;
    }
    e.where = load_le<std::uint64_t>(p);
    const auto packed = load_le<std::uint64_t>(p + 8);
    p += 16;
    e.birth = packed & kBirthMask;
    e.length = static_cast<std::uint32_t>(packed >> 40 & 0xFFFF) + 1;
    e.root = packed >> 63 != 0;
    if ((packed >> 56 & 0x7F) != 0) return fail(Errc::newer_format, "manifest page: codec");
  }
  return &into;
}

Result<PagePtr> load_child(const Page& page, std::size_t i, const PageLoader& load) {
  if (PagePtr known_page = page.child(i)) return known_page;
  INDRA_LET(PagePtr loaded, load(page.entries[i].where));
  page.remember(i, loaded);
  return loaded;
}

Result<Entry> find_chunk(const Manifest& m, std::uint64_t index, const PageLoader& load) {
  PagePtr page = m.root;
  for (int h = m.height(); h > 1; --h) {
    const std::uint64_t i = index / span_of(h);
    if (i >= kFanout || !page->at(i).present()) return Entry{};
    INDRA_LET(PagePtr next, load_child(*page, i, load));
    page = std::move(next);
    index %= span_of(h);
  }
  return index < kFanout ? page->at(index) : Entry{};
}

namespace {
using Seen = std::function<Result<bool>(std::uint64_t, const Entry&)>;
Result<bool> each_below(const Page& page, int height, std::uint64_t base, std::uint64_t first,
                        const PageLoader& load, const Seen& see) {
  const std::uint64_t span = span_of(height);
  for (std::size_t i = 0; i < page.entries.size(); ++i) {
    const std::uint64_t at = base + i * span;
    if (!page.entries[i].present() || at + span <= first) continue;
    bool go_on = true;
    if (height == 1) {
      INDRA_LET(go_on, see(at, page.entries[i]));
    } else {
      INDRA_LET(const PagePtr below, load_child(page, i, load));
      INDRA_LET(go_on, each_below(*below, height - 1, at, first, load, see));
    }
    if (!go_on) return false;
  }
  return true;
}

Result<void> walk_below(const Page& page, int height, const PageLoader& load,
                        const std::function<bool(std::uint64_t)>& on_page,
                        const std::function<void(const Entry&)>& chunk) {
  for (std::size_t i = 0; i < page.entries.size(); ++i) {
    if (!page.entries[i].present()) continue;
    if (height == 1) {
      chunk(page.entries[i]);
    } else if (on_page(page.entries[i].where)) {
      PagePtr below = page.child(i);
      if (!below) {
        INDRA_LET(below, load(page.entries[i].where));
      }
      INDRA_TRY(walk_below(*below, height - 1, load, on_page, chunk));
    }
  }
  return {};
}
}  // namespace

Result<void> each_chunk(const Manifest& m, std::uint64_t first, const PageLoader& load, const Seen& see) {
  INDRA_TRY(each_below(*m.root, m.height(), 0, first, load, see));
  return {};
}
Result<void> walk(const Manifest& m, const PageLoader& load, const std::function<bool(std::uint64_t)>& page,
                  const std::function<void(const Entry&)>& chunk) {
  return walk_below(*m.root, m.height(), load, page, chunk);
}

// Editing
// -----------------------------------------------------------------------------------------------------

namespace {

class Editor {
 public:
  Editor(Draft& draft, const PageLoader& load) : draft_{draft}, load_{load}, end_{chunks_in(draft.size)} {}

  /// Everything below `page` leaves the blob.
  Result<void> drop_below(const Page& page, int height) {
    for (std::size_t i = 0; i < page.entries.size(); ++i)
      if (page.entries[i].present()) INDRA_TRY(drop(page, i, height));
    return {};
  }
  Result<void> drop(const Page& page, std::size_t i, int height) {
    const Entry& e = page.entries[i];
    if (height == 1) {
      draft_.dropped.push_back(e);
      return {};
    }
    INDRA_LET(const PagePtr below, load_child(page, i, load_));
    if (e.where != 0) draft_.dropped_pages.emplace_back(e.where, e.birth);
    return drop_below(*below, height - 1);
  }

  Result<std::unique_ptr<Draft::Node>> node(const Page& page, int height, std::uint64_t base,
                                            std::span<const Change> changes) {
    auto out = std::make_unique<Draft::Node>();
    out->entries = page.entries;
    const std::uint64_t span = span_of(height);
    const std::uint64_t keep =
        end_ > base ? std::min<std::uint64_t>(kFanout, (end_ - base + span - 1) / span) : 0;
    for (std::size_t i = keep; i < out->entries.size(); ++i)
      if (out->entries[i].present()) INDRA_TRY(drop(page, i, height));
    if (out->entries.size() > keep) out->entries.resize(keep);
    if (height > 1) {
      out->kept.resize(kFanout);
      for (std::size_t i = 0; i < out->entries.size(); ++i) out->kept[i] = page.child(i);
    }
    if (height == 1) {
      for (const Change& c : changes) put_chunk(*out, c.index - base, c.entry);
    } else {
      INDRA_TRY(put_pages(*out, page, height, base, changes));
    }
    while (!out->entries.empty() && !out->entries.back().present()) out->entries.pop_back();
    return out;
  }

 private:
  void put_chunk(Draft::Node& out, std::size_t i, const Entry& e) {
    if (i >= out.entries.size()) out.entries.resize(i + 1);
    if (out.entries[i].present() && out.entries[i].where != e.where) draft_.dropped.push_back(out.entries[i]);
    // The same bytes under a new CV (folded in place) keep their birth.
    const bool same = out.entries[i].present() && out.entries[i].where == e.where;
    const std::uint64_t birth = out.entries[i].birth;
    out.entries[i] = e;
    if (same) out.entries[i].birth = birth;
    // A chunk shared from elsewhere brings its birth along: it is nobody's own.
    if (e.present() && !same && e.birth == 0)
      out.fresh |= 1ull << i;
    else
      out.fresh &= ~(1ull << i);
  }

  Result<void> put_pages(Draft::Node& out, const Page& page, int height, std::uint64_t base,
                         std::span<const Change> changes) {
    const std::uint64_t span = span_of(height);
    static const Page empty;
    for (std::size_t i = 0; i < kFanout; ++i) {
      const std::uint64_t from = base + i * span, to = from + span;
      std::size_t n = 0;
      while (n < changes.size() && changes[n].index < to) ++n;
      const auto mine = changes.first(n);
      changes = changes.subspan(n);
      const bool present = i < out.entries.size() && out.entries[i].present();
      const bool cut = present && to > end_;                      // the right edge may lose something
      const bool unsaved = present && out.entries[i].where == 0;  // was a root: becomes a row
      if (mine.empty() && !cut && !unsaved) continue;
      const Entry old = present ? out.entries[i] : Entry{};
      PagePtr below;
      if (present) {
        INDRA_LET(below, load_child(page, i, load_));
      }
      const std::size_t dropped = draft_.dropped.size() + draft_.dropped_pages.size();
      INDRA_LET(auto kid, node(below ? *below : empty, height - 1, from, mine));
      const bool same =
          mine.empty() && !unsaved && dropped == draft_.dropped.size() + draft_.dropped_pages.size();
      if (same) continue;
      if (kid->entries.empty()) {
        if (old.where != 0) draft_.dropped_pages.emplace_back(old.where, old.birth);
        if (present) out.entries[i] = Entry{};
        continue;
      }
      if (i >= out.entries.size()) out.entries.resize(i + 1);
      kid->old_id = old.where;
      kid->old_birth = old.birth;
      out.entries[i].length = 1;
      out.changed.emplace_back(i, std::move(kid));
    }
    return {};
  }

  Draft& draft_;
  const PageLoader& load_;
  std::uint64_t end_;
};

/// The CV of a whole subtree when all of it is there and known.
Cv cv_of(const std::vector<Entry>& entries, int height) {
  if (entries.size() != kFanout) return {};
  std::array<Cv, kFanout> cvs;
  for (std::size_t i = 0; i < kFanout; ++i) {
    const Entry& e = entries[i];
    if (!e.present() || e.root || !known(e.cv) || (height == 1 && e.length != kChunkSize)) return {};
    cvs[i] = e.cv;
  }
  return join(cvs);
}

Result<PagePtr> write_node(const Draft::Node& n, int height, const PageSink& sink, bool is_root, Cv* cv) {
  auto page = std::make_shared<Page>();
  page->entries = n.entries;
  for (std::size_t i = 0; i < page->entries.size(); ++i)
    if ((n.fresh >> i & 1) != 0) page->entries[i].birth = sink.owner;
  std::vector<PagePtr> kids = n.kept;
  for (const auto& [i, kid] : n.changed) {
    Entry& e = page->entries[i];
    INDRA_LET(kids[i], write_node(*kid, height - 1, sink, false, &e.cv));
    e.where = kids[i]->id;
    e.birth = e.where == kid->old_id ? kid->old_birth : sink.owner;
  }
  for (std::size_t i = 0; i < std::min(kids.size(), page->entries.size()); ++i)
    if (kids[i]) page->remember(i, kids[i]);
  if (!is_root) {
    *cv = cv_of(page->entries, height);
    INDRA_LET(page->id, sink.put(n.old_id, n.old_birth, encode_page(*page)));
  }
  return page;
}

}  // namespace

Result<Draft> edit(const Manifest& base, std::uint64_t size, std::span<const Change> changes,
                   const PageLoader& load) {
  Draft draft;
  draft.size = size;
  Editor editor{draft, load};
  PagePtr root = base.root;
  int height = base.height();
  const int want = height_of(size);
  while (height > want) {  // lower: the first child becomes the root
    for (std::size_t i = 1; i < root->entries.size(); ++i)
      if (root->entries[i].present()) INDRA_TRY(editor.drop(*root, i, height));
    if (!root->at(0).present()) {
      root = std::make_shared<Page>();
    } else {
      INDRA_LET(PagePtr below, load_child(*root, 0, load));
      if (root->entries[0].where != 0)
        draft.dropped_pages.emplace_back(root->entries[0].where, root->entries[0].birth);
      root = std::move(below);
    }
    --height;
  }
  while (height < want) {  // higher: the root becomes the first child
    auto above = std::make_shared<Page>();
    if (!root->entries.empty()) {
      above->entries.resize(1);
      above->entries[0].length = 1;
      above->remember(0, root);
    }
    root = std::move(above);
    ++height;
  }
  INDRA_LET(draft.root, editor.node(*root, height, 0, changes));
  return draft;
}

Result<Manifest> write_draft(const Draft& draft, const PageSink& sink) {
  Manifest m;
  m.size = draft.size;
  INDRA_LET(m.root, write_node(*draft.root, height_of(draft.size), sink, true, nullptr));
  return m;
}

}  // namespace indra::blob
