// Any single bit of any byte in use, flipped: in a segment, in vault.db, in its WAL. It is found, at open, by
// fsck, by the scrub or by who reads it; reads give the right bytes or an error, never wrong bytes; and all
// else stays readable. INDRA_FLIPS: how many of each kind (default 150), INDRA_FLIPS_SEED: which ones.
#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "db/vfs.h"
#include "fsck/fsck.h"
#include "fsck/internal/test_vault.h"

namespace indra {
namespace {

int flips() {
  const char* n = std::getenv("INDRA_FLIPS");
  return n != nullptr ? std::atoi(n) : 150;
}
unsigned seed() {
  const char* n = std::getenv("INDRA_FLIPS_SEED");
  return n != nullptr ? static_cast<unsigned>(std::atoi(n)) : 1;
}

void flip(const std::string& path, std::uint64_t at, unsigned bit) {
  std::fstream f{path, std::ios::in | std::ios::out | std::ios::binary};
  f.seekg(static_cast<std::streamoff>(at));
  const int c = f.get();
  f.seekp(static_cast<std::streamoff>(at));
  f.put(static_cast<char>(c ^ (1 << bit)));
}
std::string slurp(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// Files of every kind of content, a snapshot that holds other versions, a branch.
class Flipped {
 public:
  Flipped() {
    v.clock.pass(kSecond);
    v.open(true);
    want["/inline"] = "a few bytes in a row";
    want["/packed"] = TestVault::bytes(3000, 1);
    want["/packed-too"] = TestVault::bytes(1500, 2);
    want["/block"] = TestVault::bytes(20'000, 3);
    want["/chunks"] = TestVault::bytes(200'000, 4);
    for (const auto& [path, content] : want) v.put(path, content);
    must(v.view->mkdir(v.me, v.view->root(), "d", 0755));
    v.put("/d/old", TestVault::bytes(70'000, 5));
    (void)must(v.fs->create_snapshot({}, "main", "main", "first", ""));
    old = want;
    old["/d/old"] = TestVault::bytes(70'000, 5);
    want["/d/old"] = TestVault::bytes(9'000, 6);
    must(v.view->unlink(v.me, v.at("/d"), "old"));
    v.put("/d/old", want["/d/old"]);
    must(v.fs->sync(true));
    while (must(v.fs->tick())) v.clock.pass(kSecond);
    must(v.fs->settle());
  }

  /// Every file of main and of the snapshot: right, or an error (its path is then among `bad`).
  void look(std::set<std::string>& bad) {
    for (const bool snapshot : {false, true}) {
      ViewSpec spec;
      if (snapshot) spec.snapshot = "first";
      const std::string prefix = snapshot ? "snapshot first " : "branch main ";
      const auto view = v.fs->open_view(spec, nullptr);
      for (const auto& [path, content] : snapshot ? old : want) {
        if (!view) {
          bad.insert(prefix + path);
          continue;
        }
        const auto node = resolve_path(**view, path);
        if (!node) {
          EXPECT_NE(node.error().code, std::errc::no_such_file_or_directory)
              << prefix << path << " is lost in silence";
          bad.insert(prefix + path);
          continue;
        }
        const auto got = v.get(**view, node->node);
        if (got)
          EXPECT_TRUE(*got == content) << prefix << path << " reads as wrong bytes";
        else
          bad.insert(prefix + path);
      }
    }
  }

  TestVault v;
  std::map<std::string, std::string> want, old;
};

FileSystem::Scrub scrubbed(FileSystem& fs) {
  must(fs.scrub(0, true));
  for (int i = 0; i < 1000 && fs.scrub_progress().running; ++i) (void)fs.tick();
  return must(fs.scrub_status());
}

TEST(BitFlip, InASegment_ThenTheScrubNamesTheFilesThatCannotBeReadAndTheRestIsWhole) {
  Flipped f;
  f.v.close();
  // Where each piece of each file lies.
  struct Piece {
    std::string path;
    std::uint64_t at, length;
  };
  std::vector<Piece> pieces;
  std::uint64_t total = 0, bytes = 0;
  std::map<std::string, std::string> segments;
  for (const auto& e : std::filesystem::directory_iterator{f.v.path() + "/segments"})
    segments[e.path()] = slurp(e.path());
  std::set<std::string> contents;
  for (const auto* files : {&f.want, &f.old})
    for (const auto& [path, content] : *files)
      if (content.size() > 1024) contents.insert(content);
  for (const std::string& content : contents) {
    total += content.size();
    for (std::size_t i = 0; i < content.size(); i += 65536) {
      const std::string piece = content.substr(i, 65536);
      for (const auto& [path, all] : segments)
        if (const auto at = all.find(piece); at != std::string::npos) {
          pieces.push_back({path, at, piece.size()});
          bytes += piece.size();
        }
    }
  }
  ASSERT_EQ(bytes, total);
  std::mt19937 random{seed()};
  const auto open = [&] {
    auto o = f.v.options(false);
    o.content.cache_limit = 0;
    f.v.fs = must(FileSystem::open(f.v.path(), o));
    f.v.view = must(f.v.fs->open_view({}, nullptr));
  };
  open();
  for (int n = 0; n < flips() && !testing::Test::HasFailure(); ++n) {
    const Piece& p = pieces[random() % pieces.size()];
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
