// Which vault, and where in it.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <sstream>

#include "base/mountinfo.h"
#include "cli/app.h"

namespace indra::cli {

bool valid_name(std::string_view s) {
  if (s.empty() || s.size() > 200 || s.front() == '.' || s.front() == '-') return false;
  return s.find_first_of(std::string_view{"/:\0", 3}) == std::string_view::npos;
}

std::optional<VaultPath> parse_vault_path(std::string_view argument) {
  const std::size_t colon = argument.find(':');
  if (colon == std::string_view::npos || colon + 1 >= argument.size() || argument[colon + 1] != '/')
    return std::nullopt;
  const std::string_view branch = argument.substr(0, colon);
  if (!branch.empty() && !valid_name(branch)) return std::nullopt;
  VaultPath p{branch.empty() ? "main" : std::string{branch}, {}};
  const std::string_view path = argument.substr(colon + 1);
  for (std::size_t i = 0; i < path.size();) {
    const std::size_t end = std::min(path.find('/', i), path.size());
    const std::string_view part = path.substr(i, end - i);
    if (part == "..") throw Usage{std::string{argument} + ": a path in the vault must not contain '..'"};
    if (!part.empty() && part != ".") p.path.append("/").append(part);
    i = end + 1;
  }
  if (p.path.empty())
    p.path = "/";
  else if (path.ends_with('/'))
    p.path += '/';  // it must be a directory
  return p;
}

namespace {

std::string lexical(const std::string& path) {
  std::string whole = path;
  if (!path.starts_with('/')) {
    std::array<char, PATH_MAX> cwd{};
    whole = std::string{::getcwd(cwd.data(), cwd.size()) != nullptr ? cwd.data() : ""} + "/" + path;
  }
  std::vector<std::string> parts;
  std::istringstream in{whole};
  for (std::string part; std::getline(in, part, '/');) {
    if (part.empty() || part == ".") continue;
    if (part != "..")
      parts.push_back(part);
    else if (!parts.empty())
      parts.pop_back();
  }
  std::string out;
  for (const auto& part : parts) out += "/" + part;
  return out.empty() ? "/" : out;
}

}  // namespace

namespace {
std::vector<HostMount> ours(const std::vector<MountInfo>& all) {
  std::vector<HostMount> mounts;
  for (const MountInfo& m : all)
    if (m.type == "fuse.indrafs") mounts.push_back({m.mountpoint, m.root, m.source, m.device});
  return mounts;
}
}  // namespace

std::vector<HostMount> parse_mountinfo(std::string_view text) { return ours(indra::parse_mountinfo(text)); }
std::vector<HostMount> indrafs_mounts() { return ours(mountinfo()); }

const HostMount* mount_of(const std::vector<HostMount>& mounts, std::string_view path) {
  const HostMount* best = nullptr;
  for (const HostMount& m : mounts)  // of two on one place the later one is on top
    if (lies_below(path, m.mountpoint) && (best == nullptr || m.mountpoint.size() >= best->mountpoint.size()))
      best = &m;
  return best;
}

const HostMount* made_as(const std::vector<HostMount>& mounts, const HostMount& m,
                         const Json& daemons_mounts) {
  for (const Json& row : daemons_mounts) {
    const auto made = name_field(row, "mountpoint");
    // The first at that place: what was put over it later is another one's.
    const auto first =
        std::find_if(mounts.begin(), mounts.end(), [&](const HostMount& x) { return x.mountpoint == made; });
    if (first != mounts.end() && first->device == m.device) return &*first;
  }
  return nullptr;
}

std::string absolute(const std::string& path, bool follow_last) {
  std::array<char, PATH_MAX> real{};
  if (follow_last && ::realpath(path.c_str(), real.data()) != nullptr) return real.data();
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  const std::size_t slash = trimmed.rfind('/');
  const std::string dir = slash == std::string::npos ? "." : slash == 0 ? "/" : trimmed.substr(0, slash);
  const std::string name = trimmed.substr(slash == std::string::npos ? 0 : slash + 1);
  if (name.empty() || name == "." || name == ".." || ::realpath(dir.c_str(), real.data()) == nullptr)
    return lexical(path);
  const std::string parent = real.data();
  return parent == "/" ? parent + name : parent + "/" + name;
}

std::optional<Place> place_in_mount(const Json& mount, std::string_view rest) {
  Place p;
  p.branch = name_field(mount, "branch").value_or("main");
  p.snapshot = name_field(mount, "snapshot").value_or("");
  if (mount.contains("at")) p.at = mount["at"];
  while (rest.starts_with('/')) rest.remove_prefix(1);
  const auto finish = [&](std::string_view path) {
    p.path = "/" + std::string{path};
    return p;
  };
  if (text_field(mount, "layout") == "plain") return finish(rest);
  const auto pop = [&] {
    const std::size_t end = std::min(rest.find('/'), rest.size());
    const std::string part{rest.substr(0, end)};
    rest.remove_prefix(std::min(rest.size(), end + 1));
    return part;
  };
  const std::string top = pop();
  if (top == "vault") return finish(rest);
  if (top != "branches" && top != "snapshots") return std::nullopt;
  const std::string name = pop();
  if (name.empty()) return std::nullopt;
  p.at = nullptr;
  if (top == "branches") {
    p.branch = name;
    p.snapshot.clear();
  } else {
    p.snapshot = name;
  }
  return finish(rest);
}

bool Context::default_vault() const {
  const char* env = std::getenv("INDRAFS_VAULT");
  return vault_option.empty() && (env == nullptr || *env == '\0');
}

std::string Context::vault() const {
  if (!vault_option.empty()) return absolute(vault_option, true);
  if (const char* env = std::getenv("INDRAFS_VAULT"); env != nullptr && *env != '\0')
    return absolute(env, true);
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data == '/')
    return std::string{data} + "/indrafs/default";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/')
    throw Usage{"there is no home directory to hold the default vault; say --vault DIR"};
  return std::string{home} + "/.local/share/indrafs/default";
}

Json Place::request(const char* verb) const {
  Json r = {{"verb", verb},
            {"branch", name_to_json(branch)},
            {"snapshot", name_to_json(snapshot)},
            {"path", name_to_json(path)}};
  if (!at.is_null()) r["at"] = at;
  return r;
}

Place Context::place(const std::string& argument) const {
  if (const auto p = parse_vault_path(argument)) {
    Place place;
    place.vault = vault();
    place.branch = p->branch;
    place.path = p->path;
    place.shown = argument;
    return place;
  }
  const auto mounts = indrafs_mounts();
  const std::string path = absolute(argument, false);
  // The last name may be a link that leads into a mount.
  const HostMount* m = mount_of(mounts, path);
  if (m == nullptr)
    throw Usage{argument + " is neither a path in the vault ([BRANCH]:/PATH) nor inside an indrafs mount"};
  for (const std::string& vault_dir : {m->source, vault()}) {
    if (!vault_dir.starts_with('/')) continue;
    auto daemon = Client::daemon(vault_dir);
    if (!daemon) continue;
    const auto hello = (*daemon)->call({{"verb", "hello"}});
    if (!hello || !hello->contains("mounts")) continue;
    const HostMount* made = made_as(mounts, *m, (*hello)["mounts"]);
    if (made == nullptr) continue;
    for (const Json& row : (*hello)["mounts"]) {
      if (name_field(row, "mountpoint") != made->mountpoint) continue;
      std::string rest = m->root == "/" ? "" : m->root;
      rest += path.substr(m->mountpoint == "/" ? 0 : m->mountpoint.size());
      auto place = place_in_mount(row, rest);
      if (!place)
        throw Usage{argument + " belongs to the mount itself, not to a branch; look below " + m->mountpoint +
                    "/vault"};
      place->vault = vault_dir;
      place->shown = argument;
      return *place;
    }
  }
  throw Usage{argument + ": the daemon of the mount at " + m->mountpoint +
              " does not answer; unmount it and mount it again"};
}

}  // namespace indra::cli
