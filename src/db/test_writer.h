// A Writer of one table `t (id, v)` for tests.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "db/test_dir.h"
#include "db/writer.h"

namespace indra {

inline constexpr Migration kRows[] = {{"t: rows", "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)"}};

/// Nothing happens by itself.
inline WriterOptions quiet() {
  WriterOptions o;
  o.create = true;
  o.migrations = kRows;
  o.background = false;
  return o;
}

inline std::unique_ptr<Writer> open_writer(const std::string& path, WriterOptions o = quiet()) {
  auto w = Writer::open(path, std::move(o));
  EXPECT_TRUE(w) << w.error().text();
  return w ? std::move(*w) : nullptr;
}

inline Result<void> put_bytes(Writer& w, std::int64_t id, std::int64_t bytes) {
  return w.mutate([&](Tx& tx) {
    return Statement{tx, "INSERT INTO t (id, v) VALUES (?1, zeroblob(?2))"}.bind(1, id).bind(2, bytes).run();
  });
}

inline std::int64_t count(Writer& w) {
  const auto r = w.read([](Tx& tx) { return tx.db().pragma("SELECT count(*) FROM t"); });
  return r ? *r : -1;
}

}  // namespace indra
