// A real mount of a tree in memory, for one test.
#pragma once
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "mount/mem_view.h"
#include "mount/mount.h"

namespace indra {

inline void write_file(const std::string& path, std::string_view text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  ASSERT_GE(fd, 0) << path << ": " << std::strerror(errno);
  ASSERT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size())) << std::strerror(errno);
  ASSERT_EQ(::close(fd), 0);
}
inline std::string read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::string{"cannot open: "} + std::strerror(errno);
  std::string out;
  char buf[65536];
  for (ssize_t n = 0; (n = ::read(fd, buf, sizeof buf)) > 0;) out.append(buf, static_cast<std::size_t>(n));
  ::close(fd);
  return out;
}
inline std::set<std::string> names_in(const std::string& path) {
  std::set<std::string> names;
  DIR* d = ::opendir(path.c_str());
  if (d == nullptr) return {std::string{"cannot open: "} + std::strerror(errno)};
  while (const dirent* e = ::readdir(d))
    if (std::string_view{e->d_name} != "." && std::string_view{e->d_name} != "..") names.insert(e->d_name);
  ::closedir(d);
  return names;
}
/// The errno of a call, 0 when it succeeded.
inline int errno_of(long rc) { return rc < 0 ? errno : 0; }

/// Waits until `true_now`, at most ten seconds.
template <class F>
bool soon(F&& true_now) {
  for (int i = 0; i < 60'000; ++i) {
    if (true_now()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return false;
}

class TestMount : public ::testing::Test {
 protected:
  void SetUp() override {
    // Only where nothing can be mounted at all; where there is a /dev/fuse, ./test counts a skip as a
    // failure.
    if (::access("/dev/fuse", F_OK) != 0) GTEST_SKIP() << "no /dev/fuse";
    std::string pattern = std::filesystem::temp_directory_path() / "indra-mount-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    ::mkdir((dir_ + "/m").c_str(), 0755);
    options_.mountpoint = dir_ + "/m";
    options_.layout = LayoutKind::plain;
    options_.fsname = "test-vault";
  }
  void TearDown() override {
    if (dir_.empty()) return;
    mount_.reset();
    ::umount2((dir_ + "/m").c_str(), MNT_DETACH);
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  void start() {
    auto m = Mount::start(options_, views_, [this] { ended_ = true; });
    ASSERT_TRUE(m) << m.error().text();
    mount_ = std::move(*m);
  }
  /// Ends the mount before what its test declared earlier goes: the hooks of views_ use that.
  class Ending {
   public:
    explicit Ending(TestMount& t) : t_{t} {}
    Ending(const Ending&) = delete;
    Ending& operator=(const Ending&) = delete;
    ~Ending() { t_.mount_.reset(); }

   private:
    TestMount& t_;
  };
  /// Keeps the notifier from going on: it waits for the lock of a directory in which a lookup does not end.
  class NotifierHeld {
   public:
    NotifierHeld(TestMount& t, const std::string& dir) : dir_{t.at(dir)}, ending_{t} {
      t.views_.on_operation = [this](std::string_view op) { operation(op); };
    }
    ~NotifierHeld() { let_go(); }
    /// Then the next change in the directory is where the notifier stops.
    void hold() {
      armed_ = true;
      user_ = std::thread{[this] {
        struct stat st {};
        (void)::stat((dir_ + "/nothing").c_str(), &st);
      }};
      while (!inside_) std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    void let_go() {
      go_ = true;
      if (user_.joinable()) user_.join();
    }

   private:
    void operation(std::string_view op) {
      if (op != "lookup" || !armed_.exchange(false)) return;
      inside_ = true;
      while (!go_) std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }

    const std::string dir_;
    std::atomic<bool> armed_{false}, inside_{false}, go_{false};
    std::thread user_;
    const Ending ending_;
  };
  std::string at(const std::string& name) const { return dir_ + "/m/" + name; }
  /// How often a request of this kind has come.
  std::uint64_t count(std::string_view request) const { return count_in(*mount_, request); }
  static std::uint64_t count_in(const Mount& mount, std::string_view request) {
    for (const auto& [name, n] : mount.figures().requests)
      if (name == request) return n;
    return 0;
  }
  std::uint64_t count_all() const {
    std::uint64_t sum = 0;
    for (const auto& [name, n] : mount_->figures().requests) sum += n;
    return sum;
  }

  std::string dir_;
  MountOptions options_;
  MemViews views_;
  std::atomic<bool> ended_{false};
  std::unique_ptr<Mount> mount_;
};

}  // namespace indra
