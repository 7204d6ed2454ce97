#include "base/mountinfo.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace indra {
namespace {

std::string unescaped(std::string_view s) {  // \040 for a blank, and so on
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    const auto octal = [&](std::size_t k) { return i + k < s.size() && s[i + k] >= '0' && s[i + k] <= '7'; };
    if (s[i] == '\\' && octal(1) && octal(2) && octal(3)) {
      out += static_cast<char>((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 + (s[i + 3] - '0'));
      i += 3;
    } else {
      out += s[i];
    }
  }
  return out;
}

}  // namespace

std::vector<MountInfo> parse_mountinfo(std::string_view text) {
  std::vector<MountInfo> mounts;
  std::istringstream lines{std::string{text}};
  for (std::string line; std::getline(lines, line);) {
    // id parent major:minor root mountpoint options [tags...] - type source super-options
    std::istringstream in{line};
    std::vector<std::string> words;
    for (std::string w; in >> w;) words.push_back(w);
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 6 || words.end() - dash < 3) continue;
    MountInfo m{unescaped(words[4]), unescaped(words[3]), words[2], *(dash + 1), unescaped(*(dash + 2))};
    if (words.end() - dash > 3) {
      std::istringstream options{*(dash + 3)};
      for (std::string one; std::getline(options, one, ',');) m.super.push_back(unescaped(one));
    }
    mounts.push_back(std::move(m));
  }
  return mounts;
}

std::vector<MountInfo> mountinfo() {
  std::ifstream f{"/proc/self/mountinfo"};
  std::stringstream text;
  text << f.rdbuf();
  return parse_mountinfo(text.str());
}

bool lies_below(std::string_view path, std::string_view dir) {
  if (dir == "/") return true;
  return path.starts_with(dir) && (path.size() == dir.size() || path[dir.size()] == '/');
}

const MountInfo* mount_of(const std::vector<MountInfo>& mounts, std::string_view path) {
  const MountInfo* best = nullptr;
  for (const MountInfo& m : mounts)
    if (lies_below(path, m.mountpoint) && (best == nullptr || m.mountpoint.size() >= best->mountpoint.size()))
      best = &m;
  return best;
}

}  // namespace indra
