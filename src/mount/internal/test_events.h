// A mount whose watcher a test is, and somebody else who changes what it shows.
#pragma once
#include "mount/internal/inotify_ear.h"
#include "mount/internal/test_mount.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

namespace indra {

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
  void settle() { ASSERT_TRUE(mount_->events_settled(std::chrono::seconds{120})); }
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

}  // namespace indra
