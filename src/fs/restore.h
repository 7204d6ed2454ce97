// Going back, and bringing back: one transaction, seen at once on mounts. What was there before stays a
// version.
//
// Threads:  any. Durable: with the next barrier.
// Errors:   ENOENT, EEXIST, EROFS (a protected branch), ENOSPC; then nothing was changed.
// Source:   docs/branches.md (U1..).
#pragma once
#include "fs/history.h"
#include "merge/plan.h"
#include "tree/deleted.h"

namespace indra {

struct RestoreRequest {
  std::string branch = "main";  ///< where to
  Moment from;                  ///< of this or another branch
  std::string path;
  std::string to;  ///< not empty: a copy there, where nothing is
  bool dry_run = false;
};
struct Restored {
  std::vector<MergeStep> steps;  ///< what was done; empty: it was so already
  Seq before;                    ///< the moment that shows what was there before
};
[[nodiscard]] Result<Restored> restore(FileSystem&, const Who&, std::string_view bucket,
                                       const RestoreRequest&);

struct DeletedPath {
  Deleted what;
  std::string path;
};
/// Newest first: what was deleted at `path` or below it, of directories that are there.
[[nodiscard]] Result<std::vector<DeletedPath>> deleted_below(FileSystem&, std::string_view bucket,
                                                             std::string_view branch, std::string_view path,
                                                             std::size_t limit);
struct UndeleteRequest {
  std::string branch = "main";
  std::string path;  ///< the last that was deleted there
  NodeId node;       ///< or this one
  std::string to;    ///< not empty: there instead
  bool dry_run = false;
};
[[nodiscard]] Result<Restored> undelete(FileSystem&, const Who&, std::string_view bucket,
                                        const UndeleteRequest&);

}  // namespace indra
