// Changes that did not come through the mount are seen through it (docs/design/mount.md, M5 to M8).
#include <sys/mman.h>

#include <random>

#include "mount/internal/test_mount.h"

namespace indra {
namespace {

class Coherence : public TestMount {
 protected:
  void SetUp() override {
    TestMount::SetUp();
    if (!IsSkipped() && !late_) start();
  }
  View& outside() { return views_.outside(); }
  NodeId node(const std::string& name) {
    const auto a = outside().lookup(outside().root(), name);
    if (!a) return NodeId{};
    outside().forget(a->node, 1);
    return a->node;
  }
  void put(const std::string& name, std::string_view text) {
    const auto made = outside().create({}, outside().root(), name, 0644, O_WRONLY);
    Handle h = 0;
    if (made) {
      outside().forget(made->attr.node, 1);
      h = made->handle;
    } else {
      const auto opened = outside().open({}, node(name), O_WRONLY | O_TRUNC);
      ASSERT_TRUE(opened);
      h = *opened;
    }
    ASSERT_TRUE(outside().write({}, h, 0, as_view(text), false, false));
    outside().release(h);
  }
  static SetAttr size_of(std::uint64_t n) {
    SetAttr s;
    s.size = n;
    return s;
  }
  bool exists(const std::string& name) { return ::access(at(name).c_str(), F_OK) == 0; }
  bool late_ = false;
};

class CoherenceLater : public Coherence {
 protected:
  CoherenceLater() { late_ = true; }
};

TEST_F(Coherence, M5_a_change_elsewhere_is_seen) {
  put("f", "old");
  ASSERT_EQ(read_file(at("f")), "old");
  put("f", "newer content");
  EXPECT_TRUE(soon([&] { return read_file(at("f")) == "newer content"; })) << read_file(at("f"));
  SetAttr mode;
  mode.mode = 0600;
  ASSERT_TRUE(outside().setattr({}, node("f"), mode));
  EXPECT_TRUE(soon([&] {
    struct stat st {};
    return ::stat(at("f").c_str(), &st) == 0 && (st.st_mode & 0777) == 0600;
  }));
}

TEST_F(Coherence, M5_a_change_is_seen_by_who_holds_the_file_open_or_mapped) {
  put("f", "aaaa");
  const int fd = ::open(at("f").c_str(), O_RDONLY);
  const auto* map = static_cast<const char*>(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0));
  ASSERT_EQ(map[0], 'a');
  put("f", "bbbb");
  char c = 0;
  EXPECT_TRUE(soon([&] { return ::pread(fd, &c, 1, 0) == 1 && c == 'b'; }));
  EXPECT_TRUE(soon([&] { return *static_cast<const volatile char*>(map) == 'b'; }));
  ::munmap(const_cast<char*>(map), 4096);
  ::close(fd);
}

TEST_F(Coherence, M5_names_come_and_go) {
  EXPECT_FALSE(exists("f"));  // the kernel keeps that it is absent
  put("f", "1");
  EXPECT_TRUE(soon([&] { return exists("f"); }));
  EXPECT_EQ(names_in(at("")), (std::set<std::string>{"f"}));  // the kernel keeps the listing
  put("g", "2");
  EXPECT_TRUE(soon([&] { return names_in(at("")) == std::set<std::string>{"f", "g"}; }));
  ASSERT_TRUE(outside().rename({}, outside().root(), "g", outside().root(), "h", 0));
  EXPECT_TRUE(soon([&] { return !exists("g") && read_file(at("h")) == "2"; }));
  ASSERT_TRUE(outside().unlink({}, outside().root(), "f"));
  EXPECT_TRUE(soon([&] { return !exists("f"); }));
  EXPECT_TRUE(soon([&] { return names_in(at("")) == std::set<std::string>{"h"}; }));
}

// A change between computing an answer and sending it.
TEST_F(CoherenceLater, M6_an_overtaken_lookup_does_not_stay) {
  std::atomic<int> armed{0};
  const Ending ending{*this};
  views_.after_operation = [&](std::string_view op) {
    if (op == "lookup" && armed.exchange(0) == 1) {
      armed = 2;
      put("absent", "here now");
    }
  };
  start();
  armed = 1;
  (void)exists("absent");  // may see either
  EXPECT_EQ(armed.load(), 2);
  EXPECT_TRUE(exists("absent"));
  EXPECT_EQ(read_file(at("absent")), "here now");
}

TEST_F(CoherenceLater, M6_overtaken_attributes_do_not_stay) {
  std::atomic<int> armed{0};
  std::atomic<const char*> which{""};
  NodeId f;
  const Ending ending{*this};
  views_.after_operation = [&](std::string_view op) {
    if (op == which.load() && armed.exchange(0) == 1) (void)outside().setattr({}, f, size_of(77));
  };
  start();
  put("f", "x");
  f = node("f");
  struct stat st {};
  which = "lookup";
  armed = 1;
  ASSERT_EQ(::stat(at("f").c_str(), &st), 0);
  ASSERT_EQ(armed.load(), 0);
  EXPECT_TRUE(soon([&] { return ::stat(at("f").c_str(), &st) == 0 && st.st_size == 77; })) << st.st_size;
  ASSERT_TRUE(outside().setattr({}, f, size_of(5)));
  which = "getattr";
  armed = 1;
  (void)soon([&] { return ::stat(at("f").c_str(), &st) == 0 && armed.load() == 0; });
  EXPECT_TRUE(soon([&] { return ::stat(at("f").c_str(), &st) == 0 && st.st_size == 77; })) << st.st_size;
}

TEST_F(CoherenceLater, M6_an_overtaken_listing_does_not_stay) {
  std::atomic<int> armed{0};
  const Ending ending{*this};
  views_.after_operation = [&](std::string_view op) {
    if (op == "readdir" && armed.exchange(0) == 1) {
      (void)outside().unlink({}, outside().root(), "a");
      put("c", "3");
    }
  };
  start();
  put("a", "1");
  put("b", "2");
  armed = 1;
  (void)names_in(at(""));
  EXPECT_TRUE(soon([&] { return names_in(at("")) == std::set<std::string>{"b", "c"}; }));
  EXPECT_TRUE(soon([&] { return !exists("a"); }));
}

TEST_F(CoherenceLater, M7_more_changes_than_can_wait_drop_all_caches) {
  options_.notify_limit = 8;
  start();
  constexpr int kFiles = 400;
  for (int i = 0; i < kFiles; ++i) put("f" + std::to_string(i), "old");
  for (int i = 0; i < kFiles; ++i) ASSERT_EQ(read_file(at("f" + std::to_string(i))), "old");
  for (int i = 0; i < kFiles; ++i) EXPECT_FALSE(exists("g" + std::to_string(i)));
  for (int i = 0; i < kFiles; ++i) {
    put("f" + std::to_string(i), "new content");
    put("g" + std::to_string(i), "made");
  }
  EXPECT_GT(mount_->figures().overflows, 0u);
  for (int i = 0; i < kFiles; ++i) {
    EXPECT_TRUE(soon([&] { return read_file(at("f" + std::to_string(i))) == "new content"; })) << i;
    EXPECT_TRUE(soon([&] { return read_file(at("g" + std::to_string(i))) == "made"; })) << i;
  }
}

TEST_F(CoherenceLater, M7_the_root_is_dropped_too) {
  options_.notify_limit = 8;
  NotifierHeld held{*this, "slow"};
  start();
  const auto slow = outside().mkdir({}, outside().root(), "slow", 0755);
  ASSERT_TRUE(slow);
  ASSERT_TRUE(mount_->caught_up(std::chrono::seconds{60}));
  for (int i = 0; i < 2; ++i) EXPECT_EQ(names_in(at("")), std::set<std::string>{"slow"});  // kept now
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(exists("slow"));
  held.hold();
  ASSERT_TRUE(outside().mknod({}, slow->node, "f", S_IFREG | 0644, 0));
  std::set<std::string> all{"slow"};
  for (int i = 0; i < 20; ++i) {
    put("f" + std::to_string(i), "x");
    all.insert("f" + std::to_string(i));
  }
  EXPECT_GT(mount_->figures().overflows, 0u);
  held.let_go();
  ASSERT_TRUE(mount_->caught_up(std::chrono::seconds{60}));
  EXPECT_EQ(names_in(at("")), all);
}

// The kernel renames what it believes to have the name.
TEST_F(CoherenceLater, M5_a_name_that_meant_another_node_when_it_was_renamed) {
  std::atomic<bool> armed{false};
  const Ending ending{*this};
  views_.on_operation = [&](std::string_view op) {
    if (op == "rename" && armed.exchange(false))
      (void)outside().rename({}, outside().root(), "new", outside().root(), "f", 0);
  };
  start();
  put("f", "old");
  put("new", "of somebody else");
  ASSERT_EQ(read_file(at("f")), "old");
  ASSERT_TRUE(mount_->caught_up(std::chrono::seconds{60}));
  ASSERT_EQ(read_file(at("f")), "old");
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(exists("f"));
  armed = true;
  ASSERT_EQ(::rename(at("f").c_str(), at("kept").c_str()), 0);
  ASSERT_FALSE(armed);
  ASSERT_TRUE(mount_->caught_up(std::chrono::seconds{60}));
  EXPECT_FALSE(exists("f"));
  EXPECT_EQ(read_file(at("kept")), "of somebody else");
}

// The kernel asks to create a name that somebody else has just given to a file of another user's.
class CoherenceAsRoot : public CoherenceLater {};  // two users are needed
TEST_F(CoherenceAsRoot, ACreationOpensNothingThatTheCallerMayNot) {
  std::atomic<bool> armed{false};
  const Ending ending{*this};
  views_.on_operation = [&](std::string_view op) {
    if (op != "create" || !armed.exchange(false)) return;
    const auto made = outside().create({}, outside().root(), "secret", 0600, O_WRONLY);
    if (made) outside().release(made->handle);
  };
  options_.allow_other = true;
  ASSERT_EQ(::chmod(dir_.c_str(), 0755), 0);
  start();
  ASSERT_EQ(::chmod(at("").c_str(), 0777), 0);
  armed = true;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(255);
    ::_exit(errno_of(::open(at("secret").c_str(), O_RDWR | O_CREAT, 0644)));
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_FALSE(armed);
  EXPECT_EQ(WEXITSTATUS(status), EACCES);
}

TEST_F(Coherence, M5_M6_hold_under_many_changes_at_once) {
  constexpr int kNames = 30;
  const auto name = [](unsigned i) { return "n" + std::to_string(i % kNames); };
  std::atomic<bool> stop{false};
  std::vector<std::thread> users;
  for (unsigned t = 0; t < 3; ++t)
    users.emplace_back([&, t] {
      std::mt19937 random{t};
      struct stat st {};
      while (!stop) {
        const std::string path = at(name(static_cast<unsigned>(random())));
        switch (random() % 5) {
          case 0:
            (void)::stat(path.c_str(), &st);
            break;
          case 1:
            (void)read_file(path);
            break;
          case 2:
            (void)names_in(at(""));
            break;
          case 3:
            (void)::rename(path.c_str(), at(name(static_cast<unsigned>(random()))).c_str());
            break;
          case 4: {
            const int fd = ::open(path.c_str(), O_RDWR | O_CREAT, 0644);
            if (fd >= 0) {
              (void)!::pwrite(fd, "local", 5, 0);
              ::close(fd);
            }
            break;
          }
        }
      }
    });
  std::mt19937 random{99};
  const TimeNs until = system_clock().steady() + kSecond;
  while (system_clock().steady() < until) {
    const std::string n = name(static_cast<unsigned>(random()));
    switch (random() % 3) {
      case 0:
        (void)outside().unlink({}, outside().root(), n);
        break;
      case 1:
        (void)outside().rename({}, outside().root(), n, outside().root(),
                               name(static_cast<unsigned>(random())), 0);
        break;
      case 2: {
        auto made = outside().create({}, outside().root(), n, 0644, O_WRONLY);
        if (!made) break;
        (void)outside().write({}, made->handle, 0, as_view(std::string(random() % 9000, 'r')), false, false);
        outside().release(made->handle);
        outside().forget(made->attr.node, 1);
        break;
      }
    }
  }
  stop = true;
  for (auto& u : users) u.join();

  const auto agree = [&] {
    std::set<std::string> there;
    for (unsigned i = 0; i < kNames; ++i) {
      struct stat st {};
      const auto a = outside().lookup(outside().root(), name(i));
      if (a) outside().forget(a->node, 1);
      const bool seen = ::stat(at(name(i)).c_str(), &st) == 0;
      if (seen != a.has_value()) return false;
      if (!seen) continue;
      there.insert(name(i));
      if (st.st_ino != static_cast<ino_t>(a->node.raw()) || static_cast<std::uint64_t>(st.st_size) != a->size)
        return false;
      if (read_file(at(name(i))).size() != a->size) return false;
    }
    return names_in(at("")) == there;
  };
  EXPECT_TRUE(soon(agree));
  EXPECT_TRUE(agree());
  EXPECT_EQ(mount_->figures().exceptions, 0u);
}

TEST_F(Coherence, M9_writing_handles_of_a_shared_view_bypass_the_page_cache) {
  put("f", "aaaa");
  views_.shared = true;
  const int fd = ::open(at("f").c_str(), O_RDWR);
  char c = 0;
  ASSERT_EQ(::pread(fd, &c, 1, 0), 1);
  const auto before = count("READ");
  ASSERT_EQ(::pread(fd, &c, 1, 0), 1);
  EXPECT_EQ(count("READ"), before + 1);
  ASSERT_EQ(::pwrite(fd, "bb", 2, 0), 2);
  EXPECT_EQ(read_file(at("f")), "bbaa");
  ::close(fd);
}

}  // namespace
}  // namespace indra
