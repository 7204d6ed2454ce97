// A filesystem in a temporary directory, for tests.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "fs/filesystem.h"
#include "testkit/must.h"

namespace indra {

class FileSystemTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/indra-fs-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
    open();
  }
  void TearDown() override {
    view_.reset();
    fs_.reset();
    std::filesystem::remove_all(dir_);
  }
  void open(bool background = false) {
    view_.reset();
    fs_.reset();
    FileSystem::Options o;
    o.create = true;
    o.background = background;
    o.clock = background ? nullptr : &clock_;
    fs_ = must(FileSystem::open(dir_ + "/v", o));
    view_ = must(fs_->open_view({}, nullptr));
  }
  Opened create(const std::string& name, int flags = O_RDWR) {
    return must(view_->create(me_, view_->root(), name, 0644, flags));
  }
  void write(Handle h, std::uint64_t at, std::string_view s) {
    must(view_->write(me_, h, at, as_view(s), false, false));
  }
  std::string read(View& v, Handle h) {
    Bytes b(1 << 20);
    const std::size_t n = must(v.read(h, 0, b));
    return std::string{as_text(ByteView{b}.first(n))};
  }
  void close(Handle h) {
    must(view_->flush(me_, h));
    view_->release(h);
  }
  NodeId put(const std::string& name, std::string_view content) {
    const Opened f = create(name);
    write(f.handle, 0, content);
    close(f.handle);
    return f.attr.node;
  }
  std::string get(View& v, const std::string& path) {
    const Attr a = must(resolve_path(v, path));
    const Handle h = must(v.open(me_, a.node, O_RDONLY));
    std::string s = read(v, h);
    v.release(h);
    return s;
  }
  std::string xattr(NodeId n, const char* name) {
    return std::string{as_text(must(view_->getxattr(n, name)))};
  }
  std::shared_ptr<View> published() {
    ViewSpec s;
    s.live = false;
    return must(fs_->open_view(s, nullptr));
  }

  std::string dir_;
  ManualClock clock_;
  std::unique_ptr<FileSystem> fs_;
  std::shared_ptr<View> view_;
  Caller me_{0, 0, 0};
};

}  // namespace indra
