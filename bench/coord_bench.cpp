// What coordination costs: queues, streams, and how soon a listener in another process has what was
// committed.
//
//   coord_bench DIRECTORY [SECONDS]       (a directory on a real disk; SECONDS for each figure, default 2)
//
// WAL, synchronous=NORMAL. Workers are processes. Latency is from before the call that commits until the
// listener has read the row. "busy": four more processes put jobs in all the time.
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
#include <functional>
#include <thread>

#include "events/coord.h"
#include "must.h"

using namespace indra;

namespace {

std::string dir;
double seconds = 2;

TimeNs steady() { return system_clock().steady(); }

struct Shared {
  std::atomic<std::int64_t> count{0}, sent{0};
  std::atomic<bool> stop{false}, ready{false};
};
Shared* share() {
  void* p = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return new (p) Shared{};
}

std::string fresh(const char* name) {
  const std::string path = dir + "/" + name + ".db";
  for (const char* end : {"", "-wal", "-shm", "-knock"}) std::filesystem::remove(path + end);
  auto c = must(Coord::open(path));
  must(c->call("indra_queue_create", {"q", R"({"max_attempts": 1000})"}));
  return path;
}

pid_t process(const std::function<void()>& fn) {
  const pid_t child = ::fork();
  if (child == 0) {
    fn();
    std::_Exit(0);
  }
  return child;
}
void reap(const std::vector<pid_t>& all) {
  for (const pid_t p : all) ::waitpid(p, nullptr, 0);
}

/// fn() again and again, in one process; how many a second, each counting for `each`.
double rate(int each, const std::function<void()>& fn) {
  const TimeNs begin = steady(), end = begin + static_cast<TimeNs>(seconds * 1e9);
  std::int64_t n = 0;
  while (steady() < end) fn(), ++n;
  return static_cast<double>(n * each) * 1e9 / static_cast<double>(steady() - begin);
}

void line(const char* what, double per_second) { fmt::print("| {} | {:.0f} |\n", what, per_second); }

void enqueue() {
  {
    auto c = must(Coord::open(fresh("e1")));
    line("enqueue, one a transaction", rate(1, [&] { must(c->call("indra_enqueue", {"q", "payload"})); }));
  }
  auto c = must(Coord::open(fresh("e100")));
  line("enqueue, 100 a transaction", rate(100, [&] {
         must(c->execute("BEGIN IMMEDIATE"));
         for (int i = 0; i < 100; ++i) must(c->call("indra_enqueue", {"q", "payload"}));
         must(c->execute("COMMIT"));
       }));
}

void fill(const std::string& path, int n) {
  auto c = must(Coord::open(path));
  for (int i = 0; i < n;) {
    must(c->execute("BEGIN IMMEDIATE"));
    for (int k = 0; k < 1000; ++k, ++i) must(c->call("indra_enqueue", {"q", "payload"}));
    must(c->execute("COMMIT"));
  }
}

void work(const std::string& path, const std::string& name, int batch, Shared* s, double visibility = 30) {
  auto c = must(Coord::open(path));
  while (!s->stop) {
    auto jobs = c->call_json("indra_claim", {"q", name, std::int64_t{batch}, visibility});
    if (!jobs) continue;
    if (jobs->empty()) {
      ::usleep(1000);
      continue;
    }
    Coord::Json ids = Coord::Json::array();
    for (const auto& j : *jobs) ids.push_back(j["id"]);
    const auto done = batch == 1 ? c->call("indra_ack", {ids[0].get<std::int64_t>(), name})
                                 : c->call("indra_ack_many", {ids.dump(), name});
    if (done) s->count += static_cast<std::int64_t>(ids.size());
  }
}

double drain(int workers, int batch, bool crash) {
  const std::string path = fresh("drain");
  fill(path, static_cast<int>(seconds * (batch == 1 ? 30'000 : 150'000)));
  Shared* s = share();
  std::vector<pid_t> all;
  for (int i = 0; i < workers; ++i)
    all.push_back(process([&] { work(path, fmt::format("w{}", i), batch, s, crash ? 0.2 : 30); }));
  const TimeNs begin = steady();
  ::usleep(static_cast<useconds_t>(seconds * 5e5));
  if (crash) {
    ::kill(all.back(), SIGKILL);
    all.push_back(process([&] { work(path, "again", batch, s, 0.2); }));
  }
  ::usleep(static_cast<useconds_t>(seconds * 5e5));
  const double r = static_cast<double>(s->count) * 1e9 / static_cast<double>(steady() - begin);
  s->stop = true;
  reap(all);
  return r;
}

void streams() {
  const std::string path = fresh("stream");
  auto c = must(Coord::open(path));
  line("stream publish, one a transaction", rate(1, [&] {
         must(c->call("indra_publish", {"t", "payload"}));
       }));
  for (int i = 0; i < 200; ++i) {
    must(c->execute("BEGIN IMMEDIATE"));
    for (int k = 0; k < 1000; ++k) must(c->call("indra_publish", {"t", "payload"}));
    must(c->execute("COMMIT"));
  }
  std::int64_t at = 0;
  line("stream replay, 1000 a call", rate(1000, [&] {
         auto events = must(c->call_json("indra_read", {"t", at, std::int64_t{1000}}));
         at = events.size() < 1000 ? 0 : events.back()["offset"].get<std::int64_t>();
       }));
}

void latency(bool busy) {
  const std::string path = fresh("latency");
  Shared* s = share();
  constexpr int kRounds = 2000;
  auto* times = static_cast<std::int64_t*>(::mmap(nullptr, kRounds * sizeof(std::int64_t),
                                                  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::vector<pid_t> all;
  if (busy)
    for (int i = 0; i < 4; ++i)
      all.push_back(process([&] {
        auto c = must(Coord::open(path));
        while (!s->stop) (void)c->call("indra_enqueue", {"q", "load"});
      }));
  const pid_t listener = process([&] {
    auto c = must(Coord::open(path));
    std::int64_t at = 0;
    s->ready = true;
    for (int i = 0; i < kRounds;) {
      const auto seen = c->ticket();
      const auto rows = must(c->select("SELECT id FROM indra_notifications WHERE id > ?", {at}));
      const TimeNs now = steady();
      for (const auto& row : rows) {
        at = row[0].get<std::int64_t>();
        times[i++] = now - s->sent;
        s->count = i;
      }
      if (rows.empty()) c->wait(seen);
    }
  });
  auto c = must(Coord::open(path));
  while (!s->ready) ::usleep(1000);
  for (int i = 0; i < kRounds; ++i) {
    ::usleep(500);
    s->sent = steady();
    must(c->call("indra_notify", {"c", "x"}));
    while (s->count <= i) std::this_thread::yield();
  }
  ::waitpid(listener, nullptr, 0);
  s->stop = true;
  reap(all);
  std::sort(times, times + kRounds);
  const auto us = [&](double p) {
    return static_cast<double>(times[static_cast<int>(p * (kRounds - 1))]) / 1000;
  };
  fmt::print("| wake-up in another process, {} | p50 {:.0f} us, p99 {:.0f} us, worst {:.0f} us |\n",
             busy ? "busy" : "idle", us(0.5), us(0.99), us(1));
}

std::int64_t switches() {
  std::int64_t n = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == std::to_string(::getpid())) continue;  // the thread that counts
    std::ifstream f{task.path() / "status"};
    for (std::string l; std::getline(f, l);)
      if (l.find("ctxt_switches") != std::string::npos) n += std::atoll(l.substr(l.find(':') + 1).c_str());
  }
  return n;
}

void idle() {
  const std::string path = fresh("idle");
  std::atomic<bool> stop{false};
  std::atomic<int> asleep{0};
  std::vector<std::thread> listeners;
  auto c = must(Coord::open(path));
  for (int i = 0; i < 1000; ++i)
    listeners.emplace_back([&] {
      auto k = must(Knock::open(coord_knock(path)));
      while (!stop) {
        const auto seen = k->ticket();
        if (stop) return;
        ++asleep;
        k->wait(seen, -1);
      }
    });
  while (asleep < 1000) ::usleep(1000);
  ::usleep(200'000);
  const std::int64_t before = switches();
  ::usleep(5'000'000);
  fmt::print("| wake-ups in 5 s, 1,000 listeners, nothing happens | {} |\n", switches() - before);
  stop = true;
  c->ring();
  for (auto& t : listeners) t.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "coord_bench DIRECTORY [SECONDS]\n");
    return 2;
  }
  dir = argv[1];
  if (argc > 2) seconds = std::atof(argv[2]);
  fmt::print("| what | a second |\n|---|---|\n");
  enqueue();
  for (const int workers : {1, 4})
    for (const int batch : {1, 8, 32, 128})
      line(fmt::format("claim and ack, {} a call, {} worker{}", batch, workers, workers > 1 ? "s" : "")
               .c_str(),
           drain(workers, batch, false));
  for (const int batch : {1, 32})
    for (const int workers : {1, 4})
      line(fmt::format("claim and ack, {} a call, {}, one killed in the middle and replaced", batch,
                       workers == 1 ? "1 worker" : "4 workers")
               .c_str(),
           drain(workers, batch, true));
  streams();
  latency(false);
  latency(true);
  idle();
}
