// What the daemon itself does for each call of a View, without FUSE: time and processor time an operation.
//
//   fs_bench DIRECTORY [FILES] [JOBS]      a vault is made in DIRECTORY and removed again
//
// What a mount adds is round trips: bench/compare.sh.
#include <fcntl.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <random>
#include <thread>

#include "fs/filesystem.h"
#include "must.h"

using namespace indra;

namespace {

double wall() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double processor() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

void measure(const char* what, int count, int jobs, const std::function<void(int job, int i)>& body) {
  const double began = wall(), cpu = processor();
  std::vector<std::thread> threads;
  for (int j = 0; j < jobs; ++j)
    threads.emplace_back([&, j] {
      for (int i = 0; i < count / jobs; ++i) body(j, i);
    });
  for (auto& t : threads) t.join();
  std::printf("%-34s %8.2f us each, processor %8.2f us\n", what, (wall() - began) / count * 1e6,
              (processor() - cpu) / count * 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: fs_bench DIRECTORY [FILES] [JOBS]\n");
    return 2;
  }
  const std::string dir = std::string{argv[1]} + "/fs-bench-vault";
  const int files = argc > 2 ? std::atoi(argv[2]) : 10'000, jobs = argc > 3 ? std::atoi(argv[3]) : 1;
  FileSystem::Options options;
  options.create = true;
  {
    const auto fs = must(FileSystem::open(dir, options));
    const auto view = must(fs->open_view({}, nullptr));
    const Caller me{0, 0, 1};
    std::vector<NodeId> dirs, nodes(static_cast<std::size_t>(files));
    for (int j = 0; j < jobs; ++j)
      dirs.push_back(must(view->mkdir(me, view->root(), "d" + std::to_string(j), 0755)).node);
    const auto name = [](int i) { return "file" + std::to_string(i); };
    const auto node = [&](int j, int i) -> NodeId& {
      return nodes[static_cast<std::size_t>(j * (files / jobs) + i)];
    };
    measure("create + release, empty", files, jobs, [&](int j, int i) {
      const Opened f = must(
          view->create(me, dirs[static_cast<std::size_t>(j)], "empty" + std::to_string(i), 0644, O_WRONLY));
      must(view->flush(me, f.handle));
      view->release(f.handle);
    });
    measure("lookup of no name", files, jobs, [&](int j, int i) {
      if (view->lookup(dirs[static_cast<std::size_t>(j)], name(i))) std::exit(1);
    });
    std::vector<Bytes> data(64, Bytes(4096));
    std::mt19937_64 random{static_cast<std::uint64_t>(wall() * 1e6)};
    for (Bytes& b : data)
      for (std::size_t k = 0; k < b.size(); k += 8) store_le<std::uint64_t>(b.data() + k, random());
    measure("create, write 4 KiB, close", files, jobs, [&](int j, int i) {
      const Opened f = must(view->create(me, dirs[static_cast<std::size_t>(j)], name(i), 0644, O_WRONLY));
      Bytes mine = data[static_cast<std::size_t>(i % 64)];
      store_le<std::uint64_t>(mine.data(), static_cast<std::uint64_t>(j) << 32 | static_cast<unsigned>(i));
      must(view->write(me, f.handle, 0, mine, false, false));
      must(view->flush(me, f.handle));
      view->release(f.handle);
      node(j, i) = f.attr.node;
    });
    measure("lookup", files, jobs, [&](int j, int i) {
      const Attr a = must(view->lookup(dirs[static_cast<std::size_t>(j)], name(i)));
      view->forget(a.node, 1);
    });
    measure("getattr", files, jobs, [&](int j, int i) { (void)must(view->getattr(node(j, i))); });
    measure("open, read 4 KiB, release", files, jobs, [&](int j, int i) {
      Bytes b(4096);
      const Handle h = must(view->open(me, node(j, i), O_RDONLY));
      (void)must(view->read(h, 0, b));
      view->release(h);
    });
    measure("open, release", files, jobs,
            [&](int j, int i) { view->release(must(view->open(me, node(j, i), O_RDONLY))); });
    measure("chmod", files, jobs, [&](int j, int i) {
      SetAttr s;
      s.mode = 0600;
      (void)must(view->setattr(me, node(j, i), s));
    });
    measure("unlink, forget", files, jobs, [&](int j, int i) {
      must(view->unlink(me, dirs[static_cast<std::size_t>(j)], name(i)));
      view->forget(node(j, i), 1);
    });
  }
  std::filesystem::remove_all(dir);
}
