#include "daemon/items.h"

#include <algorithm>
#include <array>
#include <cerrno>

namespace indra {
namespace {
constexpr std::array kOps{"dir", "file", "symlink", "link", "node", "chunk", "done"};
}

Message to_message(Item i) {
  Message m;
  m.type = FrameType::data;
  Json& j = m.head;
  j["op"] = kOps[static_cast<std::size_t>(i.op)];
  if (i.op == Item::Op::chunk || i.op == Item::Op::done) {
    j["id"] = i.id;
    if (i.op == Item::Op::chunk)
      j["at"] = i.at;
    else
      j["size"] = i.size;
    m.body = std::move(i.body);
    return m;
  }
  j["path"] = name_to_json(i.path);
  if (i.op == Item::Op::symlink || i.op == Item::Op::link) j["target"] = name_to_json(i.target);
  if (i.mode) j["mode"] = *i.mode;
  if (i.uid) j["uid"] = *i.uid;
  if (i.gid) j["gid"] = *i.gid;
  if (i.mtime) j["mtime"] = *i.mtime;
  if (i.atime) j["atime"] = *i.atime;
  if (i.op == Item::Op::file) j["size"] = i.size;
  if (i.op == Item::Op::node) j["rdev"] = i.rdev;
  if (i.more) {
    j["more"] = true;
    j["id"] = i.id;
  }
  for (const auto& [name, value] : i.xattrs)
    j["xattrs"].push_back(Json::array({name_to_json(name), to_hex(as_view(value))}));
  m.body = std::move(i.body);
  return m;
}

Result<Item> to_item(Message m) {
  const Json& j = m.head;
  const std::string op = text_field(j, "op");
  Item i;
  std::size_t k = 0;
  while (k < kOps.size() && op != kOps[k]) ++k;
  if (k == kOps.size()) return fail(EPROTO, "item of unknown kind");
  i.op = static_cast<Item::Op>(k);
  const auto natural = [&](const char* key) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, int_field(j, key)));
  };
  i.id = natural("id");
  i.at = natural("at");
  i.size = natural("size");
  i.rdev = natural("rdev");
  i.more = bool_field(j, "more");
  if (j.contains("mode")) i.mode = static_cast<std::uint32_t>(natural("mode") & 0177777);
  if (j.contains("uid")) i.uid = static_cast<uid_t>(natural("uid"));
  if (j.contains("gid")) i.gid = static_cast<gid_t>(natural("gid"));
  if (j.contains("mtime")) i.mtime = int_field(j, "mtime");
  if (j.contains("atime")) i.atime = int_field(j, "atime");
  if (i.op != Item::Op::chunk && i.op != Item::Op::done) {
    auto path = name_field(j, "path");
    if (!path || !safe_relative(*path)) return fail(EPROTO, "item with an unsafe path");
    i.path = std::move(*path);
  }
  if (i.op == Item::Op::symlink || i.op == Item::Op::link) {
    auto target = name_field(j, "target");
    if (!target || (i.op == Item::Op::link && !safe_relative(*target)))
      return fail(EPROTO, "item with an unsafe target");
    i.target = std::move(*target);
  }
  if (const auto x = j.find("xattrs"); x != j.end() && x->is_array())
    for (const Json& pair : *x) {
      if (!pair.is_array() || pair.size() != 2 || !pair[1].is_string()) continue;
      if (auto name = name_from_json(pair[0]))
        i.xattrs[*name] = as_text(from_hex(pair[1].get<std::string>()));
    }
  i.body = std::move(m.body);
  return i;
}

bool safe_relative(std::string_view path) {
  if (path.empty()) return true;
  if (path.find('\0') != std::string_view::npos) return false;
  if (std::count(path.begin(), path.end(), '/') >= kDeepest) return false;
  for (std::size_t i = 0; i <= path.size();) {
    const std::size_t end = std::min(path.find('/', i), path.size());
    const std::string_view part = path.substr(i, end - i);
    if (part.empty() || part == "." || part == ".." || part.size() > 255) return false;
    i = end + 1;
  }
  return true;
}

}  // namespace indra
