// The daemon of a vault: owns it while something is mounted, answers commands, ends with the last mount.
//
// Signals:  SIGTERM, SIGINT, SIGHUP: everything is unmounted and committed, and it ends with success.
// Source:   docs/design/daemon.md.
#pragma once
#include <functional>
#include <string>

#include "daemon/wire.h"

namespace indra {

struct DaemonOptions {
  std::string vault;
  bool create = false;  ///< make the vault if there is none
  std::string log_level = "info";
  Json mount;  ///< the first mount: a request as Service takes it
};

/// Opens the vault, mounts and serves until the last mount is gone. `ready` hears once how the start went.
/// Signals must be blocked in the calling thread (block_signals()) before it has made others.
[[nodiscard]] Result<void> run_daemon(const DaemonOptions&,
                                      const std::function<void(const Result<Json>&)>& ready);
void block_signals();

/// Forks a daemon and waits until it is ready; returns what its mount answered. The caller must have one
/// thread only.
[[nodiscard]] Result<Json> start_daemon(const DaemonOptions&);

}  // namespace indra
