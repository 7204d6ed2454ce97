// fcntl and flock through two real mounts of one branch (docs/design/mount.md, M16).
#include <sys/file.h>
#include <sys/wait.h>

#include <csignal>

#include "mount/internal/test_mount.h"

namespace indra {
namespace {

class MountLocks : public TestMount {
 protected:
  void SetUp() override {
    TestMount::SetUp();
    if (IsSkipped()) return;
    options_.locks = LockMode::daemon;
    start();
    ::mkdir((dir_ + "/m2").c_str(), 0755);
    MountOptions second = options_;
    second.mountpoint = dir_ + "/m2";
    auto m = Mount::start(second, views_);
    ASSERT_TRUE(m) << m.error().text();
    second_ = std::move(*m);
    write_file(at("f"), "0123456789");
    a_ = ::open(at("f").c_str(), O_RDWR | O_CLOEXEC);
    b_ = ::open((dir_ + "/m2/f").c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(a_, 0);
    ASSERT_GE(b_, 0);
  }
  void TearDown() override {
    if (a_ >= 0) ::close(a_);
    if (b_ >= 0) ::close(b_);
    second_.reset();
    ::umount2((dir_ + "/m2").c_str(), MNT_DETACH);
    TestMount::TearDown();
  }
  static int posix(int fd, int command, short type, off_t start, off_t length, struct flock* out = nullptr) {
    struct flock l {};
    l.l_type = type;
    l.l_whence = SEEK_SET;
    l.l_start = start;
    l.l_len = length;
    const int e = ::fcntl(fd, command, &l) == 0 ? 0 : errno;
    if (out != nullptr) *out = l;
    return e;
  }
  std::unique_ptr<Mount> second_;
  int a_ = -1, b_ = -1;
};

TEST_F(MountLocks, M16_a_range_locked_in_one_mount_is_taken_in_the_other) {
  EXPECT_EQ(posix(a_, F_SETLK, F_WRLCK, 2, 3), 0);
  EXPECT_EQ(posix(b_, F_SETLK, F_RDLCK, 4, 1), EAGAIN);
  EXPECT_EQ(posix(b_, F_SETLK, F_WRLCK, 5, 0), 0);
  struct flock found {};
  EXPECT_EQ(posix(b_, F_GETLK, F_WRLCK, 0, 4, &found), 0);
  EXPECT_EQ(found.l_type, F_WRLCK);
  EXPECT_EQ(found.l_start, 2);
  EXPECT_EQ(found.l_len, 3);
  EXPECT_EQ(found.l_pid, ::getpid());
  EXPECT_EQ(posix(a_, F_GETLK, F_WRLCK, 7, 1, &found), 0);
  EXPECT_EQ(found.l_type, F_WRLCK);
  EXPECT_EQ(found.l_len, 0);  // to the end, however far that is
  ::close(a_);                // any close ends the process's locks of that file
  a_ = -1;
  EXPECT_EQ(posix(b_, F_SETLK, F_WRLCK, 0, 0), 0);
}

TEST_F(MountLocks, M16_a_wait_ends_when_the_other_mount_unlocks) {
  ASSERT_EQ(posix(a_, F_SETLK, F_WRLCK, 0, 0), 0);
  std::atomic<int> got{-1};
  std::thread waiter{[&] { got = posix(b_, F_SETLKW, F_WRLCK, 0, 0); }};
  ASSERT_TRUE(soon([&] { return count_in(*second_, "SETLKW") == 1; }));
  EXPECT_EQ(errno_of(::access(at("absent").c_str(), F_OK)), ENOENT);  // others are served
  EXPECT_EQ(got, -1);
  EXPECT_EQ(posix(a_, F_SETLK, F_UNLCK, 0, 0), 0);
  waiter.join();
  EXPECT_EQ(got, 0);
}

TEST_F(MountLocks, M16_a_wait_can_be_interrupted_and_killed) {
  ASSERT_EQ(::flock(a_, LOCK_EX), 0);
  for (const int signal : {SIGALRM, SIGKILL}) {
    const std::uint64_t before = count_in(*second_, "SETLKW");
    const pid_t child = ::fork();
    if (child == 0) {
      struct sigaction act {};
      act.sa_handler = [](int) {};
      ::sigaction(SIGALRM, &act, nullptr);
      ::_exit(::flock(b_, LOCK_SH) == 0 ? 0 : errno);
    }
    ASSERT_TRUE(soon([&] { return count_in(*second_, "SETLKW") == before + 1; }));
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    ::kill(child, signal);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (signal == SIGALRM)
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == EINTR) << status;
    else
      EXPECT_TRUE(WIFSIGNALED(status)) << status;
  }
  ASSERT_EQ(::flock(a_, LOCK_UN), 0);
  EXPECT_EQ(views_.locks().files(), 0u);
}

TEST_F(MountLocks, M16_flock_belongs_to_the_open_file_and_ends_with_it) {
  ASSERT_EQ(::flock(a_, LOCK_EX), 0);
  EXPECT_EQ(posix(b_, F_SETLK, F_WRLCK, 0, 0), 0);  // another family
  EXPECT_EQ(errno_of(::flock(b_, LOCK_SH | LOCK_NB)), EWOULDBLOCK);
  const int again = ::dup(a_);
  ::close(a_);
  a_ = -1;
  EXPECT_EQ(errno_of(::flock(b_, LOCK_SH | LOCK_NB)), EWOULDBLOCK);
  ::close(again);
  EXPECT_TRUE(soon([&] { return ::flock(b_, LOCK_EX | LOCK_NB) == 0; }));  // RELEASE comes after close(2)
}

TEST_F(MountLocks, M16_a_lock_of_the_open_file_ends_with_it) {
  ASSERT_EQ(posix(a_, F_OFD_SETLK, F_WRLCK, 0, 4), 0);
  EXPECT_EQ(posix(b_, F_OFD_SETLK, F_RDLCK, 3, 1), EAGAIN);
  EXPECT_EQ(posix(b_, F_OFD_SETLK, F_RDLCK, 4, 1), 0);
  ::close(a_);
  a_ = -1;
  EXPECT_TRUE(soon([&] { return posix(b_, F_OFD_SETLK, F_WRLCK, 0, 0) == 0; }));
}

TEST_F(MountLocks, M16_who_gets_the_lock_sees_what_was_done_under_it) {
  views_.shared = true;
  const auto count = [](int fd, std::atomic<int>& stale, std::atomic<int>& last) {
    for (int i = 0; i < 400; ++i) {
      if (posix(fd, F_OFD_SETLKW, F_WRLCK, 0, 1) != 0) std::abort();
      int n = 0;
      if (::pread(fd, &n, sizeof n, 64) != sizeof n || n != last.load()) ++stale;
      n = last.load() + 1;
      if (::pwrite(fd, &n, sizeof n, 64) != sizeof n) std::abort();
      last = n;
      if (posix(fd, F_OFD_SETLK, F_UNLCK, 0, 1) != 0) std::abort();
    }
  };
  std::atomic<int> stale{0}, last{0};
  const int zero = 0;
  ASSERT_EQ(::pwrite(a_, &zero, sizeof zero, 64), static_cast<ssize_t>(sizeof zero));
  std::thread other{[&] { count(b_, stale, last); }};
  count(a_, stale, last);
  other.join();
  EXPECT_EQ(last, 800);
  EXPECT_EQ(stale, 0);
}

TEST_F(MountLocks, M16_a_mount_that_ends_gives_its_locks_back) {
  ASSERT_EQ(posix(b_, F_SETLK, F_WRLCK, 0, 0), 0);
  ASSERT_EQ(posix(a_, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
  std::thread closer{[&] {
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    ::close(b_);
    b_ = -1;
  }};
  ASSERT_TRUE(second_->stop(true));
  closer.join();
  EXPECT_EQ(posix(a_, F_SETLK, F_WRLCK, 0, 0), 0);
}

}  // namespace
}  // namespace indra
