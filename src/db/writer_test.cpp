#include "db/writer.h"

#include <gtest/gtest.h>

#include "db/test_dir.h"

namespace indra {
namespace {

constexpr Migration kSchema[] = {{"t: rows", "CREATE TABLE t (id INTEGER PRIMARY KEY, v) STRICT_"}};
constexpr Migration kRows[] = {{"t: rows", "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)"}};

WriterOptions quiet() {
  WriterOptions o;
  o.create = true;
  o.migrations = kRows;
  o.background = false;
  return o;
}

std::unique_ptr<Writer> open_writer(const std::string& path, WriterOptions o = quiet()) {
  auto w = Writer::open(path, std::move(o));
  EXPECT_TRUE(w) << w.error().text();
  return w ? std::move(*w) : nullptr;
}

Result<void> insert(Tx& tx, std::int64_t id, std::string_view v = "x") {
  return Statement{tx, "INSERT INTO t (id, v) VALUES (?1, ?2)"}.bind(1, id).bind_text(2, v).run();
}

Result<void> put(Writer& w, std::int64_t id, std::string_view v = "x") {
  return w.mutate([&](Tx& tx) { return insert(tx, id, v); });
}

std::int64_t count(Writer& w) {
  auto r = w.read([](Tx& tx) -> Result<std::int64_t> {
    Statement q{tx, "SELECT count(*) FROM t"};
    INDRA_TRY(q.step());
    return q.int64_at(0);
  });
  return r ? *r : -1;
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

}  // namespace
}  // namespace indra
