// cat, get, export: nodes of a view as items.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <unordered_map>

#include "daemon/internal/verbs.h"
#include "daemon/items.h"
#include "fs/space.h"

namespace indra {
namespace {

class Emitter {
 public:
  Emitter(Call& c, View& v) : c_{c}, view_{v} {}

  /// Result: the channel's error. What is wrong with a node is reported.
  Result<void> node(const std::string& from, const std::string& path, const Attr& a, bool recursive,
                    int depth = 1) {
    if (depth > kDeepest) return failed(from, {std::make_error_code(std::errc::filename_too_long), {}});
    Item i;
    i.path = path;
    i.mode = a.mode;
    i.uid = a.uid;
    i.gid = a.gid;
    i.mtime = a.mtime;
    i.atime = a.atime;
    if (!S_ISDIR(a.mode) && a.nlink > 1) {
      const auto [first, fresh] = seen_.try_emplace(a.node, path);
      if (!fresh) {
        i.op = Item::Op::link;
        i.target = first->second;
        return send(std::move(i));
      }
    }
    if (auto x = xattrs(a.node, i); !x) return failed(from, x.error());
    if (S_ISDIR(a.mode)) {
      i.op = Item::Op::dir;
      if (!recursive) return failed(from, {std::make_error_code(std::errc::is_a_directory), {}});
      INDRA_TRY(send(std::move(i)));
      auto all = children(view_, a.node);
      if (!all) return failed(from, all.error());
      for (const Child& child : *all)
        INDRA_TRY(node(join_path(from, child.name), path.empty() ? child.name : path + "/" + child.name,
                       child.attr, true, depth + 1));
      return {};
    }
    if (S_ISLNK(a.mode)) {
      i.op = Item::Op::symlink;
      auto target = view_.readlink(a.node);
      if (!target) return failed(from, target.error());
      i.target = std::move(*target);
      return send(std::move(i));
    }
    if (S_ISREG(a.mode)) return file(from, std::move(i), a);
    i.op = Item::Op::node;
    i.rdev = a.rdev;
    return send(std::move(i));
  }

  [[nodiscard]] Json summary() const { return {{"items", items_}, {"bytes", bytes_}, {"failed", failed_}}; }
  Result<void> failed(const std::string& path, const Error& e) {
    ++failed_;
    return report(c_, path, e);
  }

 private:
  Result<void> send(Item i) {
    if (i.op != Item::Op::chunk && i.op != Item::Op::done) ++items_;
    bytes_ += i.body.size();
    return c_.io.send(to_message(std::move(i)));
  }

  Result<void> xattrs(NodeId node, Item& i) {
    auto names = view_.listxattr(node);
    if (!names)
      return names.error().code == std::errc::operation_not_supported ? Result<void>{} : fail(names.error());
    std::size_t room = 200 << 10;
    for (const std::string& name : *names) {
      auto value = view_.getxattr(node, name);
      if (!value) continue;
      if (value->size() > room) return fail(E2BIG, "extended attribute " + name);
      room -= value->size();
      i.xattrs[name] = as_text(*value);
    }
    return {};
  }

  Result<void> file(const std::string& from, Item i, const Attr& a) {
    auto opened = view_.open(c_.caller, a.node, O_RDONLY);
    if (!opened) return failed(from, opened.error());
    const HandleGuard handle{view_, *opened};
    i.op = Item::Op::file;
    i.size = a.size;
    if (a.size <= kBodySize && a.blocks * 512 + 4096 >= a.size) {
      i.body.resize(a.size);
      auto n = view_.read(handle.get(), 0, i.body);
      if (!n) return failed(from, n.error());
      i.body.resize(*n);
      if (*n == a.size) {
        i.size = *n;
        return send(std::move(i));
      }
      i.size = *n;
      return send(std::move(i));
    }
    const std::uint64_t id = ++last_id_;
    i.id = id;
    i.more = true;
    Message head = to_message(std::move(i));
    // Where the data lies, for those who must know before they write (tar); left out when there are too many
    // pieces.
    Json extents = Json::array();
    if (a.blocks * 512 + 4096 < a.size)
      for (std::uint64_t from_at = 0; from_at < a.size && extents.size() < 1000;) {
        const auto data = view_.lseek(handle.get(), from_at, SEEK_DATA);
        const auto hole = data ? view_.lseek(handle.get(), *data, SEEK_HOLE) : data;
        if (!hole || *hole <= *data) break;
        extents.push_back(Json::array({*data, *hole - *data}));
        from_at = *hole;
      }
    if (a.blocks * 512 + 4096 < a.size && extents.size() < 1000) head.head["extents"] = std::move(extents);
    ++items_;
    INDRA_TRY(c_.io.send(std::move(head)));
    std::uint64_t at = 0, size = 0;
    for (;;) {
      if (auto data = view_.lseek(handle.get(), at, SEEK_DATA); data)
        at = *data;
      else if (data.error().code == std::errc::no_such_device_or_address)
        break;  // a hole to the end
      Item chunk;
      chunk.op = Item::Op::chunk;
      chunk.id = id;
      chunk.at = at;
      std::uint64_t want = kBodySize - at % kBodySize;
      if (auto hole = view_.lseek(handle.get(), at, SEEK_HOLE); hole && *hole > at)
        want = std::min(want, *hole - at);
      chunk.body.resize(want);
      auto n = view_.read(handle.get(), at, chunk.body);
      if (!n) {
        INDRA_TRY(failed(from, n.error()));
        size = UINT64_MAX;  // the other side drops it
        break;
      }
      if (*n == 0) break;
      chunk.body.resize(*n);
      at += *n;
      INDRA_TRY(send(std::move(chunk)));
    }
    Item done;
    done.op = Item::Op::done;
    done.id = id;
    done.size = size == UINT64_MAX ? 0 : std::max(at, a.size);
    Message m = to_message(std::move(done));
    if (size == UINT64_MAX) m.head["abort"] = true;
    return c_.io.send(std::move(m));
  }

  Call& c_;
  View& view_;
  std::unordered_map<NodeId, std::string> seen_;  // nodes with several names: where the first one is
  std::uint64_t items_ = 0, bytes_ = 0, failed_ = 0, last_id_ = 0;
};

}  // namespace

// {"paths": [...], "recursive", "follow", "top": true = the (only) directory's own name is ""}: items.
Result<Json> verb_get(Call& c) {
  INDRA_LET(const auto view, view_of(c, false));
  Emitter emitter{c, *view};
  const auto paths = c.request.find("paths");
  if (paths == c.request.end() || !paths->is_array()) return fail(EINVAL, "paths");
  const bool top = bool_field(c.request, "top");
  for (const Json& p : *paths) {
    const auto path = name_from_json(p);
    if (!path) return fail(EINVAL, "paths");
    auto f = find(*view, *path, bool_field(c.request, "follow"));
    if (!f) {
      INDRA_TRY(emitter.failed(*path, {f.error().code, {}}));
      continue;
    }
    std::string_view name = *path;  // as it was asked for, even where a link led elsewhere
    while (name.ends_with('/')) name.remove_suffix(1);
    name = name.substr(name.rfind('/') + 1);
    if (!safe_relative(name)) name = {};
    INDRA_TRY(emitter.node(f->path, top ? std::string{} : std::string{name}, f->attr,
                           bool_field(c.request, "recursive")));
  }
  INDRA_TRY(still_kept(c.fs, *view));
  return emitter.summary();
}

// {"branch" or "snapshot"}: everything in it, as items, at one moment.
Result<Json> verb_pack(Call& c) {
  const std::string snapshot = name_field(c.request, "snapshot").value_or("");
  std::optional<WorkBranch> fork;
  std::shared_ptr<View> view;
  if (snapshot.empty()) {
    auto made = WorkBranch::make(c, name_field(c.request, "branch").value_or("main"));
    if (!made) return Failure{explained(made.error())};
    fork.emplace(std::move(*made));
    INDRA_LET(view, branch_view(c, fork->name()));
  } else {
    INDRA_LET(view, view_of(c, false));
  }
  INDRA_LET(const Attr root, view->getattr(view->root()));
  Emitter emitter{c, *view};
  INDRA_TRY(emitter.node("/", "", root, true));
  INDRA_TRY(still_kept(c.fs, *view));
  view.reset();
  return emitter.summary();
}

}  // namespace indra
