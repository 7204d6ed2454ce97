// Who watches a mount hears of what others do (docs/design/editor-events.md, E1..).
#include <linux/falloc.h>

#include <random>

#include "mount/internal/inotify_ear.h"
#include "mount/internal/test_mount.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

namespace indra {
namespace {

using Heard = std::vector<std::string>;

class Events : public TestMount {
 protected:
  void SetUp() override {
    TestMount::SetUp();
    if (IsSkipped()) return;
    options_.raise_program = {INDRA_RAISE_PROGRAM};
    if (!late_) start();
  }
  View& outside() { return views_.outside(); }
  NodeId node(const std::string& path) {
    NodeId at = outside().root();
    for (std::size_t i = 0; i < path.size();) {
      const std::size_t end = std::min(path.find('/', i), path.size());
      const auto a = outside().lookup(at, path.substr(i, end - i));
      if (!a) return NodeId{};
      outside().forget(a->node, 1);
      at = a->node;
      i = end + 1;
    }
    return at;
  }
  NodeId dir_of(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == std::string::npos ? outside().root() : node(path.substr(0, slash));
  }
  static std::string last(const std::string& path) { return path.substr(path.rfind('/') + 1); }
  void drop(const Result<Attr>& a) {
    ASSERT_TRUE(a) << a.error().text();
    outside().forget(a->node, 1);
  }
  void make_dir(const std::string& path) { drop(outside().mkdir({}, dir_of(path), last(path), 0755)); }
  void make_file(const std::string& path) {
    drop(outside().mknod({}, dir_of(path), last(path), S_IFREG | 0644, 0));
  }
  void write(const std::string& path, std::string_view text, std::uint64_t at = 0) {
    const auto h = outside().open({}, node(path), O_WRONLY);
    ASSERT_TRUE(h);
    ASSERT_TRUE(outside().write({}, *h, at, as_view(text), false, false));
    outside().release(*h);
  }
  void remove(const std::string& path) { ASSERT_TRUE(outside().unlink({}, dir_of(path), last(path))); }
  void remove_dir(const std::string& path) { ASSERT_TRUE(outside().rmdir({}, dir_of(path), last(path))); }
  void rename(const std::string& from, const std::string& to, unsigned flags = 0) {
    ASSERT_TRUE(outside().rename({}, dir_of(from), last(from), dir_of(to), last(to), flags));
  }
  void set(const std::string& path, const SetAttr& s) { ASSERT_TRUE(outside().setattr({}, node(path), s)); }
  /// From here on only what comes is heard.
  void watch(const std::string& path, const std::string& called) {
    settle();
    ear_.watch(at(path), called);
  }
  void settle() { ASSERT_TRUE(mount_->events_settled(std::chrono::seconds{20})); }
  Heard heard() {
    settle();
    return ear_.heard();
  }
  bool exists(const std::string& name) { return ::access(at(name).c_str(), F_OK) == 0; }
  Mount::Events figures() const { return mount_->figures().events; }

  bool late_ = false;
  InotifyEar ear_;
};

class EventsLater : public Events {
 protected:
  EventsLater() { late_ = true; }
};

TEST_F(Events, E1_a_new_file) {
  watch("", "top");
  make_file("f");
  EXPECT_EQ(heard(), (Heard{"top: CREATE f"}));
  struct stat st {};
  ASSERT_EQ(::stat(at("f").c_str(), &st), 0);
  EXPECT_EQ(st.st_ino, static_cast<ino_t>(node("f").raw()));
}

TEST_F(Events, E1_a_new_file_that_is_written_and_closed) {
  watch("", "top");
  const auto made = outside().create({}, outside().root(), "f", 0644, O_WRONLY);
  ASSERT_TRUE(made);
  ASSERT_TRUE(outside().write({}, made->handle, 0, as_view("text"), false, false));
  EXPECT_EQ(heard(), (Heard{"top: CREATE f", "top: MODIFY f"}));
  outside().release(made->handle);
  EXPECT_EQ(heard(), (Heard{"top: OPEN f", "top: CLOSE_WRITE f"}));
  outside().forget(made->attr.node, 1);
  EXPECT_EQ(read_file(at("f")), "text");
}

TEST_F(Events, E1_every_type_of_node) {
  watch("", "top");
  make_dir("d");
  drop(outside().symlink({}, outside().root(), "l", "where"));
  drop(outside().mknod({}, outside().root(), "p", S_IFIFO | 0600, 0));
  drop(outside().mknod({}, outside().root(), "s", S_IFSOCK | 0600, 0));
  EXPECT_EQ(heard(), (Heard{"top: CREATE|ISDIR d", "top: CREATE l", "top: CREATE p", "top: CREATE s"}));
  char target[16] = {};
  EXPECT_EQ(::readlink(at("l").c_str(), target, sizeof target), 5);
  EXPECT_STREQ(target, "where");
}

TEST_F(Events, E1_content) {
  make_file("f");
  ASSERT_EQ(read_file(at("f")), "");
  watch("", "top");
  watch("f", "file");
  const auto h = outside().open({}, node("f"), O_WRONLY);
  ASSERT_TRUE(h);
  ASSERT_TRUE(outside().write({}, *h, 0, as_view("hello"), false, false));
  EXPECT_EQ(heard(), (Heard{"top: MODIFY f", "file: MODIFY"}));
  EXPECT_EQ(read_file(at("f")), "hello");
  (void)ear_.events();
  SetAttr size;
  size.size = 2;
  set("f", size);
  EXPECT_EQ(heard(), (Heard{"top: MODIFY f", "file: MODIFY"}));
  outside().release(*h);
  EXPECT_EQ(heard(), (Heard{"top: OPEN f", "file: OPEN", "top: CLOSE_WRITE f", "file: CLOSE_WRITE"}));
  EXPECT_EQ(read_file(at("f")), "he");
}

TEST_F(Events, E1_content_of_a_file_that_was_never_looked_up) {
  make_dir("d");
  make_file("d/f");
  watch("d", "d");
  write("d/f", "text");
  EXPECT_EQ(heard(), (Heard{"d: MODIFY f", "d: OPEN f", "d: CLOSE_WRITE f"}));
}

TEST_F(Events, E1_attributes) {
  make_file("f");
  make_dir("d");
  ASSERT_TRUE(exists("f") && exists("d"));
  watch("", "top");
  watch("f", "file");
  watch("d", "dir");
  SetAttr mode;
  mode.mode = 0600;
  set("f", mode);
  EXPECT_EQ(heard(), (Heard{"top: ATTRIB f", "file: ATTRIB"}));
  mode.mode = 0700;
  set("d", mode);
  EXPECT_EQ(heard(), (Heard{"top: ATTRIB|ISDIR d", "dir: ATTRIB|ISDIR"}));
  ASSERT_TRUE(outside().setxattr({}, node("f"), "user.x", as_view("y"), 0));
  EXPECT_EQ(heard(), (Heard{"top: ATTRIB f", "file: ATTRIB"}));
  ASSERT_TRUE(outside().setattr({}, outside().root(), mode));
  EXPECT_EQ(heard(), (Heard{"top: ATTRIB|ISDIR"}));
  struct stat st {};
  ASSERT_EQ(::stat(at("f").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST_F(Events, E1_a_name_goes) {
  make_file("f");
  make_dir("d");
  ASSERT_TRUE(exists("f") && exists("d"));
  watch("", "top");
  watch("f", "file");
  watch("d", "dir");
  remove("f");
  EXPECT_EQ(heard(), (Heard{"file: ATTRIB", "file: DELETE_SELF", "file: IGNORED", "top: DELETE f"}));
  remove_dir("d");
  EXPECT_EQ(heard(), (Heard{"dir: DELETE_SELF", "dir: IGNORED", "top: DELETE|ISDIR d"}));
  EXPECT_FALSE(exists("f") || exists("d"));
}

TEST_F(Events, E1_a_name_goes_that_was_never_looked_up) {
  make_file("f");
  make_dir("d");
  watch("", "top");
  remove("f");
  remove_dir("d");
  EXPECT_EQ(heard(), (Heard{"top: DELETE f", "top: DELETE|ISDIR d"}));
}

TEST_F(Events, E1_a_rename_in_a_directory) {
  make_file("a");
  make_dir("d");
  ASSERT_TRUE(exists("a") && exists("d"));
  watch("", "top");
  watch("a", "file");
  watch("d", "dir");
  rename("a", "b");
  EXPECT_EQ(heard(), (Heard{"top: MOVED_FROM a #1", "top: MOVED_TO b #1", "file: MOVE_SELF"}));
  rename("d", "e");
  EXPECT_EQ(heard(), (Heard{"top: MOVED_FROM|ISDIR d #1", "top: MOVED_TO|ISDIR e #1", "dir: MOVE_SELF"}));
  EXPECT_TRUE(exists("b") && exists("e") && !exists("a") && !exists("d"));
}

TEST_F(Events, E1_a_rename_between_directories) {
  make_dir("x");
  make_dir("y");
  make_file("x/f");
  make_dir("x/d");
  watch("x", "x");
  watch("y", "y");
  ASSERT_TRUE(exists("x/f") && exists("x/d"));
  watch("x/d", "dir");
  rename("x/f", "y/g");
  EXPECT_EQ(heard(), (Heard{"x: MOVED_FROM f #1", "y: MOVED_TO g #1"}));
  rename("x/d", "y/d");
  EXPECT_EQ(heard(), (Heard{"x: MOVED_FROM|ISDIR d #1", "y: MOVED_TO|ISDIR d #1", "dir: MOVE_SELF"}));
  make_file("y/d/below");
  EXPECT_EQ(heard(), (Heard{"dir: CREATE below"}));
}

TEST_F(Events, E1_a_rename_from_and_to_where_nobody_looks) {
  make_dir("seen");
  make_dir("unseen");
  make_file("unseen/f");
  watch("seen", "seen");
  rename("unseen/f", "seen/f");
  EXPECT_EQ(heard(), (Heard{"seen: MOVED_TO f #1"}));
  rename("seen/f", "unseen/g");
  EXPECT_EQ(heard(), (Heard{"seen: MOVED_FROM f #1"}));
}

TEST_F(Events, E1_a_rename_onto_another) {
  make_file("new");
  make_file("f");
  ASSERT_TRUE(exists("f"));
  watch("", "top");
  watch("f", "old");
  rename("new", "f");
  EXPECT_EQ(heard(), (Heard{"top: MOVED_FROM new #1", "top: MOVED_TO f #1", "old: ATTRIB", "old: DELETE_SELF",
                            "old: IGNORED"}));
}

TEST_F(Events, E1_an_exchange) {
  make_file("a");
  make_dir("d");
  watch("", "top");
  rename("a", "d", RENAME_EXCHANGE);
  EXPECT_EQ(heard(), (Heard{"top: MOVED_FROM a #1", "top: MOVED_TO d #1", "top: MOVED_FROM|ISDIR d #2",
                            "top: MOVED_TO|ISDIR a #2"}));
}

TEST_F(Events, E1_a_hard_link) {
  make_file("f");
  make_dir("d");
  ASSERT_TRUE(exists("f"));
  watch("d", "d");
  watch("f", "file");
  drop(outside().link({}, node("f"), node("d"), "g"));
  EXPECT_EQ(heard(), (Heard{"file: ATTRIB", "d: CREATE g"}));
  // One of two names goes: the file stays, and so does its watch.
  remove("d/g");
  EXPECT_EQ(heard(), (Heard{"file: ATTRIB", "d: DELETE g"}));
  struct stat st {};
  ASSERT_EQ(::stat(at("f").c_str(), &st), 0);
  EXPECT_EQ(st.st_nlink, 1u);
  write("f", "still watched");
  const Heard h = heard();
  EXPECT_EQ(h.at(0), "file: MODIFY");
}

TEST_F(Events, E1_a_tree_comes_and_goes) {
  watch("", "top");
  make_dir("t");
  make_dir("t/u");
  EXPECT_EQ(heard(), (Heard{"top: CREATE|ISDIR t"}));
  ASSERT_TRUE(exists("t/u"));
  watch("t", "t");
  watch("t/u", "u");
  make_file("t/u/f");
  remove("t/u/f");
  remove_dir("t/u");
  remove_dir("t");
  EXPECT_EQ(heard(), (Heard{"u: CREATE f", "u: DELETE f", "u: DELETE_SELF", "u: IGNORED", "t: DELETE|ISDIR u",
                            "t: DELETE_SELF", "t: IGNORED", "top: DELETE|ISDIR t"}));
}

TEST_F(Events, E2_the_mount_that_did_it_hears_the_kernel_alone) {
  watch("", "top");
  ASSERT_EQ(::mkdir(at("d").c_str(), 0755), 0);
  write_file(at("f"), "x");
  ASSERT_EQ(::rename(at("f").c_str(), at("g").c_str()), 0);
  EXPECT_EQ(heard(), (Heard{"top: CREATE|ISDIR d", "top: CREATE f", "top: OPEN f", "top: MODIFY f",
                            "top: CLOSE_WRITE f", "top: MOVED_FROM f #1", "top: MOVED_TO g #1"}));
  EXPECT_EQ(figures().raised, 0u);
  EXPECT_EQ(figures().looks, 0u);
}

TEST_F(Events, E4_chains_of_names_are_told_step_by_step) {
  watch("", "top");
  make_file("a");
  rename("a", "b");
  rename("b", "c");
  make_file("a");
  rename("a", "c");
  remove("c");
  EXPECT_EQ(heard(), (Heard{"top: CREATE a", "top: MOVED_FROM a #1", "top: MOVED_TO b #1",
                            "top: MOVED_FROM b #2", "top: MOVED_TO c #2", "top: CREATE a",
                            "top: MOVED_FROM a #3", "top: MOVED_TO c #3", "top: DELETE c"}));
  EXPECT_EQ(figures().lost, 0u);
}

TEST_F(Events, E4_names_looked_up_before_their_event_are_told_all_the_same) {
  watch("", "top");
  for (int i = 0; i < 50; ++i) {
    make_file("f");
    EXPECT_TRUE(soon([&] { return exists("f"); }));
    rename("f", "g");
    EXPECT_TRUE(soon([&] { return exists("g") && !exists("f"); }));
    make_dir("d");
    EXPECT_TRUE(soon([&] { return exists("d"); }));
    rename("d", "e");
    EXPECT_TRUE(soon([&] { return exists("e") && !exists("d"); }));
    remove("g");
    remove_dir("e");
    EXPECT_TRUE(soon([&] { return !exists("e") && !exists("g"); }));
    EXPECT_EQ(heard(), (Heard{"top: CREATE f", "top: MOVED_FROM f #1", "top: MOVED_TO g #1",
                              "top: CREATE|ISDIR d", "top: MOVED_FROM|ISDIR d #2", "top: MOVED_TO|ISDIR e #2",
                              "top: DELETE g", "top: DELETE|ISDIR e"}));
  }
}

TEST_F(Events, E4_directories_move_while_what_is_in_them_changes) {
  make_dir("p");
  make_dir("p/d");
  watch("p", "p");
  watch("p/d", "d");
  make_file("p/d/1");
  rename("p/d", "p/e");
  make_file("p/e/2");
  rename("p", "q");
  make_file("q/e/3");
  remove("q/e/1");
  EXPECT_EQ(heard(), (Heard{"d: CREATE 1", "p: MOVED_FROM|ISDIR d #1", "p: MOVED_TO|ISDIR e #1",
                            "d: MOVE_SELF", "d: CREATE 2", "p: MOVE_SELF", "d: CREATE 3", "d: DELETE 1"}));
}

// A deed of this mount upon a name whose event still waits: what waited is not told, so that who watches ends
// with what is there.
TEST_F(EventsLater, E5_a_deed_of_this_mount_overtakes_what_waits) {
  start();
  make_file("gone");
  make_file("moves");
  ASSERT_TRUE(exists("gone") && exists("moves"));
  watch("", "top");
  mount_->hold_events(true);
  make_file("f");
  remove("gone");
  rename("moves", "moved");
  ASSERT_TRUE(soon([&] { return exists("f") && !exists("gone") && exists("moved"); }));
  ASSERT_EQ(::unlink(at("f").c_str()), 0);
  ASSERT_EQ(::mkdir(at("gone").c_str(), 0755), 0);
  ASSERT_EQ(::rename(at("moved").c_str(), at("last").c_str()), 0);
  mount_->hold_events(false);
  EXPECT_EQ(heard(), (Heard{"top: DELETE f", "top: CREATE|ISDIR gone", "top: MOVED_FROM moved #1",
                            "top: MOVED_TO last #1", "top: MOVED_FROM moves #2"}));
  EXPECT_EQ(figures().overtaken, 2u);
  EXPECT_EQ(figures().lost, 0u);
}

class EventsStress : public EventsLater, public ::testing::WithParamInterface<unsigned> {
 protected:
  struct Seen {
    std::map<std::string, bool> there;
    std::uint64_t creates = 0, deletes = 0, pairs = 0, halves = 0;
    bool overflowed = false;
    std::map<std::uint32_t, int> cookies;
    void take(const std::vector<InotifyEar::Event>& events) {
      for (const auto& e : events) {
        if ((e.mask & IN_Q_OVERFLOW) != 0) overflowed = true;
        if ((e.mask & IN_CREATE) != 0) ++creates, there[e.name] = true;
        if ((e.mask & IN_DELETE) != 0) ++deletes, there[e.name] = false;
        if ((e.mask & IN_MOVED_FROM) != 0) ++cookies[e.cookie], there[e.name] = false;
        if ((e.mask & IN_MOVED_TO) != 0) ++cookies[e.cookie], there[e.name] = true;
      }
    }
  };
};

// Remote changes against local users of the same names: no event missing, none too many, no hang, and who
// only listened knows what is there.
TEST_P(EventsStress, E4_E5_no_event_is_missing_and_none_is_too_many) {
  constexpr unsigned kNames = 40;
  options_.workers = options_.max_workers = GetParam();
  start();
  make_dir("d");
  ASSERT_TRUE(exists("d"));
  settle();
  ear_.watch(at("d"), "d", IN_CREATE | IN_DELETE | IN_MOVE);
  const auto name = [](unsigned i) { return "n" + std::to_string(i % kNames); };
  const std::string dir = at("d/");
  Seen seen;
  std::atomic<bool> stop{false}, listen{true};
  std::thread listener{[&] {
    while (listen) {
      seen.take(ear_.events());
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
  }};
  const std::uint64_t before = views_.deeds();
  std::vector<std::thread> users;
  for (unsigned t = 0; t < 3; ++t)
    users.emplace_back([&, t] {
      std::mt19937 random{t + 7};
      struct stat st {};
      while (!stop) {
        const std::string path = dir + name(static_cast<unsigned>(random()));
        switch (random() % 7) {
          case 0:
          case 1:
            (void)::stat(path.c_str(), &st);
            break;
          case 2:
            (void)names_in(dir);
            break;
          case 3:
            (void)read_file(path);
            break;
          case 4:
            (void)::mknod(path.c_str(), S_IFREG | 0644, 0);
            break;
          case 5:
            (void)::unlink(path.c_str());
            break;
          default:
            (void)::rename(path.c_str(), (dir + name(static_cast<unsigned>(random()))).c_str());
        }
      }
    });
  std::mt19937 random{99};
  const NodeId d = node("d");
  std::uint64_t remote = 0;
  const TimeNs until = system_clock().steady() + 2 * kSecond;
  while (system_clock().steady() < until) {
    const std::string n = name(static_cast<unsigned>(random()));
    switch (random() % 3) {
      case 0: {
        const auto made = outside().mknod({}, d, n, S_IFREG | 0644, 0);
        if (made) ++remote, outside().forget(made->node, 1);
        break;
      }
      case 1:
        if (outside().unlink({}, d, n)) ++remote;
        break;
      default: {
        const std::string to = name(static_cast<unsigned>(random()));
        if (n != to && outside().rename({}, d, n, d, to, 0)) ++remote;
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds{500});
  }
  stop = true;
  for (auto& u : users) u.join();
  settle();
  listen = false;
  listener.join();
  seen.take(ear_.events());
  for (const auto& [cookie, n] : seen.cookies) ++(n == 2 ? seen.pairs : seen.halves);

  const auto f = figures();
  const std::uint64_t local = views_.deeds() - before - remote;
  EXPECT_FALSE(seen.overflowed);
  EXPECT_EQ(f.lost, 0u);
  EXPECT_EQ(f.floods, 0u);
  EXPECT_EQ(f.raised + f.overtaken, remote);
  // The kernel joins an event with an equal one just before it: only where the one between was overtaken.
  const std::uint64_t heard = seen.creates + seen.deletes + seen.pairs + seen.halves;
  EXPECT_LE(heard, local + f.raised);
  EXPECT_GE(heard + f.overtaken / 10, local + f.raised);
  for (unsigned i = 0; i < kNames; ++i) {
    const auto a = outside().lookup(d, name(i));
    if (a) outside().forget(a->node, 1);
    EXPECT_EQ(seen.there[name(i)], a.has_value()) << name(i);
    EXPECT_EQ(exists("d/" + name(i)), a.has_value()) << name(i);
  }
  RecordProperty("remote", static_cast<int>(remote));
  RecordProperty("local", static_cast<int>(local));
  RecordProperty("overtaken", static_cast<int>(f.overtaken));
  EXPECT_GT(f.raised, remote / 10);
  EXPECT_EQ(mount_->figures().exceptions, 0u);
}
// The same with names that users look at, but do not change: then each event comes, once, in order.
TEST_P(EventsStress, E4_every_event_comes_once_and_in_order) {
  constexpr unsigned kNames = 30;
  options_.workers = options_.max_workers = GetParam();
  start();
  make_dir("d");
  watch("d", "d");
  std::atomic<bool> stop{false}, listen{true};
  std::vector<InotifyEar::Event> seen;
  std::thread listener{[&] {
    while (listen) {
      for (auto& e : ear_.events())
        if ((e.mask & (IN_CREATE | IN_DELETE | IN_MOVE | IN_Q_OVERFLOW)) != 0) seen.push_back(std::move(e));
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
  }};
  const auto name = [](unsigned i) { return "n" + std::to_string(i % kNames); };
  const std::string dir = at("d/");
  std::vector<std::thread> users;
  for (unsigned t = 0; t < 3; ++t)
    users.emplace_back([&, t] {
      std::mt19937 random{t + 7};
      struct stat st {};
      const std::string own = dir + "own" + std::to_string(t);
      while (!stop) {
        const std::string path = dir + name(static_cast<unsigned>(random()));
        switch (random() % 6) {
          case 0:
          case 1:
            (void)::stat(path.c_str(), &st);
            break;
          case 2:
            (void)names_in(dir);
            break;
          case 3:
            (void)read_file(path);
            break;
          case 4:
            (void)::mknod(own.c_str(), S_IFREG | 0644, 0);
            break;
          default:
            (void)::rename(own.c_str(), (own + "x").c_str());
        }
      }
    });
  std::mt19937 random{99};
  const NodeId d = node("d");
  std::vector<std::string> expected;
  const TimeNs until = system_clock().steady() + 2 * kSecond;
  while (system_clock().steady() < until) {
    const std::string n = name(static_cast<unsigned>(random()));
    switch (random() % 4) {
      case 0: {
        const auto made = random() % 2 == 0 ? outside().mknod({}, d, n, S_IFREG | 0644, 0)
                                            : outside().mkdir({}, d, n, 0755);
        if (!made) break;
        outside().forget(made->node, 1);
        expected.push_back("CREATE " + n);
        break;
      }
      case 1:
        if (outside().unlink({}, d, n)) expected.push_back("DELETE " + n);
        break;
      case 2:
        if (outside().rmdir({}, d, n)) expected.push_back("DELETE " + n);
        break;
      default: {
        const std::string to = name(static_cast<unsigned>(random()));
        if (n == to || !outside().rename({}, d, n, d, to, 0)) break;
        expected.push_back("MOVED_FROM " + n);
        expected.push_back("MOVED_TO " + to);
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds{200});
  }
  stop = true;
  for (auto& u : users) u.join();
  settle();
  listen = false;
  listener.join();
  for (auto& e : ear_.events()) seen.push_back(std::move(e));
  std::vector<std::string> heard;
  for (const auto& e : seen)
    if (!e.name.starts_with("own"))
      heard.push_back(InotifyEar::words(e.mask & ~static_cast<std::uint32_t>(IN_ISDIR)) + " " + e.name);
  std::erase_if(heard, [](const std::string& h) {
    return !h.starts_with("CREATE") && !h.starts_with("DELETE ") && !h.starts_with("MOVED");
  });
  EXPECT_EQ(heard.size(), expected.size());
  EXPECT_TRUE(heard == expected);
  for (std::size_t i = 0; i < std::min(heard.size(), expected.size()); ++i)
    if (heard[i] != expected[i]) {
      ADD_FAILURE() << "event " << i << ": " << heard[i] << ", not " << expected[i];
      break;
    }
  EXPECT_GT(expected.size(), 100u);
  EXPECT_EQ(figures().lost, 0u);
  EXPECT_EQ(figures().overtaken, 0u);
  RecordProperty("events", static_cast<int>(expected.size()));
}
INSTANTIATE_TEST_SUITE_P(Workers, EventsStress, ::testing::Values(1u, 4u));

TEST_F(Events, E6_nothing_changes_by_it) {
  make_file("f");
  write("f", "content");
  make_dir("d");
  ASSERT_EQ(read_file(at("f")), "content");
  watch("", "top");
  watch("f", "file");
  SetAttr old;
  old.mtime = old.atime = 1'000'000'000'000'000'000;
  old.ctime = 1'000'000'001'000'000'000;
  set("f", old);
  SetAttr dir_times;
  dir_times.mtime = dir_times.atime = 1'000'000'002'000'000'000;
  dir_times.ctime = 1'000'000'002'500'000'000;
  set("d", dir_times);
  ASSERT_TRUE(outside().setattr({}, outside().root(), dir_times));
  const auto f = outside().getattr(node("f")), top = outside().getattr(outside().root());
  settle();
  EXPECT_GT(figures().raised, 2u);
  const auto f2 = outside().getattr(node("f")), top2 = outside().getattr(outside().root());
  EXPECT_EQ(f->mtime, f2->mtime);
  EXPECT_EQ(f->atime, f2->atime);
  EXPECT_EQ(f->ctime, f2->ctime);
  EXPECT_EQ(top->mtime, top2->mtime);
  EXPECT_EQ(top->ctime, top2->ctime);
  struct stat st {};
  ASSERT_EQ(::stat(at("f").c_str(), &st), 0);
  EXPECT_EQ(st.st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(st.st_ctim.tv_sec, 1'000'000'001);
  ASSERT_EQ(::stat(at("").c_str(), &st), 0);
  EXPECT_EQ(st.st_mtim.tv_sec, 1'000'000'002);
  EXPECT_EQ(read_file(at("f")), "content");
}

TEST_F(Events, E7_a_file_written_on_and_on_gives_few_events) {
  make_file("f");
  ASSERT_TRUE(exists("f"));
  watch("f", "file");
  const auto h = outside().open({}, node("f"), O_WRONLY);
  ASSERT_TRUE(h);
  const TimeNs began = system_clock().steady();
  for (int i = 0; i < 5000; ++i)
    ASSERT_TRUE(outside().write({}, *h, static_cast<std::uint64_t>(i), as_view("x"), false, false));
  settle();
  const auto most = static_cast<std::size_t>((system_clock().steady() - began) / 10'000'000 + 2);
  const auto all = ear_.heard();
  EXPECT_GE(all.size(), 1u);
  EXPECT_LE(all.size(), most);
  outside().release(*h);
  EXPECT_EQ(read_file(at("f")).size(), 5000u);
}

TEST_F(EventsLater, E7_too_many_become_one_for_each_directory) {
  options_.event_limit = 100;
  start();
  make_dir("d");
  make_dir("other");
  watch("d", "d");
  ASSERT_TRUE(exists("other"));
  for (int i = 0; i < 3000; ++i) make_file("d/" + std::to_string(i));
  settle();
  const auto f = figures();
  EXPECT_GE(f.floods, 1u);
  const auto all = ear_.heard();
  EXPECT_LT(all.size(), 3000u);
  EXPECT_EQ(std::count(all.begin(), all.end(), "d: ATTRIB|ISDIR"), static_cast<std::ptrdiff_t>(f.floods));
  EXPECT_EQ(names_in(at("d")).size(), 3000u);
  (void)ear_.events();
  make_file("d/after");  // and then singly again
  EXPECT_EQ(heard(), (Heard{"d: CREATE after"}));
}

TEST_F(Events, E8_nobody_watches_nothing_is_raised) {
  make_dir("d");
  ASSERT_TRUE(exists("d"));
  const auto before = count_all();
  for (int i = 0; i < 1000; ++i) make_file("d/" + std::to_string(i));
  settle();
  EXPECT_EQ(figures().raised, 0u);
  EXPECT_LE(count_all() - before, 1u);
}

TEST_F(EventsLater, E8_without_looking_for_watchers) {
  options_.events = EventMode::always;
  start();
  watch("", "top");
  make_file("f");
  EXPECT_EQ(heard(), (Heard{"top: CREATE f"}));
  EXPECT_EQ(figures().looks, 0u);
}

TEST_F(EventsLater, E8_off) {
  options_.events = EventMode::off;
  start();
  watch("", "top");
  make_file("f");
  EXPECT_EQ(heard(), Heard{});
  EXPECT_TRUE(exists("f"));
}

}  // namespace
}  // namespace indra
