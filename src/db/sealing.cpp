// A file of a format in which pages could be without checksum is brought to where none is (V3).
#include <cerrno>

#include "db/vfs.h"
#include "db/writer.h"

namespace indra {

// A format before V3. Its WAL may hold pages without checksum, and whoever opens the file next would move
// them there: so it goes first, and is gone. A kill anywhere in this leaves the old format, and all is done
// again.
Result<void> Writer::seal() {
  const auto checkpoint = [&](int mode) INDRA_REQUIRES(mutex_) -> Result<void> {
    int log = 0, moved = 0;
    const int rc = sqlite3_wal_checkpoint_v2(db_->raw(), "main", mode, &log, &moved);
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
      return sqlite_failure(db_->raw(), rc, "checkpoint " + path_);
    if (rc == SQLITE_OK && log == moved) return {};
    return fail(EBUSY,
                path_ + " has an older format, and somebody reads it: it cannot be brought forward now");
  };
  INDRA_TRY(checkpoint(SQLITE_CHECKPOINT_PASSIVE));
  INDRA_TRY(mark_.clear());  // before the WAL may go (K4)
  INDRA_TRY(checkpoint(SQLITE_CHECKPOINT_TRUNCATE));
  if (const int rc = seal_pages(db_->raw()); rc != SQLITE_OK)
    return sqlite_failure(nullptr, rc, "seal the pages of " + path_);
  expect_unsealed(db_->raw(), false);
  return {};
}

}  // namespace indra
