// What the tree costs in the daemon: names made, found and listed, at fork depth; forks and snapshots; bytes
// a node. Each number is of one process with everything in SQLite's cache, inside the Writer's open
// transaction.
#include <benchmark/benchmark.h>
#include <sys/stat.h>

#include <filesystem>

#include "tree/internal/fake_store.h"
#include "tree/tree.h"

namespace indra {
namespace {

struct Vault {
  std::string dir;
  FakeStore store;
  std::unique_ptr<Writer> writer;
  std::unique_ptr<Tree> tree;
  Who who{.uid = 1000, .pid = 7, .program = "bench", .front_end = "fuse"};

  Vault() {
    char path[] = "/tmp/indra-tree-bench-XXXXXX";
    dir = mkdtemp(path);
    static const Migration migrations[] = {kTreeSchema, kTreeSchema2, kTreeSchema3, kTreeSchema4};
    WriterOptions w;
    w.create = true;
    w.migrations = migrations;
    w.background = false;  // the tree alone, without the Writer's commits
    writer = std::move(Writer::open(dir + "/vault.db", w).value());
    tree = std::move(Tree::open(*writer, store, system_clock(), {}).value());
  }
  ~Vault() {
    (void)tree->close();
    tree.reset();
    writer.reset();
    std::filesystem::remove_all(dir);
  }
  template <class F>
  auto run(F&& fn) {
    return writer->mutate(std::forward<F>(fn));
  }
  Chain head(BranchId b = BranchId{1}) {
    return run([&](Tx& tx) { return tree->chain(tx, b); }).value();
  }
  NodeRow make(const Chain& c, NodeId parent, const std::string& name, std::uint32_t mode) {
    return run([&](Tx& tx) {
             NodeRow init;
             init.mode = mode;
             return tree->create(tx, who, c, parent, name, init);
           })
        .value();
  }
  /// Directories of 100 files each.
  std::vector<NodeId> fill(const Chain& c, int files) {
    std::vector<NodeId> dirs;
    for (int i = 0; i < files; ++i) {
      if (i % 100 == 0)
        dirs.push_back(make(c, kFirstNode, "dir" + std::to_string(i / 100), S_IFDIR | 0755).node);
      make(c, dirs.back(), "file" + std::to_string(i % 100) + ".txt", S_IFREG | 0644);
    }
    return dirs;
  }
  BranchId deepen(int depth) {
    BranchId b{1};
    for (int i = 1; i < depth; ++i) {
      b = run([&](Tx& tx) {
            return tree->create_branch(tx, who, "main", "b" + std::to_string(i), b, kSeqMax);
          })->id;
      const Chain c = head(b);
      make(c, kFirstNode, "own" + std::to_string(i), S_IFREG | 0644);
    }
    (void)writer->barrier();
    return b;
  }
};

// One empty file in a directory of 1,000 at most; the branch has forks above it.
void BM_Create(benchmark::State& state) {
  Vault v;
  v.fill(v.head(), 10'000);
  const Chain c = v.head(v.deepen(static_cast<int>(state.range(0))));
  int i = 0;
  NodeId dir;
  for (auto _ : state) {
    if (i % 1000 == 0) {
      state.PauseTiming();
      dir = v.make(c, kFirstNode, "new" + std::to_string(i), S_IFDIR | 0755).node;
      state.ResumeTiming();
    }
    v.make(c, dir, "file" + std::to_string(i++), S_IFREG | 0644);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Create)->ArgName("depth")->Arg(1)->Arg(8)->Arg(64)->Arg(512)->Iterations(20'000);

// Name to node row (what LOOKUP asks), the row lying in the oldest ancestor.
void BM_Lookup(benchmark::State& state) {
  Vault v;
  const auto dirs = v.fill(v.head(), 100'000);
  const Chain c = v.head(v.deepen(static_cast<int>(state.range(0))));
  std::uint64_t x = 1;
  for (auto _ : state) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    const std::string name = "file" + std::to_string((x >> 40) % 100) + ".txt";
    auto r = v.writer->read(
        [&](Tx& tx) { return v.tree->lookup_node(tx, c, dirs[(x >> 20) % dirs.size()], name); });
    if (!r || !*r) state.SkipWithError("absent");
  }
}
BENCHMARK(BM_Lookup)->ArgName("depth")->Arg(1)->Arg(8)->Arg(64)->Arg(512);

// All of a directory of 100 entries with attributes; a tenth of them changed in the view's own branch.
void BM_ReaddirPlus(benchmark::State& state) {
  Vault v;
  const auto dirs = v.fill(v.head(), 10'000);
  const Chain c = v.head(v.deepen(static_cast<int>(state.range(0))));
  for (std::size_t d = 0; d < dirs.size(); ++d)
    for (int i = 0; i < 100; i += 10)
      (void)
          v.run([&](Tx& tx) -> Result<NodeRow> {
             INDRA_LET(auto row, v.tree->lookup_node(tx, c, dirs[d], "file" + std::to_string(i) + ".txt"));
             return v.tree->set_attributes(tx, v.who, c, *row);
           }).value();
  std::size_t d = 0;
  for (auto _ : state) {
    int n = 0;
    (void)v.writer->read([&](Tx& tx) {
      return v.tree->list(tx, c, dirs[d++ % dirs.size()], 0, true, 1000,
                          [&](const Tree::Listed& e) { return n += e.row != nullptr, true; });
    });
    if (n != 100) state.SkipWithError("entries");
  }
}
BENCHMARK(BM_ReaddirPlus)->ArgName("depth")->Arg(1)->Arg(8)->Arg(64)->Arg(512)->Unit(benchmark::kMicrosecond);

// A directory of 200,000 inherited entries, in requests of 128.
void BM_ReaddirPlusOf200k(benchmark::State& state) {
  Vault v;
  const Chain main = v.head();
  for (int i = 0; i < 200'000; ++i) v.make(main, kFirstNode, "file" + std::to_string(i), S_IFREG | 0644);
  const Chain c = v.head(v.deepen(static_cast<int>(state.range(0))));
  for (auto _ : state) {
    std::uint64_t after = 0;
    int n = 0;
    for (bool more = true; more;) {
      more = false;
      (void)v.writer->read([&](Tx& tx) {
        return v.tree->list(tx, c, kFirstNode, after, true, 128, [&](const Tree::Listed& e) {
          after = e.edge.cookie;
          ++n;
          return more = true;
        });
      });
    }
    if (n < 200'000) state.SkipWithError("entries");
  }
  if (state.range(0) == 1) {
    (void)v.writer->checkpoint();
    state.counters["bytes_a_node"] =
        static_cast<double>(std::filesystem::file_size(v.dir + "/vault.db")) / 200'000;
  }
}
BENCHMARK(BM_ReaddirPlusOf200k)
    ->ArgName("depth")
    ->Arg(1)
    ->Arg(8)
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);

void BM_Fork(benchmark::State& state) {
  Vault v;
  v.fill(v.head(), static_cast<int>(state.range(0)));
  int i = 0;
  for (auto _ : state)
    (void)
        v.run([&](Tx& tx) {
           return v.tree->create_branch(tx, v.who, "main", "b" + std::to_string(++i), BranchId{1}, kSeqMax);
         }).value();
}
BENCHMARK(BM_Fork)->ArgName("nodes")->Arg(1'000)->Arg(100'000)->Iterations(2'000)->Unit(
    benchmark::kMicrosecond);

void BM_Snapshot(benchmark::State& state) {
  Vault v;
  v.fill(v.head(), static_cast<int>(state.range(0)));
  int i = 0;
  for (auto _ : state)
    (void)
        v.run([&](Tx& tx) {
           return v.tree->create_snapshot(tx, v.who, BranchId{1}, "s" + std::to_string(++i), "");
         }).value();
}
BENCHMARK(BM_Snapshot)
    ->ArgName("nodes")
    ->Arg(1'000)
    ->Arg(100'000)
    ->Iterations(2'000)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace indra
