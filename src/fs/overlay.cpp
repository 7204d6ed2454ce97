#include "fs/overlay.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>

namespace indra {
namespace {

/// Empty where there is none, or it is not to be seen from here: in a container, or given as a relative path.
std::string upper_of(const MountInfo& m) {
  constexpr std::string_view kOption = "upperdir=";
  for (const std::string& o : m.super) {
    if (!o.starts_with(kOption)) continue;
    const std::string dir = o.substr(kOption.size());
    std::array<char, PATH_MAX> real{};
    if (dir.starts_with('/') && ::realpath(dir.c_str(), real.data()) != nullptr) return real.data();
  }
  return {};
}

bool is_overlay(const MountInfo& m) { return m.type == "overlay"; }

bool missing(const std::string& path) { return ::access(path.c_str(), F_OK) != 0 && errno == ENOENT; }

}  // namespace

Result<OverlayPlace> overlay_place(const std::vector<MountInfo>& mounts, const std::string& path) {
  OverlayPlace p;
  if (const MountInfo* m = mount_of(mounts, path); m != nullptr && is_overlay(*m)) {
    p.mountpoint = m->mountpoint;
    p.upper = upper_of(*m);
    if (p.upper.empty()) return p;
    if (m->root != "/") p.upper += m->root;
    if (m->mountpoint != "/")
      p.upper += path.substr(m->mountpoint.size());
    else if (path != "/")
      p.upper += path;
    return p;
  }
  for (const MountInfo& m : mounts) {
    if (!is_overlay(m)) continue;
    const std::string upper = upper_of(m);
    if (upper.empty() || !lies_below(path, upper)) continue;
    return fail(ENOTSUP, "vault " + path + " lies in the upper layer of the overlay that is mounted at " +
                             m.mountpoint + "; reach it there, or unmount the overlay first");
  }
  return p;
}

Result<void> check_layers(const std::string& vault, const OverlayPlace& p) {
  if (p.upper.empty()) return {};
  std::vector<std::string> names{"/vault.db"};
  std::error_code none;
  for (const auto& e : std::filesystem::directory_iterator{vault + "/segments", none})
    names.push_back("/segments/" + e.path().filename().string());
  for (const std::string& name : names)
    if (!missing(vault + name) && missing(p.upper + name) &&
        !missing(vault + name))  // its owner may remove it
      return fail(ENOTSUP, "vault " + vault + " comes from a lower layer of the overlay at " + p.mountpoint +
                               ", where it is not ours to change; use it where it lies, or a copy of it");
  return {};
}

}  // namespace indra
