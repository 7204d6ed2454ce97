#include <gtest/gtest.h>
#include <linux/fs.h>

#include <set>

#include "tree/internal/test_tree.h"

namespace indra {
namespace {

constexpr NodeId kRoot = kFirstNode;
template <class T>
int err(const Result<T>& r) {
  return r ? 0 : to_errno(r.error());
}

}  // namespace

TEST(Tree, GivenNewVault_WhenOpened_ThenMainHasARootAndNumbersStartAbove) {
  TestTree t;
  const auto b = t.run([&](Tx& tx) { return t.tree->branch(tx, "main", "main"); }).value();
  EXPECT_EQ(b.root, kRoot);
  const auto f = t.make(t.head(), kRoot, "a").value();
  EXPECT_EQ(f.node, NodeId{17});
  EXPECT_EQ(f.nlink, 1u);
  EXPECT_EQ(t.find(t.head(), kRoot, "a")->node, f.node);
}

TEST(Tree, GivenFork_WhenChildUnlinks_ThenParentStillHasTheName) {
  TestTree t;
  const auto f = t.make(t.head(), kRoot, "a").value();
  const auto b = t.fork("agent");
  ASSERT_TRUE(t.unlink(t.head(b.id), kRoot, "a"));
  EXPECT_FALSE(t.find(t.head(b.id), kRoot, "a"));
  EXPECT_EQ(t.find(t.head(), kRoot, "a")->node, f.node);
  const Chain child = t.head(b.id);
  EXPECT_EQ(err(t.run([&](Tx& tx) { return t.tree->node(tx, child, f.node); })), ENOENT);
}

TEST(Tree, GivenFork_WhenParentChanges_ThenChildIsIsolated) {
  TestTree t;
  const auto f = t.make(t.head(), kRoot, "a").value();
  ASSERT_TRUE(t.write(t.head(), f.node, 1));
  const auto b = t.fork("agent");
  ASSERT_TRUE(t.write(t.head(), f.node, 2));
  ASSERT_TRUE(t.make(t.head(), kRoot, "late"));
  EXPECT_EQ(t.store.content[t.find(t.head(b.id), kRoot, "a")->blob], 1);
  EXPECT_FALSE(t.find(t.head(b.id), kRoot, "late"));
}

TEST(Tree, GivenTombstone_WhenTheNameIsMadeAgain_ThenItResolvesToTheNewNode) {
  TestTree t;
  const auto old = t.make(t.head(), kRoot, "a").value();
  const auto b = t.fork("agent");
  ASSERT_TRUE(t.unlink(t.head(b.id), kRoot, "a"));
  const auto f = t.make(t.head(b.id), kRoot, "a").value();
  EXPECT_EQ(t.find(t.head(b.id), kRoot, "a")->node, f.node);
  EXPECT_NE(f.node, old.node);
}

TEST(Tree, GivenBranch_WhenAMomentBeforeItsForkIsForked_ThenTheAncestorIsForked) {
  TestTree t;
  ASSERT_TRUE(t.make(t.head(), kRoot, "a"));
  const auto pin = t.snapshot("s");
  ASSERT_TRUE(t.make(t.head(), kRoot, "b"));
  const auto one = t.fork("one");
  const auto two = t.fork("two", one.id, pin.seq);
  EXPECT_EQ(two.parent, BranchId{1});
  EXPECT_EQ(two.fork_seq, pin.seq);
  EXPECT_TRUE(t.find(t.head(two.id), kRoot, "a"));
  EXPECT_FALSE(t.find(t.head(two.id), kRoot, "b"));
}

TEST(Tree, GivenNoMomentKept_WhenAskedForOne_ThenENOENT) {
  TestTree t;
  ASSERT_TRUE(t.make(t.head(), kRoot, "a"));
  EXPECT_EQ(err(t.run([&](Tx& tx) { return t.tree->chain_at(tx, BranchId{1}, Seq{1}); })), ENOENT);
  EXPECT_EQ(
      err(t.run([&](Tx& tx) { return t.tree->create_branch(tx, t.who, "main", "b", BranchId{1}, Seq{1}); })),
      ENOENT);
}

TEST(Tree, GivenAPinAtTheHead_WhenTheHeadMovesOn_ThenItsViewDoesNot) {
  TestTree t;
  ASSERT_TRUE(t.make(t.head(), kRoot, "a"));
  ASSERT_EQ(t.pin_all(), 1);
  const Chain moment = t.at(BranchId{1}, t.tree->last_seq());
  ASSERT_TRUE(t.make(t.head(), kRoot, "b"));
  EXPECT_TRUE(t.find(moment, kRoot, "a"));
  EXPECT_FALSE(t.find(moment, kRoot, "b"));
}

TEST(Tree, GivenAMoment_WhenWrittenTo_ThenEROFS) {
  TestTree t;
  const auto pin = t.snapshot("s");
  ASSERT_TRUE(t.make(t.head(), kRoot, "a"));
  EXPECT_EQ(err(t.make(t.at(BranchId{1}, pin.seq), kRoot, "b")), EROFS);
}

TEST(Tree, GivenBadNames_ThenTheyAreRefused) {
  TestTree t;
  const Chain c = t.head();
  EXPECT_EQ(err(t.make(c, kRoot, std::string(256, 'x'))), ENAMETOOLONG);
  EXPECT_EQ(err(t.make(c, kRoot, std::string(255, 'x'))), 0);
  EXPECT_EQ(err(t.make(c, kRoot, "a/b")), EINVAL);
  EXPECT_EQ(err(t.make(c, kRoot, "..")), EINVAL);
  EXPECT_EQ(err(t.make(c, kRoot, "")), ENOENT);
  for (const char* bad : {"", ".x", "-x", "a/b", "a:b"}) {
    const auto r = t.run([&](Tx& tx) { return t.tree->create_snapshot(tx, t.who, BranchId{1}, bad, ""); });
    EXPECT_EQ(err(r), EINVAL) << bad;
    EXPECT_FALSE(r.error().context.empty());
  }
  t.snapshot("s");
  EXPECT_EQ(err(t.run([&](Tx& tx) { return t.tree->create_snapshot(tx, t.who, BranchId{1}, "s", ""); })),
            EEXIST);
}

TEST(Tree, GivenLongTargets_ThenSymlinksEndAt4095) {
  TestTree t;
  const Chain c = t.head();
  const auto make = [&](std::size_t n) {
    return t.run([&](Tx& tx) {
      NodeRow init;
      init.mode = S_IFLNK | 0777;
      init.target = std::string(n, 't');
      return t.tree->create(tx, t.who, c, kRoot, "l" + std::to_string(n), init);
    });
  };
  EXPECT_EQ(err(make(4096)), ENAMETOOLONG);
  EXPECT_EQ(make(4095)->size, 4095u);
  EXPECT_EQ(t.find(t.head(), kRoot, "l4095")->target.size(), 4095u);
}

TEST(Lines, GivenFile_WhenAnotherIsRenamedOverIt_ThenTheLineGoesOn) {
  TestTree t;
  const Chain c = t.head();
  const auto a = t.make(c, kRoot, "a").value();
  ASSERT_TRUE(t.make(c, kRoot, ".a.swp"));
  const auto r = t.rename(c, kRoot, ".a.swp", kRoot, "a").value();
  EXPECT_EQ(r.moved.line, a.node);
  EXPECT_EQ(t.find(c, kRoot, "a")->line, a.node);
  EXPECT_EQ(r.replaced->node, a.node);
  EXPECT_EQ(r.replaced->nlink, 0u);
}

TEST(Lines, GivenTwoFiles_WhenExchanged_ThenLinesStayWithTheirPlaces) {
  TestTree t;
  const Chain c = t.head();
  const auto a = t.make(c, kRoot, "a").value(), b = t.make(c, kRoot, "b").value();
  ASSERT_TRUE(t.rename(c, kRoot, "a", kRoot, "b", RENAME_EXCHANGE));
  EXPECT_EQ(t.find(c, kRoot, "a")->node, b.node);
  EXPECT_EQ(t.find(c, kRoot, "a")->line, a.node);
  EXPECT_EQ(t.find(c, kRoot, "b")->line, b.node);
}

TEST(Lines, GivenUnlink_WhenTheNameIsMadeWithinTheWindow_ThenTheLineGoesOn) {
  TestTree t;
  const Chain c = t.head();
  const auto a = t.make(c, kRoot, "a").value();
  ASSERT_TRUE(t.unlink(c, kRoot, "a"));
  t.clock.advance(2 * kSecond);
  EXPECT_EQ(t.make(c, kRoot, "a")->line, a.node);
  ASSERT_TRUE(t.unlink(c, kRoot, "a"));
  t.clock.advance(6 * kSecond);
  const auto late = t.make(c, kRoot, "a").value();
  EXPECT_EQ(late.line, late.node);
}

// vim and Emacs: the old file becomes the backup, a new one takes its name.
TEST(Lines, GivenFile_WhenMovedAwayAndItsNameIsMadeAgain_ThenTheLineStaysWithTheName) {
  TestTree t;
  const Chain c = t.head();
  const auto a = t.make(c, kRoot, "a").value();
  for (int save = 0; save < 3; ++save) {  // each within the window of the last; the backup goes at the end
    ASSERT_TRUE(t.rename(c, kRoot, "a", kRoot, "a~"));
    const auto made = t.make(c, kRoot, "a").value();
    EXPECT_NE(made.node, a.node);
    EXPECT_EQ(made.line, a.line);
    EXPECT_NE(t.find(c, kRoot, "a~")->line, a.line);
    ASSERT_TRUE(t.unlink(c, kRoot, "a~"));
    EXPECT_EQ(t.find(c, kRoot, "a")->line, a.line);
  }
  for (int save = 0; save < 3; ++save) {  // kept, and replaced by the next one: it is a document of its own
    ASSERT_TRUE(t.rename(c, kRoot, "a", kRoot, "a~"));
    EXPECT_EQ(t.make(c, kRoot, "a")->line, a.line);
    EXPECT_NE(t.find(c, kRoot, "a~")->line, a.line);
  }
  ASSERT_TRUE(t.rename(c, kRoot, "a~", kRoot, "a"));  // the save failed: the backup comes back
  EXPECT_EQ(t.find(c, kRoot, "a")->line, a.line);
}

TEST(Lines, GivenMovedFile_WhenItsNameIsNotMadeAtOnce_ThenTheLineGoesWithIt) {
  TestTree t;
  const Chain c = t.head();
  const auto a = t.make(c, kRoot, "a").value(), b = t.make(c, kRoot, "b").value();
  ASSERT_TRUE(t.rename(c, kRoot, "a", kRoot, "c"));
  ASSERT_TRUE(t.rename(c, kRoot, "b", kRoot, "a"));  // two files moved: each is what it was
  EXPECT_EQ(t.find(c, kRoot, "c")->line, a.line);
  EXPECT_EQ(t.find(c, kRoot, "a")->line, b.line);
  t.clock.advance(6 * kSecond);
  EXPECT_EQ(t.find(c, kRoot, "c")->line, a.line);
  const auto late = t.make(c, kRoot, "b").value();
  EXPECT_EQ(late.line, late.node);
  EXPECT_EQ(t.find(c, kRoot, "a")->line, b.line);
}

TEST(Lines, GivenUnlink_WhenAnotherIsRenamedToThePlace_ThenTheLineGoesOn) {
  TestTree t;
  const Chain c = t.head();
  const auto a = t.make(c, kRoot, "a").value();
  ASSERT_TRUE(t.make(c, kRoot, "a.new"));
  ASSERT_TRUE(t.unlink(c, kRoot, "a"));
  ASSERT_TRUE(t.rename(c, kRoot, "a.new", kRoot, "a"));
  EXPECT_EQ(t.find(c, kRoot, "a")->line, a.line);
  // With a backup first, which then goes: the name was the old file's until the new one came.
  ASSERT_TRUE(t.make(c, kRoot, "a.new"));
  ASSERT_TRUE(t.rename(c, kRoot, "a", kRoot, "a.bak"));
  ASSERT_TRUE(t.unlink(c, kRoot, "a.bak"));
  ASSERT_TRUE(t.rename(c, kRoot, "a.new", kRoot, "a"));
  EXPECT_EQ(t.find(c, kRoot, "a")->line, a.line);
}

TEST(Publishing, GivenAPublish_WhenAgainWithinASecond_ThenOneVersionAndOneEvent) {
  TestTree t;
  const Chain c = t.head();
  const auto f = t.make(c, kRoot, "a").value();
  const auto one = t.write(c, f.node, 1).value();
  const auto two = t.write(c, f.node, 2).value();
  EXPECT_LT(one.seq, two.seq);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM changes WHERE op = 8"), 1);
  EXPECT_EQ(t.count("SELECT seq FROM changes WHERE op = 8"),
            two.seq.raw());  // who read the first hears of it
  t.clock.advance(kSecond);
  EXPECT_GT(t.write(c, f.node, 3)->seq, two.seq);
  t.snapshot("s");
  EXPECT_GT(t.write(c, f.node, 4)->seq, two.seq);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM changes WHERE op = 8"), 3);
  EXPECT_EQ(t.store.content[t.find(t.at(BranchId{1}, t.run([&](Tx& tx) {
                                                        return t.tree->pins(tx, "main", PinKind::snapshot);
                                                      })
                                                         ->front()
                                                         .seq),
                                   kRoot, "a")
                                ->blob],
            3);
}

TEST(Publishing, GivenPrivatePersist_ThenNoEventAndNoNewVersion) {
  TestTree t;
  const Chain c = t.head();
  const auto f = t.make(c, kRoot, "a").value();
  EXPECT_EQ(t.write(c, f.node, 1, false)->seq, f.seq);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM changes WHERE op = 8"), 0);
}

TEST(Budget, GivenChurn_WhenAutomaticPinsCome_ThenTheLastKeptVersionStandsIn) {
  TestTree t;
  const Chain c = t.head();
  const auto f = t.make(c, kRoot, "db").value();
  const std::uint64_t size = 256 * 1024 * 100;  // one version in 100 s
  ASSERT_TRUE(t.write(c, f.node, 1, true, size));
  std::vector<Seq> moments;
  for (int i = 2; i < 8; ++i) {
    t.clock.advance(5 * kSecond);
    t.pin_all();
    moments.push_back(
        t.run([&](Tx& tx) { return t.tree->pins(tx, "main", PinKind::automatic); })->back().seq);
    EXPECT_EQ(t.run([&](Tx& tx) { return t.tree->rewritable(tx, c, f.node); }).value(), i > 2) << i;
    ASSERT_TRUE(t.write(c, f.node, i, true, size));
  }
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM nodes_past WHERE node = 17"), 1);
  for (const Seq s : moments) {
    const auto row = t.find(t.at(BranchId{1}, s), kRoot, "db");
    ASSERT_TRUE(row);
    EXPECT_EQ(t.store.content[row->blob], 1);
    EXPECT_NE(row->flags & kStandsIn, 0u);
  }
  const auto hard = t.snapshot("s");
  EXPECT_FALSE(t.run([&](Tx& tx) { return t.tree->rewritable(tx, c, f.node); }).value());
  ASSERT_TRUE(t.write(c, f.node, 99, true, size));
  EXPECT_EQ(t.store.content[t.find(t.at(BranchId{1}, hard.seq), kRoot, "db")->blob], 7);
}

// A database publishes many times a second (T5); each publish in place of the last has a later seq.
TEST(Budget, GivenChurnWithinTheSecond_WhenAutomaticPinsCome_ThenOneVersionIsKept) {
  TestTree t;
  const Chain c = t.head();
  const auto f = t.make(c, kRoot, "db").value();
  const std::uint64_t size = 256 * 1024 * 100;  // one version in 100 s
  ASSERT_TRUE(t.write(c, f.node, 1, true, size));
  for (int i = 2; i < 8; ++i) {
    t.clock.advance(5 * kSecond);
    t.pin_all();
    for (int k = 0; k < 3; ++k) ASSERT_TRUE(t.write(c, f.node, 10 * i + k, true, size));
  }
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM nodes_past WHERE node = 17"), 1);
  t.clock.advance(100 * kSecond);
  t.pin_all();
  ASSERT_TRUE(t.write(c, f.node, 99, true, size));
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM nodes_past WHERE node = 17"), 2);
}

TEST(Budget, GivenALinkBetweenVersions_WhenOneStandsIn_ThenEachMomentHasTheNamesOfItsTime) {
  TestTree t;
  const Chain c = t.head();
  const NodeId f = t.make(c, kRoot, "f")->node;
  ASSERT_TRUE(t.write(c, f, 1));
  t.pin_all();
  ASSERT_TRUE(t.write(c, f, 2));
  t.pin_all();
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->link(tx, t.who, c, f, kRoot, "g"); }));
  const Seq then = t.tree->last_seq();
  t.pin_all();
  ASSERT_TRUE(t.write(c, f, 3));
  ASSERT_TRUE(t.write(c, f, 4));
  const BranchInfo b = t.fork("b", BranchId{1}, then);
  EXPECT_EQ(t.find(t.head(b.id), kRoot, "f")->nlink, 2);
  ASSERT_TRUE(t.unlink(t.head(b.id), kRoot, "f"));
  const Chain fork = t.head(b.id);
  const auto g = t.run([&](Tx& tx) { return t.tree->lookup_node(tx, fork, kRoot, "g"); });
  ASSERT_TRUE(g && *g);
  EXPECT_EQ(t.store.content[(*g)->blob], 2);
  t.run([&](Tx& tx) { return t.tree->give_up_oldest(tx, 1); }).value();
  t.thin();
  EXPECT_TRUE(t.find(t.head(b.id), kRoot, "g"));
}

TEST(Budget, GivenVersionsOff_WhenAutomaticPinsCome_ThenNothingIsKept) {
  TestTree t;
  const Chain c = t.head();
  const auto f = t.make(c, kRoot, "vm").value();
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->set_flags(tx, t.who, c, f.node, kNoVersions); }));
  ASSERT_TRUE(t.write(c, f.node, 1));
  for (int i = 2; i < 5; ++i) {
    t.pin_all();
    t.clock.advance(3600 * kSecond);
    ASSERT_TRUE(t.write(c, f.node, i));
  }
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM nodes_past WHERE node = 17"), 0);
  EXPECT_EQ(t.store.refs.size(), 1u);
}

// T6: a database's journals come and go; they are the database's, and its directory says so.
TEST(Budget, GivenADirectoryWithVersionsOff_WhenFilesAreMadeInIt_ThenNothingIsKeptOfThem) {
  TestTree t;
  const Chain c = t.head();
  const auto dir = t.make(c, kRoot, "d", S_IFDIR | 0755).value();
  const auto before = t.make(c, dir.node, "before").value();
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->set_flags(tx, t.who, c, dir.node, kNoVersions); }));
  const auto f = t.make(c, dir.node, "db-wal").value();
  const auto sub = t.make(c, dir.node, "sub", S_IFDIR | 0755).value();
  const auto deep = t.make(c, sub.node, "x").value();
  EXPECT_EQ(before.flags & kNoVersions, 0u) << "what was there keeps its own word";
  EXPECT_EQ(t.make(c, kRoot, "outside")->flags & kNoVersions, 0u);
  for (const auto& made : {f, sub, deep}) EXPECT_NE(made.flags & kNoVersions, 0u);
  for (int i = 1; i < 5; ++i) {
    for (const auto& file : {before, f, deep}) ASSERT_TRUE(t.write(c, file.node, i));
    t.pin_all();
    t.clock.advance(3600 * kSecond);
  }
  ASSERT_EQ(f.node, NodeId{19});
  ASSERT_EQ(deep.node, NodeId{21});
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM nodes_past WHERE node IN (19, 21)"), 0);
  ASSERT_EQ(before.node, NodeId{18});
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM nodes_past WHERE node = 18"), 3);
}

TEST(Pins, GivenAChangeBeforeAnotherBranchsPin_WhenReopened_ThenItIsStillDue) {
  TestTree t;
  const BranchInfo b = t.fork("b");
  const NodeId f = t.make(t.head(b.id), kRoot, "f")->node;
  ASSERT_TRUE(t.write(t.head(b.id), f, 1));
  const Seq then = t.snapshot("s").seq;
  t.reopen(true);
  EXPECT_EQ(t.pin_all(), 1);
  ASSERT_TRUE(t.write(t.head(b.id), f, 2));
  const auto kept = t.find(t.at(b.id, Seq{then.raw() + 1}), kRoot, "f");
  ASSERT_TRUE(kept);
  EXPECT_EQ(t.store.content[kept->blob], 1);
  EXPECT_EQ(t.pin_all(), 1);
  t.reopen(true);
  EXPECT_EQ(t.pin_all(), 0);
}

TEST(Pins, GivenPinsThatWereRolledBack_WhenTheNextAreDue_ThenTheyAreSet) {
  TestTree t;
  const Chain c = t.head();
  const NodeId f = t.make(c, kRoot, "f")->node;
  ASSERT_TRUE(t.write(c, f, 1));
  const auto lost = t.run([&](Tx& tx) -> Result<int> {
    INDRA_LET(const int n, t.tree->create_automatic_pins(tx));
    return n == 1 ? fail(EIO) : fail(EINVAL);
  });
  ASSERT_EQ(err(lost), EIO);
  EXPECT_EQ(t.pin_all(), 1);
  EXPECT_EQ(t.pin_all(), 0);
  ASSERT_TRUE(t.write(c, f, 2));
  const auto kept = t.find(t.at(BranchId{1}, Seq{t.tree->last_seq().raw() - 1}), kRoot, "f");
  ASSERT_TRUE(kept);
  EXPECT_EQ(t.store.content[kept->blob], 1);
}

TEST(Orphans, GivenUnlinkedNode_WhenReopened_ThenItIsGoneWithItsReference) {
  TestTree t;
  const Chain c = t.head();
  const auto f = t.make(c, kRoot, "a").value();
  ASSERT_TRUE(t.write(c, f.node, 1));
  ASSERT_EQ(t.unlink(c, kRoot, "a", false)->nlink, 0u);
  EXPECT_TRUE(t.run([&](Tx& tx) { return t.tree->node(tx, c, f.node); }));
  t.reopen(false);
  EXPECT_EQ(t.store.refs.begin()->second, 0);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM nodes"), 1);
}

TEST(Numbers, GivenUncleanEnd_WhenReopened_ThenNumbersResumeAboveAndAnEpochIsTold) {
  TestTree t;
  const auto a = t.make(t.head(), kRoot, "a").value();
  t.reopen(false);
  const auto b = t.make(t.head(), kRoot, "b").value();
  EXPECT_GE(b.node.raw(), a.node.raw() + t.options.seq_block);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM changes WHERE op = 14"), 1);
  t.reopen(true);
  EXPECT_EQ(t.make(t.head(), kRoot, "c")->node.raw(), b.node.raw() + 1);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM changes WHERE op = 14"), 1);
}

TEST(Numbers, GivenSmallBlocks_WhenBarriersCome_ThenNumbersNeverEndNorPassWhatIsDurable) {
  Tree::Options o;
  o.seq_block = 4;
  TestTree t{o};
  const Chain c = t.head();
  for (int i = 0; i < 200; ++i) {
    const auto r = t.make(c, kRoot, "f" + std::to_string(i));
    ASSERT_TRUE(r) << i;
    EXPECT_LE(r->node.raw(), t.count("SELECT reserved FROM counters WHERE name = 'node'"));
    if (i % 2 == 1) ASSERT_TRUE(t.writer->barrier());
  }
}

TEST(Numbers, GivenARolledBackReservation_ThenItIsNotTrusted) {
  Tree::Options o;
  o.seq_block = 4;
  TestTree t{o};
  const Chain c = t.head();
  for (int i = 0; i < 100; ++i) {
    const auto lost = t.run([&](Tx& tx) -> Result<NodeRow> {
      NodeRow init;
      init.mode = S_IFREG | 0600;
      INDRA_TRY(t.tree->create(tx, t.who, c, kRoot, "lost", init));
      return fail(EIO);
    });
    ASSERT_EQ(err(lost), EIO);
    const auto r = t.make(c, kRoot, "f" + std::to_string(i));
    ASSERT_TRUE(r);
    EXPECT_LE(r->node.raw(), t.count("SELECT reserved FROM counters WHERE name = 'node'"));
    ASSERT_TRUE(t.writer->barrier());
  }
  EXPECT_EQ(
      t.count("SELECT COUNT(*) FROM changes c WHERE NOT EXISTS(SELECT 1 FROM actors a WHERE a.id = c.actor)"),
      0);
}

TEST(Listing, GivenOthersDeleting_WhenPaged_ThenEachStayingEntryComesOnce) {
  TestTree t;
  const Chain c = t.head();
  std::set<std::string> stay;
  for (int i = 0; i < 500; ++i) {
    const std::string n = "f" + std::to_string(i);
    ASSERT_TRUE(t.make(c, kRoot, n));
    if (i % 2 == 0) stay.insert(n);
  }
  std::multiset<std::string> seen;
  std::uint64_t after = 0;
  for (int i = 1;; i += 2) {
    bool any = false;
    ASSERT_TRUE(t.run([&](Tx& tx) {
      return t.tree->list(tx, c, kRoot, after, true, 3, [&](const Tree::Listed& e) {
        any = true;
        after = e.edge.cookie;
        if (stay.contains(std::string{e.name})) seen.insert(std::string{e.name});
        return true;
      });
    }));
    if (!any) break;
    if (i < 500) ASSERT_TRUE(t.unlink(c, kRoot, "f" + std::to_string(i)));
  }
  EXPECT_EQ(seen, (std::multiset<std::string>{stay.begin(), stay.end()}));
}

TEST(Listing, GivenEqualCookies_ThenTheyComeTogether) {
  TestTree t;
  const Chain c = t.head();
  const auto a = t.make(c, kRoot, "a").value(), b = t.make(c, kRoot, "b").value();
  ASSERT_TRUE(t.make(c, kRoot, "c"));
  ASSERT_TRUE(
      t.run([&](Tx& tx) { return tx.db().execute("UPDATE edges SET cookie = 20 WHERE node IN (17, 18)"); }));
  std::vector<NodeId> got;
  ASSERT_TRUE(t.run([&](Tx& tx) {
    return t.tree->list(tx, c, kRoot, 0, true, 1, [&](const Tree::Listed& e) {
      got.push_back(e.row->node);
      return true;
    });
  }));
  EXPECT_EQ(got, (std::vector{a.node, b.node}));
}

TEST(Crowds, GivenOneNameOverriddenInManyBranches_ThenEachResolvesItsOwn) {
  TestTree t;
  const auto base = t.make(t.head(), kRoot, "a").value();
  std::vector<std::pair<BranchId, NodeId>> made;
  for (int i = 0; i < 40; ++i) {
    const auto b = t.fork("b" + std::to_string(i));
    ASSERT_TRUE(t.unlink(t.head(b.id), kRoot, "a"));
    made.emplace_back(b.id, t.make(t.head(b.id), kRoot, "a")->node);
  }
  for (const auto& [b, n] : made) EXPECT_EQ(t.find(t.head(b), kRoot, "a")->node, n);
  const auto child = t.fork("child", made[39].first);
  EXPECT_EQ(t.find(t.head(child.id), kRoot, "a")->node, made[39].second);
  EXPECT_EQ(t.find(t.head(t.fork("plain").id), kRoot, "a")->node, base.node);
}

TEST(Thinning, GivenPinsOfMonths_ThenHoursThenDaysStay) {
  TestTree t;
  const Chain c = t.head();
  const auto f = t.make(c, kRoot, "a").value();
  for (int i = 0; i < 100 * 24 * 2; ++i) {  // each half hour for 100 days
    t.clock.advance(1800 * kSecond);
    if (i % 10 == 0)
      ASSERT_TRUE(t.write(c, f.node, i));
    else
      ASSERT_TRUE(t.run(
          [&](Tx& tx) { return t.tree->set_attributes(tx, t.who, c, t.tree->node(tx, c, f.node).value()); }));
    t.pin_all();
  }
  t.thin();
  const auto n = t.count("SELECT COUNT(*) FROM pins");
  EXPECT_NEAR(static_cast<double>(n), 48 + 6 * 24 + 83, 5);
  EXPECT_LE(t.count("SELECT COUNT(*) FROM nodes_past WHERE node = 17"), n);
  EXPECT_EQ(t.run([&](Tx& tx) { return t.tree->thin(tx, 10); }).value(), 0);
}

TEST(Thinning, GivenAFullDisk_WhenTheOldestAreGivenUp_ThenSnapshotsStayToTheLast) {  // T9
  TestTree t;
  const Chain c = t.head();
  const auto f = t.make(c, kRoot, "a").value();
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->create_snapshot(tx, t.who, BranchId{1}, "kept", ""); }));
  for (int i = 1; i <= 16; ++i) {
    t.clock.advance(600 * kSecond);
    ASSERT_TRUE(t.write(c, f.node, i));
    t.pin_all();
  }
  const auto give_up = [&] { return t.run([&](Tx& tx) { return t.tree->give_up_oldest(tx, 8); }).value(); };
  const auto oldest = t.count("SELECT MIN(time) FROM pins WHERE kind = 3");
  EXPECT_EQ(give_up(), 2);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM pins WHERE kind = 3"), 14);
  EXPECT_EQ(t.count("SELECT MIN(time) FROM pins WHERE kind = 3"), oldest + 2 * 600 * kSecond);
  t.thin();
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM nodes_past WHERE node = 17"), 14);
  while (give_up() != 0) t.thin();
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM pins WHERE kind >= 3"), 0);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM pins WHERE kind = 0"), 1);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM nodes_past WHERE node = 17"), 1);
}

TEST(Xattrs, GivenLimitsAndFlags_ThenAsLinux) {
  TestTree t;
  const Chain c = t.head();
  const auto f = t.make(c, kRoot, "a").value();
  const auto set = [&](std::string_view n, std::size_t size, int flags) {
    return err(t.run(
        [&](Tx& tx) { return t.tree->set_xattr(tx, t.who, c, f.node, n, ByteView{Bytes(size)}, flags); }));
  };
  EXPECT_EQ(set("user." + std::string(251, 'x'), 1, 0), ERANGE);
  EXPECT_EQ(set("user.a", 65537, 0), E2BIG);
  EXPECT_EQ(set("user.a", 65536, 2), ENODATA);
  EXPECT_EQ(set("user.a", 65536, 1), 0);
  EXPECT_EQ(set("user.a", 1, 1), EEXIST);
  EXPECT_EQ(set("user.a", 0, 2), 0);
  EXPECT_NE(t.find(c, kRoot, "a")->flags & kHasXattrs, 0u);
  EXPECT_EQ(t.run([&](Tx& tx) { return t.tree->xattr(tx, c, f.node, "user.a"); }).value()->size(), 0u);
}

TEST(Changes, GivenARename_ThenTheFeedTellsBothNames) {
  TestTree t;
  const Chain c = t.head();
  const auto d = t.make(c, kRoot, "d", S_IFDIR | 0755).value();
  ASSERT_TRUE(t.make(c, kRoot, "a"));
  ASSERT_TRUE(t.rename(c, kRoot, "a", d.node, "b"));
  const auto all = t.run([&](Tx& tx) { return t.tree->changes(tx, Seq{0}, 100); }).value();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[2].op, "rename");
  EXPECT_EQ(all[2].parent, d.node);
  EXPECT_EQ(all[2].name, "b");
  EXPECT_EQ(all[2].from_parent, kRoot);
  EXPECT_EQ(all[2].from_name, "a");
  EXPECT_EQ(all[2].who.program, "test");
}

}  // namespace indra
