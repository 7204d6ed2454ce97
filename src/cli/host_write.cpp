// Items as files of the host. Nothing is written through a link: each directory is opened by name from the
// one above.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <unordered_set>

#include "base/fd.h"
#include "cli/host.h"

namespace indra::cli {
namespace {

std::pair<std::string, std::string> cut(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

timespec spec(TimeNs t) {
  timespec s{};
  s.tv_sec = static_cast<time_t>(t / kSecond - (t % kSecond < 0 ? 1 : 0));
  s.tv_nsec = static_cast<long>((t % kSecond + kSecond) % kSecond);
  return s;
}

Result<void> write_all(int fd, ByteView bytes, std::optional<std::uint64_t> at) {
  while (!bytes.empty()) {
    const ssize_t n = at ? ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(*at))
                         : ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(errno);
    if (at) *at += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

class DirectorySink final : public Sink {
 public:
  DirectorySink(Fd root, std::string top, Existing existing, bool owners,
                std::function<void(const std::string&, const Error&)> failed)
      : root_{std::move(root)},
        top_{std::move(top)},
        existing_{existing},
        owners_{owners},
        failed_{std::move(failed)} {}

  Result<void> take(Message m) override {
    const bool abort = bool_field(m.head, "abort");
    INDRA_LET(Item i, to_item(std::move(m)));
    if (i.op == Item::Op::chunk || i.op == Item::Op::done) {
      const auto it = open_.find(i.id);
      if (it == open_.end()) return {};
      Partial& p = it->second;
      if (i.op == Item::Op::chunk) {
        if (auto r = write_all(p.fd.get(), i.body, i.at); !r) drop(it, &r.error());
      } else if (abort) {
        drop(it, nullptr);
      } else {
        auto r = finish_file(p, i.size);
        if (r)
          open_.erase(it);
        else
          drop(it, &r.error());
      }
      return {};
    }
    if (!top_.empty()) i.path = renamed(i.path);
    if (i.op == Item::Op::link && !top_.empty()) i.target = renamed(i.target);
    const std::string path = i.path;
    if (auto r = make(std::move(i)); !r) failed_(path, r.error());
    return {};
  }

  Result<void> finish() override {
    while (!open_.empty()) drop(open_.begin(), nullptr);
    for (auto it = dirs_.rbegin(); it != dirs_.rend(); ++it) {
      auto dir = open_dir(it->path);
      auto r = dir ? attributes(dir->get(), *it) : Result<void>{fail(dir.error())};
      if (!r) failed_(it->path, r.error());
    }
    return {};
  }

 private:
  struct Partial {
    Item head;
    Fd dir, fd;
    std::string temp, name;
  };

  std::string renamed(const std::string& path) const {
    const std::size_t slash = path.find('/');
    return slash == std::string::npos ? top_ : top_ + path.substr(slash);
  }

  Result<Fd> open_dir(const std::string& path) {
    Fd at{::fcntl(root_.get(), F_DUPFD_CLOEXEC, 3)};
    for (std::size_t i = 0; i < path.size();) {
      const std::size_t end = std::min(path.find('/', i), path.size());
      Fd next{::openat(at.get(), path.substr(i, end - i).c_str(),
                       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
      if (next.get() < 0) return fail(errno);
      at = std::move(next);
      i = end + 1;
    }
    if (at.get() < 0) return fail(errno);
    return at;
  }

  /// True: the place is free. False: it is taken, and that is how it shall stay.
  Result<bool> free_place(int dir, const std::string& name) {
    struct stat st {};
    if (::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
      return errno == ENOENT ? Result<bool>{true} : fail(errno);
    if (existing_ == Existing::skip) return false;
    if (existing_ == Existing::fail) return fail(EEXIST);
    if (S_ISDIR(st.st_mode)) return fail(EISDIR);
    return true;
  }

  Result<void> make(Item i) {
    const auto [dir_path, name] = cut(i.path);
    if (i.op == Item::Op::dir) {
      if (!i.path.empty()) {
        INDRA_LET(const Fd parent, open_dir(dir_path));
        if (::mkdirat(parent.get(), name.c_str(), 0700) != 0) {
          if (errno != EEXIST) return fail(errno);
          struct stat st {};
          if (::fstatat(parent.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode))
            return fail(EEXIST);
          if (existing_ != Existing::replace) return {};  // merged; its own attributes stay
        }
      } else if (existing_ != Existing::replace) {
        return {};
      }
      dirs_.push_back(std::move(i));
      return {};
    }
    if (i.path.empty()) return fail(EISDIR);
    if (dir_path != last_path_ || last_.get() < 0) {
      INDRA_LET(last_, open_dir(dir_path));
      last_path_ = dir_path;
    }
    const int dir = last_.get();
    INDRA_LET(const bool go, free_place(dir, name));
    if (!go) return {};
    const std::string temp = ".indrafs-" + std::to_string(::getpid()) + "-" + std::to_string(++counter_);
    if (i.op == Item::Op::link) {
      const auto [target_dir, target_name] = cut(i.target);
      INDRA_LET(const Fd from, open_dir(target_dir));
      if (!came_.contains(std::hash<std::string>{}(i.target)) && !same_time(from.get(), target_name, i))
        return fail(ENOENT, "hard link to " + i.target + ", which is another file here");
      if (::linkat(from.get(), target_name.c_str(), dir, temp.c_str(), 0) != 0)
        return fail(errno, "hard link to " + i.target);
      return put_in_place(dir, temp, name);
    }
    if (i.op == Item::Op::symlink) {
      if (::symlinkat(i.target.c_str(), dir, temp.c_str()) != 0) return fail(errno);
      link_attributes(dir, temp, i);
      INDRA_TRY(put_in_place(dir, temp, name));
      return came(i);
    }
    if (i.op == Item::Op::node) {
      if (::mknodat(dir, temp.c_str(), i.mode.value_or(S_IFIFO | 0600), i.rdev) != 0) return fail(errno);
      if (i.mode) (void)::fchmodat(dir, temp.c_str(), *i.mode & 07777, 0);
      link_attributes(dir, temp, i);
      INDRA_TRY(put_in_place(dir, temp, name));
      return came(i);
    }
    Fd fd{::openat(dir, temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (fd.get() < 0) return fail(errno);
    Partial p{std::move(i), Fd{::fcntl(dir, F_DUPFD_CLOEXEC, 3)}, std::move(fd), temp, name};
    auto r = write_all(p.fd.get(), p.head.body, 0);
    if (r && p.head.more) {
      const std::uint64_t id = p.head.id;
      open_.emplace(id, std::move(p));
      return {};
    }
    if (r) r = finish_file(p, p.head.size);
    if (!r) ::unlinkat(dir, temp.c_str(), 0);
    return r;
  }

  Result<void> put_in_place(int dir, const std::string& temp, const std::string& name) {
    const unsigned flags = existing_ == Existing::replace ? 0 : RENAME_NOREPLACE;
    if (::renameat2(dir, temp.c_str(), dir, name.c_str(), flags) == 0) {
      // Two names of one file: then rename does nothing and leaves the other.
      if (flags == 0) ::unlinkat(dir, temp.c_str(), 0);
      return {};
    }
    int err = errno;
    if (err == EINVAL && flags != 0 && ::linkat(dir, temp.c_str(), dir, name.c_str(), 0) == 0)
      err = 0;  // no NOREPLACE here
    else if (err == EINVAL)
      err = errno;
    ::unlinkat(dir, temp.c_str(), 0);
    if (err == 0) return {};
    return fail(err);
  }

  Result<void> finish_file(Partial& p, std::uint64_t size) {
    if (::ftruncate(p.fd.get(), static_cast<off_t>(size)) != 0) return fail(errno);
    INDRA_TRY(attributes(p.fd.get(), p.head));
    INDRA_TRY(put_in_place(p.dir.get(), p.temp, p.name));
    return came(p.head);
  }

  Result<void> came(const Item& i) {
    came_.insert(std::hash<std::string>{}(i.path));
    return {};
  }
  /// What was passed over because it is there already, from an earlier time.
  [[nodiscard]] bool same_time(int dir, const std::string& name, const Item& link) const {
    struct stat st {};
    return existing_ == Existing::skip && link.mtime &&
           ::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           *link.mtime == host_time(st.st_mtim);
  }

  Result<void> attributes(int fd, const Item& i) {
    if (owners_ && i.uid && i.gid && ::fchown(fd, *i.uid, *i.gid) != 0) return fail(errno, "owner");
    // Attributes before the mode: of a file that may not be written to they cannot be set.
    for (const auto& [name, value] : i.xattrs)
      if (name.starts_with("user.") && ::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) != 0 &&
          errno != ENOTSUP)
        return fail(errno, "extended attribute " + name);
    if (i.mode && ::fchmod(fd, *i.mode & 07777) != 0) return fail(errno, "mode");
    const std::array times{i.atime ? spec(*i.atime) : timespec{0, UTIME_OMIT},
                           i.mtime ? spec(*i.mtime) : timespec{0, UTIME_OMIT}};
    if (::futimens(fd, times.data()) != 0) return fail(errno, "times");
    return {};
  }

  void link_attributes(int dir, const std::string& name, const Item& i) {
    if (owners_ && i.uid && i.gid) (void)!::fchownat(dir, name.c_str(), *i.uid, *i.gid, AT_SYMLINK_NOFOLLOW);
    const std::array times{i.atime ? spec(*i.atime) : timespec{0, UTIME_OMIT},
                           i.mtime ? spec(*i.mtime) : timespec{0, UTIME_OMIT}};
    (void)::utimensat(dir, name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
  }

  void drop(std::map<std::uint64_t, Partial>::iterator it, const Error* e) {
    Partial& p = it->second;
    ::unlinkat(p.dir.get(), p.temp.c_str(), 0);
    if (e != nullptr) failed_(p.head.path, *e);
    open_.erase(it);
  }

  const Fd root_;
  const std::string top_;
  const Existing existing_;
  const bool owners_;
  const std::function<void(const std::string&, const Error&)> failed_;
  std::map<std::uint64_t, Partial> open_;
  std::unordered_set<std::size_t> came_;  // hashes of paths: what names may be linked to
  std::vector<Item> dirs_;
  Fd last_;
  std::string last_path_;
  std::uint64_t counter_ = 0;
};

class ByteSink final : public Sink {
 public:
  explicit ByteSink(int fd) : fd_{fd} {}
  Result<void> take(Message m) override {
    INDRA_LET(Item i, to_item(std::move(m)));
    if (i.op == Item::Op::file) {
      at_ = 0;
      at_ += i.body.size();
      return write_all(fd_, i.body, std::nullopt);
    }
    if (i.op == Item::Op::chunk) {
      INDRA_TRY(zeros_to(i.at));
      at_ += i.body.size();
      return write_all(fd_, i.body, std::nullopt);
    }
    if (i.op == Item::Op::done) return zeros_to(i.size);
    return {};
  }
  Result<void> finish() override { return {}; }

 private:
  Result<void> zeros_to(std::uint64_t at) {
    static const Bytes zeros(kBodySize);
    while (at_ < at) {
      const std::uint64_t n = std::min<std::uint64_t>(zeros.size(), at - at_);
      INDRA_TRY(write_all(fd_, ByteView{zeros}.first(n), std::nullopt));
      at_ += n;
    }
    return {};
  }
  const int fd_;
  std::uint64_t at_ = 0;
};

}  // namespace

Result<std::unique_ptr<Sink>> directory_sink(const std::string& dir, const std::string& top,
                                             Existing existing, bool owners,
                                             std::function<void(const std::string&, const Error&)> failed) {
  Fd root{::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (root.get() < 0) return fail(errno, dir);
  return std::make_unique<DirectorySink>(std::move(root), top, existing, owners, std::move(failed));
}

std::unique_ptr<Sink> byte_sink(int fd) { return std::make_unique<ByteSink>(fd); }

}  // namespace indra::cli
