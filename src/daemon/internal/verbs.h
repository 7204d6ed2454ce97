// The verbs' functions, and what they share. Each returns the head of its `end` message.
#pragma once
#include <sys/stat.h>

#include <string>
#include <string_view>
#include <vector>

#include "daemon/service.h"

namespace indra {

struct Call {
  FileSystem& fs;
  MountTable* mounts;
  const Json& request;
  Caller caller;
  Channel& io;
};
using Verb = Result<Json> (*)(Call&);

[[nodiscard]] inline std::string bucket_of(const Json& request) {
  return text_field(request, "bucket", "main");
}

Result<Json> verb_list(Call&);  // ls, tree          listing.cpp
Result<Json> verb_stat(Call&);
Result<Json> verb_get(Call&);            // cat, get, export  emit.cpp
Result<Json> verb_put(Call&);            // put, import       ingest.cpp
Result<Json> verb_remove(Call&);         // rm                change.cpp
Result<Json> verb_move(Call&);           // mv
Result<Json> verb_copy(Call&);           // cp
Result<Json> verb_branch_create(Call&);  // branch, snapshot, --at  branches.cpp
Result<Json> verb_branch_delete(Call&);
Result<Json> verb_branch_rename(Call&);
Result<Json> verb_branch_protect(Call&);
Result<Json> verb_branch_follow(Call&);
Result<Json> verb_snapshot_delete(Call&);
Result<Json> verb_moment(Call&);
Result<Json> verb_merge(Call&);  // merge, branch refresh  merging.cpp
Result<Json> verb_branch_refresh(Call&);
Result<Json> verb_diff(Call&);  // diff, log  history.cpp
Result<Json> verb_log(Call&);
Result<Json> verb_fsck(Call&);  // checking.cpp
Result<Json> verb_scrub(Call&);
[[nodiscard]] Json scrub_json(const FileSystem::Scrub&);
Result<Json> verb_pack(Call&);    // emit.cpp
Result<Json> verb_unpack(Call&);  // ingest.cpp
/// A branch for the time of one request, forked from `from` or of nothing: deleted with this, unless it was
/// given a name. What a process that died left goes with the next one.
class WorkBranch {
 public:
  [[nodiscard]] static Result<WorkBranch> make(Call&, const std::string& from);
  WorkBranch(WorkBranch&&) noexcept;
  WorkBranch& operator=(WorkBranch&&) = delete;
  ~WorkBranch();
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] Result<void> rename(const std::string& to);

 private:
  WorkBranch(Call& c, std::string name) : c_{&c}, name_{std::move(name)} {}
  Call* c_;
  std::string name_;
};
Result<Json> verb_hold(Call&);     // for backup  holding.cpp
Result<Json> verb_restore(Call&);  // restore, undelete  restore.cpp
Result<Json> verb_deleted(Call&);
Result<Json> verb_undelete(Call&);

/// Sends rows in bunches.
class Rows {
 public:
  explicit Rows(Channel& io) : io_{io} {}
  Result<void> add(Json row) {
    rows_.push_back(std::move(row));
    return rows_.size() < 128 ? Result<void>{} : flush();
  }
  Result<void> flush() {
    if (rows_.empty()) return {};
    Message m;
    m.head = {{"rows", std::move(rows_)}};
    rows_ = Json::array();
    return io_.send(std::move(m));
  }

 private:
  Channel& io_;
  Json rows_ = Json::array();
};

/// "There is no such branch" or snapshot, with the way out.
[[nodiscard]] Error explained(Error);

struct Moment;
/// {"branch", "snapshot", "at", "fork_point"}
[[nodiscard]] Result<Moment> moment_of(const Json&);

/// The published view that the request names ("bucket", "branch", "snapshot").
[[nodiscard]] Result<std::shared_ptr<View>> view_of(Call&, bool writing);
/// The same of another pair of fields: "to_branch".
[[nodiscard]] Result<std::shared_ptr<View>> branch_view(Call&, const std::string& branch);
[[nodiscard]] Result<std::string> path_of(Call&, const char* key = "path");

struct Found {
  Attr attr;
  std::string path;  ///< canonical: "/a/b", "/" for the root
};
/// Follows symlinks inside the view (relative ones; those that leave it are errors), the last one if
/// `follow`.
[[nodiscard]] Result<Found> find(View&, std::string_view path, bool follow);
/// lookup() that leaves no reference behind. Nothing when there is no such name.
[[nodiscard]] Result<std::optional<Attr>> look(View&, NodeId dir, std::string_view name);
/// The directory `path` lies in (symlinks followed) and its last name.
[[nodiscard]] Result<PathParent> find_parent(View&, std::string_view path);

struct Child {
  std::string name;
  Attr attr;
};
/// All entries of a directory, by name in byte order.
[[nodiscard]] Result<std::vector<Child>> children(View&, NodeId dir);
[[nodiscard]] Json attr_json(const Attr&);
[[nodiscard]] std::string join_path(std::string_view dir, std::string_view name);
/// Tells the other side of an item that failed; the rest goes on.
[[nodiscard]] Result<void> report(Call&, std::string_view path, const Error&);
/// Removes (dir, name) and all below it. Failures are reported; counts what was removed.
[[nodiscard]] Result<void> remove_tree(Call&, View&, NodeId dir, const std::string& name, const Attr&,
                                       const std::string& shown, std::uint64_t& removed,
                                       std::uint64_t& failed, int depth = 1);

/// Ends an open file with its scope.
class HandleGuard {
 public:
  HandleGuard(View& v, Handle h) : view_{v}, handle_{h} {}
  ~HandleGuard() { view_.release(handle_); }
  HandleGuard(const HandleGuard&) = delete;
  HandleGuard& operator=(const HandleGuard&) = delete;
  [[nodiscard]] Handle get() const { return handle_; }

 private:
  View& view_;
  Handle handle_;
};

}  // namespace indra
