// docs/branches.md, G5, G24: the same random edit histories in git and here. Where git merges cleanly so do
// we, with the same bytes; where it conflicts, nothing that one side wrote is lost here.
#include <fstream>
#include <random>
#include <set>

#include "fs/internal/merge_world.h"

namespace indra {
namespace {

namespace stdfs = std::filesystem;
using Files = std::map<std::string, std::string>;

/// A repository with a worktree for each branch.
class Git {
 public:
  explicit Git(std::string dir) : dir_{std::move(dir)} {
    run("init -q -b main main");
    for (const char* set : {"user.name judge", "user.email judge@example.org", "merge.renames false",
                            "core.autocrlf false", "gc.auto 0", "commit.gpgsign false"})
      in("main", std::string{"config "} + set);
  }
  bool in(const std::string& branch, const std::string& command) {
    return run("-C " + branch + " " + command);
  }
  void fork(const std::string& name) { in("main", "worktree add -q -b " + name + " ../" + name); }
  bool several_bases(const std::string& a, const std::string& b) {
    const std::string line =
        "cd '" + dir_ + "' && test $(git -C " + a + " merge-base --all HEAD " + b + " | wc -l) -gt 1";
    return std::system(line.c_str()) == 0;
  }
  void put(const std::string& branch, const Files& files) {
    for (const auto& e : stdfs::directory_iterator(dir_ + "/" + branch))
      if (e.path().filename() != ".git") stdfs::remove_all(e.path());
    for (const auto& [path, bytes] : files) {
      const std::string full = dir_ + "/" + branch + path;
      stdfs::create_directories(stdfs::path{full}.parent_path());
      std::ofstream{full, std::ios::binary} << bytes;
    }
    in(branch, "add -A");
    in(branch, "commit -q --allow-empty -m edit");
  }
  Files get(const std::string& branch) const {
    Files all;
    const std::string top = dir_ + "/" + branch;
    for (auto it = stdfs::recursive_directory_iterator(top); it != stdfs::recursive_directory_iterator();
         ++it) {
      if (it->path().filename() == ".git") {
        if (it->is_directory()) it.disable_recursion_pending();
        continue;
      }
      if (!it->is_regular_file()) continue;
      std::ifstream f{it->path(), std::ios::binary};
      all[it->path().string().substr(top.size())] = std::string{std::istreambuf_iterator<char>{f}, {}};
    }
    return all;
  }

 private:
  bool run(const std::string& command) {
    const std::string line = "cd '" + dir_ + "' && git " + command + " >/dev/null 2>&1 </dev/null";
    return std::system(line.c_str()) == 0;
  }
  std::string dir_;
};

class Judged : public MergeWorld {
 public:
  explicit Judged(unsigned seed) : random_{seed} {
    char name[] = "/tmp/indra-judge-XXXXXX";
    dir_ = mkdtemp(name);
  }
  ~Judged() { stdfs::remove_all(dir_); }

  /// Three branches, merged in any order: some moments have then come to both of two by several ways. What
  /// conflicts is settled as it is here, in both, and goes on.
  void criss_cross(int rounds) {
    Git git{dir_};
    begin(git, {"x", "y"});
    std::vector<std::string> b{"main", "x", "y"};
    const auto edit_some = [&] {
      for (const auto& name : b) {
        if (pick(2) == 0) continue;
        edit(name);
        git.put(name, files(name));
        const Words now = words(files(name));
        seen_[name].insert(now.begin(), now.end());
      }
    };
    for (int n = 0; n < rounds && !testing::Test::HasFailure(); ++n) {
      std::shuffle(b.begin(), b.end(), random_);
      // The second takes in the first by way of the third, and the first the second as it was before.
      for (const auto& [source, target] : {std::pair{0, 2}, {1, 0}, {2, 1}, {1, 0}}) {
        edit_some();
        merge_both(git, b[static_cast<std::size_t>(source)], b[static_cast<std::size_t>(target)]);
        if (testing::Test::HasFailure()) return;
      }
    }
  }

  void run(int rounds) {
    Git git{dir_};
    begin(git, {"agent"});
    for (int n = 0; n < rounds; ++n) {
      for (const char* b : {"main", "agent"}) {
        for (std::size_t k = 1 + pick(4); k > 0; --k) edit(b);
        git.put(b, files(b));
        const Words now = words(files(b));
        seen_[b].insert(now.begin(), now.end());
      }
      const bool back = pick(3) == 0;
      if (!merge_both(git, back ? "main" : "agent", back ? "agent" : "main")) return;
    }
  }
  int merged = 0, conflicted = 0, crossed = 0;

 private:
  using Words = std::set<std::string>;
  void begin(Git& git, const std::vector<std::string>& forks) {
    mkdir("main", "/d");
    for (const char* path : {"/a", "/b", "/d/c", "/d/e"}) write("main", path, text(25));
    git.put("main", files("main"));
    seen_["main"] = words(files("main"));
    pause();
    for (const auto& b : forks) {
      git.fork(b);
      fork(b);
      seen_[b] = words(files(b));
    }
  }
  /// False after a conflict, or a failure.
  bool merge_both(Git& git, const std::string& source, const std::string& target) {
    {
      const Words s = words(files(source)), t = words(files(target));
      const bool several = git.several_bases(target, source);
      log_ += "merge " + source + " into " + target + (several ? ", of several bases\n" : "\n");
      const bool clean = git.in(target, "merge -q --no-ff --no-edit " + source);
      const auto report = merge(source, target);
      const Files ours = files(target);
      const Words now = words(ours);
      for (const auto& [mine, others] : {std::pair{&s, &seen_[target]}, std::pair{&t, &seen_[source]}})
        for (const std::string& w : *mine)
          EXPECT_TRUE(now.contains(w) || others->contains(w)) << w << " is lost\n"
                                                              << log_ << conflicts(report);
      seen_[target].insert(now.begin(), now.end());
      seen_[target].insert(seen_[source].begin(), seen_[source].end());
      crossed += several ? 1 : 0;
      if (!clean) {
        ++conflicted;
        git.put(target, ours);
        return false;
      }
      ++merged;
      EXPECT_EQ(conflicts(report), "") << log_;
      EXPECT_EQ(ours, git.get(target)) << log_;
      return !testing::Test::HasFailure();
    }
  }
  std::size_t pick(std::size_t n) { return std::uniform_int_distribution<std::size_t>{0, n - 1}(random_); }
  std::string word() { return "w" + std::to_string(++last_) + "\n"; }
  std::string text(int lines) {
    std::string s;
    while (lines-- > 0) s += word();
    return s;
  }
  Files files(const std::string& b) {
    Files all;
    for (const auto& [path, what] : tree(b))
      if (what[0] == 'F') all[path] = what.substr(what.find(' ', 2) + 1);
    return all;
  }
  static Words words(const Files& all) {
    Words out;
    for (const auto& [path, s] : all)
      for (std::size_t at = 0; at < s.size();) {
        const std::size_t end = std::min(s.find('\n', at), s.size());
        out.insert(s.substr(at, end - at));
        at = end + 1;
      }
    return out;
  }
  void edit(const std::string& b) {
    if (pick(3) == 0) pause();
    const Files all = files(b);
    const std::size_t what = pick(10);
    auto it = all.begin();
    if (all.empty() || what == 0) {
      const std::string path = (pick(2) == 0 ? "/" : "/d/") + std::string{b[0]} + std::to_string(++last_);
      if (!there(b, "/d")) mkdir(b, "/d");
      log_ += b + " new " + path + "\n";
      return write(b, path, text(10));
    }
    std::advance(it, static_cast<std::ptrdiff_t>(pick(all.size())));
    const std::string path = it->first;
    if (what == 1) {
      log_ += b + " rm " + path + "\n";
      return unlink(b, path);
    }
    std::string s = it->second;
    const std::size_t at = s.empty() ? 0 : s.find('\n', pick(s.size())) + 1;
    if (pick(3) == 0 && at < s.size()) s.erase(at, s.find('\n', at) - at + 1);
    s.insert(at, word());
    const std::size_t how = pick(5);
    log_ += b + " edit " + path + " " + std::to_string(how) + " at " + std::to_string(at) + "\n";
    switch (how) {
      case 0:
        return write(b, path, s);
      case 1:
        return replace(b, path, s);
      case 2:  // git checkout
        unlink(b, path);
        return write(b, path, s);
      case 3:  // deleted and made anew, much later
        unlink(b, path);
        pause();
        return write(b, path, s);
      default:  // through a backup file
        rename(b, path, path + "~");
        write(b, path, s);
        return unlink(b, path + "~");
    }
  }

  std::mt19937 random_;
  std::string dir_, log_;
  int last_ = 0;
  std::map<std::string, Words> seen_;
};

TEST(MergeJudge, GivenRandomHistories_WhenGitMergesThemToo_ThenTheBytesAreTheSame) {
  ASSERT_EQ(std::system("git --version >/dev/null 2>&1"), 0) << "git is the judge here: apt-get install git";
  const char* more = std::getenv("INDRA_HISTORIES");
  const unsigned n = more != nullptr ? static_cast<unsigned>(std::atoi(more)) : 12;
  const char* first = std::getenv("INDRA_SEED");
  const unsigned from = first != nullptr ? static_cast<unsigned>(std::atoi(first)) : 1;
  int merged = 0, conflicted = 0;
  for (unsigned seed = from; seed < from + n && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Judged j{seed};
    j.run(5);
    merged += j.merged;
    conflicted += j.conflicted;
  }
  int crossed = 0;
  for (unsigned seed = from; seed < from + n && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("criss-cross, seed " + std::to_string(seed));
    Judged j{seed};
    j.criss_cross(2);
    merged += j.merged;
    conflicted += j.conflicted;
    crossed += j.crossed;
  }
  std::printf("%d of several bases; ", crossed);
  EXPECT_GT(crossed, 0);
  std::printf("%d merges clean in git and here alike, %d with conflicts\n", merged, conflicted);
  EXPECT_GT(merged, 0);
}

}  // namespace
}  // namespace indra
