#include "events/knock.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "db/test_dir.h"

namespace indra {
namespace {

// E6
TEST(Knock, GivenAKnockBetweenLookingAndWaiting_WhenWaiting_ThenItReturnsAtOnce) {
  const TestDir dir;
  auto a = Knock::open(dir / "knock").value(), b = Knock::open(dir / "knock").value();
  const auto seen = a->ticket();
  b->ring();
  a->wait(seen, -1);  // would sleep for ever
  EXPECT_NE(a->ticket(), seen);
}

// E6
TEST(Knock, GivenASleeperInAnotherProcess_WhenKnocked_ThenItWakes) {
  const TestDir dir;
  auto knock = Knock::open(dir / "knock").value();
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto mine = Knock::open(dir / "knock").value();
    const auto seen = mine->ticket();
    if (::write(ready[1], "x", 1) != 1) ::_exit(2);
    mine->wait(seen, 30 * kSecond);
    ::_exit(mine->ticket() == seen ? 1 : 0);
  }
  char c = 0;
  ASSERT_EQ(::read(ready[0], &c, 1), 1);
  knock->ring();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// E6: for programs that do not map it.
TEST(Knock, GivenInotifyOnTheFile_WhenKnocked_ThenItTellsOfAChange) {
  const TestDir dir;
  auto knock = Knock::open(dir / "knock").value();
  const int fd = ::inotify_init1(IN_NONBLOCK);
  ASSERT_GE(::inotify_add_watch(fd, (dir / "knock").c_str(), IN_MODIFY), 0);
  pollfd p{fd, POLLIN, 0};
  EXPECT_EQ(::poll(&p, 1, 0), 0);
  knock->ring();
  EXPECT_EQ(::poll(&p, 1, 5000), 1);
  ::close(fd);
}

TEST(Knock, GivenNobodyKnocks_WhenTheTimeHasPassed_ThenWaitReturns) {
  const TestDir dir;
  auto knock = Knock::open(dir / "knock").value();
  const auto seen = knock->ticket();
  knock->wait(seen, 2'000'000);
  EXPECT_EQ(knock->ticket(), seen);
}

}  // namespace
}  // namespace indra
