// The directory of a vault: owned by one process at a time, refused where it could not keep its promises.
#pragma once
#include <string>

#include "base/disk.h"
#include "base/result.h"

namespace indra {

/// A file of this name: a restore of the vault is under way, or was cut off (docs/design/backup.md, R7).
inline constexpr const char* kRestoring = "restoring";

/// Owns VAULT/lock while it lives. Moves only.
class VaultDir {
 public:
  struct Identity {
    std::string player;  ///< public key, 64 hex digits
  };
  /// Checks the file system, makes the directory when `create`, takes the lock.
  /// Errors: EWOULDBLOCK (owned by another process: the text gives its pid), ENOTSUP (NFS, an indrafs mount,
  /// a layer of an overlay), EACCES (the text names what may not be read and written), ENOENT.
  [[nodiscard]] static Result<VaultDir> open(const std::string& dir, bool create, Disk&);
  VaultDir(VaultDir&&) noexcept;
  VaultDir& operator=(VaultDir&&) = delete;
  ~VaultDir();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string db_path() const { return path_ + "/vault.db"; }
  [[nodiscard]] std::string segments_path() const { return path_ + "/segments"; }
  [[nodiscard]] bool has_db() const;
  /// Reads VAULT/identity.key, or makes it (Ed25519, mode 0600).
  [[nodiscard]] Result<Identity> identity(bool create) const;

 private:
  VaultDir(Disk& disk, std::string path) : disk_{&disk}, path_{std::move(path)} {}
  Disk* disk_;  // of vault.db and the segments; the rest is always the machine's
  std::string path_;
  int lock_ = -1;
  int lock_below_ = -1;  // of an overlay's upper layer
};

}  // namespace indra
