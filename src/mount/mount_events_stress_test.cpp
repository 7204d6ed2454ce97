// What others do against users of the same names (docs/design/editor-events.md, E4, E5).
#include <random>

#include "mount/internal/test_events.h"

namespace indra {
namespace {

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
  EXPECT_GE(heard + f.overtaken, local + f.raised);
  for (unsigned i = 0; i < kNames; ++i) {
    const auto a = outside().lookup(d, name(i));
    if (a) outside().forget(a->node, 1);
    EXPECT_EQ(seen.there[name(i)], a.has_value()) << name(i);
    EXPECT_EQ(exists("d/" + name(i)), a.has_value()) << name(i);
  }
  RecordProperty("remote", static_cast<int>(remote));
  RecordProperty("local", static_cast<int>(local));
  RecordProperty("overtaken", static_cast<int>(f.overtaken));
  EXPECT_GT(f.raised, 0u);
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

}  // namespace
}  // namespace indra
