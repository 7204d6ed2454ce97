// put, import: items become nodes. The reader of the channel makes directories and hands files to workers.
#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "daemon/internal/verbs.h"
#include "daemon/items.h"

namespace indra {
namespace {

enum class Conflict { replace, skip, fail };

SetAttr attributes(const Item& i) {
  SetAttr s;
  if (i.mode) s.mode = *i.mode & 07777;
  s.uid = i.uid;
  s.gid = i.gid;
  s.mtime = i.mtime;
  s.atime = i.atime;
  return s;
}

class Ingest {
 public:
  Ingest(Call& c, View& v, NodeId top, bool fresh_top, Conflict conflict, bool dry_run)
      : c_{c},
        view_{v},
        fresh_top_{fresh_top},
        conflict_{conflict},
        dry_run_{dry_run},
        lock_{text_field(c.request, "lock")},
        token_{int_field(c.request, "token")} {
    dirs_[""] = top;
  }
  ~Ingest() {
    abandon_ = true;  // with an error of the channel: what is unfinished leaves no trace
    stop();
  }

  Result<Json> run() {
    const unsigned n = std::clamp(std::thread::hardware_concurrency(), 1u, 8u);
    for (unsigned k = 0; k < n; ++k) workers_.push_back(std::make_unique<Worker>());
    for (auto& w : workers_) w->thread = std::thread{[this, &w] { work(*w); }};
    for (;;) {
      INDRA_LET(auto m, c_.io.receive());
      if (!m) return fail(EPIPE, "the sender is gone");
      if (m->type == FrameType::end) break;
      if (m->type == FrameType::error) return fail(error_of(*m));
      if (m->type != FrameType::data) continue;
      const bool abort = bool_field(m->head, "abort");
      INDRA_LET(Item i, to_item(std::move(*m)));
      INDRA_TRY(take(std::move(i), abort));
    }
    INDRA_TRY(settle_links());
    stop();
    // Deepest first: filling a directory changes its times.
    for (auto it = late_dirs_.rbegin(); it != late_dirs_.rend(); ++it) {
      auto r = view_.setattr(c_.caller, it->node, it->set);
      if (!r) INDRA_TRY(note(it->path, fail(r.error())));
    }
    return Json{{"items", items_.load()},
                {"bytes", bytes_.load()},
                {"skipped", skipped_.load()},
                {"failed", failed_.load()}};
  }

 private:
  struct Task {
    Item item;
    NodeId parent;
    std::string name;
    bool abort = false;
  };
  struct Partial {  // a file that comes in several messages; lives in its worker
    Item head;
    NodeId parent;
    std::string name;
    std::unique_ptr<FileSystem::Incoming> incoming;
  };
  struct Worker {
    std::thread thread;
    std::mutex mutex;
    std::condition_variable filled, room;
    std::deque<Task> queue;
    std::size_t bytes = 0;
    bool ended = false, busy = false;
  };
  struct LateDir {
    NodeId node;
    SetAttr set;
    std::string path;
  };

  /// Result: the channel's error. What is wrong with an item is reported.
  Result<void> take(Item i, bool abort) {
    if (i.op == Item::Op::chunk || i.op == Item::Op::done) {
      const auto it = open_.find(i.id);
      if (it == open_.end()) return {};
      Worker& w = *it->second;
      if (i.op == Item::Op::done) open_.erase(it);
      give(w, {std::move(i), {}, {}, abort});
      return {};
    }
    // An archive may hold a name again: the later one counts, and a link means what came before it.
    if (in_links_.contains(i.path)) INDRA_TRY(settle_links());
    if (i.op == Item::Op::dir) return note(i.path, directory(i));
    if (i.op == Item::Op::link) {
      in_links_.insert({i.path, i.target});
      links_.push_back(std::move(i));
      return {};
    }
    const std::size_t slash = i.path.rfind('/');
    const std::string dir = slash == std::string::npos ? "" : i.path.substr(0, slash);
    std::string name = i.path.substr(slash == std::string::npos ? 0 : slash + 1);
    auto parent = i.path.empty() ? Result<NodeId>{fail(EISDIR)} : make_dirs(dir);
    if (!parent) return note(i.path, fail(parent.error()));
    Worker& w = *workers_[std::hash<std::string>{}(i.path) % workers_.size()];
    if (i.op != Item::Op::file) {  // at once: a link must stand before what would go through it is looked at
      drain(w);
      std::unordered_map<std::uint64_t, Partial> none;
      return file_message(none, {std::move(i), *parent, std::move(name)});
    }
    if (i.more) open_[i.id] = &w;
    give(w, {std::move(i), *parent, std::move(name)});
    return {};
  }

  Result<void> note(const std::string& path, const Result<void>& r) {
    if (r) return {};
    ++failed_;
    return report(c_, path, r.error());
  }

  /// The directory `path`, made with its parents where missing. In a dry run missing ones have id 0.
  Result<NodeId> make_dirs(const std::string& path) {
    if (const auto it = dirs_.find(path); it != dirs_.end()) return it->second;
    const std::size_t slash = path.rfind('/');
    INDRA_LET(const NodeId parent, make_dirs(slash == std::string::npos ? "" : path.substr(0, slash)));
    const std::string name = path.substr(slash == std::string::npos ? 0 : slash + 1);
    INDRA_LET(const NodeId node, ensure_dir(parent, name, 0755));
    dirs_[path] = node;
    return node;
  }

  Result<NodeId> ensure_dir(NodeId parent, const std::string& name, std::uint32_t mode) {
    if (!parent) return NodeId{};
    INDRA_LET(const auto there, look(view_, parent, name));
    if (there) {
      if (!S_ISDIR(there->mode)) return fail(ENOTDIR, name + " exists and is no directory");
      return there->node;
    }
    if (dry_run_) return NodeId{};
    INDRA_LET(const Attr made, view_.mkdir(c_.caller, parent, name, mode & 07777));
    view_.forget(made.node, 1);
    return made.node;
  }

  Result<void> directory(const Item& i) {
    ++items_;
    if (const auto it = dirs_.find(i.path); it == dirs_.end()) {
      const std::size_t slash = i.path.rfind('/');
      INDRA_LET(const NodeId parent, make_dirs(slash == std::string::npos ? "" : i.path.substr(0, slash)));
      const std::string name = i.path.substr(slash == std::string::npos ? 0 : slash + 1);
      bool existed = false;
      if (parent) {
        INDRA_LET(const auto there, look(view_, parent, name));
        existed = there.has_value();
      }
      INDRA_LET(const NodeId node, ensure_dir(parent, name, i.mode.value_or(0755)));
      dirs_[i.path] = node;
      if (existed && conflict_ != Conflict::replace) return {};  // merged: its own attributes stay
    }
    const NodeId node = dirs_[i.path];
    if (dry_run_ || !node) return {};
    if (i.path.empty() && conflict_ != Conflict::replace && !fresh_top_) return {};
    late_dirs_.push_back({node, attributes(i), i.path});
    return set_xattrs(node, i);
  }

  Result<void> set_xattrs(NodeId node, const Item& i) {
    for (const auto& [name, value] : i.xattrs)
      if (auto r = view_.setxattr(c_.caller, node, name, as_view(value), 0); !r)
        return fail(r.error().code, "extended attribute " + name);
    return {};
  }

  /// What stands at the item's place: true = go on. With `clear` it is removed, where a file does not replace
  /// it by itself.
  Result<bool> make_room(NodeId parent, const std::string& name, bool file) {
    if (!parent) return true;
    INDRA_LET(const auto there, look(view_, parent, name));
    if (!there) return true;
    if (conflict_ == Conflict::skip) {
      ++skipped_;
      return false;
    }
    if (conflict_ == Conflict::fail) return fail(EEXIST);
    if (S_ISDIR(there->mode)) return fail(EISDIR);
    if (dry_run_ || (file && S_ISREG(there->mode))) return true;
    INDRA_TRY(view_.unlink(c_.caller, parent, name));
    return true;
  }

  /// Once all that they lead to is there.
  Result<void> settle_links() {
    if (links_.empty()) return {};
    for (auto& w : workers_) drain(*w);
    {
      const std::lock_guard lock{came_mutex_};
      std::sort(came_.begin(), came_.end());
    }
    for (const Item& i : links_) INDRA_TRY(note(i.path, link(i)));
    links_.clear();
    in_links_.clear();
    return {};
  }

  /// Of this import: what bears the name else is another file.
  void came(const std::string& path) {
    const std::lock_guard lock{came_mutex_};
    came_.push_back(std::hash<std::string>{}(path));
  }

  /// The file that a link is another name of; known before what stands at the link's place goes.
  Result<NodeId> linked_to(const Item& i) {
    if (i.target == i.path) return fail(EINVAL, "a hard link to itself");
    const std::size_t cut = i.target.rfind('/');
    INDRA_LET(const NodeId dir, make_dirs(cut == std::string::npos ? "" : i.target.substr(0, cut)));
    INDRA_LET(const auto target, look(view_, dir, i.target.substr(cut == std::string::npos ? 0 : cut + 1)));
    if (!target) return fail(ENOENT, "hard link to " + i.target);
    if (S_ISDIR(target->mode)) return fail(EPERM, "hard link to the directory " + i.target);
    const std::size_t hash = std::hash<std::string>{}(i.target);
    const bool from_before = conflict_ == Conflict::skip && i.mtime == target->mtime;
    if (!from_before && !linked_.contains(hash) && !std::binary_search(came_.begin(), came_.end(), hash))
      return fail(ENOENT, "hard link to " + i.target + ", which is another file here");
    return target->node;
  }

  Result<void> link(const Item& i) {
    const std::size_t slash = i.path.rfind('/');
    INDRA_LET(const NodeId parent, make_dirs(slash == std::string::npos ? "" : i.path.substr(0, slash)));
    const std::string name = i.path.substr(slash == std::string::npos ? 0 : slash + 1);
    const auto node = dry_run_ ? Result<NodeId>{NodeId{}} : linked_to(i);
    if (!node && conflict_ == Conflict::replace) return fail(node.error());
    INDRA_LET(const bool go, make_room(parent, name, false));
    if (!go) return {};
    if (!node) return fail(node.error());
    ++items_;
    if (dry_run_) return {};
    INDRA_LET(const Attr a, view_.link(c_.caller, *node, parent, name));
    view_.forget(a.node, 1);
    linked_.insert(std::hash<std::string>{}(i.path));
    return {};
  }

  void give(Worker& w, Task t) {
    std::unique_lock lock{w.mutex};
    w.room.wait(lock, [&] { return w.bytes < kQueueBytes; });
    w.bytes += t.item.body.size() + 512;
    w.queue.push_back(std::move(t));
    lock.unlock();
    w.filled.notify_one();
  }

  /// It has nothing left to do.
  static void drain(Worker& w) {
    std::unique_lock lock{w.mutex};
    w.room.wait(lock, [&] { return w.queue.empty() && !w.busy; });
  }

  void stop() {
    for (auto& w : workers_) {
      if (!w->thread.joinable()) continue;
      {
        const std::lock_guard lock{w->mutex};
        w->ended = true;
      }
      w->filled.notify_one();
      w->thread.join();
    }
  }

  void work(Worker& w) {
    std::unordered_map<std::uint64_t, Partial> partial;
    for (;;) {
      Task t;
      {
        std::unique_lock lock{w.mutex};
        w.busy = false;
        if (w.queue.empty()) w.room.notify_one();
        w.filled.wait(lock, [&] { return w.ended || !w.queue.empty(); });
        if (w.queue.empty()) return;  // unfinished files are dropped here
        t = std::move(w.queue.front());
        w.queue.pop_front();
        w.bytes -= t.item.body.size() + 512;
        w.busy = true;
      }
      w.room.notify_one();
      if (abandon_) continue;
      const std::string path = t.item.path;
      try {
        (void)file_message(partial, std::move(t));
      } catch (const std::exception& e) {
        ++failed_;
        (void)report(c_, path, {std::make_error_code(std::errc::io_error), e.what()});
      }
    }
  }

  Result<void> file_message(std::unordered_map<std::uint64_t, Partial>& partial, Task t) {
    Item& i = t.item;
    if (i.op == Item::Op::chunk || i.op == Item::Op::done) {
      const auto it = partial.find(i.id);
      if (it == partial.end()) return {};  // it failed or was skipped
      Partial& p = it->second;
      auto r = i.op == Item::Op::chunk ? write(*p.incoming, i) : t.abort ? Result<void>{} : finish(p, i.size);
      if (i.op == Item::Op::chunk && r) return {};
      const std::string path = p.head.path;
      partial.erase(it);
      return note(path, r);
    }
    if (auto r = possible(i); !r) return note(i.path, r);
    auto go = make_room(t.parent, t.name, i.op == Item::Op::file);
    if (!go) return note(i.path, fail(go.error()));
    if (!*go) return {};
    if (dry_run_) {
      ++items_;
      return {};
    }
    const std::string path = i.path;
    if (i.op != Item::Op::file) return note(path, special(t));
    auto incoming = c_.fs.incoming(view_, t.parent, t.name);
    if (!incoming) return note(path, fail(incoming.error()));
    if (!lock_.empty()) (*incoming)->guard(lock_, token_);
    const std::uint64_t size = i.size, id = i.id;
    const bool more = i.more;
    Bytes body = std::move(i.body);
    Partial p{std::move(i), t.parent, t.name, std::move(*incoming)};
    Result<void> r{};
    if (!body.empty()) {
      bytes_ += body.size();
      r = p.incoming->write(0, body);
    }
    if (r && more) {
      partial.emplace(id, std::move(p));
      return {};
    }
    return note(path, r ? finish(p, std::max<std::uint64_t>(size, body.size())) : r);
  }

  Result<void> write(FileSystem::Incoming& incoming, const Item& i) {
    bytes_ += i.body.size();
    return incoming.write(i.at, i.body);
  }

  Result<void> finish(Partial& p, std::uint64_t size) {
    INDRA_TRY(p.incoming->truncate(size));
    INDRA_LET(const Attr a, p.incoming->commit(c_.caller, attributes(p.head)));
    ++items_;
    came(p.head.path);
    return set_xattrs(a.node, p.head);
  }

  /// What cannot be made is known before what stands at its place goes.
  [[nodiscard]] Result<void> possible(const Item& i) const {
    if (i.op == Item::Op::symlink) {
      if (i.target.empty()) return fail(ENOENT, "a symbolic link to nothing");
      return i.target.size() < 4096 ? Result<void>{} : fail(ENAMETOOLONG);
    }
    if (i.op != Item::Op::node) return {};
    const std::uint32_t mode = i.mode.value_or(S_IFIFO | 0644);
    if ((S_ISCHR(mode) || S_ISBLK(mode)) && c_.caller.uid != 0)
      return fail(EPERM, "a device, which only root may make");
    if (!S_ISFIFO(mode) && !S_ISSOCK(mode) && !S_ISCHR(mode) && !S_ISBLK(mode)) return fail(EINVAL);
    return {};
  }

  Result<void> special(const Task& t) {
    const Item& i = t.item;
    ++items_;
    SetAttr set = attributes(i);
    NodeId node;
    if (i.op == Item::Op::symlink) {
      INDRA_LET(const Attr a, view_.symlink(c_.caller, t.parent, t.name, i.target));
      node = a.node;
      set.mode.reset();
    } else {
      INDRA_LET(const Attr a,
                view_.mknod(c_.caller, t.parent, t.name, i.mode.value_or(S_IFIFO | 0644), i.rdev));
      node = a.node;
    }
    view_.forget(node, 1);
    came(i.path);
    INDRA_LET(const Attr done, view_.setattr(c_.caller, node, set));
    return set_xattrs(done.node, i);
  }

  static constexpr std::size_t kQueueBytes = 4 << 20;
  Call& c_;
  View& view_;
  const bool fresh_top_;  // made for this: the first item's attributes are its own
  const Conflict conflict_;
  const bool dry_run_;
  const std::string lock_;  // that guards each file, if any
  const std::int64_t token_;
  std::unordered_map<std::string, NodeId> dirs_;
  std::unordered_map<std::uint64_t, Worker*> open_;  // files that come in several messages
  std::vector<Item> links_;
  std::unordered_set<std::string> in_links_;  // their paths and targets
  std::unordered_set<std::size_t> linked_;    // hashes of the paths of links that are there by now
  std::mutex came_mutex_;
  std::vector<std::size_t> came_;  // the same of files; in order since settle_links()
  std::vector<LateDir> late_dirs_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<std::uint64_t> items_{0}, bytes_{0}, skipped_{0}, failed_{0};
  std::atomic<bool> abandon_{false};
};

}  // namespace

namespace {

/// mkdir -p
Result<Found> make_all(Call& c, View& v, std::string path, int depth = 1) {
  if (depth > kDeepest) return fail(ENAMETOOLONG);
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  auto there = find(v, path, true);
  if (there || there.error().code != std::errc::no_such_file_or_directory) return there;
  const std::size_t slash = path.rfind('/');
  INDRA_LET(const Found parent, make_all(c, v, slash == 0 ? "/" : path.substr(0, slash), depth + 1));
  if (!S_ISDIR(parent.attr.mode)) return fail(ENOTDIR, path);
  INDRA_LET(const Attr made, v.mkdir(c.caller, parent.attr.node, path.substr(slash + 1), 0755));
  v.forget(made.node, 1);
  return Found{made, path};
}

}  // namespace

// {"path": the directory that the items go into, "make": make it if missing, "conflict", "dry_run", "lock"
// and "token": what guards each file}; then items, `end`.
Result<Json> verb_put(Call& c) {
  INDRA_LET(const auto view, view_of(c, true));
  INDRA_LET(const std::string path, path_of(c));
  const std::string how = text_field(c.request, "conflict", "fail");
  const Conflict conflict = how == "replace" ? Conflict::replace
                            : how == "skip"  ? Conflict::skip
                                             : Conflict::fail;
  const bool dry_run = bool_field(c.request, "dry_run");
  auto top = find(*view, path, true);
  bool fresh = false;
  if (!top) {
    if (top.error().code != std::errc::no_such_file_or_directory || !bool_field(c.request, "make"))
      return fail(top.error());
    fresh = true;
    if (dry_run) {
      top = Found{};
      top->attr.mode = S_IFDIR;
    } else {
      top = make_all(c, *view, path);
      if (!top) return fail(top.error());
    }
  }
  if (!S_ISDIR(top->attr.mode)) return fail(ENOTDIR, path);
  // The sender waits for this before it sends: so a refusal comes before the bytes.
  Message ready;
  ready.head = {{"ready", true}};
  INDRA_TRY(c.io.send(std::move(ready)));
  Ingest ingest{c, *view, top->attr.node, fresh, conflict, dry_run};
  return ingest.run();
}

// {"branch": a new one}; then items, `end`. All of them or nothing.
Result<Json> verb_unpack(Call& c) {
  const auto name = name_field(c.request, "branch");
  if (!name) return fail(EINVAL, "branch");
  INDRA_LET(const auto all, c.fs.branches("main"));
  for (const BranchInfo& b : all)
    if (b.name == *name) return fail(EEXIST, "branch " + *name);
  INDRA_LET(WorkBranch work, WorkBranch::make(c, {}));
  Json done;
  {
    INDRA_LET(const auto view, branch_view(c, work.name()));
    Message ready;
    ready.head = {{"ready", true}};
    INDRA_TRY(c.io.send(std::move(ready)));
    Ingest ingest{c, *view, view->root(), true, Conflict::replace, false};
    INDRA_LET(done, ingest.run());
  }
  if (int_field(done, "failed") != 0)
    return fail(EIO, "something of it cannot be here; nothing of it was taken");
  INDRA_TRY(work.rename(*name));
  INDRA_TRY(c.fs.sync(false));
  return done;
}

}  // namespace indra
