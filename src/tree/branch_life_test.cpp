// docs/branches.md, B1..B5.
#include <gtest/gtest.h>

#include "tree/internal/test_tree.h"

namespace indra {
namespace {

struct BranchLife : ::testing::Test {
  TestTree t;
  Result<BranchInfo> drop(std::string_view name) {
    return t.run([&](Tx& tx) { return t.tree->delete_branch(tx, t.who, "main", name); });
  }
  int sweep(int limit = 3, bool in_use = false) {
    int total = 0;
    for (;;) {
      const int n =
          t.run([&](Tx& tx) { return t.tree->sweep(tx, limit, [&](BranchId) { return in_use; }); }).value();
      if (n == 0) return total;
      EXPECT_LE(n, limit);
      total += n;
    }
  }
  std::int64_t rows() {
    return t.count(
        "SELECT (SELECT COUNT(*) FROM nodes) + (SELECT COUNT(*) FROM edges) + (SELECT COUNT(*) FROM xattrs) "
        "+ (SELECT COUNT(*) FROM nodes_past) + (SELECT COUNT(*) FROM edges_past) + (SELECT COUNT(*) FROM "
        "xattrs_past) + (SELECT COUNT(*) FROM pins) + (SELECT COUNT(*) FROM branches)");
  }
  template <class T>
  static int err(const Result<T>& r) {
    return r ? 0 : to_errno(r.error());
  }
};

TEST_F(BranchLife, GivenAForkWithChanges_WhenDeleted_ThenItsRowsReferencesAndPinsGoInSlices) {  // B2
  const auto f = t.make(t.head(), kFirstNode, "f").value();
  ASSERT_TRUE(t.write(t.head(), f.node, 1));
  const auto before = rows();
  const auto refs = t.store.refs;
  const BranchInfo b = t.fork("agent");
  for (int i = 0; i < 10; ++i) {
    const auto n = t.make(t.head(b.id), kFirstNode, "n" + std::to_string(i)).value();
    ASSERT_TRUE(t.write(t.head(b.id), n.node, 10 + i));
    t.pin_all();
    t.clock.advance(60 * kSecond);
    ASSERT_TRUE(t.write(t.head(b.id), n.node, 100 + i));
  }
  ASSERT_TRUE(t.write(t.head(b.id), f.node, 7));
  const Chain view = t.head(b.id);
  ASSERT_TRUE(drop("agent"));
  EXPECT_EQ(err(t.run([&](Tx& tx) { return t.tree->branch(tx, "main", "agent"); })), ENOENT);
  EXPECT_EQ(err(t.make(view, kFirstNode, "late")), ENOENT);
  EXPECT_EQ(sweep(3, true), 0);  // somebody still looks at it
  EXPECT_TRUE(t.find(view, kFirstNode, "n3").has_value());
  EXPECT_GT(sweep(), 40);
  t.thin();
  const auto left = t.run([&](Tx& tx) { return t.tree->pins(tx, "main", PinKind::automatic); }).value();
  EXPECT_EQ(rows() - static_cast<std::int64_t>(left.size()), before);
  std::erase_if(t.store.refs, [](const auto& r) { return r.second == 0; });
  EXPECT_EQ(t.store.refs, refs);
  t.reopen(true);
  EXPECT_EQ(t.run([&](Tx& tx) { return t.tree->branches(tx, "main"); })->size(), 1u);
}

TEST_F(BranchLife,
       GivenAForkOfAFork_WhenTheMiddleOneIsDeleted_ThenItStaysAHiddenBaseUntilTheOtherGoes) {  // B3
  const BranchInfo a = t.fork("a");
  const auto n = t.make(t.head(a.id), kFirstNode, "from-a").value();
  const BranchInfo b = t.fork("b", a.id);
  ASSERT_TRUE(drop("a"));
  EXPECT_EQ(sweep(), 0);
  EXPECT_EQ(t.find(t.head(b.id), kFirstNode, "from-a")->node, n.node);
  const BranchInfo again = t.fork("a");  // the name is free
  EXPECT_NE(again.id, a.id);
  EXPECT_FALSE(t.find(t.head(again.id), kFirstNode, "from-a"));
  t.reopen(false);
  EXPECT_EQ(t.find(t.head(b.id), kFirstNode, "from-a")->node, n.node);
  ASSERT_TRUE(drop("b"));
  EXPECT_GT(sweep(), 0);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM branches"), 2);
}

TEST_F(BranchLife,
       GivenASnapshotOfABranch_WhenTheBranchIsDeleted_ThenTheSnapshotStandsUntilItIsDeleted) {  // B3
  const BranchInfo a = t.fork("a");
  const auto n = t.make(t.head(a.id), kFirstNode, "f").value();
  const PinInfo s = t.snapshot("keep", a.id);
  ASSERT_TRUE(t.unlink(t.head(a.id), kFirstNode, "f"));
  ASSERT_TRUE(drop("a"));
  EXPECT_EQ(sweep(), 0);
  EXPECT_EQ(t.find(t.at(a.id, s.seq), kFirstNode, "f")->node, n.node);
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->delete_snapshot(tx, t.who, "main", "keep"); }));
  EXPECT_GT(sweep(), 0);
}

TEST_F(BranchLife, GivenADeletedBranch_WhenTheNextIsMade_ThenItsNumberIsNotGivenAgain) {  // B2
  const BranchInfo a = t.fork("a");
  ASSERT_TRUE(drop("a"));
  sweep();
  EXPECT_GT(t.fork("b").id, a.id);
  t.reopen(true);
  EXPECT_GT(t.fork("c").id.raw(), a.id.raw() + 1);
}

TEST_F(BranchLife, GivenAProtectedBranch_WhenChangedRenamedOrDeleted_ThenItIsRefused) {  // B5
  const BranchInfo a = t.fork("a");
  const auto protect = [&](bool on) {
    return t.run([&](Tx& tx) { return t.tree->protect_branch(tx, "main", "a", on); });
  };
  ASSERT_TRUE(protect(true));
  t.reopen(true);
  EXPECT_EQ(err(t.make(t.head(a.id), kFirstNode, "x")), EROFS);
  EXPECT_EQ(err(drop("a")), EPERM);
  EXPECT_EQ(err(t.run([&](Tx& tx) { return t.tree->rename_branch(tx, t.who, "main", "a", "b"); })), EPERM);
  ASSERT_TRUE(protect(false));
  EXPECT_TRUE(t.make(t.head(a.id), kFirstNode, "x"));
  EXPECT_EQ(err(drop("main")), EPERM);
}

TEST_F(BranchLife, GivenABranch_WhenRenamed_ThenTheOldNameIsFreeAndTheNewOneTaken) {  // B1
  const BranchInfo a = t.fork("a");
  t.fork("taken");
  const auto rename = [&](std::string_view from, std::string_view to) {
    return err(t.run([&](Tx& tx) { return t.tree->rename_branch(tx, t.who, "main", from, to); }));
  };
  EXPECT_EQ(rename("a", "taken"), EEXIST);
  EXPECT_EQ(rename("a", "x/y"), EINVAL);
  EXPECT_EQ(rename("nobody", "b"), ENOENT);
  EXPECT_EQ(rename("main", "b"), EPERM);
  EXPECT_EQ(rename("a", "b"), 0);
  EXPECT_EQ(t.run([&](Tx& tx) { return t.tree->branch(tx, "main", "b"); })->id, a.id);
  EXPECT_NE(t.fork("a").id, a.id);
}

TEST_F(BranchLife, GivenPins_WhenAMomentIsAskedFor_ThenItIsThePinBefore) {  // B4
  t.clock.advance(kSecond);
  const TimeNs before = t.clock.now();
  t.clock.advance(kSecond);
  ASSERT_TRUE(t.make(t.head(), kFirstNode, "one"));
  ASSERT_EQ(t.pin_all(), 1);
  const TimeNs first = t.clock.now();
  t.clock.advance(10 * kSecond);
  ASSERT_TRUE(t.make(t.head(), kFirstNode, "two"));
  const BranchInfo a = t.fork("a");
  t.clock.advance(10 * kSecond);
  const auto at = [&](BranchId b, TimeNs when) {
    return t.run([&](Tx& tx) { return t.tree->moment_at_time(tx, b, when); });
  };
  EXPECT_EQ(err(at(BranchId{1}, before)), ENOENT);
  EXPECT_EQ(err(at(BranchId{1}, t.clock.now() + 1)), EINVAL);
  const auto exact = at(BranchId{1}, first).value();
  EXPECT_TRUE(exact.exact);
  const auto between = at(a.id, first + 5 * kSecond).value();  // older than the fork: the ancestor's
  EXPECT_EQ(between.branch, BranchId{1});
  EXPECT_EQ(between.seq, exact.seq);
  EXPECT_FALSE(between.exact);
  EXPECT_TRUE(t.find(t.at(between.branch, between.seq), kFirstNode, "one"));
  EXPECT_FALSE(t.find(t.at(between.branch, between.seq), kFirstNode, "two"));
  EXPECT_EQ(err(t.run([&](Tx& tx) { return t.tree->moment_at_seq(tx, a.id, Seq{1'000'000}); })), EINVAL);
}

}  // namespace
}  // namespace indra
