// S1..S10 of docs/design/fs.md, on a real vault in a temporary directory.
#include "fs/filesystem.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include "fs/internal/test_filesystem.h"

namespace indra {

TEST_F(FileSystemTest, WhatWasClosedIsThereAfterReopening) {
  const NodeId n = put("a", "hello");
  must(view_->mkdir(me_, view_->root(), "d", 0755));
  open();
  EXPECT_EQ(get(*view_, "/a"), "hello");
  EXPECT_EQ(must(resolve_path(*view_, "/a")).node, n);
  EXPECT_TRUE(S_ISDIR(must(resolve_path(*view_, "/d")).mode));
}

TEST_F(FileSystemTest, HashAttributeIsTheBlake3OfTheContent) {
  for (const std::size_t size : {0u, 1u, 1024u, 1025u, 65536u, 65537u, 1000000u}) {
    const std::string s(size, 'x');
    const NodeId n = put("f" + std::to_string(size), s);
    EXPECT_EQ(xattr(n, "user.indra.hash"), BlobHash::of(as_view(s)).hex()) << size;
  }
}

TEST_F(FileSystemTest, GivenOpenWriter_WhenReadLive_ThenWritesAreSeenAndOthersSeeThePublishedVersion) {  // S1
  put("a", "old");
  const NodeId n = must(resolve_path(*view_, "/a")).node;
  const Handle w = must(view_->open(me_, n, O_WRONLY));
  write(w, 0, "newer");
  EXPECT_EQ(get(*view_, "/a"), "newer");
  EXPECT_EQ(must(view_->getattr(n)).size, 5u);
  auto other = published();
  EXPECT_EQ(get(*other, "/a"), "old");
  close(w);
  EXPECT_EQ(get(*other, "/a"), "newer");  // S2
}

TEST_F(FileSystemTest, GivenPublishedReader_WhenFileIsRewritten_ThenItReadsItsVersionWhole) {  // S1
  const std::string old(200000, 'o');
  const NodeId n = put("a", old);
  auto other = published();
  const Handle r = must(other->open(me_, n, O_RDONLY));
  const Handle w = must(view_->open(me_, n, O_WRONLY | O_TRUNC));
  write(w, 0, std::string(300000, 'n'));
  must(view_->fsync(me_, w, false));
  close(w);
  EXPECT_EQ(read(*other, r), old);
  other->release(r);
}

TEST_F(FileSystemTest, GivenUnlinkedOpenFile_WhenReadAndWritten_ThenItWorksAndLeavesNothing) {  // S4
  const Opened f = create("a");
  write(f.handle, 0, "abc");
  must(view_->unlink(me_, view_->root(), "a"));
  write(f.handle, 3, "def");
  EXPECT_EQ(read(*view_, f.handle), "abcdef");
  EXPECT_EQ(must(view_->getattr(f.attr.node)).nlink, 0u);
  close(f.handle);
  view_->forget(f.attr.node, 1);
  must(fs_->settle());
  EXPECT_FALSE(view_->getattr(f.attr.node));
  EXPECT_EQ(must(fs_->status()).content.blobs, 0u);
}

TEST_F(FileSystemTest, GivenDirtySession_WhenPersistedAndCrashed_ThenItIsPublishedAtOpen) {  // S5
  put("a", "old");
  const NodeId n = must(resolve_path(*view_, "/a")).node;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // A process of its own: a SQLite connection must not cross fork().
    FileSystem::Options o;
    o.create = true;
    o.background = false;
    ManualClock clock;
    o.clock = &clock;
    auto fs = FileSystem::open(dir_ + "/w", o);
    auto view = must((*fs)->open_view({}, nullptr));
    const Opened f = must(view->create(me_, view->root(), "b", 0644, O_RDWR));
    must(view->write(me_, f.handle, 0, as_view("published"), false, false));
    must(view->flush(me_, f.handle));
    must(view->write(me_, f.handle, 0, as_view("persisted"), false, false));
    clock.advance(5 * kSecond);
    must((*fs)->tick());
    ViewSpec spec;
    spec.live = false;
    auto other = must((*fs)->open_view(spec, nullptr));
    const Handle h = must(other->open(me_, f.attr.node, O_RDONLY));
    Bytes b(9);
    must(other->read(h, 0, b));
    const bool unseen = as_text(b) == "published";
    must((*fs)->sync(false));
    _exit(unseen ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "private rows were visible to others";
  FileSystem::Options o;
  o.background = false;
  auto fs = must(FileSystem::open(dir_ + "/w", o));
  auto view = must(fs->open_view({}, nullptr));
  EXPECT_EQ(get(*view, "/b"), "persisted");
  EXPECT_TRUE(n);
}

TEST_F(FileSystemTest, FsyncsWithinASecondMakeOneEvent) {  // S6
  const Opened f = create("db");
  const auto writes = [&] {
    int n = 0;
    for (const auto& c : must(fs_->changes(Seq{}, 10000))) n += c.op == "write" ? 1 : 0;
    return n;
  };
  for (int i = 0; i < 50; ++i) {
    write(f.handle, 0, std::to_string(i));
    must(view_->fsync(me_, f.handle, true));
  }
  EXPECT_EQ(writes(), 1);
  clock_.advance(2 * kSecond);
  must(fs_->tick());
  EXPECT_LE(writes(), 2);
  close(f.handle);
  EXPECT_EQ(get(*view_, "/db"), "49");
}

TEST_F(FileSystemTest, IncomingReplacesWholeOrNotAtAll) {  // S7
  const NodeId old = put("a", "old");
  const Handle r = must(view_->open(me_, old, O_RDONLY));
  auto other = published();
  {
    auto in = must(fs_->incoming(*other, other->root(), "a"));
    must(in->write(0, as_view("half")));
  }
  EXPECT_EQ(get(*view_, "/a"), "old");
  auto in = must(fs_->incoming(*other, other->root(), "a"));
  must(in->write(0, as_view("new")));
  const Attr a = must(in->commit(me_, {}));
  EXPECT_NE(a.node, old);
  EXPECT_EQ(get(*view_, "/a"), "new");
  EXPECT_EQ(read(*view_, r), "old");
  view_->release(r);
  EXPECT_EQ(xattr(a.node, "user.indra.doc_id").size(), 64u);
}

TEST_F(FileSystemTest, IncomingIsOneMutationWithOneEventAndNoOtherName) {  // S7
  const auto events = [&](Seq after) { return must(fs_->changes(after, 100)); };
  const auto put_whole = [&](std::string_view bytes) {
    auto in = must(fs_->incoming(*view_, view_->root(), "a"));
    must(in->write(0, as_view(bytes)));
    return must(in->commit(me_, {})).node;
  };
  Seq last = events(Seq{}).empty() ? Seq{} : events(Seq{}).back().seq;
  const NodeId first = put_whole("one");
  auto made = events(last);
  ASSERT_EQ(made.size(), 1u);
  EXPECT_EQ(made[0].op, "create");
  EXPECT_EQ(made[0].name, "a");
  EXPECT_TRUE(made[0].blob);
  last = made[0].seq;
  const NodeId second = put_whole("two");
  made = events(last);
  ASSERT_EQ(made.size(), 1u);
  EXPECT_EQ(made[0].op, "write");
  EXPECT_EQ(made[0].name, "a");
  EXPECT_EQ(made[0].node, second);
  EXPECT_EQ(made[0].other, first);
  EXPECT_EQ(made[0].parent, view_->root());
  EXPECT_EQ(get(*view_, "/a"), "two");
  must(fs_->settle());
  EXPECT_EQ(must(fs_->status()).content.blobs, 1u);
}

TEST_F(FileSystemTest, LineGoesOnWhenAFileIsReplacedByRename) {
  const std::string before = xattr(put("a", "1"), "user.indra.doc_id");
  put("a.tmp", "2");
  must(view_->rename(me_, view_->root(), "a.tmp", view_->root(), "a", 0));
  EXPECT_EQ(xattr(must(resolve_path(*view_, "/a")).node, "user.indra.doc_id"), before);
}

TEST_F(FileSystemTest, SnapshotHoldsEveryWriteThatReturned) {  // S9
  const Opened f = create("a");
  write(f.handle, 0, "before");
  must(fs_->create_snapshot({}, "main", "main", "s", "m"));
  write(f.handle, 0, "after!");
  close(f.handle);
  ViewSpec spec;
  spec.snapshot = "s";
  auto snap = must(fs_->open_view(spec, nullptr));
  EXPECT_EQ(get(*snap, "/a"), "before");
  EXPECT_EQ(get(*view_, "/a"), "after!");
  EXPECT_EQ(snap->create(me_, snap->root(), "x", 0644, O_RDWR).error().code,
            std::errc::read_only_file_system);
}

// Equal files are one blob (C16).
TEST_F(FileSystemTest, SnapshotHoldsWhatWasWrittenToFilesThatWereEqual) {  // S9
  const std::string equal(3000, 'x');
  std::vector<Handle> open;
  for (const char* name : {"a", "b"}) open.push_back(must(view_->open(me_, put(name, equal), O_RDWR)));
  write(open[0], 0, "first");
  write(open[1], 0, "other");
  must(fs_->create_snapshot({}, "main", "main", "s", "m"));
  for (const Handle h : open) close(h);
  ViewSpec spec;
  spec.snapshot = "s";
  auto snap = must(fs_->open_view(spec, nullptr));
  EXPECT_EQ(get(*snap, "/a"), "first" + equal.substr(5));
  EXPECT_EQ(get(*snap, "/b"), "other" + equal.substr(5));
}

TEST_F(FileSystemTest, ForksAreIsolated) {
  put("a", "base");
  must(fs_->create_branch({}, "main", "agent", "main", ""));
  ViewSpec spec;
  spec.branch = "agent";
  auto fork = must(fs_->open_view(spec, nullptr));
  const Handle w = must(fork->open(me_, must(resolve_path(*fork, "/a")).node, O_WRONLY | O_TRUNC));
  must(fork->write(me_, w, 0, as_view("forked"), false, false));
  must(fork->flush(me_, w));
  fork->release(w);
  must(view_->rename(me_, view_->root(), "a", view_->root(), "b", 0));
  EXPECT_EQ(get(*fork, "/a"), "forked");
  EXPECT_EQ(get(*view_, "/b"), "base");
  EXPECT_FALSE(resolve_path(*view_, "/a"));
}

TEST_F(FileSystemTest, ComputedAttributesRefuseWritesAndAreNotListed) {
  const NodeId n = put("a", "x");
  EXPECT_EQ(view_->setxattr(me_, n, "user.indra.hash", as_view("y"), 0).error().code,
            std::errc::operation_not_permitted);
  must(view_->setxattr(me_, n, "user.colour", as_view("red"), 0));
  EXPECT_EQ(must(view_->listxattr(n)), std::vector<std::string>{"user.colour"});
  must(view_->setxattr(me_, n, "user.indra.versions", as_view("off"), 0));
  EXPECT_EQ(xattr(n, "user.indra.versions"), "off");
}

TEST_F(FileSystemTest, SetgidDirectoriesPassTheirGroupOn) {
  const Attr d = must(view_->mkdir(me_, view_->root(), "d", 0755));
  SetAttr set;
  set.gid = 77;
  must(view_->setattr(me_, d.node, set));
  SetAttr mode;
  mode.mode = 02775;
  must(view_->setattr(me_, d.node, mode));
  EXPECT_EQ(must(view_->mknod(me_, d.node, "f", S_IFREG | 0644, 0)).gid, 77u);
  const Attr sub = must(view_->mkdir(me_, d.node, "sub", 0755));
  EXPECT_EQ(sub.gid, 77u);
  EXPECT_NE(sub.mode & S_ISGID, 0u);
}

TEST_F(FileSystemTest, TruncateUpIsAHoleAndOneTebibyteIsInstant) {
  const NodeId n = put("a", "x");
  SetAttr set;
  set.size = 1ull << 40;
  must(view_->setattr(me_, n, set));
  EXPECT_EQ(must(view_->getattr(n)).size, 1ull << 40);
  EXPECT_LT(must(view_->getattr(n)).blocks, 1000u);
  EXPECT_EQ(xattr(n, "user.indra.hash"), "pending");
  set.size = (16ull << 40) + 1;
  EXPECT_EQ(view_->setattr(me_, n, set).error().code, std::errc::file_too_large);
}

TEST_F(FileSystemTest, SecondOwnerIsRefusedByName) {
  FileSystem::Options o;
  const auto second = FileSystem::open(dir_ + "/v", o);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().text().find("in use by process " + std::to_string(getpid())), std::string::npos)
      << second.error().text();
}

TEST_F(FileSystemTest, ReaddirWhileOthersDeleteSkipsAndDoublesNothing) {
  std::set<std::string> kept;
  for (int i = 0; i < 2000; ++i) {
    const std::string name = "f" + std::to_string(i);
    must(view_->mknod(me_, view_->root(), name, S_IFREG | 0644, 0));
    if (i % 2 == 0) kept.insert(name);
  }
  const Handle h = must(view_->opendir(view_->root()));
  std::multiset<std::string> seen;
  std::uint64_t cookie = 0;
  for (int round = 0;; ++round) {
    int n = 0;
    must(view_->readdir(h, cookie, false, [&](const DirEntry& e) {
      if (n == 100) return false;
      ++n;
      cookie = e.cookie;
      seen.emplace(e.name);
      return true;
    }));
    if (n == 0) break;
    for (int i = round * 100; i < round * 100 + 100 && i < 2000; ++i)
      if (i % 2 == 1) (void)view_->unlink(me_, view_->root(), "f" + std::to_string(i));
  }
  view_->releasedir(h);
  for (const std::string& name : kept) EXPECT_EQ(seen.count(name), 1u) << name;
  for (const std::string& name : seen) EXPECT_EQ(seen.count(name), 1u) << name;
}

TEST_F(FileSystemTest, ManyThreadsWritingRenamingAndDeletingLeaveASoundTree) {
  open(true);
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random{static_cast<unsigned>(t)};
      const Caller c{0, 0, 0};
      for (int i = 0; i < 150; ++i) {
        const std::string name = "n" + std::to_string(random() % 20),
                          other = "n" + std::to_string(random() % 20);
        switch (random() % 4) {
          case 0:
          case 1:
            if (auto f = view_->create(c, view_->root(), name, 0644, O_RDWR)) {
              const std::string body(random() % 100000, static_cast<char>('a' + t));
              if (!view_->write(c, f->handle, 0, as_view(body), false, false) || !view_->flush(c, f->handle))
                ++failures;
              if (i % 10 == 0 && !view_->fsync(c, f->handle, false)) ++failures;
              view_->release(f->handle);
              view_->forget(f->attr.node, 1);
            }
            break;
          case 2:
            (void)view_->rename(c, view_->root(), name, view_->root(), other, 0);
            break;
          default:
            (void)view_->unlink(c, view_->root(), name);
            break;
        }
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(failures, 0);
  must(fs_->settle());
  open();
  const Handle h = must(view_->opendir(view_->root()));
  std::vector<std::string> names;
  must(view_->readdir(h, 0, false, [&](const DirEntry& e) {
    names.emplace_back(e.name);
    return true;
  }));
  view_->releasedir(h);
  for (const std::string& name : names) {
    const std::string body = get(*view_, "/" + name);
    EXPECT_EQ(body, std::string(body.size(), body.empty() ? 'x' : body[0])) << name << ": bytes of two files";
    EXPECT_EQ(xattr(must(resolve_path(*view_, "/" + name)).node, "user.indra.hash"),
              BlobHash::of(as_view(body)).hex());
  }
}

// open(2) lets O_TRUNC stand beside O_RDONLY.
TEST_F(FileSystemTest, ATruncationByAHandleThatOnlyReadsIsPublishedWithIt) {
  const NodeId n = put("f", "content");
  const Handle h = must(view_->open(me_, n, O_RDONLY | O_TRUNC));
  EXPECT_EQ(must(view_->getattr(n)).size, 0u);
  close(h);
  EXPECT_EQ(must(view_->getattr(n)).size, 0u);
  EXPECT_EQ(get(*published(), "/f"), "");
}

// A name is looked up while what was written is published and closed: the size is never one from before.
TEST_F(FileSystemTest, S3_ALookupBesideACloseSeesWhatWasWrittenBefore) {
  const NodeId n = put("f", "");
  cpu_set_t all, one;  // on one core: then who reads is put aside where the close wakes up
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  std::atomic<std::uint64_t> written{0};
  std::atomic<bool> stop{false};
  std::thread writer{[&] {
    for (std::uint64_t size = 1; size < 6000; ++size) {
      const Handle h = must(view_->open(me_, n, O_WRONLY));
      write(h, size - 1, "x");
      written = size;
      close(h);
    }
    stop = true;
  }};
  std::vector<std::thread> readers;
  std::atomic<int> stale{0};
  for (int i = 0; i < 2; ++i)
    readers.emplace_back([&] {
      while (!stop) {
        const std::uint64_t least = written;
        const Attr a = must(view_->lookup(view_->root(), "f"));
        view_->forget(a.node, 1);
        if (a.size < least) ++stale;
      }
    });
  writer.join();
  for (auto& r : readers) r.join();
  ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
  EXPECT_EQ(stale, 0);
}

TEST_F(FileSystemTest, S5_ANamelessFileThatGotANameIsAFileAsOthers) {
  const Opened f = must(view_->tmpfile(me_, view_->root(), 0600, O_RDWR));
  write(f.handle, 0, "a");
  const Handle again = must(view_->open(me_, f.attr.node, O_RDWR));  // by /proc/self/fd
  must(view_->link(me_, f.attr.node, view_->root(), "named"));
  write(again, 1, "b");
  clock_.advance(31 * kSecond);
  must(fs_->tick());
  EXPECT_EQ(get(*published(), "/named"), "ab");
  must(view_->unlink(me_, view_->root(), "named"));
  const Seq before = must(fs_->changes({}, 1000)).back().seq;
  write(again, 2, "c");
  close(again);
  close(f.handle);
  EXPECT_EQ(must(fs_->changes({}, 1000)).back().seq, before);
}

// The kernel may ask for it when another mount has removed the name that it knows.
TEST_F(FileSystemTest, S4_AFileThatLostItsLastNameGetsNoOther) {
  const NodeId n = put("f", "content");
  const Handle h = must(view_->open(me_, n, O_RDWR));
  must(view_->unlink(me_, view_->root(), "f"));
  const auto linked = view_->link(me_, n, view_->root(), "g");
  ASSERT_FALSE(linked);
  EXPECT_EQ(to_errno(linked.error()), ENOENT);
  close(h);
}

}  // namespace indra
