// Every single bit, in layers: what reads a page, what follows the WAL at open, what checks a segment's
// header, what reads content. That all reading goes through these is shown end to end by BitFlip.*, on a
// sample. INDRA_EVERY_BIT=1: all bits of the WAL and of content too; else every so many-th.
#include <gtest/gtest.h>

#include <iostream>

#include "blob/segments.h"
#include "db/mark.h"
#include "db/vfs.h"
#include "fsck/internal/flipped.h"

namespace indra {
namespace {

/// Each bit, or each `step`-th.
std::uint64_t step(std::uint64_t sample) { return std::getenv("INDRA_EVERY_BIT") != nullptr ? 1 : sample; }

struct Count {
  std::uint64_t flipped = 0, missed = 0;
  void found(bool yes, std::uint64_t bit) {
    ++flipped;
    if (yes || ++missed > 10) return;
    ADD_FAILURE() << "bit " << bit << " is missed";
  }
  ~Count() { std::cout << flipped << " bits flipped, " << missed << " missed\n"; }
};

/// A file that bits are flipped in, many times.
class Flips {
 public:
  explicit Flips(const std::string& path) : fd_{::open(path.c_str(), O_RDWR | O_CLOEXEC)} {}
  ~Flips() { ::close(fd_); }
  Flips(const Flips&) = delete;
  Flips& operator=(const Flips&) = delete;
  void flip(std::uint64_t at, unsigned bit) const {
    unsigned char c = 0;
    ASSERT_EQ(::pread(fd_, &c, 1, static_cast<off_t>(at)), 1);
    c = static_cast<unsigned char>(c ^ (1u << bit));
    ASSERT_EQ(::pwrite(fd_, &c, 1, static_cast<off_t>(at)), 1);
  }

 private:
  int fd_;
};

void flip_in(std::byte* bytes, std::uint64_t bit) { bytes[bit / 8] ^= std::byte{1} << (bit % 8); }

// V1, V3, V5
TEST(EveryBit, OfVaultDb_ThenThePageDoesNotBearItsChecksum) {
  Flipped f;
  f.v.close();
  const std::string path = f.v.path() + "/vault.db", all = slurp(path);
  ASSERT_EQ(all.size() % kDbPage, 0u);
  Count count;
  for (std::uint32_t n = 0; n < all.size() / kDbPage; ++n) {
    Bytes page{as_view(all).begin() + static_cast<std::ptrdiff_t>(n * kDbPage),
               as_view(all).begin() + static_cast<std::ptrdiff_t>((n + 1) * kDbPage)};
    ASSERT_TRUE(page_is_sound(n + 1, page.data())) << "page " << n + 1;
    for (std::uint64_t bit = 0; bit < kDbPage * 8; ++bit) {
      flip_in(page.data(), bit);
      count.found(!page_is_sound(n + 1, page.data()), n * kDbPage * 8 + bit);
      flip_in(page.data(), bit);
    }
    std::fill_n(page.end() - kDbSpare, kDbSpare, std::byte{0});
    EXPECT_FALSE(page_is_sound(n + 1, page.data())) << "page " << n + 1 << " with zeros for a checksum";
  }
  // What says that there are checksums at all is looked at before.
  for (const std::uint64_t byte : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20})
    for (unsigned bit = 0; bit < 8; ++bit) {
      flip(path, byte, bit);
      const auto found = inspect(path);
      EXPECT_TRUE(!found || found->page_size != kDbPage || found->spare != kDbSpare) << byte;
      flip(path, byte, bit);
    }
}

// K1, K2
TEST(EveryBit, OfTheWalOfAKilledProcess_ThenItIsFoundAtOpen) {
  Flipped f;
  f.v.put("/inline", "other bytes in a row");
  f.v.put("/block", TestVault::bytes(20'000, 7));
  must(f.v.fs->sync(true));
  const std::string dead = f.v.dir + "/dead", path = dead + "/vault.db";
  std::filesystem::copy(f.v.path(), dead, std::filesystem::copy_options::recursive);
  f.v.close();
  const std::string wal = slurp(path + "-wal");
  std::uint64_t frames = 0;
  while (wal.compare(kWalHeader + frames * kWalFrame + 8, 8, wal, 16, 8) == 0) ++frames;
  ASSERT_GT(frames, 2u);
  ASSERT_TRUE(inspect(path));
  const std::uint64_t bits = (kWalHeader + frames * kWalFrame) * 8, each = step(97);
  Count count;
  const Flips file{path + "-wal"};
  for (std::uint64_t bit = 0; bit < bits; bit += bit < kWalHeader * 8 ? 1 : each) {
    file.flip(bit / 8, bit % 8);
    const auto found = inspect(path);
    count.found(!found && found.error().code == make_error_code(Errc::corrupt), bit);
    file.flip(bit / 8, bit % 8);
  }
  EXPECT_TRUE(inspect(path));
}

// F17
TEST(EveryBit, OfASegmentsHeader_ThenItIsNotSound) {
  Flipped f;
  f.v.close();
  Count count;
  for (const auto& e : std::filesystem::directory_iterator{f.v.path() + "/segments"}) {
    const std::string all = slurp(e.path());
    Bytes header{as_view(all).begin(), as_view(all).begin() + 4096};
    ASSERT_TRUE(segment_header_is_sound(header));
    for (std::uint64_t bit = 0; bit < header.size() * 8; ++bit) {
      flip_in(header.data(), bit);
      count.found(!segment_header_is_sound(header), bit);
      flip_in(header.data(), bit);
    }
    return;
  }
  FAIL() << "no segment";
}

// C-rules of reading: the range answers EIO, never wrong bytes.
TEST(EveryBit, OfContent_ThenTheReadOfThatRangeFails) {
  Flipped f;
  f.v.close();
  const auto pieces = f.pieces();
  auto o = f.v.options(false);
  o.content.cache_limit = 0;
  f.v.fs = must(FileSystem::open(f.v.path(), o));
  std::map<std::string, std::pair<std::shared_ptr<View>, Handle>> files;  // by content
  for (const bool snapshot : {false, true}) {
    ViewSpec spec;
    if (snapshot) spec.snapshot = "first";
    const std::shared_ptr<View> view = must(f.v.fs->open_view(spec, nullptr));
    for (const auto& [path, content] : snapshot ? f.old : f.want)
      if (!files.contains(content))
        files[content] = {view, must(view->open(f.v.me, must(resolve_path(*view, path)).node, O_RDONLY))};
  }
  const std::uint64_t each = step(1999);
  Count count;
  std::uint64_t bit = 0;
  for (const auto& p : pieces) {
    auto& [view, handle] = files.at(p.content);
    std::byte byte{};
    const Flips file{p.path};
    for (; bit < p.length * 8; bit += each) {
      const std::uint64_t at = bit / 8;
      file.flip(p.at + at, bit % 8);
      const auto n = view->read(handle, p.offset + at, MutableBytes{&byte, 1});
      count.found(!n, bit);
      file.flip(p.at + at, bit % 8);
      if (bit % (64 * each) == 0) {
        const auto again = view->read(handle, p.offset + at, MutableBytes{&byte, 1});
        ASSERT_TRUE(again && *again == 1 && static_cast<char>(byte) == p.content[p.offset + at]);
      }
    }
    bit -= p.length * 8;
  }
  for (auto& [content, file] : files) file.first->release(file.second);
}

}  // namespace
}  // namespace indra
