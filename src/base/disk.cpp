#include "base/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "base/owned.h"

namespace indra {
namespace {

class RealFile final : public DiskFile {
 public:
  RealFile(int fd, std::string path) : fd_{fd}, path_{std::move(path)} {}
  ~RealFile() override { ::close(fd_); }
  RealFile(const RealFile&) = delete;
  RealFile& operator=(const RealFile&) = delete;

  Result<std::size_t> read(std::uint64_t at, MutableBytes out) const override {
    std::size_t done = 0;
    while (done < out.size()) {
      const ssize_t n = ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(at + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail(errno, "read " + path_);
      if (n == 0) break;
      done += static_cast<std::size_t>(n);
    }
    return done;
  }
  Result<void> write(std::uint64_t at, ByteView bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail(errno, "write " + path_);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      at += static_cast<std::uint64_t>(n);
    }
    return {};
  }
  Result<void> sync() override {
    if (::fdatasync(fd_) != 0) return fail(errno, "fdatasync " + path_);
    return {};
  }
  Result<void> punch(std::uint64_t at, std::uint64_t n) override {
    if (::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
                    static_cast<off_t>(n)) != 0)
      return fail(errno, "punch a hole in " + path_);
    return {};
  }
  void uncache(std::uint64_t at, std::uint64_t n) const override {
    (void)::posix_fadvise(fd_, static_cast<off_t>(at), static_cast<off_t>(n), POSIX_FADV_DONTNEED);
  }
  Result<std::uint64_t> size() const override {
    struct stat st {};
    if (::fstat(fd_, &st) != 0) return fail(errno, "stat " + path_);
    return static_cast<std::uint64_t>(st.st_size);
  }
  Result<std::uint64_t> allocated() const override {
    struct stat st {};
    if (::fstat(fd_, &st) != 0) return fail(errno, "stat " + path_);
    return static_cast<std::uint64_t>(st.st_blocks) * 512;
  }

 private:
  int fd_;
  std::string path_;
};

class RealMap final : public DiskMap {
 public:
  RealMap(int fd, std::string path, MutableBytes bytes) : fd_{fd}, path_{std::move(path)}, bytes_{bytes} {}
  ~RealMap() override {
    ::munmap(bytes_.data(), bytes_.size());
    ::close(fd_);
  }
  RealMap(const RealMap&) = delete;
  RealMap& operator=(const RealMap&) = delete;
  MutableBytes bytes() override { return bytes_; }
  Result<void> sync() override {
    if (::fsync(fd_) != 0) return fail(errno, "sync " + path_);
    return {};
  }

 private:
  int fd_;
  std::string path_;
  MutableBytes bytes_;
};

class RealDisk final : public Disk {
 public:
  bool exists(const std::string& path) override { return ::access(path.c_str(), F_OK) == 0; }
  Result<std::unique_ptr<DiskMap>> map(const std::string& path, std::size_t size) override {
    const int fd = open_owned(path, O_RDWR | O_CREAT);
    if (fd < 0) return fail(errno, "open " + path);
    // Room on the device first: a mapped page without any would be a SIGBUS.
    int err = ::posix_fallocate(fd, 0, static_cast<off_t>(size));
    void* at = err == 0 ? ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (at == MAP_FAILED) {
      if (err == 0) err = errno;
      ::close(fd);
      return fail(err, "map " + path);
    }
    return std::make_unique<RealMap>(fd, path, MutableBytes{static_cast<std::byte*>(at), size});
  }
  std::uint64_t boot() const override {
    std::ifstream in{"/proc/sys/kernel/random/boot_id"};
    std::string id;
    if (!std::getline(in, id)) return 0;
    std::uint64_t h = 0xCBF29CE484222325ull;
    for (const char c : id) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
    return h != 0 ? h : 1;
  }
  Result<std::unique_ptr<DiskFile>> open(const std::string& path, bool create) override {
    const int fd = open_owned(path, O_RDWR | (create ? O_CREAT | O_EXCL : 0));
    if (fd < 0) return fail(errno, (create ? "create " : "open ") + path);
    return std::make_unique<RealFile>(fd, path);
  }
  Result<void> make_dir(const std::string& path) override {
    if (mkdir_owned(path) != 0 && errno != EEXIST) return fail(errno, "mkdir " + path);
    return {};
  }
  Result<void> remove(const std::string& path) override {
    if (::unlink(path.c_str()) != 0) return fail(errno, "unlink " + path);
    return {};
  }
  Result<std::vector<std::string>> list(const std::string& dir) override {
    DIR* d = ::opendir(dir.c_str());
    if (d == nullptr) return fail(errno, "list " + dir);
    std::vector<std::string> names;
    while (const dirent* e = ::readdir(d)) {
      const std::string_view name = e->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    ::closedir(d);
    return names;
  }
  Result<void> sync_dir(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail(errno, "open " + path);
    const int rc = ::fsync(fd);
    const int err = errno;
    ::close(fd);
    if (rc != 0) return fail(err, "fsync " + path);
    return {};
  }
  Result<Space> space(const std::string& path) override {
    struct statvfs s {};
    if (::statvfs(path.c_str(), &s) != 0) return fail(errno, "statvfs " + path);
    return Space{static_cast<std::uint64_t>(s.f_bavail) * s.f_frsize,
                 static_cast<std::uint64_t>(s.f_blocks) * s.f_frsize};
  }
};

using Observer = std::function<void(const DiskEvent&)>;

class ObservedFile final : public DiskFile {
 public:
  ObservedFile(std::unique_ptr<DiskFile> f, std::string path, const Observer& o)
      : f_{std::move(f)}, path_{std::move(path)}, o_{o} {}
  Result<std::size_t> read(std::uint64_t at, MutableBytes out) const override { return f_->read(at, out); }
  Result<void> write(std::uint64_t at, ByteView bytes) override {
    auto r = f_->write(at, bytes);
    if (r) o_({DiskEvent::write, path_});
    return r;
  }
  Result<void> sync() override {
    auto r = f_->sync();
    if (r) o_({DiskEvent::sync, path_});
    return r;
  }
  Result<void> punch(std::uint64_t at, std::uint64_t n) override { return f_->punch(at, n); }
  Result<std::uint64_t> size() const override { return f_->size(); }
  Result<std::uint64_t> allocated() const override { return f_->allocated(); }

 private:
  std::unique_ptr<DiskFile> f_;
  std::string path_;
  const Observer& o_;
};

class ObservedDisk final : public Disk {
 public:
  ObservedDisk(Disk& below, Observer o) : below_{below}, o_{std::move(o)} {}
  Result<std::unique_ptr<DiskFile>> open(const std::string& path, bool create) override {
    INDRA_LET(auto f, below_.open(path, create));
    if (create) o_({DiskEvent::create, path});
    return std::make_unique<ObservedFile>(std::move(f), path, o_);
  }
  bool exists(const std::string& path) override { return below_.exists(path); }
  Result<std::unique_ptr<DiskMap>> map(const std::string& path, std::size_t size) override {
    return below_.map(path, size);
  }
  std::uint64_t boot() const override { return below_.boot(); }
  Result<void> make_dir(const std::string& path) override { return below_.make_dir(path); }
  Result<void> remove(const std::string& path) override {
    auto r = below_.remove(path);
    if (r) o_({DiskEvent::remove, path});
    return r;
  }
  Result<std::vector<std::string>> list(const std::string& dir) override { return below_.list(dir); }
  Result<void> sync_dir(const std::string& path) override {
    auto r = below_.sync_dir(path);
    if (r) o_({DiskEvent::sync_dir, path});
    return r;
  }
  Result<Space> space(const std::string& path) override { return below_.space(path); }

 private:
  Disk& below_;
  Observer o_;
};

}  // namespace

Disk& real_disk() {
  static RealDisk disk;
  return disk;
}

std::unique_ptr<Disk> observed_disk(Disk& below, Observer observer) {
  return std::make_unique<ObservedDisk>(below, std::move(observer));
}

}  // namespace indra
