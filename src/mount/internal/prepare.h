// What is looked at before a mount, and the helper of ordinary users.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "mount/options.h"

namespace indra {

/// Looks at the mount point, takes a dead mount away, and returns the absolute path.
/// Errors, each with a context that says what to do: missing, not a directory, not empty, already mounted.
[[nodiscard]] Result<std::string> prepare_mountpoint(const MountOptions&);
/// fusermount3 refuses allow_other unless /etc/fuse.conf has user_allow_other.
[[nodiscard]] bool user_may_allow_other();
/// Takes the mount at `path` away, with the rights this process has.
[[nodiscard]] Result<void> unmount_path(const std::string& path, bool lazy);
/// The type mounted exactly at `path`, empty when none.
[[nodiscard]] std::string mounted_type(const std::string& path);
/// Lets the kernel read further ahead in the mount at `path` than its 128 KiB. Only root may; else nothing
/// happens.
void read_further_ahead(const std::string& path);

struct Ran {
  int status = 0;      ///< exit status, 128 + signal
  std::string errors;  ///< what it wrote to standard error
};
/// Runs fusermount3 and waits. ENOENT when it is not installed.
[[nodiscard]] Result<Ran> run_fusermount(const std::vector<std::string>& args);
/// Starts fusermount3 with `socket` as its descriptor 3 (_FUSE_COMMFD).
[[nodiscard]] Result<pid_t> spawn_fusermount(const std::vector<std::string>& args, int socket, int errors);

}  // namespace indra
