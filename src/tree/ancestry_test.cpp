// docs/branches.md, G1 and G18; docs/design/tree.md, T15: what a branch contains, and where merges start
// from.
#include <gtest/gtest.h>

#include "tree/internal/test_tree.h"

namespace indra {
namespace {

class Ancestry : public testing::Test {
 protected:
  Seq merge(BranchId from, BranchId to) {
    return t
        .run([&](Tx& tx) -> Result<Seq> {
          INDRA_LET(const Seq at, t.tree->begin_merge(tx, to, from));
          INDRA_TRY(t.tree->end_merge(tx, t.who, to, from, at));
          return at;
        })
        .value();
  }
  std::vector<std::pair<BranchId, Seq>> bases(BranchId a, BranchId b) {
    std::vector<std::pair<BranchId, Seq>> out;
    const auto all = t.run([&](Tx& tx) {
                        return t.tree->merge_bases(tx, {a, kSeqMax}, {b, kSeqMax});
                      }).value();
    for (const auto& m : all) out.emplace_back(m.branch, m.seq);
    return out;
  }
  using Bases = std::vector<std::pair<BranchId, Seq>>;
  void change(BranchId b) { ASSERT_TRUE(t.make(t.head(b), kFirstNode, "n" + std::to_string(++n_))); }

  TestTree t;
  const BranchId main{1};
  int n_ = 0;
};

TEST_F(Ancestry, GivenForks_WhenAsked_ThenTheForkPointIsTheBase) {
  change(main);
  const BranchInfo a = t.fork("a"), b = t.fork("b"), c = t.fork("c", a.id);
  change(main);
  EXPECT_EQ(bases(main, a.id), (Bases{{main, a.fork_seq}}));
  EXPECT_EQ(bases(a.id, b.id), (Bases{{main, a.fork_seq}}));
  EXPECT_EQ(bases(c.id, a.id), (Bases{{a.id, c.fork_seq}}));
  EXPECT_EQ(bases(c.id, b.id), (Bases{{main, a.fork_seq}}));
}

TEST_F(Ancestry, GivenMerges_WhenAsked_ThenTheLastOneIsTheBaseBothWays) {
  const BranchInfo a = t.fork("a");
  change(a.id);
  const Seq first = merge(a.id, main);
  EXPECT_EQ(bases(main, a.id), (Bases{{a.id, first}}));
  EXPECT_EQ(bases(a.id, main), (Bases{{a.id, first}}));
  change(main);
  const Seq back = merge(main, a.id);
  EXPECT_EQ(bases(main, a.id), (Bases{{main, back}}));
}

TEST_F(Ancestry, GivenAMergeThroughAThird_WhenThatIsDeleted_ThenWhatItBroughtIsKnown) {
  const BranchInfo a = t.fork("a"), b = t.fork("b");
  change(a.id);
  const Seq first = merge(a.id, b.id);
  merge(b.id, main);
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->delete_branch(tx, t.who, "main", "b"); }));
  while (t.run([&](Tx& tx) { return t.tree->sweep(tx, 100, [](BranchId) { return false; }); }).value() != 0) {
  }
  EXPECT_EQ(bases(main, a.id), (Bases{{a.id, first}}));
  t.reopen(true);
  EXPECT_EQ(bases(main, a.id), (Bases{{a.id, first}}));
}

TEST_F(Ancestry, GivenAForkThatWasMergedElsewhere_WhenDeleted_ThenTheBaseItBroughtIsKept) {
  change(main);
  const BranchInfo b = t.fork("b");
  change(main);
  const BranchInfo a = t.fork("a");
  change(a.id);
  merge(a.id, b.id);
  change(main);
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->delete_branch(tx, t.who, "main", "a"); }));
  while (t.run([&](Tx& tx) { return t.tree->sweep(tx, 100, [](BranchId) { return false; }); }).value() != 0) {
  }
  t.thin();
  EXPECT_EQ(bases(main, b.id), (Bases{{main, a.fork_seq}}));
  EXPECT_TRUE(t.find(t.at(main, a.fork_seq), kFirstNode, "n2"));
  merge(main, b.id);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM pins WHERE branch = 1 AND kind IN (1, 2)"), 2);
}

TEST_F(Ancestry, GivenCrissCrossMerges_WhenAsked_ThenThereAreTwoBases) {
  const BranchInfo a = t.fork("a"), b = t.fork("b");
  change(a.id);
  change(b.id);
  const BranchInfo a1 = t.fork("a1", a.id), b1 = t.fork("b1", b.id);
  merge(b1.id, a.id);
  merge(a1.id, b.id);
  EXPECT_EQ(bases(a.id, b.id), (Bases{{a.id, a1.fork_seq}, {b.id, b1.fork_seq}}));
}

// A moment that another branch has taken in goes on containing what it did, also when its branch takes in
// more.
TEST_F(Ancestry, GivenAMomentThatAnotherHas_WhenItsBranchMergesOn_ThenItContainsWhatItDid) {
  const BranchInfo d = t.fork("d"), a = t.fork("a"), b = t.fork("b");
  change(a.id);
  const Seq first = merge(a.id, b.id);
  const Seq taken = merge(b.id, main);
  merge(b.id, d.id);
  change(a.id);
  merge(a.id, b.id);
  EXPECT_EQ(bases(main, d.id), (Bases{{b.id, taken}}));
  EXPECT_LT(first, taken);
  // To and fro for long: what is no longer asked for goes.
  for (int i = 0; i < 20; ++i) {
    change(a.id);
    merge(a.id, main);
    change(main);
    merge(main, a.id);
  }
  EXPECT_LE(t.count("SELECT COUNT(*) FROM merges"), 20);
  EXPECT_LE(t.count("SELECT COUNT(*) FROM pins WHERE kind = 2"), 20);
}

TEST_F(Ancestry, GivenMergeAfterMerge_WhenTheyGoOn_ThenOldPinsAreGivenUp) {
  const BranchInfo a = t.fork("a");
  for (int i = 0; i < 20; ++i) {
    change(a.id);
    change(main);
    merge(a.id, main);
  }
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM pins WHERE kind = 2"), 2);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM merges"), 2);
  // A fork of the time between stands on what was then.
  const BranchInfo fork = t.fork("fork");
  const Seq before = t.run([&](Tx& tx) {
                        return t.tree->merge_bases(tx, {fork.id, kSeqMax}, {a.id, kSeqMax});
                      })
                         .value()
                         .front()
                         .seq;
  change(a.id);
  merge(a.id, main);
  EXPECT_EQ(bases(fork.id, a.id), (Bases{{a.id, before}}));
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM pins WHERE kind = 2"), 4);
}

}  // namespace
}  // namespace indra
