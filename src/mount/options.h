// What a mount is asked to be.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "fs/view.h"

namespace indra {

/// How a branch is laid out below the mount point (docs/design/mount.md, M10).
enum class LayoutKind { vault, plain };

/// Who arbitrates flock and fcntl locks: the kernel, for one mount alone, or this process, for all mounts
/// of the branch.
enum class LockMode { kernel, daemon };

/// `exclusive`: the kernel's writeback cache; only for views that nobody else can write.
enum class CacheMode { write_through, exclusive };

/// Files of MOUNT/.indra. `content` is called at each stat and open, from any thread; what it returns at
/// open is what that open file shows.
struct VirtualFiles {
  std::vector<std::string> names;  ///< of those the layout knows (Layout::known_files())
  std::function<std::string(std::string_view name)> content;
};

/// Who hears of changes made elsewhere by inotify: `watched`: who is seen to watch; `always`: whatever the
/// kernel holds counts as watched (for watchers that /proc does not show, as in containers).
enum class EventMode { off, watched, always };

struct MountOptions {
  std::string mountpoint;
  ViewSpec view;
  LayoutKind layout = LayoutKind::vault;
  bool read_only = false;
  bool allow_other = false;
  bool auto_unmount = false;       ///< unmount when this process dies; done by fusermount3
  bool nonempty = false;           ///< cover a directory that holds something
  bool dev_suid = false;           ///< honour devices and setuid programs (root only)
  std::string fsname = "indrafs";  ///< shown as source in /proc/mounts: the vault's path
  LockMode locks = LockMode::kernel;
  CacheMode cache = CacheMode::write_through;
  unsigned workers = 0;                            ///< at the same time while requests queue up; 0 = three
  unsigned max_workers = 16;                       ///< while operations wait for a disk
  TimeNs spin = 100'000;                           ///< how long a worker asks again before it sleeps
  TimeNs entry_timeout = kSecond * 1'000'000'000;  ///< how long the kernel may keep a name ...
  TimeNs attr_timeout = kSecond * 1'000'000'000;   ///< ... and attributes, unless told of a change
  bool direct_create = false;         ///< files made write-only skip the page cache: one round trip less each
  std::size_t notify_limit = 65'536;  ///< changes that may wait to be told; beyond it all caches are dropped
  EventMode events = EventMode::watched;
  std::size_t event_limit = 16'384;  ///< events that may wait; beyond it one is raised for each directory
  /// Program and first arguments of the process that raises events (mount/raise_program.h). Empty: no events.
  std::vector<std::string> raise_program;
  VirtualFiles files;
};

}  // namespace indra
