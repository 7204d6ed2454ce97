// V6, W9: how a COMMIT is kept short: a checkpoint ends the WAL, so that what begins in its place needs no
// sync, and whoever makes a transaction large commits it.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "db/test_writer.h"
#include "db/vfs.h"

namespace indra {
namespace {

Result<void> put_large(Writer& w, std::int64_t id) { return put_bytes(w, id, 3000); }

/// Writes to WALs and syncs of them since it was made, in their order: "w" and "s".
struct Seen {
  std::string what;
  Seen() {
    set_vfs_observer([this](const DiskEvent& e) {
      if (e.path.ends_with("-wal")) what += e.kind == DiskEvent::sync ? 's' : 'w';
    });
  }
  ~Seen() { set_vfs_observer(nullptr); }
};

bool is_ended(const TestDir& dir) {
  const Bytes wal = dir.read("v.db-wal");
  return wal.size() > kWalHeader &&
         std::all_of(wal.begin(), wal.begin() + kWalHeader, [](std::byte b) { return b == std::byte{0}; });
}

/// What lies on the disk now, opened anew, as after a power cut that lost nothing.
std::int64_t count_after_cut(const TestDir& dir) {
  const TestDir other;
  for (const char* name : {"v.db", "v.db-wal"}) other.write(name, dir.read(name));
  auto w = open_writer(other / "v.db");
  return w ? count(*w) : -1;
}

TEST(WriterTest, GivenACheckpoint_WhenTheWalStartsAgain_ThenACommitSyncsNothing) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(put_large(*w, i));
  ASSERT_TRUE(w->checkpoint());
  EXPECT_TRUE(is_ended(dir));
  EXPECT_EQ(count_after_cut(dir), 50);
  for (int round = 1; round <= 3; ++round) {
    {
      const Seen seen;
      ASSERT_TRUE(put_large(*w, 50 * round));
      ASSERT_TRUE(w->commit());
      EXPECT_NE(seen.what.find('w'), std::string::npos);
      EXPECT_EQ(seen.what.find('s'), std::string::npos) << seen.what;
    }
    EXPECT_LT(w->wal_bytes(), 20u * kWalFrame) << "the WAL did not begin again";
    EXPECT_FALSE(is_ended(dir));
    EXPECT_EQ(count_after_cut(dir), 50 + round);
    ASSERT_TRUE(w->checkpoint());
  }
}

TEST(WriterTest, GivenACheckpoint_WhenItEndsTheWal_ThenThatIsSyncedBeforeTheNextWrite) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(put_large(*w, i));
  ASSERT_TRUE(w->barrier());
  const Seen seen;
  ASSERT_TRUE(w->checkpoint());
  EXPECT_EQ(seen.what.substr(seen.what.size() - std::min<std::size_t>(2, seen.what.size())), "ws");
}

// What somebody reads is not ended, and what is written behind it is there after a power cut.
TEST(WriterTest, GivenAReader_WhenACheckpointComes_ThenTheWalIsNotEnded) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(put_large(*w, i));
  ASSERT_TRUE(w->commit());
  auto reader = *Db::open(dir / "v.db", {.cache_kib = 256});
  ASSERT_TRUE(reader->execute("BEGIN"));
  ASSERT_EQ(*reader->pragma("SELECT count(*) FROM t"), 20);
  for (int i = 20; i < 40; ++i) ASSERT_TRUE(put_large(*w, i));
  ASSERT_TRUE(w->checkpoint());
  EXPECT_FALSE(is_ended(dir));
  ASSERT_TRUE(put_large(*w, 40));
  ASSERT_TRUE(w->barrier());
  EXPECT_EQ(count_after_cut(dir), 41);
  EXPECT_EQ(*reader->pragma("SELECT count(*) FROM t"), 20);
  ASSERT_TRUE(reader->execute("COMMIT"));
  ASSERT_TRUE(w->checkpoint());
  EXPECT_TRUE(is_ended(dir));
  EXPECT_EQ(count_after_cut(dir), 41);
}

// A header that somebody else wrote in its place may be replayed: it is not written over without a sync.
TEST(WriterTest, GivenAStrangerWhoUsedTheEndedWal_WhenItStartsAgain_ThenItsHeaderIsSynced) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(put_large(*w, i));
  ASSERT_TRUE(w->checkpoint());
  ASSERT_TRUE(is_ended(dir));
  {
    auto stranger = *Db::open(dir / "v.db", {.cache_kib = 256});
    ASSERT_TRUE(stranger->execute("INSERT INTO t (id, v) VALUES (100, 'x'); PRAGMA wal_checkpoint"));
  }
  EXPECT_FALSE(is_ended(dir));
  {
    const Seen seen;
    ASSERT_TRUE(put_large(*w, 101));
    ASSERT_TRUE(w->commit());
    EXPECT_EQ(seen.what.substr(0, 2), "ws") << "the header, and its sync";
  }
  EXPECT_EQ(count(*w), 22);
  EXPECT_EQ(count_after_cut(dir), 22);
}

// A sync that failed is not trusted, here neither (W5).
TEST(WriterTest, GivenASyncThatFails_WhenTheWalIsEnded_ThenNothingIsTakenAnyMore) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(put_large(*w, i));
  ASSERT_TRUE(w->barrier());
  std::atomic<int> writes{0};
  set_vfs_fault([&](const DiskEvent& e) {
    if (!e.path.ends_with("-wal")) return SQLITE_OK;
    if (e.kind == DiskEvent::write) ++writes;
    return e.kind == DiskEvent::sync && writes != 0 ? SQLITE_IOERR_FSYNC : SQLITE_OK;
  });
  EXPECT_FALSE(w->checkpoint());
  set_vfs_fault(nullptr);
  EXPECT_EQ(writes, 1);
  EXPECT_FALSE(put_large(*w, 100));
  w.reset();
  w = open_writer(dir / "v.db");
  EXPECT_EQ(count(*w), 20);
}

// W9: a COMMIT is as long as the transaction is large.
TEST(WriterTest, GivenManyMutations_WhenNoContentWaits_ThenWhoeverMadeThemManyCommits) {
  const TestDir dir;
  std::atomic<int> commits{0};
  WriterOptions o = quiet();
  o.background = true;
  o.idle_commit = o.busy_commit = o.barrier_every = 3600 * kSecond;
  o.committed = [&] { ++commits; };
  auto w = open_writer(dir / "v.db", o);
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(put_large(*w, i));
  EXPECT_GE(commits, 2000 / 128 - 2);
  EXPECT_EQ(count(*w), 2000);
}

// W3, W9: rows whose content waits are left to the committer, which syncs it first.
TEST(WriterTest, GivenManyMutations_WhenTheirContentWaits_ThenNoneIsCommittedBeforeIt) {
  const TestDir dir;
  std::atomic<std::int64_t> appended{0}, synced{0};
  std::int64_t row = -1;  // under the connection
  std::atomic<int> wrong{0}, commits{0};
  WriterOptions o = quiet();
  o.background = true;
  o.idle_commit = 1'000'000;
  o.content_dirty = [&] { return synced < appended; };
  o.sync_content = [&]() -> Result<void> {
    synced = appended.load();
    return {};
  };
  o.committed = [&] { ++commits; };
  o.faults = FaultPoints{[&](std::string_view point) -> Result<void> {
    if (point == "db.commit" && row > synced) ++wrong;
    return {};
  }};
  auto w = open_writer(dir / "v.db", o);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (std::int64_t i = 0; i < 600; ++i) {
        if (i % 3 == 0) {  // others have none
          if (!put_large(*w, 1'000'000 + t * 1000 + i)) ++wrong;
          continue;
        }
        const std::int64_t id = ++appended;
        const auto r = w->mutate_content([&](Tx& tx) -> Result<void> {
          row = std::max(row, id);
          return Statement{tx, "INSERT INTO t (id, v) VALUES (?1, 'x')"}.bind(1, id).run();
        });
        if (!r) ++wrong;
      }
    });
  for (auto& t : threads) t.join();
  ASSERT_TRUE(w->commit());
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(count(*w), 4 * 600);
  w.reset();  // whoever committed has told of it
  EXPECT_GT(commits, 0);
}

}  // namespace
}  // namespace indra
