// E2, E3 with real processes: one changes a vault, another watches and is killed at random between reading
// and saving its position. INDRA_EVENTS: how many changes (20,000); INDRA_KILLS: how many kills at least
// (20).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "db/test_dir.h"
#include "events/feed.h"
#include "fs/filesystem.h"

namespace indra {
namespace {

int number(const char* name, int fallback) {
  const char* n = std::getenv(name);
  return n != nullptr ? std::max(1, std::atoi(n)) : fallback;
}

/// The numbers of all changes that a vault has kept.
std::vector<std::int64_t> kept(const std::string& vault) {
  std::vector<std::int64_t> all;
  auto feed = Feed::open(vault, {}, Seq{}).value();
  for (;;) {
    const auto batch = feed->next().value();
    for (const auto& e : batch.events) all.push_back(e.row.seq.raw());
    if (!batch.more) return all;
  }
}

struct Shared {
  std::atomic<bool> ready{false}, done{false};
  std::atomic<bool> died{false};  // a watcher between reading and saving its position
};
Shared* share() {
  void* p = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return new (p) Shared{};
}

/// Makes `n` changes: directories that come and go, in one that stays.
int change(const std::string& vault, int n, Shared* s) {
  FileSystem::Options o;
  o.create = true;
  auto fs = FileSystem::open(vault, o);
  if (!fs) return 1;
  auto view = (*fs)->open_view({}, nullptr);
  if (!view) return 2;
  s->ready = true;
  const Caller me{0, 0, 0};
  View& v = **view;
  for (int i = 0; i < n; i += 2) {
    const std::string name = "d" + std::to_string(i);
    const auto made = v.mkdir(me, v.root(), name, 0755);
    if (!made) return 3;
    v.forget(made->node, 1);
    if (!v.rmdir(me, v.root(), name)) return 4;
  }
  if (!(*fs)->sync(false)) return 5;
  view->reset();
  fs->reset();
  s->done = true;
  return 0;
}

/// Reads on from the position in `position`; writes each seq into `log`, and only then saves the position.
/// Unless it is the last, it may die between the two.
[[noreturn]] void watch(const std::string& vault, const std::string& position, const std::string& log,
                        int stop, Shared* s) {
  std::int64_t at = 0;
  std::ifstream{position} >> at;
  auto feed = Feed::open(vault, {}, Seq{at});
  if (!feed) ::_exit(1);
  std::mt19937 random{static_cast<unsigned>(::getpid())};
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  for (;;) {
    const auto batch = (*feed)->next(64);
    if (!batch) ::_exit(2);
    std::string lines;
    for (const ChangeEvent& e : batch->events) lines += std::to_string(e.row.seq.raw()) + "\n";
    if (!lines.empty() && ::write(out, lines.data(), lines.size()) < 0) ::_exit(3);
    if (stop == 0 && !lines.empty() && (!s->died.exchange(true) || random() % 8 == 0))
      ::kill(::getpid(), SIGKILL);
    {
      std::ofstream f{position + ".new"};
      f << batch->upto.raw();
    }
    if (::rename((position + ".new").c_str(), position.c_str()) != 0) ::_exit(4);
    if (!batch->more && ::access((vault + "/stop").c_str(), F_OK) == 0 && stop != 0) ::_exit(0);
    if (!batch->more) (*feed)->wait(kSecond / 10);
  }
}

TEST(FeedProcesses, GivenAWatcherKilledAtRandom_WhenItResumes_ThenItHasSeenEachChangeAndInOrder) {
  const TestDir dir;
  const std::string vault = dir / "v", position = dir / "position", log = dir / "log";
  const int n = number("INDRA_EVENTS", 20'000), kills = number("INDRA_KILLS", 20);
  Shared* s = share();
  const pid_t writer = ::fork();
  ASSERT_GE(writer, 0);
  if (writer == 0) ::_exit(change(vault, n, s));
  while (!s->ready) {
    ASSERT_EQ(::waitpid(writer, nullptr, WNOHANG), 0) << "the writer ended early";
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  std::mt19937 random{3};
  int killed = 0;
  const auto round = [&](bool last) {
    const pid_t child = ::fork();
    if (child == 0) watch(vault, position, log, last ? 1 : 0, s);
    if (!last && s->died) {  // the first one dies by itself, with what it has read
      std::this_thread::sleep_for(std::chrono::microseconds{2000 + random() % 40'000});
      ::kill(child, SIGKILL);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (!last) ++killed;
    return status;
  };
  while (killed < kills || !s->done) round(false);
  int status = 0;
  ASSERT_EQ(::waitpid(writer, &status, 0), writer);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  dir.write("v/stop", as_view("x"));
  status = round(true);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;

  const auto all = kept(vault);
  EXPECT_GE(all.size(), static_cast<std::size_t>(n));
  // What was seen: each change, the first time in order; what comes again is what was read and not yet saved.
  std::set<std::int64_t> seen;
  std::vector<std::int64_t> firsts;
  std::size_t again = 0;
  std::ifstream in{log};
  for (std::int64_t seq = 0; in >> seq;)
    if (seen.insert(seq).second)
      firsts.push_back(seq);
    else
      ++again;
  EXPECT_EQ(firsts, all);
  EXPECT_GT(again, 0u);
  EXPECT_LE(again, static_cast<std::size_t>(killed) * 64);  // a batch each
  RecordProperty("changes", static_cast<int>(all.size()));
  RecordProperty("kills", killed);
  RecordProperty("again", static_cast<int>(again));
}

// Without kills: no loss, no repetition, order kept.
TEST(FeedProcesses, GivenChangesOfAnotherProcess_WhenWatched_ThenEachComesOnceInOrder) {
  const TestDir dir;
  const std::string vault = dir / "v";
  const int n = number("INDRA_EVENTS", 20'000);
  Shared* s = share();
  const pid_t writer = ::fork();
  ASSERT_GE(writer, 0);
  if (writer == 0) ::_exit(change(vault, n, s));
  while (!s->ready) {
    ASSERT_EQ(::waitpid(writer, nullptr, WNOHANG), 0) << "the writer ended early";
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  auto feed = Feed::open(vault, {}, Seq{}).value();
  std::vector<std::int64_t> live;
  for (;;) {
    const bool done = s->done;  // before looking
    const auto batch = feed->next().value();
    for (const auto& e : batch.events) live.push_back(e.row.seq.raw());
    if (batch.more) continue;
    if (done) break;
    feed->wait(kSecond);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(writer, &status, 0), writer);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  const auto all = kept(vault);
  EXPECT_GE(all.size(), static_cast<std::size_t>(n));
  EXPECT_EQ(live, all);
  EXPECT_TRUE(std::is_sorted(live.begin(), live.end()));
  EXPECT_EQ(std::set<std::int64_t>(live.begin(), live.end()).size(), live.size());
}

}  // namespace
}  // namespace indra
