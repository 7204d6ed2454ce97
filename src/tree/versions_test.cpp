// docs/branches.md, F5: the versions of a line, and the moments that show them.
#include <gtest/gtest.h>
#include <linux/fs.h>

#include "tree/diff.h"
#include "tree/internal/test_tree.h"

namespace indra {
namespace {

struct Versions : ::testing::Test {
  TestTree t;
  int pins = 0;
  std::vector<Version> of(const Chain& c, std::string_view name, NodeId dir = kFirstNode) {
    return t.run([&](Tx& tx) { return line_versions(tx, c, dir, name); }).value();
  }
  Seq pin(BranchId b = BranchId{1}) { return t.snapshot("s" + std::to_string(++pins), b).seq; }
  /// What the moment of each past version shows at that node is that version.
  void expect_readable(const Chain& c, const std::vector<Version>& all) {
    for (const Version& v : all) {
      const Chain then = v.at == kSeqMax ? c : t.at(c.branch(), v.at);
      const auto row = t.run([&](Tx& tx) { return t.tree->node(tx, then, v.row.node); });
      ASSERT_TRUE(row);
      EXPECT_EQ(row->blob, v.row.blob) << "at " << v.at.raw();
    }
  }
};

TEST_F(Versions, GivenAFileThatWasReplacedAndMoved_WhenAsked_ThenAllThatBoreItsLineAreThere) {  // F5
  const Chain c = t.head();
  const auto dir = t.make(c, kFirstNode, "d", S_IFDIR | 0755).value();
  const auto f = t.make(c, kFirstNode, "f").value();
  ASSERT_TRUE(t.write(c, f.node, 1));
  pin();
  const auto n = t.make(c, kFirstNode, "f.tmp").value();
  ASSERT_TRUE(t.write(c, n.node, 2));
  ASSERT_TRUE(t.rename(c, kFirstNode, "f.tmp", kFirstNode, "f"));
  pin();
  ASSERT_TRUE(t.rename(c, kFirstNode, "f", dir.node, "g"));
  ASSERT_TRUE(t.write(c, n.node, 3));
  pin();
  const auto m = t.make(c, dir.node, "g.tmp").value();
  ASSERT_TRUE(t.write(c, m.node, 4));
  ASSERT_TRUE(t.rename(c, dir.node, "g.tmp", dir.node, "g"));
  const auto v = of(c, "g", dir.node);
  ASSERT_EQ(v.size(), 4u);
  EXPECT_EQ(v[0].row.node, m.node);
  EXPECT_EQ(v[0].at, kSeqMax);
  EXPECT_EQ(v[1].row.node, n.node);
  EXPECT_EQ(v[2].row.node, n.node);
  EXPECT_EQ(v[3].row.node, f.node);
  EXPECT_EQ(v[3].op, "write");
  EXPECT_EQ(v[3].who.program, "test");
  expect_readable(c, v);
}

TEST_F(Versions, GivenAChmodAndARename_WhenAsked_ThenTheseAreNoVersions) {  // F5
  const Chain c = t.head();
  auto f = t.make(c, kFirstNode, "f").value();
  ASSERT_TRUE(t.write(c, f.node, 1));
  pin();
  f = t.run([&](Tx& tx) { return t.tree->node(tx, c, f.node); }).value();
  f.mode ^= 0111;
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->set_attributes(tx, t.who, c, f); }));
  pin();
  ASSERT_TRUE(t.rename(c, kFirstNode, "f", kFirstNode, "g"));
  const auto v = of(c, "g");
  ASSERT_EQ(v.size(), 1u);
  EXPECT_EQ(v[0].at, kSeqMax);
}

TEST_F(Versions, GivenAFork_WhenAskedThere_ThenItsOwnAndThoseBeforeTheForkAreThere) {  // F5
  const Chain c = t.head();
  const auto f = t.make(c, kFirstNode, "f").value();
  ASSERT_TRUE(t.write(c, f.node, 1));
  pin();
  ASSERT_TRUE(t.write(c, f.node, 2));
  const BranchId b = t.fork("b").id;
  ASSERT_TRUE(t.write(c, f.node, 3));
  ASSERT_TRUE(t.write(t.head(b), f.node, 4));
  const auto v = of(t.head(b), "f");
  ASSERT_EQ(v.size(), 3u);
  expect_readable(t.head(b), v);
  EXPECT_EQ(of(c, "f").size(), 3u);
  expect_readable(c, of(c, "f"));
}

TEST_F(Versions, GivenASnapshotThatIsDeleted_WhenAsked_ThenWhatItAloneKeptIsNotShown) {  // F5
  const Chain c = t.head();
  const auto f = t.make(c, kFirstNode, "f").value();
  ASSERT_TRUE(t.write(c, f.node, 1));
  pin();
  ASSERT_TRUE(t.write(c, f.node, 2));
  ASSERT_EQ(of(c, "f").size(), 2u);
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->delete_snapshot(tx, t.who, "main", "s1"); }));
  EXPECT_EQ(of(c, "f").size(), 1u);  // before thin() has removed its row
  t.thin();
  EXPECT_EQ(of(c, "f").size(), 1u);
}

TEST_F(Versions, GivenAnotherFileAtThePlaceBefore_WhenAsked_ThenItIsNotOfThisLine) {  // F5
  const Chain c = t.head();
  const auto f = t.make(c, kFirstNode, "f").value();
  ASSERT_TRUE(t.write(c, f.node, 1));
  pin();
  ASSERT_TRUE(t.unlink(c, kFirstNode, "f"));
  t.clock.advance(3600 * kSecond);  // beyond line_window
  ASSERT_TRUE(t.make(c, kFirstNode, "f"));
  EXPECT_EQ(of(c, "f").size(), 1u);
  EXPECT_EQ(of(c, "f")[0].row.blob, BlobId{});
  EXPECT_FALSE(t.run([&](Tx& tx) { return line_versions(tx, c, kFirstNode, "nothing"); }));
}

}  // namespace
}  // namespace indra
