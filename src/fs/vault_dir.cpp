#include "fs/vault_dir.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <utility>

#include "base/log.h"
#include "base/owned.h"
#include "fs/overlay.h"

namespace indra {
namespace {

constexpr long kNfs = 0x6969, kSmb2 = 0xFE534D42, kCifs = 0xFF534D42, kFuse = 0x65735546,
               kOverlay = 0x794C7630;

constexpr const char* kOwnersRights = " (the vault's owner must be able to read and write it)";

/// Where SQLite's locks and shared memory, or our own promises, do not hold.
Result<void> check_file_system(const std::string& where, const std::string& dir) {
  struct statfs s {};
  if (::statfs(where.c_str(), &s) != 0) return fail(errno, "vault " + dir);
  switch (static_cast<long>(s.f_type)) {
    case kNfs:
    case kSmb2:
    case kCifs:
      return fail(ENOTSUP, "vault " + dir +
                               " lies on a network file system, where locks and syncs cannot be trusted; "
                               "choose a local directory with --vault");
    case kFuse:
      return fail(
          ENOTSUP,
          "vault " + dir +
              " lies inside a FUSE mount (perhaps its own); choose a directory on a local disk with --vault");
    case kOverlay:
      log::warn("vault {} lies on an overlay file system: it works in its upper layer, and goes with it",
                dir);
      break;
    default:
      break;
  }
  return {};
}

/// SQLite would say of what it may not open that it is not there.
Result<void> check_rights(const std::string& path) {
  for (const char* name : {"", "/vault.db", "/vault.db-wal", "/vault.db-shm", "/vault.db-mark", "/segments"})
    if (const std::string at = path + name; ::access(at.c_str(), R_OK | W_OK) != 0 && errno != ENOENT)
      return fail(errno, "vault " + path + ": " + at + kOwnersRights);
  return {};
}

/// Nothing in a vault is ever a link: one that is there was planted, or is a mistake that would put a part of
/// the vault where no rule of ours holds.
Result<void> refuse_links(const std::string& dir) {
  for (const char* name :
       {"vault.db", "vault.db-wal", "vault.db-shm", "vault.db-mark", "vault.db-journal", "coord.db",
        "coord.db-wal", "coord.db-shm", "coord.db-knock", "coord.db-journal", "segments", "identity.key",
        "lock", "knock", "control.sock", "daemon.log", "restoring"}) {
    const std::string path = dir + "/" + name;
    struct stat st {};
    if (::lstat(path.c_str(), &st) == 0 && S_ISLNK(st.st_mode))
      return fail(ELOOP,
                  path +
                      " is a symbolic link, which no file of a vault is; remove it, or name the vault that "
                      "it leads to");
  }
  return {};
}

Result<void> sync_names_in(const std::string& dir) {
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail(errno, "open " + dir);
  const int err = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (err != 0 && err != EINVAL) return fail(err, "sync " + dir);
  return {};
}

std::string pid_in(int fd) {
  std::array<char, 32> buf{};
  const ssize_t n = ::pread(fd, buf.data(), buf.size() - 1, 0);
  std::string s{buf.data(), n > 0 ? static_cast<std::size_t>(n) : 0};
  while (!s.empty() && (s.back() == '\n' || s.back() == '\0')) s.pop_back();
  return s.empty() ? "unknown" : s;
}

Result<int> take(const std::string& vault, const std::string& lock, int flags) {
  const int fd = open_owned(lock, flags);
  if (fd < 0) return fail(errno, "open " + lock);
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  const int err = errno;
  const std::string owner = pid_in(fd);
  ::close(fd);
  if (err == EWOULDBLOCK) return fail(EWOULDBLOCK, "vault " + vault + " is in use by process " + owner);
  return fail(err, "lock " + lock);
}

}  // namespace

Result<VaultDir> VaultDir::open(const std::string& dir, bool create, Disk& disk) {
  std::string path = dir;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (create && ::access(path.c_str(), F_OK) != 0) {
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    INDRA_TRY(check_file_system(parent, path));  // before anything is made there
    std::array<char, PATH_MAX> real{};
    if (::realpath(parent.c_str(), real.data()) != nullptr)
      INDRA_TRY(overlay_place(mountinfo(), real.data()));
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
      return fail(errno, "make the vault directory " + path);
    // Else a power cut could take the whole new vault (D1), or a directory above it that is as new.
    INDRA_TRY(sync_names_in(parent));
    for (std::size_t i = parent.find('/'); i != std::string::npos && i + 1 < parent.size();
         i = parent.find('/', i + 1))
      (void)sync_names_in(parent.substr(0, i + 1));
  }
  std::array<char, PATH_MAX> real{};
  if (::realpath(path.c_str(), real.data()) == nullptr)
    return errno == ENOENT
               ? fail(ENOENT, path + " does not exist; make a vault there with: indrafs init " + path)
               : fail(errno, "vault " + path);
  path = real.data();
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return fail(errno, "vault " + path);
  if (!S_ISDIR(st.st_mode)) return fail(ENOTDIR, "vault " + path);
  if (::access(path.c_str(), R_OK | W_OK | X_OK) != 0) return fail(errno, "vault " + path + kOwnersRights);
  const auto mounts = mountinfo();
  INDRA_LET(const OverlayPlace place, overlay_place(mounts, path));
  INDRA_TRY(check_layers(path, place));
  INDRA_TRY(check_file_system(path, path));
  INDRA_TRY(refuse_links(path));
  INDRA_TRY(check_rights(path));
  const std::string lock_path = path + "/lock";
  const bool is_vault = disk.exists(path + "/vault.db");
  if (!create && !is_vault)
    return fail(ENOENT, path + " holds no vault; make one with: indrafs init " + path);
  VaultDir vault{disk, std::move(path)};
  INDRA_LET(vault.lock_, take(vault.path_, lock_path, O_RDWR | O_CREAT));
  // An overlay has a lock of its own for the same file: whoever came past it holds the one below.
  if (!place.upper.empty()) {
    INDRA_LET(vault.lock_below_, take(vault.path_, place.upper + "/lock", O_RDWR));
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(vault.lock_, 0) != 0 ||
      ::pwrite(vault.lock_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size()))
    log::debug("cannot write the process id into {}", lock_path);
  return vault;
}

VaultDir::VaultDir(VaultDir&& o) noexcept
    : disk_{o.disk_},
      path_{std::move(o.path_)},
      lock_{std::exchange(o.lock_, -1)},
      lock_below_{std::exchange(o.lock_below_, -1)} {}

VaultDir::~VaultDir() {
  if (lock_below_ >= 0) ::close(lock_below_);
  if (lock_ >= 0) ::close(lock_);
}

bool VaultDir::has_db() const { return disk_->exists(db_path()); }

Result<VaultDir::Identity> VaultDir::identity(bool create) const {
  if (sodium_init() < 0) return fail(EIO, "libsodium");
  const std::string path = path_ + "/identity.key";
  std::array<unsigned char, crypto_sign_SECRETKEYBYTES> secret{};
  std::array<unsigned char, crypto_sign_PUBLICKEYBYTES> open_key{};
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 && errno == ENOENT && create) {
    crypto_sign_keypair(open_key.data(), secret.data());
    const std::string temp = path + ".new";
    ::unlink(temp.c_str());
    fd = open_owned(temp, O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0) return fail(errno, "make " + temp);
    const bool ok =
        ::write(fd, secret.data(), secret.size()) == static_cast<ssize_t>(secret.size()) && ::fsync(fd) == 0;
    const int err = errno;
    ::close(fd);
    if (!ok || ::rename(temp.c_str(), path.c_str()) != 0) return fail(ok ? errno : err, "write " + path);
    INDRA_TRY(sync_names_in(path_));
  } else {
    if (fd < 0) return fail(errno, "open " + path);
    const ssize_t n = ::read(fd, secret.data(), secret.size());
    ::close(fd);
    if (n != static_cast<ssize_t>(secret.size()))
      return fail(make_error_code(Errc::bad_format), path + " is not a key");
    crypto_sign_ed25519_sk_to_pk(open_key.data(), secret.data());
  }
  sodium_memzero(secret.data(), secret.size());
  return Identity{to_hex(std::as_bytes(std::span{open_key}))};
}

}  // namespace indra
