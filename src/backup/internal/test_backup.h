// What the tests of backups share: everything a vault shows, as one map, and a vault backed up from within.
#pragma once
#include <gtest/gtest.h>

#include "backup/backup.h"
#include "fsck/fsck.h"
#include "fsck/internal/test_vault.h"

namespace indra {

/// Names, types, modes, times, links, attributes and contents of every branch and snapshot.
class Shown {
 public:
  explicit Shown(TestVault& v) : v_{v} {
    for (const BranchInfo& b : must(v.fs->branches("main")))
      if (!b.hidden) add({.branch = b.name, .live = false}, b.name);
    for (const PinInfo& p : must(v.fs->snapshots("main")))
      add({.snapshot = p.name, .live = false}, "@" + p.name);
  }
  std::map<std::string, std::string> all;

 private:
  void add(const ViewSpec& spec, const std::string& what) {
    const auto view = must(v_.fs->open_view(spec, nullptr));
    walk(*view, view->root(), what + ":");
  }
  void walk(View& view, NodeId node, const std::string& path) {
    const Attr a = must(view.getattr(node));
    std::string s = std::to_string(a.node.raw()) + " " + std::to_string(a.mode) + " " +
                    std::to_string(a.nlink) + " " + std::to_string(a.uid) + " " + std::to_string(a.mtime) +
                    " " + std::to_string(a.size);
    for (const std::string& name : must(view.listxattr(node)))
      s += " " + name + "=" + std::string{as_text(must(view.getxattr(node, name)))};
    if (S_ISLNK(a.mode)) s += " -> " + must(view.readlink(node));
    if (S_ISREG(a.mode)) {
      auto content = v_.get(view, node);
      s += content ? " " + BlobHash::of(as_view(*content)).hex()
                   : " cannot be read: " + content.error().text();
    }
    all[path] = s;
    if (!S_ISDIR(a.mode)) return;
    const Handle h = must(view.opendir(node));
    std::vector<std::pair<std::string, NodeId>> below;
    for (std::uint64_t cookie = 0, before = 1; cookie != before;) {
      before = cookie;
      must(view.readdir(h, cookie, false, [&](const DirEntry& e) {
        cookie = e.cookie;
        below.emplace_back(e.name, e.node);
        return true;
      }));
    }
    view.releasedir(h);
    for (const auto& [name, child] : below) walk(view, child, path + "/" + name);
  }
  TestVault& v_;
};

/// No patches, nothing dead.
inline void rest(TestVault& v) {
  v.clock.pass(10 * kSecond);
  must(v.fs->settle());
}

inline BackupSource source_of(TestVault& v) {
  auto held = std::make_shared<std::shared_ptr<void>>();
  return {.vault = v.path(),
          .hold = [&v, held]() -> Result<void> {
            INDRA_LET(*held, v.fs->hold_content());
            return {};
          },
          .release = [held]() -> Result<void> {
            held->reset();
            return {};
          }};
}

inline BackupReport backed_up(TestVault& v, const std::string& dest, const BackupOptions& o = {}) {
  return must(back_up(source_of(v), dest, o));
}

/// The vault made of a backup, sound and open. Its own directory goes with it.
inline std::unique_ptr<TestVault> restored(const std::string& dest, bool single_file = false) {
  auto v = std::make_unique<TestVault>();
  v->single_file = single_file;
  const RestoreReport r = must(restore_backup(dest, v->path()));
  EXPECT_EQ(r.damage, std::vector<std::string>{});
  v->open();
  v->close();
  const FsckReport f = must(fsck(v->path(), {}));
  for (const FsckFinding& x : f.findings) ADD_FAILURE() << x.rule << " " << x.what;
  v->open();
  must(v->fs->scrub(0, true));
  for (int i = 0; must(v->fs->scrub_status()).running && i < 10000; ++i) (void)must(v->fs->tick());
  EXPECT_FALSE(must(v->fs->scrub_status()).running);
  for (const auto& d : must(v->fs->scrub_status()).damage) ADD_FAILURE() << "scrub: " << d.what;
  return v;
}

}  // namespace indra
