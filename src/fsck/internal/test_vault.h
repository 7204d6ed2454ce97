// A small vault with everything in it: files of all kinds of content, directories, links, attributes,
// branches, snapshots, past versions. For tests of what is found when something of it is damaged.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <random>
#include <stdexcept>

#include "db/db.h"
#include "fs/filesystem.h"
#include "testkit/must.h"

namespace indra {

/// The clock of a vault that is made by hand: it moves when told to.
class HandClock final : public Clock {
 public:
  TimeNs now() const override { return kStart + steady_; }
  TimeNs steady() const override { return steady_; }
  void pass(TimeNs n) { steady_ += n; }

 private:
  static constexpr TimeNs kStart = 1'750'000'000 * kSecond;
  TimeNs steady_ = kSecond;
};

class TestVault {
 public:
  TestVault() {
    char name[] = "/tmp/indra-fsck-XXXXXX";
    if (mkdtemp(name) == nullptr) throw std::runtime_error{"mkdtemp"};
    dir = name;
  }
  ~TestVault() {
    close();
    std::filesystem::remove_all(dir);
  }
  TestVault(const TestVault&) = delete;
  TestVault& operator=(const TestVault&) = delete;

  [[nodiscard]] std::string path() const { return dir + "/v"; }
  [[nodiscard]] FileSystem::Options options(bool create) {
    FileSystem::Options o;
    o.create = create;
    o.single_file = single_file;
    o.content.single_file = single_file;
    o.background = false;
    o.clock = &clock;
    o.content.workers = 1;
    return o;
  }
  void open(bool create = false) {
    fs = must(FileSystem::open(path(), options(create)));
    view = must(fs->open_view({}, nullptr));
  }
  void close() {
    view.reset();
    fs.reset();
  }

  static std::string bytes(std::size_t n, unsigned seed) {
    std::mt19937_64 random{seed};
    std::string s(n, '\0');
    for (char& c : s) c = static_cast<char>(random());
    return s;
  }
  NodeId at(const std::string& p, View* v = nullptr) {
    return must(resolve_path(v != nullptr ? *v : *view, p)).node;
  }
  void put(View& v, const std::string& p, std::string_view content, std::uint64_t offset = 0) {
    const PathParent where = must(resolve_parent(v, p));
    Handle h{};
    if (auto there = resolve_path(v, p)) {
      h = must(v.open(me, there->node, O_RDWR));
    } else {
      h = must(v.create(me, where.parent, where.name, 0644, O_RDWR)).handle;
    }
    must(v.write(me, h, offset, as_view(content), false, false));
    must(v.flush(me, h));
    v.release(h);
  }
  void put(const std::string& p, std::string_view content, std::uint64_t offset = 0) {
    put(*view, p, content, offset);
  }
  Result<std::string> get(View& v, NodeId node) {
    INDRA_LET(const Attr a, v.getattr(node));
    INDRA_LET(const Handle h, v.open(me, node, O_RDONLY));
    std::string out(a.size, '\0');
    Result<void> bad;
    for (std::size_t done = 0; done < out.size();) {
      auto n = v.read(h, done,
                      std::as_writable_bytes(std::span{out})
                          .subspan(done, std::min<std::size_t>(65536, out.size() - done)));
      if (!n || *n == 0) {
        bad = n ? Result<void>{fail(EIO)} : Result<void>{fail(n.error())};
        break;
      }
      done += *n;
    }
    v.release(h);
    if (!bad) return fail(bad.error());
    return out;
  }

  /// Everything the schema has a place for. Left open.
  void fill() {
    open(true);
    const NodeId root = view->root();
    must(view->mkdir(me, root, "docs", 0755));
    const NodeId docs = at("/docs");
    must(view->mkdir(me, docs, "deep", 0755));
    must(view->mkdir(me, root, "empty", 0755));
    put("/docs/inline.txt", "a few bytes");
    put("/docs/small.bin", bytes(3000, 1));
    put("/docs/block.bin", bytes(20000, 2));
    put("/docs/chunks.bin", bytes(300000, 3));
    put("/docs/deep/pages.bin", bytes(4 * 1024 * 1024 + 200000, 4));
    put("/sparse.bin", "end", 9'000'000);
    put("/empty.txt", "");
    must(view->symlink(me, root, "to-docs", "docs"));
    must(view->link(me, at("/docs/small.bin"), root, "other-name"));
    must(view->mknod(me, root, "pipe", S_IFIFO | 0600, 0));
    must(view->setxattr(me, at("/docs/inline.txt"), "user.colour", as_view("blue"), 0));
    clock.pass(10 * kSecond);
    (void)must(fs->create_snapshot({}, "main", "main", "first", "as it was"));
    clock.pass(10 * kSecond);
    put("/docs/chunks.bin", bytes(5000, 5), 70000);
    put("/docs/inline.txt", "other bytes, more of them");
    must(view->setxattr(me, at("/docs/inline.txt"), "user.colour", as_view("red"), 0));
    must(view->rename(me, docs, "block.bin", root, "moved.bin", 0));
    must(view->unlink(me, docs, "small.bin"));
    clock.pass(10 * kSecond);
    (void)must(fs->create_branch({}, "main", "agent", "main", ""));
    {
      ViewSpec spec;
      spec.branch = "agent";
      const auto agent = must(fs->open_view(spec, nullptr));
      put(*agent, "/docs/agent.bin", bytes(70000, 6));
      put(*agent, "/docs/deep/pages.bin", bytes(100, 7), 4 * 1024 * 1024 - 50);
      must(agent->unlink(me, at("/", agent.get()), "moved.bin"));
      must(agent->rename(me, at("/docs", agent.get()), "deep", at("/", agent.get()), "shallow", 0));
    }
    clock.pass(10 * kSecond);
    while (must(fs->tick())) clock.pass(kSecond);
    must(fs->settle());
    // Last, so that patches and a past version are there.
    put("/docs/chunks.bin", "patched", 130000);
    must(fs->sync(true));
  }

  /// Raw SQL on the closed vault, through our own pages, as damage does not keep to rules.
  void sql(const std::string& text) {
    const auto db = must(Db::open(path() + "/vault.db", {}));
    must(db->execute(text));
    must(db->execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  }
  std::int64_t number(const std::string& text) {
    const auto db = must(Db::open(path() + "/vault.db", {}));
    return must(db->pragma(text.c_str()));
  }

  std::string dir;
  bool single_file = false;
  HandClock clock;
  Caller me{getuid(), getgid(), 0};
  std::unique_ptr<FileSystem> fs;
  std::shared_ptr<View> view;
};

}  // namespace indra
