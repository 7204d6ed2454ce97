// docs/branches.md, U1..U5: restore and undelete.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "fs/history.h"
#include "fs/internal/merge_world.h"
#include "fs/restore.h"
#include "fs/space.h"

namespace indra {
namespace {

using Tree1 = std::map<std::string, std::string>;

struct World : MergeWorld {
  int names = 0;
  std::string snapshot() {
    const std::string name = "s" + std::to_string(++names);
    ok(fs->create_snapshot(who, "main", "main", name, ""));
    return name;
  }
  Result<Restored> back(const std::string& path, const std::string& snapshot, const std::string& to = "") {
    RestoreRequest r;
    r.from.snapshot = snapshot;
    r.path = path;
    r.to = to;
    return restore(*fs, who, "main", r);
  }
  /// The whole branch as it was at a moment.
  Tree1 at_seq(Seq s) {
    const std::string name = "look" + std::to_string(++names);
    ok(fs->fork(who, "main", name, {.branch = "main", .snapshot = {}, .seq = s, .time = {}}));
    return tree(name);
  }
  static Tree1 below(const Tree1& all, const std::string& top, bool in = true) {
    Tree1 out;
    for (const auto& [p, what] : all)
      if ((p == top || p.starts_with(top + "/")) == in) out[p] = what;
    return out;
  }
  /// Names of one file below `top`; with `whole` only where all of its names lie there.
  std::set<std::set<std::string>> links(const std::string& top, bool whole = true) {
    std::map<std::int64_t, std::pair<std::uint32_t, std::set<std::string>>> by_node;
    for (const auto& [p, what] : below(tree("main"), top)) {
      if (!what.starts_with("F")) continue;
      const Attr a = at("main", p);
      by_node[a.node.raw()].first = a.nlink;
      by_node[a.node.raw()].second.insert(p);
    }
    std::set<std::set<std::string>> out;
    for (const auto& [node, n] : by_node)
      if (n.second.size() > 1 && (!whole || n.first == n.second.size())) out.insert(n.second);
    return out;
  }
  std::vector<DeletedPath> deleted(const std::string& path = "/") {
    return ok(deleted_below(*fs, "main", "main", path, 100));
  }
  Result<Restored> bring_back(const std::string& path, const std::string& to = "") {
    return undelete(*fs, who, "main", {.branch = "main", .path = path, .node = {}, .to = to});
  }
  /// As `rm -r`.
  void remove_tree(const std::string& path) {
    const Tree1 all = below(tree("main"), path);
    for (auto i = all.rbegin(); i != all.rend(); ++i)
      i->second.starts_with("D") ? rmdir("main", i->first) : unlink("main", i->first);
  }
};

using Step = std::tuple<std::uint8_t, std::uint8_t, std::uint8_t, std::uint8_t, std::uint8_t>;

void play(World& w, const std::vector<Step>& steps) {
  static int said = 0;
  for (const auto& [op, x, y, z, t] : steps) {
    std::vector<std::string> dirs{"", "/p", "/p"};
    for (const auto& [p, what] : w.tree("main"))
      if (what.starts_with("D")) dirs.push_back(p);
    const auto name = [](std::uint8_t v) { return "/" + std::string(1, static_cast<char>('a' + v % 4)); };
    const std::string a = dirs[x % dirs.size()] + name(y), b = dirs[z % dirs.size()] + name(t);
    const std::string text = "text " + std::to_string(++said);
    if (t % 3 == 0) w.clock.advance(kSecond * (t % 11));
    try {
      switch (op % 12) {
        case 0:
        case 1:
          w.mkdir("main", a);
          break;
        case 2:
        case 3:
          w.write("main", a, text);
          break;
        case 4:
          w.replace("main", a, text);
          break;
        case 5:
        case 6:
        case 7:
          w.rename("main", a, b);
          break;
        case 8:
          w.unlink("main", a);
          break;
        case 9:
          w.there("main", a) ? w.remove_tree(a) : w.symlink("main", "somewhere", a);
          break;
        case 10:
          w.link("main", a, b);
          break;
        case 11:
          w.chmod("main", a, 0600 | (t & 0111));
          break;
      }
    } catch (const std::runtime_error&) {  // as a shell's user: goes on
    }
  }
}

RC_GTEST_PROP(RestoreProperty, WhatWasIsThereAgainAndWhatWasThereIsKept, ()) {  // U1, U2
  const auto steps = rc::gen::scale(0.7, rc::gen::arbitrary<std::vector<Step>>());
  const auto first = *steps, then = *steps;
  const bool beside = *rc::gen::arbitrary<bool>();
  World w;
  w.mkdir("main", "/p");
  w.mkdir("main", "/q");
  play(w, first);
  const std::string s = w.snapshot();
  const Tree1 want = w.tree("main");
  const auto linked = w.links("/p");
  play(w, then);
  const Tree1 before = w.tree("main");
  const bool was = want.contains("/p");
  if (beside) {
    const auto done = w.back("/p", s, "/copy");
    RC_ASSERT(done.has_value() == was);
    Tree1 all = w.tree("main"), copy;
    for (const auto& [p, what] : World::below(want, "/p")) copy["/copy" + p.substr(2)] = what;
    RC_ASSERT(World::below(all, "/copy") == copy);
    RC_ASSERT(World::below(all, "/copy", false) == before);
    return;
  }
  const auto done = w.back("/p", s);
  RC_ASSERT(done.has_value() == was);
  if (!was) {
    RC_ASSERT(w.tree("main") == before);
    return;
  }
  const Tree1 after = w.tree("main");
  RC_ASSERT(World::below(after, "/p") == World::below(want, "/p"));
  RC_ASSERT(World::below(after, "/p", false) == World::below(before, "/p", false));
  const auto linked_now = w.links("/p", false);  // one may have been moved out meanwhile, and stays there too
  for (const auto& names : linked) RC_ASSERT(linked_now.contains(names));
  RC_ASSERT(w.at_seq(done->before) == before);
  RC_ASSERT(w.back("/p", s).has_value());  // once more: it stays so
  RC_ASSERT(w.tree("main") == after);
}

struct Restoring : ::testing::Test {
  World w;
};

TEST_F(Restoring, GivenAFileWrittenJustNow_WhenRestored_ThenThatVersionIsKept) {  // U2
  w.write("main", "/f", "old");
  const auto s = w.snapshot();
  for (int i = 0; i < 5; ++i) {  // far faster than automatic pins would keep versions (T6)
    w.write("main", "/f", "new " + std::to_string(i));
    const auto done = MergeWorld::ok(w.back("/f", s));
    EXPECT_EQ(w.read("main", "/f"), "old");
    EXPECT_EQ(w.at_seq(done.before).at("/f"), "F 644 new " + std::to_string(i));
  }
  const auto all = MergeWorld::ok(versions_of(*w.fs, "main", {}, "/f"));
  EXPECT_EQ(all.size(), 11u);  // one line: old, five times a new one and the old one again
}

TEST_F(Restoring, GivenABucketWithoutVersions_WhenRestored_ThenWhatWasThereIsKeptAllTheSame) {  // U2
  ASSERT_TRUE(keep_versions(*w.fs, "main", {false, 86400 * kSecond, 0, 0}));
  w.write("main", "/f", "old");
  const auto s = w.snapshot();
  w.write("main", "/f", "new");
  const auto done = MergeWorld::ok(w.back("/f", s));
  EXPECT_EQ(w.read("main", "/f"), "old");
  EXPECT_EQ(w.at_seq(done.before).at("/f"), "F 644 new");
  const auto same = MergeWorld::ok(w.back("/f", s));
  EXPECT_EQ(w.at_seq(same.before).at("/f"), "F 644 old");
}

TEST_F(Restoring, GivenAFileThatIsOpen_WhenRestored_ThenWhoHasItGoesOnReadingIt) {  // U2
  w.write("main", "/f", "old");
  const auto s = w.snapshot();
  w.write("main", "/f", "new");
  View& v = w.view("main");
  const Handle h = MergeWorld::ok(v.open(w.me, w.at("main", "/f").node, O_RDWR));
  MergeWorld::ok(v.write(w.me, h, 3, as_view("er"), false, false));  // not published yet
  const auto done = MergeWorld::ok(w.back("/f", s));
  Bytes bytes(8);
  EXPECT_EQ(MergeWorld::ok(v.read(h, 0, bytes)), 5u);
  EXPECT_EQ(as_text(ByteView{bytes}.first(5)), "newer");
  v.release(h);
  EXPECT_EQ(w.read("main", "/f"), "old");
  EXPECT_EQ(w.at_seq(done.before).at("/f"), "F 644 newer");
}

TEST_F(Restoring, GivenAFileThatIsBeingWritten_WhenRestored_ThenTheWriterLosesNothing) {  // U2, S13
  w.write("main", "/f", "old");
  const auto s = w.snapshot();
  w.write("main", "/f", "new");
  View& v = w.view("main");
  const Handle h = MergeWorld::ok(v.open(w.me, w.at("main", "/f").node, O_RDWR));
  MergeWorld::ok(w.back("/f", s));
  MergeWorld::ok(v.write(w.me, h, 0, as_view("late"), false, false));
  MergeWorld::ok(v.flush(w.me, h));
  v.release(h);
  EXPECT_EQ(w.read("main", "/f"), "old");
  bool kept = false;
  for (const Version& one : MergeWorld::ok(versions_of(*w.fs, "main", {}, "/f"))) {
    const Bytes bytes = MergeWorld::ok(content_of(*w.fs, "main", one.row, 100));
    kept = kept || as_text(ByteView{bytes}) == "late";
  }
  EXPECT_TRUE(kept);
}

TEST_F(Restoring, GivenWhatIsUnchanged_WhenItsDirectoryIsRestored_ThenItIsLeftAlone) {  // U1
  w.mkdir("main", "/p");
  w.write("main", "/p/a", "a");
  w.write("main", "/p/b", "b");
  const auto s = w.snapshot();
  w.rename("main", "/p/a", "/p/z");
  const Attr a = w.at("main", "/p/z"), b = w.at("main", "/p/b");
  const auto done = MergeWorld::ok(w.back("/p", s));
  EXPECT_EQ(done.steps.size(), 1u);
  EXPECT_EQ(w.at("main", "/p/a").node, a.node);  // moved back
  EXPECT_EQ(w.at("main", "/p/b").node, b.node);
  EXPECT_TRUE(MergeWorld::ok(w.back("/p", s)).steps.empty());
}

TEST_F(Restoring, GivenANameLessOfAFileInAnotherDirectory_WhenRestored_ThenItIsANameOfThatFileAgain) {  // U1
  w.mkdir("main", "/p");
  w.mkdir("main", "/untouched");
  w.write("main", "/untouched/f", "f");
  w.write("main", "/untouched/changed", "old");
  w.link("main", "/untouched/f", "/p/g");
  w.link("main", "/untouched/changed", "/p/h");
  const auto s = w.snapshot();
  w.unlink("main", "/p/g");
  w.unlink("main", "/p/h");
  w.write("main", "/untouched/changed", "new");
  MergeWorld::ok(w.back("/p", s));
  EXPECT_EQ(w.at("main", "/p/g").node, w.at("main", "/untouched/f").node);
  EXPECT_EQ(w.at("main", "/p/g").nlink, 2u);
  EXPECT_EQ(w.read("main", "/p/h"), "old");  // what that was: not what the other name means now
  EXPECT_EQ(w.read("main", "/untouched/changed"), "new");
}

TEST_F(Restoring, GivenANameOfAFileThatWasReplaced_WhenRestored_ThenItIsANameOfThatFileAgain) {  // U1
  w.mkdir("main", "/p");
  w.write("main", "/p/b", "one");
  w.link("main", "/p/b", "/p/d");
  w.write("main", "/p/x", "two");
  w.link("main", "/p/x", "/p/y");
  w.link("main", "/p/x", "/p/z");
  const auto s = w.snapshot();
  w.replace("main", "/p/d", "another");  // as an editor saves: the document goes on in another node
  w.replace("main", "/p/x", "another");
  w.replace("main", "/p/y", "a third");
  w.unlink("main", "/p/z");
  MergeWorld::ok(w.back("/p", s));
  EXPECT_EQ(w.links("/p"), (std::set<std::set<std::string>>{{"/p/b", "/p/d"}, {"/p/x", "/p/y", "/p/z"}}));
  EXPECT_EQ(w.read("main", "/p/d"), "one");
  EXPECT_EQ(w.read("main", "/p/z"), "two");
}

TEST_F(Restoring, GivenANameThatTookAnothersPlace_WhenRestored_ThenItIsANameOfItsFileAgain) {  // U1
  w.mkdir("main", "/p");
  w.write("main", "/p/b", "one");
  w.link("main", "/p/b", "/p/d");
  w.write("main", "/c", "other");
  const auto s = w.snapshot();
  w.rename("main", "/p/d", "/c");  // the file goes on as the document that was there
  MergeWorld::ok(w.back("/p", s));
  EXPECT_EQ(w.at("main", "/p/d").node, w.at("main", "/p/b").node);
  EXPECT_EQ(w.read("main", "/c"), "one");
}

TEST_F(Restoring, GivenAFileWithANameElsewhere_WhenItsModeIsRestored_ThenWhatLiesElsewhereStays) {  // U1
  w.mkdir("main", "/p");
  w.write("main", "/p/f", "f");
  w.link("main", "/p/f", "/p/g");
  w.link("main", "/p/f", "/outside");
  const auto s = w.snapshot();
  w.chmod("main", "/outside", 0600);
  MergeWorld::ok(w.back("/p", s));
  EXPECT_EQ(w.at("main", "/outside").mode & 0777, 0600u);
  EXPECT_EQ(w.at("main", "/p/f").mode & 0777, 0644u);
  EXPECT_EQ(w.links("/p"), (std::set<std::set<std::string>>{{"/p/f", "/p/g"}}));
  EXPECT_EQ(w.read("main", "/p/g"), "f");
}

TEST_F(Restoring, GivenAProtectedBranchOrNoSuchPlace_WhenRestored_ThenNothingChanges) {  // U3
  w.mkdir("main", "/p");
  w.write("main", "/p/f", "old");
  const auto s = w.snapshot();
  w.write("main", "/p/f", "new");
  EXPECT_EQ(w.back("/nothing", s).error().code, std::errc::no_such_file_or_directory);
  EXPECT_EQ(w.back("/p/f", "nobody").error().code, std::errc::no_such_file_or_directory);
  EXPECT_EQ(w.back("/p/f", s, "/p/f").error().code, std::errc::file_exists);
  EXPECT_EQ(w.back("/p/f", s, "/nowhere/f").error().code, std::errc::no_such_file_or_directory);
  RestoreRequest dry{.branch = "main", .from = {}, .path = "/p", .to = {}, .dry_run = true};
  dry.from.snapshot = s;
  EXPECT_EQ(MergeWorld::ok(restore(*w.fs, w.who, "main", dry)).steps.size(), 1u);
  MergeWorld::ok(w.fs->protect_branch(w.who, "main", "main", true));
  EXPECT_EQ(w.back("/p/f", s).error().code, std::errc::read_only_file_system);
  EXPECT_EQ(w.read("main", "/p/f"), "new");
  MergeWorld::ok(w.fs->protect_branch(w.who, "main", "main", false));
  w.remove_tree("/p");
  EXPECT_EQ(w.back("/p/f", s).error().code, std::errc::no_such_file_or_directory);
  ASSERT_TRUE(w.back("/p", s));
  EXPECT_EQ(w.read("main", "/p/f"), "old");
}

TEST_F(Restoring, GivenADeletedFile_WhenBroughtBack_ThenItIsTheSameDocument) {  // U4
  w.write("main", "/f", "one");
  w.snapshot();
  w.write("main", "/f", "two");
  w.snapshot();
  w.pause();
  w.unlink("main", "/f");
  while (MergeWorld::ok(w.fs->tick())) {
  }
  const auto all = w.deleted();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].path, "/f");
  EXPECT_EQ(all[0].what.row.size, 3u);
  EXPECT_NE(all[0].what.time, 0);
  ASSERT_TRUE(w.bring_back("/f"));
  EXPECT_EQ(w.read("main", "/f"), "two");
  EXPECT_EQ(MergeWorld::ok(versions_of(*w.fs, "main", {}, "/f")).size(), 3u);
  EXPECT_TRUE(w.deleted().empty());
}

TEST_F(Restoring, GivenWhatWasMovedOrReplaced_WhenListed_ThenItIsNotCalledDeleted) {  // U4
  w.mkdir("main", "/d");
  w.write("main", "/f", "one");
  w.write("main", "/g", "one");
  w.snapshot();
  w.replace("main", "/f", "two");
  w.rename("main", "/g", "/d/g");
  w.snapshot();
  w.rename("main", "/f", "/d/f");
  w.snapshot();
  EXPECT_TRUE(w.deleted().empty());
  w.unlink("main", "/d/g");
  w.pause();
  w.write("main", "/d/g", "another document");
  w.snapshot();
  ASSERT_EQ(w.deleted().size(), 1u);
  EXPECT_EQ(w.bring_back("/d/g").error().code, std::errc::file_exists);
  EXPECT_TRUE(w.deleted("/e").empty());
  EXPECT_EQ(w.deleted("/d").size(), 1u);
  const auto n = w.deleted()[0].what.row.node;
  ASSERT_TRUE(undelete(*w.fs, w.who, "main", {.branch = "main", .path = "", .node = n, .to = "/d/old"}));
  EXPECT_EQ(w.read("main", "/d/old"), "one");
  EXPECT_EQ(w.read("main", "/d/g"), "another document");
}

TEST_F(Restoring, GivenADeletedTree_WhenBroughtBack_ThenAllThatWentWithItIsThere) {  // U5
  w.mkdir("main", "/d");
  w.mkdir("main", "/d/deep");
  w.write("main", "/d/deep/f", "f");
  w.write("main", "/d/long-gone", "x");
  w.write("main", "/d/g", "g");
  w.link("main", "/d/g", "/d/deep/h");
  w.symlink("main", "g", "/d/link");
  w.chmod("main", "/d/deep", 0700);
  w.snapshot();
  MergeWorld::ok(
      w.view("main").unlink({.uid = 0, .gid = 0, .pid = 77}, w.at("main", "/d").node, "long-gone"));
  const Tree1 before = w.tree("main");
  w.snapshot();
  w.unlink("main", "/d/deep/f");
  w.snapshot();  // also when a moment fell into it
  w.remove_tree("/d");
  ASSERT_EQ(w.deleted().size(), 1u);
  EXPECT_EQ(w.deleted()[0].path, "/d");
  ASSERT_TRUE(w.bring_back("/d"));
  EXPECT_EQ(w.tree("main"), before);
  EXPECT_EQ(w.at("main", "/d/g").node, w.at("main", "/d/deep/h").node);
}

TEST_F(Restoring, GivenWhatWasBroughtBackAndDeletedAgain_WhenBroughtBack_ThenAllOfItIsThere) {  // U4, U5
  w.mkdir("main", "/d");
  w.write("main", "/d/a", "a");
  w.write("main", "/f", "f");
  w.snapshot();
  for (int n = 0; n < 3; ++n) {
    w.remove_tree("/d");
    w.unlink("main", "/f");
    MergeWorld::ok(w.bring_back("/d"));
    MergeWorld::ok(w.bring_back("/f"));
    EXPECT_EQ(w.read("main", "/d/a"), "a");
    EXPECT_EQ(w.read("main", "/f"), "f");
  }
  // Under a name that no pin has seen.
  w.rename("main", "/f", "/g");
  w.unlink("main", "/g");
  MergeWorld::ok(w.bring_back("/g"));
  EXPECT_EQ(w.read("main", "/g"), "f");
}

TEST_F(Restoring, GivenAFork_WhenWhatItInheritedIsDeleted_ThenItComesBackThere) {  // U4
  w.mkdir("main", "/d");
  w.write("main", "/d/f", "f");
  w.fork("b");
  w.unlink("b", "/d/f");
  w.rmdir("b", "/d");
  const auto all = MergeWorld::ok(deleted_below(*w.fs, "main", "b", "/", 10));
  ASSERT_EQ(all.size(), 1u);
  ASSERT_TRUE(undelete(*w.fs, w.who, "main", {.branch = "b", .path = "/d", .node = {}, .to = {}}));
  EXPECT_EQ(w.read("b", "/d/f"), "f");
  EXPECT_EQ(w.read("main", "/d/f"), "f");
}

// Of a large directory, which is read in parts, a part may be gone by then.
TEST(Moments, GivenASnapshotThatIsDeletedWhileItIsRead_WhenAllIsRead_ThenItIsKnown) {
  World w;
  w.mkdir("main", "/d");
  for (int n = 0; n < 300; ++n) w.write("main", "/d/" + std::to_string(n), "x");
  (void)World::ok(w.fs->create_snapshot(w.who, "main", "main", "then", ""));
  for (int n = 0; n < 300; ++n) w.unlink("main", "/d/" + std::to_string(n));
  ViewSpec spec;
  spec.snapshot = "then";
  const auto then = World::ok(w.fs->open_view(spec, nullptr));
  const Handle h = World::ok(then->opendir(World::ok(resolve_path(*then, "/d")).node));
  std::size_t names = 0;
  for (std::size_t before = 1, cookie = 0; before != names;) {
    before = names;
    World::ok(then->readdir(h, cookie, false, [&](const DirEntry& e) {
      cookie = e.cookie;
      return ++names != 0;
    }));
    if (before != 0) continue;
    EXPECT_TRUE(still_kept(*w.fs, *then));
    World::ok(w.fs->delete_snapshot(w.who, "main", "then"));
    World::ok(prune(*w.fs, {.bucket = "main", .older = 0}));
    w.pause();
    for (int i = 0; i < 100 && World::ok(w.fs->tick()); ++i) w.pause();
    World::ok(w.fs->settle());
  }
  then->releasedir(h);
  EXPECT_LT(names, 300u);  // in silence: the end is where it is
  const auto kept = still_kept(*w.fs, *then);
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, std::errc{ESTALE});
}

}  // namespace
}  // namespace indra
