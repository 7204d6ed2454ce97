// What a merge would do: computed from rows alone, printed by --dry-run, carried out by apply.h.
//
// A merge takes what SOURCE changed since the base, item by item, to TARGET: content, name, place, mode,
// owner and attributes each on its own. Both are compared by lines and nodes, so what TARGET renamed or moved
// meanwhile is found again.
//
// Cost:     follows what SOURCE changed since the base; TARGET is asked only about that. Its own changes are
//           listed once if a line of it is nowhere to be found.
// Threads:  only reads, in the Tx it is given.
// Errors:   EXDEV when the views have nothing in common.
// Source:   docs/branches.md (G1..).
#pragma once
#include <compare>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tree/diff.h"
#include "tree/tree.h"

namespace indra {

/// Bytes of a file at a moment: a blob may be rewritten in place, so its row says which bytes are meant.
struct TextVersion {
  BlobId blob;
  Seq seq;
  TimeNs ctime = 0;
  std::uint64_t size = 0;
  auto operator<=>(const TextVersion&) const = default;
};
/// Three versions of one file whose rows do not say what becomes of them.
struct TextKey {
  std::optional<TextVersion> base;  ///< absent: both sides added the file
  TextVersion target, source;
  auto operator<=>(const TextKey&) const = default;
};
/// What the bytes say. `merged` and `marked` are new bytes, which the caller keeps.
enum class TextVerdict {
  same,     ///< both sides have the same bytes
  target,   ///< the source did not change them
  source,   ///< the target did not change them
  merged,   ///< both did, in different places
  marked,   ///< both did, in one place, and the caller has the text with markers
  overlap,  ///< both did, in one place or in bytes that are no text
};
using TextVerdicts = std::map<TextKey, TextVerdict>;

struct MergePolicy {
  std::vector<std::string> ours, theirs;  ///< patterns of paths (fnmatch): whose version a conflict takes
  std::vector<std::string> only;          ///< cherry-pick: these paths and what lies below; empty: all
  std::string label;                      ///< of the source, for names of second versions
  std::string date;                       ///< likewise
  /// For a follower (O1..): wherever both changed one thing the target's own stands, silently. Nothing of the
  /// target goes, nothing gets a second name, and what it deleted or hides stays so.
  bool own_wins = false;
  std::function<bool(NodeId)> busy;  ///< with own_wins: the target's file is being written
  /// For a base that is put together of several (G1): a conflict becomes what neither side has.
  bool for_base = false;
};

struct MergeConflict {
  enum class Kind {
    content,        ///< both changed the bytes, in one place
    added,          ///< both added something of that name
    deleted_there,  ///< the target deleted what the source changed
    deleted_here,   ///< the source deleted what the target changed
    place,          ///< both moved or renamed it, differently
    cycle,          ///< each put one directory into the other
    mode,
    owner,
    xattr,
    directory,  ///< the source deleted a directory in which something stays
  } kind;
  enum class Outcome { target, source, both, markers } outcome;
  std::string path;    ///< in the source; where it is not there, in the base
  std::string second;  ///< `both`: the name of the source's version, beside the target's
  std::string detail;  ///< the attribute's name; where it lies in the target instead
};
[[nodiscard]] const char* conflict_name(MergeConflict::Kind);
[[nodiscard]] const char* outcome_name(MergeConflict::Outcome);

/// One thing to do in the target. Parents are nodes of the target, or of the source where a step adds them.
struct MergeStep {
  enum class Kind {
    remove,  ///< the name `at`
    move,    ///< `node` from `at` to `to`
    add,     ///< `row` as it is in the source, as `to`
    link,    ///< another name `to` for `node`
    change,  ///< of `node`, whose name is `at`: what is set below
    follow,  ///< `at` is another name of `node`: of its successor, if its change gives it one
  } kind{};
  std::string path;  ///< for people: in the source, or else in the base
  NodeId node;       ///< in the target; `link`: may be one that is added
  Tree::At at, to;
  bool of_added = false;              ///< link: `node` is one that this plan adds
  NodeRow row;                        ///< add
  bool second = false;                ///< add: a line of its own
  std::optional<NodeRow> content;     ///< change: bytes (or target of a symlink) of this row of the source
  std::optional<TextKey> text;        ///< or these merged ones
  std::optional<std::uint32_t> mode;  ///< permission bits
  std::optional<std::uint32_t> uid, gid;
  std::optional<std::uint32_t> flags;
  std::map<std::string, std::optional<Bytes>> xattrs;
};
[[nodiscard]] const char* step_name(MergeStep::Kind);

struct MergePlan {
  std::vector<MergeStep> steps;
  std::vector<MergeConflict> conflicts;
  std::size_t changes = 0;    ///< how many names the source changed
  Tree::Kept kept;            ///< own_wins: what the target keeps of its own, by nodes of the source
  std::set<TextKey> unknown;  ///< not empty: to be asked first; the plan is then not whole
};

struct MergeViews {
  Chain base, target, source;
  NodeId root;
  /// Of the base's nodes: where it does not say who changed what, because the source is a follower that kept
  /// its own (Tree::kept_own).
  Tree::Kept kept;
};
[[nodiscard]] Result<MergePlan> plan_merge(Tx&, Tree&, ContentStore&, const MergeViews&, const TextVerdicts&,
                                           const MergePolicy&);

}  // namespace indra
