#include "db/vfs.h"

#include <gmock/gmock.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <filesystem>

#include "db/check.h"
#include "db/db.h"
#include "db/test_dir.h"

namespace indra {
namespace {

/// 200 rows of about 1 KiB: some 60 pages.
void fill(Db& db) {
  ASSERT_TRUE(
      db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB);"
                 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)"
                 "INSERT INTO t SELECT i, randomblob(1000) FROM n"));
}

// V1
TEST(VfsTest, ABitFlipAnywhereInAPageOfTheFileIsFound) {
  const TestDir dir;
  { fill(*open_db(dir / "a.db")); }
  const Bytes good = dir.read("a.db");
  ASSERT_GT(good.size(), 20 * kDbPage);
  for (std::size_t page = 2; page < 20; page += 3) {
    dir.write("a.db", good);
    dir.flip("a.db", page * kDbPage + (page * 211) % kDbPage);
    auto db = open_db(dir / "a.db");
    const auto r = db->pragma("SELECT sum(length(v)) FROM t");
    ASSERT_FALSE(r) << "page " << page;
    EXPECT_EQ(r.error().code, Errc::corrupt);
    EXPECT_EQ(to_errno(r.error()), EIO);
  }
}

// V1
TEST(VfsTest, AWholePageInTheWrongPlaceIsFound) {
  const TestDir dir;
  { fill(*open_db(dir / "a.db")); }
  Bytes b = dir.read("a.db");
  std::swap_ranges(b.begin() + 10 * kDbPage, b.begin() + 11 * kDbPage, b.begin() + 12 * kDbPage);
  dir.write("a.db", b);
  EXPECT_FALSE(open_db(dir / "a.db")->pragma("SELECT sum(length(v)) FROM t"));
}

// V2
TEST(VfsTest, ABitFlipInTheWalIsFoundByTheNextReader) {
  const TestDir dir;
  auto writer = open_db(dir / "a.db");
  fill(*writer);
  auto reader = open_db(dir / "a.db");
  ASSERT_TRUE(reader->pragma("SELECT sum(length(v)) FROM t"));
  auto late = open_db(dir / "a.db");
  dir.flip("a.db-wal", kWalHeader + 15 * kWalFrame + 900);
  const auto r = late->pragma("SELECT sum(length(v)) FROM t");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Errc::corrupt);
}

/// The pages of the file that do not bear their checksum.
std::vector<std::uint32_t> unsound(const std::string& path) {
  return read_pages(path, nullptr, 0, UINT32_MAX).value().wrong;
}

// V3: a vault that was killed may be opened with the sqlite3 shell, which moves the WAL into the file.
TEST(VfsTest, PagesThatAPlainSqliteMovedToTheFileBearTheirChecksums) {
  const TestDir dir;
  { fill(*open_db(dir / "a.db")); }
  {
    auto ours = open_db(dir / "a.db");
    ASSERT_TRUE(ours->execute("UPDATE t SET v = randomblob(900)"));
    auto plain = open_db(dir / "a.db", "unix");
    ASSERT_TRUE(plain->execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  }
  EXPECT_THAT(unsound(dir / "a.db"), testing::IsEmpty());
  auto again = open_db(dir / "a.db");
  EXPECT_EQ(again->pragma("SELECT sum(length(v)) FROM t").value(), 200 * 900);
  EXPECT_TRUE(again->execute("PRAGMA integrity_check"));
}

// V3: also when it is the plain one that makes out what the WAL of a killed process holds.
TEST(VfsTest, APlainSqliteRecoversTheWalAsWeWroteIt) {
  const TestDir dir;
  {
    auto ours = open_db(dir / "a.db");
    fill(*ours);
    for (int i = 0; i < 5; ++i)
      ASSERT_TRUE(ours->execute("UPDATE t SET v = randomblob(1100) WHERE id % 7 = " + std::to_string(i)));
    std::filesystem::copy(dir / "a.db", dir / "b.db");
    std::filesystem::copy(dir / "a.db-wal", dir / "b.db-wal");
  }
  auto plain = open_db(dir / "b.db", "unix");
  EXPECT_EQ(plain->pragma("SELECT sum(length(v)) FROM t").value(),
            open_db(dir / "a.db")->pragma("SELECT sum(length(v)) FROM t").value());
  ASSERT_TRUE(plain->execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  EXPECT_THAT(unsound(dir / "b.db"), testing::IsEmpty());
}

// V3
TEST(VfsTest, ZerosInThePlaceOfAChecksumAreFound) {
  const TestDir dir;
  { fill(*open_db(dir / "a.db")); }
  Bytes b = dir.read("a.db");
  std::fill(b.begin() + 11 * kDbPage - 8, b.begin() + 11 * kDbPage, std::byte{0});
  dir.write("a.db", b);
  EXPECT_THAT(unsound(dir / "a.db"), testing::ElementsAre(11));
  const auto r = open_db(dir / "a.db")->pragma("SELECT sum(length(v)) FROM t");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Errc::corrupt);
}

// V3: of a format in which some pages had none.
TEST(VfsTest, PagesWithoutChecksumAreReadWhereTheyAreExpectedUntilTheyAreSealed) {
  const TestDir dir;
  { fill(*open_db(dir / "a.db")); }
  Bytes b = dir.read("a.db");
  const std::size_t pages = b.size() / kDbPage;
  for (std::size_t i = 0; i < pages; i += 3)
    std::fill_n(b.begin() + static_cast<std::ptrdiff_t>(i * kDbPage + kDbPage - 8), 8, std::byte{0});
  b[4 * kDbPage + 100] ^= std::byte{1};  // a damaged one stays one
  dir.write("a.db", b);
  EXPECT_EQ(unsound(dir / "a.db").size(), (pages + 2) / 3 + 1);
  {
    const auto old = Db::open(dir / "a.db", {.unsealed = true});
    ASSERT_TRUE(old);
    EXPECT_EQ(seal_pages((*old)->raw()), SQLITE_OK);
  }
  EXPECT_THAT(unsound(dir / "a.db"), testing::ElementsAre(5));
}

// V2, V4: a small cache makes SQLite write pages early, again in place, and roll some back.
RC_GTEST_PROP(VfsProperty, spilled_and_rolled_back_frames_never_raise_an_alarm, ()) {
  const TestDir dir;
  auto db = open_db(dir / "a.db");
  RC_ASSERT(
      bool(db->execute("PRAGMA cache_size=10; CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB); BEGIN")));
  auto plain = open_db(dir / "a.db", "unix");
  const auto steps = *rc::gen::container<std::vector<int>>(60, rc::gen::inRange(0, 1000));
  for (const int s : steps) {
    const std::string from = std::to_string(s % 17);
    switch (s % 9) {
      case 0:
        RC_ASSERT(bool(db->execute("COMMIT")));
        // V4: what was committed is in the file: somebody who reads it without our VFS sees all of it.
        RC_ASSERT(plain->pragma("SELECT sum(length(v)) FROM t").value() ==
                  db->pragma("SELECT sum(length(v)) FROM t").value());
        RC_ASSERT(bool(plain->execute("PRAGMA integrity_check")));
        RC_ASSERT(bool(db->execute("BEGIN")));
        break;
      case 1:
        RC_ASSERT(bool(db->execute("ROLLBACK; BEGIN")));
        break;
      case 2:
        RC_ASSERT(bool(db->execute("COMMIT; PRAGMA wal_checkpoint; BEGIN")));
        break;
      case 3:
        RC_ASSERT(bool(db->execute("SAVEPOINT s; UPDATE t SET v = randomblob(700) WHERE id % 17 = " + from +
                                   "; ROLLBACK TO s; RELEASE s")));
        break;
      case 4:
        RC_ASSERT(bool(db->execute("DELETE FROM t WHERE id % 17 = " + from)));
        break;
      case 5:
        RC_ASSERT(bool(db->execute("UPDATE t SET v = randomblob(1500) WHERE id % 17 >= " + from)));
        break;
      default:
        RC_ASSERT(
            bool(db->execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)"
                             "INSERT INTO t (v) SELECT randomblob(1000) FROM n")));
    }
    RC_ASSERT(bool(db->pragma("SELECT sum(length(v)) FROM t")));
  }
  RC_ASSERT(bool(db->execute("COMMIT; PRAGMA integrity_check")));
  auto other = open_db(dir / "a.db");
  const auto rows = db->pragma("SELECT count(*) FROM t").value();
  RC_ASSERT(other->pragma("SELECT count(*) FROM t").value() == rows);
  // V3: as after a kill, recovered and moved by a plain SQLite.
  std::filesystem::copy(dir / "a.db", dir / "b.db");
  std::filesystem::copy(dir / "a.db-wal", dir / "b.db-wal");
  auto stranger = open_db(dir / "b.db", "unix");
  RC_ASSERT(stranger->pragma("SELECT count(*) FROM t").value() == rows);
  RC_ASSERT(bool(stranger->execute("PRAGMA wal_checkpoint(TRUNCATE)")));
  RC_ASSERT(unsound(dir / "b.db").empty());
}

TEST(VfsTest, TheChecksumDependsOnEveryWordAndOnThePageNumber) {
  Bytes page(kDbPage, std::byte{7});
  const auto base = page_checksum(5, page.data());
  EXPECT_NE(page_checksum(6, page.data()), base);
  for (std::size_t i = 0; i < kDbPage - 8; ++i) {
    page[i] ^= std::byte{0x10};
    EXPECT_NE(page_checksum(5, page.data()), base) << i;
    page[i] ^= std::byte{0x10};
  }
}

}  // namespace
}  // namespace indra
