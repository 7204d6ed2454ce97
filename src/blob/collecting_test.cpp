// What is collected, and what is not: damage, content that comes back while it goes, segments.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "blob/internal/test_store.h"

namespace indra::blob {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::size_t kTall = 5 << 20;  // of more chunks than one page holds

/// Two versions of one file, which share all chunks but one.
struct Versions {
  TestStore& t;
  Bytes first = random_bytes(kTall, 1), second = first;
  BlobInfo one, two;

  explicit Versions(TestStore& store) : t{store} {
    one = t.put(first);
    auto c = t.content(one.id);
    const Bytes some = random_bytes(70000, 2);
    TestStore::take(c->write(900000, some));
    std::copy(some.begin(), some.end(), second.begin() + 900000);
    auto staged = TestStore::take(c->stage(Content::For::publish));
    two = TestStore::take(t.writer().mutate_content([&](Tx& tx) -> Result<BlobInfo> {
      INDRA_LET(BlobInfo i, staged->apply(tx, false));
      INDRA_TRY(t.store().add_ref(tx, i.id));
      return i;
    }));
    staged->accept();
  }
};

/// `text` is a literal: statements are kept by its address.
void sql(TestStore& t, const char* text, BlobId id = {}) {
  TestStore::take(t.writer().mutate([&](Tx& tx) {
    Statement q{tx, text};
    if (id) q.bind(1, id);
    return q.run();
  }));
}

std::vector<std::string> damage(TestStore& t) { return TestStore::take(t.store().stats()).damage; }

// C34: a sweep over such a family began again for ever.
TEST(Collecting, GivenADamagedManifestOfALivingVersion_WhenAnotherDies_ThenNothingOfThemIsFreed) {
  TestStore t;
  const Versions v{t};
  const BlobInfo other = t.put(random_bytes(300000, 3));
  sql(t, "CREATE TABLE kept AS SELECT id, data FROM pages");
  sql(t, "UPDATE pages SET data = x'00'");
  TestStore::take(t.drop(v.one.id));
  TestStore::take(t.drop(other.id));
  const std::uint64_t before = t.live_bytes();
  TestStore::take(t.settle());
  EXPECT_THAT(damage(t), ElementsAre(HasSubstr("none of their space is freed")));
  EXPECT_TRUE(TestStore::take(t.store().at_rest()));
  EXPECT_EQ(t.live_bytes(), before - (4 * 65536 + 40960)) << "the other one's alone";
  // Mended by hand, and opened again: it is freed.
  sql(t, "UPDATE pages SET data = (SELECT data FROM kept WHERE kept.id = pages.id)");
  sql(t, "DROP TABLE kept");
  t.close();
  t.open();
  TestStore::take(t.settle());
  EXPECT_THAT(damage(t), IsEmpty());
  EXPECT_EQ(t.get(v.two.id), v.second);
  EXPECT_EQ(t.live_bytes(), kTall);
}

// C34: it was forgotten at once, looked at again with every slice, and told nobody.
TEST(Collecting, GivenADamagedRowThatNothingRefersTo_WhenTheRestIsFreed_ThenItIsToldAndWorkComesToRest) {
  TestStore t;
  const BlobInfo bad = t.put(random_bytes(200000, 1)), good = t.put(random_bytes(200000, 2));
  sql(t, "UPDATE blobs SET data = x'00' WHERE id = ?1", bad.id);
  TestStore::take(t.drop(bad.id));
  TestStore::take(t.drop(good.id));
  TestStore::take(t.settle());
  EXPECT_THAT(damage(t), ElementsAre(HasSubstr("blob " + std::to_string(bad.id.raw()))));
  EXPECT_TRUE(TestStore::take(t.store().at_rest()));
  EXPECT_EQ(TestStore::take(t.store().stats()).blobs, 1u);
  EXPECT_EQ(t.live_bytes(), 200000u) << "of the damaged one nothing is freed";
}

// C34: such a vault could not be opened after a crash.
TEST(Collecting, GivenADamagedManifest_WhenOpenedAfterACrash_ThenAllElseIsThereAndLeftoversWait) {
  TestStore t;
  const Bytes bytes = random_bytes(300000, 3);
  const BlobInfo bad = t.put(random_bytes(kTall, 1)), good = t.put(bytes);
  {
    auto c = t.content();
    TestStore::take(c->write(0, random_bytes(3 << 20, 4)));
    (void)TestStore::take(c->stage(Content::For::publish));
    TestStore::take(t.store().sync_content());
    sql(t, "CREATE TABLE kept AS SELECT id, data FROM blobs");
    sql(t, "UPDATE blobs SET data = x'00' WHERE id = ?1", bad.id);
    // Something behind the leftovers, so that they are not cut off with the segment's end.
    t.put(random_bytes(100000, 5));
  }
  t.crash();
  EXPECT_THAT(damage(t), ElementsAre(HasSubstr("the last crash left behind")));
  EXPECT_EQ(t.get(good.id), bytes);
  const BlobInfo more = t.put(random_bytes(300000, 6));
  TestStore::take(t.settle());
  const auto held = TestStore::take(t.store().stats()).physical;
  t.close();
  t.open();  // nobody has looked for them yet
  EXPECT_THAT(damage(t), ElementsAre(HasSubstr("the last crash left behind")));
  sql(t, "UPDATE blobs SET data = (SELECT data FROM kept WHERE kept.id = blobs.id) WHERE id = ?1", bad.id);
  sql(t, "DROP TABLE kept");
  t.close();
  t.open();
  EXPECT_THAT(damage(t), IsEmpty());
  EXPECT_LE(TestStore::take(t.store().stats()).physical + (2 << 20), held);
  EXPECT_EQ(TestStore::read_all(*t.content(more.id)), random_bytes(300000, 6));
  EXPECT_TRUE(t.check());
}

/// Writes the bytes of what is being collected again at each of these points, and takes a reference.
class Again : public testing::TestWithParam<std::tuple<std::string, bool>> {};

// C37
TEST_P(Again, GivenContentBeingCollected_WhenItIsWrittenAgain_ThenItSurvives) {
  const auto [point, family] = GetParam();
  TestStore* store = nullptr;
  Bytes bytes = random_bytes(300000, 1);
  BlobInfo back;
  ContentStore::Options o;
  o.faults = FaultPoints{[&, at = point](std::string_view p) -> Result<void> {
    if (store == nullptr || p != at || back.id) return {};
    back.id = BlobId{1};  // once
    back = store->put(bytes);
    return {};
  }};
  TestStore t{o};
  BlobInfo one = t.put(bytes), two;
  if (family) {  // shares chunks: it is swept, not taken apart by itself
    auto c = t.content(one.id);
    TestStore::take(c->write(70000, random_bytes(70000, 2)));
    auto staged = TestStore::take(c->stage(Content::For::publish));
    two = TestStore::take(t.writer().mutate_content([&](Tx& tx) -> Result<BlobInfo> {
      INDRA_LET(BlobInfo i, staged->apply(tx, false));
      INDRA_TRY(t.store().add_ref(tx, i.id));
      return i;
    }));
    staged->accept();
  }
  TestStore::take(t.drop(one.id));
  if (two.id) TestStore::take(t.drop(two.id));
  store = &t;
  TestStore::take(t.settle());
  ASSERT_GT(back.id.raw(), 1) << "the point was not reached";
  EXPECT_TRUE(TestStore::take(t.store().at_rest()));
  EXPECT_EQ(t.get(back.id), bytes);
  EXPECT_TRUE(t.check());
  EXPECT_EQ(t.live_bytes(), 4 * 65536 + 40960u);
  store = nullptr;
  t.crash();
  EXPECT_EQ(t.get(back.id), bytes);
  EXPECT_TRUE(t.check());
}
INSTANTIATE_TEST_SUITE_P(Points, Again,
                         testing::Values(std::tuple{"collect.rows", true}, std::tuple{"collect.punch", true},
                                         std::tuple{"collect.punch", false}));

// C37: whoever found it by its hash holds it.
TEST(Collecting, GivenContentFoundAgainByItsHash_WhenItsLastReferenceGoes_ThenItStaysForWhoFoundIt) {
  TestStore t;
  const Bytes bytes = random_bytes(300000, 1);
  const BlobInfo one = t.put(bytes);
  auto c = t.content();
  TestStore::take(c->write(0, bytes));
  auto staged = TestStore::take(c->stage(Content::For::publish));
  TestStore::take(t.drop(one.id));
  TestStore::take(t.settle());
  const BlobInfo again = TestStore::take(t.writer().mutate_content([&](Tx& tx) -> Result<BlobInfo> {
    INDRA_LET(BlobInfo i, staged->apply(tx, false));
    INDRA_TRY(t.store().add_ref(tx, i.id));
    return i;
  }));
  staged->accept();
  EXPECT_EQ(again.id, one.id);
  staged.reset();
  c.reset();
  TestStore::take(t.settle());
  EXPECT_EQ(t.get(one.id), bytes);
  EXPECT_TRUE(t.check());
}

// C8: blocks that small extents share, across an opening and a crash.
TEST(Collecting, GivenSmallFilesThatDieOneByOne_WhenTheVaultWasOpenedAnewBetween_ThenTheirBlocksGo) {
  for (const bool crash : {false, true}) {
    SCOPED_TRACE(crash ? "crash" : "close");
    TestStore t;
    const auto again = [&] {
      if (crash) return t.crash();
      t.close();
      t.open();
    };
    std::vector<BlobId> ids;
    for (std::uint64_t i = 0; i < 41; ++i) ids.push_back(t.put(random_bytes(1500, i)).id);
    TestStore::take(t.writer().barrier());
    const auto full = TestStore::take(t.store().stats()).physical;
    EXPECT_EQ(full, (1 + 16) * 4096u);
    for (std::size_t i = 1; i < 41; i += 2) TestStore::take(t.drop(ids[i]));
    TestStore::take(t.settle());
    EXPECT_EQ(TestStore::take(t.store().stats()).physical, full) << "each block has one that lives";
    again();
    for (std::size_t i = 0; i < 40; i += 2) {
      if (i == 20) again();
      EXPECT_EQ(t.get(ids[i]), random_bytes(1500, i));
      TestStore::take(t.drop(ids[i]));
      TestStore::take(t.settle());
    }
    EXPECT_EQ(t.get(ids[40]), random_bytes(1500, 40));
    EXPECT_EQ(TestStore::take(t.store().stats()).physical, 3 * 4096u) << "header, and what the last lies in";
    again();
    EXPECT_EQ(t.get(ids[40]), random_bytes(1500, 40));
    const BlobInfo more = t.put(random_bytes(1500, 41));  // behind the end of that block
    TestStore::take(t.drop(ids[40]));
    TestStore::take(t.settle());
    EXPECT_EQ(t.get(more.id), random_bytes(1500, 41));
    EXPECT_EQ(TestStore::take(t.store().stats()).physical, 2 * 4096u) << "header, and the newest one's block";
  }
}

// C8: dead bytes that no row referred to lie where others lie after a crash.
TEST(Collecting, GivenSmallContentThatWasNeverStaged_WhenItsPlaceIsGivenAgainAfterACrash_ThenThatLives) {
  TestStore t;
  const BlobInfo first = t.put(random_bytes(1500, 1));
  for (std::uint64_t i = 0; i < 8; ++i) {
    auto c = t.content();
    TestStore::take(c->write(0, random_bytes(3000, 10 + i)));
    (void)TestStore::take(c->stage(Content::For::publish));  // appended, and thrown away
  }
  TestStore::take(t.settle());
  t.crash();
  std::vector<BlobId> ids;
  for (std::uint64_t i = 0; i < 12; ++i) ids.push_back(t.put(random_bytes(2000, 20 + i)).id);
  for (std::uint64_t i = 0; i < 12; i += 2) TestStore::take(t.drop(ids[i]));
  TestStore::take(t.settle());
  t.close();
  t.open();
  for (std::uint64_t i = 1; i < 12; i += 2) EXPECT_EQ(t.get(ids[i]), random_bytes(2000, 20 + i));
  EXPECT_EQ(t.get(first.id), random_bytes(1500, 1));
  EXPECT_TRUE(t.check());
}

std::size_t files(const TestStore& t) {
  std::size_t n = 0;
  for (const auto& e : std::filesystem::directory_iterator(t.segments())) n += e.is_regular_file();
  return n;
}

// C36, C38: what is empty goes while the vault is open, what is about to be referred to stays.
TEST(Collecting, GivenSegmentsInWhichNothingLives_WhenWorkGoesOn_ThenTheirFilesGo) {
  ContentStore::Options o;
  o.segment_size = 256 << 10;
  o.cache_limit = 0;
  TestStore t{o};
  std::vector<BlobId> ids;
  for (std::uint64_t i = 0; i < 12; ++i) ids.push_back(t.put(random_bytes(200000, i)).id);
  TestStore::take(t.writer().barrier());
  const std::size_t before = files(t);
  ASSERT_GE(before, 10u);
  // Written into segments of its own, and not published yet.
  auto c = t.content();
  const Bytes under_way = random_bytes(400000, 99);
  TestStore::take(c->write(0, under_way));
  auto staged = TestStore::take(c->stage(Content::For::publish));
  for (std::uint64_t i = 0; i < 12; ++i) {
    ids.push_back(t.put(random_bytes(200000, 50 + i)).id);
    TestStore::take(t.drop(ids[i]));
    TestStore::take(t.drop(ids.back()));
  }
  TestStore::take(t.settle());
  EXPECT_LE(files(t), 4u);
  const BlobInfo i = TestStore::take(t.writer().mutate_content([&](Tx& tx) -> Result<BlobInfo> {
    INDRA_LET(BlobInfo b, staged->apply(tx, false));
    INDRA_TRY(t.store().add_ref(tx, b.id));
    return b;
  }));
  staged->accept();
  staged.reset();
  c.reset();
  EXPECT_EQ(t.get(i.id), under_way);
  t.crash();
  EXPECT_EQ(t.get(i.id), under_way);
  EXPECT_THAT(damage(t), IsEmpty());
}

// C38: killed between the row and the file.
TEST(Collecting, GivenACrashWhileAnEmptySegmentGoes_WhenOpened_ThenNothingIsMissing) {
  ContentStore::Options o;
  o.segment_size = 256 << 10;
  o.faults = FaultPoints{[](std::string_view p) -> Result<void> {
    return p == "collect.segment" ? fail(EIO, "the power goes") : Result<void>{};
  }};
  TestStore t{o};
  std::vector<BlobId> ids;
  for (std::uint64_t i = 0; i < 8; ++i) ids.push_back(t.put(random_bytes(200000, i)).id);
  for (std::size_t i = 0; i < 6; ++i) TestStore::take(t.drop(ids[i]));
  EXPECT_FALSE(t.settle());
  const std::size_t before = files(t);
  t.crash();
  EXPECT_LT(files(t), before);
  EXPECT_THAT(damage(t), IsEmpty());
  EXPECT_EQ(t.get(ids[7]), random_bytes(200000, 7));
}

// C39: what is promised is what comes back.
TEST(Collecting, GivenVersionsThatShareChunks_WhenSomeWouldGo_ThenWhatIsPromisedComesBack) {
  TestStore t;
  const Versions v{t};
  const BlobInfo small = t.put(random_bytes(300000, 3));
  const auto promised = [&](const std::map<BlobId, std::int64_t>& dropped) {
    return TestStore::take(t.writer().read([&](Tx& tx) { return freeable(tx, dropped); }));
  };
  EXPECT_EQ(promised({}).bytes, 0u);
  EXPECT_EQ(promised({{v.one.id, 1}}).bytes, 2 * 65536u) << "two chunks are its own";
  EXPECT_EQ(promised({{v.one.id, 1}, {v.two.id, 1}}).bytes, kTall + 2 * 65536);
  EXPECT_EQ(promised({{small.id, 1}}).bytes, 4 * 65536 + 40960u);
  TestStore::take(t.writer().barrier());
  const std::uint64_t before = TestStore::take(t.store().stats()).physical;
  TestStore::take(t.drop(v.one.id));
  TestStore::take(t.drop(small.id));
  const Freeable f = promised({});
  EXPECT_EQ(f.blobs, 2u);
  TestStore::take(t.settle());
  EXPECT_EQ(before - TestStore::take(t.store().stats()).physical, f.bytes);
  EXPECT_EQ(promised({}).bytes, 0u);
  // What cannot be read whole is not promised.
  sql(t, "UPDATE pages SET data = x'00'");
  EXPECT_EQ(promised({{v.two.id, 1}}).bytes, 0u);
  EXPECT_EQ(promised({{v.two.id, 1}}).unreadable, 1u);
}

// C31: more than one mutation may take apart, cut at each step, or shared anew meanwhile.
TEST(Collecting, GivenASweepInManySlices_WhenItIsCutOrDisturbed_ThenTheSameDies) {
  constexpr std::size_t kSize = 34 << 20, kChunks = kSize / kChunkSize;
  for (const int at : {1, 4, -2}) {  // cut after so many slices; below zero: shared anew
    SCOPED_TRACE(at);
    int slices = 0;
    std::function<void()> share;
    ContentStore::Options o;
    o.faults = FaultPoints{[&](std::string_view p) -> Result<void> {
      if (p != "collect.slice") return {};
      ++slices;
      if (slices == at) return fail(ENOSPC, "cut");
      if (slices == -at) share();
      return {};
    }};
    TestStore t{o};
    const Bytes first = random_bytes(kSize, 1);
    Bytes second = first;
    const BlobInfo one = t.put(first);
    BlobInfo two, three;
    const auto version = [&](BlobId of, const std::function<void(Content&)>& change) {
      auto c = t.content(of);
      change(*c);
      auto staged = TestStore::take(c->stage(Content::For::publish));
      auto i = TestStore::take(t.writer().mutate_content([&](Tx& tx) -> Result<BlobInfo> {
        INDRA_LET(BlobInfo b, staged->apply(tx, false));
        INDRA_TRY(t.store().add_ref(tx, b.id));
        return b;
      }));
      staged->accept();
      return i;
    };
    two = version(one.id,
                  [&](Content& c) {  // every other chunk is another one: what the first alone has lies apart
                    for (std::size_t k = 0; k < kChunks; k += 2) {
                      const Bytes chunk = random_bytes(kChunkSize, 100 + k);
                      TestStore::take(c.write(k * kChunkSize, chunk));
                      std::ranges::copy(chunk, second.begin() + static_cast<std::ptrdiff_t>(k * kChunkSize));
                    }
                  });
    share = [&] {
      three = version(two.id, [](Content& c) { TestStore::take(c.write(0, random_bytes(100, 7))); });
    };
    TestStore::take(t.drop(one.id));
    if (at > 0) {
      EXPECT_FALSE(t.settle());
      t.crash();
    }
    TestStore::take(t.settle());
    TestStore::take(t.settle());  // what was patched meanwhile is folded only now
    EXPECT_GT(slices, 5);
    EXPECT_TRUE(TestStore::take(t.store().at_rest()));
    if (at < 0) ASSERT_TRUE(three.id) << "nothing was shared meanwhile";
    EXPECT_EQ(t.live_bytes(), kSize + (three.id ? kChunkSize : 0));
    EXPECT_EQ(t.get(two.id), second);
    EXPECT_TRUE(t.check());
    if (three.id) TestStore::take(t.drop(three.id));
    TestStore::take(t.drop(two.id));
    TestStore::take(t.settle());
    EXPECT_EQ(t.live_bytes(), 0u);
    EXPECT_TRUE(TestStore::take(t.store().at_rest()));
  }
}

}  // namespace
}  // namespace indra::blob
