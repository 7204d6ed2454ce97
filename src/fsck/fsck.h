// fsck: whether a vault is as its rules say, and the mending of what is not.
//
// Reads rows and the outer form of files, no bytes of files. Beside a daemon it reads one
// committed moment through a connection of its own: nobody waits for it, but the WAL is not reset while it
// runs.
//
// Threads:  run it from any thread; a call uses the caller's alone.
// Durable:  a repair is one transaction, and durable when it returned. Without `repair` nothing is written.
// Errors:   damage is no error, but a finding. EWOULDBLOCK: another process has the vault open.
// Source:   docs/design/fsck.md (F1..).
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace indra {

struct FsckFinding {
  std::string rule;                ///< "F8"
  std::string what;                ///< one line, in plain words, with the places it concerns
  std::string branch;              ///< "branch main", "snapshot v1"; empty where it is of none
  std::vector<std::string> paths;  ///< of files concerned, as far as they can be named
  std::string mending;             ///< how it can be, or was, mended; empty: that would need guessing
  bool mended = false;
};

struct FsckReport {
  std::vector<FsckFinding> findings;  ///< at most `limit`
  std::uint64_t found = 0, mended = 0;
  std::uint64_t rows = 0;  ///< looked at
  [[nodiscard]] bool clean() const { return found == mended; }
};

struct FsckOptions {
  bool in_use = false;  ///< this process, or its daemon, has the vault open: no lock is taken
  bool repair = false;  ///< not with `in_use`: EBUSY
  std::size_t limit = 1000;
  std::function<Result<void>(std::uint64_t rows)> progress;  ///< an error ends the run
};

[[nodiscard]] Result<FsckReport> fsck(const std::string& vault, const FsckOptions&);

}  // namespace indra
