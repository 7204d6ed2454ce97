#include "mount/internal/watches.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace indra {
namespace {

struct CloseDir {
  DIR* d;
  ~CloseDir() {
    if (d != nullptr) ::closedir(d);
  }
};

DIR* open_dir(int at, const char* path) {
  const int fd = ::openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  DIR* d = ::fdopendir(fd);
  if (d == nullptr) ::close(fd);
  return d;
}

bool is_number(const char* s) {
  for (const char* c = s; *c != '\0'; ++c)
    if (*c < '0' || *c > '9') return false;
  return *s != '\0';
}

std::uint64_t hex_after(std::string_view line, std::string_view key, bool& there) {
  const auto at = line.find(key);
  there = at != std::string_view::npos;
  if (!there) return 0;
  return std::strtoull(std::string{line.substr(at + key.size(), 16)}.c_str(), nullptr, 16);
}

std::string read_text(int at, const char* path) {
  std::string text;
  const int fd = ::openat(at, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buffer[16384];
  for (ssize_t n = 0; (n = ::read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  ::close(fd);
  return text;
}

void read_marks(std::string_view text, std::uint64_t device, Watches& w) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const bool fanotify = line.starts_with("fanotify ") && !line.starts_with("fanotify flags:");
    if (!fanotify && !line.starts_with("inotify ")) continue;
    bool has_device = false, has_node = false;
    const std::uint64_t node = hex_after(line, " ino:", has_node);
    const std::uint64_t on = hex_after(line, " sdev:", has_device);
    if (has_device && on != device) continue;
    if (has_device && has_node)
      w.nodes.insert(node);
    else if (fanotify)
      w.whole = true;  // a filesystem's mark, or a mount's, which is not said to be whose
  }
}

}  // namespace

Watches find_watches(std::uint64_t st_dev) {
  Watches w;
  const std::uint64_t device = (std::uint64_t{major(st_dev)} << 20) | minor(st_dev);  // the kernel's own form
  const CloseDir proc{open_dir(AT_FDCWD, "/proc")};
  if (proc.d == nullptr) {
    w.hidden = true;
    return w;
  }
  const int at = ::dirfd(proc.d);
  while (const dirent* process = ::readdir(proc.d)) {
    if (!is_number(process->d_name)) continue;
    const std::string pid = process->d_name;
    const CloseDir fds{open_dir(at, (pid + "/fd").c_str())};
    if (fds.d == nullptr) {
      if (errno == EACCES || errno == EPERM) w.hidden = true;
      continue;
    }
    while (const dirent* fd = ::readdir(fds.d)) {
      if (fd->d_name[0] == '.') continue;
      char target[32];
      const ssize_t n = ::readlinkat(::dirfd(fds.d), fd->d_name, target, sizeof target);
      if (n < 0) continue;
      const std::string_view link{target, static_cast<std::size_t>(n)};
      if (!link.starts_with("anon_inode:") || link.find("notify") == std::string_view::npos) continue;
      read_marks(read_text(at, (pid + "/fdinfo/" + fd->d_name).c_str()), device, w);
    }
  }
  return w;
}

}  // namespace indra
