// docs/branches.md, O1..O9: branches that follow their parents.
#include <gmock/gmock.h>

#include "fs/history.h"
#include "fs/internal/merge_world.h"

namespace indra {
namespace {

using testing::Contains;

class Following : public testing::Test, public MergeWorld {
 protected:
  /// main has /a, /b and /d/c; "f" follows it.
  void begin() {
    write("main", "/a", "a\n");
    write("main", "/b", "b\n");
    mkdir("main", "/d");
    write("main", "/d/c", "c\n");
    pause();
    follow("f");
  }
  void follow(const std::string& name, const std::string& from = "main") {
    FileSystem::ForkFrom f;
    f.branch = from;
    f.follow = true;
    ok(fs->fork(who, "main", name, f));
  }
  /// As somebody finds it who looks at it now.
  std::map<std::string, std::string> look(const std::string& b) {
    forget(b);
    return tree(b);
  }
  Seq last_seq() {
    const auto all = ok(fs->changes(Seq{}, 1 << 20));
    return all.back().seq;
  }
  std::string into(const std::string& source, const std::string& target) {
    return conflicts(merge(source, target));
  }
};

// O1, O2
TEST_F(Following, GivenAFollower_WhenTheParentChanges_ThenWhoLooksSeesAllOfIt) {
  begin();
  write("main", "/a", "new\n");
  replace("main", "/b", "newer\n");
  rename("main", "/d", "/e");
  write("main", "/e/x", "x\n");
  unlink("main", "/e/c");
  chmod("main", "/a", 0600);
  symlink("main", "a", "/l");
  link("main", "/a", "/a2");
  const auto now = tree("main");
  EXPECT_EQ(look("f"), now);
  EXPECT_EQ(at("f", "/a").node, at("f", "/a2").node);
  fork("g", "f");  // its forks, too
  write("main", "/a", "again\n");
  fork("h", "f");
  EXPECT_EQ(look("g"), now);
  EXPECT_EQ(look("h"), tree("main"));
}

// O1: isolated
TEST_F(Following, GivenAFollower_WhenItChanges_ThenTheParentDoesNot) {
  begin();
  const auto before = tree("main");
  write("f", "/a", "own\n");
  unlink("f", "/b");
  rename("f", "/d", "/e");
  EXPECT_EQ(tree("main"), before);
  EXPECT_EQ(look("f").at("/a"), "F 644 own\n");
}

// O1: of no moment
TEST_F(Following, GivenAMoment_WhenItIsToBeFollowed_ThenThatIsRefused) {
  begin();
  FileSystem::ForkFrom f;
  f.seq = Seq{3};
  f.follow = true;
  EXPECT_EQ(fs->fork(who, "main", "g", f).error().code, std::errc::invalid_argument);
  EXPECT_EQ(fs->follow_branch(who, "main", "main", true).error().code, std::errc::invalid_argument);
  EXPECT_EQ(ok(fs->branches("main")).size(), 2u);
}

// O2: diff, log, and what it has of its own
TEST_F(Following, GivenAFollower_WhenComparedWithItsForkPoint_ThenOnlyItsOwnIsSaid) {
  begin();
  write("f", "/b", "own\n");
  write("main", "/a", "new\n");
  Moment own, base;
  own.branch = base.branch = "f";
  base.fork_point = true;
  const auto all = ok(diff_moments(*fs, "main", base, own, "/"));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].b->path, "/b");
}

class Ear final : public FrontEnd {
 public:
  void changed(const Change& c) override {
    if (c.kind == Change::entry) names.push_back(c.name);
    if (c.kind == Change::data) data.push_back(c.node);
  }
  void did(const Deed& d, bool) override { deeds.push_back(d.kind); }
  std::string_view name() const override { return "ear"; }
  std::vector<std::string> names;
  std::vector<NodeId> data;
  std::vector<Deed::Kind> deeds;
};

// O2: mounts
TEST_F(Following, GivenAMount_WhenTheParentChanges_ThenItIsToldWithoutAsking) {
  begin();
  Ear ear;
  {
    const auto v = ok(fs->open_view({.branch = "f"}, &ear));
    write("main", "/a", "new\n");
    write("main", "/n", "n\n");
    (void)ok(fs->tick());
    EXPECT_THAT(ear.names, Contains("n"));
    EXPECT_THAT(ear.data, Contains(at("main", "/a").node));
    EXPECT_THAT(ear.deeds, Contains(Deed::made));
    EXPECT_THAT(ear.deeds, Contains(Deed::written));
    EXPECT_EQ(ok(v->lookup(v->root(), "n")).size, 2u);
    v->forget(at("main", "/n").node, 1);
    // Nothing new: nothing is done.
    const Seq before = last_seq();
    for (int i = 0; i < 5; ++i) (void)ok(fs->tick());
    (void)look("f");
    EXPECT_EQ(last_seq(), before);
  }
}

// O2: nobody looks
TEST_F(Following, GivenNobodyWhoLooks_WhenTheParentChanges_ThenNothingIsDone) {
  begin();
  forget("f");
  write("main", "/a", "new\n");
  (void)ok(fs->tick());
  for (const auto& c : ok(fs->changes(Seq{}, 1 << 20))) EXPECT_NE(c.op, "merge");
}

// O4
TEST_F(Following, GivenBothChangedAFile_WhenLookedAt_ThenItsOwnStandsAndNothingLiesBeside) {
  begin();
  write("f", "/a", "own\n");
  write("main", "/a", "new\n");
  chmod("f", "/b", 0600);
  chmod("main", "/b", 0755);
  rename("f", "/d/c", "/d/own");
  rename("main", "/d/c", "/d/new");
  write("f", "/x", "own x\n");
  write("main", "/x", "new x\n");
  auto want = look("f");
  EXPECT_EQ(want.at("/a"), "F 644 own\n");
  EXPECT_EQ(want.at("/b"), "F 600 b\n");
  EXPECT_EQ(want.at("/d/own"), "F 644 c\n");
  EXPECT_EQ(want.at("/x"), "F 644 own x\n");
  EXPECT_EQ(want.size(), 5u);
  write("main", "/a", "newer\n");  // and goes on standing
  EXPECT_EQ(look("f"), want);
}

// O4, G5
TEST_F(Following, GivenTextChangedInDifferentPlaces_WhenLookedAt_ThenItIsJoined) {
  write("main", "/t", "1\n2\n3\n4\n5\n6\n7\n");
  pause();
  follow("f");
  write("f", "/t", "own\n2\n3\n4\n5\n6\n7\n");
  write("main", "/t", "1\n2\n3\n4\n5\n6\nnew\n");
  EXPECT_EQ(look("f").at("/t"), "F 644 own\n2\n3\n4\n5\n6\nnew\n");
}

// O4: deleted here
TEST_F(Following, GivenWhatItDeleted_WhenTheParentChangesIt_ThenItStaysDeleted) {
  begin();
  unlink("f", "/a");
  unlink("f", "/d/c");
  rmdir("f", "/d");
  write("main", "/a", "new\n");
  write("main", "/d/c", "new\n");
  write("main", "/d/x", "x\n");
  mkdir("main", "/d/y");
  write("main", "/d/y/z", "z\n");
  const auto only_b = look("f");
  EXPECT_EQ(only_b.size(), 1u);
  rename("main", "/a", "/a9");  // nor does it come back elsewhere
  rename("main", "/d/y", "/y");
  EXPECT_EQ(look("f"), only_b);
  // Nor is it gone there after a merge: what was deleted here is not what is there now.
  const auto there = tree("main");
  (void)into("f", "main");
  EXPECT_EQ(tree("main"), there);
}

// O4, O6: a name of its own
TEST_F(Following, GivenANameOfItsOwn_WhenTheParentPutsSomethingThere_ThenItIsHidden) {
  begin();
  write("f", "/n", "own\n");
  mkdir("main", "/n");
  write("main", "/n/x", "x\n");
  rename("main", "/b", "/n/b");  // has it, and cannot follow
  auto want = look("f");
  EXPECT_EQ(want.at("/n"), "F 644 own\n");
  EXPECT_EQ(want.at("/b"), "F 644 b\n");
  write("main", "/n/x", "more\n");
  write("main", "/b2", "b2\n");
  want["/b2"] = "F 644 b2\n";
  EXPECT_EQ(look("f"), want);
  const auto before = tree("main");
  (void)into("f", "main");
  for (const auto& [path, what] : before) EXPECT_EQ(tree("main").at(path), what) << path;
}

// O5
TEST_F(Following, GivenFilesOfItsOwn_WhenTheParentDeletesOrMovesTheDirectory_ThenTheyAreReachable) {
  begin();
  mkdir("main", "/m");
  write("main", "/m/p", "p\n");
  (void)look("f");
  write("f", "/d/own", "own\n");
  write("f", "/m/own", "own m\n");
  write("f", "/m/p", "own p\n");
  unlink("main", "/d/c");
  rmdir("main", "/d");
  rename("main", "/m", "/moved");
  unlink("main", "/moved/p");
  const auto now = look("f");
  EXPECT_EQ(now.at("/d/own"), "F 644 own\n");
  EXPECT_FALSE(now.contains("/d/c"));
  EXPECT_EQ(now.at("/moved/own"), "F 644 own m\n");
  EXPECT_EQ(now.at("/moved/p"), "F 644 own p\n");
}

// O5: circles, and names that are not to be had
TEST_F(Following, GivenMovesThatDoNotFit_WhenLookedAt_ThenEverythingHasItsPlace) {
  begin();
  mkdir("main", "/e");
  write("main", "/e/e", "e\n");
  (void)look("f");
  rename("f", "/d", "/e/d");
  rename("main", "/e", "/d/e");
  const auto now = look("f");
  EXPECT_TRUE(now.contains("/e/d/c"));
  EXPECT_TRUE(now.contains("/e/e"));
  // Two that change names while the third is taken.
  write("f", "/t", "own\n");
  rename("main", "/b", "/t");
  rename("main", "/a", "/b");
  auto after = look("f");
  EXPECT_EQ(after.at("/a"), "F 644 a\n");
  EXPECT_EQ(after.at("/b"), "F 644 b\n");
  EXPECT_EQ(after.at("/t"), "F 644 own\n");
}

// O4: a file that is being written
TEST_F(Following, GivenAFileThatIsBeingWritten_WhenTheParentChangesIt_ThenNothingWrittenIsLost) {
  begin();
  View& v = view("f");
  const Handle h = ok(v.open(me, at("f", "/a").node, O_RDWR));
  ok(v.write(me, h, 0, as_view("mine "), false, false));
  write("main", "/a", "new\n");
  write("main", "/b", "new\n");
  (void)ok(fs->moment("main", "f", {}, {}));
  EXPECT_EQ(read("f", "/b"), "new\n");
  ok(v.write(me, h, 5, as_view("too"), false, false));
  ok(v.flush(me, h));
  v.release(h);
  EXPECT_EQ(look("f").at("/a"), "F 644 mine too");
  const Handle g = ok(view("f").open(me, at("f", "/b").node, O_RDWR));
  unlink("main", "/b");
  (void)ok(fs->moment("main", "f", {}, {}));
  ok(view("f").write(me, g, 0, as_view("late"), false, false));
  ok(view("f").flush(me, g));
  view("f").release(g);
  EXPECT_EQ(look("f").at("/b"), "F 644 late");
}

// O7
TEST_F(Following, GivenItsOwnThatStood_WhenMergedIntoTheParent_ThenTheParentsIsNotUndone) {
  begin();
  write("f", "/a", "own\n");
  write("main", "/a", "new\n");
  chmod("f", "/b", 0600);
  chmod("main", "/b", 0755);
  rename("f", "/d/c", "/d/own");
  rename("main", "/d/c", "/d/new");
  write("f", "/x", "own x\n");
  write("main", "/x", "new x\n");
  (void)look("f");
  pause();
  write("f", "/fine", "fine\n");
  EXPECT_EQ(into("f", "main"), "mode /b: target, place /d/own: target, added /x: both, content /a: both");
  const auto now = tree("main");
  EXPECT_EQ(now.at("/a"), "F 644 new\n");
  EXPECT_EQ(now.at("/a (conflict f 2023-11-14)"), "F 644 own\n");
  EXPECT_EQ(now.at("/b"), "F 755 b\n");
  EXPECT_EQ(now.at("/d/new"), "F 644 c\n");
  EXPECT_EQ(now.at("/x"), "F 644 new x\n");
  EXPECT_EQ(now.at("/x (conflict f 2023-11-14)"), "F 644 own x\n");
  EXPECT_EQ(now.at("/fine"), "F 644 fine\n");
  // That is decided now, and there is nothing left to say.
  EXPECT_EQ(look("f"), now);
  EXPECT_EQ(into("f", "main"), "");
  EXPECT_EQ(tree("main"), now);
  write("f", "/a", "next\n");
  EXPECT_EQ(into("f", "main"), "");
  EXPECT_EQ(tree("main").at("/a"), "F 644 next\n");
}

// O7: also by way of a fork, and into another branch
TEST_F(Following, GivenItsOwnThatStood_WhenAForkOfItIsMerged_ThenTheParentsIsNotUndone) {
  begin();
  fork("other");
  write("f", "/a", "own\n");
  write("main", "/a", "new\n");
  fork("g", "f");
  EXPECT_EQ(into("g", "main"), "content /a: both");
  EXPECT_EQ(tree("main").at("/a"), "F 644 new\n");
  (void)into("main", "other");
  EXPECT_EQ(tree("other").at("/a"), "F 644 new\n");
}

// O7: by way of a branch that had not got the parent's change
TEST_F(Following, GivenItsOwnThatStood_WhenABranchInBetweenTakesIt_ThenTheParentsIsNotUndone) {
  begin();
  fork("x");
  write("f", "/a", "own\n");
  write("main", "/a", "new\n");
  EXPECT_EQ(into("f", "x"), "");
  EXPECT_EQ(tree("x").at("/a"), "F 644 own\n");
  EXPECT_EQ(into("x", "main"), "content /a: both");
  EXPECT_EQ(tree("main").at("/a"), "F 644 new\n");
  // Where the decision is known there is no doubt.
  follow("f2", "f");
  write("f2", "/a", "of f2\n");
  EXPECT_EQ(into("f2", "f"), "");
  EXPECT_EQ(tree("f").at("/a"), "F 644 of f2\n");
}

// O7: an edit that nobody contradicts is just merged
TEST_F(Following, GivenItsOwn_WhenNobodyContradicts_ThenItIsMergedSilently) {
  begin();
  write("f", "/a", "own\n");
  unlink("f", "/d/c");
  write("main", "/b", "new\n");
  (void)look("f");
  EXPECT_EQ(into("f", "main"), "");
  EXPECT_EQ(tree("main"), look("f"));
  EXPECT_EQ(tree("main").at("/a"), "F 644 own\n");
}

// O8
TEST_F(Following, GivenFollowersOfFollowers_WhenTheFirstChanges_ThenTheLastHasIt) {
  begin();
  follow("f2", "f");
  follow("f3", "f2");
  write("f", "/a", "of f\n");
  write("main", "/a", "of main\n");
  write("main", "/b", "of main\n");
  EXPECT_EQ(look("f3").at("/a"), "F 644 of f\n");
  EXPECT_EQ(look("f3").at("/b"), "F 644 of main\n");
  EXPECT_EQ(look("f2"), look("f3"));
  write("f", "/a", "of f again\n");
  EXPECT_EQ(look("f3").at("/a"), "F 644 of f again\n");
}

// O8: the parent's fate
TEST_F(Following, GivenAParentThatIsRenamedAndDeleted_WhenLookedAt_ThenItHasAllUntilThen) {
  begin();
  fork("p");
  follow("g", "p");
  ok(fs->rename_branch(who, "main", "p", "q"));
  write("q", "/a", "one\n");
  EXPECT_EQ(look("g").at("/a"), "F 644 one\n");
  write("q", "/a", "two\n");
  forget("p");
  forget("q");
  ok(fs->delete_branch(who, "main", "q"));
  (void)ok(fs->tick());
  EXPECT_EQ(look("g").at("/a"), "F 644 two\n");
  EXPECT_EQ(look("g").size(), 4u);
  EXPECT_EQ(fs->follow_branch(who, "main", "g", true).error().code, std::errc::invalid_argument);
}

// O8: off and on again, protected, its past
TEST_F(Following, GivenAFollower_WhenTurnedOff_ThenNothingMoreComesAndItsPastStands) {
  begin();
  const auto first = look("f");
  ok(fs->create_snapshot(who, "main", "f", "then", ""));
  write("main", "/a", "one\n");
  ok(fs->protect_branch(who, "main", "f", true));  // but for merges
  EXPECT_EQ(look("f").at("/a"), "F 644 one\n");
  ok(fs->protect_branch(who, "main", "f", false));
  write("main", "/a", "two\n");
  ok(fs->follow_branch(who, "main", "f", false));
  write("main", "/a", "three\n");
  EXPECT_EQ(look("f").at("/a"), "F 644 two\n");
  ok(fs->follow_branch(who, "main", "f", true));
  EXPECT_EQ(look("f").at("/a"), "F 644 three\n");
  FileSystem::ForkFrom old;
  old.snapshot = "then";
  ok(fs->fork(who, "main", "old", old));
  EXPECT_EQ(look("old"), first);
}

// O3
TEST_F(Following, GivenManyRefreshes_WhenCounted_ThenNoPinsAreLeftBehind) {
  begin();
  for (int i = 0; i < 20; ++i) {
    write("main", "/a", std::to_string(i) + "\n");
    (void)look("f");
  }
  pause();
  while (ok(fs->tick()) && ok(fs->status()).tree.pins > 20) pause();
  EXPECT_LE(ok(fs->status()).tree.pins, 12u);
}

}  // namespace
}  // namespace indra
