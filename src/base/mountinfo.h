// The mounts that this process sees, from /proc/self/mountinfo.
//
// Threads:  free functions, nothing shared.
// Errors:   none: a line that cannot be understood is left out.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace indra {

struct MountInfo {
  std::string mountpoint, root;         ///< root: which directory of the file system is shown there
  std::string device;                   ///< "0:52"
  std::string type, source;             ///< "fuse.indrafs", its fsname
  std::vector<std::string> super = {};  ///< the file system's own options: "upperdir=/a b"
};

/// In the order of the file: of two on one place the later one covers the other.
[[nodiscard]] std::vector<MountInfo> parse_mountinfo(std::string_view text);
[[nodiscard]] std::vector<MountInfo> mountinfo();

/// Whether `path` is `dir` or lies below it. Both absolute, by name.
[[nodiscard]] bool lies_below(std::string_view path, std::string_view dir);
/// The mount that `path` lies in; null: none.
[[nodiscard]] const MountInfo* mount_of(const std::vector<MountInfo>&, std::string_view path);

}  // namespace indra
