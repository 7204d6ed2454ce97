// docs/branches.md, G23: random histories on branches that are merged over and over. Each write leaves a word
// that is used once: one that a side wrote since the two had the same past may never be missing afterwards.
#include <random>
#include <set>

#include "fs/internal/merge_world.h"

namespace indra {
namespace {

using Words = std::set<std::string>;

class Histories : public MergeWorld {
 public:
  explicit Histories(unsigned seed) : random_{seed}, links_{seed % 3 == 0} {}

  void run(int rounds) {
    for (const char* name : {"/a", "/b", "/c"}) {
      mkdir("main", name);
      for (const char* file : {"/x", "/y"}) write("main", std::string{name} + file, text());
    }
    pause();
    fork("one");
    fork("two");
    for (const char* b : {"main", "one", "two"}) seen_[b] = words(tree("main"));
    const std::vector<std::string> names{"main", "one", "two"};
    for (int n = 0; n < rounds; ++n) {
      for (const auto& b : names)
        for (std::size_t k = pick(5); k > 0; --k) step(b);
      const std::size_t s = pick(3), t = (s + 1 + pick(2)) % 3;
      check(names[s], names[t]);
      if (testing::Test::HasFailure()) return;
    }
  }

 private:
  std::size_t pick(std::size_t n) { return std::uniform_int_distribution<std::size_t>{0, n - 1}(random_); }
  std::string word() { return "w" + std::to_string(++last_) + "\n"; }
  std::string text() {
    std::string s;
    for (int i = 0; i < 8; ++i) s += word();
    return s;
  }

  void step(const std::string& b) {
    if (pick(3) == 0) pause();
    const auto all = tree(b);
    std::vector<std::string> files, dirs{""};
    for (const auto& [path, what] : all) (what[0] == 'F' ? files : dirs).push_back(path);
    const std::string dir = dirs[pick(dirs.size())], name = dir + "/" + std::string(1, "xyzuv"[pick(5)]);
    const std::string file = files.empty() ? "" : files[pick(files.size())];
    log_ += b + " ";
    const std::size_t what = pick(11);
    if (what <= 2 || files.empty()) {
      if (there(b, name)) return;
      if (what == 0) {
        log_ += "mkdir " + name + "\n";
        mkdir(b, name);
      } else {
        log_ += "new " + name + "\n";
        write(b, name, text());
      }
    } else if (what <= 5) {  // an edit, by one of the ways in which programs save
      std::string s = read(b, file);
      const std::size_t at = s.empty() ? 0 : s.find('\n', pick(s.size())) + 1;
      if (pick(3) == 0) {
        const std::size_t end = s.find('\n', at);
        s.erase(at, end == s.npos ? end : end - at + 1);
      }
      s.insert(at, word());
      const std::size_t how = pick(4);
      log_ += "edit " + file + " " + std::to_string(how) + " at " + std::to_string(at) + "\n";
      if (how == 0) write(b, file, s);
      if (how == 1 && !there(b, file + ".new")) replace(b, file, s);
      if (how == 2) {
        unlink(b, file);
        write(b, file, s);
      }
      if (how == 3 && !there(b, file + "~")) {
        rename(b, file, file + "~");
        write(b, file, s);
        unlink(b, file + "~");
      }
    } else if (what == 6) {
      log_ += "rm " + file + "\n";
      unlink(b, file);
    } else if (what == 7) {
      if (there(b, name)) return;
      log_ += "mv " + file + " " + name + "\n";
      rename(b, file, name);
    } else if (what == 8) {
      const std::string from = dirs[pick(dirs.size())];
      if (from.empty() || there(b, name) || name.starts_with(from + "/")) return;
      log_ += "mv " + from + " " + name + "\n";
      rename(b, from, name);
    } else if (what == 9) {
      const std::string from = dirs[pick(dirs.size())];
      if (from.empty()) return;
      log_ += "rm -r " + from + "\n";
      for (auto it = all.rbegin(); it != all.rend(); ++it) {
        if (!it->first.starts_with(from + "/")) continue;
        if (it->second[0] == 'D')
          rmdir(b, it->first);
        else
          unlink(b, it->first);
      }
      rmdir(b, from);
    } else if (there(b, name)) {
      log_ += "chmod " + file + "\n";
      chmod(b, file, pick(2) == 0 ? 0600 : 0755);
    } else {
      if (!links_) return;
      log_ += "ln " + file + " " + name + "\n";
      link(b, file, name);
    }
  }

  static Words words(const std::map<std::string, std::string>& all) {
    Words out;
    for (const auto& [path, what] : all) {
      if (what[0] != 'F') continue;
      for (std::size_t at = what.find(' ', 2) + 1; at < what.size();) {
        const std::size_t end = std::min(what.find('\n', at), what.size());
        out.insert(what.substr(at, end - at));
        at = end + 1;
      }
    }
    return out;
  }

  static std::string steps(const FileSystem::MergeReport& r) {
    static constexpr const char* kKinds[] = {"remove", "move", "add", "link", "change", "follow"};
    std::string all;
    for (const MergeStep& s : r.plan.steps)
      all += std::string{"\n"} + kKinds[static_cast<int>(s.kind)] + " " + s.path + " " +
             std::to_string(s.node.raw()) + " " + s.at.name + " -> " + s.to.name;
    return all;
  }
  static std::string holders(const std::string& word,
                             const std::vector<std::map<std::string, std::string>>& trees) {
    std::string all;
    for (const auto& t : trees) {
      all += "\nin:";
      for (const auto& [path, what] : t)
        if (what.find(word + "\n") != what.npos) all += " " + path;
    }
    return all;
  }

  void check(const std::string& source, const std::string& target) {
    const std::vector before{tree(source), tree(target)};
    const Words s = words(before[0]), t = words(before[1]);
    log_ += "merge " + source + " into " + target + "\n";
    FileSystem::MergeReport r;
    try {
      r = merge(source, target);
    } catch (const std::exception& e) {
      ADD_FAILURE() << e.what() << "\n" << log_;
      return;
    }
    const auto merged = tree(target);
    const Words now = words(merged);
    // What both knew at some time may have been removed by one of them; what only one has ever seen stays.
    Words& of_s = seen_[source];
    Words& of_t = seen_[target];
    of_s.insert(s.begin(), s.end());
    of_t.insert(t.begin(), t.end());
    for (const auto& [mine, others] : {std::pair{&s, &of_t}, std::pair{&t, &of_s}})
      for (const std::string& w : *mine)
        EXPECT_TRUE(now.contains(w) || others->contains(w))
            << w << " is lost\n"
            << log_ << conflicts(r) << holders(w, before) << steps(r);
    // What one removed and the other left alone does not come back.
    if (r.plan.conflicts.empty()) {
      for (const std::string& w : now) EXPECT_TRUE(s.contains(w) || t.contains(w)) << w << "\n" << log_;
    }
    of_t.insert(now.begin(), now.end());
    of_t.insert(of_s.begin(), of_s.end());  // also what the source removed
    if (testing::Test::HasFailure()) return;

    if (pick(2) == 0) return;
    log_ += "and back\n";
    const auto back = merge(target, source);
    if (links_) {  // names of one file may have parted: but no text is in one alone
      EXPECT_EQ(words(tree(source)), words(tree(target))) << log_ << conflicts(back) << steps(back);
      of_s = of_t;
      return;
    }
    EXPECT_EQ(conflicts(back), "") << log_;
    EXPECT_EQ(tree(source), merged) << log_;
    EXPECT_EQ(tree(target), merged) << log_;
    const auto again = merge(source, target);
    EXPECT_EQ(again.plan.steps.size(), 0u) << log_ << steps(again);
    EXPECT_EQ(conflicts(again), "") << log_;
    of_s = of_t;
  }

  std::mt19937 random_;
  const bool links_;  // names of one file may part: then only loss is looked for
  int last_ = 0;
  std::string log_;
  std::map<std::string, Words> seen_;
};

TEST(MergeProperty, GivenRandomHistories_WhenMerged_ThenNothingThatOneSideWroteIsLost) {
  const char* more = std::getenv("INDRA_HISTORIES");
  const unsigned n = more != nullptr ? static_cast<unsigned>(std::atoi(more)) : 25;
  const char* first = std::getenv("INDRA_SEED");
  const unsigned from = first != nullptr ? static_cast<unsigned>(std::atoi(first)) : 1;
  for (unsigned seed = from; seed < from + n && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Histories h{seed};
    h.run(6);
  }
}

}  // namespace
}  // namespace indra
