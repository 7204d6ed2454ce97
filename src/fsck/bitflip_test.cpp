// Any single bit of any byte in use, flipped: in a segment, in vault.db, in its WAL. It is found, at open, by
// fsck, by the scrub or by who reads it; reads give the right bytes or an error, never wrong bytes; and all
// else stays readable. INDRA_FLIPS: how many of each kind (default 150), INDRA_FLIPS_SEED: which ones.
#include <gmock/gmock.h>

#include "db/vfs.h"
#include "fsck/fsck.h"
#include "fsck/internal/flipped.h"

namespace indra {
namespace {

FileSystem::Scrub scrubbed(FileSystem& fs) {
  must(fs.scrub(0, true));
  for (int i = 0; i < 1000 && fs.scrub_progress().running; ++i) (void)fs.tick();
  return must(fs.scrub_status());
}

TEST(BitFlip, InASegment_ThenTheScrubNamesTheFilesThatCannotBeReadAndTheRestIsWhole) {
  Flipped f;
  f.v.close();
  const auto pieces = f.pieces();
  std::mt19937 random{seed()};
  const auto open = [&] {
    auto o = f.v.options(false);
    o.content.cache_limit = 0;
    f.v.fs = must(FileSystem::open(f.v.path(), o));
    f.v.view = must(f.v.fs->open_view({}, nullptr));
  };
  open();
  for (int n = 0; n < flips() && !testing::Test::HasFailure(); ++n) {
    const Flipped::Piece& p = pieces[random() % pieces.size()];
    const std::uint64_t at = p.at + random() % p.length;
    const unsigned bit = random() % 8;
    SCOPED_TRACE(p.path + ":" + std::to_string(at) + " bit " + std::to_string(bit));
    flip(p.path, at, bit);
    const auto s = scrubbed(*f.v.fs);
    std::set<std::string> named, bad;
    for (const auto& d : s.damage)
      for (const auto& [where, path] : d.files)
        if (!where.starts_with("branch main as of")) named.insert(where + " " + path);
    f.look(bad);
    EXPECT_FALSE(bad.empty());
    for (const auto& path : bad) EXPECT_TRUE(named.contains(path)) << path << " is not named";
    flip(p.path, at, bit);
  }
  std::set<std::string> bad;
  f.look(bad);
  EXPECT_TRUE(bad.empty());
}

TEST(BitFlip, InASegmentsHeader_ThenFsckFindsItAndAllCanBeRead) {
  Flipped f;
  f.v.close();
  std::mt19937 random{seed()};
  std::vector<std::string> segments;
  for (const auto& e : std::filesystem::directory_iterator{f.v.path() + "/segments"})
    segments.push_back(e.path());
  for (int n = 0; n < flips() / 5 && !testing::Test::HasFailure(); ++n) {
    const std::string& path = segments[random() % segments.size()];
    const std::uint64_t at = random() % 4096;
    const unsigned bit = random() % 8;
    SCOPED_TRACE(path + ":" + std::to_string(at) + " bit " + std::to_string(bit));
    flip(path, at, bit);
    const auto report = must(fsck(f.v.path(), {}));
    EXPECT_FALSE(report.clean());
    f.v.open();
    std::set<std::string> bad;
    f.look(bad);
    f.v.close();
    EXPECT_TRUE(bad.empty());
    flip(path, at, bit);
  }
}

/// `vault`: the files of a closed or killed one. `damage` flips in a copy of it; true: somebody found it.
class Copies {
 public:
  explicit Copies(Flipped& f) : f_{f}, pristine_{f.v.dir + "/pristine"} { copy(f.v.path(), pristine_); }
  void fresh() { copy(pristine_, f_.v.path()); }
  /// Opens the damaged vault and looks at everything.
  bool found() {
    f_.v.view.reset();
    auto fs = FileSystem::open(f_.v.path(), f_.v.options(false));
    if (!fs) return true;
    f_.v.fs = std::move(*fs);
    std::set<std::string> bad;
    f_.look(bad);
    const bool damage = !scrubbed(*f_.v.fs).damage.empty();
    EXPECT_TRUE(damage || bad.empty()) << "a read failed, and the scrub says that all is well";
    f_.v.fs.reset();
    return damage;
  }

 private:
  static void copy(const std::string& from, const std::string& to) {
    std::filesystem::remove_all(to);
    ASSERT_EQ(std::system(("cp -a --sparse=always '" + from + "' '" + to + "'").c_str()), 0);
  }
  Flipped& f_;
  const std::string pristine_;
};

TEST(BitFlip, InVaultDb_ThenItIsFoundAndNothingReadsWrong) {
  Flipped f;
  f.v.close();
  f.v.sql("VACUUM");  // so that each page is in use
  ASSERT_EQ(f.v.number("PRAGMA freelist_count"), 0);
  Copies copies{f};
  const auto size = std::filesystem::file_size(f.v.path() + "/vault.db");
  std::mt19937 random{seed()};
  testing::internal::CaptureStderr();
  for (int n = 0; n < flips() && !testing::Test::HasFailure(); ++n) {
    const std::uint64_t at = n < 20 ? random() % 100 : random() % size;  // the file's header too
    const unsigned bit = random() % 8;
    SCOPED_TRACE("vault.db:" + std::to_string(at) + " bit " + std::to_string(bit));
    copies.fresh();
    flip(f.v.path() + "/vault.db", at, bit);
    EXPECT_TRUE(copies.found());
  }
  (void)testing::internal::GetCapturedStderr();
}

TEST(BitFlip, InTheWalOfAKilledProcess_ThenItIsFoundAtOpen) {
  Flipped f;
  f.v.put("/inline", f.want["/inline"] = "other bytes in a row");
  f.v.put("/block", f.want["/block"] = TestVault::bytes(20'000, 7));
  must(f.v.fs->sync(true));
  f.v.put("/late", f.want["/late"] = "committed, not yet durable");
  (void)must(f.v.fs->status());
  must(f.v.fs->sync(false));
  const Copies dead{f};  // what a kill would leave now
  f.v.close();
  Copies copies{dead};
  copies.fresh();
  const std::string wal = slurp(f.v.path() + "/vault.db-wal");
  std::uint64_t frames = 0;
  while (wal.compare(kWalHeader + frames * kWalFrame + 8, 8, wal, 16, 8) == 0) ++frames;
  ASSERT_GT(frames, 2u);
  const std::uint64_t size = kWalHeader + frames * kWalFrame;
  {
    std::set<std::string> bad;
    f.v.open();
    f.look(bad);
    f.v.close();
    EXPECT_TRUE(bad.empty());
  }
  std::mt19937 random{seed()};
  for (int n = 0; n < flips() && !testing::Test::HasFailure(); ++n) {
    std::uint64_t at = random() % size;
    if (n < 32) at = static_cast<std::uint64_t>(n);  // its header
    const unsigned bit = random() % 8;
    SCOPED_TRACE("vault.db-wal:" + std::to_string(at) + " bit " + std::to_string(bit));
    copies.fresh();
    flip(f.v.path() + "/vault.db-wal", at, bit);
    const auto fs = FileSystem::open(f.v.path(), f.v.options(false));
    ASSERT_FALSE(fs);
    EXPECT_EQ(fs.error().code, make_error_code(Errc::corrupt)) << fs.error().text();
  }
}

}  // namespace
}  // namespace indra
