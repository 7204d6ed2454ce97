// Handles, bytes and directories.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "fs/internal/fs_impl.h"

namespace indra {

Handle ViewImpl::keep(std::shared_ptr<Session> session, int flags) {
  auto f = std::make_unique<OpenFile>();
  f->session = std::move(session);
  f->flags = flags;
  if (f->writes()) ++f->session->writers;
  return reinterpret_cast<Handle>(f.release());
}

Result<Handle> ViewImpl::open(const Caller& c, NodeId node, int flags) {
  const bool writing = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
  if (writing) INDRA_TRY(check_writable(0));
  if (!live_ && !writing) return open_frozen(node, flags);
  const auto session = fs_.sessions().acquire(key(node));
  const Handle h = keep(session, flags);
  // The session is in the table before the row is read: an unlink from now on finds it.
  const auto row = fs_.writer().read([&](Tx& tx) {
    auto found = fs_.tree().node(tx, chain_, node);
    if (found && found->nlink == 0) session->unlinked = true;
    return found;
  });
  auto r = [&]() -> Result<void> {
    if (!row) return fail(row.error());
    if (S_ISDIR(row->mode)) return fail(EISDIR);
    if (!S_ISREG(row->mode)) return fail(EINVAL);
    // Found by a name that is another file's by now: whoever opens by name looks again (S13).
    if (writing && row->nlink == 0 && session->replaced_before == 0 && fs_.replaced(branch(), node))
      return fail(ESTALE);
    if ((flags & O_TRUNC) == 0) return {};
    const bool suid = (row->mode & (S_ISUID | S_ISGID)) != 0 && c.uid != 0;
    return change(c, h, suid, [](Session& s) INDRA_NO_ANALYSIS { return s.content->truncate(0); });
  }();
  if (!r) {
    end(h);
    return fail(r.error());
  }
  return h;
}

// The last published version, whole (S1). What was fsynced and still waits for its event is published first;
// bytes that nobody synced stay out. The blob may be replaced between asking for it and opening it: then ask
// again.
Result<Handle> ViewImpl::open_frozen(NodeId node, int flags) {
  if (spec_.snapshot.empty())
    if (const auto s = fs_.sessions().find(key(node)); s && s->synced_unpublished)
      INDRA_TRY(fs_.publish_owed_event(*s));
  for (int attempt = 0;; ++attempt) {
    INDRA_LET(const NodeRow row,
              fs_.writer().read([&](Tx& tx) { return fs_.tree().node(tx, chain_, node); }));
    if (S_ISDIR(row.mode)) return fail(EISDIR);
    if (!S_ISREG(row.mode)) return fail(EINVAL);
    auto content = fs_.store().open_frozen(branch_->info.bucket, row.blob);
    if (!content) {
      if (content.error().code == std::errc::no_such_file_or_directory && attempt < 100) continue;
      return fail(content.error());
    }
    auto f = std::make_unique<OpenFile>();
    f->attr = attr(row);
    f->attr.size = (*content)->size();
    f->frozen = std::move(*content);
    f->flags = flags;
    return reinterpret_cast<Handle>(f.release());
  }
}

Result<Opened> ViewImpl::create(const Caller& c, NodeId parent, std::string_view name, std::uint32_t mode,
                                int flags) {
  INDRA_TRY(check_writable(4096));
  if (name.size() > 255) return fail(ENAMETOOLONG);
  const Who w = who(c);
  std::shared_ptr<Session> session;
  INDRA_LET(const NodeRow row, fs_.writer().mutate([&](Tx& tx) -> Result<NodeRow> {
    INDRA_LET(NodeRow init, inherit(tx, c, parent, S_IFREG | (mode & 07777)));
    auto made = fs_.tree().create(tx, w, chain_, parent, name, init);
    if (made) {
      hold(made->node);
      session = fs_.sessions().acquire(key(made->node));
      fs_.did(branch(), this,
              {.kind = Deed::made, .node = made->node, .type = S_IFREG, .to = {parent, std::string{name}}});
    }
    return made;
  }));
  fs_.poke();
  fs_.notify(branch(), this, Change::entry, {}, parent, name);
  fs_.notify(branch(), this, Change::attributes, parent);
  return Opened{attr(row), keep(std::move(session), flags)};
}

Result<Opened> ViewImpl::tmpfile(const Caller& c, NodeId parent, std::uint32_t mode, int flags) {
  INDRA_TRY(check_writable(4096));
  const Who w = who(c);
  std::shared_ptr<Session> session;
  INDRA_LET(const NodeRow row, fs_.writer().mutate([&](Tx& tx) -> Result<NodeRow> {
    INDRA_LET(NodeRow init, inherit(tx, c, parent, S_IFREG | (mode & 07777)));
    auto made = fs_.tree().create_unnamed(tx, w, chain_, init);
    if (made) {
      hold(made->node);
      session = fs_.sessions().acquire(key(made->node));
      fs_.orphaned(branch(), made->node);
    }
    return made;
  }));
  {
    const WriteLock lock{session->mutex};
    session->temporary = true;
  }
  fs_.poke();
  return Opened{attr(row), keep(std::move(session), flags)};
}

Result<std::size_t> ViewImpl::read(Handle h, std::uint64_t at, MutableBytes out) {
  OpenFile& f = file(h);
  if (f.frozen) return f.frozen->read(at, out);
  Session& s = *f.session;
  {
    const ReadLock lock{s.mutex};
    if (s.content) return s.content->read(at, out);
  }
  {
    const WriteLock lock{s.mutex};
    INDRA_TRY(fs_.ensure_content(s));
  }
  const ReadLock lock{s.mutex};
  return s.content->read(at, out);
}

Result<void> ViewImpl::write(const Caller& c, Handle h, std::uint64_t at, ByteView bytes,
                             bool from_page_cache, bool kill) {
  INDRA_TRY(check_writable(bytes.size()));
  const OpenFile& f = file(h);
  const bool append = (f.flags & O_APPEND) != 0 && !from_page_cache;
  if (!append && at + bytes.size() > kMaxFileSize) return fail(EFBIG);
  return change(c, h, kill, [&](Session& s) INDRA_NO_ANALYSIS -> Result<void> {
    const std::uint64_t where = append ? s.content->size() : at;
    if (where + bytes.size() > kMaxFileSize) return fail(EFBIG);
    return s.content->write(where, bytes);
  });
}

Result<void> ViewImpl::flush(const Caller&, Handle h) {
  const OpenFile& f = file(h);
  if (!f.writes()) return {};
  return fs_.publish(*f.session);
}

void ViewImpl::release(Handle h) {
  // First: what is closed is renamed soon, and who watches hears in that order.
  if (const OpenFile& f = file(h); f.session && (f.flags & O_ACCMODE) != O_RDONLY)
    fs_.did(branch(), this, {.kind = Deed::closed, .node = f.session->key.node, .type = S_IFREG});
  end(h);
}

void ViewImpl::end(Handle h) {
  const std::unique_ptr<OpenFile> f{&file(h)};
  if (!f->session) return;
  Session& s = *f->session;
  // Pages of a shared mapping may have come after the last close.
  if (s.ahead && f->writes())
    if (auto r = fs_.publish(s); !r) log::error("publishing node {}: {}", s.key.node.raw(), r.error().text());
  if (f->writes()) --s.writers;
  if (fs_.sessions().release(f->session)) fs_.released(s.key.branch, s.key.node);
}

Result<void> ViewImpl::fsync(const Caller&, Handle h, bool data_only) {
  const OpenFile& f = file(h);
  if (!f.session) return {};
  return fs_.fsync(*f.session, data_only);
}

Result<void> ViewImpl::fallocate(const Caller& c, Handle h, int mode, std::uint64_t at, std::uint64_t n) {
  constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (n == 0) return fail(EINVAL);
  if (at > kMaxFileSize || n > kMaxFileSize - at) return fail(EFBIG);
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const bool kill = c.uid != 0;
  if (mode == 0 || mode == FALLOC_FL_KEEP_SIZE) {
    INDRA_TRY(check_writable(n));
    const OpenFile& f = file(h);
    if (!f.session) return {};
    if (keep_size) return kill ? kill_suid_sgid(c, f.session->key.node) : Result<void>{};
    return change(c, h, kill, [&](Session& s) INDRA_NO_ANALYSIS -> Result<void> {
      return at + n > s.content->size() ? s.content->truncate(at + n) : Result<void>{};
    });
  }
  if (mode != kPunch && mode != FALLOC_FL_ZERO_RANGE && mode != (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE))
    return fail(EOPNOTSUPP);
  INDRA_TRY(check_writable(0));
  return change(c, h, kill, [&](Session& s) INDRA_NO_ANALYSIS -> Result<void> {
    const std::uint64_t size = s.content->size();
    if (at < size) INDRA_TRY(s.content->punch(at, std::min(n, size - at)));
    if (!keep_size && at + n > size) INDRA_TRY(s.content->truncate(at + n));
    return {};
  });
}

Result<std::uint64_t> ViewImpl::lseek(Handle h, std::uint64_t at, int whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return fail(EINVAL);
  OpenFile& f = file(h);
  if (f.frozen) return f.frozen->seek(at, whence == SEEK_HOLE);
  Session& s = *f.session;
  const WriteLock lock{s.mutex};
  INDRA_TRY(fs_.ensure_content(s));
  return s.content->seek(at, whence == SEEK_HOLE);
}

Result<std::uint64_t> ViewImpl::copy_file_range(const Caller& c, Handle from, std::uint64_t from_at,
                                                Handle to, std::uint64_t to_at, std::uint64_t n) {
  INDRA_TRY(check_writable(0));
  OpenFile& source = file(from);
  OpenFile& target = file(to);
  if (!target.session) return fail(EBADF);
  if (to_at > kMaxFileSize || n > kMaxFileSize - to_at) return fail(EFBIG);
  std::uint64_t done = 0;
  const auto copy = [&](Session& s) INDRA_NO_ANALYSIS -> Result<void> {
    Content& content = source.frozen ? *source.frozen : *source.session->content;
    if (from_at >= content.size()) return {};
    const std::uint64_t want = std::min(n, content.size() - from_at);
    if (&content == s.content.get() && from_at < to_at + want && to_at < from_at + want) return fail(EINVAL);
    INDRA_TRY(fs_.space().need(std::min<std::uint64_t>(want, 1 << 20)));
    INDRA_LET(done, s.content->copy_from(content, from_at, to_at, want));
    return {};
  };
  if (source.frozen || source.session == target.session) {
    INDRA_TRY(change(c, to, c.uid != 0, copy));
    return done;
  }
  // Two sessions: locked in the order of their keys; change() locks the target itself, so it is spelt out
  // here.
  Session& a = *source.session;
  Session& b = *target.session;
  const Who w = who(c);
  {
    const bool a_first = a.key < b.key;
    const WriteLock first{a_first ? a.mutex : b.mutex};
    const WriteLock second{a_first ? b.mutex : a.mutex};
    const auto both = [&]() INDRA_NO_ANALYSIS -> Result<void> {
      INDRA_TRY(fs_.ensure_content(a));
      INDRA_TRY(fs_.ensure_content(b));
      INDRA_TRY(copy(b));
      fs_.touched(b, &w, fs_.now());
      return {};
    };
    INDRA_TRY(both());
  }
  if (c.uid != 0) INDRA_TRY(kill_suid_sgid(c, b.key.node));
  fs_.notify(branch(), this, Change::data, b.key.node);
  fs_.did(branch(), this, {.kind = Deed::written, .node = b.key.node, .type = S_IFREG});
  return done;
}

Result<Handle> ViewImpl::opendir(NodeId node) {
  INDRA_LET(const NodeRow row, fs_.writer().read([&](Tx& tx) { return fs_.tree().node(tx, chain_, node); }));
  if (!S_ISDIR(row.mode)) return fail(ENOTDIR);
  return reinterpret_cast<Handle>(new OpenDir{node});
}

Result<void> ViewImpl::readdir(Handle h, std::uint64_t cookie, bool plus, const DirSink& sink) {
  const NodeId dir = reinterpret_cast<OpenDir*>(h)->node;
  constexpr int kAtOnce = 128;  // bounds how long the writer is held
  const bool sessions = live_ && fs_.sessions().count() != 0;
  return fs_.writer().read([&](Tx& tx) {
    return fs_.tree().list(tx, chain_, dir, cookie, plus, kAtOnce, [&](const Tree::Listed& l) {
      Attr a;
      if (l.row != nullptr) a = attr(*l.row, sessions ? ahead(l.row->node) : Ahead{});
      if (!sink({l.name, l.edge.node, l.edge.type, l.edge.cookie, l.row != nullptr ? &a : nullptr}))
        return false;
      if (l.row != nullptr) hold(l.edge.node);
      return true;
    });
  });
}

void ViewImpl::releasedir(Handle h) { delete reinterpret_cast<OpenDir*>(h); }

}  // namespace indra
