// How soon a watcher in another process has a change of a vault, and what watchers cost when nothing happens.
//
//   feed_bench DIRECTORY      (a directory on a real disk)
//
// "commit": from just before the COMMIT that makes the change visible until the watcher has read its row.
// "call and sync": from before the call that changed something, which is then made durable at once. "call":
// without; the vault commits when nothing came for a moment, so this holds that wait too. "busy": four
// threads make directories in the same vault all the time.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "events/feed.h"
#include "fs/filesystem.h"
#include "must.h"

using namespace indra;

namespace {

TimeNs steady() { return system_clock().steady(); }

constexpr int kRounds = 1000, kSlowRounds = 100;
struct Shared {
  std::atomic<std::int64_t> commit{0}, call{0}, count{0};
  std::atomic<bool> ready{false}, open{false};
  std::int64_t from_commit[kRounds], from_call[kRounds];
};

void latency(const std::string& vault, bool busy, bool sync) {
  const int rounds = sync ? kRounds : kSlowRounds;
  std::filesystem::remove_all(vault);
  auto* s = new (::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
      Shared{};
  const pid_t watcher = ::fork();  // before there are threads
  if (watcher == 0) {
    while (!s->open) ::usleep(1000);
    ChangeFilter filter;
    filter.kinds = {"mkdir", "create"};
    filter.subtrees.push_back({"main", "/probe"});
    auto feed = must(Feed::open(vault, filter, std::nullopt));
    s->ready = true;
    for (int i = 0; i < rounds;) {
      const auto batch = must(feed->next());
      const TimeNs now = steady();
      for (std::size_t k = 0; k < batch.events.size() && i < rounds; ++k) {
        s->from_commit[i] = now - s->commit;
        s->from_call[i++] = now - s->call;
        s->count = i;
      }
      if (!batch.more) feed->wait();
    }
    std::_Exit(0);
  }
  FileSystem::Options o;
  o.create = true;
  o.faults = FaultPoints{[&](std::string_view at) -> Result<void> {
    if (at == "db.commit") s->commit = steady();
    return {};
  }};
  auto fs = must(FileSystem::open(vault, o));
  auto view = must(fs->open_view({}, nullptr));
  const Caller me{0, 0, 0};
  const NodeId probe = must(view->mkdir(me, view->root(), "probe", 0755)).node;
  const NodeId other = must(view->mkdir(me, view->root(), "other", 0755)).node;
  must(fs->sync(false));
  s->open = true;
  while (!s->ready) ::usleep(1000);
  std::atomic<bool> stop{false};
  std::vector<std::thread> load;
  if (busy)
    for (int t = 0; t < 4; ++t)
      load.emplace_back([&, t] {
        for (int i = 0; !stop; ++i) {
          const std::string name = fmt::format("{}-{}", t, i);
          const Attr a = must(view->mkdir(me, other, name, 0755));
          view->forget(a.node, 1);
          must(view->rmdir(me, other, name));
        }
      });
  for (int i = 0; i < rounds; ++i) {
    ::usleep(1000);
    s->call = steady();
    const Attr a = must(view->mkdir(me, probe, fmt::format("d{}", i), 0755));
    view->forget(a.node, 1);
    if (sync) must(fs->sync(false));
    while (s->count <= i) ::usleep(50);
  }
  stop = true;
  for (auto& t : load) t.join();
  ::waitpid(watcher, nullptr, 0);
  const auto line = [&](const char* what, std::int64_t* times) {
    std::sort(times, times + rounds);
    const auto us = [&](double p) {
      return static_cast<double>(times[static_cast<int>(p * (rounds - 1))]) / 1000;
    };
    fmt::print("| {}, {} | p50 {:.0f} us, p99 {:.0f} us, worst {:.0f} us |\n", what, busy ? "busy" : "idle",
               us(0.5), us(0.99), us(1));
  };
  if (!busy) line("from the commit", s->from_commit);  // else the next one has begun meanwhile
  line(sync ? "from the call and sync" : "from the call", s->from_call);
}

std::int64_t switches(pid_t pid) {
  std::int64_t n = 0;
  for (const auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid))) {
    std::ifstream f{task.path() / "status"};
    for (std::string l; std::getline(f, l);)
      if (l.find("ctxt_switches") != std::string::npos) n += std::atoll(l.substr(l.find(':') + 1).c_str());
  }
  return n;
}

/// A thousand watchers, in ten processes, of a vault that is open and at rest.
void idle(const std::string& vault) {
  std::filesystem::remove_all(vault);
  auto* s = new (::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
      Shared{};
  std::vector<pid_t> watchers;
  for (int p = 0; p < 10; ++p) {
    const pid_t child = ::fork();
    if (child == 0) {
      while (!s->open) ::usleep(1000);
      std::vector<std::thread> all;
      for (int i = 0; i < 100; ++i)
        all.emplace_back([&] {
          auto feed = must(Feed::open(vault, {}, std::nullopt));
          for (;;) {
            (void)must(feed->next());
            ++s->count;
            feed->wait();
          }
        });
      for (auto& t : all) t.join();
    }
    watchers.push_back(child);
  }
  FileSystem::Options o;
  o.create = true;
  auto fs = must(FileSystem::open(vault, o));
  s->open = true;
  while (s->count < 1000) ::usleep(10'000);
  ::usleep(12'000'000);  // the vault comes to rest
  const auto all = [&] {
    std::int64_t n = 0;
    for (const pid_t p : watchers) n += switches(p);
    return n;
  };
  const std::int64_t before = all(), own = switches(::getpid());
  ::usleep(10'000'000);
  fmt::print("| wake-ups in 10 s of 1,000 watchers in ten processes, the vault at rest | {} |\n",
             all() - before);
  fmt::print("| of the vault's own threads | {} |\n", switches(::getpid()) - own - 1);  // this one slept once
  for (const pid_t p : watchers) ::kill(p, SIGKILL), ::waitpid(p, nullptr, 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "feed_bench DIRECTORY\n");
    return 2;
  }
  const std::string vault = std::string{argv[1]} + "/feed-vault";
  latency(vault, false, true);
  latency(vault, true, true);
  latency(vault, false, false);
  idle(vault);
  std::filesystem::remove_all(vault);
}
