// Directories of the host as items: one thread walks, others read files.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/fd.h"
#include "cli/host.h"

namespace indra::cli {
namespace {

using Dir = std::shared_ptr<const Fd>;

Item item_of(const struct stat& st, std::string path, const ItemSinks& to) {
  Item i;
  i.path = std::move(path);
  i.mode = st.st_mode;
  if (to.owners) {
    i.uid = st.st_uid;
    i.gid = st.st_gid;
  }
  i.mtime = host_time(st.st_mtim);
  i.atime = host_time(st.st_atim);
  i.size = static_cast<std::uint64_t>(st.st_size);
  i.rdev = st.st_rdev;
  return i;
}

/// user.* only: the others belong to the host.
Result<void> read_xattrs(int fd, Item& i) {
  std::array<char, 4096> small{};
  ssize_t n = ::flistxattr(fd, small.data(), small.size());
  if (n == 0 || (n < 0 && errno == ENOTSUP)) return {};
  std::string names{small.data(), n > 0 ? static_cast<std::size_t>(n) : 0};
  if (n < 0) {
    names.resize(XATTR_LIST_MAX);
    n = ::flistxattr(fd, names.data(), names.size());
    if (n < 0) return fail(errno, "extended attributes");
    names.resize(static_cast<std::size_t>(n));
  }
  std::size_t room = 200 << 10;
  for (std::size_t at = 0; at < names.size();) {
    const std::string name = names.c_str() + at;
    at += name.size() + 1;
    if (!name.starts_with("user.")) continue;
    std::string value(XATTR_SIZE_MAX, '\0');
    const ssize_t size = ::fgetxattr(fd, name.c_str(), value.data(), value.size());
    if (size < 0) continue;
    value.resize(static_cast<std::size_t>(size));
    if (value.size() > room) return fail(E2BIG, "extended attributes");
    room -= value.size();
    i.xattrs[name] = std::move(value);
  }
  return {};
}

std::atomic<std::uint64_t> last_item{0};

/// The rest of a file that is too large for one message, or has holes.
Result<void> send_parts(int fd, Item i, const ItemSinks& to, bool seekable) {
  const std::uint64_t id = ++last_item, size = i.size;
  i.id = id;
  i.more = true;
  const std::string path = i.path;
  INDRA_TRY(to.emit(std::move(i)));
  std::uint64_t at = 0;
  bool broken = false;
  for (;;) {
    if (seekable) {
      const off_t data = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
      if (data < 0 && errno == ENXIO) break;
      if (data >= 0) at = static_cast<std::uint64_t>(data);
    }
    Item c;
    c.op = Item::Op::chunk;
    c.id = id;
    c.at = at;
    std::size_t want = kBodySize - at % kBodySize;
    if (seekable)
      if (const off_t hole = ::lseek(fd, static_cast<off_t>(at), SEEK_HOLE); hole > static_cast<off_t>(at))
        want = std::min(want, static_cast<std::size_t>(hole) - at);
    c.body.resize(want);
    std::size_t have = 0;
    while (have < want) {
      const ssize_t n = seekable
                            ? ::pread(fd, c.body.data() + have, want - have, static_cast<off_t>(at + have))
                            : ::read(fd, c.body.data() + have, want - have);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        to.failed(path, {std::error_code{errno, std::generic_category()}, {}});
        broken = true;
      }
      if (n <= 0) break;
      have += static_cast<std::size_t>(n);
    }
    c.body.resize(have);
    at += have;
    if (have > 0) INDRA_TRY(to.emit(std::move(c)));
    if (have < want) break;
  }
  Item done;
  done.op = Item::Op::done;
  done.id = id;
  // A file that shrank while it was read is as long as what was read of it, unless a hole ends it.
  struct stat st {};
  done.size = seekable && ::fstat(fd, &st) == 0 ? std::max(at, static_cast<std::uint64_t>(st.st_size))
                                                : std::max(at, seekable ? size : at);
  if (broken) done.size = UINT64_MAX;  // the Sender makes it an abort
  return to.emit(std::move(done));
}

class Walk {
 public:
  explicit Walk(const ItemSinks& to) : to_{to} {
    const unsigned n = std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
    for (unsigned k = 0; k < n; ++k) readers_.emplace_back([this] { read_files(); });
  }
  ~Walk() { join(); }

  Result<void> node(const Dir& dir, const std::string& name, const std::string& path, bool recursive,
                    bool follow, int depth = 0) {
    if (stopped_) return fail(EPIPE);
    if (depth > kDeepest) return bad(path, ENAMETOOLONG);
    struct stat st {};
    if (::fstatat(dir->get(), name.c_str(), &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0)
      return bad(path, errno);
    if (S_ISDIR(st.st_mode)) {
      if (!recursive) return bad(path, EISDIR);
      return directory(dir, name, path, st, follow, depth);
    }
    Item i = item_of(st, path, to_);
    if (st.st_nlink > 1) {
      const auto [first, fresh] = linked_.try_emplace({st.st_dev, st.st_ino}, path);
      if (!fresh) {
        i.op = Item::Op::link;
        i.target = first->second;
        links_.push_back(std::move(i));
        return {};
      }
    }
    if (S_ISREG(st.st_mode)) {
      i.op = Item::Op::file;
      if (!to_.contents) return emit(std::move(i));
      std::unique_lock lock{mutex_};
      room_.wait(lock, [&] { return queue_.size() < 256 || stopped_; });
      queue_.push_back({dir, name, std::move(i), follow});
      lock.unlock();
      filled_.notify_one();
      return {};
    }
    if (S_ISLNK(st.st_mode)) {
      i.op = Item::Op::symlink;
      i.target.resize(4096);
      const ssize_t n = ::readlinkat(dir->get(), name.c_str(), i.target.data(), i.target.size());
      if (n < 0) return bad(path, errno);
      i.target.resize(static_cast<std::size_t>(n));
      return emit(std::move(i));
    }
    i.op = Item::Op::node;
    return emit(std::move(i));
  }

  Result<void> join() {
    {
      const std::lock_guard lock{mutex_};
      ended_ = true;
    }
    filled_.notify_all();
    for (auto& t : readers_) t.join();
    readers_.clear();
    return stopped_ ? Result<void>{fail(EPIPE)} : Result<void>{};
  }
  /// Other names, behind all files: by then each is sent that they are names of.
  Result<void> links() {
    for (Item& i : links_) INDRA_TRY(emit(std::move(i)));
    return {};
  }

 private:
  struct File {
    Dir dir;
    std::string name;
    Item item;
    bool follow = false;
  };

  Result<void> bad(const std::string& path, int err) {
    to_.failed(path, {std::error_code{err, std::generic_category()}, {}});
    return {};
  }

  Result<void> emit(Item i) {
    auto r = to_.emit(std::move(i));
    if (!r) {
      stopped_ = true;
      room_.notify_all();
    }
    return r;
  }

  Result<void> directory(const Dir& parent, const std::string& name, const std::string& path,
                         const struct stat& st, bool follow, int depth) {
    const auto dir = std::make_shared<Fd>(::openat(
        parent->get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW)));
    if (dir->get() < 0) return bad(path, errno);
    Item i = item_of(st, path, to_);
    i.op = Item::Op::dir;
    i.size = 0;
    if (auto x = read_xattrs(dir->get(), i); !x) to_.failed(path, x.error());
    INDRA_TRY(emit(std::move(i)));
    const int copy = ::openat(dir->get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* d = copy >= 0 ? ::fdopendir(copy) : nullptr;
    if (d == nullptr) {
      const int err = errno;
      if (copy >= 0) ::close(copy);
      return bad(path, err);
    }
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* e = ::readdir(d)) {
      const std::string_view n = e->d_name;
      if (n != "." && n != "..") names.emplace_back(n);
    }
    const int err = errno;
    ::closedir(d);
    if (err != 0) INDRA_TRY(bad(path, err));
    std::sort(names.begin(), names.end());
    for (const std::string& n : names)
      INDRA_TRY(node(dir, n, path.empty() ? n : path + "/" + n, true, false, depth + 1));
    return {};
  }

  void read_files() {
    for (;;) {
      File f;
      {
        std::unique_lock lock{mutex_};
        filled_.wait(lock, [&] { return ended_ || !queue_.empty(); });
        if (queue_.empty()) return;
        f = std::move(queue_.front());
        queue_.pop_front();
      }
      room_.notify_one();
      if (!stopped_) (void)read_file(std::move(f));
    }
  }

  Result<void> read_file(File f) {
    // O_NONBLOCK: what was a file a moment ago may be a fifo by now.
    const Fd fd{::openat(f.dir->get(), f.name.c_str(),
                         O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (f.follow ? 0 : O_NOFOLLOW))};
    struct stat st {};
    if (fd.get() < 0 || ::fstat(fd.get(), &st) != 0) return bad(f.item.path, errno);
    if (!S_ISREG(st.st_mode)) return bad(f.item.path, EAGAIN);
    if (auto x = read_xattrs(fd.get(), f.item); !x) to_.failed(f.item.path, x.error());
    const auto size = static_cast<std::uint64_t>(st.st_size);
    f.item.size = size;
    const bool sparse = static_cast<std::uint64_t>(st.st_blocks) * 512 < size;
    if (size > kBodySize || (sparse && size > 65536)) {
      ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
      const auto r = send_parts(fd.get(), std::move(f.item), to_, true);
      if (!r) stopped_ = true;
      return r;
    }
    f.item.body.resize(size);
    std::size_t have = 0;
    while (have < size) {
      const ssize_t n = ::read(fd.get(), f.item.body.data() + have, size - have);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return bad(f.item.path, errno);
      if (n == 0) break;
      have += static_cast<std::size_t>(n);
    }
    f.item.body.resize(have);
    f.item.size = have;
    return emit(std::move(f.item));
  }

  const ItemSinks& to_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
  std::vector<Item> links_;
  std::mutex mutex_;
  std::condition_variable filled_, room_;
  std::deque<File> queue_;
  bool ended_ = false;
  std::atomic<bool> stopped_{false};
  std::vector<std::thread> readers_;
};

}  // namespace

Result<void> read_host(const std::string& path, const std::string& name, bool recursive, bool follow,
                       const ItemSinks& to) {
  rlimit limit{};  // a descriptor for each level of a deep tree
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  Walk walk{to};
  auto r = walk.node(std::make_shared<Fd>(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)), path, name,
                     recursive, follow);
  auto joined = walk.join();
  if (r && joined) joined = walk.links();
  return r ? joined : r;
}

Result<void> read_stream(int fd, const std::string& name, const ItemSinks& to) {
  Item i;
  i.op = Item::Op::file;
  i.path = name;
  return send_parts(fd, std::move(i), to, false);
}

}  // namespace indra::cli
