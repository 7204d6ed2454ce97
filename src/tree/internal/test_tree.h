// A tree in a folder of its own, with a clock set by hand and a store that only counts.
#pragma once
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "tree/internal/fake_store.h"
#include "tree/tree.h"

namespace indra {

struct TestTree {
  std::string dir;
  ManualClock clock;
  FakeStore store;
  Tree::Options options;
  std::unique_ptr<Writer> writer;
  std::unique_ptr<Tree> tree;
  Who who{.uid = 1000, .pid = 7, .program = "test", .front_end = "cli"};

  explicit TestTree(Tree::Options o = {}) : options{o} {
    char path[] = "/tmp/indra-tree-XXXXXX";
    dir = mkdtemp(path);
    static const Migration migrations[] = {kTreeSchema, kTreeSchema2, kTreeSchema3};
    WriterOptions w;
    w.create = true;
    w.migrations = migrations;
    w.background = false;
    auto opened = Writer::open(dir + "/vault.db", w);
    if (!opened) throw std::runtime_error{opened.error().text()};
    writer = std::move(*opened);
    open();
  }
  ~TestTree() {
    tree.reset();
    writer.reset();
    std::filesystem::remove_all(dir);
  }
  TestTree(const TestTree&) = delete;
  TestTree& operator=(const TestTree&) = delete;

  void open() {
    auto t = Tree::open(*writer, store, clock, options);
    if (!t) throw std::runtime_error{t.error().text()};
    tree = std::move(*t);
  }
  void reopen(bool clean) {
    if (clean && !tree->close()) throw std::runtime_error{"close"};
    tree.reset();
    open();
  }
  /// Runs fn(Tx&) as one mutation.
  template <class F>
  auto run(F&& fn) {
    return writer->mutate(std::forward<F>(fn));
  }

  Chain head(BranchId b = BranchId{1}) {
    return run([&](Tx& tx) { return tree->chain(tx, b); }).value();
  }
  Result<NodeRow> make(const Chain& c, NodeId parent, std::string_view name,
                       std::uint32_t mode = S_IFREG | 0644) {
    return run([&](Tx& tx) {
      NodeRow init;
      init.mode = mode;
      if (S_ISLNK(mode)) init.target = "target";
      return tree->create(tx, who, c, parent, name, init);
    });
  }
  Result<NodeRow> unlink(const Chain& c, NodeId parent, std::string_view name, bool reap = true) {
    return run([&](Tx& tx) -> Result<NodeRow> {
      INDRA_LET(NodeRow row, tree->unlink(tx, who, c, parent, name));
      if (reap && row.nlink == 0) INDRA_TRY(tree->reap(tx, c, row.node));
      return row;
    });
  }
  Result<Tree::Renamed> rename(const Chain& c, NodeId p, std::string_view a, NodeId q, std::string_view b,
                               unsigned flags = 0) {
    return run([&](Tx& tx) { return tree->rename(tx, who, c, p, a, q, b, flags); });
  }
  /// New content, in place where that is allowed.
  Result<NodeRow> write(const Chain& c, NodeId n, int says, bool publish = true, std::uint64_t size = 100) {
    return run([&](Tx& tx) -> Result<NodeRow> {
      INDRA_LET(const NodeRow row, tree->node(tx, c, n));
      INDRA_LET(const bool in_place, tree->rewritable(tx, c, n));
      BlobInfo info;
      if (in_place && row.blob) {
        info = {.id = row.blob, .size = size, .hash = {}, .stored = size, .refs = 1};
        store.content[row.blob] = says;
      } else {
        info = store.make(says, size);
      }
      return tree->set_content(tx, who, c, n, info, clock.now(), clock.now(), publish);
    });
  }
  std::optional<NodeRow> find(const Chain& c, NodeId parent, std::string_view name) {
    return run([&](Tx& tx) { return tree->lookup_node(tx, c, parent, name); }).value();
  }
  BranchInfo fork(std::string_view name, BranchId from = BranchId{1}, Seq at = kSeqMax) {
    return run([&](Tx& tx) { return tree->create_branch(tx, who, "main", name, from, at); }).value();
  }
  PinInfo snapshot(std::string_view name, BranchId b = BranchId{1}) {
    return run([&](Tx& tx) { return tree->create_snapshot(tx, who, b, name, ""); }).value();
  }
  int pin_all() {
    return run([&](Tx& tx) { return tree->create_automatic_pins(tx); }).value();
  }
  Chain at(BranchId b, Seq s) {
    return run([&](Tx& tx) { return tree->chain_at(tx, b, s); }).value();
  }
  void thin() {
    while (run([&](Tx& tx) { return tree->thin(tx, 7); }).value() > 0) {
    }
  }
  std::int64_t count(const char* sql) {
    return writer
        ->read([&](Tx& tx) -> Result<std::int64_t> {
          auto q = Statement{tx, sql};
          INDRA_TRY(q.step());
          return q.int64_at(0);
        })
        .value();
  }
};

}  // namespace indra
