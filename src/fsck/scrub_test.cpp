// The scrub on a whole vault: what it finds, whom it names, that it goes on where it was.
#include <gmock/gmock.h>

#include <fstream>
#include <set>

#include "fsck/internal/test_vault.h"

namespace indra {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::string text(const FileSystem::Scrub& s) {
  std::string out;
  for (const auto& d : s.damage) {
    for (const auto& [where, path] : d.files) out += where + " " + path + ", ";
    out += std::to_string(d.from) + ".." + std::to_string(d.to) + ": " + d.what + "\n";
  }
  return out;
}

FileSystem::Scrub scrubbed(TestVault& v) {
  must(v.fs->scrub(0, true));
  for (int i = 0; i < 1000 && v.fs->scrub_progress().running; ++i) (void)must(v.fs->tick());
  return must(v.fs->scrub_status());
}

/// Where the first bytes of a file's chunk `index` lie: segment and offset. The patches are folded.
std::pair<std::int64_t, std::uint64_t> place_of(TestVault& v, std::string_view bytes) {
  for (const auto& f : std::filesystem::directory_iterator{v.path() + "/segments"}) {
    std::ifstream in{f.path(), std::ios::binary};
    const std::string all{std::istreambuf_iterator<char>{in}, {}};
    const auto at = all.find(bytes);
    if (at != std::string::npos) return {std::stoll(f.path().stem().string()), at};
  }
  throw std::runtime_error{"the bytes are in no segment"};
}
void flip(const std::string& path, std::uint64_t at, unsigned bit = 0) {
  std::fstream f{path, std::ios::in | std::ios::out | std::ios::binary};
  f.seekg(static_cast<std::streamoff>(at));
  const int c = f.get();
  f.seekp(static_cast<std::streamoff>(at));
  f.put(static_cast<char>(c ^ (1 << bit)));
}
std::string segment(const TestVault& v, std::int64_t id) {
  char name[32];
  std::snprintf(name, sizeof name, "%08lld.seg", static_cast<long long>(id));
  return v.path() + "/segments/" + name;
}

TEST(Scrub, GivenASoundVault_WhenItIsScrubbed_ThenAllIsReadAndNothingFound) {
  for (const bool single : {false, true}) {
    TestVault v;
    v.single_file = single;
    v.fill();
    const auto s = scrubbed(v);
    EXPECT_THAT(s.damage, IsEmpty()) << text(s);
    EXPECT_FALSE(s.running);
    EXPECT_NE(s.finished, 0);
    EXPECT_GT(s.bytes, 4'900'000u) << single;
  }
}

TEST(Scrub, GivenAFlippedBit_WhenItIsScrubbed_ThenEveryFileThatHoldsTheByteIsNamed) {
  TestVault v;
  v.fill();
  v.close();
  // Chunk 20 of a file that main, its branch (under another name there) and a snapshot share.
  const std::string whole = TestVault::bytes(4 * 1024 * 1024 + 200000, 4);
  const auto [id, at] = place_of(v, std::string_view{whole}.substr(20 * 65536, 64));
  flip(segment(v, id), at + 1000);
  v.open();
  const auto s = scrubbed(v);
  std::set<std::string> files;
  for (const auto& d : s.damage) {
    EXPECT_EQ(d.from, 20u * 65536);
    EXPECT_EQ(d.to, 21u * 65536);
    for (const auto& [where, path] : d.files) files.insert(where + " " + path);
  }
  EXPECT_THAT(files,
              testing::IsSupersetOf({"branch main /docs/deep/pages.bin", "branch agent /shallow/pages.bin",
                                     "snapshot first /docs/deep/pages.bin"}))
      << text(s);
  EXPECT_FALSE(v.get(*v.view, v.at("/docs/deep/pages.bin")));
  EXPECT_TRUE(v.get(*v.view, v.at("/docs/chunks.bin")));
  // What no file holds any more is not spoken of.
  must(v.fs->delete_branch({}, "main", "agent"));
  v.put("/docs/inline.txt", "goes on");
  EXPECT_THAT(text(must(v.fs->scrub_status())), HasSubstr("branch main /docs/deep/pages.bin"));
  EXPECT_THAT(text(must(v.fs->scrub_status())), Not(HasSubstr("branch agent")));
}

TEST(Scrub, GivenDamageInRows_WhenItIsScrubbed_ThenTheFilesAreNamed) {
  for (const char* sql : {"UPDATE patches SET data = zeroblob(length(data))",
                          "UPDATE blobs SET data = zeroblob(size) WHERE form = 0 AND size = 25"}) {
    TestVault v;
    v.fill();
    v.close();
    v.sql(sql);
    v.open();
    const auto s = scrubbed(v);
    ASSERT_EQ(s.damage.size(), 1u) << sql << ": " << text(s);
    EXPECT_THAT(text(s), HasSubstr("branch main /docs/")) << sql;
  }
}

TEST(Scrub, GivenADamagedPageOfTheDatabase_WhenItIsScrubbed_ThenItIsFound) {
  TestVault v;
  v.fill();
  v.close();
  const auto pages = std::filesystem::file_size(v.path() + "/vault.db") / 4096;
  flip(v.path() + "/vault.db", (pages - 1) * 4096 + 2000, 3);
  v.open();
  EXPECT_THAT(text(scrubbed(v)), HasSubstr("page " + std::to_string(pages) + " of vault.db"));
}

TEST(Scrub, GivenAScrubThatWasCutOff_WhenTheVaultIsOpenedAgain_ThenItGoesOnWhereItWas) {
  TestVault v;
  v.fill();
  must(v.fs->scrub(1, false));  // a byte a second: one slice, and then nothing for long
  for (int i = 0; i < 10; ++i) (void)must(v.fs->tick());
  const auto before = v.fs->scrub_progress();
  ASSERT_TRUE(before.running);
  ASSERT_GT(before.bytes, 900'000u);
  ASSERT_LT(before.bytes, 2'500'000u);
  v.close();
  v.open();
  const auto after = v.fs->scrub_progress();
  EXPECT_EQ(after.bytes, before.bytes);
  EXPECT_EQ(after.started, before.started);
  must(v.fs->scrub(0, false));
  for (int i = 0; i < 1000 && v.fs->scrub_progress().running; ++i) (void)must(v.fs->tick());
  const auto end = must(v.fs->scrub_status());
  EXPECT_FALSE(end.running);
  EXPECT_EQ(end.started, before.started);
  EXPECT_THAT(end.damage, IsEmpty());
  EXPECT_GE(end.bytes, end.total * 9 / 10);
  EXPECT_LE(end.bytes,
            end.total * 12 / 10);  // some of it is read again, what was shared with what came before
}

}  // namespace
}  // namespace indra
