#include "mount/adapter.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace indra {
namespace {

/// Names in branches/ and snapshots/ come and go without a word to us.
constexpr TimeNs kListedTtl = kSecond;
/// What somebody else did to a name is in the notifier's queue at the latest after this long.
constexpr TimeNs kQueued = 10 * kSecond;

struct OpenText {
  std::string text;
};

bool writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

/// The kernel asks who may open a file before it sends OPEN, but not before CREATE.
bool may_surely_open(const Caller& c, const Attr& a, int flags) {
  const std::uint32_t need = ((flags & O_ACCMODE) != O_WRONLY ? S_IRUSR : 0u) |
                             (writes(flags) || (flags & O_TRUNC) != 0 ? S_IWUSR : 0u);
  return c.uid == 0 || (c.uid == a.uid && (a.mode & need) == need);
}

}  // namespace

Adapter::Adapter(const MountOptions& options, Connection& connection)
    : options_{options},
      notifier_{connection, known_, options_.notify_limit},
      raiser_{options_, known_, notifier_} {}

Adapter::~Adapter() { stop(); }

Result<void> Adapter::start(Views& views) {
  INDRA_LET(layout_, Layout::make(options_, views,
                                  {[this](Slot& s, const Change& c) { heard(s, c); },
                                   [this](Slot& s, const Deed& d, bool own) {
                                     if (!own && d.kind < Deed::written)
                                       others_did_ = system_clock().steady();
                                     raiser_.did(s, d, own);
                                   }}));
  locks_ = &views.locks();
  front_ = locks_->new_front();
  if (options_.read_only || options_.view.read_only) return {};
  const std::uint64_t space = layout_->mounted().view().lock_space();
  if (auto r = locks_->write_through(space, keeper(), options_.mountpoint); !r)
    return fail(EBUSY, "branch " + options_.view.branch + " " + r.error().context +
                           "; use --read-only, or --locks daemon on both mounts");
  writes_to_ = space;
  return {};
}

// Each mount's kernel knows its own locks only: two programs that write a database through two mounts would
// each believe to be alone. View 0 has its claim from the start.
Result<void> Adapter::claim(const Slot& s, int flags, std::string_view name) {
  if (s.index() == 0 || !writes(flags)) return {};
  auto r = locks_->write_through(s.view().lock_space(), keeper(), options_.mountpoint + "/branches");
  if (!r)
    log::warn("{} is not opened for writing below {}/branches: its branch {}; mount both with --locks daemon",
              name, options_.mountpoint, r.error().context);
  return r;
}

void Adapter::unclaim(const Slot& s, int flags) {
  if (s.index() != 0 && writes(flags)) locks_->wrote(s.view().lock_space());
}

void Adapter::stop() {
  raiser_.stop();
  notifier_.stop();
  if (locks_ != nullptr) locks_->forget(front_);
  if (writes_to_) locks_->wrote(*std::exchange(writes_to_, std::nullopt));
  layout_.reset();
}

// --- coherence ---------------------------------------------------------------------------------------

void Adapter::heard(Slot& s, const Change& c) {
  const WireId node = c.node ? s.wire(c.node) : 0;
  switch (c.kind) {
    case Change::attributes:
      counters_.bump(node);
      if (known_.find(node) || s.is_root(node)) notifier_.attributes(node);
      break;
    case Change::data:
      counters_.bump(node);
      if (known_.find(node) || s.is_root(node)) notifier_.data(node);
      break;
    case Change::entry: {
      const WireId parent = s.wire(c.parent);
      counters_.bump(parent);
      if (node != 0) counters_.bump(node);
      // Who does not hold the directory holds no name in it.
      if (known_.find(parent) || s.is_root(parent))
        notifier_.entry(parent, c.name, node);
      else if (node != 0 && known_.find(node))
        notifier_.attributes(node);
      break;
    }
  }
}

void Adapter::sent(const Call& c) {
  if (c.cached_entry && (c.entry.moved() || c.attr.moved())) {
    notifier_.entry(c.parent, c.name, c.node);
    if (c.node != 0) notifier_.data(c.node);
  } else if (c.cached_attr && c.attr.moved()) {
    notifier_.data(c.node);
  }
  if (c.cached_list && c.entry.moved()) notifier_.entry(c.node, "\x01", 0);
}

void Adapter::sent_item(const Call& c, WireId parent, std::string_view name, WireId id) {
  if (!c.entry.moved() && !c.attr.moved()) return;
  notifier_.entry(parent, name, id);
  if (id != 0) notifier_.data(id);
}

void Adapter::undo(WireId entry) {
  if (entry != 0) forget(entry, 1);
}

Entry Adapter::entry_of(Call& c, Slot& s, WireId parent, std::string_view name, const Attr& attr) {
  Entry e;
  e.id = s.wire(attr.node);
  e.generation = s.index() == 0 ? 0 : s.generation();
  e.attr = attr;
  known_.add(e.id, parent, S_ISDIR(attr.mode));
  layout_->hold(s);
  e.entry_ttl = c.entry.moved() || raiser_.waits(parent, name) ? 0 : options_.entry_timeout;
  e.attr_ttl = c.attr.moved() ? 0 : options_.attr_timeout;
  c.cached_entry = e.entry_ttl != 0;
  c.cached_attr = e.attr_ttl != 0;
  c.node = e.id;
  c.parent = parent;
  c.name = name;
  return e;
}

Entry Adapter::handle_of(Call& c, Slot& s, WireId from, const Attr& attr) {
  WireId parent = from;
  if (S_ISDIR(attr.mode))
    if (const auto above = s.view().lookup(attr.node, "..")) {
      parent = s.wire(above->node);
      s.view().forget(above->node, 1);
    }
  Entry e = entry_of(c, s, parent, {}, attr);
  e.entry_ttl = 0;
  c.cached_entry = false;
  return e;
}

// --- names -------------------------------------------------------------------------------------------

Result<Entry> Adapter::lookup(Call& c, WireId parent, std::string_view name) {
  c.entry.take(counters_.of(parent));
  c.attr.take(counters_.any());  // which node it will be is not known yet
  if (Slot* s = slot(parent)) [[likely]] {
    auto attr = s->view().lookup(s->node(parent), name);
    if (attr && (name == "." || name == "..")) return handle_of(c, *s, parent, *attr);
    if (attr) return entry_of(c, *s, parent, name, *attr);
    if (to_errno(attr.error()) != ENOENT) return fail(std::move(attr).error());
    Entry absent;
    absent.entry_ttl = c.entry.moved() || raiser_.waits(parent, name) ? 0 : options_.entry_timeout;
    c.cached_entry = absent.entry_ttl != 0;
    c.parent = parent;
    c.name = name;
    c.attr.counter = nullptr;  // an absent name has no attributes
    return absent;
  }
  INDRA_LET(const Layout::Found found, layout_->find(parent, name));
  Entry e;
  e.id = found.id;
  if (found.slot != nullptr) {
    Slot& s = *found.slot;  // held for us when it is not the mounted one
    auto attr = s.view().getattr(s.node(e.id));
    if (!attr) {
      layout_->let_go(s);
      return fail(std::move(attr).error());
    }
    e.attr = *attr;
    e.generation = s.index() == 0 ? 0 : s.generation();
    e.entry_ttl = s.index() == 0 ? options_.entry_timeout : kListedTtl;
    e.attr_ttl = c.attr.moved() ? 0 : options_.attr_timeout;
    c.cached_attr = e.attr_ttl != 0;
    c.node = e.id;
  } else {
    INDRA_LET(e.attr, layout_->fixed_attr(e.id));
    const bool text = S_ISREG(e.attr.mode);
    e.entry_ttl = options_.entry_timeout;
    e.attr_ttl = text ? 0 : options_.attr_timeout;
  }
  known_.add(e.id, parent, S_ISDIR(e.attr.mode));
  return e;
}

void Adapter::forget(WireId id, std::uint64_t n) {
  known_.forget(id, n);
  Slot* s = slot(id);
  if (s == nullptr) return;
  if (!s->is_root(id)) s->view().forget(s->node(id), n);
  layout_->let_go(*s, n);
}

template <class Make>
Result<Entry> Adapter::make(Call& c, WireId parent, std::string_view name, Make&& what) {
  Slot* s = slot(parent);
  if (s == nullptr) return fail(layout_->refuse(parent, name));
  c.entry.take(counters_.of(parent));
  c.attr.take(counters_.any());
  INDRA_LET(const Attr attr, what(*s));
  return entry_of(c, *s, parent, name, attr);
}

Result<Entry> Adapter::mknod(Call& c, WireId parent, std::string_view name, std::uint32_t mode,
                             std::uint64_t rdev) {
  return make(c, parent, name,
              [&](Slot& s) { return s.view().mknod(c.caller, s.node(parent), name, mode, rdev); });
}
Result<Entry> Adapter::mkdir(Call& c, WireId parent, std::string_view name, std::uint32_t mode) {
  return make(c, parent, name, [&](Slot& s) { return s.view().mkdir(c.caller, s.node(parent), name, mode); });
}
Result<Entry> Adapter::symlink(Call& c, WireId parent, std::string_view name, std::string_view target) {
  return make(c, parent, name,
              [&](Slot& s) { return s.view().symlink(c.caller, s.node(parent), name, target); });
}
Result<Entry> Adapter::link(Call& c, WireId node, WireId parent, std::string_view name) {
  if (slot(node) != slot(parent)) return fail(EXDEV);
  return make(c, parent, name, [&](Slot& s) -> Result<Attr> {
    if (s.is_root(node)) return fail(EPERM);
    return s.view().link(c.caller, s.node(node), s.node(parent), name);
  });
}

Result<void> Adapter::unlink(Call& c, WireId parent, std::string_view name) {
  Slot* s = slot(parent);
  if (s == nullptr) return fail(layout_->refuse(parent, name));
  return s->view().unlink(c.caller, s->node(parent), name);
}
Result<void> Adapter::rmdir(Call& c, WireId parent, std::string_view name) {
  Slot* s = slot(parent);
  if (s == nullptr) return fail(layout_->refuse(parent, name));
  return s->view().rmdir(c.caller, s->node(parent), name);
}
Result<void> Adapter::rename(Call& c, WireId from_parent, std::string_view from, WireId to_parent,
                             std::string_view to, unsigned flags) {
  Slot* s = slot(from_parent);
  if (s == nullptr) return fail(layout_->refuse(from_parent, from));
  if (slot(to_parent) == nullptr) return fail(layout_->refuse(to_parent, to));
  if (slot(to_parent) != s) return fail(EXDEV);
  // The kernel asks for this only when the name came to mean another node between its two looks. Nothing
  // would be renamed, yet it would move its entry and tell who watches: upon ESTALE it looks once more, and
  // sees.
  if (from_parent == to_parent && from == to) return fail(ESTALE);
  INDRA_TRY(s->view().rename(c.caller, s->node(from_parent), from, s->node(to_parent), to, flags));
  moved(*s, to_parent, to);
  if ((flags & RENAME_EXCHANGE) != 0) moved(*s, from_parent, from);
  return {};
}

// The kernel moves the node that it believes to have the name. Where somebody else has given the name to
// another one of which the kernel was not told yet, that is the wrong one, and what it will be told is of the
// old name.
void Adapter::moved(Slot& s, WireId parent, std::string_view name) {
  const TimeNs did = others_did_;
  if (did == 0) return;
  if (system_clock().steady() - did > kQueued && notifier_.caught_up(std::chrono::milliseconds{0})) return;
  WireId id = 0;
  if (const auto there = s.view().lookup(s.node(parent), name)) {
    id = s.wire(there->node);
    s.view().forget(there->node, 1);
  }
  notifier_.entry(parent, name, id);
}

// --- attributes --------------------------------------------------------------------------------------

Result<AttrReply> Adapter::getattr(Call& c, WireId id) {
  AttrReply r;
  r.id = id;
  if (Slot* s = slot(id)) [[likely]] {
    c.attr.take(counters_.of(id));
    INDRA_LET(r.attr, s->view().getattr(s->node(id)));
    r.ttl = c.attr.moved() ? 0 : options_.attr_timeout;
    c.cached_attr = r.ttl != 0;
    c.node = id;
    return r;
  }
  if (Raiser::is_made_up(id)) {
    r.attr = Raiser::made_up_attr(id);
    return r;
  }
  INDRA_LET(r.attr, layout_->fixed_attr(id));
  r.ttl = S_ISREG(r.attr.mode) ? 0 : options_.attr_timeout;
  return r;
}

Result<AttrReply> Adapter::setattr(Call& c, WireId id, SetAttrRequest request) {
  Slot* s = slot(id);
  if (s == nullptr) return fail(EPERM);
  const TimeNs now = request.atime_now || request.mtime_now ? system_clock().now() : 0;
  if (request.atime_now) request.set.atime = now;
  if (request.mtime_now) request.set.mtime = now;
  c.attr.take(counters_.of(id));
  AttrReply r;
  r.id = id;
  INDRA_LET(r.attr, s->view().setattr(c.caller, s->node(id), request.set));
  r.ttl = c.attr.moved() ? 0 : options_.attr_timeout;
  c.cached_attr = r.ttl != 0;
  c.node = id;
  return r;
}

Result<std::string> Adapter::readlink(Call& c, WireId id) {
  Slot* s = slot(id);
  if (s != nullptr) {
    c.attr.take(counters_.of(id));
    c.cached_attr = true;
    c.node = id;
    return s->view().readlink(s->node(id));
  }
  if (id == fixed_id::here) return std::string{"../vault"};
  return fail(EINVAL);
}

// --- locks -------------------------------------------------------------------------------------------

FileLocks::File Adapter::locked_file(const LockRequest& q) const {
  const Slot* s = slot(q.file);
  if (s == nullptr) return {UINT64_MAX, q.file, q.family};
  return {s->view().lock_space(), static_cast<std::uint64_t>(s->node(q.file).raw()), q.family};
}

std::optional<FileLocks::Lock> Adapter::conflicting_lock(const LockRequest& q) const {
  return locks_->conflict(locked_file(q), {front_, q.owner}, q.lock);
}

int Adapter::lock(const LockRequest& q) { return locks_->lock(locked_file(q), {front_, q.owner}, q.lock); }

void Adapter::lock_or_wait(const LockRequest& q, std::uint64_t unique, FileLocks::Done done) {
  locks_->lock_or_wait(locked_file(q), {front_, q.owner}, q.lock, unique, std::move(done));
}

void Adapter::unlock(const LockRequest& q) {
  locks_->unlock(locked_file(q), {front_, q.owner}, q.lock.first, q.lock.last);
}

void Adapter::close_locks(WireId file, Handle h) {
  for (const auto family : {FileLocks::Family::posix, FileLocks::Family::flock})
    locks_->close(locked_file({file, family, 0, {}}), front_, h);
}

bool Adapter::stop_waiting(std::uint64_t unique) { return locks_->cancel(front_, unique); }

// --- files -------------------------------------------------------------------------------------------

OpenReply Adapter::opened(const Slot& s, Handle h, int flags, bool created) const {
  OpenReply r;
  r.handle = h;
  r.keep_cache = true;
  // With locks of ours a close must reach us even so: it ends the caller's POSIX locks.
  r.no_flush = !writes(flags) && (flags & O_TRUNC) == 0 && options_.locks == LockMode::kernel;
  r.direct_io = writes(flags) &&
                (s.view().shared() || (created && options_.direct_create && (flags & O_ACCMODE) == O_WRONLY));
  r.parallel_writes = r.direct_io;
  return r;
}

Result<OpenReply> Adapter::open(Call& c, WireId id, int flags, bool kill_suid_sgid) {
  Slot* s = slot(id);
  if (s == nullptr) {
    if (writes(flags)) return fail(EACCES);
    INDRA_LET(std::string text, layout_->content(id));
    OpenReply r;
    r.handle = reinterpret_cast<std::uintptr_t>(new OpenText{std::move(text)});
    r.direct_io = r.no_flush = true;
    return r;
  }
  INDRA_TRY(claim(*s, flags, "a file"));
  const auto file = s->view().open(c.caller, s->node(id), flags);
  if (!file) {
    unclaim(*s, flags);
    return fail(file.error());
  }
  const Handle h = *file;
  layout_->hold(*s);
  if (kill_suid_sgid) {  // only with O_TRUNC
    SetAttr kill;
    kill.kill_suid_sgid = true;
    if (auto done = s->view().setattr(c.caller, s->node(id), kill); !done) {
      release(id, h, flags);
      return fail(std::move(done).error());
    }
  }
  return opened(*s, h, flags, false);
}

Result<Adapter::Created> Adapter::create(Call& c, WireId parent, std::string_view name, std::uint32_t mode,
                                         int flags) {
  Slot* s = slot(parent);
  if (s == nullptr) return fail(layout_->refuse(parent, name));
  INDRA_TRY(claim(*s, flags, name));
  auto r = create_in(c, *s, parent, name, mode, flags);
  if (!r) unclaim(*s, flags);
  return r;
}

Result<Adapter::Created> Adapter::create_in(Call& c, Slot& slot, WireId parent, std::string_view name,
                                            std::uint32_t mode, int flags) {
  Slot* const s = &slot;
  c.entry.take(counters_.of(parent));
  c.attr.take(counters_.any());
  auto made = s->view().create(c.caller, s->node(parent), name, mode, flags);
  Attr attr;
  Handle handle = 0;
  if (made) {
    attr = made->attr;
    handle = made->handle;
  } else {
    if (to_errno(made.error()) != EEXIST || (flags & O_EXCL) != 0) return fail(std::move(made).error());
    // The kernel believed in its cached "no such name", or somebody was faster: O_CREAT opens what is there.
    INDRA_LET(attr, s->view().lookup(s->node(parent), name));
    auto h = S_ISREG(attr.mode) && may_surely_open(c.caller, attr, flags)
                 ? s->view().open(c.caller, attr.node, flags)
                 : Result<Handle>{fail(ESTALE)};  // the kernel looks again, and judges who may
    if (!h) {
      s->view().forget(attr.node, 1);
      return fail(std::move(h).error());
    }
    handle = *h;
  }
  Created r;
  r.entry = entry_of(c, *s, parent, name, attr);
  r.open = opened(*s, handle, flags, true);
  layout_->hold(*s);
  return r;
}

Result<Adapter::Created> Adapter::tmpfile(Call& c, WireId parent, std::uint32_t mode, int flags) {
  Slot* s = slot(parent);
  if (s == nullptr) return fail(EPERM);
  c.attr.take(counters_.any());
  INDRA_TRY(claim(*s, flags, "a nameless file"));
  const auto made = s->view().tmpfile(c.caller, s->node(parent), mode, flags);
  if (!made) {
    unclaim(*s, flags);
    return fail(made.error());
  }
  Created r;
  r.entry = entry_of(c, *s, 0, {}, made->attr);
  c.cached_entry = false;
  r.open = opened(*s, made->handle, flags, true);
  layout_->hold(*s);
  return r;
}

Result<ByteView> Adapter::read(Call&, WireId id, Handle h, std::uint64_t at, MutableBytes space) {
  if (Slot* s = slot(id)) [[likely]] {
    INDRA_LET(const std::size_t n, s->view().read(h, at, space));
    return ByteView{space.first(n)};
  }
  const ByteView text = as_view(reinterpret_cast<const OpenText*>(h)->text);
  if (at >= text.size()) return ByteView{};
  const std::size_t n = std::min<std::size_t>(space.size(), text.size() - at);
  std::memcpy(space.data(), text.data() + at, n);
  return ByteView{space.first(n)};
}

Result<void> Adapter::write(Call& c, WireId id, Handle h, std::uint64_t at, ByteView bytes,
                            bool from_page_cache, bool kill_suid_sgid) {
  Slot* s = slot(id);
  if (s == nullptr) return fail(EBADF);
  return s->view().write(c.caller, h, at, bytes, from_page_cache, kill_suid_sgid);
}

Result<void> Adapter::flush(Call& c, WireId id, Handle h) {
  Slot* s = slot(id);
  return s == nullptr ? Result<void>{} : s->view().flush(c.caller, h);
}

void Adapter::release(WireId id, Handle h, int flags) {
  if (Slot* s = slot(id)) {
    s->view().release(h);
    unclaim(*s, flags);
    layout_->let_go(*s);
  } else {
    delete reinterpret_cast<OpenText*>(h);
  }
}

Result<void> Adapter::fsync(Call& c, WireId id, Handle h, bool data_only) {
  Slot* s = slot(id);
  return s == nullptr ? Result<void>{} : s->view().fsync(c.caller, h, data_only);
}

Result<void> Adapter::fallocate(Call& c, WireId id, Handle h, int mode, std::uint64_t at, std::uint64_t n) {
  Slot* s = slot(id);
  if (s == nullptr) return fail(EBADF);
  return s->view().fallocate(c.caller, h, mode, at, n);
}

Result<std::uint64_t> Adapter::lseek(Call&, WireId id, Handle h, std::uint64_t at, int whence) {
  Slot* s = slot(id);
  if (s == nullptr) return fail(EINVAL);
  return s->view().lseek(h, at, whence);
}

Result<std::uint64_t> Adapter::copy_file_range(Call& c, WireId id, Handle h, std::uint64_t at, WireId to,
                                               Handle to_handle, std::uint64_t to_at, std::uint64_t n) {
  Slot* s = slot(id);
  if (s == nullptr || slot(to) != s) return fail(EXDEV);  // the kernel then copies by reading and writing
  return s->view().copy_file_range(c.caller, h, at, to_handle, to_at, n);
}

}  // namespace indra
