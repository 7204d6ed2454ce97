#include "blob/content_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "blob/internal/test_store.h"

namespace indra::blob {
namespace {

class Sizes : public testing::TestWithParam<std::uint64_t> {};
TEST_P(Sizes, GivenAFileOfThisSize_WhenPublished_ThenBytesAndHashAreRight) {
  TestStore t;
  const Bytes bytes = random_bytes(GetParam(), GetParam() + 1);
  const BlobInfo i = t.put(bytes);
  ASSERT_TRUE(i.hash);
  EXPECT_EQ(*i.hash, BlobHash::of(bytes));
  EXPECT_EQ(i.size, bytes.size());
  EXPECT_EQ(t.get(i.id), bytes);
  t.close();
  t.open();
  EXPECT_EQ(t.get(i.id), bytes);
  ASSERT_TRUE(t.check());
}
INSTANTIATE_TEST_SUITE_P(Edges, Sizes,
                         testing::Values(0, 1, 1023, 1024, 1025, 4096, 65535, 65536, 65537, 131072, 131073,
                                         (4 << 20) - 1, 4 << 20, (4 << 20) + 1, (4 << 20) + 65536,
                                         (9 << 20) + 17));

TEST(Content, GivenPublishedContent_WhenTheSameBytesArePublished_ThenOneBlobHoldsBoth) {
  TestStore t;
  const Bytes bytes = random_bytes(200000, 1);
  const BlobInfo a = t.put(bytes), b = t.put(bytes);
  EXPECT_EQ(a.id, b.id);
  EXPECT_NE(t.put(bytes, 2).id, a.id) << "buckets share nothing";
}

TEST(Content, GivenALargeFile_WhenOneBlockIsOverwrittenAndSynced_ThenOnlyPatchRowsAreWritten) {
  TestStore t;
  Bytes bytes = random_bytes(1 << 20, 1);
  const BlobInfo i = t.put(bytes);
  auto c = t.content(i.id);
  const Bytes block = random_bytes(4096, 2);
  for (int round = 0; round < 3; ++round) {
    TestStore::take(c->write(65536 * 3 + 4096, block));
    auto staged = TestStore::take(c->stage(Content::For::sync));
    EXPECT_FALSE(staged->needs_content_sync());
    const BlobInfo now = TestStore::take(t.writer().mutate([&](Tx& tx) { return staged->apply(tx, true); }));
    staged->accept();
    EXPECT_EQ(now.id, i.id);
    EXPECT_FALSE(now.hash);
  }
  std::copy(block.begin(), block.end(), bytes.begin() + 65536 * 3 + 4096);
  EXPECT_EQ(TestStore::read_all(*c), bytes);
  EXPECT_EQ(TestStore::take(t.store().hash(i.id, true)), BlobHash::of(bytes));
  TestStore::take(t.settle());
  EXPECT_EQ(TestStore::take(t.store().stats()).patches, 0u);
  EXPECT_EQ(TestStore::read_all(*c), bytes);
  EXPECT_TRUE(t.check());
  EXPECT_EQ(t.live_bytes(), bytes.size()) << "folded in place";
}

TEST(Content, GivenAFrozenView_WhenTheFileChanges_ThenTheViewStays) {
  TestStore t;
  const Bytes old = random_bytes(300000, 1);
  const BlobInfo i = t.put(old);
  auto c = t.content(i.id);
  auto frozen = TestStore::take(t.store().open_frozen(BucketId{1}, i.id));
  TestStore::take(c->write(100, random_bytes(5000, 2)));
  const BlobInfo now = TestStore::take(t.publish(*c, i.id, true));
  EXPECT_NE(now.id, i.id);
  TestStore::take(t.settle());
  EXPECT_EQ(TestStore::read_all(*frozen), old);
  frozen.reset();
  TestStore::take(t.settle());
  EXPECT_TRUE(TestStore::take(t.store().at_rest()));
  EXPECT_EQ(t.live_bytes(), (300000u + 4095) / 4096 * 4096);
}

TEST(Content, GivenAFile_WhenTruncatedToATebibyte_ThenItIsInstantAndTheHashIsPending) {
  TestStore t;
  auto c = t.content();
  TestStore::take(c->write(0, random_bytes(100000, 1)));
  TestStore::take(c->truncate(1ull << 40));
  EXPECT_EQ(TestStore::take(c->seek(0, true)), 102400u);  // the block behind 100,000
  const BlobInfo i = TestStore::take(t.publish(*c));
  EXPECT_FALSE(i.hash);
  const auto h = t.store().hash(i.id, false);
  ASSERT_FALSE(h);
  EXPECT_EQ(h.error().code, std::errc::resource_unavailable_try_again);
  TestStore::take(c->write((1ull << 40) - 5, random_bytes(5, 2)));
  EXPECT_EQ(TestStore::take(t.publish(*c, i.id)).size, 1ull << 40);
  EXPECT_EQ(TestStore::take(c->seek(200000, false)), (1ull << 40) - 4096);
  EXPECT_FALSE(c->truncate(kMaxFileSize + 1));
}

TEST(Content, GivenPartsOfChunksWritten_WhenSeeking_ThenHolesAreKnownToTheBlock) {
  TestStore t;
  auto c = t.content();
  TestStore::take(c->truncate(20 * kChunkSize));
  TestStore::take(c->write(4096, random_bytes(5904, 1)));                    // 4096 .. 12288
  TestStore::take(c->write(8 * kChunkSize + 49152, random_bytes(5000, 2)));  // 49152 .. 57344 of chunk 8
  TestStore::take(c->write(12 * kChunkSize, std::vector<std::byte>(kChunkSize)));  // zeros, but written
  const auto check = [&](const Content& x) {
    EXPECT_EQ(TestStore::take(x.seek(0, true)), 0u);
    EXPECT_EQ(TestStore::take(x.seek(1, false)), 4096u);
    EXPECT_EQ(TestStore::take(x.seek(4096, true)), 12288u);
    EXPECT_EQ(TestStore::take(x.seek(12288, true)), 12288u);
    EXPECT_EQ(TestStore::take(x.seek(12288, false)), 8 * kChunkSize + 49152);
    EXPECT_EQ(TestStore::take(x.seek(8 * kChunkSize, true)), 8 * kChunkSize);
    EXPECT_EQ(TestStore::take(x.seek(8 * kChunkSize + 49152, true)), 8 * kChunkSize + 57344);
    const auto zeros = x.seek(8 * kChunkSize + 60000, false);
    EXPECT_TRUE(!zeros || *zeros == 12 * kChunkSize);  // written zeros may be kept as a hole
    EXPECT_FALSE(x.seek(14 * kChunkSize, false));
  };
  check(*c);
  TestStore::take(t.publish(*c));
  check(*c);
}

TEST(Content, GivenASparseFile_WhenHashed_ThenTheZerosCount) {
  TestStore t;
  auto c = t.content();
  Bytes model(40 << 20);
  const Bytes some = random_bytes(5000, 1);
  TestStore::take(c->write((20 << 20) + 77, some));
  std::copy(some.begin(), some.end(), model.begin() + (20 << 20) + 77);
  TestStore::take(c->truncate(model.size()));
  const BlobInfo i = TestStore::take(t.publish(*c));
  EXPECT_EQ(TestStore::take(t.store().hash(i.id, true)), BlobHash::of(model));
  EXPECT_LE(i.stored, 65536u);
}

TEST(Content, GivenVersionsOfOneFile_WhenOldOnesGo_ThenWhatIsSharedStays) {
  TestStore t;
  Bytes bytes = random_bytes(6 << 20, 1);
  std::vector<BlobInfo> versions{t.put(bytes)};
  std::vector<Bytes> contents{bytes};
  auto c = t.content(versions[0].id);
  for (int v = 1; v < 6; ++v) {
    const Bytes some = random_bytes(70000, static_cast<std::uint64_t>(v) + 10);
    const std::uint64_t at = static_cast<std::uint64_t>(v) * 900000;
    TestStore::take(c->write(at, some));
    std::copy(some.begin(), some.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
    auto staged = TestStore::take(c->stage(Content::For::publish));
    versions.push_back(TestStore::take(t.writer().mutate_content([&](Tx& tx) -> Result<BlobInfo> {
      INDRA_LET(BlobInfo i, staged->apply(tx, false));
      INDRA_TRY(t.store().add_ref(tx, i.id));
      return i;
    })));
    staged->accept();
    contents.push_back(bytes);
  }
  c.reset();
  for (const std::size_t gone : {2u, 0u, 4u, 1u, 3u}) {
    TestStore::take(t.drop(versions[gone].id));
    contents[gone].clear();
    TestStore::take(t.settle());
    EXPECT_TRUE(TestStore::take(t.store().at_rest()));
    ASSERT_TRUE(t.check());
    for (std::size_t v = 0; v < versions.size(); ++v)
      if (!contents[v].empty()) EXPECT_EQ(t.get(versions[v].id), contents[v]);
  }
  EXPECT_EQ(t.live_bytes(), 6u << 20);
  EXPECT_LT(TestStore::take(t.store().stats()).physical, (6u << 20) * 12 / 10);
}

TEST(Content, GivenAFile_WhenItIsCopiedWhole_ThenItsChunksAreShared) {
  TestStore t;
  const Bytes bytes = random_bytes(1 << 20, 1);
  const BlobInfo i = t.put(bytes);
  auto from = t.content(i.id);
  auto to = t.content();
  const Bytes head = random_bytes(65536, 2);
  TestStore::take(to->write(0, head));
  EXPECT_EQ(TestStore::take(to->copy_from(*from, 0, 65536, bytes.size())), bytes.size());
  const BlobInfo j = TestStore::take(t.publish(*to));
  EXPECT_EQ(*j.hash, BlobHash::of(head + bytes));
  EXPECT_EQ(t.live_bytes(), bytes.size() + head.size());
  to.reset();
  TestStore::take(from->write(5, head));  // must not reach the copy
  TestStore::take(t.publish(*from, i.id));
  TestStore::take(t.settle());
  EXPECT_EQ(t.get(j.id), head + bytes);
  ASSERT_TRUE(t.check());
}

TEST(Content, GivenAnInterruptedFold_WhenReopened_ThenItIsFoldedAgain) {
  for (const std::string_view point : {"fold.overwrite", "fold.overwritten", "fold.rows", "segment.sync"}) {
    bool armed = false;
    ContentStore::Options o;
    o.faults = FaultPoints{[&](std::string_view p) -> Result<void> {
      if (armed && p == point) return fail(EIO, std::string{p});
      return {};
    }};
    TestStore t{o};
    Bytes bytes = random_bytes(500000, 1);
    const BlobInfo i = t.put(bytes);
    {
      auto c = t.content(i.id);
      for (const std::uint64_t at : {70000u, 5u, 499000u, 300000u}) {
        const Bytes some = random_bytes(900, at);
        TestStore::take(c->write(at, some));
        std::copy(some.begin(), some.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
      }
      TestStore::take(t.publish(*c, i.id, true, Content::For::sync));
      TestStore::take(t.writer().barrier());
      armed = true;
      (void)t.settle();
      EXPECT_EQ(TestStore::read_all(*c), bytes) << point;
      armed = false;
    }
    if (point != "segment.sync") {
      t.crash();
      EXPECT_EQ(t.get(i.id), bytes) << point;
      TestStore::take(t.settle());
    }
    EXPECT_EQ(t.get(i.id), bytes) << point;
    if (point != "segment.sync") EXPECT_TRUE(t.check()) << point;
  }
}

/// A blob of 500,000 bytes of which chunk 1 has a patch in its third block.
struct Patched {
  explicit Patched(TestStore& t, std::uint64_t seed = 1) : bytes{random_bytes(500000, seed)} {
    id = t.put(bytes).id;
    auto c = t.content(id);
    const Bytes some = random_bytes(900, seed + 1);
    TestStore::take(c->write(65536 + 8192, some));
    std::copy(some.begin(), some.end(), bytes.begin() + 65536 + 8192);
    TestStore::take(t.publish(*c, id, true, Content::For::sync));
    TestStore::take(t.writer().barrier());
  }
  Entry entry(TestStore& t) const INDRA_NO_ANALYSIS {
    const auto l = TestStore::take(t.store().lease(id, false));
    return TestStore::take(find_chunk(l->state().m, 1, t.store().loader()));
  }
  /// Below the patch there is a block that no patch covers.
  void damage(TestStore& t) const {
    const Entry e = entry(t);
    TestStore::take(t.store().bytes().overwrite(e.where, e.length, 30000, as_view("damage")));
    TestStore::take(t.store().bytes().sync());
  }
  Bytes bytes;
  BlobId id;
};

TEST(Content, GivenAFoldThatFailed_WhenTheFileIsClosedAndTheVaultToo_ThenItsBytesAreGood) {  // C22, C23
  for (const std::string_view point : {"fold.overwritten", "fold.rows"}) {
    bool armed = false;
    ContentStore::Options o;
    o.faults = FaultPoints{[&](std::string_view p) -> Result<void> {
      if (armed && p == point) return fail(EIO, std::string{p});
      return {};
    }};
    TestStore t{o};
    const Patched f{t};
    armed = true;
    (void)t.settle();
    armed = false;
    EXPECT_EQ(t.get(f.id), f.bytes) << point << ": nobody had it open";
    t.close();
    t.open();
    EXPECT_EQ(t.get(f.id), f.bytes) << point << ": after an orderly close";
    TestStore::take(t.settle());
    EXPECT_EQ(TestStore::take(t.store().stats()).patches, 0u);
    EXPECT_EQ(t.get(f.id), f.bytes) << point;
    EXPECT_TRUE(t.check());
  }
}

TEST(Content, GivenACrashBesideAPatch_WhenTheChunkIsDamaged_ThenItIsFoundAndNotBlessed) {  // C23
  for (const bool during_the_fold : {false, true}) {
    bool armed = false;
    ContentStore::Options o;
    o.faults = FaultPoints{[&](std::string_view p) -> Result<void> {
      if (armed && p == "fold.rows") return fail(EIO, std::string{p});
      return {};
    }};
    TestStore t{o};
    const Patched f{t};
    if (during_the_fold) {
      armed = true;
      (void)t.settle();
      armed = false;
      TestStore::take(t.store().bytes().sync());
    }
    t.crash();
    EXPECT_EQ(t.get(f.id), f.bytes);
    f.damage(t);
    TestStore::take(t.settle());
    auto c = TestStore::take(t.store().open_frozen(BucketId{1}, f.id));
    Bytes out(65536);
    const auto bad = c->read(65536, out);
    ASSERT_FALSE(bad) << during_the_fold;
    EXPECT_EQ(bad.error().code, make_error_code(Errc::corrupt));
    EXPECT_TRUE(c->read(0, out));
    EXPECT_FALSE(t.store().hash(f.id, true)) << "a hash of damaged bytes";
  }
}

TEST(Content, GivenAWriteOverAChunkWhoseFoldFailed_WhenReopened_ThenItIsWhole) {  // C23
  bool armed = false;
  ContentStore::Options o;
  o.faults = FaultPoints{[&](std::string_view p) -> Result<void> {
    if (armed && p == "fold.rows") return fail(EIO, std::string{p});
    return {};
  }};
  TestStore t{o};
  Patched f{t};
  armed = true;
  (void)t.settle();
  armed = false;
  for (const bool copy : {false, true}) {
    auto c = t.content(f.id);
    const Bytes some = random_bytes(100, copy ? 8 : 9);
    TestStore::take(c->write(65536 + 8200, some));
    std::copy(some.begin(), some.end(), f.bytes.begin() + 65536 + 8200);
    f.id = TestStore::take(t.publish(*c, f.id, !copy, Content::For::sync)).id;
    EXPECT_EQ(TestStore::read_all(*c), f.bytes);
  }
  t.crash();
  EXPECT_EQ(t.get(f.id), f.bytes);
  TestStore::take(t.settle());
  EXPECT_EQ(t.get(f.id), f.bytes);
  EXPECT_TRUE(t.check());
}

TEST(Content, GivenADamagedChunkWithAPatch_WhenWorkGoesOn_ThenItIsSetAsideAndToldAndTheRestIsDone) {  // C34
  ContentStore::Options o;
  o.cache_limit = 0;
  TestStore t{o};
  const Patched bad{t, 1}, good{t, 5};
  const BlobInfo gone = t.put(random_bytes(300000, 9));
  bad.damage(t);
  TestStore::take(t.drop(gone.id));
  TestStore::take(t.settle());
  const auto s = TestStore::take(t.store().stats());
  EXPECT_EQ(s.patches, 1u) << "the bad one's";
  EXPECT_EQ(s.blobs, 2u);
  EXPECT_EQ(s.dead, 0u);
  ASSERT_EQ(s.damage.size(), 1u);
  EXPECT_THAT(s.damage[0], testing::HasSubstr("chunk 1"));
  EXPECT_TRUE(TestStore::take(t.store().at_rest()));
  EXPECT_EQ(t.get(good.id), good.bytes);
  // Written anew it is well again.
  auto c = t.content(bad.id);
  TestStore::take(c->write(65536, ByteView{bad.bytes}.subspan(65536, 65536)));
  TestStore::take(t.publish(*c, bad.id));
  TestStore::take(t.settle());
  EXPECT_EQ(TestStore::read_all(*c), bad.bytes);
  EXPECT_EQ(TestStore::take(t.store().stats()).patches, 0u);
}

/// A store of small segments, three blobs in three of them.
struct Small {
  static ContentStore::Options options() {
    ContentStore::Options o;
    o.segment_size = 256 << 10;
    o.cache_limit = 0;
    return o;
  }
  TestStore t{options()};
  std::vector<Bytes> bytes;
  std::vector<BlobId> ids;
  Small() {
    for (std::uint64_t i = 0; i < 3; ++i) {
      bytes.push_back(random_bytes(200000, i));
      ids.push_back(t.put(bytes.back()).id);
    }
    TestStore::take(t.writer().barrier());
  }
  std::uint32_t segment_of(std::size_t i) {
    const auto l = TestStore::take(t.store().lease(ids[i], false));
    const ReadLock lock{l->state().rw};
    return l->state().m.root->at(0).segment();
  }
  std::filesystem::path file(std::uint32_t segment) {
    return Segments::path_of(t.segments().string(), segment);
  }
};

TEST(Content, GivenAMissingSegment_WhenOpened_ThenTheRestIsThereAndWorkGoesOn) {  // C36
  Small s;
  const std::uint32_t lost = s.segment_of(1);
  ASSERT_NE(lost, s.segment_of(0));
  s.t.close();
  const std::filesystem::path file = s.file(lost), away = file.string() + "-away";
  std::filesystem::rename(file, away);
  s.t.open();
  EXPECT_EQ(s.t.get(s.ids[0]), s.bytes[0]);
  auto c = TestStore::take(s.t.store().open_frozen(BucketId{1}, s.ids[1]));
  Bytes out(65536);
  const auto bad = c->read(0, out);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, make_error_code(Errc::corrupt));
  c.reset();
  const auto stats = TestStore::take(s.t.store().stats());
  ASSERT_EQ(stats.damage.size(), 1u);
  EXPECT_THAT(stats.damage[0], testing::HasSubstr(file.filename().string()));
  const Bytes more = random_bytes(300000, 9);
  const BlobInfo i = s.t.put(more);
  TestStore::take(s.t.settle());
  s.t.crash();  // scavenged beside the gap
  EXPECT_EQ(s.t.get(i.id), more);
  EXPECT_FALSE(std::filesystem::exists(file)) << "its number is not given again";
  s.t.close();
  std::filesystem::rename(away, file);
  s.t.open();
  EXPECT_EQ(s.t.get(s.ids[1]), s.bytes[1]) << "put back, it is well";
  EXPECT_TRUE(TestStore::take(s.t.store().stats()).damage.empty());
}

TEST(Content, GivenASegmentThatIsCountedEmpty_WhenSomethingLivesInIt_ThenItsFileStays) {  // C36
  Small s;
  const std::uint32_t wrong = s.segment_of(1);
  TestStore::take(s.t.writer().mutate([&](Tx& tx) {
    return Statement{tx, "UPDATE segments SET live = 0 WHERE id = ?1"}.bind(1, std::int64_t{wrong}).run();
  }));
  s.t.close();
  s.t.open();
  EXPECT_EQ(s.t.get(s.ids[1]), s.bytes[1]);
  EXPECT_TRUE(s.t.check());
  // And one that is empty goes.
  TestStore::take(s.t.drop(s.ids[0]));
  const auto file = s.file(s.segment_of(0));
  TestStore::take(s.t.settle());
  s.t.close();
  s.t.open();
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST(Content, GivenADamagedChunk_WhenRead_ThenOnlyThatRangeFails) {
  TestStore t;
  const Bytes bytes = random_bytes(400000, 1);
  const BlobInfo i = t.put(bytes);
  TestStore::take(t.writer().barrier());
  const auto l = TestStore::take(t.store().lease(i.id, false));
  Entry e;
  {
    const ReadLock lock{l->state().rw};
    e = l->state().m.root->at(2);
  }
  TestStore::take(t.store().bytes().overwrite(e.where, e.length, 777, as_view("damage")));
  auto c = TestStore::take(t.store().open_frozen(BucketId{1}, i.id));
  Bytes out(65536);
  EXPECT_TRUE(c->read(65536, out));
  const auto bad = c->read(2 * 65536, out);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, make_error_code(Errc::corrupt));
  EXPECT_TRUE(c->read(3 * 65536, out));
}

TEST(Content, GivenAFullDisk_WhenWritten_ThenTheErrorArrivesAndTheVaultIsSound) {
  bool full = false;
  ContentStore::Options o;
  o.faults = FaultPoints{[&](std::string_view p) -> Result<void> {
    if (full && p == "segment.write") return fail(ENOSPC, std::string{p});
    return {};
  }};
  TestStore t{o};
  const Bytes before = random_bytes(300000, 1), more = random_bytes(8 << 20, 2);
  const BlobInfo i = t.put(before);
  TestStore::take(t.writer().commit());
  auto c = t.content();
  full = true;
  const auto w = c->write(0, more);
  const auto p = w ? t.publish(*c) : Result<BlobInfo>{fail(w.error())};
  ASSERT_FALSE(p);
  EXPECT_EQ(p.error().code, std::errc::no_space_on_device);
  full = false;
  EXPECT_EQ(t.get(i.id), before);
  TestStore::take(c->write(0, more));
  EXPECT_EQ(*TestStore::take(t.publish(*c)).hash, BlobHash::of(more));
}

TEST(Content, GivenASingleFileVault_WhenUsed_ThenThereAreNoSegments) {
  ContentStore::Options o;
  o.single_file = true;
  TestStore t{o};
  Bytes bytes = random_bytes(700000, 1);
  const BlobInfo i = t.put(bytes);
  auto c = t.content(i.id);
  const Bytes some = random_bytes(3000, 2);
  TestStore::take(c->write(200000, some));
  std::copy(some.begin(), some.end(), bytes.begin() + 200000);
  TestStore::take(t.publish(*c, i.id, true, Content::For::sync));
  TestStore::take(t.settle());
  c.reset();
  t.crash();
  EXPECT_EQ(t.get(i.id), bytes);
  TestStore::take(t.drop(i.id));
  TestStore::take(t.settle());
  EXPECT_EQ(TestStore::take(t.store().stats()).physical, 0u);
}

TEST(Content, GivenASingleFileVault_WhenADeadChunkIsStillListed_ThenItsNumberIsNotGivenAgain) {  // C35
  ContentStore::Options o;
  o.single_file = true;
  TestStore t{o};
  const auto listed = [&] {
    return TestStore::take(t.writer().read([](Tx& tx) -> Result<std::int64_t> {
      Statement q{tx, "SELECT count(*) FROM dead_extents"};
      INDRA_TRY(q.step());
      return q.int64_at(0);
    }));
  };
  const BlobInfo gone = t.put(random_bytes(200'000, 1));
  TestStore::take(t.drop(gone.id));
  t.clock.advance(10 * kSecond);
  for (int turn = 0; turn < 100 && listed() == 0; ++turn) (void)TestStore::take(t.store().work());
  ASSERT_GT(listed(), 0);
  t.crash();  // the rows of the dead go at the start
  t.crash();
  ASSERT_GT(listed(), 0);
  const Bytes bytes = random_bytes(200'000, 2);
  const BlobInfo i = t.put(bytes);
  TestStore::take(t.settle());
  ASSERT_EQ(listed(), 0);
  EXPECT_EQ(t.get(i.id), bytes);
}

TEST(Content, GivenReadersAFolderAndAWriter_WhenAllRun_ThenEveryBlockIsAlwaysWhole) {
  ContentStore::Options o;
  o.patch_limit = 40'000;
  o.buffer_limit = 400'000;
  o.cache_limit = 1 << 20;
  TestStore t{o};
  constexpr std::size_t kBlocksInAll = 256;
  auto c = t.content();
  TestStore::take(c->write(0, Bytes(kBlocksInAll * kBlockSize, std::byte{1})));
  BlobId id = TestStore::take(t.publish(*c)).id;
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0}, failed{0};
  std::vector<std::thread> threads;
  for (unsigned r = 0; r < 2; ++r)
    threads.emplace_back([&, r] {
      std::mt19937 rng{r};
      Bytes out(40 * kBlockSize);
      while (!stop) {
        const std::uint64_t first = rng() % (kBlocksInAll - 40);
        const auto n = c->read(first * kBlockSize, out);
        if (!n || *n != out.size()) {
          ++failed;
          ADD_FAILURE() << "read: " << (n ? "short" : n.error().text());
        }
        for (std::size_t b = 0; n && b < 40; ++b)
          if (out[b * kBlockSize] != out[(b + 1) * kBlockSize - 1] || out[b * kBlockSize] == std::byte{0})
            ++torn;
      }
    });
  threads.emplace_back([&] {
    while (!stop) {
      t.clock.advance(kSecond);
      if (const auto w = t.store().work(); !w) {
        ++failed;
        ADD_FAILURE() << "work: " << w.error().text();
        return;
      }
    }
  });
  std::mt19937 rng{7};
  for (int i = 0; i < 300; ++i) {
    const std::size_t n = i % 10 == 0 ? 40 : 1;
    const std::uint64_t at = rng() % (kBlocksInAll - 40) * kBlockSize;
    TestStore::take(c->write(at, Bytes(n * kBlockSize, static_cast<std::byte>(1 + i % 200))));
    id = TestStore::take(
             t.publish(*c, id, i % 7 != 0, i % 3 == 0 ? Content::For::publish : Content::For::sync))
             .id;
  }
  stop = true;
  for (auto& th : threads) th.join();
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(failed, 0);
  const Bytes all = TestStore::read_all(*c);
  c.reset();
  TestStore::take(t.settle());
  EXPECT_TRUE(t.check());
  EXPECT_EQ(TestStore::take(t.store().hash(id, true)), BlobHash::of(all));
}

}  // namespace
}  // namespace indra::blob
