// Long because each opcode is a few lines, and they are found where the others are.
#include "mount/internal/dispatch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

#include "base/log.h"

namespace indra {
namespace {

template <class T>
iovec as_iov(const T& v) {
  return {const_cast<T*>(&v), sizeof v};
}

struct Split {
  std::uint64_t sec;
  std::uint32_t nsec;
};
Split split(TimeNs t) {
  std::int64_t sec = t / kSecond, nsec = t % kSecond;
  if (nsec < 0) {
    --sec;
    nsec += kSecond;
  }
  return {static_cast<std::uint64_t>(sec), static_cast<std::uint32_t>(nsec)};
}
TimeNs join(std::uint64_t sec, std::uint32_t nsec) {
  return static_cast<std::int64_t>(sec) * kSecond + static_cast<TimeNs>(nsec);
}

/// The kernel's 32-bit form of a device number on the wire.
std::uint32_t encode_dev(std::uint64_t d) {
  const std::uint32_t ma = major(d), mi = minor(d);
  return (mi & 0xff) | (ma << 8) | ((mi & ~0xffu) << 12);
}
std::uint64_t decode_dev(std::uint32_t d) {
  return makedev((d & 0xfff00) >> 8, (d & 0xff) | ((d >> 12) & 0xfff00));
}

fuse_attr encode(WireId id, const Attr& a) {
  fuse_attr f{};
  f.ino = id;
  f.size = a.size;
  f.blocks = a.blocks;
  const Split at = split(a.atime), mt = split(a.mtime), ct = split(a.ctime);
  f.atime = at.sec;
  f.atimensec = at.nsec;
  f.mtime = mt.sec;
  f.mtimensec = mt.nsec;
  f.ctime = ct.sec;
  f.ctimensec = ct.nsec;
  f.mode = a.mode;
  f.nlink = a.nlink;
  f.uid = a.uid;
  f.gid = a.gid;
  f.rdev = encode_dev(a.rdev);
  f.blksize = 4096;
  return f;
}

fuse_entry_out encode(const Entry& e) {
  fuse_entry_out out{};
  const Split entry = split(e.entry_ttl), attr = split(e.attr_ttl);
  out.nodeid = e.id;
  out.generation = e.generation;
  out.entry_valid = entry.sec;
  out.entry_valid_nsec = entry.nsec;
  if (e.id == 0) return out;
  out.attr_valid = attr.sec;
  out.attr_valid_nsec = attr.nsec;
  out.attr = encode(e.id, e.attr);
  return out;
}

fuse_open_out encode(const OpenReply& o) {
  fuse_open_out out{};
  out.fh = o.handle;
  out.open_flags = (o.direct_io ? FOPEN_DIRECT_IO : 0u) | (o.keep_cache ? FOPEN_KEEP_CACHE : 0u) |
                   (o.cache_dir ? FOPEN_CACHE_DIR : 0u) | (o.no_flush ? FOPEN_NOFLUSH : 0u) |
                   (o.parallel_writes ? FOPEN_PARALLEL_DIRECT_WRITES : 0u);
  return out;
}

wire::SxTime sx_time(TimeNs t) {
  const Split s = split(t);
  return {static_cast<std::int64_t>(s.sec), s.nsec, 0};
}

constexpr FileLocks::Lock kWholeFile{FileLocks::Kind::write, 0, FileLocks::kEnd, 0, 0};

std::uint32_t masked(std::uint32_t mode, std::uint32_t umask) { return mode & ~(umask & 0777u); }

constexpr auto kNames = [] {
  std::array<std::string_view, wire::kOpCount> n{};
  n[FUSE_LOOKUP] = "LOOKUP";
  n[FUSE_FORGET] = "FORGET";
  n[FUSE_GETATTR] = "GETATTR";
  n[FUSE_SETATTR] = "SETATTR";
  n[FUSE_READLINK] = "READLINK";
  n[FUSE_SYMLINK] = "SYMLINK";
  n[FUSE_MKNOD] = "MKNOD";
  n[FUSE_MKDIR] = "MKDIR";
  n[FUSE_UNLINK] = "UNLINK";
  n[FUSE_RMDIR] = "RMDIR";
  n[FUSE_RENAME] = "RENAME";
  n[FUSE_LINK] = "LINK";
  n[FUSE_OPEN] = "OPEN";
  n[FUSE_READ] = "READ";
  n[FUSE_WRITE] = "WRITE";
  n[FUSE_STATFS] = "STATFS";
  n[FUSE_RELEASE] = "RELEASE";
  n[FUSE_FSYNC] = "FSYNC";
  n[FUSE_SETXATTR] = "SETXATTR";
  n[FUSE_GETXATTR] = "GETXATTR";
  n[FUSE_LISTXATTR] = "LISTXATTR";
  n[FUSE_REMOVEXATTR] = "REMOVEXATTR";
  n[FUSE_FLUSH] = "FLUSH";
  n[FUSE_INIT] = "INIT";
  n[FUSE_OPENDIR] = "OPENDIR";
  n[FUSE_READDIR] = "READDIR";
  n[FUSE_RELEASEDIR] = "RELEASEDIR";
  n[FUSE_FSYNCDIR] = "FSYNCDIR";
  n[FUSE_GETLK] = "GETLK";
  n[FUSE_SETLK] = "SETLK";
  n[FUSE_SETLKW] = "SETLKW";
  n[FUSE_ACCESS] = "ACCESS";
  n[FUSE_CREATE] = "CREATE";
  n[FUSE_INTERRUPT] = "INTERRUPT";
  n[FUSE_BMAP] = "BMAP";
  n[FUSE_DESTROY] = "DESTROY";
  n[FUSE_IOCTL] = "IOCTL";
  n[FUSE_POLL] = "POLL";
  n[FUSE_BATCH_FORGET] = "BATCH_FORGET";
  n[FUSE_FALLOCATE] = "FALLOCATE";
  n[FUSE_READDIRPLUS] = "READDIRPLUS";
  n[FUSE_RENAME2] = "RENAME2";
  n[FUSE_LSEEK] = "LSEEK";
  n[FUSE_COPY_FILE_RANGE] = "COPY_FILE_RANGE";
  n[FUSE_SYNCFS] = "SYNCFS";
  n[FUSE_TMPFILE] = "TMPFILE";
  n[wire::kOpStatx] = "STATX";
  n[wire::kOpCopyFileRange64] = "COPY_FILE_RANGE_64";
  return n;
}();

}  // namespace

std::string_view opcode_name(std::uint32_t opcode) noexcept {
  return opcode < kNames.size() ? kNames[opcode] : std::string_view{};
}

/// A request being answered. Its arguments are read in the order they lie in; one that is too short throws.
struct Dispatcher::Request {
  fuse_in_header head{};
  ByteView rest;
  Buffer& buffer;
  Call call;
  bool answered = false;

  struct Malformed : std::exception {
    const char* what() const noexcept override { return "malformed request"; }
  };
  template <class T>
  T take() {
    T v{};
    if (rest.size() < sizeof v) throw Malformed{};
    std::memcpy(&v, rest.data(), sizeof v);
    rest = rest.subspan(sizeof v);
    return v;
  }
  std::string_view name() {
    const std::string_view text = as_text(rest);
    const auto end = text.find('\0');
    if (end == std::string_view::npos) throw Malformed{};
    rest = rest.subspan(end + 1);
    return text.substr(0, end);
  }
  /// The name of a directory entry: the kernel lets through longer ones than we have.
  struct Refused {
    int error;
  };
  std::string_view entry_name() {
    const std::string_view n = name();
    if (n.size() > 255) throw Refused{ENAMETOOLONG};
    return n;
  }
  WireId id() const { return head.nodeid; }
};

int Dispatcher::ok(Request& r, std::span<const iovec> body) {
  r.answered = true;
  const int e = connection_.reply(r.head.unique, 0, body);
  if (e != 0) {
    counters_.undelivered.fetch_add(1, std::memory_order_relaxed);
    if (e != ENOENT && e != ENODEV && e != ECONNABORTED)
      log::error("answer to {} refused by the kernel: errno {}", opcode_name(r.head.opcode), e);
  }
  return e;
}

void Dispatcher::error(Request& r, int e) {
  r.answered = true;
  counters_.errors.fetch_add(1, std::memory_order_relaxed);
  (void)connection_.reply(r.head.unique, e);
}

void Dispatcher::answer(Request& r, const Result<void>& done) {
  if (done)
    (void)ok(r);
  else
    error(r, to_errno(done.error()));
}

void Dispatcher::send_entry(Request& r, const Entry& e) {
  const fuse_entry_out out = encode(e);
  const std::array body{as_iov(out)};
  if (ok(r, body) != 0)
    adapter_.undo(e.id);
  else
    adapter_.sent(r.call);
}

void Dispatcher::send_attr(Request& r, const AttrReply& a) {
  fuse_attr_out out{};
  const Split ttl = split(a.ttl);
  out.attr_valid = ttl.sec;
  out.attr_valid_nsec = ttl.nsec;
  out.attr = encode(a.id, a.attr);
  const std::array body{as_iov(out)};
  if (ok(r, body) == 0) adapter_.sent(r.call);
}

void Dispatcher::send_open(Request& r, const OpenReply& o, int flags) {
  const fuse_open_out out = encode(o);
  const std::array body{as_iov(out)};
  if (ok(r, body) == 0) return;
  if (r.head.opcode == FUSE_OPENDIR)
    adapter_.releasedir(r.id(), o.handle);
  else if (o.handle != Adapter::kReplayHandle)
    adapter_.release(r.id(), o.handle, flags);
}

bool Dispatcher::slow(Buffer& buffer) noexcept {
  fuse_in_header head;
  std::memcpy(&head, buffer.request().data(), sizeof head);
  switch (head.opcode) {
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_SYNCFS:
    case FUSE_COPY_FILE_RANGE:
    case wire::kOpCopyFileRange64:
    case FUSE_FALLOCATE:
      return true;
    default:
      return false;
  }
}

void Dispatcher::handle(Buffer& buffer, std::size_t size) {
  Request r{.rest = ByteView{buffer.request().first(size)}, .buffer = buffer, .call = {}};
  try {
    r.head = r.take<fuse_in_header>();
    r.call.caller = {r.head.uid, r.head.gid, static_cast<pid_t>(r.head.pid)};
    if (r.head.opcode < wire::kOpCount)
      counters_.requests[r.head.opcode].fetch_add(1, std::memory_order_relaxed);
    run(r);
  } catch (const Request::Refused& e) {
    error(r, e.error);
  } catch (const std::exception& e) {
    counters_.exceptions.fetch_add(1, std::memory_order_relaxed);
    log::error("{} on node {}: {}", opcode_name(r.head.opcode), r.head.nodeid, e.what());
    if (!r.answered) error(r, EIO);
  } catch (...) {
    counters_.exceptions.fetch_add(1, std::memory_order_relaxed);
    log::error("{} on node {}: unknown exception", opcode_name(r.head.opcode), r.head.nodeid);
    if (!r.answered) error(r, EIO);
  }
}

/// A request of the process that replays what others did. False: it is answered as anybody's.
bool Dispatcher::replay(Request& r) {
  Result<Entry> e{Entry{}};
  switch (r.head.opcode) {
    case FUSE_LOOKUP:
      e = adapter_.replay_lookup(r.call, r.id(), r.entry_name());
      break;
    case FUSE_MKNOD:
      (void)r.take<fuse_mknod_in>();
      e = adapter_.replay_make(r.call, r.id(), r.entry_name());
      break;
    case FUSE_MKDIR:
      (void)r.take<fuse_mkdir_in>();
      e = adapter_.replay_make(r.call, r.id(), r.entry_name());
      break;
    case FUSE_SYMLINK:
      e = adapter_.replay_make(r.call, r.id(), r.entry_name());
      break;
    case FUSE_LINK:
      (void)r.take<fuse_link_in>();
      e = adapter_.replay_make(r.call, r.id(), r.entry_name());
      break;
    case FUSE_UNLINK:
    case FUSE_RMDIR:
      answer(r, adapter_.replay_remove(r.id(), r.entry_name()));
      return true;
    case FUSE_RENAME:
    case FUSE_RENAME2: {
      const std::uint64_t to_parent =
          r.head.opcode == FUSE_RENAME2 ? r.take<fuse_rename2_in>().newdir : r.take<fuse_rename_in>().newdir;
      const auto from = r.entry_name();
      answer(r, adapter_.replay_rename(r.id(), from, to_parent, r.entry_name()));
      return true;
    }
    case FUSE_SETATTR: {
      const auto a = adapter_.replay_setattr(r.call, r.id());
      if (a)
        send_attr(r, *a);
      else
        error(r, to_errno(a.error()));
      return true;
    }
    case FUSE_OPEN: {
      const auto o = adapter_.replay_open(r.id());
      if (o)
        send_open(r, *o, 0);
      else
        error(r, to_errno(o.error()));
      return true;
    }
    case FUSE_CREATE:  // it never does these: nothing that it does may change anything
    case FUSE_TMPFILE:
    case FUSE_WRITE:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
    case wire::kOpCopyFileRange64:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
      error(r, ECANCELED);
      return true;
    default:
      return false;
  }
  if (!e) {
    error(r, to_errno(e.error()));
    return true;
  }
  e->entry_ttl = e->attr_ttl = 0;
  r.call.cached_entry = r.call.cached_attr = false;
  send_entry(r, *e);
  return true;
}

void Dispatcher::run(Request& r) {
  if (adapter_.replays(r.call.caller) && replay(r)) return;
  switch (r.head.opcode) {
    case FUSE_LOOKUP:
      return lookup(r);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
      return forget(r);
    case FUSE_GETATTR:
    case FUSE_READLINK:
    case FUSE_STATFS:
      return attributes(r);
    case FUSE_SETATTR:
      return setattr(r);
    case wire::kOpStatx:
      return statx(r);
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_LINK:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
      return make(r);
    case FUSE_RENAME:
    case FUSE_RENAME2:
      return rename(r);
    case FUSE_OPEN:
    case FUSE_OPENDIR:
      return open(r);
    case FUSE_CREATE:
    case FUSE_TMPFILE:
      return create(r);
    case FUSE_READ:
      return read(r);
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
      return list(r);
    case FUSE_SETXATTR:
    case FUSE_GETXATTR:
    case FUSE_LISTXATTR:
    case FUSE_REMOVEXATTR:
      return xattr(r);
    case FUSE_WRITE:
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_SYNCFS:
    case FUSE_FALLOCATE:
    case FUSE_LSEEK:
    case FUSE_COPY_FILE_RANGE:
    case wire::kOpCopyFileRange64:
      return data(r);
    case FUSE_GETLK:
    case FUSE_SETLK:
    case FUSE_SETLKW:
      return locks(r);
    case FUSE_INTERRUPT:
      return interrupt(r);
    case FUSE_DESTROY:
      (void)ok(r);
      return;
    default:
      return error(r, ENOSYS);  // ACCESS, BMAP, IOCTL, POLL: the kernel stops asking
  }
}

void Dispatcher::lookup(Request& r) {
  const auto e = adapter_.lookup(r.call, r.id(), r.entry_name());
  if (!e) return error(r, to_errno(e.error()));
  send_entry(r, *e);
}

void Dispatcher::forget(Request& r) {
  r.answered = true;  // these have no answer
  if (r.head.opcode == FUSE_FORGET) return adapter_.forget(r.id(), r.take<fuse_forget_in>().nlookup);
  const auto in = r.take<fuse_batch_forget_in>();
  for (std::uint32_t i = 0; i < in.count; ++i) {
    const auto one = r.take<fuse_forget_one>();
    adapter_.forget(one.nodeid, one.nlookup);
  }
}

void Dispatcher::attributes(Request& r) {
  if (r.head.opcode == FUSE_GETATTR) {
    const auto a = adapter_.getattr(r.call, r.id());
    if (!a) return error(r, to_errno(a.error()));
    return send_attr(r, *a);
  }
  if (r.head.opcode == FUSE_READLINK) {
    const auto target = adapter_.readlink(r.call, r.id());
    if (!target) return error(r, to_errno(target.error()));
    const std::array body{iovec{const_cast<char*>(target->data()), target->size()}};
    if (ok(r, body) == 0) adapter_.sent(r.call);
    return;
  }
  const auto s = adapter_.statfs(r.call, r.id());
  if (!s) return error(r, to_errno(s.error()));
  fuse_statfs_out out{};
  out.st.blocks = s->blocks;
  out.st.bfree = s->free;
  out.st.bavail = s->available;
  out.st.files = s->files;
  out.st.ffree = s->files_free;
  out.st.bsize = out.st.frsize = static_cast<std::uint32_t>(s->block_size);
  out.st.namelen = 255;
  const std::array body{as_iov(out)};
  (void)ok(r, body);
}

void Dispatcher::setattr(Request& r) {
  const auto in = r.take<fuse_setattr_in>();
  SetAttrRequest q;
  if (in.valid & FATTR_MODE) q.set.mode = in.mode & 07777;
  if (in.valid & FATTR_UID) q.set.uid = in.uid;
  if (in.valid & FATTR_GID) q.set.gid = in.gid;
  if (in.valid & FATTR_SIZE) q.set.size = in.size;
  if (in.valid & FATTR_ATIME) q.set.atime = join(in.atime, in.atimensec);
  if (in.valid & FATTR_MTIME) q.set.mtime = join(in.mtime, in.mtimensec);
  if (in.valid & FATTR_CTIME) q.set.ctime = join(in.ctime, in.ctimensec);
  q.atime_now = (in.valid & FATTR_ATIME_NOW) != 0;
  q.mtime_now = (in.valid & FATTR_MTIME_NOW) != 0;
  q.set.kill_suid_sgid = (in.valid & FATTR_KILL_SUIDGID) != 0;
  const auto a = adapter_.setattr(r.call, r.id(), q);
  if (!a) return error(r, to_errno(a.error()));
  send_attr(r, *a);
}

void Dispatcher::statx(Request& r) {
  const auto a = adapter_.getattr(r.call, r.id());
  if (!a) return error(r, to_errno(a.error()));
  wire::StatxOut out{};
  const Split ttl = split(a->ttl);
  out.attr_valid = ttl.sec;
  out.attr_valid_nsec = ttl.nsec;
  wire::Statx& s = out.stat;
  s.mask = STATX_BASIC_STATS | STATX_BTIME;
  s.blksize = 4096;
  s.nlink = a->attr.nlink;
  s.uid = a->attr.uid;
  s.gid = a->attr.gid;
  s.mode = static_cast<std::uint16_t>(a->attr.mode);
  s.ino = a->id;
  s.size = a->attr.size;
  s.blocks = a->attr.blocks;
  s.atime = sx_time(a->attr.atime);
  s.btime = sx_time(a->attr.btime);
  s.ctime = sx_time(a->attr.ctime);
  s.mtime = sx_time(a->attr.mtime);
  s.rdev_major = major(a->attr.rdev);
  s.rdev_minor = minor(a->attr.rdev);
  const std::array body{as_iov(out)};
  if (ok(r, body) == 0) adapter_.sent(r.call);
}

void Dispatcher::make(Request& r) {
  Result<Entry> e{Entry{}};
  switch (r.head.opcode) {
    case FUSE_SYMLINK: {
      const auto name = r.entry_name();
      e = adapter_.symlink(r.call, r.id(), name, r.name());
      break;
    }
    case FUSE_MKNOD: {
      const auto in = r.take<fuse_mknod_in>();
      e = adapter_.mknod(r.call, r.id(), r.entry_name(), masked(in.mode, in.umask), decode_dev(in.rdev));
      break;
    }
    case FUSE_MKDIR: {
      const auto in = r.take<fuse_mkdir_in>();
      e = adapter_.mkdir(r.call, r.id(), r.entry_name(), masked(in.mode, in.umask));
      break;
    }
    case FUSE_LINK: {
      const auto in = r.take<fuse_link_in>();
      e = adapter_.link(r.call, in.oldnodeid, r.id(), r.entry_name());
      break;
    }
    case FUSE_UNLINK:
      return answer(r, adapter_.unlink(r.call, r.id(), r.entry_name()));
    default:
      return answer(r, adapter_.rmdir(r.call, r.id(), r.entry_name()));
  }
  if (!e) return error(r, to_errno(e.error()));
  send_entry(r, *e);
}

void Dispatcher::rename(Request& r) {
  fuse_rename2_in in{};
  if (r.head.opcode == FUSE_RENAME2)
    in = r.take<fuse_rename2_in>();
  else
    in.newdir = r.take<fuse_rename_in>().newdir;
  const auto from = r.entry_name();
  answer(r, adapter_.rename(r.call, r.id(), from, in.newdir, r.entry_name(), in.flags));
}

void Dispatcher::open(Request& r) {
  if (r.head.opcode == FUSE_OPENDIR) {
    const auto o = adapter_.opendir(r.call, r.id());
    if (!o) return error(r, to_errno(o.error()));
    return send_open(r, *o, 0);
  }
  const auto in = r.take<fuse_open_in>();
  const auto flags = static_cast<int>(in.flags);
  const auto o = adapter_.open(r.call, r.id(), flags, (in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0);
  if (!o) return error(r, to_errno(o.error()));
  send_open(r, *o, flags);
}

void Dispatcher::create(Request& r) {
  const auto in = r.take<fuse_create_in>();
  const std::uint32_t mode = masked(in.mode, in.umask);
  const auto flags = static_cast<int>(in.flags);
  const auto c = r.head.opcode == FUSE_CREATE ? adapter_.create(r.call, r.id(), r.entry_name(), mode, flags)
                                              : adapter_.tmpfile(r.call, r.id(), mode, flags);
  if (!c) return error(r, to_errno(c.error()));
  const fuse_entry_out entry = encode(c->entry);
  const fuse_open_out opened = encode(c->open);
  const std::array body{as_iov(entry), as_iov(opened)};
  if (ok(r, body) == 0) return adapter_.sent(r.call);
  adapter_.release(c->entry.id, c->open.handle, flags);
  adapter_.undo(c->entry.id);
}

void Dispatcher::read(Request& r) {
  const auto in = r.take<fuse_read_in>();
  const MutableBytes space = r.buffer.content();
  const auto got = adapter_.read(r.call, r.id(), in.fh, in.offset,
                                 space.first(std::min<std::size_t>(in.size, space.size())));
  if (!got) return error(r, to_errno(got.error()));
  const std::array body{iovec{const_cast<std::byte*>(got->data()), got->size()}};
  (void)ok(r, body);
}

void Dispatcher::list(Request& r) {
  const auto in = r.take<fuse_read_in>();
  const bool plus = r.head.opcode == FUSE_READDIRPLUS;
  struct State {
    MutableBytes space;
    std::size_t used = 0;
    bool plus;
  } st{r.buffer.content().first(std::min<std::size_t>(in.size, kMaxTransfer)), 0, plus};
  const std::size_t head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
  const auto done = adapter_.readdir(r.call, r.id(), in.fh, in.offset, plus, [&st](const ListItem& item) {
    const std::size_t fixed = st.plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
    const std::size_t size = FUSE_DIRENT_ALIGN(fixed + item.name.size());
    if (size > st.space.size() - st.used) return false;
    std::byte* out = st.space.data() + st.used;
    if (st.plus) {
      const fuse_entry_out entry = item.entry != nullptr ? encode(*item.entry) : fuse_entry_out{};
      std::memcpy(out, &entry, sizeof entry);
    }
    fuse_dirent dirent{};
    dirent.ino = item.id;
    dirent.off = item.next;
    dirent.namelen = static_cast<std::uint32_t>(item.name.size());
    dirent.type = (item.mode & S_IFMT) >> 12;
    std::memcpy(out + fixed - FUSE_NAME_OFFSET, &dirent, FUSE_NAME_OFFSET);
    std::memcpy(out + fixed, item.name.data(), item.name.size());
    std::memset(out + fixed + item.name.size(), 0, size - fixed - item.name.size());
    st.used += size;
    return true;
  });
  // What was given out before an error is delivered; the error comes back with the next call.
  int e = 0;
  if (!done && st.used == 0) {
    error(r, to_errno(done.error()));
    return;
  }
  const std::array body{iovec{st.space.data(), st.used}};
  e = ok(r, body);
  if (e == 0) adapter_.sent(r.call);
  if (!plus) return;
  if (e == 0 && !r.call.entry.moved() && !r.call.attr.moved()) return;
  for (std::size_t at = 0; at < st.used;) {
    fuse_entry_out entry;
    fuse_dirent dirent{};
    std::memcpy(&entry, st.space.data() + at, sizeof entry);
    std::memcpy(&dirent, st.space.data() + at + head - FUSE_NAME_OFFSET, FUSE_NAME_OFFSET);
    const std::string_view name{reinterpret_cast<const char*>(st.space.data() + at + head), dirent.namelen};
    if (e != 0)
      adapter_.undo(entry.nodeid);
    else if (entry.nodeid != 0)
      adapter_.sent_item(r.call, r.id(), name, entry.nodeid);
    at += FUSE_DIRENT_ALIGN(head + dirent.namelen);
  }
}

void Dispatcher::xattr(Request& r) {
  if (r.head.opcode == FUSE_REMOVEXATTR) return answer(r, adapter_.removexattr(r.call, r.id(), r.name()));
  if (r.head.opcode == FUSE_SETXATTR) {
    fuse_setxattr_in in{};
    if (connection_.negotiated().has(FUSE_SETXATTR_EXT)) {
      in = r.take<fuse_setxattr_in>();
    } else {
      in.size = r.take<std::uint32_t>();
      in.flags = r.take<std::uint32_t>();
    }
    const auto name = r.name();
    if (r.rest.size() < in.size) throw Request::Malformed{};
    return answer(r,
                  adapter_.setxattr(r.call, r.id(), name, r.rest.first(in.size), static_cast<int>(in.flags)));
  }
  const auto in = r.take<fuse_getxattr_in>();
  Bytes value;
  if (r.head.opcode == FUSE_GETXATTR) {
    auto got = adapter_.getxattr(r.call, r.id(), r.name());
    if (!got) return error(r, to_errno(got.error()));
    value = std::move(*got);
  } else {
    const auto names = adapter_.listxattr(r.call, r.id());
    if (!names) return error(r, to_errno(names.error()));
    for (const std::string& n : *names) {
      const ByteView b = as_view(n);
      value.insert(value.end(), b.begin(), b.end());
      value.push_back(std::byte{0});
    }
  }
  if (in.size == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<std::uint32_t>(value.size());
    const std::array body{as_iov(out)};
    (void)ok(r, body);
    return;
  }
  if (value.size() > in.size) return error(r, ERANGE);
  const std::array body{iovec{value.data(), value.size()}};
  (void)ok(r, body);
}

void Dispatcher::locks(Request& r) {
  const auto in = r.take<fuse_lk_in>();
  if (!adapter_.keeps_locks()) return error(r, ENOSYS);
  const Adapter::LockRequest q{
      r.id(),
      (in.lk_flags & FUSE_LK_FLOCK) != 0 ? FileLocks::Family::flock : FileLocks::Family::posix,
      in.owner,
      {in.lk.type == F_RDLCK ? FileLocks::Kind::read : FileLocks::Kind::write, in.lk.start, in.lk.end,
       static_cast<pid_t>(in.lk.pid), in.fh}};
  if (r.head.opcode == FUSE_GETLK) {
    fuse_lk_out out{};
    out.lk.type = F_UNLCK;
    if (const auto c = adapter_.conflicting_lock(q))
      out.lk = {c->first, c->last,
                static_cast<std::uint32_t>(c->kind == FileLocks::Kind::read ? F_RDLCK : F_WRLCK),
                static_cast<std::uint32_t>(c->pid)};
    const std::array body{as_iov(out)};
    (void)ok(r, body);
    return;
  }
  if (in.lk.type == F_UNLCK) {
    adapter_.unlock(q);
    (void)ok(r);
    return;
  }
  if (r.head.opcode == FUSE_SETLK) {
    if (const int e = adapter_.lock(q)) return error(r, e);
    r.answered = true;
    return granted(r.head.unique);
  }
  const MutexLock lock{interrupts_mutex_};
  if (const auto it = std::find(interrupts_.begin(), interrupts_.end(), r.head.unique);
      it != interrupts_.end()) {
    interrupts_.erase(it);
    return error(r, EINTR);
  }
  r.answered = true;  // now or when its turn comes
  adapter_.lock_or_wait(q, r.head.unique, [this, unique = r.head.unique](int e) {
    if (e == 0) return granted(unique);
    (void)connection_.reply(unique, e);
  });
}

// Who gets a lock sees what the one before did under it: the kernel is told of that first.
void Dispatcher::granted(std::uint64_t unique) {
  adapter_.in_step([this, unique] { (void)connection_.reply(unique, 0); });
}

// Only locks wait for more than a disk.
void Dispatcher::interrupt(Request& r) {
  constexpr std::size_t kRemembered = 256;
  const auto in = r.take<fuse_interrupt_in>();
  r.answered = true;
  if (!adapter_.keeps_locks()) return;
  const MutexLock lock{interrupts_mutex_};
  if (adapter_.stop_waiting(in.unique)) return;
  interrupts_.push_back(in.unique);
  if (interrupts_.size() > kRemembered) interrupts_.pop_front();
}

void Dispatcher::data(Request& r) {
  Call& c = r.call;
  switch (r.head.opcode) {
    case FUSE_WRITE: {
      const auto in = r.take<fuse_write_in>();
      if (r.rest.size() < in.size) throw Request::Malformed{};
      const auto done = adapter_.write(c, r.id(), in.fh, in.offset, r.rest.first(in.size),
                                       (in.write_flags & FUSE_WRITE_CACHE) != 0,
                                       (in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0);
      if (!done) return error(r, to_errno(done.error()));
      fuse_write_out out{};
      out.size = in.size;
      const std::array body{as_iov(out)};
      (void)ok(r, body);
      return;
    }
    case FUSE_FLUSH: {
      const auto in = r.take<fuse_flush_in>();
      if (adapter_.keeps_locks())  // any close ends the process's fcntl locks
        adapter_.unlock({r.id(), FileLocks::Family::posix, in.lock_owner, kWholeFile});
      return answer(r, adapter_.flush(c, r.id(), in.fh));
    }
    case FUSE_RELEASE: {
      const auto in = r.take<fuse_release_in>();
      if (in.fh == Adapter::kReplayHandle) {
        (void)ok(r);
        return;
      }
      if (adapter_.keeps_locks()) adapter_.close_locks(r.id(), in.fh);
      adapter_.release(r.id(), in.fh, static_cast<int>(in.flags));
      (void)ok(r);
      return;
    }
    case FUSE_RELEASEDIR:
      adapter_.releasedir(r.id(), r.take<fuse_release_in>().fh);
      (void)ok(r);
      return;
    case FUSE_FSYNC: {
      const auto in = r.take<fuse_fsync_in>();
      return answer(r, adapter_.fsync(c, r.id(), in.fh, (in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0));
    }
    case FUSE_FSYNCDIR:
    case FUSE_SYNCFS:
      return answer(r, adapter_.sync(c, r.id()));
    case FUSE_FALLOCATE: {
      const auto in = r.take<fuse_fallocate_in>();
      return answer(r, adapter_.fallocate(c, r.id(), in.fh, static_cast<int>(in.mode), in.offset, in.length));
    }
    case FUSE_LSEEK: {
      const auto in = r.take<fuse_lseek_in>();
      const auto at = adapter_.lseek(c, r.id(), in.fh, in.offset, static_cast<int>(in.whence));
      if (!at) return error(r, to_errno(at.error()));
      const fuse_lseek_out out{*at};
      const std::array body{as_iov(out)};
      (void)ok(r, body);
      return;
    }
    default: {
      const auto in = r.take<fuse_copy_file_range_in>();
      const bool wide = r.head.opcode == wire::kOpCopyFileRange64;
      // The older answer has 32 bits.
      const std::uint64_t n = wide ? in.len : std::min<std::uint64_t>(in.len, 0x7FFF'F000);
      const auto done =
          adapter_.copy_file_range(c, r.id(), in.fh_in, in.off_in, in.nodeid_out, in.fh_out, in.off_out, n);
      if (!done) return error(r, to_errno(done.error()));
      const wire::CopyFileRangeOut out64{*done};
      fuse_write_out out32{};
      out32.size = static_cast<std::uint32_t>(*done);
      const std::array body{wide ? as_iov(out64) : as_iov(out32)};
      (void)ok(r, body);
      return;
    }
  }
}

}  // namespace indra
