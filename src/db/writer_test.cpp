#include "db/writer.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "db/check.h"
#include "db/test_writer.h"
#include "db/vfs.h"

namespace indra {
namespace {

constexpr Migration kSchema[] = {{"t: rows", "CREATE TABLE t (id INTEGER PRIMARY KEY, v) STRICT_"}};

Result<void> insert(Tx& tx, std::int64_t id, std::string_view v = "x") {
  return Statement{tx, "INSERT INTO t (id, v) VALUES (?1, ?2)"}.bind(1, id).bind_text(2, v).run();
}

Result<void> put(Writer& w, std::int64_t id, std::string_view v = "x") {
  return w.mutate([&](Tx& tx) { return insert(tx, id, v); });
}

TEST(WriterTest, AMutationThatFailsLeavesNothingAndTheOthersStay) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  ASSERT_TRUE(put(*w, 1));
  const auto r = w->mutate([](Tx& tx) -> Result<void> {
    INDRA_TRY(insert(tx, 2));
    return insert(tx, 1);
  });
  ASSERT_FALSE(r);
  EXPECT_EQ(to_errno(r.error()), EEXIST);
  EXPECT_EQ(count(*w), 1);
  EXPECT_EQ(w->mutations(), 1u);
  ASSERT_TRUE(w->barrier());
  EXPECT_EQ(w->durable(), 1u);
  w.reset();
  w = open_writer(dir / "v.db");
  EXPECT_EQ(count(*w), 1);
}

TEST(WriterTest, AMigrationThatFailsLeavesTheFileAsItWas) {
  const TestDir dir;
  WriterOptions o = quiet();
  o.migrations = kSchema;
  EXPECT_FALSE(Writer::open(dir / "v.db", o));
  auto w = open_writer(dir / "v.db");
  EXPECT_EQ(count(*w), 0);
}

// W4
TEST(WriterTest, EachBarrierIsPrecededByASyncAfterTheLastWriteOfTheWal) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  std::mutex mutex;
  bool unsynced = false;
  int syncs = 0;
  set_vfs_observer([&](const DiskEvent& e) {
    const std::scoped_lock lock{mutex};
    if (!e.path.ends_with("-wal")) return;
    unsynced = e.kind == DiskEvent::write;
    if (e.kind == DiskEvent::sync) ++syncs;
  });
  for (int i = 1; i <= 50; ++i) {
    ASSERT_TRUE(put(*w, i));
    ASSERT_TRUE(w->barrier());
    const std::scoped_lock lock{mutex};
    EXPECT_FALSE(unsynced);
  }
  const int before = syncs;
  ASSERT_TRUE(w->barrier());  // nothing new: nothing synced
  EXPECT_EQ(syncs, before);
  EXPECT_LE(syncs, 52);  // one a barrier, and what SQLite does for a new WAL
  set_vfs_observer(nullptr);
}

// W1, W4
TEST(WriterTest, EightThreadsMutateAndEachBarrierCoversTheirs) {
  const TestDir dir;
  WriterOptions o = quiet();
  o.background = true;
  o.idle_commit = 1'000'000;
  o.wal_limit = 256 << 10;
  auto w = open_writer(dir / "v.db", o);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        if (!put(*w, t * 1000 + i)) ++wrong;
        const auto mine = w->mutations();
        if (!w->barrier() || w->durable() < mine) ++wrong;
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(count(*w), 400);
  EXPECT_EQ(w->mutations(), 400u);
}

// W3: every row names content; none may be committed before its content was synced.
TEST(WriterTest, NoRowIsCommittedAheadOfItsContent) {
  const TestDir dir;
  std::atomic<std::int64_t> written{0}, synced{0}, wrong{0};
  Writer* self = nullptr;
  WriterOptions o = quiet();
  o.background = true;
  o.idle_commit = 1'000'000;
  o.content_dirty = [&] { return written.load() > synced.load(); };
  o.sync_content = [&]() -> Result<void> {
    const auto upto = written.load();
    std::this_thread::yield();
    synced = std::max(synced.load(), upto);
    return {};
  };
  // What a COMMIT may hold is what was mutated when it began: the biggest id in the file counts content.
  std::unique_ptr<Db> reader;
  std::mutex reading;
  o.committed = [&] {
    const std::scoped_lock lock{reading};
    if (!reader) return;
    const auto top = reader->pragma("SELECT coalesce(max(id), 0) FROM t");
    if (!top || *top > synced.load()) ++wrong;
  };
  auto w = open_writer(dir / "v.db", o);
  self = w.get();
  {
    const std::scoped_lock lock{reading};
    reader = std::move(*Db::open(dir / "v.db", {.read_only = true}));
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const std::int64_t content = ++written;
        if (!self->mutate_content([&](Tx& tx) { return insert(tx, content); })) ++wrong;
        if (t == 0 && i % 4 == 0 && !self->barrier()) ++wrong;
      }
    });
  for (auto& t : threads) t.join();
  ASSERT_TRUE(w->commit());
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(count(*w), 800);
  {
    const std::scoped_lock lock{reading};
    reader.reset();
  }
}

TEST(WriterTest, IdleMutationsAreCommittedAndThenDurableOfThemselves) {
  const TestDir dir;
  WriterOptions o = quiet();
  o.background = true;
  o.idle_commit = 2'000'000;
  o.barrier_every = 20'000'000;
  auto w = open_writer(dir / "v.db", o);
  ASSERT_TRUE(put(*w, 1));
  for (int i = 0; i < 60'000 && w->durable() < 1; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  EXPECT_EQ(w->durable(), 1u);
  for (int i = 0; i < 60'000 && !w->at_rest(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{2});
  EXPECT_TRUE(w->at_rest());  // an idle vault is whole in its file
}

// W5
TEST(WriterTest, AfterASyncThatFailedNothingIsTakenAnyMore) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  ASSERT_TRUE(put(*w, 1));
  ASSERT_TRUE(w->barrier());
  ASSERT_TRUE(put(*w, 2));
  set_vfs_fault(
      [](const DiskEvent& e) { return e.kind == DiskEvent::sync ? SQLITE_IOERR_FSYNC : SQLITE_OK; });
  EXPECT_FALSE(w->barrier());
  set_vfs_fault(nullptr);
  EXPECT_TRUE(w->failed());
  EXPECT_EQ(put(*w, 3).error().code, Errc::failed);
  EXPECT_EQ(w->barrier().error().code, Errc::failed);
  EXPECT_EQ(w->durable(), 1u);
}

// W5: what the kernel could not write it has forgotten, so a second sync of the same says nothing. Without
// this a checkpoint that is tried again would overwrite the file by a WAL that is not on the disk, or end a
// WAL whose pages are not in the file.
TEST(WriterTest, GivenASyncThatFails_WhenACheckpointNeedsIt_ThenNothingIsTakenAnyMore) {
  for (const char* name : {"v.db-wal", "v.db"}) {
    const TestDir dir;
    auto w = open_writer(dir / "v.db");
    ASSERT_TRUE(put(*w, 1));
    ASSERT_TRUE(w->barrier());
    ASSERT_TRUE(put(*w, 2));
    ASSERT_TRUE(w->commit());
    int failed = 0;
    set_vfs_fault([&](const DiskEvent& e) {
      if (e.kind != DiskEvent::sync || !e.path.ends_with(name) || failed != 0) return SQLITE_OK;
      ++failed;
      return SQLITE_IOERR_FSYNC;
    });
    EXPECT_FALSE(w->checkpoint());
    EXPECT_EQ(failed, 1);
    EXPECT_TRUE(w->failed()) << name;
    EXPECT_FALSE(w->checkpoint()) << name;
    EXPECT_FALSE(put(*w, 3)) << name;
    w.reset();
    set_vfs_fault(nullptr);
    w = open_writer(dir / "v.db");
    EXPECT_EQ(count(*w), 2);
  }
}

// W6
TEST(WriterTest, AFullDiskIsReportedAndNothingIsLostOnceThereIsRoom) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(put(*w, i, std::string(2000, 'x')));
  set_vfs_fault([](const DiskEvent& e) { return e.kind == DiskEvent::write ? SQLITE_FULL : SQLITE_OK; });
  const auto r = w->barrier();
  ASSERT_FALSE(r);
  EXPECT_EQ(to_errno(r.error()), ENOSPC);
  EXPECT_EQ(to_errno(put(*w, 1000).error()), ENOSPC);
  set_vfs_fault(nullptr);
  EXPECT_FALSE(w->failed());
  ASSERT_TRUE(put(*w, 1000));
  ASSERT_TRUE(w->barrier());
  w.reset();
  w = open_writer(dir / "v.db");
  EXPECT_EQ(count(*w), 301);
}

// W6: by SQLite's limit of what a row may touch, and by its own bytes.
TEST(WriterTest, NothingIsWrittenBehindWhatWasReserved) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  const std::uint64_t before = writes_beyond_reserve();
  ASSERT_TRUE(put(*w, 1, std::string(8 << 20, 'x')));  // a row of thousands of pages
  ASSERT_TRUE(w->barrier());
  EXPECT_EQ(writes_beyond_reserve(), before) << "a large row";
  // A reader of an old state: what a checkpoint has moved stays in front of the next frame.
  auto reader = *Db::open(dir / "v.db", {.cache_kib = 256});
  ASSERT_TRUE(put(*w, 2, std::string(3 << 20, 'y')));
  ASSERT_TRUE(w->barrier());
  ASSERT_TRUE(reader->execute("BEGIN"));
  ASSERT_TRUE(reader->pragma("SELECT count(*) FROM t"));
  ASSERT_TRUE(w->checkpoint());
  ASSERT_TRUE(put(*w, 3, std::string(3 << 20, 'z')));
  ASSERT_TRUE(w->barrier());
  EXPECT_EQ(writes_beyond_reserve(), before) << "behind a reader";
  ASSERT_TRUE(reader->execute("COMMIT"));
  ASSERT_TRUE(w->checkpoint());
  for (int i = 4; i < 40; ++i) {
    ASSERT_TRUE(put(*w, i, std::string(static_cast<std::size_t>(i) * 9000, 'w')));
    if (i % 5 == 0) ASSERT_TRUE(w->barrier());
    if (i % 11 == 0) ASSERT_TRUE(w->checkpoint());
  }
  EXPECT_EQ(writes_beyond_reserve(), before);
}

// W8: the disk is waited for by those who change something, and by nobody else.
TEST(WriterTest, GivenACheckpointThatWaitsForTheDisk_WhenSomebodyReads_ThenItGoesOn) {
  const TestDir dir;
  std::promise<void> there, go;
  std::atomic<bool> armed{false};
  WriterOptions o = quiet();
  o.faults = FaultPoints{[&](std::string_view point) -> Result<void> {
    if (point != "db.move_rest" || !armed.exchange(false)) return {};
    there.set_value();
    go.get_future().wait();
    return {};
  }};
  auto w = open_writer(dir / "v.db", o);
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(put(*w, i, std::string(4000, 'x')));
  ASSERT_TRUE(w->barrier());
  ASSERT_GT(w->wal_bytes(), 200u * 4000);
  armed = true;
  auto checkpoint = std::async(std::launch::async, [&] { return w->checkpoint(); });
  there.get_future().wait();
  auto reader = std::async(std::launch::async, [&] { return count(*w); });
  auto writer = std::async(std::launch::async, [&] { return put(*w, 200); });
  const bool read = reader.wait_for(std::chrono::seconds{120}) == std::future_status::ready;
  const bool written = writer.wait_for(std::chrono::milliseconds{20}) == std::future_status::ready;
  go.set_value();
  EXPECT_TRUE(read);
  EXPECT_FALSE(written);
  EXPECT_EQ(reader.get(), 200);
  EXPECT_TRUE(writer.get());
  EXPECT_TRUE(checkpoint.get());
  EXPECT_EQ(count(*w), 201);
  ASSERT_TRUE(w->commit());
  EXPECT_LT(w->wal_bytes(), 20u * 4096) << "the WAL did not begin anew";
}

// W8, with everybody at once: nothing is lost, no reader sees less than before, the WAL stays bounded.
TEST(WriterTest, GivenWritersAndReaders_WhenCheckpointsComeAllTheTime_ThenNothingIsLost) {
  const TestDir dir;
  constexpr int kWriters = 3, kEach = 300;
  WriterOptions o = quiet();
  o.background = true;
  o.wal_limit = 128 << 10;
  auto w = open_writer(dir / "v.db", o);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, refused{0};
  std::atomic<std::uint64_t> largest{0};
  std::vector<std::thread> others, writers;
  for (int r = 0; r < 2; ++r)
    others.emplace_back([&] {
      for (std::int64_t seen = 0; !stop;) {
        const std::int64_t now = count(*w);
        if (now < seen) ++wrong;
        seen = now;
        largest = std::max(largest.load(), w->wal_bytes());
      }
    });
  others.emplace_back([&] {
    while (!stop)
      if (!w->checkpoint()) ++refused;
  });
  for (int n = 0; n < kWriters; ++n)
    writers.emplace_back([&, n] {
      for (int i = 0; i < kEach; ++i) {
        if (!put(*w, n * kEach + i, std::string(3000, 'x'))) ++refused;
        if (i % 16 == 0 && !w->barrier()) ++refused;
      }
    });
  for (auto& t : writers) t.join();
  stop = true;
  for (auto& t : others) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(refused, 0);
  EXPECT_EQ(count(*w), kWriters * kEach);
  EXPECT_LT(largest, 16u * o.wal_limit);
  w.reset();
  w = open_writer(dir / "v.db");
  EXPECT_EQ(count(*w), kWriters * kEach);
}

// D6, W6: content that found the disk full was promised to nobody yet.
TEST(WriterTest, GivenContentThatFindsTheDiskFull_WhenThereIsRoomAgain_ThenWorkGoesOn) {
  const TestDir dir;
  int code = 0, asked = 0;
  bool dirty = true;
  WriterOptions o = quiet();
  o.content_dirty = [&] { return dirty; };
  o.sync_content = [&]() -> Result<void> {
    ++asked;
    if (code != 0) return fail(code, "content");
    dirty = false;
    return {};
  };
  auto w = open_writer(dir / "v.db", o);
  for (const int full : {ENOSPC, EDQUOT}) {
    dirty = true;
    code = full;
    ASSERT_TRUE(put(*w, full));
    const auto before = w->durable();
    EXPECT_EQ(to_errno(w->barrier().error()), full);
    EXPECT_EQ(to_errno(w->barrier().error()), full) << "it is no more durable the second time";
    EXPECT_EQ(w->durable(), before);
    EXPECT_FALSE(w->failed());
    ASSERT_TRUE(put(*w, full + 1000));
    code = 0;
    ASSERT_TRUE(w->barrier());
    EXPECT_EQ(w->durable(), w->mutations());
  }
  dirty = true;
  code = EIO;
  ASSERT_TRUE(put(*w, 1));
  EXPECT_FALSE(w->barrier());
  EXPECT_TRUE(w->failed()) << "a sync that failed is never trusted again (W5)";
  code = 0;
  EXPECT_FALSE(w->barrier());
  w.reset();
  w = open_writer(dir / "v.db");
  EXPECT_EQ(count(*w), 4);
}

// W7
TEST(WriterTest, ANewerFileIsRefusedAndStaysByteForByte) {
  const TestDir dir;
  constexpr Migration two[] = {kRows[0], {"u: more", "CREATE TABLE u (a)"}};
  WriterOptions newer = quiet();
  newer.migrations = two;
  open_writer(dir / "v.db", newer).reset();
  const Bytes before = dir.read("v.db");
  const auto r = Writer::open(dir / "v.db", quiet());
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Errc::newer_format);
  EXPECT_EQ(dir.read("v.db"), before);
  EXPECT_FALSE(dir.has("v.db-wal"));
  EXPECT_FALSE(dir.has("v.db-shm"));
}

// V5: a flipped bit there would have the checksums looked for elsewhere, or not at all.
TEST(WriterTest, AHeaderThatSpeaksOfOtherPagesIsRefusedAndStaysByteForByte) {
  const TestDir dir;
  ASSERT_TRUE(put(*open_writer(dir / "v.db"), 1));
  const std::string sound{as_text(dir.read("v.db"))};
  for (const std::size_t byte : {16u, 17u, 20u})
    for (int bit = 0; bit < 8; ++bit) {
      std::string hurt = sound;
      hurt[byte] = static_cast<char>(hurt[byte] ^ (1 << bit));
      dir.write("v.db", as_view(hurt));
      const auto r = Writer::open(dir / "v.db", quiet());
      ASSERT_FALSE(r) << byte << " bit " << bit;
      EXPECT_EQ(r.error().code, Errc::corrupt);
      EXPECT_EQ(as_text(dir.read("v.db")), hurt);
    }
  dir.write("v.db", as_view(sound));
  EXPECT_TRUE(Writer::open(dir / "v.db", quiet()));
}

// D2
TEST(WriterTest, GivenBytesThatWaitedLong_WhenTheyBecomeRows_ThenTheyAreDurableInTime) {
  const TestDir dir;
  auto w = open_writer(dir / "v.db");
  const TimeNs t = 100 * kSecond, tenth = kSecond / 10;
  ASSERT_TRUE(put(*w, 1));
  w->owes(t - 39 * tenth);  // written then, closed now
  ASSERT_TRUE(w->tick(t));
  EXPECT_EQ(w->durable(), 0u);
  ASSERT_TRUE(w->tick(t + 2 * tenth));
  EXPECT_EQ(w->durable(), 1u);
  // What comes after has its own time.
  ASSERT_TRUE(put(*w, 2));
  ASSERT_TRUE(w->tick(t + 3 * tenth));
  ASSERT_TRUE(w->tick(t + 4 * tenth));
  EXPECT_EQ(w->durable(), 1u);
}

/// Damages the page of the file in which row `id` of `t` lies; all of it must be in the file.
void damage_row(const TestDir& dir, const char* name, std::string_view v) {
  Bytes b = dir.read(name);
  const auto at = as_text(b).find(v);
  ASSERT_NE(at, std::string_view::npos);
  b[at] ^= std::byte{1};
  dir.write(name, b);
}

// W5, D2: a page that cannot be read makes SQLite roll the whole transaction back, whoever met it.
TEST(WriterTest, GivenADamagedPage_WhenItIsMet_ThenNothingIsKeptOfWhatCameAfterWhatWasLost) {
  const auto all = [](Tx& tx) { return tx.db().pragma("SELECT sum(length(v || '')) FROM t"); };
  for (const bool by_reader : {true, false}) {
    const TestDir dir;
    {
      auto w = open_writer(dir / "v.db");
      for (int i = 1; i <= 100; ++i)
        ASSERT_TRUE(put(*w, i, "row" + std::to_string(i) + std::string(3000, 'x')));
    }
    damage_row(dir, "v.db", "row50x");
    {
      auto w = open_writer(dir / "v.db");
      ASSERT_TRUE(put(*w, 1001, "A"));
      if (by_reader) {
        EXPECT_EQ(w->read(all).error().code, Errc::corrupt);
      } else {
        EXPECT_FALSE(w->mutate([&](Tx& tx) -> Result<void> {
          EXPECT_FALSE(all(tx));  // and goes on
          (void)insert(tx, 1002, "B");
          return {};
        }));
      }
      EXPECT_TRUE(w->failed());
      EXPECT_FALSE(put(*w, 1003, "C")) << "A was answered, and is lost";
      EXPECT_FALSE(w->barrier());
    }
    auto w = open_writer(dir / "v.db");
    const auto later =
        w->read([](Tx& tx) { return tx.db().pragma("SELECT count(*) FROM t WHERE id > 1001"); });
    ASSERT_TRUE(later);
    EXPECT_EQ(*later, 0) << "what came after A is there, and A is not";
  }
}

constexpr Migration kSealed[] = {kRows[0], {"db: sealed", "", true}};

// V3: a file of an earlier format, killed with pages without checksums in the WAL's place too.
TEST(WriterTest, GivenPagesWithoutChecksums_WhenTheFileIsBroughtForward_ThenEachHasOne) {
  const TestDir dir;
  {
    auto w = open_writer(dir / "v.db");
    for (int i = 1; i < 200; ++i) ASSERT_TRUE(put(*w, i, std::string(500, 'x')));
    ASSERT_TRUE(w->checkpoint());
    for (int i = 200; i < 400; ++i) ASSERT_TRUE(put(*w, i, std::string(500, 'y')));
    ASSERT_TRUE(w->barrier());
    for (const char* name : {"v.db", "v.db-wal", "v.db-mark"})
      std::filesystem::copy_file(dir / name, dir / (std::string{"old-"} + name).c_str());
  }
  for (const char* name : {"v.db", "v.db-wal", "v.db-mark"})
    std::filesystem::rename(dir / (std::string{"old-"} + name).c_str(), dir / name);
  Bytes b = dir.read("v.db");
  for (std::size_t at = 2 * kDbPage - 8; at < b.size(); at += 2 * kDbPage)
    std::fill_n(b.begin() + static_cast<std::ptrdiff_t>(at), 8, std::byte{0});
  dir.write("v.db", b);
  WriterOptions o = quiet();
  o.migrations = kSealed;
  {
    // Somebody reads what is in the WAL: it cannot go now.
    const auto reader = std::move(*Db::open(dir / "v.db", {.vfs = "unix"}));
    ASSERT_TRUE(reader->execute("BEGIN; SELECT count(*) FROM t"));
    const auto w = Writer::open(dir / "v.db", o);
    ASSERT_FALSE(w);
    EXPECT_EQ(to_errno(w.error()), EBUSY);
    ASSERT_TRUE(reader->execute("COMMIT"));
    sqlite3_db_config(reader->raw(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  }
  auto w = open_writer(dir / "v.db", o);
  EXPECT_EQ(count(*w), 399);
  EXPECT_EQ(inspect(dir / "v.db").value().user_version, 2u);
  w.reset();
  EXPECT_TRUE(read_pages(dir / "v.db", nullptr, 0, UINT32_MAX).value().wrong.empty());
}

TEST(WriterTest, AFileOfSomebodyElseIsRefused) {
  const TestDir dir;
  ASSERT_TRUE(
      (*Db::open(dir / "v.db", {.create = true}))->execute("PRAGMA application_id=7; CREATE TABLE x (a)"));
  EXPECT_EQ(Writer::open(dir / "v.db", quiet()).error().code, Errc::bad_format);
  dir.write("w.db", as_view(std::string(5000, 'j')));
  EXPECT_EQ(Writer::open(dir / "w.db", quiet()).error().code, Errc::bad_format);
}

// W8
TEST(WriterTest, CheckpointsKeepTheWalShortUnderLoad) {
  const TestDir dir;
  WriterOptions o = quiet();
  o.background = true;
  o.wal_limit = 1 << 20;
  auto w = open_writer(dir / "v.db", o);
  std::uint64_t longest = 0;
  const std::string v(3000, 'x');
  for (int i = 0; i < 6000; ++i) {
    ASSERT_TRUE(put(*w, i, v));
    if (i % 20 == 0) ASSERT_TRUE(w->commit());
    longest = std::max(longest, w->wal_bytes());
  }
  EXPECT_LT(longest, 12u << 20);  // of 24 MiB written
  ASSERT_TRUE(w->checkpoint());
  EXPECT_TRUE(w->at_rest());
  EXPECT_EQ(w->wal_bytes(), 0u);
}

// W8
TEST(WriterTest, AReaderThatBlocksTheCheckpointIsNamed) {
  const TestDir dir;
  int ready[2], done[2];
  ASSERT_EQ(::pipe(ready), 0);
  ASSERT_EQ(::pipe(done), 0);
  { open_writer(dir / "v.db"); }
  const pid_t child = ::fork();  // before any connection: none may cross it
  if (child == 0) {
    char c = 0;
    if (::read(done[0], &c, 1) != 1) ::_exit(1);
    auto db = Db::open(dir / "v.db", {.read_only = true});
    if (!db || !(*db)->execute("BEGIN; SELECT count(*) FROM t")) ::_exit(1);
    if (::write(ready[1], "r", 1) != 1 || ::read(done[0], &c, 1) != 1) ::_exit(1);
    ::_exit(0);
  }
  auto w = open_writer(dir / "v.db");
  ASSERT_TRUE(put(*w, 1));
  ASSERT_TRUE(w->barrier());
  char c = 0;
  ASSERT_EQ(::write(done[1], "g", 1), 1);
  ASSERT_EQ(::read(ready[0], &c, 1), 1);
  ASSERT_TRUE(put(*w, 2));
  ASSERT_TRUE(w->checkpoint());
  EXPECT_FALSE(w->at_rest());
  EXPECT_EQ(w->blocking_reader(), child);
  ASSERT_EQ(::write(done[1], "x", 1), 1);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_TRUE(w->checkpoint());
  EXPECT_TRUE(w->at_rest());
  EXPECT_EQ(w->blocking_reader(), 0);
}

}  // namespace
}  // namespace indra
