// docs/branches.md: many forks at once, and many one after the other.
#include <chrono>
#include <random>
#include <set>

#include "fs/internal/merge_world.h"

namespace indra {
namespace {

using Words = std::set<std::string>;

int number_from(const char* name, int otherwise) {
  const char* s = std::getenv(name);
  return s != nullptr ? std::atoi(s) : otherwise;
}

Words words_of(const std::map<std::string, std::string>& tree) {
  Words out;
  for (const auto& [path, what] : tree) {
    if (what[0] != 'F') continue;
    for (std::size_t at = what.find(' ', 2) + 1; at < what.size();) {
      const std::size_t end = std::min(what.find('\n', at), what.size());
      out.insert(what.substr(at, end - at));
      at = end + 1;
    }
  }
  return out;
}

/// Agents that each work in a fork: in one file that all share, in one directory that all share, and apart.
class Crowd : public MergeWorld {
 public:
  Crowd(int agents, int edits) : agents_{agents}, edits_{edits} {
    for (const char* dir : {"/own", "/shared"}) mkdir("main", dir);
    write("main", "/plan", lines(200));
    for (int i = 0; i < 20; ++i) write("main", "/shared/f" + std::to_string(i), lines(20));
    base_ = words_of(tree("main"));
    pause();
  }
  void work() {
    for (int n = 0; n < agents_; ++n) {
      const std::string b = name(n);
      fork(b);
      mkdir(b, "/own/" + b);
      for (int e = 0; e < edits_; ++e) edit(b);
    }
  }
  /// Merges all; each must leave in `main` whatever the agent or main had and the other had not seen.
  void merge_all() {
    Words removed;  // by somebody who had seen it
    for (int n = 0; n < agents_ && !testing::Test::HasFailure(); ++n) {
      const auto his_tree = tree(name(n)), main_tree = tree("main");
      const Words his = words_of(his_tree), before = words_of(main_tree);
      for (const std::string& w : base_)
        if (!his.contains(w)) removed.insert(w);
      const auto began = std::chrono::steady_clock::now();
      const auto report = merge(name(n));
      took.push_back(
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count());
      const auto now = tree("main");
      const Words all = words_of(now);
      std::string lost;
      for (const std::string& w : his)
        if (!all.contains(w) && !base_.contains(w)) lost += w + " of " + name(n) + in(his_tree, w) + "\n";
      for (const std::string& w : before)
        if (!all.contains(w) && !removed.contains(w)) lost += w + " of main" + in(main_tree, w) + "\n";
      if (!lost.empty()) {
        for (const MergeStep& step : report.plan.steps)
          lost += std::string{step_name(step.kind)} + " " + step.path + " " +
                  std::to_string(step.node.raw()) + " " + step.at.name + " -> " + step.to.name + "\n";
        ADD_FAILURE() << "lost:\n" << lost << conflicts(report);
      }
      for (const MergeConflict& c : report.plan.conflicts) {
        ++conflicts_listed;
        const std::string beside = c.path.substr(0, c.path.rfind('/') + 1) + c.second;
        if (c.outcome == MergeConflict::Outcome::both) EXPECT_TRUE(now.contains(beside)) << beside;
      }
      const auto again = merge(name(n));
      EXPECT_EQ(again.plan.steps.size(), 0u);
      MergeWorld::ok(fs->delete_branch(who, "main", name(n)));
    }
    for (const std::string& w : base_)
      EXPECT_TRUE(removed.contains(w) || words_of(tree("main")).contains(w)) << w << " went by itself";
  }
  std::size_t conflicts_listed = 0;
  std::vector<double> took;  // milliseconds, of each merge

 private:
  static std::string in(const std::map<std::string, std::string>& tree, const std::string& word) {
    for (const auto& [path, what] : tree)
      if (what.find(word + "\n") != what.npos) return " in " + path;
    return " nowhere";
  }
  static std::string name(int n) { return "agent-" + std::to_string(n); }
  std::string lines(int n) {
    std::string s;
    while (n-- > 0) s += "w" + std::to_string(++last_) + "\n";
    return s;
  }
  std::size_t pick(std::size_t n) { return std::uniform_int_distribution<std::size_t>{0, n - 1}(random_); }
  void change(const std::string& b, const std::string& path) {
    std::string s = read(b, path);
    const std::size_t at = s.empty() ? 0 : s.find('\n', pick(s.size())) + 1;
    if (pick(4) == 0 && at < s.size()) s.erase(at, s.find('\n', at) - at + 1);
    s.insert(at, lines(1));
    pick(2) == 0 ? write(b, path, s) : replace(b, path, s);
  }
  void edit(const std::string& b) {
    const std::string own = "/own/" + b + "/" + std::to_string(pick(12));
    const std::string shared = "/shared/f" + std::to_string(pick(24));
    switch (pick(8)) {
      case 0:
        return change(b, "/plan");
      case 1:
      case 2:
        return there(b, shared) ? change(b, shared) : write(b, shared, lines(3));
      case 3:
        return write(b, "/shared/" + b + "-" + std::to_string(++last_), lines(2));
      case 4:
        if (there(b, own) && !there(b, own + "-moved")) rename(b, own, own + "-moved");
        return;
      case 5:
        if (pick(8) == 0 && there(b, shared)) unlink(b, shared);
        return;
      default:
        return there(b, own) ? change(b, own) : write(b, own, lines(5));
    }
  }
  const int agents_, edits_;
  std::mt19937 random_{17};
  int last_ = 0;
  Words base_;
};

TEST(MergeCrowd, GivenAgentsOnForks_WhenMergedOneAfterTheOther_ThenNothingIsLost) {  // INDRA_AGENTS=50
  const int agents = number_from("INDRA_AGENTS", 10);
  Crowd crowd{agents, 200};
  crowd.work();
  crowd.merge_all();
  std::sort(crowd.took.begin(), crowd.took.end());
  std::printf(
      "%d agents, 200 edits each: %zu conflicts kept; a merge took %.1f ms (median), %.1f (longest)\n",
      agents, crowd.conflicts_listed, crowd.took[crowd.took.size() / 2], crowd.took.back());
  EXPECT_GT(crowd.conflicts_listed, 0u);
}

/// A vault of random files; forks come, change one, make one, lose one, and go.
class Visitors : public MergeWorld {
 public:
  explicit Visitors(int files) : files_{files} {
    for (int i = 0; i < files_; ++i) write("main", "/f" + std::to_string(i), text(i, 200'000));
  }
  void cycle(int i, TimeNs takes) {
    const std::string b = "fork" + std::to_string(i);
    fork(b);
    write(b, "/f" + std::to_string(i % files_), text(1000 + i, 100'000));
    write(b, "/new", text(2000 + i, 50'000));
    unlink(b, "/f" + std::to_string((i + 1) % files_));
    forget(b);
    ok(fs->delete_branch(who, "main", b));
    clock.advance(takes);
    if (i % 10 == 0) rest();
  }
  /// All that the background does, as far as its time has come.
  void rest() {
    clock.advance(61 * kSecond);  // so that it looks for old versions
    for (int i = 0; i < 12 && ok(fs->tick()); ++i) {
    }
    ok(fs->settle());
  }
  /// At rest, past all automatic moments and what the feed keeps.
  FileSystem::Status years_later() {
    clock.advance(100LL * 24 * 3600 * kSecond);
    for (int i = 0; i < 20; ++i) {
      rest();
      clock.advance(3600 * kSecond);
    }
    return ok(fs->status());
  }

 private:
  static std::string text(int seed, std::size_t n) {
    std::mt19937 random{static_cast<unsigned>(seed)};
    std::string s(n, ' ');
    for (char& c : s) c = static_cast<char>(random());
    return s;
  }
  const int files_;
};

// INDRA_CYCLES=10000, in a vault of INDRA_FILES=1000 files of 200 KB: what is left then is the high-water
// mark of the change log, free pages that the next changes take.
TEST(MergeCrowd, GivenForksThatComeAndGo_WhenAtRest_ThenTheirSpaceIsBack) {  // B7
  const int cycles = number_from("INDRA_CYCLES", 200);
  Visitors w{number_from("INDRA_FILES", 64)};
  const auto before = w.years_later();
  for (int i = 0; i < cycles; ++i) w.cycle(i, 7 * kSecond);
  const auto worked = MergeWorld::ok(w.fs->status());
  const auto after = w.years_later();
  std::printf("%d cycles: %lu -> %lu bytes on disk (database %lu -> %lu; %lu changes, then %lu)\n", cycles,
              before.physical, after.physical, before.database_bytes, after.database_bytes,
              worked.tree.changes, after.tree.changes);
  EXPECT_LE(after.physical, before.physical + before.physical / 100);
  EXPECT_LE(after.content.physical, before.content.physical + (64 << 10));
  EXPECT_EQ(after.tree.past_rows, before.tree.past_rows);
  EXPECT_EQ(after.tree.pins, before.tree.pins);
  EXPECT_LT(after.tree.changes, 100u);
}

TEST(MergeCrowd, GivenForksThatTookOver_WhenTheyAreGone_ThenWhatTheyTookIsHeldForNobody) {  // B7
  Visitors w{2};
  const auto before = w.years_later();
  for (const bool follow : {false, true})
    for (int i = 0; i < 3; ++i) {
      MergeWorld::ok(w.fs->fork(w.who, "main", "fork", {.branch = "main", .follow = follow}));
      w.write("main", "/f0", "taken over " + std::to_string(i));
      w.clock.advance(60 * kSecond);
      if (follow)
        w.view("fork");
      else
        w.merge("main", "fork");
      w.write("main", "/f0", "and so on");
      w.forget("fork");
      MergeWorld::ok(w.fs->delete_branch(w.who, "main", "fork"));
    }
  EXPECT_EQ(w.years_later().tree.pins, before.tree.pins);
}

TEST(MergeCrowd,
     GivenForksThatComeAndGoForYears_WhenTheLogIsAsLongAsItGets_ThenTheDatabaseGrowsNoMore) {  // B7
  Visitors w{8};
  const auto run = [&](int from, int to) {
    for (int i = from; i < to; ++i) w.cycle(i, 24LL * 3600 * kSecond);
    w.rest();
    return MergeWorld::ok(w.fs->status()).database_bytes;
  };
  const auto once = run(0, 200), later = run(200, 1000);
  EXPECT_LE(later, once + (16 << 10)) << once;  // a leaked pin for each would be twice that
}

}  // namespace
}  // namespace indra
