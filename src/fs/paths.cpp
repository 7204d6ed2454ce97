#include <fcntl.h>
#include <sys/stat.h>

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

Result<Bytes> read_file(View& view, const Caller& who, std::string_view path, std::uint64_t most) {
  INDRA_LET(const Attr found, resolve_path(view, path));
  if (S_ISDIR(found.mode)) return fail(EISDIR, std::string{path});
  INDRA_LET(const Handle h, view.open(who, found.node, O_RDONLY));
  const auto read = [&]() -> Result<Bytes> {
    INDRA_LET(const Attr now, view.getattr(found.node));
    if (now.size > most) return fail(EFBIG, std::string{path});
    Bytes bytes(now.size);
    std::size_t n = 0;
    while (n < bytes.size()) {
      INDRA_LET(const std::size_t got, view.read(h, n, MutableBytes{bytes}.subspan(n)));
      if (got == 0) break;
      n += got;
    }
    bytes.resize(n);
    return bytes;
  };
  auto bytes = read();
  view.release(h);
  return bytes;
}

Result<Attr> write_file(FileSystem& fs, View& view, const Caller& who, std::string_view path,
                        ByteView bytes) {
  INDRA_LET(const PathParent at, resolve_parent(view, path));
  INDRA_LET(const auto incoming, fs.incoming(view, at.parent, at.name));
  INDRA_TRY(incoming->write(0, bytes));
  return incoming->commit(who, {});
}

}  // namespace indra
