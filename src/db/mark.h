// What is known about the WAL, kept outside the WAL: so that a damaged or lost one is noticed at open and not
// taken for a short one. PATH-mark, 4096 bytes, two records in turn, mapped: it survives a kill, and may be
// old after a power cut; an old mark claims less, never more.
//
// Threads:  any.
// Durable:  only clear() syncs. Each claim is made after the sync it speaks of.
// Source:   docs/design/db.md (K1..).
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "base/disk.h"
#include "base/result.h"
#include "base/sync.h"
#include "db/vfs.h"

namespace indra {

class Mark {
 public:
  /// Opens or makes the file. What stood in it is read by inspect() before.
  [[nodiscard]] Result<void> open(Disk&, const std::string& path);
  /// A COMMIT begins: what is the last one cannot be said until committed().
  void committing();
  void committed(const WalPosition& last);
  void durable(const WalPosition& upto);
  /// No claim any more: everything is in the database file, and synced. Durable itself.
  [[nodiscard]] Result<void> clear();

  struct Record {
    struct Claim {
      std::uint32_t salt1, salt2, frame, sum1, sum2;  ///< frame 0: no claim
    };
    std::uint64_t magic, turn, boot;
    Claim durable;            ///< holds whatever happens
    std::uint32_t last_page;  ///< of the last commit; 0: none, or unknown
    std::uint64_t last_sum;
    Claim commit;  ///< the last one before now: written, and so there while the machine runs
    std::uint32_t spare;
    std::uint64_t checksum;
  };
  static_assert(sizeof(Record) == 88);
  [[nodiscard]] static std::optional<Record> load(Disk&, const std::string& path);

 private:
  void put() INDRA_REQUIRES(mutex_);

  Mutex mutex_;
  std::unique_ptr<DiskMap> map_ INDRA_GUARDED_BY(mutex_);
  Record now_ INDRA_GUARDED_BY(mutex_){};
};

/// What a database file says before SQLite opens it. Reads only. `vfs`: as in DbOptions.
struct Inspected {
  bool exists = false;  ///< and is not empty
  std::uint32_t application_id = 0;
  std::uint32_t user_version = 0;  ///< of the newest page 1, in the file or in its WAL
  std::uint32_t page_size = 0;
  unsigned spare = 0;  ///< bytes at the end of each page that are not SQLite's: 8, the checksum's place
};
/// Errors: Errc::bad_format when it is not SQLite's; Errc::corrupt when the WAL lost what the mark claims.
[[nodiscard]] Result<Inspected> inspect(const std::string& path, Disk& = real_disk(),
                                        const char* vfs = nullptr);

}  // namespace indra
