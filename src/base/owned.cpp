#include "base/owned.h"

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace indra {
namespace {

/// Where a name is to be made: the directory is found with this process's own rights.
struct Parent {
  explicit Parent(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string dir = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    name = path.substr(slash == std::string::npos ? 0 : slash + 1);
    fd = ::open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  }
  ~Parent() {
    const int err = errno;
    if (fd >= 0) ::close(fd);
    errno = err;
  }
  Parent(const Parent&) = delete;
  Parent& operator=(const Parent&) = delete;
  std::string name;
  int fd;
};

}  // namespace

AsOwnerOf::AsOwnerOf(int dir) {
  struct stat st {};
  if (::geteuid() != 0 || ::fstat(dir, &st) != 0 || st.st_uid == 0) return;
  other_ = true;
  ::setfsgid(st.st_gid);
  ::setfsuid(st.st_uid);
}

AsOwnerOf::~AsOwnerOf() {
  if (!other_) return;
  const int err = errno;
  ::setfsuid(::geteuid());
  ::setfsgid(::getegid());
  errno = err;
}

int open_owned(const std::string& path, int flags, mode_t mode) {
  flags |= O_CLOEXEC | O_NOFOLLOW;
  if ((flags & O_CREAT) == 0 || ::geteuid() != 0) return ::open(path.c_str(), flags, mode);
  const Parent parent{path};
  if (parent.fd < 0) return -1;
  for (;;) {
    if ((flags & O_EXCL) == 0) {
      // What is there is opened with our own rights: an earlier program left it as root's.
      const int fd = ::openat(parent.fd, parent.name.c_str(), flags & ~O_CREAT);
      if (fd >= 0 || errno != ENOENT) return fd;
    }
    const AsOwnerOf owner{parent.fd};
    const int fd = ::openat(parent.fd, parent.name.c_str(), flags | O_EXCL, mode);
    if (fd >= 0 || errno != EEXIST || (flags & O_EXCL) != 0) return fd;
  }
}

int mkdir_owned(const std::string& path, mode_t mode) {
  if (::geteuid() != 0) return ::mkdir(path.c_str(), mode);
  const Parent parent{path};
  if (parent.fd < 0) return -1;
  const AsOwnerOf owner{parent.fd};
  return ::mkdirat(parent.fd, parent.name.c_str(), mode);
}

}  // namespace indra
