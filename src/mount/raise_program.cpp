#include "mount/raise_program.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/bytes.h"
#include "base/fd.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

namespace indra {
namespace {

struct Mounted {
  std::string path;
  std::uint64_t device;
};

/// Device and inode number, without asking the daemon.
int identify(int fd, std::uint64_t& device, std::uint64_t& ino) {
  struct statx sx {};
  if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &sx) != 0) return errno;
  device = makedev(sx.stx_dev_major, sx.stx_dev_minor);
  ino = sx.stx_ino;
  return 0;
}

/// Opens the directory of `p`: only in this mount, only if it is the one that is meant.
int enter(const Mounted& mount, const RaiseOrder::Place& p, Fd& dir) {
  constexpr int kFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  dir = Fd{::open(mount.path.c_str(), kFlags)};
  if (!dir) return errno;
  std::uint64_t device = 0, ino = 0;
  if (const int e = identify(dir.get(), device, ino)) return e;
  if (device != mount.device) return ENOTCONN;  // unmounted, or covered by another mount
  for (std::size_t at = 0; at < p.path.size();) {
    const std::size_t end = std::min(p.path.find('/', at), p.path.size());
    const std::string name = p.path.substr(at, end - at);
    at = end + 1;
    if (name.empty() || name == "..") return EINVAL;
    Fd next{::openat(dir.get(), name.c_str(), kFlags)};
    if (!next) return errno;
    dir = std::move(next);
  }
  if (const int e = identify(dir.get(), device, ino)) return e;
  if (device != mount.device) return EXDEV;
  return ino == p.dir ? 0 : ESTALE;
}

int done(long rc) { return rc < 0 ? errno : 0; }

/// `both`: access time too, which makes it a change of attributes for who watches.
int set_times(int dir, const std::string& name, bool both) {
  const timespec now{0, UTIME_NOW}, keep{0, UTIME_OMIT};
  const std::array<timespec, 2> times{both ? now : keep, now};
  const int flags = AT_SYMLINK_NOFOLLOW | (name.empty() ? AT_EMPTY_PATH : 0);
  return done(::utimensat(dir, name.c_str(), times.data(), flags));
}

int obey(const Mounted& mount, const RaiseOrder& o) {
  if (o.call == RaiseOrder::ping) return 0;
  Fd from, to;
  const bool at_to = o.call == RaiseOrder::node || o.call == RaiseOrder::directory ||
                     o.call == RaiseOrder::symlink || o.call == RaiseOrder::link ||
                     o.call == RaiseOrder::rename || o.call == RaiseOrder::exchange;
  const bool at_from =
      !at_to || o.call == RaiseOrder::link || o.call == RaiseOrder::rename || o.call == RaiseOrder::exchange;
  if (at_from)
    if (const int e = enter(mount, o.from, from)) return e;
  if (at_to)
    if (const int e = enter(mount, o.to, to)) return e;
  const char* const a = o.from.name.c_str();
  const char* const b = o.to.name.c_str();
  switch (o.call) {
    case RaiseOrder::node:
      return done(::mknodat(to.get(), b, o.type, 0));
    case RaiseOrder::directory:
      return done(::mkdirat(to.get(), b, 0700));
    case RaiseOrder::symlink:
      return done(::symlinkat(".", to.get(), b));
    case RaiseOrder::link:
      return done(::linkat(from.get(), a, to.get(), b, 0));
    case RaiseOrder::unlink:
      return done(::unlinkat(from.get(), a, 0));
    case RaiseOrder::rmdir:
      return done(::unlinkat(from.get(), a, AT_REMOVEDIR));
    case RaiseOrder::rename:
      return done(::renameat2(from.get(), a, to.get(), b, 0));
    case RaiseOrder::exchange:
      return done(::renameat2(from.get(), a, to.get(), b, RENAME_EXCHANGE));
    case RaiseOrder::modify:
      return set_times(from.get(), o.from.name, false);
    case RaiseOrder::attributes:
      return set_times(from.get(), o.from.name, true);
    case RaiseOrder::close: {
      const int fd = ::openat(from.get(), a, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
      if (fd < 0) return errno;
      return done(::close(fd));
    }
    case RaiseOrder::ping:
      break;
  }
  return EINVAL;
}

bool receive(int socket, void* into, std::size_t n) {
  for (std::size_t got = 0; got < n;) {
    const ssize_t k = ::read(socket, static_cast<char*>(into) + got, n - got);
    if (k == 0 || (k < 0 && errno != EINTR)) return false;
    if (k > 0) got += static_cast<std::size_t>(k);
  }
  return true;
}

}  // namespace

std::string RaiseOrder::encode() const {
  std::string body;
  body.push_back(call);
  body += std::to_string(type);
  for (const Place* p : {&from, &to}) {
    body.push_back('\0');
    body += std::to_string(p->dir);
    body.push_back('\0');
    body += p->path;
    body.push_back('\0');
    body += p->name;
  }
  const auto size = static_cast<std::uint32_t>(body.size());
  std::string out(sizeof size, '\0');
  std::memcpy(out.data(), &size, sizeof size);
  return out + body;
}

std::optional<RaiseOrder> RaiseOrder::decode(std::string_view body) {
  std::array<std::string, 7> fields;
  for (std::size_t i = 0, at = 0; i < fields.size(); ++i) {
    if (at > body.size()) return std::nullopt;
    const std::size_t end = std::min(body.find('\0', at), body.size());
    fields[i] = body.substr(at, end - at);
    at = end + 1;
  }
  if (fields[0].empty()) return std::nullopt;
  RaiseOrder o;
  o.call = static_cast<Call>(fields[0][0]);
  o.type = static_cast<std::uint32_t>(std::strtoul(fields[0].c_str() + 1, nullptr, 10));
  o.from = {std::strtoull(fields[1].c_str(), nullptr, 10), fields[2], fields[3]};
  o.to = {std::strtoull(fields[4].c_str(), nullptr, 10), fields[5], fields[6]};
  return o;
}

int run_raise_program(const std::string& mountpoint, std::uint64_t device, int socket) {
  if (::chdir("/") != 0) return 1;
  ::umask(0);
  const Mounted mount{mountpoint, device};
  std::string body;
  for (;;) {
    std::uint32_t size = 0;
    if (!receive(socket, &size, sizeof size)) return 0;
    body.resize(size);
    if (!receive(socket, body.data(), size)) return 0;
    const auto order = RaiseOrder::decode(body);
    const std::int32_t result = order ? obey(mount, *order) : EINVAL;
    if (::send(socket, &result, sizeof result, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof result)) return 0;
  }
}

int run_raise_program(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("this verb is run by `indrafs mount`\n", stderr);
    return 2;
  }
  return run_raise_program(argv[0], std::strtoull(argv[1], nullptr, 10), 3);
}

}  // namespace indra
