// A command that sees one directory in the place of another, in a mount namespace of its own.
//
// Threads:  the caller must have one thread only.
// Errors:   EPERM when neither root's rights nor a user namespace are to be had: the text says what to do.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"

namespace indra::cli {

struct CoveredCommand {
  std::vector<std::string> argv;
  std::string source, target;     ///< `source` is seen at `target`; both empty: nothing is covered
  std::string directory;          ///< where the command starts
  bool stdout_to_stderr = false;  ///< what it prints goes to standard error
};
/// Runs it and waits. Returns what a shell would call its exit status: 128 + N when a signal ended it, 127
/// when there is no such command, 126 when it cannot be run. Interrupts of the terminal reach the command
/// alone; SIGTERM and SIGHUP are passed on.
[[nodiscard]] Result<int> run_covered(const CoveredCommand&);

}  // namespace indra::cli
