// docs/branches.md, G1..: a test for each rule of merging, on a real vault.
// Long because each row of the table in docs/branches.md has its test here, in its order.
#include <gmock/gmock.h>
#include <sys/xattr.h>

#include "fs/history.h"
#include "fs/internal/merge_world.h"

namespace indra {
namespace {

constexpr const char* kText = "1\n2\n3\n4\n5\n";
const std::string kSecond14 = " (conflict agent 2023-11-14)";

class Merge : public testing::Test, public MergeWorld {
 protected:
  /// main has /f with five lines, /d/g and /e; agent is a fork of it.
  void begin() {
    write("main", "/f", kText);
    mkdir("main", "/d");
    write("main", "/d/g", "g");
    mkdir("main", "/e");
    pause();
    fork("agent");
  }
  std::string join(FileSystem::MergeRequest r = {}) {
    last = merge("agent", "main", std::move(r));
    return conflicts(last);
  }
  NodeId node(const std::string& b, const std::string& path) { return at(b, path).node; }
  std::string line(const std::string& b, const std::string& path) {
    return std::string{as_text(ok(view(b).getxattr(node(b, path), "user.indra.doc_id")))};
  }
  FileSystem::MergeReport last;
};

// G1, G10
TEST_F(Merge, GivenNewFiles_WhenMerged_ThenTheyComeWithNodeLineAndAttributes) {
  begin();
  mkdir("agent", "/d/new");
  write("agent", "/d/new/x", "x");
  chmod("agent", "/d/new/x", 0750);
  symlink("agent", "x", "/d/new/l");
  ok(view("agent").setxattr(me, node("agent", "/d/new/x"), "user.a", as_view("v"), 0));
  EXPECT_EQ(join(), "");
  EXPECT_EQ(tree("main"), tree("agent"));
  EXPECT_EQ(node("main", "/d/new/x"), node("agent", "/d/new/x"));
  EXPECT_EQ(line("main", "/d/new/x"), line("agent", "/d/new/x"));
  EXPECT_EQ(as_text(ok(view("main").getxattr(node("main", "/d/new/x"), "user.a"))), "v");
}

// G1: nothing to do
TEST_F(Merge, GivenNothingNew_WhenMerged_ThenNothingHappens) {
  begin();
  const auto before = tree("main");
  EXPECT_EQ(join(), "");
  EXPECT_FALSE(last.applied);
  write("agent", "/f", "new");
  EXPECT_EQ(join(), "");
  EXPECT_TRUE(last.applied);
  EXPECT_EQ(join(), "");
  EXPECT_FALSE(last.applied);
}

// G1: two moments that have come to both by other ways. x and y each take in what the other had before.
class CrissCross : public Merge {
 protected:
  void cross() {
    fork("x0", "agent");
    fork("y0", "main");
    (void)merge("y0", "agent");
    (void)merge("x0", "main");
  }
};

TEST_F(CrissCross, GivenChangesApart_WhenMerged_ThenThereIsNoConflict) {
  begin();
  write("agent", "/f", "agent\n2\n3\n4\n5\n");
  write("main", "/f", "1\n2\n3\n4\nmain\n");
  write("agent", "/d/g", "agent");
  mkdir("main", "/n");
  write("main", "/n/n", "n");
  cross();
  write("agent", "/n/n", "n of agent");
  write("main", "/d/g", "g of main");
  write("agent", "/f", "agent\n2\n3\n4\nmain, seen by agent\n");
  write("main", "/f", "agent, seen by main\n2\n3\n4\nmain\n");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/f"), "agent, seen by main\n2\n3\n4\nmain, seen by agent\n");
  EXPECT_EQ(read("main", "/n/n"), "n of agent");
  EXPECT_EQ(read("main", "/d/g"), "g of main");
}

TEST_F(CrissCross, GivenAChangeBackToWhatWasBefore_WhenMerged_ThenItIsSeen) {
  begin();
  write("agent", "/d/g", "agent");
  write("main", "/e/m", "m");
  cross();
  write("main", "/d/g", "g");  // as it was before agent changed it
  unlink("agent", "/e/m");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/d/g"), "g");
  EXPECT_FALSE(there("main", "/e/m"));
}

TEST_F(CrissCross, GivenAConflictBetweenTheBases_WhenSettledDifferently_ThenItIsAConflictAgain) {
  begin();
  for (const char* bytes : {"text", "\0\1\2\3"}) {
    const std::string b{bytes, 4};
    const std::string path = b[0] == 't' ? "/d/g" : "/bin";
    if (!there("main", path)) {
      write("main", path, b);
      (void)merge("main", "agent");
    }
    write("agent", path, b + "agent");
    write("main", path, b + "main");
    forget("x0");
    forget("y0");
    if (b[0] != 't') {
      ok(fs->delete_branch(who, "main", "x0"));
      ok(fs->delete_branch(who, "main", "y0"));
    }
    cross();
    for (const char* side : {"main", "agent"})
      for (const auto& [p, what] : tree(side))
        if (p.find("conflict") != p.npos) unlink(side, p);
    write("agent", path, b + "main");  // each has taken the other's
    write("main", path, b + "agent");
    EXPECT_EQ(join(), "content " + path + ": both");
    unlink("main", path == "/bin" ? "/bin" + kSecond14 : "/d/g" + kSecond14);
    (void)merge("main", "agent");
  }
}

TEST_F(CrissCross, GivenADryRun_WhenPlanned_ThenNothingIsLeftBehind) {
  begin();
  write("agent", "/f", "agent\n2\n3\n4\n5\n");
  write("main", "/f", "1\n2\n3\n4\nmain\n");
  cross();
  write("agent", "/d/g", "agent");
  const auto before = ok(fs->changes(Seq{}, 1000)).size();
  const auto main = tree("main");
  FileSystem::MergeRequest r;
  r.dry_run = true;
  EXPECT_EQ(join(r), "");
  EXPECT_EQ(last.plan.steps.size(), 1u);
  EXPECT_EQ(tree("main"), main);
  EXPECT_EQ(ok(fs->changes(Seq{}, 1000)).size(), before);
  EXPECT_EQ(ok(fs->branches("main")).size(), 4u);
}

// G2: the plan alone
TEST_F(Merge, GivenADryRun_WhenMerged_ThenOnlyThePlanIsMade) {
  begin();
  write("agent", "/f", "new");
  write("agent", "/n", "n");
  const auto before = tree("main");
  FileSystem::MergeRequest r;
  r.dry_run = true;
  join(r);
  EXPECT_EQ(last.plan.steps.size(), 2u);
  EXPECT_FALSE(last.applied);
  EXPECT_EQ(tree("main"), before);
}

// G2: who has it open
TEST_F(Merge, GivenAFileThatIsOpenInTheTarget_WhenMerged_ThenItsReaderGoesOnWithTheOldOne) {
  begin();
  const NodeId old = node("main", "/f");
  const Handle h = ok(view("main").open(me, old, O_RDONLY));
  Bytes b(100);
  ASSERT_EQ(ok(view("main").read(h, 0, b)), 10u);
  write("agent", "/f", "new");
  const std::string doc = line("main", "/f");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(ok(view("main").read(h, 0, b)), 10u);
  EXPECT_EQ(read("main", "/f"), "new");
  EXPECT_NE(node("main", "/f"), old);
  EXPECT_EQ(line("main", "/f"), doc);
  view("main").release(h);
}

// G2, S13: a writer's bytes are a version before the merge
TEST_F(Merge, GivenAFileThatIsBeingWrittenInTheTarget_WhenMerged_ThenTheWriterLosesNothing) {
  begin();
  const Handle h = ok(view("main").open(me, node("main", "/f"), O_RDWR));
  write("agent", "/f", "new");
  EXPECT_EQ(join(), "");
  ok(view("main").write(me, h, 0, as_view("late"), false, false));
  Bytes b(100);
  ASSERT_EQ(ok(view("main").read(h, 0, b)), 10u);
  EXPECT_EQ(as_text(ByteView{b}.first(4)), "late");
  ok(view("main").flush(me, h));
  view("main").release(h);
  EXPECT_EQ(read("main", "/f"), "new");
  bool kept = false;
  for (const Version& v : ok(versions_of(*fs, "main", {}, "/f"))) {
    const Bytes bytes = ok(content_of(*fs, "main", v.row, 100));
    kept = kept || as_text(ByteView{bytes}).starts_with("late");
  }
  EXPECT_TRUE(kept);
}

// G2: what is being written
TEST_F(Merge, GivenWritesThatAreNotPublished_WhenMerged_ThenBothSidesCount) {
  begin();
  const Handle h = ok(view("main").open(me, node("main", "/f"), O_RDWR));
  ok(view("main").write(me, h, 0, as_view("A"), false, false));
  const Handle g = ok(view("agent").open(me, node("agent", "/f"), O_RDWR));
  ok(view("agent").write(me, g, 8, as_view("E"), false, false));
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/f"), "A\n2\n3\n4\nE\n");
  view("main").release(h);
  view("agent").release(g);
}

// G3
TEST_F(Merge, GivenAFileThatTheTargetMoved_WhenTheSourceChangedIt_ThenTheChangeFindsIt) {
  begin();
  rename("main", "/f", "/e/renamed");
  pause();
  replace("main", "/e/renamed", "one\n2\n3\n4\n5\n");
  write("agent", "/f", "1\n2\n3\n4\nfive\n");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/e/renamed"), "one\n2\n3\n4\nfive\n");
  EXPECT_FALSE(there("main", "/f"));
}

TEST_F(Merge, GivenSavesThroughABackupFile_WhenMerged_ThenTheDocumentGoesOn) {
  begin();
  rename("agent", "/f", "/f~");
  write("agent", "/f", "1\n2\n3\n4\nfive\n");
  rename("main", "/f", "/f~");
  write("main", "/f", "one\n2\n3\n4\n5\n");
  unlink("main", "/f~");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/f"), "one\n2\n3\n4\nfive\n");
  EXPECT_EQ(read("main", "/f~"), kText);
}

TEST_F(Merge, GivenAFileDeletedAndMadeAnew_WhenMerged_ThenItsPathCounts) {
  begin();
  unlink("agent", "/f");
  pause();
  write("agent", "/f", "1\n2\n3\n4\nfive\n");
  unlink("main", "/f");
  pause();
  write("main", "/f", "one\n2\n3\n4\n5\n");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/f"), "one\n2\n3\n4\nfive\n");
}

TEST_F(Merge, GivenADirectoryDeletedAndMadeAnew_WhenMerged_ThenItsPathCounts) {
  begin();
  for (const char* b : {"main", "agent"}) {
    unlink(b, "/d/g");
    rmdir(b, "/d");
    pause();
    mkdir(b, "/d");
    write(b, "/d/g", b);
  }
  EXPECT_EQ(join(), "content /d/g: both");
  EXPECT_EQ(read("main", "/d/g"), "main");
  EXPECT_EQ(read("main", "/d/g" + kSecond14), "agent");
}

// G4
TEST_F(Merge, GivenTheSameChangeOnBothSides_WhenMerged_ThenItIsSilent) {
  begin();
  write("main", "/f", "same");
  write("agent", "/f", "same");
  write("main", "/n", "new");
  write("agent", "/n", "new");
  unlink("main", "/d/g");
  unlink("agent", "/d/g");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(tree("main"), tree("agent"));
}

// G5
TEST_F(Merge, GivenTextChangedInDifferentPlaces_WhenMerged_ThenItIsJoined) {
  begin();
  write("main", "/f", "one\n2\n3\n4\n5\n");
  write("agent", "/f", "1\n2\n3\n4\nfive\n");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/f"), "one\n2\n3\n4\nfive\n");
  EXPECT_EQ(read("agent", "/f"), "1\n2\n3\n4\nfive\n");
}

// G6
TEST_F(Merge, GivenTextChangedInOnePlace_WhenMerged_ThenBothVersionsAreKept) {
  begin();
  write("main", "/d/g.tar.gz", "0");
  write("main", "/f", "main\n");
  write("agent", "/f", "agent\n");
  EXPECT_EQ(join(), "content /f: both");
  EXPECT_EQ(read("main", "/f"), "main\n");
  EXPECT_EQ(read("main", "/f" + kSecond14), "agent\n");
  EXPECT_NE(line("main", "/f"), line("main", "/f" + kSecond14));
}

TEST_F(Merge, GivenBytesThatAreNoText_WhenBothChangedThem_ThenBothVersionsAreKept) {
  begin();
  const std::string zero{"\0\n2\n3\n4\n", 8};
  write("main", "/x.bin", zero);
  fork("other");
  write("main", "/x.bin", zero + "end");
  write("other", "/x.bin", "start" + zero);
  EXPECT_EQ(conflicts(merge("other")), "content /x.bin: both");
  EXPECT_EQ(read("main", "/x.bin"), zero + "end");
  EXPECT_EQ(read("main", "/x (conflict other 2023-11-14).bin"), "start" + zero);
}

TEST_F(Merge, GivenMarkers_WhenTextOverlaps_ThenOneFileHoldsBoth) {
  begin();
  write("main", "/f", "main\n");
  write("agent", "/f", "agent\n");
  FileSystem::MergeRequest r;
  r.markers = true;
  EXPECT_EQ(join(r), "content /f: markers");
  EXPECT_EQ(read("main", "/f"), "<<<<<<< main\nmain\n=======\nagent\n>>>>>>> agent\n");
}

// G7
TEST_F(Merge, GivenNameDirectoryAndModeChangedApart_WhenMerged_ThenEachIsTaken) {
  begin();
  rename("agent", "/f", "/named");
  chmod("agent", "/named", 0600);
  rename("main", "/f", "/e/f");
  write("main", "/e/f", "content");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(tree("main")["/e/named"], "F 600 content");
}

TEST_F(Merge, GivenNameAndModeChangedOnBothSides_WhenMerged_ThenTheTargetsStay) {
  begin();
  rename("agent", "/f", "/a");
  chmod("agent", "/a", 0600);
  rename("main", "/f", "/m");
  chmod("main", "/m", 0755);
  EXPECT_EQ(join(), "mode /a: target, place /a: target");
  EXPECT_EQ(tree("main")["/m"], std::string{"F 755 "} + kText);
  EXPECT_FALSE(there("main", "/a"));
}

TEST_F(Merge, GivenAttributes_WhenMerged_ThenEachIsTakenByItself) {
  begin();
  const auto set = [&](const char* b, const char* name, const char* value) {
    ok(view(b).setxattr(me, node(b, "/f"), name, as_view(value), 0));
  };
  set("agent", "user.a", "1");
  set("agent", "user.both", "agent");
  set("main", "user.m", "2");
  set("main", "user.both", "main");
  EXPECT_EQ(join(), "xattr /f: target");
  EXPECT_EQ(last.plan.conflicts.at(0).detail, "user.both");
  const auto get = [&](const char* name) {
    return std::string{as_text(ok(view("main").getxattr(node("main", "/f"), name)))};
  };
  EXPECT_EQ(get("user.a"), "1");
  EXPECT_EQ(get("user.m"), "2");
  EXPECT_EQ(get("user.both"), "main");
}

// G8
TEST_F(Merge, GivenAFileDeletedInTheSource_WhenTheTargetChangedIt_ThenItStays) {
  begin();
  unlink("agent", "/f");
  unlink("agent", "/d/g");
  write("main", "/f", "changed");
  EXPECT_EQ(join(), "deleted-here /f: target");
  EXPECT_EQ(read("main", "/f"), "changed");
  EXPECT_FALSE(there("main", "/d/g"));
}

// G9
TEST_F(Merge, GivenAFileDeletedInTheTarget_WhenTheSourceChangedIt_ThenItComesBack) {
  begin();
  unlink("main", "/f");
  unlink("main", "/d/g");
  rmdir("main", "/d");
  write("agent", "/f", "changed");
  write("agent", "/d/g", "changed too");
  EXPECT_EQ(join(), "deleted-there /d/g: source, deleted-there /f: source");
  EXPECT_EQ(read("main", "/f"), "changed");
  EXPECT_EQ(read("main", "/d/g"), "changed too");
  EXPECT_EQ(line("main", "/f"), line("agent", "/f"));
}

TEST_F(Merge, GivenAFileDeletedInTheTarget_WhenTheSourceMovedIt_ThenItComesBack) {
  begin();
  unlink("main", "/f");
  rename("agent", "/f", "/e/f");
  EXPECT_EQ(join(), "deleted-there /e/f: source");
  EXPECT_EQ(read("main", "/e/f"), kText);
}

// G11
TEST_F(Merge, GivenFilesOfOneNameAddedOnBothSides_WhenMerged_ThenBothAreKept) {
  begin();
  write("main", "/n.md", "main");
  write("agent", "/n.md", "agent");
  EXPECT_EQ(join(), "added /n.md: both");
  EXPECT_EQ(read("main", "/n.md"), "main");
  EXPECT_EQ(read("main", "/n" + kSecond14 + ".md"), "agent");
}

TEST_F(Merge, GivenDirectoriesOfOneNameAddedOnBothSides_WhenMerged_ThenTheyAreOne) {
  begin();
  for (const char* b : {"main", "agent"}) {
    mkdir(b, "/n");
    mkdir(b, "/n/deep");
    write(b, std::string{"/n/deep/"} + b, b);
    write(b, "/n/deep/same", "same");
  }
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/n/deep/main"), "main");
  EXPECT_EQ(read("main", "/n/deep/agent"), "agent");
}

TEST_F(Merge, GivenAFileAndADirectoryOfOneName_WhenMerged_ThenTheSourcesGetsAnotherName) {
  begin();
  write("main", "/x", "file");
  mkdir("agent", "/x");
  write("agent", "/x/in", "in");
  mkdir("main", "/y");
  write("agent", "/y", "file");
  EXPECT_EQ(join(), "added /x: both, added /y: both");
  EXPECT_EQ(read("main", "/x"), "file");
  EXPECT_EQ(read("main", "/x" + kSecond14 + "/in"), "in");
  EXPECT_EQ(read("main", "/y" + kSecond14), "file");
}

TEST_F(Merge, GivenNamesThatDifferInCase_WhenMerged_ThenTheyAreTwoFiles) {
  begin();
  write("main", "/Readme", "main");
  write("agent", "/README", "agent");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/Readme"), "main");
  EXPECT_EQ(read("main", "/README"), "agent");
}

// G12
TEST_F(Merge, GivenAFileMovedToANameThatTheTargetTook_WhenMerged_ThenItGetsAnotherName) {
  begin();
  rename("agent", "/f", "/taken.txt");
  write("main", "/taken.txt", "main");
  EXPECT_EQ(join(), "place /taken.txt: both");
  EXPECT_EQ(read("main", "/taken.txt"), "main");
  EXPECT_EQ(read("main", "/taken" + kSecond14 + ".txt"), kText);
  EXPECT_FALSE(there("main", "/f"));
}

TEST_F(Merge, GivenTwoFilesThatChangedNames_WhenMerged_ThenTheyDoSoHere) {
  begin();
  write("main", "/h", "h");
  pause();
  fork("other");
  rename("other", "/f", "/t");
  pause();
  rename("other", "/h", "/f");
  pause();
  rename("other", "/t", "/h");
  EXPECT_EQ(conflicts(merge("other")), "");
  EXPECT_EQ(tree("main"), tree("other"));
}

// G13
TEST_F(Merge, GivenDirectoriesMovedIntoEachOther_WhenMerged_ThenTheTargetsPlaceStays) {
  begin();
  rename("main", "/d", "/e/d");
  rename("agent", "/e", "/d/e");
  write("agent", "/d/e/new", "new");
  EXPECT_EQ(join(), "cycle /d/e: target");
  EXPECT_EQ(read("main", "/e/d/g"), "g");
  EXPECT_EQ(read("main", "/e/new"), "new");
}

TEST_F(Merge, GivenADirectoryTurnedInsideOut_WhenMerged_ThenSoItIsHere) {
  begin();
  mkdir("main", "/d/in");
  write("main", "/d/in/x", "x");
  fork("other");
  rename("other", "/d/in", "/in");
  rename("other", "/d", "/in/d");
  EXPECT_EQ(conflicts(merge("other")), "");
  EXPECT_EQ(tree("main"), tree("other"));
}

TEST_F(Merge, GivenADirectoryMovedOnBothSides_WhenMerged_ThenTheTargetsPlaceStays) {
  begin();
  mkdir("main", "/p");
  fork("other");
  rename("main", "/d", "/e/d");
  rename("other", "/d", "/p/d");
  write("other", "/p/d/new", "new");
  EXPECT_EQ(conflicts(merge("other")), "place /p/d: target");
  EXPECT_EQ(read("main", "/e/d/new"), "new");
  EXPECT_EQ(read("main", "/e/d/g"), "g");
}

// G14
TEST_F(Merge, GivenADirectoryDeletedInTheSource_WhenSomethingNewIsInIt_ThenItStays) {
  begin();
  unlink("agent", "/d/g");
  rmdir("agent", "/d");
  rmdir("agent", "/e");
  write("main", "/d/new", "new");
  EXPECT_EQ(join(), "directory /d: target");
  EXPECT_EQ(read("main", "/d/new"), "new");
  EXPECT_FALSE(there("main", "/d/g"));
  EXPECT_FALSE(there("main", "/e"));
}

TEST_F(Merge, GivenADirectoryDeletedInTheSource_WhenTheTargetMovedIt_ThenItGoes) {
  begin();
  unlink("agent", "/d/g");
  rmdir("agent", "/d");
  rename("main", "/d", "/e/d");
  EXPECT_EQ(join(), "");
  EXPECT_FALSE(there("main", "/e/d"));
}

// G15
TEST_F(Merge, GivenADirectoryDeletedInTheTarget_WhenTheSourceMovedIt_ThenItStaysDeleted) {
  begin();
  unlink("main", "/d/g");
  rmdir("main", "/d");
  rename("agent", "/d", "/e/d");
  EXPECT_EQ(join(), "deleted-there /e/d: target");
  EXPECT_FALSE(there("main", "/e/d"));
  write("agent", "/e/d/g", "kept after all");
  EXPECT_EQ(join(), "deleted-there /e/d/g: source");
  EXPECT_EQ(read("main", "/e/d/g"), "kept after all");
}

// G16
TEST_F(Merge, GivenPatterns_WhenMerged_ThenConflictsGoAsTheySay) {
  begin();
  for (const char* b : {"main", "agent"}) {
    write(b, "/f", b);
    write(b, "/d/g", b);
    write(b, "/n.lock", b);
  }
  FileSystem::MergeRequest r;
  r.ours = {"/d/*"};
  r.theirs = {"*.lock", "f"};
  EXPECT_EQ(join(r), "content /d/g: target, content /f: source, added /n.lock: source");
  EXPECT_EQ(read("main", "/f"), "agent");
  EXPECT_EQ(read("main", "/d/g"), "main");
  EXPECT_EQ(read("main", "/n.lock"), "agent");
}

// G17
TEST_F(Merge, GivenPathsToPick_WhenMerged_ThenOnlyTheyAreTaken) {
  begin();
  write("agent", "/f", "f");
  mkdir("agent", "/new");
  mkdir("agent", "/new/dir");
  write("agent", "/new/dir/x", "x");
  write("agent", "/new/dir/y", "y");
  FileSystem::MergeRequest r;
  r.only = {"/new/dir/x"};
  EXPECT_EQ(join(r), "");
  EXPECT_EQ(read("main", "/new/dir/x"), "x");
  EXPECT_FALSE(there("main", "/new/dir/y"));
  EXPECT_EQ(read("main", "/f"), kText);
  EXPECT_EQ(join(), "");
  EXPECT_EQ(tree("main"), tree("agent"));
}

// G18
TEST_F(Merge, GivenASecondMerge_WhenBothWentOn_ThenItKnowsTheFirst) {
  begin();
  write("agent", "/f", "agent\n2\n3\n4\n5\n");
  EXPECT_EQ(join(), "");
  write("main", "/f", "changed by main\n2\n3\n4\n5\n");
  write("agent", "/f", "agent\n2\n3\n4\nfive\n");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/f"), "changed by main\n2\n3\n4\nfive\n");
  // The other way round: the fork is brought up to date.
  EXPECT_EQ(conflicts(merge("main", "agent")), "");
  EXPECT_EQ(tree("main"), tree("agent"));
}

TEST_F(Merge, GivenAMergeThroughAThirdBranch_WhenMerged_ThenWhatItBroughtIsKnown) {
  begin();
  write("agent", "/f", "agent\n2\n3\n4\n5\n");
  fork("third");
  EXPECT_EQ(conflicts(merge("agent", "third")), "");
  EXPECT_EQ(conflicts(merge("third", "main")), "");
  write("main", "/f", "main\n2\n3\n4\n5\n");
  write("agent", "/f", "agent\n2\n3\n4\nfive\n");
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/f"), "main\n2\n3\n4\nfive\n");
}

// G19
TEST_F(Merge, GivenAProtectedBranch_WhenMerged_ThenItTakesTheMerge) {
  begin();
  write("agent", "/f", "new");
  unlink("agent", "/d/g");
  ok(fs->protect_branch(who, "main", "main", true));
  EXPECT_EQ(join(), "");
  EXPECT_EQ(read("main", "/f"), "new");
  EXPECT_FALSE(view("main").mkdir(me, view("main").root(), "no", 0755).has_value());
}

// G20
TEST_F(Merge, GivenSecondNames_WhenTheyAreTakenOrTooLong_ThenTheyAreStillGood) {
  begin();
  const std::string longest = std::string(250, 'x') + ".md";
  for (const char* b : {"main", "agent"}) {
    write(b, "/f", b);
    write(b, "/" + longest, b);
    write(b, "/.hidden", b);
  }
  write("main", "/f" + kSecond14, "taken");
  join();
  EXPECT_EQ(read("main", "/f (conflict agent 2023-11-14 2)"), "agent");
  EXPECT_EQ(read("main", "/.hidden" + kSecond14), "agent");
  EXPECT_EQ(read("main", "/" + std::string(255 - kSecond14.size() - 3, 'x') + kSecond14 + ".md"), "agent");
}

// G21
TEST_F(Merge, GivenHardLinks_WhenMerged_ThenNamesAndContentAreTheFiles) {
  begin();
  link("main", "/f", "/d/hard");
  link("main", "/f", "/d/gone");
  fork("other");
  link("other", "/f", "/e/more");
  unlink("other", "/d/gone");
  write("other", "/f", "content");
  write("other", "/new", "new");
  link("other", "/new", "/d/new");
  EXPECT_EQ(conflicts(merge("other")), "");
  EXPECT_EQ(tree("main"), tree("other"));
  for (const char* path : {"/d/hard", "/e/more"}) EXPECT_EQ(node("main", path), node("main", "/f"));
  EXPECT_EQ(at("main", "/f").nlink, 3u);
  EXPECT_EQ(node("main", "/new"), node("main", "/d/new"));
}

// G22
TEST_F(Merge, GivenBadInput_WhenMerged_ThenItIsRefused) {
  begin();
  const auto refused = [&](const char* source, const char* target) {
    FileSystem::MergeRequest r;
    r.source = source;
    r.target = target;
    auto done = fs->merge(who, "main", r);
    return done ? std::error_code{} : done.error().code;
  };
  EXPECT_EQ(refused("agent", "agent"), std::errc::invalid_argument);
  EXPECT_EQ(refused("none", "main"), std::errc::no_such_file_or_directory);
  EXPECT_EQ(refused("agent", "a/b"), std::errc::no_such_file_or_directory);
}

// What who watches the target hears (docs/design/editor-events.md, E10).
class MergeTold : public Merge {
 protected:
  struct Front final : FrontEnd {
    void changed(const Change&) override {}
    void did(const Deed& d, bool own) override {
      static constexpr const char* kWords[] = {"made",      "linked",  "removed", "moved",
                                               "exchanged", "written", "closed",  "attributes"};
      std::string s = kWords[d.kind];
      if (own) s += " own";
      if (d.from.parent) s += " from " + d.from.name;
      if (d.to.parent) s += " to " + d.to.name;
      if (d.other) s += " over another";
      told.push_back(s);
    }
    [[nodiscard]] std::string_view name() const override { return "test"; }
    std::vector<std::string> told;
  };
  using Told = std::vector<std::string>;
  /// Merges `agent` into main, before the eyes of `front`.
  Told told(const std::string& source = "agent") {
    Front front;
    ViewSpec spec;
    spec.branch = "main";
    auto watched = ok(fs->open_view(spec, &front));
    merge(source, "main", {});
    watched.reset();
    return front.told;
  }
};

TEST_F(MergeTold, E10_GivenEachKindOfChange_WhenMerged_ThenItIsToldInAnOrderThatCanBeDoneAgain) {
  begin();
  write("main", "/gone", "x");
  write("main", "/moves", "y");
  pause();
  fork("b");
  write("b", "/f", "other text\n");
  chmod("b", "/d", 0700);
  unlink("b", "/gone");
  rename("b", "/moves", "/d/moved");
  mkdir("b", "/n");
  write("b", "/n/new", "new");
  link("b", "/d/g", "/hard");
  EXPECT_THAT(told("b"), testing::UnorderedElementsAre("removed from gone", "made to n", "made to new",
                                                       "linked to hard", "moved from moves to moved",
                                                       "closed", "written", "closed", "attributes"));
  EXPECT_EQ(tree("main"), tree("b"));
}

TEST_F(MergeTold, E10_GivenADirectoryThatIsLeftAndGoes_WhenMerged_ThenWhatLeavesItIsToldFirst) {
  begin();
  rename("agent", "/d/g", "/g");
  rmdir("agent", "/d");
  EXPECT_EQ(told(), (Told{"moved from g", "removed from d", "moved to g"}));
}

TEST_F(MergeTold, E10_GivenTwoNamesThatChanged_WhenMerged_ThenBothGoBeforeTheyCome) {
  begin();
  write("main", "/h", "h");
  pause();
  fork("other");
  rename("other", "/f", "/t");
  pause();
  rename("other", "/h", "/f");
  pause();
  rename("other", "/t", "/h");
  const Told all = told("other");
  ASSERT_EQ(all.size(), 4u);
  EXPECT_THAT(Told(all.begin(), all.begin() + 2),
              testing::UnorderedElementsAre("moved from f", "moved from h"));
  EXPECT_THAT(Told(all.begin() + 2, all.end()), testing::UnorderedElementsAre("moved to f", "moved to h"));
}

TEST_F(MergeTold, E10_GivenAFileThatIsOpen_WhenMerged_ThenANewOneComesInItsPlace) {
  begin();
  write("agent", "/f", "new");
  const Handle h = ok(view("main").open(me, node("main", "/f"), O_RDONLY));
  EXPECT_EQ(told(), (Told{"moved to f over another"}));
  view("main").release(h);
}

TEST_F(MergeTold, E10_GivenNothingNewOrOnlyAPlan_WhenMerged_ThenNothingIsTold) {
  begin();
  EXPECT_EQ(told(), Told{});
  write("agent", "/f", "new");
  Front front;
  ViewSpec spec;
  spec.branch = "main";
  auto watched = ok(fs->open_view(spec, &front));
  FileSystem::MergeRequest r;
  r.dry_run = true;
  join(r);
  EXPECT_EQ(front.told, Told{});
}

}  // namespace
}  // namespace indra
