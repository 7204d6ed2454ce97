// What forks, snapshots, differences and long chains of branches cost in the daemon, without FUSE.
//
//   branch_bench DIRECTORY [NODES] [BRANCHES]      a vault is made in DIRECTORY and removed again
//
// Times are of one call each: median, 99th of a hundred, largest; and the processor time of the calling
// thread, median and 99th: what is missing to the first is waiting, for the connection or for a processor.
// "Cold": the vault was opened anew (SQLite's cache is empty, the kernel's is not), and each call is the
// first of its kind.
#include <fcntl.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <thread>

#include "fs/history.h"
#include "fs/restore.h"

using namespace indra;

namespace {

template <class T>
T must(Result<T> r) {
  if (r) return std::move(*r);
  std::fprintf(stderr, "branch_bench: %s\n", r.error().text().c_str());
  std::exit(1);
}
void must(Result<void> r) {
  if (r) return;
  std::fprintf(stderr, "branch_bench: %s\n", r.error().text().c_str());
  std::exit(1);
}

double now_us(clockid_t clock = CLOCK_MONOTONIC) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

void measure(const std::string& what, int count, const std::function<void(int)>& body) {
  std::vector<double> took, cpu;
  for (int i = 0; i < count; ++i) {
    const double began = now_us(), used = now_us(CLOCK_THREAD_CPUTIME_ID);
    body(i);
    cpu.push_back(now_us(CLOCK_THREAD_CPUTIME_ID) - used);
    took.push_back(now_us() - began);
  }
  std::sort(took.begin(), took.end());
  std::sort(cpu.begin(), cpu.end());
  const auto at = [](const std::vector<double>& all, double part) {
    return all[std::min(all.size() - 1, static_cast<std::size_t>(part * static_cast<double>(all.size())))];
  };
  std::printf("%-56s %10.1f %10.1f %10.1f  cpu %9.1f %9.1f us  (%d)\n", what.c_str(), at(took, 0.5),
              at(took, 0.99), took.back(), at(cpu, 0.5), at(cpu, 0.99), count);
  std::fflush(stdout);
}

const Who kWho{0, 1, "branch_bench", "cli"};
const Caller kMe{0, 0, 1};

struct Vault {
  std::string dir;
  std::unique_ptr<FileSystem> fs;
  void open() {
    FileSystem::Options o;
    o.create = true;
    fs = must(FileSystem::open(dir, o));
  }
  void reopen() {
    fs.reset();
    open();
  }
  std::shared_ptr<View> view(const std::string& branch) {
    ViewSpec s;
    s.branch = branch;
    return must(fs->open_view(s, nullptr));
  }
  void fork(const std::string& name, const std::string& from) {
    must(fs->create_branch(kWho, "main", name, from, ""));
  }
};

NodeId make_file(View& v, NodeId dir, const std::string& name, const std::string& text = "") {
  const Opened f = must(v.create(kMe, dir, name, 0644, O_RDWR));
  if (!text.empty()) {
    must(v.write(kMe, f.handle, 0, as_view(text), false, false));
    must(v.flush(kMe, f.handle));
  }
  v.release(f.handle);
  v.forget(f.attr.node, 1);
  return f.attr.node;
}

NodeId make_dir(View& v, NodeId parent, const std::string& name) {
  const Attr a = must(v.mkdir(kMe, parent, name, 0755));
  v.forget(a.node, 1);
  return a.node;
}

void look(View& v, NodeId dir, const std::string& name) {
  const Attr a = must(v.lookup(dir, name));
  v.forget(a.node, 1);
}

std::size_t list(View& v, NodeId dir) {
  const Handle h = must(v.opendir(dir));
  std::size_t n = 0;
  std::uint64_t cookie = 0;
  for (;;) {
    const std::size_t before = n;
    std::vector<NodeId> held;
    must(v.readdir(h, cookie, true, [&](const DirEntry& e) {
      cookie = e.cookie;
      held.push_back(e.node);
      return ++n - before < 128;
    }));
    for (const NodeId id : held) v.forget(id, 1);
    if (n == before) break;
  }
  v.releasedir(h);
  return n;
}

void write(View& v, NodeId node, const std::string& text) {
  const Handle h = must(v.open(kMe, node, O_RDWR | O_TRUNC));
  must(v.write(kMe, h, 0, as_view(text), false, false));
  must(v.flush(kMe, h));
  v.release(h);
}

/// Files in directories of a thousand.
std::vector<NodeId> fill(View& v, int nodes) {
  std::vector<NodeId> files;
  NodeId dir;
  for (int i = 0; i < nodes; ++i) {
    if (i % 1000 == 0) dir = make_dir(v, v.root(), "dir" + std::to_string(i / 1000));
    files.push_back(make_file(v, dir, "file" + std::to_string(i)));
  }
  return files;
}

void forks_and_snapshots(Vault& vault, const std::vector<NodeId>& files) {
  constexpr int kTimes = 500;
  measure("fork, nothing dirty", kTimes, [&](int i) { vault.fork("quiet" + std::to_string(i), "main"); });
  measure("snapshot, nothing dirty", kTimes, [&](int i) {
    must(vault.fs->create_snapshot(kWho, "main", "main", "quiet" + std::to_string(i), ""));
  });
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  const auto view = vault.view("main");
  for (std::size_t w = 0; w < 64; ++w)
    writers.emplace_back([&, w] {
      for (std::size_t i = w; !stop; i += 64) {
        write(*view, files[i % files.size()], std::string(4096, 'x'));
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
      }
    });
  measure("fork, 64 writers of 200 files a second each", 1000,
          [&](int i) { vault.fork("busy" + std::to_string(i), "main"); });
  measure("snapshot, the same", 1000, [&](int i) {
    must(vault.fs->create_snapshot(kWho, "main", "main", "busy" + std::to_string(i), ""));
  });
  stop = true;
  for (auto& t : writers) t.join();
}

void differences(Vault& vault, const std::vector<NodeId>& files) {
  vault.fork("changed", "main");
  const auto view = vault.view("changed");
  for (std::size_t i = 0; i < 100; ++i) write(*view, files[i * 7919 % files.size()], "changed");
  const Moment a{.branch = "changed", .fork_point = true}, b{.branch = "changed"};
  measure("diff of 100 changes", 20, [&](int) {
    const auto all = must(diff_moments(*vault.fs, "main", a, b));
    if (all.size() > 100 || all.empty()) std::abort();
  });
  measure("restore of all to before 100 changes", 10, [&](int i) {
    RestoreRequest r{.branch = "changed", .from = a, .path = "/", .to = {}};
    must(restore(*vault.fs, kWho, "main", r));
    if (i < 9)  // for the next one
      for (std::size_t k = 0; k < 100; ++k) {
        const NodeId dir =
            must(resolve_path(*view, "/dir" + std::to_string(k * 7919 % files.size() / 1000))).node;
        const Attr f = must(view->lookup(dir, "file" + std::to_string(k * 7919 % files.size())));
        write(*view, f.node, "changed");
        view->forget(f.node, 1);
      }
  });
}

void merges(Vault& vault, const std::vector<NodeId>& files) {
  for (int i = 0; i < 10; ++i) {
    const std::string name = "merged" + std::to_string(i);
    vault.fork(name, "main");
    const auto view = vault.view(name);
    for (std::size_t k = 0; k < 100; ++k)
      write(*view, files[(k * 10 + static_cast<std::size_t>(i)) * 7919 % files.size()],
            name);  // each its own
  }
  measure("merge of 100 changes", 10, [&](int i) {
    const auto r = must(vault.fs->merge(kWho, "main", {.source = "merged" + std::to_string(i)}));
    if (!r.applied || r.plan.steps.size() != 100 || !r.plan.conflicts.empty()) std::abort();
  });
  constexpr int kMany = 20'000;
  vault.fork("many", "main");
  {
    const auto view = vault.view("many");
    NodeId dir;
    for (int i = 0; i < kMany; ++i) {
      if (i % 1000 == 0) dir = make_dir(*view, view->root(), "many" + std::to_string(i / 1000));
      make_file(*view, dir, "new" + std::to_string(i));
    }
  }
  measure("merge of 20,000 new files", 1, [&](int) {
    if (!must(vault.fs->merge(kWho, "main", {.source = "many"})).applied) std::abort();
  });
}

/// A branch with as many nodes of its own as the vault has goes, and others work on.
void deletion(Vault& vault, const std::vector<NodeId>& files) {
  const auto view = vault.view("main");
  const auto work = [&](int i) {
    write(*view, files[static_cast<std::size_t>(i) * 7919 % files.size()], "work " + std::to_string(i));
  };
  must(vault.fs->settle());
  const auto used = [&] {
    must(vault.fs->settle());
    return must(vault.fs->status()).tree.nodes;
  };
  vault.fork("doomed", "main");
  {
    const auto own = vault.view("doomed");
    const NodeId top = make_dir(*own, own->root(), "private");
    NodeId dir;
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (i % 1000 == 0) dir = make_dir(*own, top, std::to_string(i / 1000));
      make_file(*own, dir, std::to_string(i));
    }
  }
  must(vault.fs->sync(true));
  const auto size = [&] { return must(vault.fs->status()).database_bytes >> 20; };
  const std::uint64_t full = size(), nodes = used();
  measure("write of a small file, at rest", 2000, work);
  measure("delete of a branch of " + std::to_string(files.size()) + " nodes", 1,
          [&](int) { must(vault.fs->delete_branch(kWho, "main", "doomed")); });
  measure("write of a small file meanwhile", 2000, work);
  const double began = now_us();
  must(vault.fs->settle());
  std::printf("  the rest of it in the background: %.1f s; nodes %lu -> %lu; database %lu -> %lu MiB\n",
              (now_us() - began) / 1e6, nodes, used(), full, size());
}

/// A directory of a hundred names; each level of forks overrides ten of them and adds one.
void depths(Vault& vault) {
  NodeId dir;
  {
    const auto v = vault.view("main");
    dir = make_dir(*v, v->root(), "hot");
    for (int i = 0; i < 100; ++i) make_file(*v, dir, "name" + std::to_string(i));
  }
  std::string last = "main";
  std::vector<std::pair<int, std::string>> wanted;
  for (int depth = 1; depth <= 512; ++depth) {
    const std::string name = "level" + std::to_string(depth);
    vault.fork(name, last);
    last = name;
    const auto v = vault.view(name);
    for (int i = 0; i < 10; ++i) {
      const Attr f = must(v->lookup(dir, "name" + std::to_string((depth * 10 + i) % 100)));
      v->forget(f.node, 1);
      write(*v, f.node, name);
    }
    make_file(*v, dir, "of-" + name);
    if (depth == 1 || depth == 8 || depth == 64 || depth == 512) wanted.emplace_back(depth, name);
  }
  for (const auto& [depth, name] : wanted) {
    vault.reopen();
    const std::string at = ", depth " + std::to_string(depth);
    auto v = vault.view(name);
    measure("cold: resolve" + at, 100, [&](int i) { look(*v, dir, "name" + std::to_string(i)); });
    v.reset();
    vault.reopen();
    const auto w = vault.view(name);
    std::size_t n = 0;
    measure("cold: readdirplus" + at, 1, [&](int) { n = list(*w, dir); });
    measure("resolve" + at, 5000, [&](int i) { look(*w, dir, "name" + std::to_string(i % 100)); });
    measure("readdirplus of " + std::to_string(n) + at, 100, [&](int) { list(*w, dir); });
  }
}

/// A directory of three names: on each of many branches one file has other content, and one is another file.
void crowded(Vault& vault, int branches) {
  NodeId dir, node;
  {
    const auto v = vault.view("main");
    dir = make_dir(*v, v->root(), "crowd");
    node = make_file(*v, dir, "popular", "main");
    make_file(*v, dir, "replaced", "main");
    make_file(*v, dir, "quiet", "main");
  }
  const auto name = [](int i) { return "one-of-many" + std::to_string(i); };
  for (int i = 0; i < branches; ++i) {
    vault.fork(name(i), "main");
    const auto v = vault.view(name(i));
    write(*v, node, name(i));
    make_file(*v, dir, "new", name(i));
    must(v->rename(kMe, dir, "new", dir, "replaced", 0));
  }
  vault.fork("from-main", "main");  // none of the others' rows is its own
  const std::string what = ", changed on " + std::to_string(branches) + " branches";
  std::vector<std::shared_ptr<View>> views;
  const auto open_all = [&] {
    views.clear();
    vault.reopen();
    views = {vault.view("from-main"), vault.view("main")};
    for (int i = 0; i < 98; ++i)
      views.push_back(vault.view(name(static_cast<int>(static_cast<long>(i) * branches / 98))));
  };
  const auto view = [&](int i) -> View& { return *views[static_cast<std::size_t>(i) % views.size()]; };
  open_all();
  measure("cold: resolve" + what, 100, [&](int i) { look(view(i), dir, "popular"); });
  open_all();
  measure("cold: readdirplus of 3" + what, 100, [&](int i) {
    if (list(view(i), dir) != 3) std::abort();
  });
  measure("resolve" + what, 5000, [&](int i) { look(view(i), dir, i % 2 == 0 ? "popular" : "replaced"); });
  measure("readdirplus of 3" + what, 1000, [&](int i) { list(view(i), dir); });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: branch_bench DIRECTORY [NODES] [BRANCHES]\n");
    return 2;
  }
  Vault vault{std::string{argv[1]} + "/branch-bench-vault", nullptr};
  const int nodes = argc > 2 ? std::atoi(argv[2]) : 1000, branches = argc > 3 ? std::atoi(argv[3]) : 10'000;
  vault.open();
  std::printf("%-56s %10s %10s %10s      %9s %9s\n", (std::to_string(nodes) + " files").c_str(), "median",
              "99%", "largest", "median", "99%");
  const auto files = fill(*vault.view("main"), nodes);
  must(vault.fs->sync(true));
  forks_and_snapshots(vault, files);
  differences(vault, files);
  merges(vault, files);
  deletion(vault, files);
  if (branches > 0) {
    depths(vault);
    crowded(vault, branches);
  }
  vault.fs.reset();
  std::filesystem::remove_all(vault.dir);
  return 0;
}
