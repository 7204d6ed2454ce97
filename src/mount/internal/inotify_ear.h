// Reads what inotify says, for tests.
#pragma once
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace indra {

class InotifyEar {
 public:
  InotifyEar() : fd_{::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)} { EXPECT_GE(fd_, 0) << std::strerror(errno); }
  ~InotifyEar() { ::close(fd_); }
  InotifyEar(const InotifyEar&) = delete;
  InotifyEar& operator=(const InotifyEar&) = delete;

  void watch(const std::string& path, const std::string& called,
             std::uint32_t mask = IN_ALL_EVENTS & ~(IN_ACCESS | IN_CLOSE_NOWRITE)) {
    const int wd = ::inotify_add_watch(fd_, path.c_str(), mask);
    ASSERT_GE(wd, 0) << path << ": " << std::strerror(errno);
    called_[wd] = called;
  }
  struct Event {
    std::string watch, name;
    std::uint32_t mask = 0, cookie = 0;
  };
  /// What came since the last call.
  std::vector<Event> events() {
    std::vector<Event> out;
    alignas(inotify_event) char buffer[65536];
    for (ssize_t n = 0; (n = ::read(fd_, buffer, sizeof buffer)) > 0;)
      for (const char* at = buffer; at < buffer + n;) {
        inotify_event e{};
        std::memcpy(&e, at, sizeof e);
        const char* name = at + sizeof e;
        out.push_back({e.wd < 0 ? "queue" : called_[e.wd], e.len == 0 ? std::string{} : std::string{name},
                       e.mask, e.cookie});
        at += sizeof e + e.len;
      }
    return out;
  }
  /// The same as words: "d: CREATE|ISDIR name". Cookies become #1, #2, ... in the order they come.
  std::vector<std::string> heard() {
    std::vector<std::string> out;
    std::map<std::uint32_t, std::size_t> cookies;
    for (const Event& e : events()) {
      std::string s = e.watch + ": " + words(e.mask);
      if (!e.name.empty()) s += " " + e.name;
      if (e.cookie != 0)
        s += " #" + std::to_string(cookies.emplace(e.cookie, cookies.size() + 1).first->second);
      out.push_back(std::move(s));
    }
    return out;
  }
  static std::string words(std::uint32_t mask) {
    static constexpr std::pair<std::uint32_t, const char*> kWords[] = {{IN_ACCESS, "ACCESS"},
                                                                       {IN_MODIFY, "MODIFY"},
                                                                       {IN_ATTRIB, "ATTRIB"},
                                                                       {IN_CLOSE_WRITE, "CLOSE_WRITE"},
                                                                       {IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"},
                                                                       {IN_OPEN, "OPEN"},
                                                                       {IN_MOVED_FROM, "MOVED_FROM"},
                                                                       {IN_MOVED_TO, "MOVED_TO"},
                                                                       {IN_CREATE, "CREATE"},
                                                                       {IN_DELETE, "DELETE"},
                                                                       {IN_DELETE_SELF, "DELETE_SELF"},
                                                                       {IN_MOVE_SELF, "MOVE_SELF"},
                                                                       {IN_UNMOUNT, "UNMOUNT"},
                                                                       {IN_Q_OVERFLOW, "Q_OVERFLOW"},
                                                                       {IN_IGNORED, "IGNORED"},
                                                                       {IN_ISDIR, "ISDIR"}};
    std::string s;
    for (const auto& [bit, word] : kWords)
      if ((mask & bit) != 0) s += (s.empty() ? "" : "|") + std::string{word};
    return s;
  }

 private:
  int fd_;
  std::map<int, std::string> called_;
};

}  // namespace indra
