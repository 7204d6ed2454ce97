// The feed from a connection of its own, beside the writer.
#include "events/feed.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "tree/internal/test_tree.h"

namespace indra {
namespace {

std::vector<std::string> told(Feed& f) {
  std::vector<std::string> all;
  for (;;) {
    const auto batch = f.next(7).value();  // a small limit: positions between batches are tried too
    for (const auto& e : batch.events)
      all.push_back(e.row.op + " " + e.path.value_or("?") + (e.from_path ? " from " + *e.from_path : ""));
    if (!batch.more) return all;
  }
}

// E1
TEST(Feed, GivenAMutationThatIsNotCommitted_WhenRead_ThenItIsNotSeen) {
  TestTree t;
  ASSERT_TRUE(t.writer->commit());
  auto f = Feed::open(t.dir, {}, Seq{}).value();
  (void)told(*f);
  ASSERT_TRUE(t.make(t.head(), kFirstNode, "a"));
  EXPECT_TRUE(told(*f).empty());
  ASSERT_TRUE(t.writer->commit());
  EXPECT_EQ(told(*f), std::vector<std::string>{"create /a"});
  EXPECT_TRUE(told(*f).empty());
}

// E1
TEST(Feed, GivenAMutationThatFails_WhenCommitted_ThenThereIsNoEvent) {
  TestTree t;
  ASSERT_TRUE(t.make(t.head(), kFirstNode, "a"));
  const Chain main = t.head();
  const auto failed = t.run([&](Tx& tx) -> Result<NodeRow> {
    NodeRow init;
    init.mode = S_IFREG | 0644;
    INDRA_TRY(t.tree->create(tx, t.who, main, kFirstNode, "b", init));
    return fail(ENOSPC);
  });
  ASSERT_FALSE(failed);
  ASSERT_TRUE(t.writer->commit());
  auto f = Feed::open(t.dir, {}, Seq{}).value();
  EXPECT_EQ(told(*f), std::vector<std::string>{"create /a"});
}

// E4: names as the events told them, also of what is gone since.
TEST(Feed, GivenDirectoriesRenamedAndRemovedSince_WhenRead_ThenPathsAreThoseOfTheTime) {
  TestTree t;
  const Chain main = t.head();
  const NodeId d = t.make(main, kFirstNode, "d", S_IFDIR | 0755)->node;
  const NodeId f = t.make(main, d, "f")->node;
  ASSERT_TRUE(t.write(main, f, 1));
  ASSERT_TRUE(t.rename(main, kFirstNode, "d", kFirstNode, "e"));
  t.clock.advance(2 * kSecond);
  ASSERT_TRUE(t.write(main, f, 2));
  ASSERT_TRUE(t.unlink(main, d, "f"));
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->rmdir(tx, t.who, main, kFirstNode, "e"); }));
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->reap(tx, main, d); }));
  ASSERT_TRUE(t.writer->commit());
  auto feed = Feed::open(t.dir, {}, Seq{}).value();
  EXPECT_EQ(told(*feed),
            (std::vector<std::string>{"mkdir /d", "create /d/f", "write /d/f", "rename /e from /d",
                                      "write /e/f", "unlink /e/f", "rmdir /e"}));
}

// E4: a reader that comes in the middle knows the names from the tree, or from the change that took them.
TEST(Feed, GivenAReaderThatResumes_WhenItKnowsNoNames_ThenPathsAreFound) {
  TestTree t;
  const Chain main = t.head();
  const NodeId d = t.make(main, kFirstNode, "d", S_IFDIR | 0755)->node;
  const NodeId a = t.make(main, d, "a")->node, b = t.make(main, d, "b")->node, c = t.make(main, d, "c")->node;
  ASSERT_TRUE(t.writer->commit());
  auto now = Feed::open(t.dir, {}, std::nullopt).value();
  for (const NodeId n : {a, b, c}) ASSERT_TRUE(t.write(main, n, 1));
  ASSERT_TRUE(t.unlink(main, d, "a"));
  ASSERT_TRUE(t.rename(main, d, "b", d, "c"));  // c loses its name to b
  ASSERT_TRUE(t.writer->commit());
  EXPECT_EQ(told(*now), (std::vector<std::string>{"write /d/a", "write /d/b", "write /d/c", "unlink /d/a",
                                                  "rename /d/c from /d/b"}));
}

// E2: the event of a publication that replaces another comes later than the one that was read.
TEST(Feed, GivenAPublicationThatWasRead_WhenAnotherReplacesIt_ThenTheWatcherHearsOfIt) {
  TestTree t;
  const NodeId f = t.make(t.head(), kFirstNode, "f")->node;
  ASSERT_TRUE(t.write(t.head(), f, 1));
  ASSERT_TRUE(t.writer->commit());
  auto feed = Feed::open(t.dir, {}, Seq{}).value();
  EXPECT_EQ(told(*feed), (std::vector<std::string>{"create /f", "write /f"}));
  ASSERT_TRUE(t.write(t.head(), f, 2));
  ASSERT_TRUE(t.writer->commit());
  EXPECT_EQ(told(*feed), std::vector<std::string>{"write /f"});
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM changes WHERE op = 8"), 1);
}

// E5
TEST(Feed, GivenFilters_WhenRead_ThenOnlyTheirsComesAndThePositionMovesOn) {
  TestTree t;
  const Chain main = t.head();
  const NodeId d = t.make(main, kFirstNode, "d", S_IFDIR | 0755)->node;
  ASSERT_TRUE(t.make(main, kFirstNode, "dd"));
  t.fork("side");
  const BranchId side = t.run([&](Tx& tx) { return t.tree->branch(tx, "main", "side"); })->id;
  ASSERT_TRUE(t.make(t.head(side), d, "of-side"));
  const NodeId f = t.make(main, d, "f")->node;
  ASSERT_TRUE(t.write(main, f, 1));
  ASSERT_TRUE(t.rename(main, d, "f", kFirstNode, "out"));
  ASSERT_TRUE(t.writer->commit());
  const auto with = [&](ChangeFilter filter) {
    auto feed = Feed::open(t.dir, std::move(filter), Seq{}).value();
    auto all = told(*feed);
    EXPECT_EQ(feed->position(), t.tree->last_seq());
    return all;
  };
  EXPECT_EQ(with({.branches = {"side"}, .kinds = {"create"}}), std::vector<std::string>{"create /d/of-side"});
  EXPECT_EQ(with({.subtrees = {{"main", "/d"}}}),
            (std::vector<std::string>{"mkdir /d", "create /d/f", "write /d/f", "rename /out from /d/f"}));
  EXPECT_EQ(with({.kinds = {"write", "rename"}}),
            (std::vector<std::string>{"write /d/f", "rename /out from /d/f"}));
  EXPECT_EQ(Feed::open(t.dir, {.kinds = {"wrte"}}, Seq{}).error().code, std::errc::invalid_argument);
  EXPECT_EQ(Feed::open(t.dir, {.bucket = "no"}, Seq{}).error().code, std::errc::no_such_file_or_directory);
}

}  // namespace
}  // namespace indra
