// What the verbs do, wherever the vault is open: in its daemon, or in the command's own process.
//
// A request is one json message {"verb": ..., ...}; answers are json messages (rows, failures of single
// items) and data messages (items: files and their bytes), then one `end` or `error`. The items of a put come
// from the caller as data messages, ended by `end`. Threads:  run() may be called from any thread, several at
// once. Source:   docs/design/daemon.md.
#pragma once
#include <functional>

#include "daemon/channel.h"
#include "fs/filesystem.h"

namespace indra {

/// {"at": {"seq": N}}: the moment a request means; nothing for the head. EINVAL for anything else.
[[nodiscard]] Result<std::optional<Seq>> seq_field(const Json& request);

/// What only a daemon has: mounts. All members may be called from any thread.
class MountTable {
 public:
  virtual ~MountTable() = default;
  [[nodiscard]] virtual Result<Json> mount(const Json& request) = 0;
  [[nodiscard]] virtual Result<Json> unmount(const std::string& mountpoint, bool force) = 0;
  /// Returns once every mount shows what changed before the call, or after two seconds.
  virtual void caught_up() = 0;
  [[nodiscard]] virtual Json list() const = 0;  ///< array of {"mountpoint", "branch", "layout", ...}
};

class Service {
 public:
  explicit Service(FileSystem& fs, MountTable* mounts = nullptr) : fs_{fs}, mounts_{mounts} {}
  /// Answers with `end` or `error`; the error returned is the channel's.
  [[nodiscard]] Result<void> run(const Json& request, const Caller&, Channel&);

 private:
  FileSystem& fs_;
  MountTable* mounts_;
};

}  // namespace indra
