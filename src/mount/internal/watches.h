// Which nodes of a mount somebody watches with inotify or fanotify: read from /proc, which lists each
// process's marks by device and inode number.
//
// Threads: may be called from any thread; takes about a microsecond for each open file of the machine.
#pragma once
#include <cstdint>
#include <unordered_set>

namespace indra {

struct Watches {
  std::unordered_set<std::uint64_t> nodes;  ///< inode numbers
  bool whole = false;                       ///< somebody watches the mount as a whole (fanotify)
  bool hidden = false;                      ///< there are processes whose marks this one may not see
  [[nodiscard]] bool any() const { return whole || !nodes.empty(); }
};

/// `device`: st_dev of the mount.
[[nodiscard]] Watches find_watches(std::uint64_t device);

}  // namespace indra
