// docs/branches.md, O1..O7: a tree of branches, followers and forks of old moments against plain maps.
// Branches and moments are maps that are copied when they are made and changed by their own operations alone;
// what a follower shows is told file by file from the maps of both and of the time when it last looked.
#include <random>
#include <set>

#include "fs/internal/merge_world.h"

namespace indra {
namespace {

/// Path -> "D" or "F" with the content: "id.version\n", of which no two are ever the same.
using Map = std::map<std::string, std::string>;

Map plain(const std::map<std::string, std::string>& tree) {
  Map all;
  for (const auto& [path, what] : tree)
    all[path] = what[0] == 'D' ? "D" : "F" + what.substr(what.find(' ', 2) + 1);
  return all;
}
std::string id_of(const std::string& content) { return content.substr(0, content.find('.')); }
std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

struct Known {
  std::string path, content;
};
std::map<std::string, Known> files(const Map& m, std::set<std::string>& twice) {
  std::map<std::string, Known> all;
  for (const auto& [path, what] : m)
    if (what[0] == 'F' && !all.insert({id_of(what), {path, what}}).second) twice.insert(id_of(what));
  return all;
}

class Histories : public MergeWorld {
 public:
  explicit Histories(unsigned seed) : random_{seed} {}

  void run(int rounds) {
    try {
      go_on(rounds);
    } catch (const std::exception& e) {
      ADD_FAILURE() << e.what() << "\n" << log_;
    }
  }
  int followed = 0, own = 0;

 private:
  void go_on(int rounds) {
    branches_["main"];
    for (const char* d : {"/p", "/q", "/p/r"}) make_dir("main", d);
    for (const char* f : {"/a", "/p/a", "/p/r/b", "/q/c"}) put("main", f);
    pause();
    for (int n = 0; n < rounds && !testing::Test::HasFailure(); ++n) {
      grow();
      for (auto& [name, b] : branches_)
        for (std::size_t k = pick(4); k > 0; --k) step(name);
      if (pick(3) == 0) remember();
      check();
      if (pick(4) == 0) back();
    }
  }

  struct Branch {
    Map map;
    std::string follows{};  // a branch's name
    Map base{};             // that one, as it was taken over last
    std::set<std::string> seen{};
    bool touched = false;  // has changes of its own
    bool moved = false;    // directories of it have other places or are gone
  };

  std::size_t pick(std::size_t n) { return std::uniform_int_distribution<std::size_t>{0, n - 1}(random_); }

  void grow() {
    if (branches_.size() >= 7 || pick(2) != 0) return;
    auto it = branches_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(pick(branches_.size())));
    const std::string from = it->first, name = "b" + std::to_string(++last_);
    FileSystem::ForkFrom f;
    f.branch = from;
    if (pick(4) == 0 && !moments_.empty()) {
      auto m = moments_.begin();
      std::advance(m, static_cast<std::ptrdiff_t>(pick(moments_.size())));
      f.snapshot = m->first;
      f.branch = "main";  // else that one would catch up
      log_ += name + " of moment " + m->first + "\n";
      ok(fs->fork(who, "main", name, f));
      branches_[name] = {.map = m->second, .seen = words(m->second)};
      return;
    }
    f.follow = pick(3) != 0;
    log_ += name + (f.follow ? " follows " : " of ") + from + "\n";
    catch_up(from);
    ok(fs->fork(who, "main", name, f));
    const Map now = branches_[from].map;
    branches_[name] = {.map = now, .seen = words(now), .moved = branches_[from].moved};
    (void)view(name);  // now: who opens it later has it catch up
    if (f.follow) branches_[name].follows = from, branches_[name].base = now;
  }
  void remember() {
    auto it = branches_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(pick(branches_.size())));
    const std::string name = "s" + std::to_string(++last_);
    log_ += "moment " + name + " of " + it->first + "\n";
    catch_up(it->first);
    ok(fs->create_snapshot(who, "main", it->first, name, ""));
    moments_[name] = it->second.map;
  }

  static std::set<std::string> words(const Map& m) {
    std::set<std::string> all;
    for (const auto& [path, what] : m)
      if (what[0] == 'F') all.insert(what);
    return all;
  }

  /// As explicit merges make them.
  static std::set<std::string> second_names(const Map& m) {
    std::set<std::string> all;
    for (const auto& [path, what] : m)
      if (const std::string n = path.substr(path.rfind('/') + 1); n.find("(conflict") != n.npos)
        all.insert(n);
    return all;
  }

  // One operation, on the branch and on its map.
  void step(const std::string& name) {
    if (pick(3) == 0) pause();
    Branch& b = branches_[name];
    std::vector<std::string> all, dirs{""};
    for (const auto& [path, what] : b.map) (what[0] == 'F' ? all : dirs).push_back(path);
    const std::string to = dirs[pick(dirs.size())] + "/" + std::string(1, "abcpqr"[pick(6)]);
    const bool taken = b.map.contains(to);
    b.touched = true;
    switch (pick(8)) {
      case 0:
        if (!taken) make_dir(name, to);
        break;
      case 1:
      case 2:
        if (!taken) put(name, to);
        break;
      case 3:
      case 4:
        if (!all.empty()) edit(name, all[pick(all.size())]);
        break;
      case 5: {
        if (all.empty()) break;
        const std::string path = all[pick(all.size())];
        log_ += name + " rm " + path + "\n";
        unlink(name, path);
        b.map.erase(path);
        break;
      }
      case 6: {  // a file or directory goes elsewhere
        const auto& from = pick(2) == 0 || all.empty() ? dirs[pick(dirs.size())] : all[pick(all.size())];
        if (from.empty() || taken || to.starts_with(from + "/")) break;
        log_ += name + " mv " + from + " " + to + "\n";
        b.moved = b.moved || b.map[from] == "D";
        rename(name, from, to);
        Map moved;
        for (const auto& [path, what] : b.map)
          moved[path == from || path.starts_with(from + "/") ? to + path.substr(from.size()) : path] = what;
        b.map = std::move(moved);
        break;
      }
      default: {  // a whole directory
        const std::string top = dirs[pick(dirs.size())];
        if (top.empty() || pick(2) == 0) break;
        log_ += name + " rm -r " + top + "\n";
        b.moved = true;
        std::vector<std::string> below;
        for (const auto& [path, what] : b.map)
          if (path == top || path.starts_with(top + "/")) below.push_back(path);
        for (auto it = below.rbegin(); it != below.rend(); ++it) {
          if (b.map[*it] == "D")
            rmdir(name, *it);
          else
            unlink(name, *it);
          b.map.erase(*it);
        }
      }
    }
    for (const auto& w : words(b.map)) b.seen.insert(w);
  }
  void make_dir(const std::string& b, const std::string& path) {
    log_ += b + " mkdir " + path + "\n";
    mkdir(b, path);
    branches_[b].map[path] = "D";
  }
  void put(const std::string& b, const std::string& path) {
    const std::string s = std::to_string(++last_) + ".0\n";
    log_ += b + " new " + path + " " + s;
    write(b, path, s);
    branches_[b].map[path] = "F" + s;
  }
  void edit(const std::string& b, const std::string& path) {
    const std::string s = id_of(branches_[b].map[path]).substr(1) + "." + std::to_string(++last_) + "\n";
    log_ += b + " edit " + path + " " + s;
    write(b, path, s);
    branches_[b].map[path] = "F" + s;
  }

  // What a follower shows after it has taken over what its parent changed from `base` to `now`: file by file.
  void catch_up(const std::string& name) {
    Branch& b = branches_[name];
    if (b.follows.empty()) return;
    catch_up(b.follows);
    const Map& now = branches_[b.follows].map;
    (void)ok(fs->moment("main", name, {}, {}));
    const Map shown = plain(tree(name)), before = b.map;
    if (now == b.base) {
      EXPECT_EQ(shown, before) << name << " changed by itself\n" << log_;
      return;
    }
    ++followed;
    if (!b.touched) {
      EXPECT_EQ(shown, now) << name << " has nothing of its own\n" << log_;
    } else {
      ++own;
      std::set<std::string> twice;  // since an explicit merge put one version beside the other
      const auto base = files(b.base, twice), theirs = files(now, twice), mine = files(before, twice),
                 after = files(shown, twice);
      const auto have = words(shown);
      for (const auto& w : words(before))
        if (const auto was = words(b.base); !was.contains(w))
          EXPECT_TRUE(have.contains(w)) << name << " lost " << w << log_;
      auto second = second_names(now);
      second.merge(second_names(before));
      for (const auto& n : second_names(shown))
        EXPECT_TRUE(second.contains(n)) << name << " made " << n << "\n" << log_;
      for (const auto& [id, f] : mine) {
        if (twice.contains(id)) continue;
        const auto was = base.find(id), there = theirs.find(id), here = after.find(id);
        const bool changed = was == base.end() || was->second.content != f.content;
        if (changed) {  // its own content
          ASSERT_TRUE(here != after.end()) << name << " lost " << f.content << log_;
          EXPECT_EQ(here->second.content, f.content) << name << "\n" << log_;
        } else if (there != theirs.end()) {  // the parent's
          ASSERT_TRUE(here != after.end()) << name << " lost " << f.content << log_;
          // Unless it made that its backup, and another takes its place (T7).
          if (was->second.path == f.path || !before.contains(was->second.path))
            EXPECT_EQ(here->second.content, there->second.content) << name << "\n" << log_;
        } else if (was->second.path == f.path && !merged_) {
          EXPECT_TRUE(here == after.end()) << name << " still has " << f.content << log_;
        }
      }
      for (const auto& [id, f] : theirs) {
        if (twice.contains(id)) continue;
        if (mine.contains(id)) continue;
        if (const auto was = base.find(id); was != base.end()) {
          // Moved away and another made in its place: that is a backup, a document of its own (T7).
          if (was->second.path == f.path || !now.contains(was->second.path))
            EXPECT_FALSE(after.contains(id)) << f.content << " came back in " << name << "\n" << log_;
        } else if (!after.contains(id)) {
          // Only where it has that name itself, or not the directory.
          bool own_name = shown.contains(f.path);
          for (std::string d = parent_of(f.path); !d.empty(); d = parent_of(d)) {
            const auto at = shown.find(d);
            own_name = own_name || at == shown.end() || at->second != "D";
          }
          own_name =
              own_name || b.moved || branches_[b.follows].moved;  // then the directory may be elsewhere
          EXPECT_TRUE(own_name) << f.content << " is missing in " << name << "\n" << log_;
        }
      }
      for (const auto& [id, f] : after)
        EXPECT_TRUE(mine.contains(id) || theirs.contains(id)) << f.content << " from nowhere\n" << log_;
    }
    b.map = shown;
    b.base = now;
    for (const auto& w : words(shown)) b.seen.insert(w);
  }

  // Into what it follows: nothing that only one of them has ever seen is missing afterwards.
  void back() {
    for (auto& [name, b] : branches_) {
      if (b.follows.empty() || pick(2) == 0) continue;
      catch_up(name);
      Branch& p = branches_[b.follows];
      const auto mine = words(b.map), theirs = words(p.map);
      log_ += "merge " + name + " into " + b.follows + "\n";
      merged_ = true;
      const auto report = merge(name, b.follows);
      p.map = plain(tree(b.follows));
      const auto now = words(p.map);
      for (const auto& w : theirs)
        EXPECT_TRUE(now.contains(w) || b.seen.contains(w)) << w << " is undone\n"
                                                           << log_ << conflicts(report);
      for (const auto& w : mine)
        EXPECT_TRUE(now.contains(w) || p.seen.contains(w)) << w << " is lost\n" << log_ << conflicts(report);
      p.seen.insert(now.begin(), now.end());
      p.seen.insert(b.seen.begin(), b.seen.end());
      p.touched = true;
      b.touched = true;
      if (testing::Test::HasFailure()) return;
      catch_up_after(name);
      return;
    }
  }
  // A follower that was merged has what was decided there: only looked at for loss.
  void catch_up_after(const std::string& name) {
    Branch& b = branches_[name];
    (void)ok(fs->moment("main", name, {}, {}));
    const Map before = b.map;
    b.map = plain(tree(name));
    b.base = branches_[b.follows].map;
    const auto now = words(b.map), there = words(b.base);
    for (const auto& w : words(before))
      EXPECT_TRUE(now.contains(w) || there.contains(w) || branches_[b.follows].seen.contains(w))
          << w << " is lost\n"
          << log_;
    b.seen.insert(now.begin(), now.end());
  }

  void check() {
    for (auto& [name, b] : branches_) {
      catch_up(name);
      if (testing::Test::HasFailure()) return;
    }
    for (const auto& [name, b] : branches_) EXPECT_EQ(plain(tree(name)), b.map) << name << "\n" << log_;
    for (const auto& [name, map] : moments_) {
      ViewSpec spec;
      spec.snapshot = name;
      spec.live = false;
      EXPECT_EQ(plain(tree_of(*ok(fs->open_view(spec, nullptr)))), map) << name << "\n" << log_;
    }
  }

  std::mt19937 random_;
  int last_ = 0;
  bool merged_ =
      false;  // explicitly: what came back then may have another number, so that its place counts as its own
  std::string log_;
  std::map<std::string, Branch> branches_;
  std::map<std::string, Map> moments_;
};

TEST(FollowProperty, GivenATreeOfBranches_WhenSomeFollow_ThenEachShowsItsOwnAndWhatItTookOver) {
  const char* more = std::getenv("INDRA_HISTORIES");
  const unsigned n = more != nullptr ? static_cast<unsigned>(std::atoi(more)) : 25;
  const char* first = std::getenv("INDRA_SEED");
  const unsigned from = first != nullptr ? static_cast<unsigned>(std::atoi(first)) : 1;
  int followed = 0, own = 0;
  for (unsigned seed = from; seed < from + n && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Histories h{seed};
    h.run(8);
    followed += h.followed;
    own += h.own;
  }
  std::printf("%d times something was taken over, %d times beside its own\n", followed, own);
  EXPECT_GT(own, 0);
}

}  // namespace
}  // namespace indra
