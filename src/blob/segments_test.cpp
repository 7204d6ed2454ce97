// C6..C9 of docs/design/content.md; docs/formats/segments-v1.md.
// Long because every rule of the format has its crash and its fault here.
#include "blob/segments.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "testkit/mem_disk.h"

namespace indra {
namespace {

constexpr std::size_t kKiB = 1024;

Bytes fill(std::uint64_t seed, std::size_t n) {
  std::mt19937_64 random{seed};
  Bytes b(n);
  for (auto& x : b) x = static_cast<std::byte>(random());
  return b;
}

struct TempDir {
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "indra-segments-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string path;
};

using Ends = std::map<std::uint32_t, std::uint64_t>;

std::unique_ptr<Segments> open(Disk& disk, const Ends& ends = {}, Segments::Options o = {},
                               const std::string& dir = "/s") {
  if (dir == "/s") {  // the vault's to make durable
    EXPECT_TRUE(disk.make_dir(dir));
    EXPECT_TRUE(disk.sync_dir(""));
  }
  auto s = Segments::open(disk, dir, ends, std::move(o));
  EXPECT_TRUE(s) << s.error().text();
  return s ? std::move(*s) : nullptr;
}
Extent append(Segments& s, Segments::Stream& stream, ByteView b) {
  const auto e = s.append(stream, b);
  EXPECT_TRUE(e) << e.error().text();
  return e.value_or(Extent{});
}
Bytes read(const Segments& s, const Extent& e) {
  Bytes b(e.length);
  const auto r = s.read(e, 0, b);
  EXPECT_TRUE(r) << r.error().text();
  return b;
}
Ends ends_of(const Segments& s) {
  Ends ends;
  for (std::uint32_t id = 1; id < 1000; ++id)
    if (const auto end = s.end_of(id); end != 0) ends[id] = end;
  return ends;
}
/// What a database would hold: where the extents it refers to end.
Ends ends_of(const std::vector<Extent>& extents) {
  Ends ends;
  for (const Extent& e : extents)
    ends[e.segment] = std::max(ends[e.segment], std::uint64_t{e.offset} + e.length);
  return ends;
}

}  // namespace

TEST(Segments, AppendedBytesAreReadableAtOnceAndAfterSync) {
  MemDisk disk;
  const auto s = open(disk);
  const auto stream = s->stream();
  std::vector<std::pair<Extent, Bytes>> all;
  for (std::uint64_t i = 0; i < 60; ++i) {
    const Bytes b = fill(i, std::array{1, 100, 4095, 4096, 4097, 65535, 65536}[i % 7]);
    all.emplace_back(append(*s, *stream, b), b);
    EXPECT_EQ(read(*s, all.back().first), b);
  }
  EXPECT_TRUE(s->dirty());
  for (const auto& [e, b] : all) EXPECT_EQ(read(*s, e), b);
  ASSERT_TRUE(s->sync());
  EXPECT_FALSE(s->dirty());
  for (const auto& [e, b] : all) EXPECT_EQ(read(*s, e), b);
  Bytes middle(7);
  ASSERT_TRUE(s->read(all[6].first, 1000, middle));
  EXPECT_TRUE(std::ranges::equal(middle, ByteView{all[6].second}.subspan(1000, 7)));
}

TEST(Segments, ExtentsOf4KiBAndMoreStartOnABoundaryAndSmallOnesArePackedElsewhere) {
  MemDisk disk;
  const auto s = open(disk);
  const auto stream = s->stream();
  std::set<std::uint32_t> big, small;
  std::uint32_t next = 4096;
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Extent b = append(*s, *stream, fill(i, 5000));
    const Extent p = append(*s, *stream, fill(i, 100));
    EXPECT_EQ(b.offset % 4096, 0U);
    EXPECT_EQ(p.offset, next);
    next += 100;
    big.insert(b.segment);
    small.insert(p.segment);
  }
  EXPECT_EQ(big.size(), 1U);
  EXPECT_EQ(small.size(), 1U);
  EXPECT_NE(big, small);
}

TEST(Segments, ExtentsOfImpossibleSizesAreRefused) {
  MemDisk disk;
  const auto s = open(disk);
  const auto stream = s->stream();
  EXPECT_FALSE(s->append(*stream, {}));
  EXPECT_FALSE(s->append(*stream, Bytes(64 * kKiB + 1)));
  EXPECT_FALSE(s->dirty());
  const Extent e = append(*s, *stream, fill(1, 10));
  Bytes out(11);
  EXPECT_FALSE(s->read(e, 0, out));
  EXPECT_FALSE(s->overwrite(e, 1, Bytes(10)));
}

TEST(Segments, FilesOfParallelWritersLieInLongRuns) {
  MemDisk disk;
  const auto s = open(disk);
  const auto a = s->stream(), b = s->stream();
  std::vector<Extent> ea, eb;
  const Bytes chunk(64 * kKiB);
  for (int i = 0; i < 256; ++i) {  // 16 MiB each, in turns
    ea.push_back(append(*s, *a, chunk));
    eb.push_back(append(*s, *b, chunk));
  }
  for (const auto* list : {&ea, &eb}) {
    std::size_t runs = 1;
    for (std::size_t i = 1; i < list->size(); ++i)
      runs += (*list)[i].offset != (*list)[i - 1].offset + chunk.size() ? 1 : 0;
    EXPECT_LE(runs, 4U);
  }
}

TEST(Segments, OneWriterAloneWritesOneRun) {
  MemDisk disk;
  const auto s = open(disk);
  const auto stream = s->stream();
  std::uint64_t next = 4096;
  for (std::uint64_t i = 0; i < 200; ++i) {
    if (i % 50 == 49) ASSERT_TRUE(s->sync());
    const Extent e = append(*s, *stream, fill(i, 64 * kKiB));
    EXPECT_EQ(e.offset, next);
    next = e.offset + e.length;
  }
}

TEST(Segments, ManyShortStreamsLieDenselyAndLeaveNoReservations) {
  MemDisk disk;
  const auto s = open(disk);
  Extent last;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const auto stream = s->stream();
    last = append(*s, *stream, fill(i, 8 * kKiB));
  }
  EXPECT_EQ(last.segment, 1U);
  EXPECT_EQ(last.offset, 4096 + 1999 * 8 * kKiB);
}

TEST(Segments, ManyOpenStreamsThatEndGiveTheirReservationsBack) {
  MemDisk disk;
  Segments::Options o;
  o.segment_size = 64 << 20;
  const auto s = open(disk, {}, o);
  for (int round = 0; round < 40; ++round) {
    std::vector<Segments::StreamPtr> streams;
    for (int i = 0; i < 100; ++i) {
      streams.push_back(s->stream());
      append(*s, *streams.back(), Bytes(8 * kKiB));
    }
  }
  EXPECT_LE(ends_of(*s).size(), 6U);
}

TEST(Segments, FullSegmentsAreFollowedByNewOnes) {
  MemDisk disk;
  Segments::Options o;
  o.segment_size = 1 << 20;
  o.reservation = 128 * kKiB;
  const auto s = open(disk, {}, o);
  const auto stream = s->stream();
  std::vector<std::pair<Extent, Bytes>> all;
  for (std::uint64_t i = 0; i < 100; ++i) {
    const Bytes b = fill(i, 60 * kKiB + i);
    all.emplace_back(append(*s, *stream, b), b);
    EXPECT_LE(std::uint64_t{all.back().first.offset} + b.size(), o.segment_size);
  }
  EXPECT_GE(all.back().first.segment, 6U);
  for (const auto& [e, b] : all) EXPECT_EQ(read(*s, e), b);
}

TEST(Segments, SyncWritesSyncsTheFileThenTheDirectoryOnce) {
  TempDir dir;
  std::vector<DiskEvent> events;
  const auto disk = observed_disk(real_disk(), [&](const DiskEvent& e) { events.push_back(e); });
  const auto s = open(*disk, {}, {}, dir.path + "/segments");
  const auto stream = s->stream();
  append(*s, *stream, fill(1, 9000));
  ASSERT_TRUE(s->sync());
  std::vector<DiskEvent::Kind> kinds;
  for (const DiskEvent& e : events) kinds.push_back(e.kind);
  EXPECT_EQ(kinds, (std::vector{DiskEvent::create, DiskEvent::write, DiskEvent::write, DiskEvent::sync,
                                DiskEvent::sync_dir}));

  events.clear();
  ASSERT_TRUE(s->sync());
  EXPECT_TRUE(events.empty());

  append(*s, *stream, fill(2, 9000));
  ASSERT_TRUE(s->sync());
  kinds.clear();
  for (const DiskEvent& e : events) kinds.push_back(e.kind);
  EXPECT_EQ(kinds, (std::vector{DiskEvent::write, DiskEvent::sync}));
}

TEST(Segments, OnARealDiskBytesSurviveReopening) {
  TempDir dir;
  Segments::Options o;
  o.segment_size = 4 << 20;
  std::vector<std::pair<Extent, Bytes>> all;
  Ends ends;
  {
    const auto s = open(real_disk(), {}, o, dir.path + "/segments");
    for (std::uint64_t i = 0; i < 300; ++i) {
      const auto stream = s->stream();
      const Bytes b = fill(i, 1 + i * 211);
      all.emplace_back(append(*s, *stream, b), b);
    }
    ASSERT_TRUE(s->sync());
    ends = ends_of(*s);
  }
  const auto s = open(real_disk(), ends, o, dir.path + "/segments");
  ASSERT_TRUE(s);
  for (const auto& [e, b] : all) EXPECT_EQ(read(*s, e), b);
  EXPECT_EQ(ends_of(*s), ends);
}

TEST(Segments, AppendsGoOnBehindTheRecordedEndRoundedUp) {
  MemDisk disk;
  Ends ends;
  {
    const auto s = open(disk);
    const auto stream = s->stream();
    append(*s, *stream, fill(1, 5000));
    ASSERT_TRUE(s->sync());
    ends = ends_of(*s);
    append(*s, *stream, fill(2, 60000));  // a leftover: no row knows it
    ASSERT_TRUE(s->sync());
  }
  const auto s = open(disk, ends);
  EXPECT_EQ(*s->allocated(), 3U * 4096);  // header, two blocks
  const auto stream = s->stream();
  const Extent e = append(*s, *stream, fill(3, 4096));
  EXPECT_EQ(e, (Extent{1, 3 * 4096, 4096}));
}

TEST(Segments, AMostlyFullSegmentIsNotAppendedToAfterOpening) {
  MemDisk disk;
  Segments::Options o;
  o.segment_size = 1 << 20;
  Ends ends;
  {
    const auto s = open(disk, {}, o);
    const auto stream = s->stream();
    for (std::uint64_t i = 0; i < 13; ++i) append(*s, *stream, fill(i, 64 * kKiB));
    ASSERT_TRUE(s->sync());
    ends = ends_of(*s);
  }
  const auto s = open(disk, ends, o);
  const auto stream = s->stream();
  EXPECT_EQ(append(*s, *stream, fill(1, 5000)).segment, 2U);
}

TEST(Segments, AMissingShorterOrRenamedSegmentIsNamedAndCostsItsOwnBytesAlone) {  // C36
  MemDisk disk;
  Ends ends;
  Extent e;
  {
    const auto s = open(disk);
    const auto stream = s->stream();
    e = append(*s, *stream, fill(1, 5000));
    ASSERT_TRUE(s->sync());
    ends = ends_of(*s);
  }
  const auto look = [&](const Ends& told, const char* name, const Extent& lost) {
    const auto s = open(disk, told);
    EXPECT_EQ(s->damage().size(), 1u);
    if (!s->damage().empty()) EXPECT_NE(s->damage()[0].find(name), std::string::npos) << s->damage()[0];
    EXPECT_EQ(read(*s, e), fill(1, 5000));
    Bytes b(lost.length);
    const auto r = s->read(lost, 0, b);
    EXPECT_FALSE(r);
    if (!r) EXPECT_EQ(r.error().code, Errc::corrupt);
    EXPECT_TRUE(s->punch({lost}));
    EXPECT_TRUE(s->allocated());
    const auto stream = s->stream();
    const Extent more = append(*s, *stream, fill(2, 5000));
    EXPECT_FALSE(told.contains(more.segment) && more.segment != e.segment) << "a number given again";
    EXPECT_TRUE(s->sync());
    EXPECT_EQ(read(*s, more), fill(2, 5000));
  };
  auto missing = ends;
  missing[7] = 8192;
  look(missing, "00000007.seg", {7, 4096, 100});
  auto shorter = ends;
  shorter[1] += 1 << 20;
  look(shorter, "00000001.seg", {1, 1 << 20, 100});
}

TEST(Segments, ADamagedHeaderCostsNoBytesAndNothingMoreIsAppendedThere) {
  MemDisk disk;
  Ends ends;
  Extent e;
  {
    const auto s = open(disk);
    const auto stream = s->stream();
    e = append(*s, *stream, fill(1, 5000));
    ASSERT_TRUE(s->sync());
    ends = ends_of(*s);
  }
  disk.flip("/s/00000001.seg", 16);
  const auto s = open(disk, ends);
  EXPECT_EQ(read(*s, e), fill(1, 5000));
  const auto stream = s->stream();
  EXPECT_EQ(append(*s, *stream, fill(2, 5000)).segment, 2U);
}

TEST(Segments, UnknownSegmentsAreRemovedAndStrangersLeftAlone) {
  TempDir dir;
  std::filesystem::create_directory(dir.path + "/segments");
  for (const char* name : {"00000003.seg", "notes.txt", "3.seg", "00000004.seg~"})
    std::ofstream{dir.path + "/segments/" + name} << "x";
  const auto s = open(real_disk(), {}, {}, dir.path + "/segments");
  ASSERT_TRUE(s);
  EXPECT_FALSE(std::filesystem::exists(dir.path + "/segments/00000003.seg"));
  for (const char* name : {"notes.txt", "3.seg", "00000004.seg~"})
    EXPECT_TRUE(std::filesystem::exists(dir.path + "/segments/" + name)) << name;
}

TEST(Segments, OverwrittenBytesAreReadAndDurableWhetherBufferedOrNot) {
  MemDisk disk;
  std::vector<std::pair<Extent, Bytes>> all;
  {
    const auto s = open(disk);
    const auto stream = s->stream();
    for (std::uint64_t i = 0; i < 4; ++i) {
      Bytes b = fill(i, 20000);
      const Extent e = append(*s, *stream, b);
      if (i % 2 == 0) ASSERT_TRUE(s->sync());  // else it is still in the buffer
      const Bytes patch = fill(100 + i, 4096);
      ASSERT_TRUE(s->overwrite(e, 8192, patch));
      EXPECT_TRUE(s->dirty());
      std::ranges::copy(patch, b.begin() + 8192);
      EXPECT_EQ(read(*s, e), b);
      all.emplace_back(e, b);
    }
    ASSERT_TRUE(s->sync());
    EXPECT_EQ(disk.unsynced(), 0U);
    for (const auto& [e, b] : all) EXPECT_EQ(read(*s, e), b);
  }
  disk.crash_strictly();
  std::vector<Extent> extents;
  for (const auto& [e, b] : all) extents.push_back(e);
  const auto s = open(disk, ends_of(extents));
  for (const auto& [e, b] : all) EXPECT_EQ(read(*s, e), b);
}

TEST(Segments, PunchingADeadExtentFreesAllItsBlocks) {
  MemDisk disk;
  const auto s = open(disk);
  const auto stream = s->stream();
  const Extent a = append(*s, *stream, fill(1, 5000)), b = append(*s, *stream, fill(2, 10000)),
               c = append(*s, *stream, fill(3, 4097));
  ASSERT_TRUE(s->sync());
  EXPECT_EQ(*s->allocated(), (1U + 2 + 3 + 2) * 4096);
  ASSERT_TRUE(s->punch({b}));
  EXPECT_EQ(*s->allocated(), (1U + 2 + 2) * 4096);
  EXPECT_EQ(read(*s, a), fill(1, 5000));
  EXPECT_EQ(read(*s, c), fill(3, 4097));
  ASSERT_TRUE(s->punch({c, a}));
  EXPECT_EQ(*s->allocated(), 4096U);
}

TEST(Segments, BlocksThatSmallExtentsShareGoWithTheLastOfThem) {
  MemDisk disk;
  const auto s = open(disk);
  const auto stream = s->stream();
  std::vector<Extent> all;
  for (std::uint64_t i = 0; i < 41; ++i) all.push_back(append(*s, *stream, fill(i, 1000)));
  ASSERT_TRUE(s->sync());
  const auto before = *s->allocated();
  EXPECT_EQ(before, (1U + 11) * 4096);
  std::vector<Extent> parts;
  const auto punch = [&](const Extent& e) {
    parts.push_back(e);
    auto left = s->punch(parts);
    ASSERT_TRUE(left);
    parts = std::move(*left);
    for (const Extent& p : parts) EXPECT_EQ(p.offset / 4096, (p.offset + p.length - 1) / 4096);
  };
  for (std::size_t i = 1; i < 41; i += 2) punch(all[i]);
  EXPECT_EQ(*s->allocated(), before);
  for (std::size_t i = 0; i < 40; i += 2) {
    EXPECT_EQ(read(*s, all[i]), fill(i, 1000));
    punch(all[i]);
  }
  EXPECT_EQ(read(*s, all[40]), fill(40, 1000));
  EXPECT_EQ(*s->allocated(), 3U * 4096);  // header, and the two blocks that the last one lies in
}

RC_GTEST_PROP(SegmentsProperty, punching_never_touches_what_lives, ()) {
  MemDisk disk;
  Segments::Options o;
  o.segment_size = 1 << 20;
  const auto s = open(disk, {}, o);
  const auto stream = s->stream();
  std::vector<std::pair<Extent, std::uint64_t>> live;
  std::vector<Extent> dead;
  const auto punch = [&] {
    auto left = s->punch(dead);
    RC_ASSERT(left.has_value());
    dead = std::move(*left);
  };
  const auto steps = *rc::gen::inRange(1, 60);
  for (int i = 0; i < steps; ++i) {
    const auto seed = static_cast<std::uint64_t>(i);
    const std::size_t n =
        *rc::gen::oneOf(rc::gen::inRange<std::size_t>(1, 4096), rc::gen::inRange<std::size_t>(4096, 65537));
    live.emplace_back(append(*s, *stream, fill(seed, n)), seed);
    if (*rc::gen::inRange(0, 4) == 0) RC_ASSERT(s->sync().has_value());
    for (int k = *rc::gen::inRange(0, 3); k > 0 && !live.empty(); --k) {
      const auto which = *rc::gen::inRange<std::size_t>(0, live.size());
      dead.push_back(live[which].first);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(which));
    }
    punch();
  }
  for (const auto& [e, seed] : live) RC_ASSERT(read(*s, e) == fill(seed, e.length));
  for (const auto& [e, seed] : live) dead.push_back(e);
  RC_ASSERT(s->sync().has_value());
  punch();
  // Only headers are left, and the blocks before the end of the packed ones.
  RC_ASSERT(*s->allocated() <= 4096 * 2 * ends_of(*s).size());
}

TEST(Segments, AnErrorOfAFullDiskPassesWhenSpaceIsFreed) {
  MemDisk disk{8192 + 2 * 64 * kKiB};
  const auto s = open(disk);
  const auto stream = s->stream();
  std::vector<std::pair<Extent, Bytes>> all;
  for (std::uint64_t i = 0; i < 4; ++i) {
    const Bytes b = fill(i, 64 * kKiB);
    all.emplace_back(append(*s, *stream, b), b);
  }
  auto r = s->sync();
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, std::errc::no_space_on_device);
  EXPECT_TRUE(s->dirty());
  const auto e = s->append(*stream, Bytes(100));  // memory stays bounded: the old bytes come first
  ASSERT_FALSE(e);
  EXPECT_EQ(e.error().code, std::errc::no_space_on_device);
  for (const auto& [x, b] : all) EXPECT_EQ(read(*s, x), b);

  disk.set_capacity(1 << 30);
  ASSERT_TRUE(s->sync());
  EXPECT_FALSE(s->dirty());
  append(*s, *stream, fill(9, 100));
  for (const auto& [x, b] : all) EXPECT_EQ(read(*s, x), b);
}

TEST(Segments, SpaceCanBePunchedOnAFullDisk) {
  MemDisk disk{4096 + 20 * 64 * kKiB};
  const auto s = open(disk);
  const auto stream = s->stream();
  std::vector<Extent> all;
  for (int i = 0; i < 16; ++i) all.push_back(append(*s, *stream, Bytes(64 * kKiB, std::byte{1})));
  ASSERT_TRUE(s->sync());
  for (int i = 0; i < 8; ++i) append(*s, *stream, Bytes(64 * kKiB, std::byte{2}));
  ASSERT_FALSE(s->sync());
  ASSERT_TRUE(s->punch(all));
  EXPECT_TRUE(s->sync());
}

TEST(Segments, AfterAFailedSyncEverySyncFails) {
  MemDisk disk;
  std::atomic<int> broken{0};
  disk.set_fault(
      [&](MemDisk::Op op, const std::string&) { return op == MemDisk::Op::sync ? broken.load() : 0; });
  const auto s = open(disk);
  const auto stream = s->stream();
  append(*s, *stream, fill(1, 5000));
  broken = EIO;
  auto r = s->sync();
  ASSERT_FALSE(r);
  EXPECT_EQ(to_errno(r.error()), EIO);
  broken = 0;
  append(*s, *stream, fill(1, 5000));
  r = s->sync();
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Errc::failed);
  EXPECT_TRUE(s->dirty());
}

TEST(Segments, FaultPointsAreWhereTheHeaderSays) {
  for (const std::string point : {"segment.write", "segment.sync", "segment.punch", "segment.create"}) {
    MemDisk disk;
    Segments::Options o;
    o.faults = FaultPoints{[&](std::string_view at) -> Result<void> {
      if (at == point) return fail(ENOSPC);
      return {};
    }};
    const auto s = open(disk, {}, o);
    const auto stream = s->stream();
    const auto e = s->append(*stream, Bytes(5000));
    bool failed = !e;
    failed = !s->sync() || failed;
    if (e) failed = !s->punch({*e}) || failed;
    EXPECT_TRUE(failed) << point;
  }
}

TEST(Segments, ASegmentInWhichNothingLivesIsRemoved) {
  MemDisk disk;
  Segments::Options o;
  o.segment_size = 1 << 20;
  const auto s = open(disk, {}, o);
  auto stream = s->stream();
  std::vector<Extent> first;
  Extent e;
  while ((e = append(*s, *stream, Bytes(64 * kKiB))).segment == 1) first.push_back(e);
  EXPECT_EQ(s->remove(2).error().code, std::errc::device_or_resource_busy);
  ASSERT_TRUE(s->sync());
  EXPECT_FALSE(*s->retire(1)) << "nobody refers to what is in it yet";
  for (const Extent& f : first) s->settled(f);
  EXPECT_TRUE(*s->retire(1));
  ASSERT_TRUE(s->remove(1));
  EXPECT_EQ(s->end_of(1), 0U);
  EXPECT_FALSE(disk.open("/s/00000001.seg", false));
  Bytes out(10);
  EXPECT_FALSE(s->read(first[0], 0, out));
  append(*s, *stream, Bytes(64 * kKiB));
  ASSERT_TRUE(s->sync());
}

TEST(Segments, ManySegmentsNeedFewDescriptors) {
  TempDir dir;
  Segments::Options o;
  o.segment_size = 1;  // as small as they get
  o.reservation = 1;
  const auto s = open(real_disk(), {}, o, dir.path + "/segments");
  const auto stream = s->stream();
  std::vector<std::pair<Extent, std::uint64_t>> all;
  for (std::uint64_t i = 0; i < 300; ++i) {
    all.emplace_back(append(*s, *stream, fill(i, 64 * kKiB)), i);
    if (i % 40 == 0) ASSERT_TRUE(s->sync());
  }
  ASSERT_TRUE(s->sync());
  EXPECT_GE(all.back().first.segment, 150U);
  for (const auto& [e, seed] : all) EXPECT_EQ(read(*s, e), fill(seed, e.length));
  std::size_t open_files = 0;
  for (const auto& fd : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    std::error_code none;
    const auto target = std::filesystem::read_symlink(fd.path(), none).string();
    open_files += target.starts_with(dir.path) ? 1 : 0;
  }
  EXPECT_LE(open_files, 64U);
}

// What was appended before a sync that returned is whole after the power went, whatever happened since.
RC_GTEST_PROP(SegmentsProperty, a_crash_keeps_what_was_synced, ()) {
  MemDisk disk;
  Segments::Options o;
  o.segment_size = 512 * kKiB;
  o.buffer = 64 * kKiB;
  std::vector<std::pair<Extent, std::uint64_t>> durable, volatile_;
  std::uint64_t seed = 0;
  for (int life = 0; life < 4; ++life) {
    std::vector<Extent> known;
    for (const auto& [e, x] : durable) known.push_back(e);
    const auto s = open(disk, ends_of(known), o);
    RC_ASSERT(s != nullptr);
    for (const auto& [e, x] : durable) RC_ASSERT(read(*s, e) == fill(x, e.length));
    const auto steps = *rc::gen::inRange(1, 30);
    const auto a = s->stream(), b = s->stream();
    for (int i = 0; i < steps; ++i) {
      const auto n =
          *rc::gen::oneOf(rc::gen::inRange<std::size_t>(1, 4096), rc::gen::inRange<std::size_t>(4096, 65537));
      ++seed;
      volatile_.emplace_back(append(*s, i % 2 == 0 ? *a : *b, fill(seed, n)), seed);
      if (*rc::gen::inRange(0, 5) == 0) {
        RC_ASSERT(s->sync().has_value());
        durable.insert(durable.end(), volatile_.begin(), volatile_.end());
        volatile_.clear();
      }
    }
    volatile_.clear();
    disk.crash(*rc::gen::arbitrary<std::uint64_t>());
  }
}

TEST(Segments, AppendersReadersAndSyncersGetAlong) {
  MemDisk disk;
  Segments::Options o;
  o.segment_size = 4 << 20;
  o.buffer = 128 * kKiB;
  o.reservation = 256 * kKiB;
  const auto s = open(disk, {}, o);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  Mutex mutex;
  std::vector<std::pair<Extent, std::uint64_t>> all;
  std::vector<std::thread> appenders, others;
  for (std::uint64_t t = 0; t < 8; ++t)
    appenders.emplace_back([&, t] {
      std::mt19937_64 random{t};
      auto stream = s->stream();
      std::vector<Extent> mine;
      for (std::uint64_t i = 0; i < 150; ++i) {
        const std::uint64_t seed = t << 32 | i;
        const std::size_t n = 1 + random() % (i % 3 == 0 ? 4000 : 20000);
        const auto e = s->append(*stream, fill(seed, n));
        if (!e) {
          ++wrong;
          continue;
        }
        if (i % 10 == 9) {  // written over by its owner, before anybody else knows it
          if (!s->overwrite(*e, 0, ByteView{fill(seed, n)}.first(n / 2))) ++wrong;
        }
        if (i % 7 == 6) {  // or let go
          if (!s->punch({*e})) ++wrong;
        } else {
          const MutexLock lock{mutex};
          all.emplace_back(*e, seed);
        }
        if (i % 25 == 24) stream = s->stream();
        if (i % 30 == 29 && !s->sync()) ++wrong;
      }
    });
  for (std::uint64_t t = 0; t < 2; ++t)
    others.emplace_back([&, t] {
      std::mt19937_64 random{t};
      while (!stop) {
        std::pair<Extent, std::uint64_t> one;
        {
          const MutexLock lock{mutex};
          if (all.empty()) continue;
          one = all[random() % all.size()];
        }
        Bytes b(one.first.length);
        if (!s->read(one.first, 0, b) || b != fill(one.second, b.size())) ++wrong;
      }
    });
  others.emplace_back([&] {
    while (!stop)
      if (!s->sync() || !s->allocated()) ++wrong;
  });
  for (auto& t : appenders) t.join();
  stop = true;
  for (auto& t : others) t.join();
  EXPECT_EQ(wrong, 0);
  ASSERT_TRUE(s->sync());
  EXPECT_FALSE(s->dirty());
  disk.crash_strictly();
  std::vector<Extent> extents;
  for (const auto& [e, seed] : all) extents.push_back(e);
  const auto again = open(disk, ends_of(extents), o);
  ASSERT_TRUE(again);
  for (const auto& [e, seed] : all) ASSERT_EQ(read(*again, e), fill(seed, e.length));
}

TEST(Segments, ASyncThatIsNotOverIsStillDirty) {
  MemDisk disk;
  std::atomic<bool> inside{false}, go{false};
  disk.set_fault([&](MemDisk::Op op, const std::string&) {
    if (op == MemDisk::Op::sync) {
      inside = true;
      while (!go) std::this_thread::yield();
    }
    return 0;
  });
  const auto s = open(disk);
  const auto stream = s->stream();
  append(*s, *stream, fill(1, 5000));
  std::thread t{[&] { EXPECT_TRUE(s->sync()); }};
  while (!inside) std::this_thread::yield();
  EXPECT_TRUE(s->dirty());
  const Extent e = append(*s, *stream, fill(2, 5000));  // appends and reads go on meanwhile
  EXPECT_EQ(read(*s, e), fill(2, 5000));
  go = true;
  t.join();
  EXPECT_TRUE(s->dirty());
  ASSERT_TRUE(s->sync());
  EXPECT_FALSE(s->dirty());
}

}  // namespace indra
