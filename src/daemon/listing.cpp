// Finding and listing: paths to nodes, ls, tree, stat.
#include <algorithm>
#include <cerrno>
#include <deque>

#include "daemon/internal/verbs.h"
#include "daemon/items.h"
#include "fs/space.h"

namespace indra {
namespace {

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < path.size();) {
    const std::size_t end = std::min(path.find('/', i), path.size());
    if (end > i) parts.emplace_back(path.substr(i, end - i));
    i = end + 1;
  }
  return parts;
}

}  // namespace

std::string join_path(std::string_view dir, std::string_view name) {
  std::string p{dir};
  if (p.empty() || p.back() != '/') p += '/';
  return p += name;
}

Result<std::optional<Attr>> look(View& v, NodeId dir, std::string_view name) {
  auto r = v.lookup(dir, name);
  if (!r) {
    if (r.error().code == std::errc::no_such_file_or_directory) return std::nullopt;
    return fail(r.error());
  }
  v.forget(r->node, 1);
  return *r;
}

Result<Found> find(View& v, std::string_view path, bool follow) {
  INDRA_LET(Attr root, v.getattr(v.root()));
  std::vector<std::pair<std::string, Attr>> at;  // where we are: names and nodes below the root
  const auto here = [&]() -> const Attr& { return at.empty() ? root : at.back().second; };
  const auto first = split(path);
  std::deque<std::string> todo{first.begin(), first.end()};
  int links = 0;
  while (!todo.empty()) {
    const std::string name = std::move(todo.front());
    todo.pop_front();
    if (name == ".") continue;
    if (name == "..") {
      if (!at.empty()) at.pop_back();
      continue;
    }
    if (!S_ISDIR(here().mode)) return fail(ENOTDIR, std::string{path});
    INDRA_LET(auto found, look(v, here().node, name));
    if (!found) return fail(ENOENT, std::string{path});
    if (S_ISLNK(found->mode) && (follow || !todo.empty())) {
      if (++links > 40) return fail(ELOOP, std::string{path});
      INDRA_LET(const std::string target, v.readlink(found->node));
      if (target.starts_with('/'))
        return fail(EXDEV, std::string{path} + ": the link points out of the vault, to " + target);
      const auto more = split(target);
      todo.insert(todo.begin(), more.begin(), more.end());
      continue;
    }
    at.emplace_back(name, *found);
  }
  Found f{here(), {}};
  for (const auto& [name, attr] : at) f.path += "/" + name;
  if (f.path.empty()) f.path = "/";
  return f;
}

Result<PathParent> find_parent(View& v, std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const std::size_t slash = path.rfind('/');
  const std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..")
    return fail(EINVAL, std::string{path} + " names no entry of a directory");
  INDRA_LET(
      const Found dir,
      find(v, slash == std::string_view::npos ? std::string_view{"/"} : path.substr(0, slash + 1), true));
  if (!S_ISDIR(dir.attr.mode)) return fail(ENOTDIR, std::string{path});
  return PathParent{dir.attr.node, std::string{name}};
}

Result<std::vector<Child>> children(View& v, NodeId dir) {
  INDRA_LET(const Handle h, v.opendir(dir));
  struct Closer {
    View& view;
    Handle handle;
    ~Closer() { view.releasedir(handle); }
  } closer{v, h};
  std::vector<Child> all;
  std::uint64_t cookie = 0;
  for (;;) {
    const std::size_t before = all.size();
    INDRA_TRY(v.readdir(h, cookie, true, [&](const DirEntry& e) {
      Child c{std::string{e.name}, {}};
      if (e.attr != nullptr) c.attr = *e.attr;
      c.attr.node = e.node;
      if (c.attr.mode == 0) c.attr.mode = e.mode;
      cookie = e.cookie;
      all.push_back(std::move(c));
      return true;
    }));
    for (std::size_t i = before; i < all.size(); ++i) v.forget(all[i].attr.node, 1);
    if (all.size() == before) break;
  }
  std::sort(all.begin(), all.end(), [](const Child& a, const Child& b) { return a.name < b.name; });
  return all;
}

Json attr_json(const Attr& a) {
  return {{"node", a.node.raw()}, {"mode", a.mode},   {"nlink", a.nlink},   {"uid", a.uid},
          {"gid", a.gid},         {"size", a.size},   {"blocks", a.blocks}, {"rdev", a.rdev},
          {"atime", a.atime},     {"mtime", a.mtime}, {"ctime", a.ctime},   {"btime", a.btime}};
}

namespace {

Result<Json> row_of(View& v, const std::string& path, const std::string& name, const Attr& a, int depth,
                    bool hash = false) {
  Json row = attr_json(a);
  row["path"] = name_to_json(path);
  row["name"] = name_to_json(name);
  row["depth"] = depth;
  if (S_ISLNK(a.mode)) {
    INDRA_LET(const std::string target, v.readlink(a.node));
    row["target"] = name_to_json(target);
  }
  if (hash && S_ISREG(a.mode)) {
    INDRA_LET(const Bytes h, v.getxattr(a.node, "user.indra.hash"));
    row["hash"] = as_text(h);
  }
  return row;
}

Result<void> list_below(Call& c, View& v, Rows& rows, const Found& dir, int depth, int limit) {
  if (depth > kDeepest) {
    INDRA_TRY(rows.flush());
    return report(c, dir.path, {std::make_error_code(std::errc::filename_too_long), {}});
  }
  auto all = children(v, dir.attr.node);
  if (!all) {  // gone or damaged meanwhile: the rest is still of use
    INDRA_TRY(rows.flush());
    return report(c, dir.path, all.error());
  }
  for (const Child& child : *all) {
    const std::string path = join_path(dir.path, child.name);
    auto row = row_of(v, path, child.name, child.attr, depth, bool_field(c.request, "hash"));
    if (!row && row.error().code == std::errc::no_such_file_or_directory)
      continue;  // removed between listing and reading
    if (!row) {
      INDRA_TRY(rows.flush());
      INDRA_TRY(report(c, path, row.error()));
      continue;
    }
    INDRA_TRY(rows.add(std::move(*row)));
    if (S_ISDIR(child.attr.mode) && (limit < 0 || depth < limit))
      INDRA_TRY(list_below(c, v, rows, {child.attr, path}, depth + 1, limit));
  }
  return {};
}

}  // namespace

// {"path", "depth": levels below it, -1 = all; 0 = the node alone}: rows in depth-first order, the node
// itself first. With "hash", files come with theirs.
Result<Json> verb_list(Call& c) {
  INDRA_LET(const auto view, view_of(c, false));
  INDRA_LET(const std::string path, path_of(c));
  INDRA_LET(const Found f, find(*view, path, bool_field(c.request, "follow", true)));
  const auto limit = static_cast<int>(int_field(c.request, "depth", 1));
  Rows rows{c.io};
  INDRA_LET(Json top, row_of(*view, f.path, f.path.substr(f.path.rfind('/') + 1), f.attr, 0,
                             bool_field(c.request, "hash")));
  INDRA_TRY(rows.add(std::move(top)));
  if (S_ISDIR(f.attr.mode) && limit != 0) INDRA_TRY(list_below(c, *view, rows, f, 1, limit));
  INDRA_TRY(rows.flush());
  INDRA_TRY(still_kept(c.fs, *view));
  return Json::object();
}

Result<Json> verb_stat(Call& c) {
  INDRA_LET(const auto view, view_of(c, false));
  INDRA_LET(const std::string path, path_of(c));
  INDRA_LET(const Found f, find(*view, path, bool_field(c.request, "follow")));
  INDRA_LET(Json j, row_of(*view, f.path, f.path.substr(f.path.rfind('/') + 1), f.attr, 0));
  for (const char* name :
       {"hash", "doc_id", "version", "versions", "tree_type", "leaf_type", "heat", "steward"}) {
    const auto value = view->getxattr(f.attr.node, std::string{"user.indra."} + name);
    if (value)
      j[name] = name_to_json(as_text(*value));
    else if (value.error().code != std::errc::no_message_available &&
             value.error().code != std::errc::operation_not_supported)
      return fail(value.error());
  }
  if (const auto names = view->listxattr(f.attr.node); names && !names->empty()) {
    j["xattrs"] = Json::array();
    for (const std::string& n : *names) j["xattrs"].push_back(name_to_json(n));
  }
  j["artifact"] = S_ISDIR(f.attr.mode)   ? "tree"
                  : S_ISREG(f.attr.mode) ? "leaf"
                  : S_ISLNK(f.attr.mode) ? "symlink"
                                         : "other";
  return j;
}

}  // namespace indra
