// What differs between two moments of a bucket, and the versions of a file.
//
// Threads:  any. Errors: ENOENT (no such branch, snapshot, path or moment), EXDEV (nothing in common).
// Source:   docs/branches.md (F1..).
#pragma once
#include "fs/filesystem.h"
#include "tree/diff.h"

namespace indra {

/// One side of a comparison: a branch's head, or a moment of it, or the moment it was forked from.
struct Moment {
  std::string branch = "main", snapshot;
  std::optional<Seq> seq;
  bool fork_point = false;
};

class FileSystemImpl;
/// What a moment shows. ENOENT.
[[nodiscard]] Result<Chain> chain_of_moment(FileSystemImpl&, Tx&, std::string_view bucket, const Moment&);

/// Published versions; a file whose new blob has the same bytes is no change of content. What lies, on either
/// side, at `path` or below it; ENOENT when neither has it.
[[nodiscard]] Result<std::vector<DiffEntry>> diff_moments(FileSystem&, std::string_view bucket,
                                                          const Moment& a, const Moment& b,
                                                          std::string_view path = "/");
/// The bytes of one side of an entry. EFBIG above `most`.
[[nodiscard]] Result<Bytes> content_of(FileSystem&, std::string_view bucket, const NodeRow&,
                                       std::uint64_t most);
/// Newest first. ENOENT, EISDIR.
[[nodiscard]] Result<std::vector<Version>> versions_of(FileSystem&, std::string_view bucket, const Moment&,
                                                       std::string_view path);

}  // namespace indra
