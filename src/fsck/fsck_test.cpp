// Each kind of damage is planted by hand and found by the check whose rule it breaks: F1..F20 of
// docs/design/fsck.md.
#include "fsck/fsck.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "fsck/internal/test_vault.h"

namespace indra {
namespace {

std::string all(const FsckReport& r) {
  std::string s;
  for (const auto& f : r.findings)
    s += f.rule + " " + f.what + (f.mending.empty() ? "" : " [" + f.mending + "]") + "\n";
  return s;
}
bool has(const FsckReport& r, const std::string& rule) {
  return std::any_of(r.findings.begin(), r.findings.end(),
                     [&](const FsckFinding& f) { return f.rule == rule; });
}

/// Every path of a view with what it reads as.
void contents(TestVault& v, View& view, const std::string& dir, std::map<std::string, std::string>& out) {
  const NodeId node = must(resolve_path(view, dir)).node;
  const Handle h = must(view.opendir(node));
  std::vector<std::string> names;
  must(view.readdir(h, 0, false, [&](const DirEntry& e) {
    names.emplace_back(e.name);
    return true;
  }));
  view.releasedir(h);
  for (const auto& n : names) {
    const std::string p = (dir == "/" ? "" : dir) + "/" + n;
    const Attr a = must(resolve_path(view, p));
    if (S_ISDIR(a.mode)) {
      out[p] = "directory " + std::to_string(a.nlink);
      contents(v, view, p, out);
    } else if (S_ISREG(a.mode)) {
      auto got = v.get(view, a.node);
      out[p] = got ? *got : "error " + got.error().text();
    } else {
      out[p] = "node";
    }
  }
}
std::map<std::string, std::string> everything(TestVault& v) {
  std::map<std::string, std::string> out;
  for (const char* branch : {"main", "agent"}) {
    ViewSpec spec;
    spec.branch = branch;
    std::map<std::string, std::string> one;
    contents(v, *must(v.fs->open_view(spec, nullptr)), "/", one);
    for (auto& [p, c] : one) out[branch + (":" + p)] = std::move(c);
  }
  ViewSpec spec;
  spec.snapshot = "first";
  std::map<std::string, std::string> one;
  contents(v, *must(v.fs->open_view(spec, nullptr)), "/", one);
  for (auto& [p, c] : one) out["first:" + p] = std::move(c);
  return out;
}

class Damage : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    pristine_ = new TestVault;
    pristine_->fill();
    contents_ = new std::map<std::string, std::string>{everything(*pristine_)};
    pristine_->close();
  }
  static void TearDownTestSuite() {
    delete contents_;
    delete pristine_;
  }
  /// A copy, holes and all.
  static void fresh(TestVault& v) {
    const std::string command = "cp -a --sparse=always '" + pristine_->path() + "' '" + v.dir + "/'";
    ASSERT_EQ(std::system(command.c_str()), 0);
    v.clock.pass(pristine_->clock.steady());
  }
  static TestVault* pristine_;
  static std::map<std::string, std::string>* contents_;
};
TestVault* Damage::pristine_;
std::map<std::string, std::string>* Damage::contents_;

TEST(Fsck, GivenASoundVault_WhenChecked_ThenNothingIsFound) {
  for (const bool single : {false, true}) {
    TestVault v;
    v.single_file = single;
    v.fill();
    const auto beside = must(fsck(v.path(), {.in_use = true}));
    EXPECT_EQ(all(beside), "") << "in use";
    EXPECT_GT(beside.rows, 100u);
    v.close();
    EXPECT_EQ(all(must(fsck(v.path(), {}))), "");
    EXPECT_EQ(all(must(fsck(v.path(), {.repair = true}))), "");
  }
}

TEST_F(Damage, GivenTheVaultOfTheseTests_WhenLookedAt_ThenEachTableHasRows) {
  TestVault v;
  fresh(v);
  for (const char* table : {"nodes", "nodes_past", "edges", "edges_past", "xattrs", "xattrs_past", "branches",
                            "pins", "changes", "actors", "blobs", "pages", "patches", "segments"})
    EXPECT_GT(v.number(std::string{"SELECT count(*) FROM "} + table), 0) << table;
}

enum Then { mended, stays, moved };
struct Case {
  const char* rule;
  Then then;  // mended: all reads as before; moved: found in lost+found; stays: told again
  const char* sql;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.rule << ": " << c.sql; }

class Planted : public Damage, public testing::WithParamInterface<Case> {};

#define NODE(path) "(SELECT node FROM edges WHERE branch = 1 AND name = CAST('" path "' AS BLOB))"
constexpr Case kCases[] = {
    // numbers
    {"F2", mended, "UPDATE counters SET reserved = 5 WHERE name = 'seq'"},
    {"F2", mended, "UPDATE counters SET reserved = 17 WHERE name = 'node'"},
    {"F2", mended, "UPDATE counters SET reserved = 1 WHERE name = 'branch'"},
    {"F2", mended, "UPDATE content_state SET value = 3 WHERE name = 'ids'"},
    // branches, pins
    {"F3", stays, "UPDATE branches SET parent = 77 WHERE name = 'agent'"},
    {"F3", stays, "UPDATE branches SET parent = id WHERE name = 'agent'"},
    {"F3", stays, "UPDATE branches SET root = 4711 WHERE name = 'agent'"},
    {"F3", stays, "UPDATE branches SET name = 'a/b' WHERE name = 'agent'"},
    {"F3", stays, "UPDATE branches SET bucket = 9 WHERE name = 'agent'"},
    {"F4", mended, "DELETE FROM pins WHERE kind = 1"},
    {"F4", mended, "UPDATE pins SET kind = 4 WHERE kind = 1"},
    {"F4", mended, "INSERT INTO pins(branch, seq, kind, time) VALUES(55, 3, 3, 0)"},
    {"F4", stays, "UPDATE pins SET kind = 9 WHERE kind = 3"},
    {"F4", mended, "INSERT INTO merges VALUES(1, 3, 99, 2)"},
    // the log
    {"F5", stays, "UPDATE changes SET op = 99 WHERE seq = (SELECT max(seq) FROM changes)"},
    {"F5", stays, "UPDATE changes SET branch = 9999 WHERE seq = (SELECT max(seq) FROM changes)"},
    {"F5", stays, "UPDATE changes SET actor = 9999 WHERE seq = (SELECT max(seq) FROM changes)"},
    {"F5", stays, "INSERT OR REPLACE INTO properties VALUES('changes_removed', '5')"},
    // entries
    {"F6", stays, "UPDATE edges SET name = CAST('a/b' AS BLOB) WHERE name = CAST('empty.txt' AS BLOB)"},
    {"F6", mended, "UPDATE edges SET cookie = cookie + 1 WHERE name = CAST('inline.txt' AS BLOB)"},
    {"F6", mended, "UPDATE edges_past SET cookie = cookie + 1 WHERE name = CAST('block.bin' AS BLOB)"},
    {"F6", mended, "INSERT INTO edges VALUES(16, 4711, CAST('ghost' AS BLOB), 1, 2, 9999, 8)"},
    {"F6", stays, "UPDATE edges SET type = 10 WHERE name = CAST('inline.txt' AS BLOB)"},
    {"F6", stays, "DELETE FROM nodes WHERE branch <> 1 AND node = " NODE("moved.bin")},
    // fields of nodes
    {"F7", mended, "UPDATE nodes SET size = size + 1 WHERE blob IS NOT NULL AND node = " NODE("inline.txt")},
    {"F7", mended,
     "UPDATE nodes_past SET size = size + 1 WHERE blob IS NOT NULL AND node = " NODE("inline.txt")},
    {"F7", mended, "UPDATE nodes SET size = 99 WHERE target IS NOT NULL"},
    {"F7", stays, "UPDATE nodes SET target = NULL WHERE target IS NOT NULL"},
    {"F7", stays, "UPDATE nodes SET size = 7 WHERE node = " NODE("empty.txt")},
    {"F7", stays, "UPDATE nodes SET mode = 20480 + 420 WHERE node = " NODE("empty.txt")},
    {"F2", stays, "UPDATE nodes SET seq = seq + 100000000 WHERE node = " NODE("empty.txt")},
    {"F7", stays, "UPDATE nodes SET branch = 88 WHERE node = " NODE("empty.txt")},
    // links
    {"F8", mended, "UPDATE nodes SET nlink = 7 WHERE branch = 1 AND node = " NODE("inline.txt")},
    {"F8", mended, "UPDATE nodes SET nlink = 9 WHERE branch = 1 AND node = " NODE("docs")},
    {"F8", mended, "UPDATE nodes SET nlink = 9 WHERE branch = 1 AND node = 16"},
    {"F8", mended, "UPDATE nodes_past SET nlink = 5 WHERE node = 16"},
    {"F8", mended, "UPDATE nodes SET nlink = 9 WHERE branch <> 1 AND node = " NODE("deep")},
    // parents
    {"F9", mended, "UPDATE nodes SET parent = 4711 WHERE branch = 1 AND node = " NODE("inline.txt")},
    {"F9", mended, "UPDATE nodes SET parent = 16 WHERE branch = 1 AND node = " NODE("deep")},
    {"F9", stays,
     "INSERT INTO edges SELECT " NODE(
         "empty") ", cookie, name, branch, seq, node, type FROM edges WHERE branch = 1 AND "
                  "name = CAST('deep' AS BLOB)"},
    // lost
    {"F10", moved, "DELETE FROM edges WHERE branch = 1 AND name = CAST('empty.txt' AS BLOB)"},
    {"F10", moved, "DELETE FROM edges WHERE branch = 1 AND name = CAST('chunks.bin' AS BLOB)"},
    {"F10", moved, "DELETE FROM edges WHERE branch = 1 AND name = CAST('docs' AS BLOB)"},
    {"F10", moved, "DELETE FROM nodes WHERE node = " NODE("docs")},
    {"F9", moved,
     "UPDATE nodes SET parent = " NODE("deep") " WHERE branch = 1 AND node = " NODE(
         "docs") "; UPDATE edges SET parent = " NODE("deep") " WHERE branch = 1 AND name = CAST('docs' AS "
                                                             "BLOB)"},
    // past rows
    {"F11", stays, "UPDATE nodes_past SET until = seq"},
    {"F11", stays, "UPDATE nodes_past SET until = until + 1000000"},
    {"F11", stays, "UPDATE edges_past SET until = until + 1000000"},
    {"F11", stays, "UPDATE xattrs_past SET until = until + 1000000"},
    {"F11", stays,
     "INSERT INTO nodes_past SELECT node, branch, seq - 1, until, mode, nlink, uid, gid, size, stored, NULL, "
     "mtime, "
     "atime_d, ctime_d, btime_d, parent, line, flags, rdev, target FROM nodes_past WHERE mode & 16384 LIMIT "
     "1"},
    {"F11", stays, "DELETE FROM edges WHERE branch = 1 AND name = CAST('block.bin' AS BLOB)"},
    // attributes
    {"F12", mended, "INSERT INTO xattrs VALUES(9999, CAST('user.x' AS BLOB), 1, 3, x'00')"},
    {"F12", mended, "UPDATE nodes SET flags = flags & ~2 WHERE branch = 1 AND node = " NODE("inline.txt")},
    // references
    {"F13", mended, "UPDATE blobs SET refs = refs + 1 WHERE form = 1"},
    {"F13", mended, "UPDATE blobs SET refs = refs - 1 WHERE form = 0"},
    {"F13", stays,
     "DELETE FROM blobs WHERE id = (SELECT blob FROM nodes WHERE branch = 1 AND node = " NODE(
         "inline.txt") ")"},
    // manifests
    {"F14", stays, "UPDATE blobs SET data = x'00' WHERE form = 0"},
    {"F14", stays, "UPDATE blobs SET data = zeroblob(length(data)) WHERE form = 0"},
    {"F14", stays, "UPDATE blobs SET form = 7 WHERE form = 1"},
    {"F14", stays, "UPDATE blobs SET data = substr(data, 1, length(data) - 1) WHERE form = 1"},
    {"F14", stays,
     "UPDATE blobs SET hash = zeroblob(32) WHERE id = (SELECT max(id) FROM blobs WHERE form = 1 AND size > "
     "65536 AND hash IS NOT NULL)"},
    {"F14", stays, "DELETE FROM pages WHERE id = (SELECT min(id) FROM pages)"},
    {"F14", stays, "UPDATE pages SET data = substr(data, 1, 12) || zeroblob(32) || substr(data, 45)"},
    {"F14", mended, "UPDATE blobs SET stored = 17 WHERE form = 1"},
    {"F14", stays, "UPDATE blobs SET size = size + 8388608 WHERE size > 4194304 AND form = 1"},
    // patches
    {"F15", stays, "UPDATE patches SET seal = seal + 1"},
    {"F15", stays, "UPDATE patches SET data = zeroblob(length(data))"},
    {"F15", mended, "INSERT INTO patches SELECT 99999, block, seal, data FROM patches"},
    {"F15", mended, "INSERT INTO patches SELECT blob, 99999, seal, data FROM patches"},
    {"F15", mended, "INSERT INTO folds VALUES(99999, 0, zeroblob(32))"},
    {"F15", mended, "INSERT INTO folds SELECT max(id), 4711, zeroblob(32) FROM blobs"},
    {"F15", stays, "INSERT INTO folds SELECT max(id), 0, x'00' FROM blobs WHERE form = 1"},
    // slots
    {"F16", mended, "UPDATE segments SET live = live - 4096"},
    {"F16", mended, "UPDATE segments SET live = live + 1"},
    {"F16", stays, "DELETE FROM segments WHERE id = (SELECT min(id) FROM segments)"},
    {"F16", mended, "UPDATE segments SET end = 4096 + 10"},
    {"F16", mended, "INSERT INTO dead_extents VALUES(1, 4096, 4096)"},
    {"F16", mended, "INSERT INTO dead_extents VALUES(77, 4096, 4096)"},
    {"F16", mended, "INSERT INTO dead_parts VALUES(77, 4096, 100)"},
    {"F16", mended, "INSERT INTO dead_parts VALUES(1, 4096, 4097)"},
    {"F16", stays,
     "UPDATE blobs SET data = (SELECT b.data FROM blobs b WHERE b.form = 1 AND b.size > 65536 AND b.size < "
     "4194304 ORDER BY id LIMIT 1), "
     "size = (SELECT b.size FROM blobs b WHERE b.form = 1 AND b.size > 65536 AND b.size < 4194304 ORDER BY "
     "id LIMIT 1), family = NULL, hash = NULL WHERE id = (SELECT max(id) FROM "
     "blobs WHERE form = 1)"},
    {"F18", mended,
     "INSERT INTO pages SELECT max(id) + 1, data FROM pages; UPDATE content_state SET value = value + 10 "
     "WHERE name = 'ids'"},
    // the schema
    {"F20", mended, "DROP INDEX orphans"},
    {"F20", mended, "DROP INDEX snapshots_by_name"},
    {"F20", mended, "DROP VIEW v_tree"},
    {"F20", mended, "DROP TRIGGER patches_update"},
    {"F20", stays, "DROP TABLE merges"},
    // files being written
    {"F19", stays, "INSERT INTO sessions VALUES(1, 99999, (SELECT max(id) FROM blobs), 0, 0)"},
};

TEST_P(Planted, GivenDamage_WhenChecked_ThenItIsFoundAndMendedWhereNothingNeedsGuessing) {
  const Case& c = GetParam();
  TestVault v;
  fresh(v);
  v.sql(c.sql);
  const auto found = must(fsck(v.path(), {}));
  EXPECT_TRUE(has(found, c.rule)) << all(found);
  EXPECT_FALSE(found.clean());

  const auto repaired = must(fsck(v.path(), {.repair = true}));
  const auto after = must(fsck(v.path(), {}));
  if (c.then == stays) {
    EXPECT_FALSE(repaired.clean());
    EXPECT_FALSE(after.clean());
    return;
  }
  EXPECT_GT(repaired.mended, 0u);
  if (c.then == moved) {  // a past that shows it cannot be changed
    for (const auto& f : after.findings)
      EXPECT_TRUE(f.rule == "F11" || f.branch.starts_with("snapshot ") ||
                  f.branch.find(" as of ") != std::string::npos)
          << all(after);
    const auto again = must(fsck(v.path(), {.repair = true}));
    EXPECT_EQ(again.mended, 0u) << all(again) << "first: " << all(repaired);
    v.open();
    EXPECT_TRUE(resolve_path(*v.view, "/lost+found"));
    return;
  }
  EXPECT_TRUE(repaired.clean()) << all(repaired);
  EXPECT_EQ(all(after), "") << "after: " << all(repaired);
  v.open();
  const auto now = everything(v);
  for (const auto& [path, content] : *contents_) {
    const auto it = now.find(path);
    ASSERT_NE(it, now.end()) << path;
    EXPECT_TRUE(it->second == content) << path << ": " << it->second.substr(0, 80);
  }
}
INSTANTIATE_TEST_SUITE_P(Rules, Planted, testing::ValuesIn(kCases));

// What the head has lost a snapshot has still: it stays there, under its name and with its attributes.
TEST(Repair, GivenANodeThatOnlyASnapshotHas_WhenMended_ThenTheSnapshotKeepsItsName) {
  TestVault v;
  v.open(true);
  v.put("/f", "as it was");
  must(v.view->setxattr(v.me, v.at("/f"), "user.colour", as_view("blue"), 0));
  (void)must(v.fs->create_snapshot({}, "main", "main", "first", ""));
  v.clock.pass(10 * kSecond);
  v.put("/f", "as it is, which is longer");
  v.close();
  v.sql("DELETE FROM nodes WHERE node = " NODE("f"));
  EXPECT_GT(must(fsck(v.path(), {.repair = true})).mended, 0u);
  v.open();
  EXPECT_FALSE(resolve_path(*v.view, "/f"));
  ViewSpec spec;
  spec.snapshot = "first";
  const auto then = must(v.fs->open_view(spec, nullptr));
  const auto node = resolve_path(*then, "/f");
  ASSERT_TRUE(node);
  EXPECT_EQ(must(v.get(*then, node->node)), "as it was");
  EXPECT_EQ(as_text(must(then->getxattr(node->node, "user.colour"))), "blue");
}

// What a damaged manifest names belongs to it still: when its row is well again, so is all of it.
TEST(Repair, GivenAManifestThatCannotBeRead_WhenMended_ThenWhatItNamesStays) {
  for (const bool single : {false, true}) {
    TestVault v;
    v.single_file = single;
    v.open(true);
    const std::string big = TestVault::bytes(9 << 20, 1);
    v.put("/big", big);
    must(v.fs->sync(true));
    v.clock.pass(10 * kSecond);
    must(v.fs->settle());
    v.close();
    ASSERT_TRUE(must(fsck(v.path(), {})).clean());
    v.sql(
        "CREATE TABLE aside AS SELECT id, data FROM blobs WHERE size > 9000000; UPDATE blobs SET data = "
        "x'00' WHERE id IN (SELECT id FROM aside)");
    EXPECT_FALSE(must(fsck(v.path(), {.repair = true})).clean());
    v.open();
    must(v.fs->settle());
    for (int i = 0; i < 100 && must(v.fs->tick()); ++i) v.clock.pass(kSecond);
    v.close();
    v.sql(
        "UPDATE blobs SET data = (SELECT a.data FROM aside a WHERE a.id = blobs.id) WHERE id IN (SELECT id "
        "FROM aside); DROP TABLE aside");
    v.open();
    const auto got = v.get(*v.view, v.at("/big"));
    ASSERT_TRUE(got) << got.error().text();
    EXPECT_TRUE(*got == big);
  }
}

}  // namespace
}  // namespace indra
