// Patches and their slots (C42), and the order in which they are folded (C43).
#include <gtest/gtest.h>

#include "blob/internal/test_store.h"

namespace indra::blob {
namespace {

constexpr std::uint64_t kSize = 100 * kChunkSize;

std::int64_t count(TestStore& t, const char* sql) {
  return TestStore::take(t.writer().read([&](Tx& tx) { return tx.db().pragma(sql); }));
}
std::int64_t slots(TestStore& t) { return count(t, "SELECT count(*) FROM patch_slots"); }
std::int64_t patches(TestStore& t) { return count(t, "SELECT count(*) FROM patches"); }

/// A large file whose blocks are overwritten one by one, each made durable.
struct File {
  explicit File(TestStore& store) : t{store}, bytes{random_bytes(kSize, 1)}, id{t.put(bytes).id} {}
  void overwrite(std::uint64_t block, std::uint64_t seed) {
    const Bytes some = random_bytes(kBlockSize, seed);
    if (!c) c = t.content(id);
    TestStore::take(c->write(block * kBlockSize, some));
    TestStore::take(t.publish(*c, id, true, Content::For::sync));
    TestStore::take(t.writer().barrier());
    std::copy(some.begin(), some.end(), bytes.begin() + static_cast<std::ptrdiff_t>(block * kBlockSize));
  }
  TestStore& t;
  Bytes bytes;
  BlobId id;
  std::unique_ptr<Content> c;
};

std::uint64_t some_block(std::uint64_t n) { return n * 7919 % (kSize / kBlockSize); }

TEST(Patches, GivenSomeThatWereFolded_WhenOthersCome_ThenTheirSlotsAreWrittenOver) {
  TestStore t;
  File f{t};
  for (std::uint64_t i = 0; i < 60; ++i) f.overwrite(some_block(i), i);
  EXPECT_EQ(slots(t), 60);
  for (std::uint64_t round = 1; round < 4; ++round) {
    TestStore::take(t.settle());
    EXPECT_EQ(patches(t), 0);
    EXPECT_EQ(t.get(f.id), f.bytes);
    TestStore::take(t.writer().checkpoint());
    TestStore::take(t.writer().mutate([](Tx& tx) {  // the WAL begins
      return Statement{tx, "UPDATE content_state SET value = value WHERE name = 'ids'"}.run();
    }));
    TestStore::take(t.writer().barrier());
    const std::uint64_t before = t.writer().wal_bytes();
    for (std::uint64_t i = 0; i < 60; ++i) f.overwrite(some_block(i + round * 60), i + round * 1000);
    // Two pages of the slot and one of the place; now and then one is split.
    EXPECT_LE((t.writer().wal_bytes() - before) / kWalFrame, 60u * 3 + 20) << "frames";
    EXPECT_EQ(slots(t), 60) << round;
    EXPECT_EQ(patches(t), 60);
    EXPECT_EQ(t.get(f.id), f.bytes);
  }
}

TEST(Patches, GivenABlockWrittenAgain_WhenItsPatchIsThere_ThenNoOtherPageIsWritten) {
  TestStore t;
  File f{t};
  f.overwrite(33, 1);
  const std::uint64_t before = t.writer().wal_bytes();
  for (std::uint64_t i = 2; i < 12; ++i) f.overwrite(33, i);
  EXPECT_EQ((t.writer().wal_bytes() - before) / kWalFrame, 20u);
  EXPECT_EQ(slots(t), 1);
  EXPECT_EQ(t.get(f.id), f.bytes);
}

TEST(Patches, GivenMoreFreeSlotsThanAreKept_WhenAllIsFolded_ThenTheOthersGo) {
  TestStore t;
  File f{t};
  for (std::uint64_t i = 0; i < 1500; ++i) {
    const Bytes some = random_bytes(kBlockSize, i);
    if (!f.c) f.c = t.content(f.id);
    TestStore::take(f.c->write(i * kBlockSize, some));
    if (i % 10 == 9) TestStore::take(t.publish(*f.c, f.id, true, Content::For::sync));
    std::copy(some.begin(), some.end(), f.bytes.begin() + static_cast<std::ptrdiff_t>(i * kBlockSize));
  }
  EXPECT_GT(slots(t), 1000);
  TestStore::take(t.settle());
  EXPECT_EQ(patches(t), 0);
  EXPECT_LE(slots(t), 512);
  EXPECT_EQ(t.get(f.id), f.bytes);
}

// C42: what was freed in a transaction that failed is not free.
TEST(Patches, GivenAMutationThatFreedSlotsAndFailed_WhenOthersCome_ThenThosePatchesStay) {
  TestStore t;
  File f{t};
  for (std::uint64_t i = 0; i < 20; ++i) f.overwrite(i * 16, i);
  EXPECT_FALSE(t.writer().mutate([&](Tx& tx) -> Result<void> {
    INDRA_TRY(t.store().drop_patches(tx, f.id, 0, kSize / kBlockSize));
    return fail(EIO, "planted");
  }));
  File other{t};
  for (std::uint64_t i = 0; i < 40; ++i) other.overwrite(i * 16 + 1, 100 + i);
  EXPECT_EQ(patches(t), 60);
  f.c.reset();
  other.c.reset();
  t.crash();  // they are read from their rows
  EXPECT_EQ(t.get(f.id), f.bytes);
  EXPECT_EQ(t.get(other.id), other.bytes);
}

TEST(Patches, GivenFreeSlots_WhenTheVaultIsOpenedAgain_ThenTheyAreUsed) {
  TestStore t;
  File f{t};
  for (std::uint64_t i = 0; i < 30; ++i) f.overwrite(some_block(i), i);
  TestStore::take(t.settle());
  f.c.reset();
  t.close();
  t.open();
  for (std::uint64_t i = 0; i < 30; ++i) f.overwrite(some_block(i + 50), i + 50);
  EXPECT_EQ(slots(t), 30);
  f.c.reset();
  t.crash();
  EXPECT_EQ(t.get(f.id), f.bytes);
}

// A place that names a slot with other bytes: an error, never those bytes.
TEST(Patches, GivenAPlaceWithAnothersSlot_WhenRead_ThenItIsDamage) {
  for (const char* sql : {"UPDATE patch_places SET slot = (SELECT max(slot) FROM patch_slots)",
                          "DELETE FROM patch_slots", "UPDATE patch_slots SET data = zeroblob(4096)"}) {
    TestStore t;
    File f{t};
    for (std::uint64_t i = 0; i < 3; ++i) f.overwrite(i * 16, i);
    f.c.reset();
    t.crash();
    TestStore::take(t.writer().mutate([&](Tx& tx) { return tx.db().execute(sql); }));
    auto c = t.store().open_frozen(BucketId{1}, f.id);
    Bytes out(kSize);
    const auto n = c ? (*c)->read(0, out) : Result<std::size_t>{fail(c.error())};
    ASSERT_FALSE(n) << sql;
    EXPECT_EQ(n.error().code, make_error_code(Errc::corrupt)) << sql;
  }
}

// C43
TEST(Patches, GivenMoreThanTheLimit_WhenTheyAreFolded_ThenItGoesOnWhereItWas) {
  ContentStore::Options o;
  o.patch_limit = 1;
  TestStore t{o};
  File f{t};
  const auto overwrite_each_chunk = [&](std::uint64_t seed) {
    for (std::uint64_t i = 0; i < 100; ++i) {
      const Bytes some = random_bytes(kBlockSize, seed + i);
      if (!f.c) f.c = t.content(f.id);
      TestStore::take(f.c->write(i * kChunkSize, some));
      if (i % 10 == 9) TestStore::take(t.publish(*f.c, f.id, true, Content::For::sync));
      std::copy(some.begin(), some.end(), f.bytes.begin() + static_cast<std::ptrdiff_t>(i * kChunkSize));
    }
  };
  overwrite_each_chunk(1000);
  const auto lowest = [&] { return count(t, "SELECT coalesce(min(block) / 16, -1) FROM patches"); };
  EXPECT_EQ(lowest(), 0);
  ASSERT_TRUE(TestStore::take(t.store().work(ContentStore::Work::fold)));
  EXPECT_EQ(lowest(), 32);
  overwrite_each_chunk(2000);
  ASSERT_TRUE(TestStore::take(t.store().work(ContentStore::Work::fold)));
  EXPECT_EQ(lowest(), 0) << "the first were folded again, though others waited for longer";
  EXPECT_EQ(count(t, "SELECT count(*) FROM patches WHERE block / 16 BETWEEN 32 AND 63"), 0);
  TestStore::take(t.settle());
  EXPECT_EQ(patches(t), 0);
  EXPECT_EQ(t.get(f.id), f.bytes);
  EXPECT_EQ(*TestStore::take(t.writer().read([&](Tx& tx) { return t.store().info(tx, f.id); })).hash,
            BlobHash::of(f.bytes));
  ASSERT_TRUE(t.check());
}

}  // namespace
}  // namespace indra::blob
