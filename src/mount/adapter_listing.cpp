// Answers about directories and extended attributes: nothing of them is kept here.
#include <sys/stat.h>

#include <cerrno>

#include "mount/adapter.h"

namespace indra {
namespace {

/// "." and ".." come first, under the positions 1 and 2; an entry's position is its cookie and 2.
constexpr std::uint64_t kDots = 2;

struct Listing {
  std::vector<Layout::Fixed> items;
};

}  // namespace

// --- directories -------------------------------------------------------------------------------------

Result<OpenReply> Adapter::opendir(Call&, WireId id) {
  OpenReply r;
  if (Slot* s = slot(id)) [[likely]] {
    INDRA_LET(r.handle, s->view().opendir(s->node(id)));
    layout_->hold(*s);
    r.keep_cache = r.cache_dir = true;
    return r;
  }
  if (!Layout::is_directory(id)) return fail(ENOTDIR);
  r.handle = reinterpret_cast<std::uintptr_t>(new Listing{layout_->list(id)});
  return r;
}

Result<void> Adapter::readdir(Call& c, WireId id, Handle h, std::uint64_t from, bool plus,
                              const ListSink& sink) {
  c.entry.take(counters_.of(id));
  c.attr.take(counters_.any());
  c.node = id;
  if (from < 1 && !sink({".", id, S_IFDIR, 1, nullptr})) return {};
  if (from < 2 &&
      !sink({"..", known_.find(id).value_or(KnownNodes::Known{id, true}).parent, S_IFDIR, 2, nullptr}))
    return {};
  const std::uint64_t cookie = from < kDots ? 0 : from - kDots;
  Slot* s = slot(id);
  if (s == nullptr) {
    const auto& items = reinterpret_cast<const Listing*>(h)->items;
    for (std::size_t i = cookie; i < items.size(); ++i)
      if (!sink({items[i].name, items[i].id, items[i].mode, i + 1 + kDots, nullptr})) break;
    return {};
  }
  c.cached_list = true;
  struct State {
    Adapter& self;
    Call& c;
    Slot& s;
    WireId dir;
    const ListSink& sink;
  } state{*this, c, *s, id, sink};
  return s->view().readdir(h, cookie, plus, [&state](const DirEntry& d) {
    ListItem item{d.name, state.s.wire(d.node), d.mode, d.cookie + kDots, nullptr};
    if (d.attr == nullptr) return state.sink(item);
    Adapter& self = state.self;
    Entry e;
    e.id = item.id;
    e.generation = state.s.index() == 0 ? 0 : state.s.generation();
    e.attr = *d.attr;
    e.entry_ttl =
        state.c.entry.moved() || self.raiser_.waits(state.dir, d.name) ? 0 : self.options_.entry_timeout;
    e.attr_ttl = state.c.attr.moved() ? 0 : self.options_.attr_timeout;
    item.entry = &e;
    if (!state.sink(item)) return false;
    self.known_.add(e.id, state.dir, S_ISDIR(e.attr.mode));
    self.layout_->hold(state.s);
    return true;
  });
}

void Adapter::releasedir(WireId id, Handle h) {
  if (Slot* s = slot(id)) {
    s->view().releasedir(h);
    layout_->let_go(*s);
  } else {
    delete reinterpret_cast<Listing*>(h);
  }
}

Result<void> Adapter::sync(Call&, WireId id) {
  Slot* s = slot(id);
  return (s == nullptr ? layout_->mounted() : *s).view().sync();
}
Result<FsStat> Adapter::statfs(Call&, WireId id) {
  Slot* s = slot(id);
  return (s == nullptr ? layout_->mounted() : *s).view().statfs();
}

// --- extended attributes -----------------------------------------------------------------------------

Result<void> Adapter::setxattr(Call& c, WireId id, std::string_view name, ByteView value, int flags) {
  Slot* s = slot(id);
  if (s == nullptr) return fail(EPERM);
  return s->view().setxattr(c.caller, s->node(id), name, value, flags);
}
Result<Bytes> Adapter::getxattr(Call&, WireId id, std::string_view name) {
  Slot* s = slot(id);
  if (s == nullptr) return fail(ENODATA);
  return s->view().getxattr(s->node(id), name);
}
Result<std::vector<std::string>> Adapter::listxattr(Call&, WireId id) {
  Slot* s = slot(id);
  if (s == nullptr) return std::vector<std::string>{};
  return s->view().listxattr(s->node(id));
}
Result<void> Adapter::removexattr(Call& c, WireId id, std::string_view name) {
  Slot* s = slot(id);
  if (s == nullptr) return fail(EPERM);
  return s->view().removexattr(c.caller, s->node(id), name);
}

}  // namespace indra
