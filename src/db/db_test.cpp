#include "db/db.h"

#include <gtest/gtest.h>

#include "db/test_dir.h"

namespace indra {
namespace {

TEST(DbTest, ANewFileHasOurPageSizeAndRoomForTheChecksum) {
  const TestDir dir;
  auto db = open_db(dir / "a.db");
  ASSERT_TRUE(db->execute("CREATE TABLE t (a)"));
  EXPECT_EQ(db->pragma("PRAGMA page_size").value(), 4096);
  EXPECT_EQ(db->pragma("PRAGMA synchronous").value(), 1);
  EXPECT_EQ(db->pragma("PRAGMA wal_autocheckpoint").value(), 0);
  EXPECT_EQ(db->pragma("PRAGMA secure_delete").value(), 0);
  db.reset();
  EXPECT_EQ(dir.read("a.db")[20], std::byte{8});
}

TEST(StatementTest, IsPreparedOnceAndComesBackClean) {
  const TestDir dir;
  auto db = open_db(dir / "a.db");
  ASSERT_TRUE(db->execute("CREATE TABLE t (a)"));
  Tx tx = db->borrow();
  const char* const sql = "SELECT ?1, ?2";
  sqlite3_stmt* first = nullptr;
  for (int i = 0; i < 3; ++i) {
    Statement q{tx, sql};
    ASSERT_TRUE(q.bind(1, std::int64_t{i}).step().value());
    EXPECT_EQ(q.int64_at(0), i);
    EXPECT_TRUE(q.is_null(1));
    if (i == 0) q.bind(2, std::int64_t{9});
    sqlite3_stmt* const only = sqlite3_next_stmt(db->raw(), nullptr);
    if (first == nullptr) first = only;
    EXPECT_EQ(only, first);
    EXPECT_EQ(sqlite3_next_stmt(db->raw(), only), nullptr);
  }
}

TEST(StatementTest, TwoUsesOfOneTextAtATimeAreIndependent) {
  const TestDir dir;
  auto db = open_db(dir / "a.db");
  Tx tx = db->borrow();
  const char* const sql = "SELECT ?1";
  Statement a{tx, sql}, b{tx, sql};
  ASSERT_TRUE(a.bind(1, std::int64_t{1}).step().value());
  ASSERT_TRUE(b.bind(1, std::int64_t{2}).step().value());
  EXPECT_EQ(a.int64_at(0), 1);
  EXPECT_EQ(b.int64_at(0), 2);
}

TEST(StatementTest, AnEmptyTextOrBlobIsNotNull) {
  const TestDir dir;
  auto db = open_db(dir / "a.db");
  Tx tx = db->borrow();
  Statement q{tx, "SELECT ?1, ?2, ?3"};
  ASSERT_TRUE(q.bind_text(1, {}).bind_blob(2, {}).bind_or_null(3, NodeId{}).step().value());
  EXPECT_FALSE(q.is_null(0));
  EXPECT_FALSE(q.is_null(1));
  EXPECT_TRUE(q.is_null(2));
  EXPECT_TRUE(q.blob_at(1).empty());
}

TEST(StatementTest, AMistakeInTheSqlIsReportedByStep) {
  const TestDir dir;
  auto db = open_db(dir / "a.db");
  Tx tx = db->borrow();
  Statement q{tx, "SELECT nothing FROM nowhere"};
  const auto r = q.bind(1, std::int64_t{1}).step();
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().text().find("nowhere"), std::string::npos);
}

TEST(SqliteErrors, EachHasItsErrno) {
  const auto of = [](int rc) { return to_errno(std::error_code{rc, sqlite_category()}); };
  EXPECT_EQ(of(SQLITE_FULL), ENOSPC);
  EXPECT_EQ(of(SQLITE_IOERR_WRITE), EIO);
  EXPECT_EQ(of(SQLITE_CORRUPT), EIO);
  EXPECT_EQ(of(SQLITE_READONLY), EROFS);
  EXPECT_EQ(of(SQLITE_BUSY), EBUSY);
  EXPECT_EQ(of(SQLITE_NOMEM), ENOMEM);
  EXPECT_EQ(of(SQLITE_CONSTRAINT_UNIQUE), EEXIST);
  EXPECT_EQ(of(SQLITE_TOOBIG), EFBIG);
  EXPECT_EQ(to_errno(sqlite_failure(nullptr, SQLITE_IOERR_DATA, "x").value()), EIO);
}

}  // namespace
}  // namespace indra
