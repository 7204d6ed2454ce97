// docs/design/tree.md, T3 and T13: what an answer costs follows what is asked, not what lies around it.
// Counted in steps of SQLite's machine, so the same on every computer.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>

#include "tree/diff.h"
#include "tree/internal/test_tree.h"
#include "tree/names_of.h"

namespace indra {
namespace {

struct Counted : TestTree {
  /// Steps that `fn` takes; it must not fail.
  template <class F>
  std::uint64_t steps(F&& fn) {
    std::uint64_t n = 0;
    const auto count = [](void* p) { return ++*static_cast<std::uint64_t*>(p), 0; };
    const auto r = run([&](Tx& tx) {
      sqlite3_progress_handler(tx.db().raw(), 1, count, &n);
      auto out = fn(tx);
      sqlite3_progress_handler(tx.db().raw(), 0, nullptr, nullptr);
      return out;
    });
    EXPECT_TRUE(r) << r.error().text();
    return n;
  }
};

int branches_wanted() {
  const char* n = std::getenv("INDRA_BRANCHES");
  return n == nullptr ? 200 : std::atoi(n);
}

TEST(Cost, GivenChangesInLargeDirectories_WhenAskedForThem_ThenTheDirectoriesAreNotRead) {  // T13, F1
  const auto cost = [](int files) {
    Counted t;
    const Chain c = t.head();
    std::vector<NodeId> dirs, changed;
    for (int d = 0; d < 10; ++d) {
      dirs.push_back(t.make(c, kFirstNode, "d" + std::to_string(d), S_IFDIR | 0755)->node);
      for (int f = 0; f < files; ++f) {
        const auto made = t.make(c, dirs.back(), "f" + std::to_string(f)).value();
        if (f == files / 2) changed.push_back(made.node);
      }
    }
    const Chain fork = t.head(t.fork("fork").id);
    const Chain before = t.at(BranchId{1}, t.snapshot("s").seq);
    for (std::size_t i = 0; i < changed.size(); ++i) {
      EXPECT_TRUE(t.write(fork, changed[i], 1));
      EXPECT_TRUE(t.write(c, changed[i], 2));
    }
    std::uint64_t n = 0;
    for (const auto& [x, y] : {std::pair{c, fork}, std::pair{before, c}})
      n += t.steps([&, x = x, y = y](Tx& tx) -> Result<bool> {
        INDRA_LET(const auto all, diff_views(tx, x, y, kFirstNode));
        EXPECT_EQ(all.size(), changed.size());
        return true;
      });
    n += t.steps([&](Tx& tx) { return line_versions(tx, c, dirs[3], "f" + std::to_string(files / 2)); });
    return n;
  };
  const auto small = cost(4), large = cost(200);
  EXPECT_LT(large, small + small / 4) << small;
}

TEST(Cost, GivenAFileWhoseNamesItsRowDoesNotTell_WhenCompared_ThenTheyAreFound) {  // T13, F4
  const auto cost = [](int files) {
    Counted t;
    const Chain c = t.head();
    const auto away = t.make(c, kFirstNode, "away", S_IFDIR | 0755).value();
    const auto f = t.make(c, kFirstNode, "f").value();
    for (const char* name : {"g", "h"})
      EXPECT_TRUE(t.run([&](Tx& tx) { return t.tree->link(tx, t.who, c, f.node, away.node, name); }));
    for (int i = 0; i < files; ++i) EXPECT_TRUE(t.make(c, away.node, "other" + std::to_string(i)));
    EXPECT_FALSE(t.unlink(c, kFirstNode, "f")->parent);
    const Chain fork = t.head(t.fork("fork").id);
    EXPECT_TRUE(t.write(fork, f.node, 1));
    EXPECT_TRUE(t.unlink(c, away.node, "h"));  // seen by the fork in the past alone
    const auto n = t.steps([&](Tx& tx) -> Result<bool> {
      INDRA_LET(const auto all, diff_views(tx, c, fork, kFirstNode));
      EXPECT_EQ(all.size(), 2u);
      if (all.size() != 2) return false;
      EXPECT_TRUE(all[0].content && all[0].a->path == "/away/g" && all[0].b->path == "/away/g");
      EXPECT_TRUE(!all[1].a && all[1].b->path == "/away/h");
      return true;
    });
    return n;
  };
  const auto small = cost(4), large = cost(400);
  EXPECT_LT(large, small + small / 4) << small;
}

// Every branch has another file at one name, other content in one file, and a file of one name moved about.
TEST(Cost, GivenNamesChangedOnManyBranches_WhenSeenFromAnyOfThem_ThenFewOfTheirRowsAreRead) {  // T3, T13
  const auto cost = [](int branches) {
    Counted t;
    const Chain main = t.head();
    const auto dir = t.make(main, kFirstNode, "dir", S_IFDIR | 0755).value();
    const auto file = t.make(main, dir.node, "content").value();
    const auto wanders = t.make(main, dir.node, "wanders").value();
    EXPECT_TRUE(t.make(main, dir.node, "edge"));
    EXPECT_TRUE(t.make(main, dir.node, "last"));
    std::vector<Chain> views{main};
    for (int b = 0; b < branches; ++b) {
      const Chain c = t.head(t.fork("b" + std::to_string(b)).id);
      if (b != branches / 2) {  // that one has it from main
        EXPECT_TRUE(t.write(c, file.node, b));
        EXPECT_TRUE(t.unlink(c, dir.node, "edge"));
        EXPECT_TRUE(t.make(c, dir.node, "edge"));
        EXPECT_TRUE(t.rename(c, dir.node, "wanders", dir.node, "wanders-" + std::to_string(b % 3)));
      }
      if (b == 0 || b == branches / 2 || b == branches - 1) views.push_back(c);
    }
    std::vector<std::uint64_t> all;
    for (const Chain& c : views) {
      all.push_back(t.steps([&](Tx& tx) -> Result<bool> {
        int n = 0;
        INDRA_TRY(t.tree->list(tx, c, dir.node, 0, true, 100, [&](const Tree::Listed& e) {
          n += e.row != nullptr;
          return true;
        }));
        EXPECT_EQ(n, 4);
        INDRA_LET(const auto found, t.tree->lookup_node(tx, c, dir.node, "content"));
        EXPECT_TRUE(found);
        INDRA_LET(const auto names, names_of(tx, c, wanders.node));
        EXPECT_EQ(names.size(), 1u);
        return true;
      }));
    }
    return *std::max_element(all.begin(), all.end());
  };
  const auto few = cost(50), many = cost(branches_wanted());
  EXPECT_LT(many, few + few / 4) << few;
}

TEST(Cost, GivenAChainOfForksAmongManyOthers_WhenSeenFromItsEnd_ThenItsLengthIsTheBound) {  // T3
  const auto cost = [](int others) {
    Counted t;
    const Chain main = t.head();
    const auto file = t.make(main, kFirstNode, "f").value();
    BranchId tip{1};
    for (int level = 0; level < 5; ++level) {
      tip = t.fork("level" + std::to_string(level), tip).id;
      for (int i = 0; i < others; ++i)
        EXPECT_TRUE(
            t.write(t.head(t.fork(std::to_string(level) + "-" + std::to_string(i)).id), file.node, i));
    }
    const Chain c = t.head(tip);
    return t.steps([&](Tx& tx) -> Result<bool> {
      INDRA_LET(const auto found, t.tree->lookup_node(tx, c, kFirstNode, "f"));
      EXPECT_TRUE(found && found->branch == BranchId{1});
      return true;
    });
  };
  const auto few = cost(12), many = cost(40);
  EXPECT_LE(many, few + few / 4) << few;
}

TEST(Crowd, GivenAChainThatRisesAsNoneShould_WhenAsked_ThenItIsStillClimbed) {  // T3: a damaged vault
  TestTree t;
  const auto fork = t.fork("fork");
  const auto file = t.make(t.head(fork.id), kFirstNode, "f").value();
  const Chain risen{{{BranchId{1}, kSeqMax}, {fork.id, kSeqMax}}};
  EXPECT_FALSE(risen.descends());
  const auto found = t.find(risen, kFirstNode, "f");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->node, file.node);
  EXPECT_EQ(t.run([&](Tx& tx) { return name_in(tx, risen, file.node, kFirstNode); }).value(), "f");
}

// Sixty branches forked from each other, each with its own of five names: each sees what a plain map says.
TEST(Crowd, GivenBranchesForkedFromEachOther_WhenAllChangeTheSameNames_ThenEachSeesItsOwn) {  // T1, T3
  std::mt19937 random{20260101};
  const auto any = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  for (int round = 0; round < 3; ++round) {
    TestTree t;
    struct Branch {
      BranchId id;
      Chain head;
      std::map<std::string, int> files;  // name -> what it says
      std::vector<std::pair<Seq, std::map<std::string, int>>> moments;
    };
    std::vector<Branch> all{{BranchId{1}, t.head(), {}, {}}};
    int says = 0;
    for (int step = 0; step < 1200; ++step) {
      Branch& b = all[any(all.size())];
      const std::string name = "n" + std::to_string(any(5));
      if (all.size() < 60 && any(8) == 0) {
        const auto id = t.fork("b" + std::to_string(all.size()), b.id).id;
        all.push_back({id, t.head(id), b.files, {}});
      } else if (any(20) == 0) {
        b.moments.emplace_back(t.snapshot("s" + std::to_string(step), b.id).seq, b.files);
      } else if (!b.files.contains(name)) {
        ASSERT_TRUE(t.write(b.head, t.make(b.head, kFirstNode, name)->node, ++says));
        b.files[name] = says;
      } else if (any(3) == 0) {
        ASSERT_TRUE(t.unlink(b.head, kFirstNode, name));
        b.files.erase(name);
      } else {
        ASSERT_TRUE(t.write(b.head, t.find(b.head, kFirstNode, name)->node, ++says));
        b.files[name] = says;
      }
    }
    const auto check = [&](const Chain& c, const std::map<std::string, int>& want) {
      std::map<std::string, int> listed;
      ASSERT_TRUE(t.run([&](Tx& tx) -> Result<void> {
        return t.tree->list(tx, c, kFirstNode, 0, true, 100, [&](const Tree::Listed& e) {
          listed[std::string{e.name}] = e.row == nullptr ? -1 : t.store.content[e.row->blob];
          return true;
        });
      }));
      EXPECT_EQ(listed, want);
      for (int i = 0; i < 5; ++i) {
        const auto name = "n" + std::to_string(i);
        const auto found = t.find(c, kFirstNode, name);
        ASSERT_EQ(found.has_value(), want.contains(name));
        if (!found) continue;
        EXPECT_EQ(t.store.content[found->blob], want.at(name));
        const auto names = t.run([&](Tx& tx) { return names_of(tx, c, found->node); }).value();
        ASSERT_EQ(names.size(), 1u);
        EXPECT_EQ(names.begin()->name, name);
      }
    };
    for (const Branch& b : all) {
      check(b.head, b.files);
      for (const auto& [seq, files] : b.moments) check(t.at(b.id, seq), files);
    }
  }
}

}  // namespace
}  // namespace indra
