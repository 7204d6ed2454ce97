// A directory of its own for one test, removed with all that is in it, and a database in it.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/bytes.h"
#include "db/db.h"

namespace indra {

class TestDir {
 public:
  TestDir() {
    auto pattern = (std::filesystem::temp_directory_path() / "indra-db-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TestDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestDir(const TestDir&) = delete;
  TestDir& operator=(const TestDir&) = delete;

  [[nodiscard]] std::string operator/(const char* name) const { return path_ / name; }
  [[nodiscard]] bool has(const char* name) const { return std::filesystem::exists(path_ / name); }
  [[nodiscard]] Bytes read(const char* name) const {
    std::ifstream in{path_ / name, std::ios::binary};
    const std::string all{std::istreambuf_iterator<char>{in}, {}};
    const ByteView v = as_view(all);
    return {v.begin(), v.end()};
  }
  void write(const char* name, ByteView b) const {
    std::ofstream out{path_ / name, std::ios::binary | std::ios::trunc};
    out.write(reinterpret_cast<const char*>(b.data()), static_cast<std::streamsize>(b.size()));
  }
  void flip(const char* name, std::size_t at) const {
    Bytes b = read(name);
    b.at(at) ^= std::byte{1};
    write(name, b);
  }

 private:
  std::filesystem::path path_;
};

inline std::unique_ptr<Db> open_db(const std::string& path, const char* vfs = nullptr) {
  auto db = Db::open(path, {.create = true, .vfs = vfs});
  EXPECT_TRUE(db) << db.error().text();
  return db ? std::move(*db) : nullptr;
}

}  // namespace indra
