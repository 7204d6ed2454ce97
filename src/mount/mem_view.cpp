// Long because a whole file system in memory is one set of rules.
#include "mount/mem_view.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

namespace indra {
namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kLargest = 1ull << 44;
using Block = std::array<std::byte, kBlock>;

struct Node {
  Attr attr;
  std::map<std::uint64_t, std::unique_ptr<Block>> blocks;                              // file; absent = hole
  std::string target;                                                                  // symlink
  std::map<std::string, std::pair<std::int64_t, std::uint64_t>, std::less<>> entries;  // name -> node, cookie
  std::map<std::uint64_t, std::string> order;                                          // cookie -> name
  std::uint64_t next_cookie = 1;
  std::map<std::string, Bytes, std::less<>> xattrs;
  std::uint64_t refs = 0, opens = 0;
  NodeId parent{};  // where it was put last
};

struct Open {
  std::int64_t node;
  int flags;
};

bool is_dir(const Node& n) { return S_ISDIR(n.attr.mode); }

void touch(Node& n, bool modified) {
  n.attr.ctime = system_clock().now();
  if (modified) n.attr.mtime = n.attr.ctime;
}

void kill_ids(Node& n) {
  if (is_dir(n)) return;
  n.attr.mode &= ~static_cast<std::uint32_t>(S_ISUID);
  if (n.attr.mode & S_IXGRP) n.attr.mode &= ~static_cast<std::uint32_t>(S_ISGID);
}

void resize(Node& n, std::uint64_t size) {
  if (size < n.attr.size) {
    n.blocks.erase(n.blocks.lower_bound((size + kBlock - 1) / kBlock), n.blocks.end());
    if (size % kBlock != 0)
      if (const auto it = n.blocks.find(size / kBlock); it != n.blocks.end())
        std::fill(it->second->begin() + static_cast<std::ptrdiff_t>(size % kBlock), it->second->end(),
                  std::byte{0});
  }
  n.attr.size = size;
  n.attr.blocks = n.blocks.size() * (kBlock / 512);
}

void put(Node& n, std::uint64_t at, ByteView bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const std::uint64_t index = (at + done) / kBlock, within = (at + done) % kBlock;
    const std::size_t k = std::min<std::size_t>(kBlock - within, bytes.size() - done);
    auto& block = n.blocks[index];
    if (!block) block = std::make_unique<Block>();
    std::memcpy(block->data() + within, bytes.data() + done, k);
    done += k;
  }
  n.attr.size = std::max(n.attr.size, at + bytes.size());
  n.attr.blocks = n.blocks.size() * (kBlock / 512);
}

void get(const Node& n, std::uint64_t at, MutableBytes out) {
  for (std::size_t done = 0; done < out.size();) {
    const std::uint64_t index = (at + done) / kBlock, within = (at + done) % kBlock;
    const std::size_t k = std::min<std::size_t>(kBlock - within, out.size() - done);
    const auto it = n.blocks.find(index);
    if (it == n.blocks.end())
      std::memset(out.data() + done, 0, k);
    else
      std::memcpy(out.data() + done, it->second->data() + within, k);
    done += k;
  }
}

void punch(Node& n, std::uint64_t at, std::uint64_t count) {
  const std::uint64_t end = std::min(at + count, n.attr.size);
  for (std::uint64_t p = at; p < end;) {
    const std::uint64_t index = p / kBlock, within = p % kBlock;
    const std::uint64_t k = std::min(kBlock - within, end - p);
    if (const auto it = n.blocks.find(index); it != n.blocks.end()) {
      if (k == kBlock)
        n.blocks.erase(it);
      else
        std::memset(it->second->data() + within, 0, k);
    }
    p += k;
  }
  n.attr.blocks = n.blocks.size() * (kBlock / 512);
}

}  // namespace

class MemTree {
 public:
  MemTree() {
    Node& root = add(S_IFDIR | 0755, ::geteuid(), ::getegid());
    root.attr.nlink = 2;
    root.refs = 1;
    root_ = root.attr.node.raw();
  }

  Node& add(std::uint32_t mode, uid_t uid, gid_t gid) {
    const std::int64_t id = next_++;
    Node& n = nodes_[id];
    n.attr.node = NodeId{id};
    n.attr.mode = mode;
    n.attr.uid = uid;
    n.attr.gid = gid;
    n.attr.atime = n.attr.mtime = n.attr.ctime = n.attr.btime = system_clock().now();
    return n;
  }
  Node* find(NodeId id) {
    const auto it = nodes_.find(id.raw());
    return it == nodes_.end() ? nullptr : &it->second;
  }
  void drop_if_dead(std::int64_t id) {
    const auto it = nodes_.find(id);
    if (it != nodes_.end() && it->second.attr.nlink == 0 && it->second.refs == 0 && it->second.opens == 0)
      nodes_.erase(it);
  }
  void insert(Node& dir, std::string_view name, std::int64_t id) {
    const std::uint64_t cookie = dir.next_cookie++;
    dir.entries.emplace(name, std::pair{id, cookie});
    dir.order.emplace(cookie, name);
    if (Node* n = find(NodeId{id})) n->parent = dir.attr.node;
    touch(dir, true);
  }
  void erase(Node& dir, std::string_view name) {
    const auto it = dir.entries.find(name);
    dir.order.erase(it->second.second);
    dir.entries.erase(it);
    touch(dir, true);
  }
  void tell(const FrontEnd* by, const std::vector<Change>& changes) {
    const std::shared_lock lock{fronts_mutex_};
    for (FrontEnd* f : fronts_)
      if (f != by)
        for (const Change& c : changes) f->changed(c);
  }

  /// Upon names: called under mutex_, so that deeds come in their order.
  void did(const FrontEnd* by, const Deed& deed) {
    if (deed.kind < Deed::written) ++deeds_;
    const std::shared_lock lock{fronts_mutex_};
    for (FrontEnd* f : fronts_)
      if (f != by || deed.kind < Deed::written) f->did(deed, f == by);
  }

  std::mutex mutex_;
  std::uint64_t deeds_ = 0;
  std::unordered_map<std::int64_t, Node> nodes_;
  std::unordered_map<Handle, Open> handles_;
  std::int64_t next_ = 16, root_ = 0;
  Handle next_handle_ = 1;
  std::shared_mutex fronts_mutex_;
  std::vector<FrontEnd*> fronts_;
};

class MemView final : public View {
 public:
  MemView(MemViews& owner, std::shared_ptr<MemTree> tree, FrontEnd* front, bool writable)
      : owner_{owner}, tree_{std::move(tree)}, front_{front}, writable_{writable} {
    ++owner_.open_views_;
    if (front_ == nullptr) return;
    const std::unique_lock lock{tree_->fronts_mutex_};
    tree_->fronts_.push_back(front_);
  }
  ~MemView() override {
    --owner_.open_views_;
    if (front_ == nullptr) return;
    const std::unique_lock lock{tree_->fronts_mutex_};
    std::erase(tree_->fronts_, front_);
  }

  NodeId root() const override { return NodeId{tree_->root_}; }
  bool writable() const override { return writable_; }
  bool shared() const override { return owner_.shared; }
  std::uint64_t lock_space() const override { return reinterpret_cast<std::uintptr_t>(tree_.get()); }

  Result<Attr> lookup(NodeId parent, std::string_view name) override {
    op("lookup");
    auto found = [&]() -> Result<Attr> {
      const std::lock_guard lock{tree_->mutex_};
      if (name == ".") {
        INDRA_LET(Node * itself, any(parent));
        if (itself->attr.nlink == 0) return fail(ENOENT);
        ++itself->refs;
        return itself->attr;
      }
      INDRA_LET(Node * dir, directory(parent));
      const auto it = dir->entries.find(name);
      if (it == dir->entries.end()) return fail(ENOENT);
      Node& n = *tree_->find(NodeId{it->second.first});
      ++n.refs;
      return n.attr;
    }();
    done("lookup");
    return found;
  }
  void forget(NodeId node, std::uint64_t n) override {
    const std::lock_guard lock{tree_->mutex_};
    if (Node* x = tree_->find(node)) {
      x->refs -= std::min(x->refs, n);
      tree_->drop_if_dead(node.raw());
    }
  }
  Result<Attr> refer(NodeId node) override {
    const std::lock_guard lock{tree_->mutex_};
    INDRA_LET(Node * n, any(node));
    ++n->refs;
    return n->attr;
  }
  Result<NodeId> parent_of(NodeId node) override {
    op("parent_of");
    const std::lock_guard lock{tree_->mutex_};
    INDRA_LET(Node * n, any(node));
    return n->parent;
  }
  Result<Attr> getattr(NodeId node) override {
    op("getattr");
    Attr attr;
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * n, any(node));
      attr = n->attr;
    }
    done("getattr");
    return attr;
  }
  Result<Attr> setattr(const Caller&, NodeId node, const SetAttr& s) override {
    op("setattr");
    if (!writable_) return fail(EROFS);
    Attr result;
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * n, any(node));
      if (s.size && is_dir(*n)) return fail(EISDIR);
      if (s.size && *s.size > kLargest) return fail(EFBIG);
      if (s.uid || s.gid) kill_ids(*n);
      if (s.kill_suid_sgid) kill_ids(*n);
      if (s.mode) n->attr.mode = (n->attr.mode & S_IFMT) | *s.mode;
      if (s.uid) n->attr.uid = *s.uid;
      if (s.gid) n->attr.gid = *s.gid;
      if (s.size) resize(*n, *s.size);
      touch(*n, s.size.has_value());
      if (s.atime) n->attr.atime = *s.atime;
      if (s.mtime) n->attr.mtime = *s.mtime;
      if (s.ctime) n->attr.ctime = *s.ctime;
      result = n->attr;
    }
    tell({{s.size ? Change::data : Change::attributes, node, {}, {}}});
    if (s.size) tree_->did(front_, {.kind = Deed::written, .node = node, .type = S_IFREG});
    if (s.mode || s.uid || s.gid || s.atime || s.mtime)
      tree_->did(front_, {.kind = Deed::attributes, .node = node});
    return result;
  }
  Result<std::string> readlink(NodeId node) override {
    const std::lock_guard lock{tree_->mutex_};
    INDRA_LET(Node * n, any(node));
    if (!S_ISLNK(n->attr.mode)) return fail(EINVAL);
    return n->target;
  }

  Result<Attr> mknod(const Caller& c, NodeId parent, std::string_view name, std::uint32_t mode,
                     std::uint64_t rdev) override {
    return make(c, parent, name, mode, [&](Node& n) { n.attr.rdev = rdev; });
  }
  Result<Attr> mkdir(const Caller& c, NodeId parent, std::string_view name, std::uint32_t mode) override {
    return make(c, parent, name, S_IFDIR | (mode & 07777), [](Node&) {});
  }
  Result<Attr> symlink(const Caller& c, NodeId parent, std::string_view name,
                       std::string_view target) override {
    return make(c, parent, name, S_IFLNK | 0777, [&](Node& n) {
      n.target = target;
      n.attr.size = target.size();
    });
  }
  Result<Attr> link(const Caller&, NodeId node, NodeId parent, std::string_view name) override {
    if (!writable_) return fail(EROFS);
    Attr result;
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * dir, living_directory(parent));
      INDRA_LET(Node * n, any(node));
      if (is_dir(*n)) return fail(EPERM);
      if (dir->entries.contains(name)) return fail(EEXIST);
      tree_->insert(*dir, name, node.raw());
      ++n->attr.nlink;
      ++n->refs;
      touch(*n, false);
      result = n->attr;
      tree_->did(front_, {.kind = Deed::linked,
                          .node = node,
                          .type = n->attr.mode & S_IFMT,
                          .to = {parent, std::string{name}}});
    }
    tell({{Change::entry, node, parent, std::string{name}}});
    return result;
  }
  Result<void> unlink(const Caller&, NodeId parent, std::string_view name) override {
    return remove(parent, name, false);
  }
  Result<void> rmdir(const Caller&, NodeId parent, std::string_view name) override {
    return remove(parent, name, true);
  }

  Result<void> rename(const Caller&, NodeId from_parent, std::string_view from, NodeId to_parent,
                      std::string_view to, unsigned flags) override {
    op("rename");
    if (!writable_) return fail(EROFS);
    if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE) return fail(EINVAL);
    std::vector<Change> changes;
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * a, directory(from_parent));
      INDRA_LET(Node * b, living_directory(to_parent));
      const auto source = a->entries.find(from);
      if (source == a->entries.end()) return fail(ENOENT);
      const std::int64_t moved = source->second.first;
      const auto target = b->entries.find(to);
      const std::int64_t victim = target == b->entries.end() ? 0 : target->second.first;
      if (flags == RENAME_EXCHANGE && victim == 0) return fail(ENOENT);
      if (flags == RENAME_NOREPLACE && victim != 0) return fail(EEXIST);
      if (victim == moved) return {};
      Node& m = *tree_->find(NodeId{moved});
      if (victim != 0) {
        Node& v = *tree_->find(NodeId{victim});
        if (flags == RENAME_EXCHANGE) {
          std::swap(source->second.first, target->second.first);
          if (is_dir(m) != is_dir(v) && a != b) {
            (is_dir(m) ? a : b)->attr.nlink -= 1;
            (is_dir(m) ? b : a)->attr.nlink += 1;
          }
          touch(*a, true);
          touch(*b, true);
          touch(m, false);
          touch(v, false);
        } else {
          if (is_dir(v) && !is_dir(m)) return fail(EISDIR);
          if (!is_dir(v) && is_dir(m)) return fail(ENOTDIR);
          if (is_dir(v) && !v.entries.empty()) return fail(ENOTEMPTY);
          tree_->erase(*b, to);
          drop_link(*b, v);
        }
      }
      if (flags != RENAME_EXCHANGE) {
        tree_->erase(*a, from);
        tree_->insert(*b, to, moved);
        if (is_dir(m) && a != b) {
          --a->attr.nlink;
          ++b->attr.nlink;
        }
        touch(m, false);
      }
      changes = {{Change::entry, NodeId{moved}, from_parent, std::string{from}},
                 {Change::entry, NodeId{victim}, to_parent, std::string{to}}};
      tree_->did(front_, {.kind = flags == RENAME_EXCHANGE ? Deed::exchanged : Deed::moved,
                          .node = NodeId{moved},
                          .type = m.attr.mode & S_IFMT,
                          .from = {from_parent, std::string{from}},
                          .to = {to_parent, std::string{to}},
                          .other = NodeId{victim},
                          .other_type = victim != 0 ? tree_->find(NodeId{victim})->attr.mode & S_IFMT : 0});
      if (victim != 0) tree_->drop_if_dead(victim);
    }
    tell(changes);
    return {};
  }

  Result<Handle> open(const Caller&, NodeId node, int flags) override {
    op("open");
    Handle h = 0;
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * n, any(node));
      if (is_dir(*n)) return fail(EISDIR);
      if (!writable_ && (flags & O_ACCMODE) != O_RDONLY) return fail(EROFS);
      if ((flags & O_TRUNC) != 0) {
        resize(*n, 0);
        touch(*n, true);
      }
      h = handle(*n, flags);
    }
    if ((flags & O_TRUNC) != 0) wrote(node);
    return h;
  }
  Result<Opened> create(const Caller& c, NodeId parent, std::string_view name, std::uint32_t mode,
                        int flags) override {
    op("create");
    Opened o;
    INDRA_LET(o.attr, make(c, parent, name, S_IFREG | (mode & 07777), [](Node&) {}));
    const std::lock_guard lock{tree_->mutex_};
    o.handle = handle(*tree_->find(o.attr.node), flags);
    return o;
  }
  Result<Opened> tmpfile(const Caller& c, NodeId parent, std::uint32_t mode, int flags) override {
    if (!writable_) return fail(EROFS);
    const std::lock_guard lock{tree_->mutex_};
    INDRA_LET(Node * dir, living_directory(parent));
    Node& n = tree_->add(S_IFREG | (mode & 07777), c.uid, (dir->attr.mode & S_ISGID) ? dir->attr.gid : c.gid);
    n.refs = 1;
    return Opened{n.attr, handle(n, flags)};
  }
  Result<std::size_t> read(Handle h, std::uint64_t at, MutableBytes out) override {
    op("read");
    const std::lock_guard lock{tree_->mutex_};
    INDRA_LET(Node * n, opened(h));
    if (at >= n->attr.size) return std::size_t{0};
    const auto k = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), n->attr.size - at));
    get(*n, at, out.first(k));
    return k;
  }
  Result<void> write(const Caller&, Handle h, std::uint64_t at, ByteView bytes, bool from_page_cache,
                     bool kill) override {
    op("write");
    NodeId node;
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * n, opened(h));
      if ((tree_->handles_[h].flags & O_APPEND) != 0 && !from_page_cache) at = n->attr.size;
      if (at + bytes.size() > kLargest) return fail(EFBIG);
      put(*n, at, bytes);
      if (kill) kill_ids(*n);
      touch(*n, true);
      node = n->attr.node;
    }
    wrote(node);
    return {};
  }
  Result<void> flush(const Caller&, Handle) override {
    op("flush");
    return {};
  }
  void release(Handle h) override {
    const std::lock_guard lock{tree_->mutex_};
    const auto it = tree_->handles_.find(h);
    if (it == tree_->handles_.end()) return;
    const std::int64_t node = it->second.node;
    if ((it->second.flags & O_ACCMODE) != O_RDONLY)
      tree_->did(front_, {.kind = Deed::closed, .node = NodeId{node}, .type = S_IFREG});
    tree_->handles_.erase(it);
    --tree_->find(NodeId{node})->opens;
    tree_->drop_if_dead(node);
  }
  Result<void> fsync(const Caller&, Handle, bool) override {
    if (owner_.on_fsync) owner_.on_fsync();
    return {};
  }
  Result<void> fallocate(const Caller&, Handle h, int mode, std::uint64_t at, std::uint64_t count) override {
    NodeId node;
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * n, opened(h));
      if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0)
        return fail(EOPNOTSUPP);
      if (at + count > kLargest) return fail(EFBIG);
      if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) punch(*n, at, count);
      if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && at + count > n->attr.size) resize(*n, at + count);
      touch(*n, true);
      node = n->attr.node;
    }
    wrote(node);
    return {};
  }
  Result<std::uint64_t> lseek(Handle h, std::uint64_t at, int whence) override {
    const std::lock_guard lock{tree_->mutex_};
    INDRA_LET(Node * n, opened(h));
    if (at >= n->attr.size) return fail(ENXIO);
    std::uint64_t index = at / kBlock;
    if (whence == SEEK_DATA) {
      const auto it = n->blocks.lower_bound(index);
      if (it == n->blocks.end()) return fail(ENXIO);
      return std::max(at, it->first * kBlock);
    }
    while (n->blocks.contains(index)) ++index;
    return std::min(n->attr.size, std::max(at, index * kBlock));
  }
  Result<std::uint64_t> copy_file_range(const Caller&, Handle from, std::uint64_t from_at, Handle to,
                                        std::uint64_t to_at, std::uint64_t count) override {
    op("copy_file_range");
    NodeId node;
    std::uint64_t k = 0;
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * a, opened(from));
      INDRA_LET(Node * b, opened(to));
      if (from_at >= a->attr.size) return std::uint64_t{0};
      k = std::min(count, a->attr.size - from_at);
      Bytes bytes(k);
      get(*a, from_at, bytes);
      put(*b, to_at, bytes);
      kill_ids(*b);
      touch(*b, true);
      node = b->attr.node;
    }
    wrote(node);
    return k;
  }

  Result<Handle> opendir(NodeId node) override {
    const std::lock_guard lock{tree_->mutex_};
    INDRA_LET(Node * n, any(node));
    if (!is_dir(*n)) return fail(ENOTDIR);
    return handle(*n, O_RDONLY);
  }
  Result<void> readdir(Handle h, std::uint64_t cookie, bool plus, const DirSink& sink) override {
    op("readdir");
    std::unique_lock lock{tree_->mutex_};
    INDRA_LET(Node * dir, opened(h));
    for (auto it = dir->order.upper_bound(cookie); it != dir->order.end(); ++it) {
      Node& n = *tree_->find(NodeId{dir->entries.find(it->second)->second.first});
      DirEntry e;
      e.name = it->second;
      e.node = n.attr.node;
      e.mode = n.attr.mode;
      e.cookie = it->first;
      if (plus) e.attr = &n.attr;
      if (!sink(e)) break;
      if (plus) ++n.refs;
    }
    lock.unlock();
    done("readdir");
    return {};
  }
  void releasedir(Handle h) override { release(h); }
  Result<void> sync() override {
    if (owner_.on_fsync) owner_.on_fsync();
    return {};
  }
  Result<FsStat> statfs() override { return FsStat{4096, 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19}; }

  Result<void> setxattr(const Caller&, NodeId node, std::string_view name, ByteView value,
                        int flags) override {
    if (!writable_) return fail(EROFS);
    if (name.starts_with("system.")) return fail(EOPNOTSUPP);
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * n, any(node));
      const bool there = n->xattrs.contains(name);
      if (flags == XATTR_CREATE && there) return fail(EEXIST);
      if (flags == XATTR_REPLACE && !there) return fail(ENODATA);
      n->xattrs.insert_or_assign(std::string{name}, Bytes{value.begin(), value.end()});
      touch(*n, false);
    }
    tell({{Change::attributes, node, {}, {}}});
    tree_->did(front_, {.kind = Deed::attributes, .node = node});
    return {};
  }
  Result<Bytes> getxattr(NodeId node, std::string_view name) override {
    const std::lock_guard lock{tree_->mutex_};
    INDRA_LET(Node * n, any(node));
    if (name.starts_with("system.")) return fail(EOPNOTSUPP);
    const auto it = n->xattrs.find(name);
    if (it == n->xattrs.end()) return fail(ENODATA);
    return it->second;
  }
  Result<std::vector<std::string>> listxattr(NodeId node) override {
    const std::lock_guard lock{tree_->mutex_};
    INDRA_LET(Node * n, any(node));
    std::vector<std::string> names;
    for (const auto& [name, value] : n->xattrs) names.push_back(name);
    return names;
  }
  Result<void> removexattr(const Caller&, NodeId node, std::string_view name) override {
    const std::lock_guard lock{tree_->mutex_};
    INDRA_LET(Node * n, any(node));
    const auto it = n->xattrs.find(name);
    if (it == n->xattrs.end()) return fail(ENODATA);
    n->xattrs.erase(it);
    touch(*n, false);
    return {};
  }

 private:
  void op(std::string_view name) {
    if (owner_.on_operation) owner_.on_operation(name);
  }
  void done(std::string_view name) {
    if (owner_.after_operation) owner_.after_operation(name);
  }
  Result<Node*> any(NodeId id) {
    Node* n = tree_->find(id);
    if (n == nullptr) return fail(ESTALE);
    return n;
  }
  Result<Node*> directory(NodeId id) {
    INDRA_LET(Node * n, any(id));
    if (!is_dir(*n)) return fail(ENOTDIR);
    return n;
  }
  Result<Node*> living_directory(NodeId id) {
    INDRA_LET(Node * n, directory(id));
    if (n->attr.nlink == 0) return fail(ENOENT);
    return n;
  }
  Result<Node*> opened(Handle h) {
    const auto it = tree_->handles_.find(h);
    if (it == tree_->handles_.end()) return fail(EBADF);
    return tree_->find(NodeId{it->second.node});
  }
  Handle handle(Node& n, int flags) {
    ++n.opens;
    tree_->handles_[tree_->next_handle_] = {n.attr.node.raw(), flags};
    return tree_->next_handle_++;
  }
  template <class Fill>
  Result<Attr> make(const Caller& c, NodeId parent, std::string_view name, std::uint32_t mode, Fill&& fill) {
    op("make");
    if (!writable_) return fail(EROFS);
    Attr result;
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * dir, living_directory(parent));
      if (dir->entries.contains(name)) return fail(EEXIST);
      gid_t gid = c.gid;
      if (dir->attr.mode & S_ISGID) {
        gid = dir->attr.gid;
        if (S_ISDIR(mode)) mode |= S_ISGID;
      }
      Node& n = tree_->add(mode, c.uid, gid);
      dir = tree_->find(parent);
      n.attr.nlink = S_ISDIR(mode) ? 2 : 1;
      n.refs = 1;
      fill(n);
      if (S_ISDIR(mode)) ++dir->attr.nlink;
      tree_->insert(*dir, name, n.attr.node.raw());
      result = n.attr;
      tree_->did(front_, {.kind = Deed::made,
                          .node = n.attr.node,
                          .type = mode & S_IFMT,
                          .to = {parent, std::string{name}}});
    }
    tell({{Change::entry, {}, parent, std::string{name}}});
    return result;
  }
  void drop_link(Node& dir, Node& n) {
    if (is_dir(n)) {
      n.attr.nlink = 0;
      --dir.attr.nlink;
    } else {
      --n.attr.nlink;
    }
    touch(n, false);
  }
  Result<void> remove(NodeId parent, std::string_view name, bool directory_wanted) {
    op("remove");
    if (!writable_) return fail(EROFS);
    std::int64_t id = 0;
    {
      const std::lock_guard lock{tree_->mutex_};
      INDRA_LET(Node * dir, directory(parent));
      const auto it = dir->entries.find(name);
      if (it == dir->entries.end()) return fail(ENOENT);
      id = it->second.first;
      Node& n = *tree_->find(NodeId{id});
      if (directory_wanted && !is_dir(n)) return fail(ENOTDIR);
      if (!directory_wanted && is_dir(n)) return fail(EISDIR);
      if (is_dir(n) && !n.entries.empty()) return fail(ENOTEMPTY);
      tree_->erase(*dir, name);
      drop_link(*dir, n);
      tree_->did(front_, {.kind = Deed::removed,
                          .node = NodeId{id},
                          .type = n.attr.mode & S_IFMT,
                          .from = {parent, std::string{name}}});
      tree_->drop_if_dead(id);
    }
    tell({{Change::entry, NodeId{id}, parent, std::string{name}}});
    return {};
  }
  void tell(const std::vector<Change>& changes) { tree_->tell(front_, changes); }
  void wrote(NodeId node) {
    tell({{Change::data, node, {}, {}}});
    tree_->did(front_, {.kind = Deed::written, .node = node, .type = S_IFREG});
  }

  MemViews& owner_;
  const std::shared_ptr<MemTree> tree_;
  FrontEnd* const front_;
  const bool writable_;
};

MemViews::MemViews() { add_branch("main"); }
MemViews::~MemViews() = default;

void MemViews::add_branch(const std::string& name) { branches_[name] = std::make_shared<MemTree>(); }
void MemViews::add_snapshot(const std::string& name, const std::string& of) {
  snapshots_[name] = branches_.at(of);
}

Result<std::shared_ptr<View>> MemViews::open_view(const ViewSpec& spec, FrontEnd* front) {
  const auto& from = spec.snapshot.empty() ? branches_ : snapshots_;
  const auto it = from.find(spec.snapshot.empty() ? spec.branch : spec.snapshot);
  if (it == from.end()) return fail(ENOENT, "no branch or snapshot of that name");
  return std::make_shared<MemView>(*this, it->second, front, !spec.read_only && spec.snapshot.empty());
}
std::vector<std::string> MemViews::branch_names(std::string_view) {
  std::vector<std::string> names;
  for (const auto& [name, tree] : branches_) names.push_back(name);
  return names;
}
std::vector<std::string> MemViews::snapshot_names(std::string_view) {
  std::vector<std::string> names;
  for (const auto& [name, tree] : snapshots_) names.push_back(name);
  return names;
}
View& MemViews::outside(const std::string& branch) {
  auto& v = outside_[branch];
  if (!v) {
    v = std::make_shared<MemView>(*this, branches_.at(branch), nullptr, true);
    --open_views_;  // ours is not counted
  }
  return *v;
}
std::size_t MemViews::nodes(const std::string& branch) const {
  const auto& t = branches_.at(branch);
  const std::lock_guard lock{t->mutex_};
  return t->nodes_.size();
}
std::uint64_t MemViews::deeds(const std::string& branch) const {
  const auto& t = branches_.at(branch);
  const std::lock_guard lock{t->mutex_};
  return t->deeds_;
}
std::size_t MemViews::references(const std::string& branch) const {
  const auto& t = branches_.at(branch);
  const std::lock_guard lock{t->mutex_};
  std::size_t n = 0;
  for (const auto& [id, node] : t->nodes_) n += node.refs;
  return n - 1;  // the root's own
}
std::size_t MemViews::handles(const std::string& branch) const {
  const auto& t = branches_.at(branch);
  const std::lock_guard lock{t->mutex_};
  return t->handles_.size();
}

}  // namespace indra
