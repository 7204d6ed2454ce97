// Ten workspaces: forked, worked in at the same time, merged one after the other, dropped.
//
//   workspaces VAULT        makes a vault there
//
// Each worker edits its own line of a plan that all share, writes a file of its own, and answers one question
// that all answer differently: of those answers none is lost, and the conflicts say where they lie.
#include <indrafs/indrafs.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

using namespace indra;

namespace {

constexpr int kWorkers = 10;
const Who kWho{.uid = 0, .pid = 0, .program = "workspaces", .front_end = "library"};
const Caller kMe{};

/// The value, or the end of the program: what an example may do.
template <class T>
T must(Result<T> r) {
  if (r) return std::move(*r);
  std::fprintf(stderr, "workspaces: %s\n", r.error().text().c_str());
  std::exit(1);
}
void must(Result<void> r) {
  if (!r) must(Result<int>{tl::make_unexpected(r.error())});
}

std::string name_of(int worker) { return "worker-" + std::to_string(worker); }
std::string line_of(int worker) { return "step " + std::to_string(worker) + ": open\n"; }

/// What a worker does in its own fork. No other thread needs to know of it.
void work(FileSystem& fs, int me) {
  const auto view = must(fs.open_view({.branch = name_of(me)}, nullptr));
  std::string plan{as_text(must(read_file(*view, kMe, "/plan")))};
  const std::string mine = line_of(me);
  plan.replace(plan.find(mine), mine.size(),
               "step " + std::to_string(me) + ": done by " + name_of(me) + "\n");
  must(write_file(fs, *view, kMe, "/plan", as_view(plan)));
  must(write_file(fs, *view, kMe, "/results/" + name_of(me), as_view("the result of " + name_of(me))));
  must(write_file(fs, *view, kMe, "/answer", as_view(std::to_string(me))));
}

void check(bool true_, const char* what) {
  if (true_) return;
  std::fprintf(stderr, "workspaces: %s\n", what);
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: workspaces VAULT\n");
    return 2;
  }
  FileSystem::Options options;
  options.create = true;
  const auto fs = must(FileSystem::open(argv[1], options));
  const auto main_view = must(fs->open_view({.branch = "main"}, nullptr));

  std::string plan;
  for (int n = 0; n < kWorkers; ++n) plan += line_of(n) + "\n\n\n";  // far enough apart to be joined as text
  must(write_file(*fs, *main_view, kMe, "/plan", as_view(plan)));
  must(write_file(*fs, *main_view, kMe, "/answer", as_view("?")));
  must(main_view->mkdir(kMe, main_view->root(), "results", 0755));
  must(fs->create_snapshot(kWho, "main", "main", "before", "nobody has worked yet"));

  std::vector<std::thread> workers;
  for (int n = 0; n < kWorkers; ++n) {
    must(fs->fork(kWho, "main", name_of(n), {}));
    workers.emplace_back([&fs, n] { work(*fs, n); });
  }
  for (auto& w : workers) w.join();

  std::size_t conflicts = 0;
  for (int n = 0; n < kWorkers; ++n) {
    const auto merged = must(fs->merge(kWho, "main", {.source = name_of(n)}));
    std::printf("%s: %zu steps\n", name_of(n).c_str(), merged.plan.steps.size());
    for (const MergeConflict& c : merged.plan.conflicts) {
      std::printf("  conflict: %s, kept beside as %s\n", c.path.c_str(), c.second.c_str());
      check(as_text(must(read_file(*main_view, kMe, "/" + c.second))) == std::to_string(n),
            "an answer is lost");
      ++conflicts;
    }
    must(fs->delete_branch(kWho, "main", name_of(n)));
  }

  const std::string done{as_text(must(read_file(*main_view, kMe, "/plan")))};
  check(done.find("open") == done.npos, "a step is not done");
  for (int n = 0; n < kWorkers; ++n) {
    check(done.find("done by " + name_of(n) + "\n") != done.npos, "a line is lost");
    must(read_file(*main_view, kMe, "/results/" + name_of(n)));
  }
  check(conflicts == kWorkers - 1, "each answer but the first is a conflict");

  const auto changed = must(diff_moments(*fs, "main", {.snapshot = "before"}, {}));
  std::printf("%zu files differ from before\n", changed.size());
  must(restore(*fs, kWho, "main", {.from = {.snapshot = "before"}, .path = "/answer"}));
  check(as_text(must(read_file(*main_view, kMe, "/answer"))) == "?", "the question is not back");
  return 0;
}
