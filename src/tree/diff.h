// What differs between two views of a bucket's tree, and the versions of one line.
//
// Shapes:   a path is absolute in its view. Entries come in the order of paths, that of `b` before that of
// `a`. Cost:     follows what was changed since the two views had the same past; never the size of the tree,
//           or of the directories it lies in. Where the change log no longer goes back so far: one scan.
// Threads:  only reads, in the Tx it is given.
// Errors:   EXDEV when the views have no branch in common.
// Source:   docs/branches.md (F1..).
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tree/tree.h"

namespace indra {

struct DiffEntry {
  struct Side {
    std::string path;
    NodeRow row;
    NodeId parent;  ///< the directory of this very name; 0 for the root
  };
  std::optional<Side> a, b;  ///< absent: it is not there (`b` absent: removed)
  bool moved = false;        ///< its own name or directory changed, not that of a directory above
  bool content = false;      ///< the blob is another one, or a symlink's target, or the type
  bool mode = false, owner = false, xattrs = false;
};

/// `root` is the root of both.
[[nodiscard]] Result<std::vector<DiffEntry>> diff_views(Tx&, const Chain& a, const Chain& b, NodeId root);

struct Version {
  Seq seq;      ///< the mutation that made it
  Seq at;       ///< a kept moment that shows it; kSeqMax: it is what the view shows
  NodeRow row;  ///< as it was made
  Who who;
  std::string op;   ///< what made it; empty when the change log no longer says
  TimeNs time = 0;  ///< when; the file's mtime where the log no longer says
};
/// The kept versions of the line at (parent, name), newest first: those with content of their own, also from
/// when it was called otherwise (F5). ENOENT.
[[nodiscard]] Result<std::vector<Version>> line_versions(Tx&, const Chain&, NodeId parent,
                                                         std::string_view name);

}  // namespace indra
