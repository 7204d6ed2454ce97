#include "db/copying.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "db/check.h"
#include "db/test_dir.h"
#include "testkit/must.h"

namespace indra {
namespace {

/// All blocks in a file.
Result<std::uint32_t> copy_to(Db& from, const std::string& path) {
  std::map<std::uint32_t, Bytes> blocks;
  INDRA_TRY(copy_database(from, [&](std::uint32_t n, ByteView b) -> Result<void> {
    EXPECT_TRUE(blocks.try_emplace(n, b.begin(), b.end()).second) << "block " << n << " twice";
    return {};
  }));
  std::ofstream out{path, std::ios::binary};
  std::uint32_t next = 0;
  for (const auto& [n, b] : blocks) {
    EXPECT_EQ(n, next++);
    out.write(reinterpret_cast<const char*>(b.data()), static_cast<std::streamsize>(b.size()));
  }
  return next;
}

std::int64_t sum(Db& db) { return must(db.pragma("SELECT coalesce(sum(a * length(b)), 0) FROM t")); }

void insert(Db& db, int from, int to) {
  must(db.execute("WITH RECURSIVE n(i) AS (SELECT " + std::to_string(from) +
                  " UNION ALL SELECT i + 1 FROM n WHERE i < " + std::to_string(to) +
                  ") INSERT INTO t SELECT i, randomblob(500 + i % 3000) FROM n"));
}

// R2: what the reader sees, whatever is committed while the copy is made; each page with its checksum.
TEST(Copying, GivenAReaderAndAWriter_WhenCopied_ThenTheCopyIsWhatTheReaderSaw) {
  const TestDir dir;
  auto db = must(Db::open(dir / "a.db", {.create = true}));
  must(db->execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)"));
  for (const int rows : {0, 1, 20, 3000}) {  // smaller than a block, of one, of many, with and without a rest
    if (rows > 1) insert(*db, must(db->pragma("SELECT coalesce(max(a), 0) + 1 FROM t")), rows);
    must(db->execute("DELETE FROM t WHERE a % 7 = 3"));
    auto reader = must(Db::open(dir / "a.db", {.read_only = true}));
    must(reader->execute("BEGIN"));
    const std::int64_t before = sum(*reader);
    insert(*db, 1'000'000 + 1000 * rows, 1'000'050 + 1000 * rows);  // the reader must not see it
    const auto blocks = must(copy_to(*reader, dir / "copy.db"));
    EXPECT_GE(blocks, 1U);
    must(reader->execute("COMMIT"));
    auto copy = must(Db::open(dir / "copy.db", {.read_only = true}));
    EXPECT_EQ(sum(*copy), before);
    std::string found;
    Checking c;
    c.found = [&](Finding f) { found += f.what + "\n"; };
    must(check_pages(*copy, c));
    EXPECT_EQ(found, "");
    copy.reset();
    const PagesRead pages = must(read_pages(dir / "copy.db", nullptr, 0, UINT32_MAX));
    EXPECT_EQ(pages.wrong, std::vector<std::uint32_t>{});
    std::filesystem::remove(dir / "copy.db");
    std::filesystem::remove(dir / "copy.db-wal");
    std::filesystem::remove(dir / "copy.db-shm");
  }
}

TEST(Copying, GivenADamagedPage_WhenCopied_ThenItIsAnErrorAndNotABlock) {
  const TestDir dir;
  auto db = must(Db::open(dir / "a.db", {.create = true}));
  must(db->execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)"));
  insert(*db, 1, 2000);
  must(db->execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  db.reset();
  dir.flip("a.db", 300 * 4096 + 77);
  auto reader = must(Db::open(dir / "a.db", {.read_only = true}));
  const auto r = copy_to(*reader, dir / "copy.db");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, make_error_code(Errc::corrupt)) << r.error().text();
}

TEST(Copying, GivenADatabaseOfAPlainProgram_WhenCopied_ThenItsPagesAreAsTheyWere) {
  const TestDir dir;
  {
    sqlite3* raw = nullptr;
    ASSERT_EQ(sqlite3_open((dir / "p.db").c_str(), &raw), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(raw,
                           "PRAGMA page_size=1024; CREATE TABLE t(a, b); PRAGMA journal_mode=WAL;"
                           "INSERT INTO t VALUES(7, zeroblob(200000))",
                           nullptr, nullptr, nullptr),
              SQLITE_OK);
    sqlite3_close(raw);
  }
  auto reader = must(Db::open(dir / "p.db", {.read_only = true}));
  must(copy_to(*reader, dir / "copy.db"));
  auto copy = must(Db::open(dir / "copy.db", {.read_only = true}));
  EXPECT_EQ(sum(*copy), 7 * 200000);
}

TEST(Copying, GivenATakerThatFails_WhenCopied_ThenThatIsTheError) {
  const TestDir dir;
  auto db = must(Db::open(dir / "a.db", {.create = true}));
  must(db->execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)"));
  insert(*db, 1, 2000);
  int left = 3;
  const auto r = copy_database(*db, [&](std::uint32_t, ByteView) -> Result<void> {
    return left-- > 0 ? Result<void>{} : fail(ENOSPC, "full");
  });
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, std::errc::no_space_on_device);
}

}  // namespace
}  // namespace indra
