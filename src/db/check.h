// Checks of a vault's rows: what a finding is, and the part that knows pages only.
//
// Each module checks the tables of its own schema (blob/check.h, tree/check.h); fsck/ runs them all in one
// read transaction, names the files concerned, and mends.
//
// Threads:  a check runs in the thread that holds the Tx.
// Errors:   findings are no errors. A check that cannot go on (a page that cannot be read) returns one.
// Source:   docs/design/fsck.md (F1..).
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/strong.h"
#include "db/db.h"

namespace indra {

/// One thing that is not as it must be.
struct Finding {
  std::string rule{};        ///< "F8"
  std::string what{};        ///< in plain words, without the path
  BranchId branch{};         ///< what it concerns; 0: nothing of the kind
  NodeId node{};             ///< likewise
  BlobId blob{};             ///< likewise: content, of whichever files
  Seq moment = kSeqMax;      ///< where the node is to be looked for
  std::string name{};        ///< an entry of the directory `node`
  bool last_resort = false;  ///< the mend comes after all others and looks again whether it is needed
  std::string mending{};     ///< what `mend` does, in words
  std::function<Result<bool>(Tx&)>
      mend{};  ///< false: there was no need any more. Absent: cannot be mended without guessing
};

struct Checking {
  std::function<void(Finding)> found;
  /// Told of rows looked at; an error ends the check (whoever asked has gone).
  std::function<Result<void>(std::uint64_t rows)> progress;
  /// The vault was closed in order and nobody has it open: then nothing may be under way.
  bool at_rest = false;

  [[nodiscard]] Result<void> count(std::uint64_t rows = 1) {
    pending_ += rows;
    return pending_ < 1024 ? Result<void>{} : flush();
  }
  [[nodiscard]] Result<void> flush() {
    return progress ? progress(std::exchange(pending_, 0)) : Result<void>{};
  }

 private:
  std::uint64_t pending_ = 0;
};

/// A statement of one use that is no literal: for the mends of a check.
[[nodiscard]] Result<bool> run_once(Tx&, const std::string& sql);

/// SQLite's own check, and with it the checksum of every page in use, in the file or in the WAL (F1).
[[nodiscard]] Result<void> check_pages(Db&, Checking&);

/// Reads the pages of the database file from `page` on (0: the first), at most `pages` of them, and compares
/// each with its checksum, whether it is in use or not; beside live connections. Of the WAL nothing: it is
/// checked when it is read. Nothing in `next`: the file ends.
struct PagesRead {
  std::optional<std::uint32_t> next;
  std::uint64_t bytes = 0;
  std::vector<std::uint32_t> wrong;  ///< numbers, from 1
};
[[nodiscard]] Result<PagesRead> read_pages(const std::string& path, const char* vfs_below, std::uint32_t page,
                                           std::uint32_t pages);

}  // namespace indra
