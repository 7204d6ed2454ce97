// A database as a reader sees it now, page by page, while others go on writing: for copies of it elsewhere.
//
// Shapes:   the database file as it would be after a checkpoint of everything the reader sees, in blocks of
//           kCopyBlock bytes (the last one may be shorter).
// Threads:  the connection belongs to the caller, as ever (db.h).
// Errors:   those of reading: Errc::corrupt for a page that does not match its checksum; those of `take`.
// Source:   docs/design/backup.md (R2).
#pragma once
#include <cstdint>
#include <functional>

#include "db/db.h"

namespace indra {

inline constexpr std::size_t kCopyBlock = 64 * 1024;

/// Hands over each block once, with its number, in any order. Inside a transaction of `source`: what that
/// sees; else what is there now. Pages bear their checksum when `source` reserves room for one.
[[nodiscard]] Result<void> copy_database(
    Db& source, const std::function<Result<void>(std::uint32_t block, ByteView)>& take);

}  // namespace indra
