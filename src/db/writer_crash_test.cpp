// What is found after a kill, and after damage to the WAL.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "db/test_writer.h"
#include "db/vfs.h"

namespace indra {
namespace {

WriterOptions roomy(bool background = false) {
  WriterOptions o = quiet();
  o.background = background;
  o.idle_commit = 1'000'000;
  o.wal_limit = 400 << 10;
  return o;
}

Result<void> put_small(Writer& w, std::int64_t id) { return put_bytes(w, id, 300); }

/// Runs `body` in a child that ends without closing the Writer that it returns, as after kill -9.
template <class F>
void in_dying_child(F&& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto alive = body();
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
}

struct Found {
  std::int64_t rows, top;
};
Found found(Writer& w) {
  auto r = w.read([](Tx& tx) -> Result<Found> {
    Statement q{tx, "SELECT count(*), coalesce(max(id), 0) FROM t"};
    INDRA_TRY(q.step());
    return Found{q.int64_at(0), q.int64_at(1)};
  });
  return r.value();
}

// W2: rows are 1, 2, 3, ...; what is found is a prefix that holds all that a barrier answered for.
TEST(WriterCrash, AfterAKillAPrefixIsFoundWithAllThatWasDurable) {
  const TestDir dir;
  std::int64_t next = 1;
  for (int round = 0; round < 8; ++round) {
    int acks[2];
    ASSERT_EQ(::pipe(acks), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      auto w = Writer::open(dir / "v.db", roomy(true));
      if (!w) ::_exit(1);
      for (std::int64_t i = next;; ++i) {
        if (!put_small(**w, i)) ::_exit(2);
        if (i % 3 != 0) continue;
        if (!(*w)->barrier() || ::write(acks[1], &i, sizeof i) != sizeof i) ::_exit(3);
      }
    }
    ::close(acks[1]);
    std::int64_t acked = 0, last = 0;
    for (int n = 0; n < 30 + round * 57 && ::read(acks[0], &acked, sizeof acked) == sizeof acked; ++n)
      last = acked;
    ::kill(child, SIGKILL);
    while (::read(acks[0], &acked, sizeof acked) == sizeof acked) last = acked;
    ::close(acks[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    auto w = Writer::open(dir / "v.db", roomy());
    ASSERT_TRUE(w) << w.error().text();
    const Found f = found(**w);
    EXPECT_EQ(f.rows, f.top);
    EXPECT_GE(f.top, last);
    next = f.top + 1;
  }
}

/// A vault that was killed with `durable` rows behind a barrier, and `more` committed after it.
void killed_vault(const TestDir& dir, int durable, int more) {
  in_dying_child([&] {
    auto w = Writer::open(dir / "v.db", roomy());
    for (int i = 1; i <= durable; ++i)
      if (!put_small(**w, i) || !(*w)->commit()) ::_exit(1);
    if (!(*w)->barrier()) ::_exit(1);
    for (int i = 1; i <= more; ++i)
      if (!put_small(**w, durable + i) || !(*w)->commit()) ::_exit(1);
    return w;
  });
}

// K1
TEST(WriterCrash, ADamagedWalIsNoticedWhereverItIsHit) {
  for (const std::size_t frame : {0u, 3u, 9u}) {
    const TestDir dir;
    killed_vault(dir, 12, 0);
    dir.flip("v.db-wal", kWalHeader + frame * kWalFrame + 2000);
    const auto w = Writer::open(dir / "v.db", roomy());
    ASSERT_FALSE(w) << "frame " << frame;
    EXPECT_EQ(w.error().code, Errc::corrupt);
    EXPECT_NE(w.error().text().find("damaged"), std::string::npos);
  }
}

// K1
TEST(WriterCrash, ATruncatedOrMissingWalIsNoticed) {
  for (const bool missing : {false, true}) {
    const TestDir dir;
    killed_vault(dir, 12, 0);
    if (missing) {
      std::filesystem::remove(dir / "v.db-wal");
    } else {
      std::filesystem::resize_file(dir / "v.db-wal", kWalHeader + 4 * kWalFrame);
    }
    const auto w = Writer::open(dir / "v.db", roomy());
    ASSERT_FALSE(w);
    EXPECT_EQ(w.error().code, Errc::corrupt);
  }
}

/// The machine's disk, after the machine was started anew.
class RestartedDisk final : public Disk {
 public:
  Result<std::unique_ptr<DiskFile>> open(const std::string& p, bool create) override {
    return real_disk().open(p, create);
  }
  bool exists(const std::string& p) override { return real_disk().exists(p); }
  Result<std::unique_ptr<DiskMap>> map(const std::string& p, std::size_t n) override {
    return real_disk().map(p, n);
  }
  std::uint64_t boot() const override { return real_disk().boot() + 1; }
  Result<void> make_dir(const std::string& p) override { return real_disk().make_dir(p); }
  Result<void> remove(const std::string& p) override { return real_disk().remove(p); }
  Result<std::vector<std::string>> list(const std::string& p) override { return real_disk().list(p); }
  Result<void> sync_dir(const std::string& p) override { return real_disk().sync_dir(p); }
  Result<Space> space(const std::string& p) override { return real_disk().space(p); }
};

// K2
TEST(WriterCrash, DamageBehindTheLastBarrierIsNoAlarmAfterAPowerCut) {
  const TestDir dir;
  killed_vault(dir, 12, 5);
  const auto size = kWalHeader + 14 * kWalFrame;
  std::filesystem::resize_file(dir / "v.db-wal", size);
  RestartedDisk restarted;
  auto o = roomy();
  o.disk = &restarted;
  auto w = Writer::open(dir / "v.db", std::move(o));
  ASSERT_TRUE(w) << w.error().text();
  EXPECT_GE(found(**w).top, 12);
}

// K2
TEST(WriterCrash, DamageBehindTheLastBarrierIsNoticedWhileTheMachineRuns) {
  for (const int durable : {0, 12}) {
    for (int hit = 1; hit <= 5; ++hit) {
      const TestDir dir;
      killed_vault(dir, durable, 5);
      const Bytes bytes = dir.read("v.db-wal");
      const std::string_view wal = as_text(bytes);
      std::size_t frames = 0;  // written; what follows is room kept for more
      while (wal.compare(kWalHeader + frames * kWalFrame + 8, 8, wal, 16, 8) == 0) ++frames;
      dir.flip("v.db-wal", kWalHeader + (frames - static_cast<std::size_t>(hit)) * kWalFrame + 2000);
      const auto w = Writer::open(dir / "v.db", roomy());
      ASSERT_FALSE(w) << durable << " " << hit;
      EXPECT_EQ(w.error().code, Errc::corrupt);
    }
  }
}

// K2: the mark of one run says nothing about a WAL that was cut by the power after it.
TEST(WriterCrash, AClaimOfTheTimeBeforeARestartIsForgotten) {
  const TestDir dir;
  killed_vault(dir, 12, 5);
  std::filesystem::resize_file(dir / "v.db-wal", kWalHeader + 14 * kWalFrame);
  RestartedDisk restarted;
  for (int i = 0; i < 2; ++i) {
    in_dying_child([&] {
      auto o = roomy();
      o.disk = &restarted;
      auto w = Writer::open(dir / "v.db", std::move(o));
      if (!w || !put_small(**w, 100 + i)) ::_exit(1);
      return w;
    });
  }
  auto o = roomy();
  o.disk = &restarted;
  auto w = Writer::open(dir / "v.db", std::move(o));
  ASSERT_TRUE(w) << w.error().text();
}

// K3
TEST(WriterCrash, AWalThatAPlainSqliteMovedAndRemovedIsNoAlarm) {
  const TestDir dir;
  killed_vault(dir, 12, 5);
  {
    auto plain = Db::open(dir / "v.db", {.vfs = "unix"});
    ASSERT_TRUE(plain);
    ASSERT_TRUE((*plain)->pragma("SELECT count(*) FROM t"));
  }
  ASSERT_FALSE(dir.has("v.db-wal"));
  auto w = Writer::open(dir / "v.db", roomy());
  ASSERT_TRUE(w) << w.error().text();
  EXPECT_EQ(found(**w).top, 17);
}

// K4: an old mark, as a power cut may leave it, claims less and never more: in the same WAL, and after
// restarts of it.
TEST(WriterCrash, AnOldMarkIsNoAlarm) {
  for (const int checkpoints : {0, 1, 3}) {
    const TestDir dir;
    in_dying_child([&] {
      auto w = Writer::open(dir / "v.db", roomy());
      std::int64_t id = 0;
      const auto some = [&] {
        for (int i = 0; i < 5; ++i)
          if (!put_small(**w, ++id) || !(*w)->barrier()) ::_exit(1);
      };
      some();
      dir.write("old", dir.read("v.db-mark"));
      some();
      for (int i = 0; i < checkpoints; ++i) {
        if (!(*w)->checkpoint() || !(*w)->at_rest()) ::_exit(1);
        some();
      }
      return w;
    });
    dir.write("v.db-mark", dir.read("old"));
    auto w = Writer::open(dir / "v.db", roomy());
    ASSERT_TRUE(w) << w.error().text();
    EXPECT_EQ(found(**w).rows, 10 + 5 * checkpoints);
  }
}

// K4
TEST(WriterCrash, AKillRightAfterACheckpointIsNoAlarm) {
  const TestDir dir;
  in_dying_child([&] {
    auto w = Writer::open(dir / "v.db", roomy());
    for (int i = 1; i <= 5; ++i)
      if (!put_small(**w, i) || !(*w)->barrier()) ::_exit(1);
    if (!(*w)->checkpoint()) ::_exit(1);
    return w;
  });
  auto w = Writer::open(dir / "v.db", roomy());
  ASSERT_TRUE(w) << w.error().text();
  EXPECT_EQ(found(**w).rows, 5);
}

}  // namespace
}  // namespace indra
