// A vault for the tests of merges: files by path in any branch, and what a branch holds as one map.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <map>
#include <stdexcept>

#include "fs/filesystem.h"

namespace indra {

class MergeWorld {
 public:
  explicit MergeWorld(const std::string& root = "/tmp",
                      const std::function<void(FileSystem::Options&)>& set = {}) {
    std::string name = root + "/indra-merge-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error{"mkdtemp"};
    dir_ = name;
    FileSystem::Options o;
    o.create = true;
    o.background = false;
    o.clock = &clock;
    o.content.workers = 1;
    if (set) set(o);
    fs = ok(FileSystem::open(dir_ + "/v", o));
  }
  ~MergeWorld() {
    views_.clear();
    fs.reset();
    std::filesystem::remove_all(dir_);
  }
  MergeWorld(const MergeWorld&) = delete;
  MergeWorld& operator=(const MergeWorld&) = delete;

  template <class T>
  static T ok(Result<T> r) {
    if (!r) throw std::runtime_error{r.error().text()};
    return std::move(*r);
  }
  static void ok(Result<void> r) {
    if (!r) throw std::runtime_error{r.error().text()};
  }

  View& view(const std::string& branch) {
    auto& v = views_[branch];
    if (v) return *v;
    ViewSpec spec;
    spec.branch = branch;
    v = ok(fs->open_view(spec, nullptr));
    return *v;
  }
  void fork(const std::string& name, const std::string& from = "main") {
    ok(fs->fork(who, "main", name, {.branch = from, .snapshot = {}, .seq = {}, .time = {}}));
  }
  /// Nobody looks at the branch any more.
  void forget(const std::string& branch) { views_.erase(branch); }
  Attr at(const std::string& b, const std::string& path) { return ok(resolve_path(view(b), path)); }
  bool there(const std::string& b, const std::string& path) {
    return resolve_path(view(b), path).has_value();
  }
  PathParent place(const std::string& b, const std::string& path) {
    return ok(resolve_parent(view(b), path));
  }
  void mkdir(const std::string& b, const std::string& path) {
    const auto p = place(b, path);
    ok(view(b).mkdir(me, p.parent, p.name, 0755));
  }
  /// In place, as `cat >`; makes the file when it is not there.
  void write(const std::string& b, const std::string& path, std::string_view s) {
    View& v = view(b);
    Handle h = 0;
    if (there(b, path)) {
      h = ok(v.open(me, at(b, path).node, O_RDWR | O_TRUNC));
    } else {
      const auto p = place(b, path);
      h = ok(v.create(me, p.parent, p.name, 0644, O_RDWR)).handle;
    }
    ok(v.write(me, h, 0, as_view(s), false, false));
    ok(v.flush(me, h));
    v.release(h);
  }
  /// A new file renamed over it, as editors save.
  void replace(const std::string& b, const std::string& path, std::string_view s) {
    write(b, path + ".new", s);
    rename(b, path + ".new", path);
  }
  std::string read(const std::string& b, const std::string& path) {
    View& v = view(b);
    const Attr a = at(b, path);
    const Handle h = ok(v.open(me, a.node, O_RDONLY));
    Bytes bytes(a.size);
    const std::size_t n = ok(v.read(h, 0, bytes));
    v.release(h);
    return std::string{as_text(ByteView{bytes}.first(n))};
  }
  void rename(const std::string& b, const std::string& from, const std::string& to) {
    const auto p = place(b, from), q = place(b, to);
    ok(view(b).rename(me, p.parent, p.name, q.parent, q.name, 0));
  }
  void unlink(const std::string& b, const std::string& path) {
    const auto p = place(b, path);
    ok(view(b).unlink(me, p.parent, p.name));
  }
  void rmdir(const std::string& b, const std::string& path) {
    const auto p = place(b, path);
    ok(view(b).rmdir(me, p.parent, p.name));
  }
  void link(const std::string& b, const std::string& old, const std::string& path) {
    const auto p = place(b, path);
    ok(view(b).link(me, at(b, old).node, p.parent, p.name));
  }
  void symlink(const std::string& b, const std::string& target, const std::string& path) {
    const auto p = place(b, path);
    ok(view(b).symlink(me, p.parent, p.name, target));
  }
  void chmod(const std::string& b, const std::string& path, std::uint32_t mode) {
    SetAttr s;
    s.mode = mode;
    ok(view(b).setattr(me, at(b, path).node, s));
  }
  /// Later than any rule of lines reaches.
  void pause() { clock.advance(60 * kSecond); }

  FileSystem::MergeReport merge(const std::string& source, const std::string& target = "main",
                                FileSystem::MergeRequest r = {}) {
    r.source = source;
    r.target = target;
    return ok(fs->merge(who, "main", r));
  }
  /// "content deleted-there" ... : the kinds and outcomes of a report, in order.
  static std::string conflicts(const FileSystem::MergeReport& r) {
    std::string all;
    for (const MergeConflict& c : r.plan.conflicts)
      all += (all.empty() ? "" : ", ") + std::string{conflict_name(c.kind)} + " " + c.path + ": " +
             outcome_name(c.outcome);
    return all;
  }

  /// Path -> "D mode", "F mode content" or "L target".
  std::map<std::string, std::string> tree(const std::string& b) { return tree_of(view(b)); }
  std::map<std::string, std::string> tree_of(View& v) {
    std::map<std::string, std::string> all;
    walk(v, v.root(), "", all);
    return all;
  }

  ManualClock clock;
  std::unique_ptr<FileSystem> fs;
  const Who who{.uid = 0, .pid = 1, .program = "test", .front_end = "cli"};
  const Caller me{.uid = 0, .gid = 0, .pid = 1};

 private:
  void walk(View& v, NodeId dir, const std::string& path, std::map<std::string, std::string>& all) {
    std::vector<std::pair<std::string, Attr>> found;
    const Handle h = ok(v.opendir(dir));
    std::uint64_t cookie = 0;
    for (bool more = true; more;) {  // some hundred at a time
      more = false;
      ok(v.readdir(h, cookie, true, [&](const DirEntry& e) {
        found.emplace_back(e.name, *e.attr);
        cookie = e.cookie;
        return more = true;
      }));
    }
    v.releasedir(h);
    for (const auto& [name, a] : found) {
      const std::string p = path + "/" + name;
      char mode[8];
      std::snprintf(mode, sizeof mode, "%o", a.mode & 07777);
      if (S_ISDIR(a.mode)) {
        all[p] = std::string{"D "} + mode;
        walk(v, a.node, p, all);
      } else if (S_ISLNK(a.mode)) {
        all[p] = "L " + ok(v.readlink(a.node));
      } else {
        const Handle f = ok(v.open(me, a.node, O_RDONLY));
        Bytes bytes(a.size);
        const std::size_t n = ok(v.read(f, 0, bytes));
        v.release(f);
        all[p] = std::string{"F "} + mode + " " + std::string{as_text(ByteView{bytes}.first(n))};
      }
      v.forget(a.node, 1);
    }
  }
  std::string dir_;
  std::map<std::string, std::shared_ptr<View>> views_;
};

}  // namespace indra
