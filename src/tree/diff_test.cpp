// docs/branches.md, F1..F4: diff_views() against a walk of both whole trees.
#include "tree/diff.h"

#include <gtest/gtest.h>
#include <linux/fs.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "tree/internal/test_tree.h"

namespace indra {
namespace {

using Line = std::tuple<std::string, std::string, std::int64_t, std::int64_t, bool, bool, bool>;

struct Walked {
  struct At {
    NodeId parent;
    std::string name, path;
  };
  std::map<NodeId, std::vector<At>> names;
  std::map<NodeId, NodeRow> rows;
};

Walked walk(TestTree& t, const Chain& c) {
  Walked w;
  std::vector<std::pair<NodeId, std::string>> todo{{kFirstNode, ""}};
  w.rows[kFirstNode] = t.run([&](Tx& tx) { return t.tree->node(tx, c, kFirstNode); }).value();
  w.names[kFirstNode].push_back({NodeId{}, "", "/"});
  while (!todo.empty()) {
    const auto [dir, path] = todo.back();
    todo.pop_back();
    RC_ASSERT(t.run([&, dir = dir, path = path](Tx& tx) {
                 return t.tree->list(tx, c, dir, 0, true, INT_MAX, [&](const Tree::Listed& e) {
                   const std::string p = path + "/" + std::string{e.name};
                   w.names[e.edge.node].push_back({dir, std::string{e.name}, p});
                   w.rows[e.edge.node] = *e.row;
                   if (S_ISDIR(e.row->mode)) todo.emplace_back(e.edge.node, p);
                   return true;
                 });
               }).has_value());
  }
  return w;
}

bool content(const NodeRow& x, const NodeRow& y) {
  return (x.mode & S_IFMT) != (y.mode & S_IFMT) || x.blob != y.blob || x.size != y.size ||
         x.target != y.target;
}

/// `silent`: a file that went and one that came, of one line at one place, with nothing else to tell them
/// apart. Where they are taken for one, there is nothing to say of it.
struct Expected {
  std::set<Line> all;
  std::vector<std::pair<Line, Line>> silent;
};

Expected expected(const Walked& x, const Walked& y) {
  Expected result;
  std::set<Line>& out = result.all;
  using Gone = std::pair<NodeId, Walked::At>;
  std::vector<Gone> gone, fresh;
  const auto both = [&](NodeId n, const Walked::At& p, NodeId m, const Walked::At& q) {
    const NodeRow &r = x.rows.at(n), &s = y.rows.at(m);
    const bool moved = p.parent != q.parent || p.name != q.name, c = content(r, s),
               mode = (r.mode & 07777) != (s.mode & 07777);
    if (moved || c || mode) out.insert({p.path, q.path, n.raw(), m.raw(), moved, c, mode});
  };
  std::set<NodeId> all;
  for (const auto& [n, at] : x.names) all.insert(n);
  for (const auto& [n, at] : y.names) all.insert(n);
  for (const NodeId n : all) {
    const auto of = [&](const Walked& w) {
      return w.names.contains(n) ? w.names.at(n) : std::vector<Walked::At>{};
    };
    auto p = of(x), q = of(y);
    if (p.size() == 1 && q.size() == 1) {
      both(n, p[0], n, q[0]);
      continue;
    }
    for (const auto& i : p) {
      const auto j = std::find_if(q.begin(), q.end(),
                                  [&](const auto& o) { return o.parent == i.parent && o.name == i.name; });
      if (j == q.end()) {
        gone.emplace_back(n, i);
      } else {
        both(n, i, n, *j);
        q.erase(j);
      }
    }
    for (const auto& j : q) fresh.emplace_back(n, j);
  }
  // Lines that go on elsewhere are taken apart on both sides of the comparison: which of several is paired is
  // nobody's promise.
  const auto went = [](const Gone& g) -> Line {
    return {g.second.path, "", g.first.raw(), 0, false, false, false};
  };
  const auto came = [](const Gone& f) -> Line {
    return {"", f.second.path, 0, f.first.raw(), false, false, false};
  };
  for (const auto& g : gone) out.insert(went(g));
  for (const auto& f : fresh) out.insert(came(f));
  for (const auto& g : gone)
    for (const auto& f : fresh) {
      const NodeRow &r = x.rows.at(g.first), &s = y.rows.at(f.first);
      if (r.line == s.line && S_ISREG(r.mode) && S_ISREG(s.mode) && g.second.parent == f.second.parent &&
          g.second.name == f.second.name && !content(r, s) && r.mode == s.mode)
        result.silent.emplace_back(went(g), came(f));
    }
  return result;
}

/// Everything that is told is expected; what is not told are silent pairs.
bool right(const std::set<Line>& told, Expected want) {
  for (const Line& l : told)
    if (want.all.erase(l) == 0) return false;
  for (const auto& [went, came] : want.silent)
    if (want.all.contains(went) && want.all.contains(came)) want.all.erase(went), want.all.erase(came);
  return want.all.empty();
}

std::set<Line> told(TestTree& t, const Chain& a, const Chain& b) {
  std::set<Line> out;
  const auto all = t.run([&](Tx& tx) { return diff_views(tx, a, b, kFirstNode); }).value();
  for (const DiffEntry& e : all) {
    const bool several =
        e.a && e.b && e.moved && !S_ISDIR(e.a->row.mode) && (e.a->row.nlink > 1 || e.b->row.nlink > 1);
    if (e.a && e.b && e.a->row.node == e.b->row.node && !several) {
      out.insert(
          {e.a->path, e.b->path, e.a->row.node.raw(), e.b->row.node.raw(), e.moved, e.content, e.mode});
      continue;
    }
    if (e.a && e.b) RC_ASSERT(e.a->row.line == e.b->row.line);
    if (e.a) out.insert({e.a->path, "", e.a->row.node.raw(), 0, false, false, false});
    if (e.b) out.insert({"", e.b->path, 0, e.b->row.node.raw(), false, false, false});
  }
  return out;
}

using Step = std::tuple<std::uint8_t, std::uint8_t, std::uint8_t, std::uint8_t, std::uint8_t, std::uint8_t>;

/// A whole file, as `put` brings it.
Result<NodeRow> put(TestTree& t, const Chain& c, NodeId parent, const std::string& name) {
  return t.run([&](Tx& tx) -> Result<NodeRow> {
    NodeRow init;
    init.mode = S_IFREG | 0600;
    INDRA_LET(const auto done, t.tree->place(tx, t.who, c, parent, name, init));
    if (done.replaced && done.replaced->nlink == 0) INDRA_TRY(t.tree->reap(tx, c, done.replaced->node));
    return done.moved;
  });
}

void run(TestTree& t, const std::vector<Step>& steps) {
  std::vector<BranchId> branches{BranchId{1}};
  struct Moment {
    BranchId branch;
    Seq seq;
  };
  std::vector<Moment> moments;
  int says = 0, names = 0;
  const auto check = [&] {
    std::vector<Chain> views;
    for (const BranchId b : branches) views.push_back(t.head(b));
    for (const Moment& m : moments) views.push_back(t.at(m.branch, m.seq));
    std::vector<Walked> walked;
    for (const Chain& v : views) walked.push_back(walk(t, v));
    for (std::size_t i = 0; i < views.size(); ++i)
      for (std::size_t j = 0; j < views.size(); ++j)
        RC_ASSERT(right(told(t, views[i], views[j]), expected(walked[i], walked[j])));
  };
  for (const Step& step : steps) {
    const auto op = std::get<0>(step), br = std::get<1>(step), x = std::get<2>(step);
    const auto y = std::get<3>(step), z = std::get<4>(step), w = std::get<5>(step);
    const BranchId b = branches[br % branches.size()];
    const Chain c = t.head(b);
    const Walked all = walk(t, c);
    std::vector<NodeId> dirs, files;
    for (const auto& [n, row] : all.rows) (S_ISDIR(row.mode) ? dirs : files).push_back(n);
    const NodeId p = dirs[x % dirs.size()], q = dirs[y % dirs.size()];
    const auto name = [](std::uint8_t v) { return std::string(1, static_cast<char>('a' + v % 5)); };
    t.clock.advance(kSecond * (w % 7));
    switch (op % 15) {
      case 0:
      case 1:
      case 2:
        (void)t.make(c, p, name(z), op % 15 == 0 ? S_IFDIR | 0755 : S_IFREG | 0644);
        break;
      case 3:
        (void)t.unlink(c, p, name(z));
        break;
      case 4:
      case 5:
        (void)t.run([&](Tx& tx) -> Result<void> {
          INDRA_LET(const auto done, t.tree->rename(tx, t.who, c, p, name(z), q, name(w), 0));
          if (done.replaced && done.replaced->nlink == 0) INDRA_TRY(t.tree->reap(tx, c, done.replaced->node));
          return {};
        });
        break;
      case 6:
        (void)t.rename(c, p, name(z), q, name(w), RENAME_EXCHANGE);
        break;
      case 7:
      case 8:
        if (!files.empty()) RC_ASSERT(t.write(c, files[y % files.size()], ++says).has_value());
        break;
      case 9:
        if (!files.empty())
          (void)t.run(
              [&](Tx& tx) { return t.tree->link(tx, t.who, c, files[y % files.size()], p, name(z)); });
        break;
      case 10: {
        NodeRow want = all.rows.at(files.empty() ? p : files[y % files.size()]);
        want.mode ^= 0111;
        RC_ASSERT(t.run([&](Tx& tx) { return t.tree->set_attributes(tx, t.who, c, want); }).has_value());
        break;
      }
      case 11:
        if (branches.size() < 4) {
          const std::string n = "b" + std::to_string(++names);
          if (!moments.empty() && z % 2 != 0) {
            const Moment& m = moments[y % moments.size()];
            branches.push_back(t.fork(n, m.branch, m.seq).id);
          } else {
            branches.push_back(t.fork(n, b).id);
          }
        }
        break;
      case 12:
        if (moments.size() < 3) moments.push_back({b, t.snapshot("s" + std::to_string(++names), b).seq});
        break;
      case 13:
        if (z % 4 == 0)  // then rows tell what the log no longer does
          t.run([&](Tx& tx) { return t.tree->forget_changes(tx, 1, 0, 1000); }).value();
        else
          t.pin_all();
        break;
      case 14:
        (void)put(t, c, p, name(z));
        break;
    }
  }
  check();
}

RC_GTEST_PROP(DiffProperty, EqualsAWalkOfBothTrees, ()) {
  const auto steps = *rc::gen::scale(0.6, rc::gen::arbitrary<std::vector<Step>>());
  TestTree t{};
  run(t, steps);
}

struct Diff : ::testing::Test {
  TestTree t;
};

TEST_F(Diff, GivenAFileReplacedByRename_WhenCompared_ThenItIsOneChangeOfItsLine) {  // F2
  const Chain c = t.head();
  const auto f = t.make(c, kFirstNode, "f").value();
  ASSERT_TRUE(t.write(c, f.node, 1));
  const Chain before = t.at(BranchId{1}, t.snapshot("s").seq);
  const auto n = t.make(c, kFirstNode, "f.tmp").value();
  ASSERT_TRUE(t.write(c, n.node, 2));
  ASSERT_TRUE(t.rename(c, kFirstNode, "f.tmp", kFirstNode, "f"));
  const auto d = t.run([&](Tx& tx) { return diff_views(tx, before, c, kFirstNode); }).value();
  ASSERT_EQ(d.size(), 1u);
  EXPECT_TRUE(d[0].a && d[0].b && d[0].content && !d[0].moved);
  EXPECT_EQ(d[0].b->path, "/f");
  const auto v = t.run([&](Tx& tx) { return line_versions(tx, c, kFirstNode, "f"); }).value();
  ASSERT_EQ(v.size(), 2u);
  EXPECT_EQ(v[0].row.node, n.node);
  EXPECT_EQ(v[1].row.node, f.node);
}

TEST_F(Diff, GivenAWholeFilePutOverAnInheritedOne_WhenCompared_ThenItIsSaid) {  // F1
  ASSERT_TRUE(t.make(t.head(), kFirstNode, "f"));
  const BranchInfo b = t.fork("b");
  const Chain before = t.at(b.id, t.snapshot("s", b.id).seq);
  ASSERT_TRUE(put(t, t.head(b.id), kFirstNode, "f"));
  const Chain now = t.head(b.id);
  const auto d = t.run([&](Tx& tx) { return diff_views(tx, before, now, kFirstNode); }).value();
  ASSERT_EQ(d.size(), 1u);
  EXPECT_TRUE(d[0].a && d[0].b && d[0].mode && d[0].b->path == "/f");
}

TEST_F(Diff, GivenAMovedDirectory_WhenCompared_ThenWhatIsInItIsNotCalledMoved) {  // F3
  const Chain c = t.head();
  const auto d = t.make(c, kFirstNode, "d", S_IFDIR | 0755).value();
  const auto f = t.make(c, d.node, "f").value();
  ASSERT_TRUE(t.make(c, d.node, "still"));
  const BranchInfo b = t.fork("b");
  ASSERT_TRUE(t.rename(t.head(b.id), kFirstNode, "d", kFirstNode, "e"));
  ASSERT_TRUE(t.write(t.head(b.id), f.node, 1));
  const auto all =
      t.run([&](Tx& tx) { return diff_views(tx, c, t.tree->chain(tx, b.id).value(), kFirstNode); }).value();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_TRUE(all[0].moved && all[0].a->path == "/d" && all[0].b->path == "/e");
  EXPECT_TRUE(!all[1].moved && all[1].content && all[1].b->path == "/e/f");
}

TEST_F(Diff, GivenTwoNamesOfAFile_WhenOneGoes_ThenThatNameIsRemovedAndTheOtherUnchanged) {  // F4
  const Chain c = t.head();
  const auto f = t.make(c, kFirstNode, "f").value();
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->link(tx, t.who, c, f.node, kFirstNode, "g"); }));
  const Chain before = t.at(BranchId{1}, t.snapshot("s").seq);
  ASSERT_TRUE(t.unlink(c, kFirstNode, "g"));
  const auto d = t.run([&](Tx& tx) { return diff_views(tx, before, c, kFirstNode); }).value();
  ASSERT_EQ(d.size(), 1u);
  EXPECT_TRUE(d[0].a && !d[0].b);
  EXPECT_EQ(d[0].a->path, "/g");
}

TEST_F(Diff, GivenAnOwnerAnAttributeAndATarget_WhenChanged_ThenEachIsSaid) {  // F1
  const Chain c = t.head();
  auto owned = t.make(c, kFirstNode, "owned").value();
  const auto named = t.make(c, kFirstNode, "named").value();
  const auto kept = t.make(c, kFirstNode, "kept").value();
  ASSERT_TRUE(t.make(c, kFirstNode, "link", S_IFLNK | 0777));
  const auto set = [&](NodeId n, std::string_view value) {
    return t.run([&](Tx& tx) { return t.tree->set_xattr(tx, t.who, c, n, "user.a", as_view(value), 0); });
  };
  ASSERT_TRUE(set(kept.node, "same"));
  const Chain before = t.at(BranchId{1}, t.snapshot("s").seq);
  owned.uid = 4711;
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->set_attributes(tx, t.who, c, owned); }));
  ASSERT_TRUE(set(named.node, "new"));
  ASSERT_TRUE(set(kept.node, "other"));
  ASSERT_TRUE(set(kept.node, "same"));
  ASSERT_TRUE(t.unlink(c, kFirstNode, "link"));
  ASSERT_TRUE(t.run([&](Tx& tx) {
    NodeRow init;
    init.mode = S_IFLNK | 0777;
    init.target = "elsewhere";
    return t.tree->create(tx, t.who, c, kFirstNode, "link", init);
  }));
  const auto d = t.run([&](Tx& tx) { return diff_views(tx, before, c, kFirstNode); }).value();
  ASSERT_EQ(d.size(), 4u);  // a link made anew is another node: gone and come
  EXPECT_TRUE(!d[0].a && d[0].b && d[0].b->path == "/link");
  EXPECT_TRUE(d[1].a && !d[1].b && d[1].a->path == "/link");
  EXPECT_TRUE(d[2].xattrs && !d[2].owner && !d[2].content && d[2].b->path == "/named");
  EXPECT_TRUE(d[3].owner && !d[3].xattrs && !d[3].mode && d[3].b->path == "/owned");
}

}  // namespace
}  // namespace indra
