// S11 of docs/design/fs.md.
#include "fs/file_locks.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <random>

namespace indra {
namespace {

using Kind = FileLocks::Kind;
using Lock = FileLocks::Lock;
constexpr FileLocks::File kFile{1, 20, FileLocks::Family::posix};
constexpr FileLocks::Owner kAnn{1, 7}, kBob{2, 7}, kCid{2, 8};
Lock range(Kind k, std::uint64_t first, std::uint64_t last) { return {k, first, last, 99, 0}; }

TEST(FileLocks, S11_GivenOneNumberInTwoMounts_WhenBothLock_ThenTheyAreDifferentOwners) {
  FileLocks locks;
  EXPECT_NE(locks.new_front(), locks.new_front());
  EXPECT_EQ(locks.lock(kFile, kAnn, range(Kind::write, 0, 9)), 0);
  EXPECT_EQ(locks.lock(kFile, kBob, range(Kind::write, 9, 12)), EAGAIN);
  EXPECT_EQ(locks.lock(kFile, kBob, range(Kind::write, 10, 12)), 0);
  const auto c = locks.conflict(kFile, kBob, range(Kind::read, 0, 3));
  ASSERT_TRUE(c);
  EXPECT_EQ(c->first, 0u);
  EXPECT_EQ(c->last, 9u);
  EXPECT_EQ(c->pid, 99);
}

TEST(FileLocks, S11_GivenTheOtherFamilyOrBranch_WhenLocked_ThenNothingConflicts) {
  FileLocks locks;
  EXPECT_EQ(locks.lock(kFile, kAnn, range(Kind::write, 0, FileLocks::kEnd)), 0);
  EXPECT_EQ(locks.lock({1, 20, FileLocks::Family::flock}, kBob, range(Kind::write, 0, FileLocks::kEnd)), 0);
  EXPECT_EQ(locks.lock({2, 20, FileLocks::Family::posix}, kBob, range(Kind::write, 0, FileLocks::kEnd)), 0);
}

TEST(FileLocks, S11_GivenWaiters_WhenTheLockEnds_ThenTheyGetItInOrder) {
  FileLocks locks;
  std::vector<int> got;
  ASSERT_EQ(locks.lock(kFile, kAnn, range(Kind::write, 0, 9)), 0);
  locks.lock_or_wait(kFile, kBob, range(Kind::write, 5, 6), 1, [&](int e) { got.push_back(10 + e); });
  locks.lock_or_wait(kFile, kCid, range(Kind::write, 6, 7), 2, [&](int e) { got.push_back(20 + e); });
  EXPECT_TRUE(got.empty());
  locks.unlock(kFile, kAnn, 0, 9);
  EXPECT_EQ(got, std::vector<int>{10});
  locks.unlock(kFile, kBob, 0, FileLocks::kEnd);
  EXPECT_EQ(got, (std::vector<int>{10, 20}));
  locks.unlock(kFile, kCid, 0, FileLocks::kEnd);
  EXPECT_EQ(locks.files(), 0u);
}

TEST(FileLocks, S11_GivenAWaiter_WhenInterrupted_ThenItEndsAndHoldsNothing) {
  FileLocks locks;
  int got = -1;
  ASSERT_EQ(locks.lock(kFile, kAnn, range(Kind::read, 0, 9)), 0);
  locks.lock_or_wait(kFile, kBob, range(Kind::write, 0, 0), 5, [&](int e) { got = e; });
  EXPECT_FALSE(locks.cancel(kBob.front, 6));
  EXPECT_FALSE(locks.cancel(kAnn.front, 5));
  EXPECT_TRUE(locks.cancel(kBob.front, 5));
  EXPECT_EQ(got, EINTR);
  EXPECT_FALSE(locks.cancel(kBob.front, 5));
  locks.unlock(kFile, kAnn, 0, 9);
  EXPECT_EQ(locks.files(), 0u);
}

TEST(FileLocks, S11_GivenACircleOfWaits_WhenItWouldClose_ThenEdeadlk) {
  FileLocks locks;
  const FileLocks::File other{1, 21, FileLocks::Family::posix};
  int bob = -1, ann = -1;
  ASSERT_EQ(locks.lock(kFile, kAnn, range(Kind::write, 0, 9)), 0);
  ASSERT_EQ(locks.lock(other, kBob, range(Kind::write, 0, 9)), 0);
  locks.lock_or_wait(kFile, kBob, range(Kind::write, 0, 9), 1, [&](int e) { bob = e; });
  EXPECT_EQ(bob, -1);
  locks.lock_or_wait(other, kAnn, range(Kind::read, 3, 3), 2, [&](int e) { ann = e; });
  EXPECT_EQ(ann, EDEADLK);
  locks.unlock(kFile, kAnn, 0, 9);
  EXPECT_EQ(bob, 0);
}

TEST(FileLocks, S11_GivenTwoSharedFlocks_WhenBothWantItAlone_ThenOneAfterTheOtherGetsIt) {
  FileLocks locks;
  const FileLocks::File file{1, 20, FileLocks::Family::flock};
  int ann = -1, bob = -1;
  ASSERT_EQ(locks.lock(file, kAnn, range(Kind::read, 0, FileLocks::kEnd)), 0);
  ASSERT_EQ(locks.lock(file, kBob, range(Kind::read, 0, FileLocks::kEnd)), 0);
  locks.lock_or_wait(file, kAnn, range(Kind::write, 0, FileLocks::kEnd), 1, [&](int e) { ann = e; });
  EXPECT_EQ(ann, -1);
  locks.lock_or_wait(file, kBob, range(Kind::write, 0, FileLocks::kEnd), 2, [&](int e) { bob = e; });
  EXPECT_EQ(bob, 0);  // nobody holds what ann gave up
  EXPECT_EQ(ann, -1);
  locks.unlock(file, kBob, 0, FileLocks::kEnd);
  EXPECT_EQ(ann, 0);
}

TEST(FileLocks, S11_GivenAMountThatEnds_WhenForgotten_ThenOthersGoOnAndItHearsNothing) {
  FileLocks locks;
  int ann = -1, bob = -1;
  ASSERT_EQ(locks.lock(kFile, kAnn, range(Kind::write, 0, 9)), 0);
  locks.lock_or_wait(kFile, kBob, range(Kind::write, 0, 9), 1, [&](int e) { bob = e; });
  ASSERT_EQ(locks.lock(kFile, kCid, range(Kind::write, 20, 29)), 0);
  locks.lock_or_wait(kFile, kAnn, range(Kind::read, 20, 20), 1, [&](int e) { ann = e; });
  locks.forget(kAnn.front);
  EXPECT_EQ(ann, -1);
  EXPECT_EQ(bob, 0);
  locks.forget(kBob.front);
  EXPECT_EQ(locks.files(), 0u);
}

// Against the plainest model: for each byte, who reads and who writes.
TEST(FileLocks, S11_GivenRandomLocksAndUnlocks_WhenCompared_ThenEachByteAgrees) {
  constexpr std::uint64_t kBytes = 24;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    std::mt19937 rng{seed};
    FileLocks locks;
    std::array<std::array<int, kBytes>, 3> model{};  // 0 none, 1 read, 2 write
    for (int step = 0; step < 200; ++step) {
      const std::uint64_t who = rng() % 3;
      std::uint64_t a = rng() % kBytes, b = rng() % kBytes;
      if (a > b) std::swap(a, b);
      const FileLocks::Owner owner{1, who};
      const auto set = [&](int value) {
        for (std::uint64_t i = a; i <= b; ++i) model[who][i] = value;
      };
      if (rng() % 3 == 0) {
        locks.unlock(kFile, owner, a, b);
        set(0);
        continue;
      }
      const int value = rng() % 2 == 0 ? 1 : 2;
      bool free = true;
      for (std::uint64_t other = 0; other < 3; ++other)
        for (std::uint64_t i = a; i <= b && other != who; ++i)
          if (model[other][i] != 0 && model[other][i] + value > 2) free = false;
      const Lock wanted = range(value == 1 ? Kind::read : Kind::write, a, b);
      ASSERT_EQ(!locks.conflict(kFile, owner, wanted), free) << "seed " << seed << " step " << step;
      ASSERT_EQ(locks.lock(kFile, owner, wanted), free ? 0 : EAGAIN) << "seed " << seed << " step " << step;
      if (free) set(value);
    }
    for (std::uint64_t i = 0; i < kBytes; ++i)  // a stranger sees exactly what the model holds
      for (const Kind k : {Kind::read, Kind::write}) {
        bool free = true;
        for (const auto& m : model)
          if (m[i] == 2 || (m[i] == 1 && k == Kind::write)) free = false;
        ASSERT_EQ(!locks.conflict(kFile, {9, 9}, range(k, i, i)), free) << "seed " << seed << " byte " << i;
      }
  }
}

}  // namespace
}  // namespace indra
