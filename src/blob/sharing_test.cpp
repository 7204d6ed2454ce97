// One blob under several files, and one chunk in several places.
#include <gtest/gtest.h>

#include "blob/internal/test_store.h"

namespace indra::blob {
namespace {

// C12: a chunk that stands in two places of one file is not freed, nor changed, by what is done to one of
// them.
TEST(Content, GivenAChunkTwiceInAFileThatIsAlone_WhenOneIsOverwritten_ThenTheOtherStays) {
  for (const bool single_file : {false, true})
    for (const bool whole : {true, false}) {
      ContentStore::Options o;
      o.single_file = single_file;
      TestStore t{o};
      const Bytes chunk = random_bytes(65536, 1);
      const BlobInfo i = t.put(chunk + random_bytes(65536, 2));
      auto c = t.content();
      {
        auto from = t.content(i.id);
        for (const std::uint64_t at : {0u, 65536u, 131072u})
          ASSERT_EQ(TestStore::take(c->copy_from(*from, 0, at, 65536)), 65536u);
      }
      const BlobInfo j = TestStore::take(t.publish(*c));
      TestStore::take(t.drop(i.id));
      TestStore::take(t.settle());
      ASSERT_TRUE(t.check());
      Bytes want = chunk + chunk + chunk;
      const Bytes over = random_bytes(whole ? 65536 : 4096, 3);
      TestStore::take(c->write(65536, over));
      std::ranges::copy(over, want.begin() + 65536);
      const BlobInfo k = TestStore::take(t.publish(*c, j.id, true, Content::For::sync));
      TestStore::take(t.settle());
      c.reset();
      TestStore::take(t.settle());
      EXPECT_TRUE(t.check()) << single_file << whole;
      t.close();
      t.open();
      EXPECT_EQ(t.get(k.id), want) << single_file << whole;
    }
}

TEST(Content, GivenAChunkCopiedWithinItsFile_WhenItIsPatchedAndFolded_ThenTheCopyStays) {
  TestStore t;
  Bytes want = random_bytes(131072, 1);
  const BlobInfo i = t.put(want);
  auto c = t.content(i.id);
  ASSERT_EQ(TestStore::take(c->copy_from(*c, 0, 131072, 65536)), 65536u);
  want.insert(want.end(), want.begin(), want.begin() + 65536);
  const Bytes over = random_bytes(4096, 2);
  TestStore::take(c->write(8192, over));
  std::ranges::copy(over, want.begin() + 8192);
  const BlobInfo j = TestStore::take(t.publish(*c, i.id, true, Content::For::sync));
  while (TestStore::take(t.store().work(ContentStore::Work::free))) {  // alone before it is folded
  }
  TestStore::take(t.settle());
  c.reset();
  TestStore::take(t.settle());
  EXPECT_TRUE(t.check());
  EXPECT_EQ(t.get(j.id), want);
}

// A snapshot stages all open files of a branch together, and equal ones are one blob.
TEST(Content, GivenTwoFilesOfOneBlob_WhenBothAreStagedTogether_ThenEachGetsItsOwn) {
  for (const std::size_t size : {std::size_t{500}, std::size_t{200000}}) {
    TestStore t;
    Bytes first = random_bytes(size, 1), second = first;
    const BlobInfo i = t.put(first);
    ASSERT_EQ(t.put(first).id, i.id);
    auto a = t.content(i.id), b = t.content(i.id);
    TestStore::take(a->write(10, random_bytes(100, 2)));
    TestStore::take(b->write(10, random_bytes(100, 3)));
    std::ranges::copy(random_bytes(100, 2), first.begin() + 10);
    std::ranges::copy(random_bytes(100, 3), second.begin() + 10);
    auto sa = TestStore::take(a->stage(Content::For::publish));
    auto sb = TestStore::take(b->stage(Content::For::publish));
    BlobInfo ia, ib;
    ASSERT_TRUE(t.writer().mutate_content([&](Tx& tx) -> Result<void> {
      INDRA_LET(ia, sa->apply(tx, true));
      INDRA_LET(ib, sb->apply(tx, true));
      for (const BlobInfo& n : {ia, ib}) {
        INDRA_TRY(t.store().add_ref(tx, n.id));
        INDRA_TRY(t.store().drop_ref(tx, i.id));
      }
      return {};
    }));
    sa->accept();
    sb->accept();
    sa.reset();
    sb.reset();
    TestStore::take(t.settle());
    EXPECT_EQ(TestStore::read_all(*a), first);
    EXPECT_EQ(TestStore::read_all(*b), second);
    EXPECT_EQ(t.get(ia.id), first);
    EXPECT_EQ(t.get(ib.id), second);
    EXPECT_TRUE(t.check());
  }
}

// C14: who is told of a blob by its row finds all of it, its patches too.
TEST(Content, GivenANewBlobWithPatches_WhenItIsOpenedBeforeAccept_ThenItIsWhole) {
  TestStore t;
  Bytes bytes = random_bytes(200000, 1);
  const BlobInfo i = t.put(bytes);
  auto c = t.content(i.id);
  const Bytes some = random_bytes(4096, 2);
  TestStore::take(c->write(8192, some));
  std::ranges::copy(some, bytes.begin() + 8192);
  auto staged = TestStore::take(c->stage(Content::For::sync));
  const BlobInfo j = TestStore::take(t.writer().mutate([&](Tx& tx) -> Result<BlobInfo> {
    INDRA_LET(const BlobInfo n, staged->apply(tx, false));
    INDRA_TRY(t.store().add_ref(tx, n.id));
    return n;
  }));
  ASSERT_EQ(TestStore::take(t.store().stats()).patches, 1u);
  const auto other = TestStore::take(t.store().open_frozen(BucketId{1}, j.id));
  EXPECT_EQ(TestStore::read_all(*other), bytes);
  EXPECT_EQ(TestStore::take(t.store().hash(j.id, true)), BlobHash::of(bytes));
  staged->accept();
  EXPECT_EQ(TestStore::read_all(*other), bytes);
}

}  // namespace
}  // namespace indra::blob
