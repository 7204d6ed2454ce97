// A replica that knows the vault only by its feed, through kills of the watcher and power cuts of the vault.
#include "tree/change_log.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "db/vfs.h"
#include "tree/internal/test_tree.h"

namespace indra {
namespace {

namespace fs = std::filesystem;

/// Names as a watcher keeps them: what the events said, and the whole tree anew after an epoch.
struct Replica {
  std::map<std::string, NodeId> names;
  std::map<NodeId, Seq> written;  // node -> its newest write
  Seq saved;                      // the position that survives a kill
  std::map<std::string, NodeId> saved_names;
  std::map<NodeId, Seq> saved_written;

  void save() { saved_names = names, saved_written = written; }
  void killed() { names = saved_names, written = saved_written; }
};

class PowerCuts {
 public:
  void run(const std::vector<std::tuple<std::uint8_t, std::uint8_t, std::uint8_t>>& steps) {
    start();
    for (const auto& [what, a, b] : steps) {
      const std::string n = "n" + std::to_string(a % 6), m = "n" + std::to_string(b % 6);
      switch (what % 12) {
        case 0:
        case 1:
        case 2:
          (void)make(n);
          break;
        case 3:
          (void)write(n);
          break;
        case 4:
          (void)remove(n);
          break;
        case 5:
          (void)rename(n, m);
          break;
        case 6:
          failing(n);
          break;
        case 7:
          RC_ASSERT(writer_->commit().has_value());
          break;
        case 8:
          RC_ASSERT(writer_->barrier().has_value());
          keep_durable();
          break;
        case 9:
          watch(1 + a % 5, b % 2 == 0);
          break;
        case 10:
          replica_.killed();
          break;
        case 11:
          power_cut();
          break;
      }
    }
    RC_ASSERT(writer_->commit().has_value());
    watch(100000, false);
    // What the events told is what there is: nothing missing, nothing that was never there.
    std::map<std::string, NodeId> truth;
    list([&](const std::string& name, NodeId id) { truth[name] = id; });
    RC_ASSERT(replica_.names == truth);
    for (const auto& [name, id] : truth) {
      const Seq newest = newest_write(id);
      if (newest) RC_ASSERT(replica_.written[id] == newest);
    }
    stop();
  }

 private:
  // The vault lies in dir_; durable_ holds its files as they were at the last barrier.
  void start() {
    std::string pattern = (fs::temp_directory_path() / "indra-feed-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    fs::create_directory(root_ + "/live");
    open();
    RC_ASSERT(writer_->barrier().has_value());
    keep_durable();
  }
  void stop() {
    tree_.reset();
    writer_.reset();
    fs::remove_all(root_);
  }
  void open() {
    static const Migration migrations[] = {kTreeSchema, kTreeSchema2, kTreeSchema3};
    WriterOptions w;
    w.create = true;
    w.migrations = migrations;
    w.background = false;
    writer_ = Writer::open(root_ + "/live/vault.db", w).value();
    tree_ = Tree::open(*writer_, store_, clock_, {}).value();
    head_ = writer_->read([&](Tx& tx) { return tree_->chain(tx, BranchId{1}); }).value();
  }
  void keep_durable() {
    fs::remove_all(root_ + "/durable");
    fs::create_directory(root_ + "/durable");
    for (const char* f : {"vault.db", "vault.db-wal"})
      if (fs::exists(root_ + "/live/" + f)) fs::copy_file(root_ + "/live/" + f, root_ + "/durable/" + f);
  }
  /// Everything after the last barrier is gone.
  void power_cut() {
    tree_.reset();
    writer_.reset();
    fs::remove_all(root_ + "/live");
    fs::copy(root_ + "/durable", root_ + "/live", fs::copy_options::recursive);
    open();
    RC_ASSERT(writer_->barrier().has_value());
    keep_durable();
  }

  std::optional<NodeRow> find(Tx& tx, const std::string& name) {
    return tree_->lookup_node(tx, *head_, kFirstNode, name).value();
  }
  Result<NodeRow> make(const std::string& name) {
    return writer_->mutate([&](Tx& tx) {
      NodeRow init;
      init.mode = S_IFREG | 0644;
      return tree_->create(tx, who_, *head_, kFirstNode, name, init);
    });
  }
  Result<NodeRow> write(const std::string& name) {
    return writer_->mutate([&](Tx& tx) -> Result<NodeRow> {
      const auto row = find(tx, name);
      if (!row) return fail(ENOENT);
      return tree_->set_content(tx, who_, *head_, row->node, store_.make(++says_, 10), clock_.now(),
                                clock_.now(), true);
    });
  }
  Result<NodeRow> remove(const std::string& name) {
    return writer_->mutate([&](Tx& tx) -> Result<NodeRow> {
      INDRA_LET(NodeRow row, tree_->unlink(tx, who_, *head_, kFirstNode, name));
      INDRA_TRY(tree_->reap(tx, *head_, row.node));
      return row;
    });
  }
  Result<void> rename(const std::string& from, const std::string& to) {
    return writer_->mutate([&](Tx& tx) -> Result<void> {
      INDRA_LET(const auto done, tree_->rename(tx, who_, *head_, kFirstNode, from, kFirstNode, to, 0));
      if (done.replaced) INDRA_TRY(tree_->reap(tx, *head_, done.replaced->node));
      return {};
    });
  }
  /// A mutation that fails after it wrote its event.
  void failing(const std::string& name) {
    const auto r = writer_->mutate([&](Tx& tx) -> Result<void> {
      NodeRow init;
      init.mode = S_IFREG | 0644;
      INDRA_TRY(tree_->create(tx, who_, *head_, kFirstNode, name + "-never", init));
      return fail(ENOSPC);
    });
    RC_ASSERT(!r.has_value());
  }
  template <class F>
  void list(F&& each) {
    const auto r = writer_->read([&](Tx& tx) {
      return tree_->list(tx, *head_, kFirstNode, 0, false, INT_MAX, [&](const Tree::Listed& l) {
        each(std::string{l.name}, l.edge.node);
        return true;
      });
    });
    RC_ASSERT(r.has_value());
  }
  Seq newest_write(NodeId id) {
    return writer_
        ->read([&](Tx& tx) -> Result<Seq> {
          Statement q{tx, "SELECT COALESCE(MAX(seq), 0) FROM changes WHERE node = ?1 AND op = 8"};
          INDRA_TRY(q.bind(1, id).step());
          return q.id_at<Seq>(0);
        })
        .value();
  }

  /// A watcher from a connection of its own: reads batches, applies them, saves its position now and then.
  void watch(int batches, bool dies_before_saving) {
    DbOptions o;
    o.read_only = true;
    auto db = Db::open(root_ + "/live/vault.db", o).value();
    Tx tx = db->borrow();
    auto log = ChangeLog::open(tx, {}).value();
    Seq at = replica_.saved;
    for (int i = 0; i < batches; ++i) {
      const auto batch = log.read(tx, at, 3).value();
      Seq before = at;
      for (const auto& e : batch.events) {
        RC_ASSERT(e.row.seq > before);  // in order, none twice
        before = e.row.seq;
        apply(tx, e);
      }
      at = batch.upto;
      if (!batch.more && batch.events.empty()) break;
    }
    if (dies_before_saving) {
      replica_.killed();
      return;
    }
    replica_.saved = at;
    replica_.save();
  }
  void apply(Tx& tx, const ChangeEvent& e) {
    const std::string& op = e.row.op;
    if (op == "epoch") {
      // What was seen before may never have been: the committed tree is read anew.
      replica_.names.clear();
      replica_.written.clear();
      Statement q{tx,
                  "SELECT name, node, (SELECT MAX(seq) FROM changes c WHERE c.node = e.node AND c.op = 8) "
                  "FROM edges e"
                  " WHERE parent = 16 AND node IS NOT NULL"};
      while (q.step().value()) {
        replica_.names[std::string{q.text_at(0)}] = q.id_at<NodeId>(1);
        if (!q.is_null(2)) replica_.written[q.id_at<NodeId>(1)] = q.id_at<Seq>(2);
      }
    }
    if (op == "create") replica_.names[e.row.name] = e.row.node;
    if (op == "unlink") replica_.names.erase(e.row.name);
    if (op == "rename") {
      replica_.names.erase(e.row.from_name);
      replica_.names[e.row.name] = e.row.node;
    }
    if (op == "write") replica_.written[e.row.node] = e.row.seq;
  }

  std::string root_;
  ManualClock clock_;
  FakeStore store_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<Tree> tree_;
  std::optional<Chain> head_;
  Who who_{.uid = 1000, .pid = 7, .program = "test", .front_end = "cli"};
  Replica replica_;
  int says_ = 0;
};

// E1, E2, E3
RC_GTEST_PROP(ChangeLogProperty, a_replica_misses_nothing_through_kills_and_power_cuts,
              (const std::vector<std::tuple<std::uint8_t, std::uint8_t, std::uint8_t>>& steps)) {
  PowerCuts{}.run(steps);
}

// E3
TEST(ChangeLog, GivenChangesThatAreNoLongerKept_WhenReadFromBefore_ThenTheErrorNamesTheOldest) {
  TestTree t;
  for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(t.make(t.head(), kFirstNode, name));
  const Seq last = t.tree->last_seq();
  ASSERT_TRUE(t.run([&](Tx& tx) { return t.tree->forget_changes(tx, 1, 0, 100); }));
  const auto r = t.writer->read([&](Tx& tx) -> Result<ChangeLog::Batch> {
    INDRA_LET(ChangeLog log, ChangeLog::open(tx, {}));
    INDRA_LET(const Seq removed, ChangeLog::removed(tx));
    EXPECT_EQ(removed.raw(), last.raw() - 1);
    INDRA_TRY(log.read(tx, removed, 10));
    return log.read(tx, Seq{removed.raw() - 1}, 10);
  });
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, std::error_code(ESTALE, std::generic_category()));
  EXPECT_NE(r.error().context.find("the oldest kept is " + std::to_string(last.raw())), std::string::npos);
}

// E3: by age, in slices, and never the newest.
TEST(ChangeLog, GivenOldChanges_WhenForgotten_ThenTheYoungStay) {
  TestTree t;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(t.make(t.head(), kFirstNode, "old" + std::to_string(i)));
  t.clock.advance(10 * kSecond);
  ASSERT_TRUE(t.make(t.head(), kFirstNode, "young"));
  const auto forget = [&] {
    return t.run([&](Tx& tx) { return t.tree->forget_changes(tx, 1000, t.clock.now() - 5 * kSecond, 4); })
        .value();
  };
  EXPECT_EQ(forget(), 4);
  EXPECT_EQ(forget(), 4);
  EXPECT_EQ(forget(), 2);
  EXPECT_EQ(forget(), 0);
  EXPECT_EQ(t.count("SELECT COUNT(*) FROM changes"), 1);
}

}  // namespace
}  // namespace indra
