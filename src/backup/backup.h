// Copies of a vault elsewhere, and a vault made of one.
//
// Shapes:   DEST is a directory: packs of blocks and one file `state` that says where each byte of the vault
//           lies in them (docs/formats/backup-v1.md).
// Threads:  each call does its work in the caller's thread; one backup into a DEST at a time.
// Durable:  when back_up() returns. Before that, whatever happens, DEST holds the backup it held before.
// Errors:   EWOULDBLOCK (DEST is in use), ENOTEMPTY (DEST is no backup, the new vault's place is taken),
// EEXIST
//           (DEST holds another vault's backup), EINVAL (DEST lies in the vault), Errc::corrupt,
//           Errc::newer_format, and the errno of what could not be read or written. Each text names the place
//           and the way out.
// Source:   docs/design/backup.md (R1..).
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "base/fault.h"
#include "base/result.h"
#include "base/time.h"

namespace indra {

/// Told now and then: bytes done, and of how many.
using BackupProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

struct BackupSource {
  std::string vault;                      ///< its directory
  std::function<Result<void>()> hold;     ///< as FileSystem::hold_content()
  std::function<Result<void>()> release;  ///< an error when it was not held all along
};
struct BackupOptions {
  bool verify = false;  ///< read back what DEST has already; what is damaged there is copied again
  std::uint64_t pack_size = 256ull << 20;
  BackupProgress progress{};
  FaultPoints faults{};  ///< "backup.copy", "backup.block", "backup.state", "backup.renamed"
};
inline constexpr std::size_t kDamageTold = 1000;  ///< a report names no more

struct BackupReport {
  std::uint64_t number = 0;                     ///< of this backup in DEST, from 1
  std::uint64_t blocks = 0, bytes = 0;          ///< that it consists of
  std::uint64_t new_blocks = 0, new_bytes = 0;  ///< of those, copied now
  std::uint64_t again = 0;          ///< of those, bytes that DEST had lost, or had among too much waste
  std::vector<std::string> damage;  ///< what of the vault could not be read, and is in no backup either
};
[[nodiscard]] Result<BackupReport> back_up(const BackupSource&, const std::string& dest,
                                           const BackupOptions&);

struct RestoreReport {
  std::uint64_t number = 0, blocks = 0, bytes = 0;
  TimeNs made = 0;
  std::string player;
  std::vector<std::string> damage;  ///< blocks of DEST that do not match: what they were part of reads as EIO
};
/// Makes the vault that the backup in `from` holds, in `vault`: a directory that is not there, or empty, or
/// that a restore was cut off in.
[[nodiscard]] Result<RestoreReport> restore_backup(const std::string& from, const std::string& vault,
                                                   const BackupProgress& = {}, const FaultPoints& = {});

}  // namespace indra
