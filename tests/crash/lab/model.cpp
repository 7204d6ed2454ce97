#include "lab/model.h"

#include <functional>

namespace indra::lab {

TextPtr text(Bytes bytes) {
  auto t = std::make_shared<Text>();
  t->bytes = std::move(bytes);
  std::uint64_t h = t->bytes.size();
  std::size_t i = 0;
  const auto mix = [&](std::uint64_t w) {
    h = std::rotl(h ^ (w * 0x9E3779B185EBCA87ull), 29) * 0xC2B2AE3D27D4EB4Full;
  };
  for (; i + 8 <= t->bytes.size(); i += 8) mix(load_le<std::uint64_t>(t->bytes.data() + i));
  for (; i < t->bytes.size(); ++i) mix(static_cast<std::uint64_t>(t->bytes[i]));
  t->hash = h;
  return t;
}

bool Tree::find(const std::string& path, int& node) const {
  node = 0;
  std::size_t at = 1;
  while (at < path.size()) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const auto it = nodes.find(node);
    if (it == nodes.end() || it->second.kind != 'd') return false;
    const auto name = it->second.names.find(path.substr(at, end - at));
    if (name == it->second.names.end()) return false;
    node = name->second;
    at = end + 1;
  }
  return true;
}

int Tree::links(int node) const {
  int n = 0;
  for (const auto& [id, dir] : nodes)
    for (const auto& [name, child] : dir.names) n += child == node ? 1 : 0;
  return n;
}

bool Tree::inside(int node, int dir) const {
  if (node == dir) return true;
  const auto it = nodes.find(dir);
  if (it == nodes.end()) return false;
  for (const auto& [name, child] : it->second.names)
    if (inside(node, child)) return true;
  return false;
}

std::string line_of(const Node& n) {
  std::string s{n.kind};
  char mode[8];
  std::snprintf(mode, sizeof mode, " %04o", n.mode);
  s += mode;
  if (n.kind == 'l') s += " -> " + n.target;
  if (n.kind == 'f')
    s += n.kept && !n.kept->bytes.empty()
             ? " " + std::to_string(n.kept->bytes.size()) + " bytes, hash " + std::to_string(n.kept->hash)
             : " empty";
  for (const auto& [name, value] : n.xattrs) s += " " + name + "=" + value;
  return s;
}

Tree& World::edit(const std::string& branch) {
  auto copy = std::make_shared<Tree>(*branches.at(branch));
  Tree& t = *copy;
  branches[branch] = std::move(copy);
  return t;
}

Listing World::listing() const {
  Listing out;
  const auto add = [&](const std::string& where, const Tree& t) {
    std::map<int, std::string> first;
    std::function<void(int, const std::string&)> walk = [&](int n, const std::string& path) {
      const Node& node = t.nodes.at(n);
      std::string line = line_of(node);
      if (node.kind != 'd') {
        const auto [it, fresh] = first.try_emplace(n, path);
        if (!fresh) line += " same as " + it->second;
      }
      out[where + (path.empty() ? "/" : path)] = line;
      for (const auto& [name, child] : node.names) walk(child, path + "/" + name);
    };
    walk(0, "");
  };
  for (const auto& [name, tree] : branches) add(name + ":", *tree);
  for (const auto& [name, tree] : snapshots) add("@" + name + ":", *tree);
  return out;
}

std::string difference(const Listing& expected, const Listing& found) {
  std::string s;
  int lines = 0;
  const auto say = [&](const std::string& line) {
    if (++lines <= 12) s += "\n    " + line;
  };
  for (const auto& [path, line] : expected) {
    const auto it = found.find(path);
    if (it == found.end())
      say("missing  " + path + "  " + line);
    else if (it->second != line)
      say("differs  " + path + "  expected " + line + ", found " + it->second);
  }
  for (const auto& [path, line] : found)
    if (!expected.contains(path)) say("phantom  " + path + "  " + line);
  return s;
}

}  // namespace indra::lab
