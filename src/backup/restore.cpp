// A vault made of a backup.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "backup/backup.h"
#include "backup/internal/dest.h"
#include "blob/segments.h"
#include "db/db.h"
#include "fs/vault_dir.h"

namespace indra {
namespace {

using namespace backup;

// More numbers than the vault that was lost can have given since its backup.
constexpr std::int64_t kGap = std::int64_t{1} << 32;

Result<void> remove_if_there(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail(errno, "remove " + path);
  return {};
}

class Restore {
 public:
  Restore(Dest& from, const std::string& to, const BackupProgress& progress, const FaultPoints& faults)
      : from_{from}, to_{to}, progress_{progress}, faults_{faults} {}

  Result<RestoreReport> run() {
    const State& s = from_.state();
    report_.number = s.number;
    report_.made = s.made;
    report_.player = to_hex(s.player);
    report_.blocks = s.records.size();
    for (const Record& r : s.records) report_.bytes += r.length;
    INDRA_TRY(clean());
    INDRA_TRY(make_dir(to_ + "/segments"));
    for (std::size_t i = 0; i < s.records.size();) {
      std::size_t end = i;
      while (end < s.records.size() && s.records[end].segment() == s.records[i].segment()) ++end;
      INDRA_TRY(file({s.records.data() + i, end - i}));
      i = end;
    }
    INDRA_TRY(sync_dir(to_ + "/segments"));
    INDRA_TRY(numbers());
    INDRA_TRY(faults_.at("restore.rename"));
    if (::rename((to_ + kTemp).c_str(), (to_ + "/vault.db").c_str()) != 0)
      return fail(errno, to_ + "/vault.db");
    INDRA_TRY(sync_dir(to_));
    INDRA_TRY(remove_if_there(to_ + "/" + kRestoring));
    INDRA_TRY(sync_dir(to_));
    return std::move(report_);
  }

 private:
  static constexpr const char* kTemp = "/vault.db.restoring";

  /// What a restore that was cut off left, and a sign that this one is under way.
  Result<void> clean() {
    INDRA_LET(const auto names, names_in(to_));
    for (const std::string& n : names)
      if (n.starts_with("vault.db") || n.starts_with("coord.db") || n.starts_with("identity.key"))
        INDRA_TRY(remove_if_there(to_ + "/" + n));
    if (std::ranges::find(names, "segments") != names.end()) {
      INDRA_LET(const auto segments, names_in(to_ + "/segments"));
      for (const std::string& n : segments) INDRA_TRY(remove_if_there(to_ + "/segments/" + n));
    }
    const std::string sign = to_ + "/" + kRestoring;
    INDRA_TRY(remove_if_there(sign));
    INDRA_LET(const Fd fd, make_file(sign));
    INDRA_TRY(sync_file(fd, sign));
    return sync_dir(to_);
  }

  /// All blocks of one file.
  Result<void> file(std::span<const Record> records) {
    const std::uint32_t segment = records.front().segment();
    const std::string path = segment == kVaultDb   ? to_ + kTemp
                             : segment == kCoordDb ? to_ + "/coord.db"
                             : segment == kKey     ? to_ + "/identity.key"
                                                   : Segments::path_of(to_ + "/segments", segment);
    INDRA_LET(const Fd fd, make_file(path));
    std::uint64_t end = 0;
    Bytes bytes;
    for (const Record& r : records) {
      const std::uint64_t at = r.is_file() ? std::uint64_t{r.place()} * kBlockMax : r.place();
      if (!r.is_file() && r.place() == 0) end = std::max(end, r.index);
      end = std::max(end, at + r.length);
      bytes.resize(r.length);
      done_ += r.length;
      if (auto got = from_.read(r, bytes); got) {
        INDRA_TRY(write_at(fd, at, bytes, path));
      } else if (segment == kCoordDb && got.error().code == make_error_code(Errc::corrupt)) {
        report_.damage.push_back(got.error().text() + ": the queues are left out");
        return remove_if_there(path);
      } else if (r.is_file() || got.error().code != make_error_code(Errc::corrupt)) {
        return got;  // without its rows there is no vault
      } else if (report_.damage.size() < kDamageTold) {
        report_.damage.push_back(got.error().text());
      }
      INDRA_TRY(faults_.at("restore.block"));
      if (progress_) progress_(done_, report_.bytes);
    }
    if (segment < kFirstFile && ::ftruncate(fd.get(), static_cast<off_t>(end)) != 0)
      return fail(errno, "write " + path);
    return sync_file(fd, path);
  }

  /// No number that the vault gave after this backup is given again (R8).
  Result<void> numbers() {
    const std::string path = to_ + kTemp;
    {
      INDRA_LET(const auto db, Db::open(path, {}));
      INDRA_TRY(
          db->execute("UPDATE counters SET reserved = reserved + " + std::to_string(kGap) + ", clean = 0"));
      INDRA_TRY(db->execute("PRAGMA wal_checkpoint(TRUNCATE)"));
    }
    INDRA_TRY(remove_if_there(path + "-wal"));  // empty, if there at all
    INDRA_TRY(remove_if_there(path + "-shm"));
    INDRA_LET(const Fd fd, open_to_read(path));
    return sync_file(fd, path);
  }

  Dest& from_;
  const std::string& to_;
  const BackupProgress& progress_;
  const FaultPoints& faults_;
  RestoreReport report_;
  std::uint64_t done_ = 0;
};

/// The directory is new, empty, or one that a restore was cut off in.
Result<void> check_target(const std::string& to) {
  struct stat st {};
  if (::lstat(to.c_str(), &st) != 0) return errno == ENOENT ? Result<void>{} : fail(errno, to);
  if (::stat(to.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) return fail(ENOTDIR, to);
  INDRA_LET(const auto names, names_in(to));
  const auto has = [&](std::string_view n) { return std::ranges::find(names, n) != names.end(); };
  if (has("vault.db"))
    return fail(ENOTEMPTY, to + " holds a vault already; name a directory that is new or empty");
  if (has(kRestoring)) return {};
  for (const std::string& n : names)
    if (n != "lost+found" && n != "lock")
      return fail(ENOTEMPTY, to + " is not empty; name a directory that is new or empty");
  return {};
}

}  // namespace

Result<RestoreReport> restore_backup(const std::string& from, const std::string& vault,
                                     const BackupProgress& progress, const FaultPoints& faults) {
  INDRA_LET(Dest d, Dest::open_reading(from));
  INDRA_TRY(check_target(vault));
  INDRA_LET(const VaultDir owned, VaultDir::open(vault, true, real_disk()));
  INDRA_TRY(check_target(owned.path()));  // nobody was faster
  Restore r{d, owned.path(), progress, faults};
  return r.run();
}

}  // namespace indra
