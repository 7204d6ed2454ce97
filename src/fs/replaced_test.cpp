// S13: what is written to a file after another took its place.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/internal/test_filesystem.h"

namespace indra {
namespace {

class Replaced : public FileSystemTest {
 protected:
  /// The change that put the new file there.
  Seq put_new() {
    auto other = published();
    auto in = must(fs_->incoming(*other, other->root(), "a"));
    must(in->write(0, as_view("new")));
    must(in->commit(me_, {}));
    return must(fs_->changes(Seq{}, 1000)).back().seq;
  }
  Seq rename_new() {
    put("a.tmp", "new");
    must(view_->rename(me_, view_->root(), "a.tmp", view_->root(), "a", 0));
    return must(fs_->changes(Seq{}, 1000)).back().seq;
  }
  /// /a as it was just before the change.
  std::string before(Seq change) {
    ViewSpec spec;
    spec.seq = Seq{change.raw() - 1};
    const auto kept = must(fs_->moment("main", "main", spec.seq, {}));
    if (!kept.exact) return "no such moment";
    return get(*must(fs_->open_view(spec, nullptr)), "/a");
  }
};

TEST_F(Replaced, GivenAWriter_WhenPutReplacesItsFile_ThenWhatItWritesIsTheVersionBefore) {  // S13
  const NodeId old = put("a", "old");
  const Handle w = must(view_->open(me_, old, O_RDWR));
  write(w, 0, "dirty before");
  const Seq change = put_new();
  EXPECT_EQ(before(change), "dirty before");
  const std::string late(150000, 'L');
  write(w, 0, late);
  must(view_->fsync(me_, w, false));
  EXPECT_EQ(before(change), late);
  EXPECT_EQ(must(view_->getattr(old)).size, late.size());
  write(w, 0, "later");
  must(view_->flush(me_, w));
  EXPECT_EQ(before(change).substr(0, 7), "laterLL");
  EXPECT_EQ(read(*view_, w).substr(0, 7), "laterLL");
  view_->release(w);
  EXPECT_EQ(get(*view_, "/a"), "new");
  clock_.advance(5 * kSecond);
  must(fs_->settle());
  open();
  EXPECT_EQ(before(change).substr(0, 7), "laterLL");
  EXPECT_EQ(get(*view_, "/a"), "new");
  const auto line = [&](View& v) {
    return std::string{as_text(must(v.getxattr(must(resolve_path(v, "/a")).node, "user.indra.doc_id")))};
  };
  ViewSpec spec;
  spec.seq = Seq{change.raw() - 1};
  EXPECT_EQ(line(*must(fs_->open_view(spec, nullptr))), line(*view_));
}

TEST_F(Replaced, GivenAWriter_WhenAFileIsRenamedOverIts_ThenWhatItWritesIsTheVersionBefore) {  // S13
  const Handle w = must(view_->open(me_, put("a", "old"), O_RDWR));
  const Seq change = rename_new();
  write(w, 3, "er");
  close(w);
  EXPECT_EQ(before(change), "older");
  EXPECT_EQ(get(*view_, "/a"), "new");
}

TEST_F(Replaced, GivenASnapshot_WhenTheWriterGoesOn_ThenTheSnapshotStaysAsItWas) {  // S13
  const Handle w = must(view_->open(me_, put("a", "old"), O_RDWR));
  must(fs_->create_snapshot({}, "main", "main", "s", ""));
  const Seq change = put_new();
  write(w, 0, "late");
  close(w);
  ViewSpec spec;
  spec.snapshot = "s";
  EXPECT_EQ(get(*must(fs_->open_view(spec, nullptr)), "/a"), "old");
  EXPECT_EQ(before(change), "late");
}

TEST_F(Replaced, GivenAForkThatOnlyInherits_WhenItsFileIsReplaced_ThenTheVersionIsTheForksAlone) {  // S13
  put("a", "old");
  must(fs_->create_branch({}, "main", "agent", "main", ""));
  ViewSpec spec;
  spec.branch = "agent";
  auto fork = must(fs_->open_view(spec, nullptr));
  const Handle w = must(fork->open(me_, must(resolve_path(*fork, "/a")).node, O_RDWR));
  auto in = must(fs_->incoming(*fork, fork->root(), "a"));
  must(in->write(0, as_view("new")));
  must(in->commit(me_, {}));
  const Seq change = must(fs_->changes(Seq{}, 1000)).back().seq;
  must(fork->write(me_, w, 0, as_view("late"), false, false));
  must(fork->flush(me_, w));
  fork->release(w);
  spec.seq = Seq{change.raw() - 1};
  EXPECT_EQ(get(*must(fs_->open_view(spec, nullptr)), "/a"), "late");
  EXPECT_EQ(get(*fork, "/a"), "new");
  EXPECT_EQ(get(*view_, "/a"), "old");
}

TEST_F(Replaced, WhatWasWrittenIsPersistedInTimeWithoutFsync) {  // S5, S13
  const Handle w = must(view_->open(me_, put("a", "old"), O_RDWR));
  const Seq change = put_new();
  write(w, 0, "late");
  clock_.advance(5 * kSecond);
  must(fs_->tick());
  EXPECT_EQ(before(change), "late");
  view_->release(w);
}

TEST_F(Replaced, GivenNobodyWhoWrites_WhenAFileIsReplaced_ThenNoMomentIsKeptForIt) {
  const NodeId old = put("a", "old");
  const Handle r = must(view_->open(me_, old, O_RDONLY));
  const Seq change = put_new();
  EXPECT_FALSE(fs_->moment("main", "main", Seq{change.raw() - 1}, {}));
  EXPECT_EQ(read(*view_, r), "old");
  view_->release(r);
  view_->forget(old, 1);
  must(fs_->settle());
  EXPECT_EQ(must(fs_->status()).content.blobs, 1u);
}

TEST_F(Replaced, GivenACrash_WhenWhatWasWrittenLateWasFsynced_ThenItIsThere) {  // D1, S13
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {  // a process of its own: a SQLite connection must not cross fork()
    FileSystem::Options o;
    o.create = true;
    o.background = false;
    auto fs = must(FileSystem::open(dir_ + "/w", o));
    auto view = must(fs->open_view({}, nullptr));
    const Opened f = must(view->create(me_, view->root(), "a", 0644, O_RDWR));
    must(view->write(me_, f.handle, 0, as_view("old"), false, false));
    must(view->fsync(me_, f.handle, false));
    auto in = must(fs->incoming(*view, view->root(), "a"));
    must(in->write(0, as_view("new")));
    must(in->commit(me_, {}));
    must(view->write(me_, f.handle, 0, as_view("late"), false, false));
    must(view->fsync(me_, f.handle, false));
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  view_.reset();
  FileSystem::Options o;
  o.background = false;
  fs_ = must(FileSystem::open(dir_ + "/w", o));
  view_ = must(fs_->open_view({}, nullptr));
  Seq put;
  for (const auto& c : must(fs_->changes(Seq{}, 1000)))
    if (c.op == "write" && c.other) put = c.seq;
  EXPECT_EQ(before(put), "late");
  EXPECT_EQ(get(*view_, "/a"), "new");
}

TEST_F(Replaced, AnOpenForWritingThatFoundTheOldFileIsToldToLookAgain) {  // S13
  const NodeId old = put("a", "old");
  put_new();
  EXPECT_EQ(to_errno(view_->open(me_, old, O_RDWR).error()), ESTALE);
  view_->release(must(view_->open(me_, old, O_RDONLY)));
}

}  // namespace
}  // namespace indra
