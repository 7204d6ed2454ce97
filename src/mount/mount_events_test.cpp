// Who watches a mount hears of what others do (docs/design/editor-events.md, E1..).
#include <signal.h>

#include "mount/internal/test_events.h"

namespace indra {
namespace {

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

TEST_F(Events, E1_content_of_a_file_that_was_renamed_by_whomever) {
  make_dir("x");
  make_dir("y");
  make_file("x/f");
  ASSERT_TRUE(exists("x/f") && exists("y"));
  ASSERT_EQ(::rename(at("x/f").c_str(), at("y/g").c_str()), 0);
  watch("x", "x");
  watch("y", "y");
  write("y/g", "text");
  EXPECT_EQ(heard(), (Heard{"y: MODIFY g", "y: OPEN g", "y: CLOSE_WRITE g"}));
  rename("y/g", "x/h");
  (void)heard();
  write("x/h", "more");
  EXPECT_EQ(heard(), (Heard{"x: MODIFY h", "x: OPEN h", "x: CLOSE_WRITE h"}));
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

// As editors save, without a pause.
TEST_F(Events, E4_content_and_names_come_in_the_order_of_the_deeds) {
  make_file("g");
  watch("", "top");
  const std::string name = ".g.new";
  for (int i = 0; i < 30; ++i) {
    const auto made = outside().create({}, outside().root(), name, 0644, O_WRONLY);
    ASSERT_TRUE(made);
    ASSERT_TRUE(outside().write({}, made->handle, 0, as_view("text"), false, false));
    outside().release(made->handle);
    rename(name, "g");
    outside().forget(made->attr.node, 1);
    EXPECT_EQ(heard(), (Heard{"top: CREATE .g.new", "top: MODIFY .g.new", "top: OPEN .g.new",
                              "top: CLOSE_WRITE .g.new", "top: MOVED_FROM .g.new #1", "top: MOVED_TO g #1"}));
  }
  EXPECT_EQ(figures().lost, 0u);
}

// What is written while an event upon the same file waits is told by that event: it must not be told before
// the kernel has dropped what it held of it.
TEST_F(Events, E1_who_hears_of_new_content_reads_it) {
  make_file("f");
  std::atomic<bool> stop{false};
  std::string last;
  std::uint64_t late = 0;
  ear_.watch(at("f"), "f", IN_MODIFY);
  std::thread reader{[&] {
    while (!stop) {
      if (!ear_.events().empty()) last = read_file(at("f"));
      std::this_thread::sleep_for(std::chrono::microseconds{200});
    }
  }};
  const NodeId f = node("f");
  const auto h = outside().open({}, f, O_WRONLY);
  ASSERT_TRUE(h);
  for (int round = 0; round < 100; ++round) {
    const int writes = 1 + round % 7;
    std::string text;
    for (int i = 0; i < writes; ++i) {
      text = std::to_string(100'000 + round * 100 + i);
      ASSERT_TRUE(outside().write({}, *h, 0, as_view(text), false, false));
      std::this_thread::sleep_for(std::chrono::microseconds{500 * (round % 5)});
    }
    settle();
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
    if (read_file(at("f")) != text) ++late;
  }
  outside().release(*h);
  settle();
  stop = true;
  reader.join();
  if (!ear_.events().empty()) last = read_file(at("f"));
  EXPECT_EQ(last, read_file(at("f")));
  EXPECT_EQ(late, 0u);
}

// rename("f", "f") does nothing; nor when another puts a new f there between the kernel's two looks.
TEST_F(EventsLater, E2_a_rename_to_itself_is_none) {
  std::atomic<bool> armed{false};
  const Ending ending{*this};
  views_.after_operation = [&](std::string_view op) {
    if (op != "lookup" || !armed.exchange(false)) return;
    remove("f");
    make_file("f");
  };
  start();
  make_file("f");
  watch("", "top");
  armed = true;
  EXPECT_EQ(::rename(at("f").c_str(), at("f").c_str()), 0);
  EXPECT_FALSE(armed);
  EXPECT_EQ(heard(), (Heard{"top: DELETE f", "top: CREATE f"}));
  struct stat st {};
  ASSERT_EQ(::stat(at("f").c_str(), &st), 0);
  EXPECT_EQ(st.st_ino, static_cast<ino_t>(node("f").raw()));
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

TEST_F(Events, E3_nothing_changes_by_it) {
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

// A user's call that lasts holds its directory's lock in the kernel: events there wait for it, nothing else
// does.
TEST_F(EventsLater, E6_a_directory_that_is_held_stops_only_its_own_events) {
  std::atomic<bool> hold{false}, held{false};
  const Ending ending{*this};
  views_.after_operation = [&](std::string_view op) {
    if (op != "lookup" || !hold.exchange(false)) return;
    held = true;
    while (held) std::this_thread::sleep_for(std::chrono::milliseconds{1});
  };
  options_.workers = options_.max_workers = 1;
  start();
  make_dir("d");
  make_file("other");
  ASSERT_TRUE(exists("d") && exists("other"));
  watch("d", "d");
  hold = true;
  std::thread user{[&] { (void)exists("d/absent"); }};
  ASSERT_TRUE(soon([&] { return held.load(); }));
  make_file("d/f");
  make_file("d/g");
  remove("d/f");
  EXPECT_FALSE(mount_->events_settled(std::chrono::milliseconds{100}));
  EXPECT_FALSE(exists("nothing"));  // a request that is answered meanwhile
  EXPECT_EQ(read_file(at("other")), "");
  EXPECT_EQ(ear_.heard(), Heard{});
  held = false;
  user.join();
  EXPECT_EQ(heard(), (Heard{"d: CREATE f", "d: CREATE g", "d: DELETE f"}));
}

TEST_F(EventsLater, E6_a_mount_ends_while_a_call_is_under_way) {
  std::atomic<bool> hold{false}, held{false};
  const Ending ending{*this};
  views_.after_operation = [&](std::string_view op) {
    if (op != "lookup" || !hold.exchange(false)) return;
    held = true;
    while (held) std::this_thread::sleep_for(std::chrono::milliseconds{1});
  };
  start();
  make_dir("d");
  watch("d", "d");
  hold = true;
  std::thread user{[&] { (void)exists("d/absent"); }};
  ASSERT_TRUE(soon([&] { return held.load(); }));
  make_file("d/f");
  std::thread end{[&] { (void)mount_->stop(true); }};
  std::this_thread::sleep_for(std::chrono::milliseconds{50});
  held = false;
  user.join();
  end.join();
  EXPECT_FALSE(mount_->running());
}

TEST_F(Events, E9_a_killed_process_is_replaced) {
  watch("", "top");
  make_file("f");
  EXPECT_EQ(heard(), (Heard{"top: CREATE f"}));
  const pid_t pid = mount_->raising_process();
  ASSERT_GT(pid, 0);
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  EXPECT_TRUE(soon([&] {
    make_file("g");
    settle();
    remove("g");
    settle();
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
    return mount_->raising_process() != pid && mount_->raising_process() > 0;
  }));
  (void)ear_.events();
  make_file("h");
  EXPECT_EQ(heard(), (Heard{"top: CREATE h"}));
  EXPECT_TRUE(exists("f") && exists("h"));
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
  const auto told = static_cast<std::uint64_t>(std::count(all.begin(), all.end(), "d: ATTRIB|ISDIR"));
  EXPECT_GE(told, 1u);
  EXPECT_LE(told, f.floods);  // the kernel joins two that follow each other
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
