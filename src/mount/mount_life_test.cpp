// A mount's beginning and end, its workers, and what lies around the branch.
#include <sched.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#include <condition_variable>
#include <mutex>

#include "mount/internal/test_mount.h"

namespace indra {
namespace {

/// A /dev/fuse that everybody may open, as udev makes it, in a mount namespace of this process.
bool open_device_to_all(const std::string& dir) {
  if (::access("/dev/fuse", F_OK) == 0) {
    struct stat st {};
    if (::stat("/dev/fuse", &st) == 0 && (st.st_mode & 0666) == 0666) return true;
  }
  const std::string hold = dir + "/dev";
  return ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mkdir(hold.c_str(), 0755) == 0 && ::mount("tmpfs", hold.c_str(), "tmpfs", 0, "mode=755") == 0 &&
         ::mknod((hold + "/fuse").c_str(), S_IFCHR | 0666, makedev(10, 229)) == 0 &&
         ::chmod((hold + "/fuse").c_str(), 0666) == 0 &&
         ::mount((hold + "/fuse").c_str(), "/dev/fuse", nullptr, MS_BIND, nullptr) == 0;
}

class MountLife : public TestMount {
 protected:
  std::string why_not() {
    auto m = Mount::start(options_, views_);
    if (m) return "mounted";
    return std::to_string(to_errno(m.error())) + " " + m.error().text();
  }
};

class MountLifeAsRoot : public MountLife {};

TEST_F(MountLife, M1_says_what_is_wrong_with_the_mount_point) {
  options_.mountpoint = dir_ + "/absent";
  EXPECT_EQ(why_not(),
            std::to_string(ENOENT) + " mount point " + dir_ + "/absent: No such file or directory");
  write_file(dir_ + "/file", "x");
  options_.mountpoint = dir_ + "/file";
  EXPECT_EQ(why_not(), std::to_string(ENOTDIR) + " mount point " + dir_ + "/file: Not a directory");
  options_.mountpoint = dir_;
  EXPECT_TRUE(why_not().starts_with(std::to_string(ENOTEMPTY))) << why_not();
  options_.mountpoint = dir_ + "/m";
  options_.view.branch = "no-such";
  EXPECT_TRUE(why_not().starts_with(std::to_string(ENOENT))) << why_not();
  EXPECT_EQ(errno_of(::umount2(options_.mountpoint.c_str(), 0)), EINVAL);  // nothing was left mounted
  options_.view.branch = "main";
  start();
  EXPECT_EQ(why_not(), std::to_string(EBUSY) + " " + dir_ +
                           "/m is mounted already; `indrafs unmount` it first: Device or resource busy");
}

TEST_F(MountLife, M1_covers_a_full_directory_when_told) {
  write_file(at("below"), "x");
  options_.nonempty = true;
  start();
  EXPECT_EQ(names_in(at("")), std::set<std::string>{});
  ASSERT_TRUE(mount_->stop());
  EXPECT_EQ(read_file(at("below")), "x");
}

TEST_F(MountLife, M1_shows_its_source_and_type) {
  options_.fsname = dir_ + "/my vault, or\\not";
  start();
  std::ifstream in{"/proc/self/mounts"};
  std::string line, ours;
  while (std::getline(in, line))
    if (line.find(options_.mountpoint + " ") != std::string::npos) ours = line;
  EXPECT_TRUE(ours.starts_with(dir_ + "/my\\040vault,\\040or\\134not " + options_.mountpoint +
                               " fuse.indrafs rw,nosuid,nodev"))
      << ours;
}

TEST_F(MountLifeAsRoot, M2_ends_when_unmounted_from_outside) {
  start();
  write_file(at("f"), "x");
  EXPECT_TRUE(mount_->running());
  ASSERT_EQ(::umount2(options_.mountpoint.c_str(), 0), 0);
  mount_->wait();
  EXPECT_TRUE(soon([&] { return ended_.load(); }));
  EXPECT_EQ(views_.open_views(), 0);
  EXPECT_TRUE(mount_->stop());
}

TEST_F(MountLife, M2_a_busy_mount_stays_unless_lazily_unmounted) {
  start();
  write_file(at("f"), "x");
  const int fd = ::open(at("f").c_str(), O_RDWR);
  const auto refused = mount_->stop();
  ASSERT_FALSE(refused);
  EXPECT_EQ(to_errno(refused.error()), EBUSY);
  EXPECT_NE(refused.error().text().find(options_.mountpoint), std::string::npos);
  EXPECT_TRUE(mount_->running());
  std::thread closer{[&] {
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    EXPECT_EQ(::write(fd, "late", 4), 4);
    ::close(fd);
  }};
  EXPECT_TRUE(mount_->stop(true));  // returns once the last file is closed
  closer.join();
  EXPECT_FALSE(mount_->running());
}

TEST_F(MountLife, M2_a_dead_mount_is_repaired_though_the_kernel_still_answers_for_it) {
  int up[2], go[2];
  ASSERT_EQ(::pipe(up), 0);
  ASSERT_EQ(::pipe(go), 0);
  char c = 0;
  const pid_t child = ::fork();
  if (child == 0) {
    auto m = Mount::start(options_, views_);
    (void)!::write(up[1], m ? "y" : "n", 1);
    (void)!::read(go[0], &c, 1);
    ::kill(::getpid(), SIGKILL);
  }
  ASSERT_EQ(::read(up[0], &c, 1), 1);
  ASSERT_EQ(c, 'y');
  struct stat st {};
  ASSERT_EQ(::stat(at("").c_str(), &st), 0);
  ASSERT_EQ(::write(go[1], "x", 1), 1);
  int status = -1;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(::stat(options_.mountpoint.c_str(), &st), 0);  // from its cache
  start();
  write_file(at("f"), "alive");
  ASSERT_TRUE(mount_->stop());
  EXPECT_EQ(errno_of(::umount2(options_.mountpoint.c_str(), 0)), EINVAL);
  for (const int fd : {up[0], up[1], go[0], go[1]}) ::close(fd);
}

TEST_F(MountLife, M2_a_dead_mount_is_repaired) {
  const pid_t child = ::fork();
  if (child == 0) {
    auto m = Mount::start(options_, views_);
    if (!m) ::_exit(1);
    ::kill(::getpid(), SIGKILL);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_EQ(errno_of(::access(at("f").c_str(), F_OK)), ENOTCONN);
  start();
  write_file(at("f"), "alive");
  EXPECT_EQ(read_file(at("f")), "alive");
  ASSERT_TRUE(mount_->stop());
  EXPECT_EQ(errno_of(::umount2(options_.mountpoint.c_str(), 0)), EINVAL);  // the dead one is gone too
}

TEST_F(MountLife, M2_auto_unmount_leaves_nothing_behind_a_dead_daemon) {
  options_.auto_unmount = true;
  const pid_t child = ::fork();
  if (child == 0) {
    auto m = Mount::start(options_, views_);
    if (!m) ::_exit(1);
    ::kill(::getpid(), SIGKILL);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(soon([&] { return errno_of(::access(at("f").c_str(), F_OK)) == ENOENT; }));
  start();
  write_file(at("f"), "x");
  EXPECT_TRUE(mount_->stop());
  EXPECT_EQ(::access(at("").c_str(), F_OK), 0);
}

TEST_F(MountLifeAsRoot, M1_an_ordinary_user_mounts_with_the_helper) {
  ASSERT_EQ(::chmod(dir_.c_str(), 0755), 0);
  ASSERT_EQ(::chown(options_.mountpoint.c_str(), 65534, 65534), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (!open_device_to_all(dir_)) ::_exit(7);
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) ::_exit(1);
    MemViews own;  // the root of its tree is the user's
    options_.allow_other = true;
    if (auto m = Mount::start(options_, own);
        m || m.error().text().find("user_allow_other") == std::string::npos) {
      std::ifstream conf{"/etc/fuse.conf"};
      std::string line;
      bool allowed = false;
      while (std::getline(conf, line)) allowed = allowed || line == "user_allow_other";
      if (!allowed) ::_exit(2);
    }
    options_.allow_other = false;
    auto m = Mount::start(options_, own);
    if (!m) {
      std::fprintf(stderr, "%s\n", m.error().text().c_str());
      ::_exit(3);
    }
    write_file(at("f"), "mine");
    if (read_file(at("f")) != "mine") ::_exit(4);
    if (!(*m)->stop()) ::_exit(5);
    m->reset();
    if (::access(at("f").c_str(), F_OK) == 0) ::_exit(6);
    ::_exit(0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(MountLife, M3_waiting_operations_do_not_stop_the_others) {
  std::mutex mutex;
  std::condition_variable cv;
  bool open = false;
  std::atomic<int> inside{0};
  const Ending ending{*this};
  views_.on_fsync = [&] {
    ++inside;
    std::unique_lock lock{mutex};
    cv.wait(lock, [&] { return open; });
  };
  start();
  write_file(at("g"), "x");
  std::vector<std::thread> users;
  for (int i = 0; i < 12; ++i)
    users.emplace_back([&, i] {
      const int fd = ::open(at("f" + std::to_string(i)).c_str(), O_RDWR | O_CREAT, 0644);
      EXPECT_EQ(::fsync(fd), 0);
      ::close(fd);
    });
  EXPECT_TRUE(soon([&] { return inside == 12; }));
  write_file(at("h"), "still answered");
  EXPECT_EQ(read_file(at("h")), "still answered");
  EXPECT_LE(mount_->figures().workers, 16u);
  {
    const std::lock_guard lock{mutex};
    open = true;
  }
  cv.notify_all();
  for (auto& u : users) u.join();
  EXPECT_TRUE(soon([&] { return mount_->figures().workers <= 3; })) << mount_->figures().workers;
}

TEST_F(MountLife, M3_more_waiting_operations_than_workers_all_end) {
  views_.on_fsync = [] { std::this_thread::sleep_for(std::chrono::milliseconds{2}); };
  start();
  std::vector<std::thread> users;
  for (int i = 0; i < 64; ++i)
    users.emplace_back([&, i] {
      const int fd = ::open(at("f" + std::to_string(i)).c_str(), O_RDWR | O_CREAT, 0644);
      for (int k = 0; k < 20; ++k) {
        EXPECT_EQ(::pwrite(fd, "x", 1, k), 1);
        EXPECT_EQ(::fsync(fd), 0);
      }
      ::close(fd);
    });
  for (auto& u : users) u.join();
  EXPECT_EQ(count("FSYNC"), 64u * 20u);
}

TEST_F(MountLife, M3_an_operation_that_waits_unexpectedly_is_noticed) {
  std::atomic<int> held{0};
  std::atomic<bool> go{false};
  const Ending ending{*this};
  views_.on_operation = [&](std::string_view op) {
    if (op != "write") return;
    ++held;
    while (!go) std::this_thread::sleep_for(std::chrono::milliseconds{1});
  };
  start();
  std::vector<std::thread> users;
  for (int i = 0; i < 5; ++i) users.emplace_back([&, i] { write_file(at("f" + std::to_string(i)), "x"); });
  EXPECT_TRUE(soon([&] { return held == 5; }));
  EXPECT_EQ(errno_of(::access(at("absent").c_str(), F_OK)), ENOENT);
  go = true;
  for (auto& u : users) u.join();
}

TEST_F(MountLife, M4_costs_nothing_at_rest) {
  start();
  write_file(at("f"), "x");
  const auto us = [](const timeval& t) { return t.tv_sec * 1'000'000 + t.tv_usec; };
  long used = 0, woken = 0;
  for (int n = 0; n < 20; ++n) {  // what was begun before ends, sooner or later
    std::this_thread::sleep_for(std::chrono::milliseconds{300});
    rusage before{}, after{};
    ::getrusage(RUSAGE_SELF, &before);
    std::this_thread::sleep_for(std::chrono::milliseconds{1000});
    ::getrusage(RUSAGE_SELF, &after);
    used = us(after.ru_utime) + us(after.ru_stime) - us(before.ru_utime) - us(before.ru_stime);
    woken = after.ru_nvcsw - before.ru_nvcsw;  // involuntary ones are the work of other programs
    if (used < 5'000 && woken < 40) return;
  }
  FAIL() << used << " us and " << woken << " times awake within a second";
}

TEST_F(MountLife, M9_an_exception_is_an_error_of_that_call_alone) {
  std::atomic<bool> armed{false};
  const Ending ending{*this};
  views_.on_operation = [&](std::string_view op) {
    if (op == "getattr" && armed.exchange(false)) throw std::runtime_error{"broken invariant"};
  };
  options_.attr_timeout = 0;
  start();
  write_file(at("f"), "x");
  struct stat st {};
  armed = true;
  EXPECT_EQ(errno_of(::stat(at("f").c_str(), &st)), EIO);
  EXPECT_EQ(::stat(at("f").c_str(), &st), 0);
  EXPECT_EQ(mount_->figures().exceptions, 1u);
}

TEST_F(MountLife, a_read_only_mount_refuses_changes) {
  (void)views_.outside().mknod({}, views_.outside().root(), "f", S_IFREG | 0644, 0);
  options_.read_only = true;
  start();
  EXPECT_EQ(errno_of(::open(at("f").c_str(), O_WRONLY)), EROFS);
  EXPECT_EQ(errno_of(::mkdir(at("d").c_str(), 0755)), EROFS);
  EXPECT_EQ(read_file(at("f")), "");
}

// --- what lies around the branch ---------------------------------------------------------------------

class VaultLayout : public TestMount {
 protected:
  void SetUp() override {
    TestMount::SetUp();
    if (IsSkipped()) return;
    options_.layout = LayoutKind::vault;
    options_.files.names = {"status.json", "heat.json"};
    options_.files.content = [this](std::string_view name) {
      return std::string{name} + " " + std::to_string(++asked_) + "\n";
    };
    views_.add_branch("draft");
    views_.add_snapshot("monday", "main");
    start();
  }
  std::atomic<int> asked_{9};  // two digits in every answer
};

TEST_F(VaultLayout, M10_has_fixed_places_and_numbers) {
  EXPECT_EQ(names_in(at("")), (std::set<std::string>{"vault", "branches", "snapshots", ".indra"}));
  const auto ino = [&](const std::string& name) {
    struct stat st {};
    return ::lstat(at(name).c_str(), &st) == 0 ? st.st_ino : 0;
  };
  EXPECT_EQ(ino(""), 1u);
  EXPECT_EQ(ino("vault"), 2u);
  EXPECT_EQ(ino(".indra"), 5u);
  EXPECT_EQ(ino(".indra/heat.json"), 7u);
  EXPECT_EQ(ino(".indra/status.json"), 10u);
  write_file(at("vault/f"), "x");
  const auto attr = views_.outside().lookup(views_.outside().root(), "f");
  EXPECT_EQ(ino("vault/f"), static_cast<ino_t>(attr->node.raw()));
}

TEST_F(VaultLayout, M11_lists_branches_and_snapshots) {
  EXPECT_EQ(names_in(at("branches")), (std::set<std::string>{"draft", "main"}));
  EXPECT_EQ(names_in(at("snapshots")), (std::set<std::string>{"monday"}));
  write_file(at("vault/f"), "in main");
  EXPECT_EQ(read_file(at("branches/main/f")), "in main");
  write_file(at("branches/draft/f"), "in draft");
  EXPECT_EQ(read_file(at("vault/f")), "in main");
  EXPECT_EQ(read_file(at("branches/draft/f")), "in draft");
  EXPECT_EQ(read_file(at("snapshots/monday/f")), "in main");
  EXPECT_EQ(errno_of(::open(at("snapshots/monday/f").c_str(), O_WRONLY)), EROFS);
  EXPECT_EQ(errno_of(::access(at("branches/other").c_str(), F_OK)), ENOENT);
  struct stat a {
  }, b{};
  ::stat(at("vault/f").c_str(), &a);
  ::stat(at("branches/draft/f").c_str(), &b);
  EXPECT_NE(a.st_ino, b.st_ino);
}

TEST_F(VaultLayout, M12_refuses_changes_around_the_branch) {
  EXPECT_EQ(errno_of(::mkdir(at("branches/new").c_str(), 0755)), EPERM);
  EXPECT_EQ(errno_of(::rmdir(at("snapshots/monday").c_str())), EPERM);
  EXPECT_EQ(errno_of(::rename(at("branches/draft").c_str(), at("branches/final").c_str())), EPERM);
  EXPECT_EQ(errno_of(::unlink(at("branches/main").c_str())), EPERM);
  EXPECT_EQ(errno_of(::open(at("new").c_str(), O_CREAT | O_WRONLY, 0644)), EPERM);
  write_file(at("vault/f"), "x");
  EXPECT_EQ(errno_of(::rename(at("vault/f").c_str(), at("branches/draft/f").c_str())), EXDEV);
  EXPECT_EQ(errno_of(::link(at("vault/f").c_str(), at("branches/draft/f").c_str())), EXDEV);
  EXPECT_EQ(errno_of(::chmod(at("").c_str(), 0700)), EPERM);
}

TEST_F(VaultLayout, M13_shows_virtual_files_whole_and_with_their_size) {
  struct stat st {};
  ASSERT_EQ(::stat(at(".indra").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode, S_IFDIR | 0700u);
  EXPECT_EQ(names_in(at(".indra")), (std::set<std::string>{"heat.json", "status.json"}));
  ASSERT_EQ(::stat(at(".indra/status.json").c_str(), &st), 0);
  const std::string first = read_file(at(".indra/status.json")), second = read_file(at(".indra/status.json"));
  EXPECT_EQ(first.size(), static_cast<std::size_t>(st.st_size));
  EXPECT_TRUE(first.starts_with("status.json "));
  EXPECT_NE(first, second);
  const int fd = ::open(at(".indra/heat.json").c_str(), O_RDONLY);
  char a[64] = {}, b[64] = {};
  EXPECT_EQ(::pread(fd, a, sizeof a, 0), ::pread(fd, b, sizeof b, 0));
  EXPECT_STREQ(a, b);
  ::close(fd);
  EXPECT_EQ(errno_of(::unlink(at(".indra/heat.json").c_str())), EPERM);
}

TEST_F(VaultLayout, M14_closes_a_view_that_nobody_uses) {
  EXPECT_EQ(views_.open_views(), 1);
  const int fd = ::open(at("branches/draft").c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(views_.open_views(), 2);
  EXPECT_EQ(::mkdirat(fd, "d", 0755), 0);
  EXPECT_EQ(::unlinkat(fd, "d", AT_REMOVEDIR), 0);
  ::close(fd);
  // The kernel lets go of a name when it is told that it means something else.
  EXPECT_EQ(views_.open_views(), 2);
  EXPECT_TRUE(mount_->stop());
  EXPECT_EQ(views_.open_views(), 0);
}

}  // namespace
}  // namespace indra
