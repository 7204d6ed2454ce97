#include <cerrno>

#include "fs/filesystem.h"

namespace indra {
namespace {

/// Calls fn(name, last) for each component; "." is dropped, ".." refused.
template <class F>
Result<void> each_component(std::string_view path, F&& fn) {
  std::size_t i = 0;
  while (i < path.size()) {
    while (i < path.size() && path[i] == '/') ++i;
    const std::size_t end = std::min(path.find('/', i), path.size());
    if (end == i) break;
    const std::string_view name = path.substr(i, end - i);
    std::size_t next = end;
    while (next < path.size() && path[next] == '/') ++next;
    i = end;
    if (name == ".") continue;
    if (name == "..") return fail(EINVAL, std::string{path} + " must not contain '..'");
    INDRA_TRY(fn(name, next >= path.size()));
  }
  return {};
}

}  // namespace

Result<Attr> resolve_path(View& view, std::string_view path) {
  NodeId at = view.root();
  INDRA_TRY(each_component(path, [&](std::string_view name, bool) -> Result<void> {
    auto r = view.lookup(at, name);
    if (!r) return fail(r.error().code, std::string{path});
    view.forget(r->node, 1);
    at = r->node;
    return {};
  }));
  return view.getattr(at);
}

Result<PathParent> resolve_parent(View& view, std::string_view path) {
  PathParent p{view.root(), {}};
  INDRA_TRY(each_component(path, [&](std::string_view name, bool last) -> Result<void> {
    if (last) {
      p.name = name;
      return {};
    }
    auto r = view.lookup(p.parent, name);
    if (!r) return fail(r.error().code, std::string{path});
    view.forget(r->node, 1);
    p.parent = r->node;
    return {};
  }));
  if (p.name.empty()) return fail(EINVAL, std::string{path} + " names no file");
  return p;
}

}  // namespace indra
