// Requests to verbs; the small verbs themselves.
#include "daemon/service.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "base/log.h"
#include "daemon/internal/space.h"

namespace indra {
namespace {

/// Names of this front end in the change feed.
class CliFront final : public FrontEnd {
 public:
  void changed(const Change&) override {}
  [[nodiscard]] std::string_view name() const override { return "cli"; }
};
CliFront cli_front;

Who who(const Call& c) { return {c.caller.uid, c.caller.pid, "indrafs", "cli"}; }

Result<Json> verb_status(Call& c) {
  INDRA_LET(const FileSystem::Status s, c.fs.status());
  Json j = stats_json(s);
  j["daemon"] = c.mounts != nullptr ? Json(static_cast<std::int64_t>(::getpid())) : Json(nullptr);
  INDRA_LET(const FileSystem::Scrub scrub, c.fs.scrub_status());
  j["scrub"] = scrub_json(scrub);
  j["mounts"] = c.mounts != nullptr ? c.mounts->list() : Json::array();
  return j;
}

Result<Json> verb_sync(Call& c) {
  INDRA_TRY(c.fs.sync(bool_field(c.request, "publish")));
  return Json::object();
}

Json branch_json(const BranchInfo& b, const std::map<BranchId, std::string>& names) {
  const auto parent = names.find(b.parent);
  return {{"name", name_to_json(b.name)},
          {"parent", parent != names.end() ? name_to_json(parent->second) : Json(nullptr)},
          {"fork_seq", b.fork_seq.raw()},
          {"created", b.created},
          {"protected", b.protect},
          {"follows", b.follow}};
}

Result<Json> verb_branch_list(Call& c) {
  INDRA_LET(const auto all, c.fs.branches(bucket_of(c.request)));
  std::map<BranchId, std::string> names;
  for (const auto& b : all) names[b.id] = b.name;
  Json rows = Json::array();
  for (const auto& b : all)
    if (!b.hidden) rows.push_back(branch_json(b, names));
  return Json{{"branches", std::move(rows)}};
}

Json snapshot_json(const PinInfo& p, const std::string& branch) {
  return {{"name", name_to_json(p.name)},
          {"branch", name_to_json(branch)},
          {"message", name_to_json(p.message)},
          {"seq", p.seq.raw()},
          {"time", p.time}};
}

Result<Json> verb_snapshot_list(Call& c) {
  INDRA_LET(const auto all, c.fs.snapshots(bucket_of(c.request)));
  INDRA_LET(const auto branches, c.fs.branches(bucket_of(c.request)));
  std::map<BranchId, std::string> names;
  for (const auto& b : branches) names[b.id] = b.name;
  Json rows = Json::array();
  for (const auto& p : all) rows.push_back(snapshot_json(p, names[p.branch]));
  return Json{{"snapshots", std::move(rows)}};
}

Result<Json> verb_snapshot_create(Call& c) {
  const auto name = name_field(c.request, "name"), branch = name_field(c.request, "branch"),
             message = name_field(c.request, "message");
  if (!name) return fail(EINVAL, "snapshot name");
  INDRA_LET(const PinInfo p, c.fs.create_snapshot(who(c), bucket_of(c.request), branch.value_or("main"),
                                                  *name, message.value_or("")));
  return snapshot_json(p, branch.value_or("main"));
}

Result<Json> verb_mount(Call& c) {
  if (c.mounts == nullptr) return fail(ENOTSUP, "mount needs the vault's daemon");
  return c.mounts->mount(c.request);
}

Result<Json> verb_unmount(Call& c) {
  if (c.mounts == nullptr) return fail(EINVAL, "nothing is mounted");
  INDRA_LET(const std::string mountpoint, path_of(c, "mountpoint"));
  INDRA_LET(Json j, c.mounts->unmount(mountpoint, bool_field(c.request, "force")));
  return j;
}

Result<Json> verb_hello(Call& c) {
  INDRA_LET(const FileSystem::Status s, c.fs.status());
  return Json{{"version", INDRA_VERSION},
              {"pid", ::getpid()},
              {"vault", s.dir},
              {"player", s.player},
              {"mounts", c.mounts != nullptr ? c.mounts->list() : Json::array()}};
}

const std::map<std::string_view, Verb> kVerbs = {
    {"hello", verb_hello},
    {"status", verb_status},
    {"sync", verb_sync},
    {"config", verb_config},
    {"list", verb_list},
    {"stat", verb_stat},
    {"get", verb_get},
    {"put", verb_put},
    {"remove", verb_remove},
    {"move", verb_move},
    {"copy", verb_copy},
    {"mount", verb_mount},
    {"unmount", verb_unmount},
    {"branch_list", verb_branch_list},
    {"branch_delete", verb_branch_delete},
    {"branch_rename", verb_branch_rename},
    {"branch_protect", verb_branch_protect},
    {"branch_follow", verb_branch_follow},
    {"branch_refresh", verb_branch_refresh},
    {"merge", verb_merge},
    {"moment", verb_moment},
    {"fsck", verb_fsck},
    {"gc", verb_gc},
    {"prune", verb_prune},
    {"stats", verb_stats},
    {"scrub", verb_scrub},
    {"hold", verb_hold},
    {"pack", verb_pack},
    {"unpack", verb_unpack},
    {"snapshot_delete", verb_snapshot_delete},
    {"branch_create", verb_branch_create},
    {"snapshot_list", verb_snapshot_list},
    {"snapshot_create", verb_snapshot_create},
    {"diff", verb_diff},
    {"log", verb_log},
    {"restore", verb_restore},
    {"deleted", verb_deleted},
    {"undelete", verb_undelete},
};

}  // namespace

Result<void> Service::run(const Json& request, const Caller& caller, Channel& io) {
  const std::string name = text_field(request, "verb");
  const auto it = kVerbs.find(name);
  if (it == kVerbs.end())
    return io.send(error_message({std::make_error_code(std::errc::function_not_supported), "verb " + name}));
  Call call{fs_, mounts_, request, caller, io};
  Result<Json> answer = [&]() -> Result<Json> {
    try {
      return it->second(call);
    } catch (const std::exception& e) {  // a broken invariant ends this request, not the daemon
      log::error("{}: {}", name, e.what());
      return fail(EIO, name + ": " + e.what());
    }
  }();
  // A command that has returned has happened everywhere.
  if (mounts_ != nullptr) mounts_->caught_up();
  if (!answer) return io.send(error_message(answer.error()));
  Message end;
  end.type = FrameType::end;
  end.head = std::move(*answer);
  return io.send(std::move(end));
}

Error explained(Error e) {
  if (e.code != std::errc::no_such_file_or_directory) return e;
  for (const std::string what : {"branch", "snapshot"})
    if (e.context.starts_with(what + " "))
      e.context = "there is no " + e.context + "; `indrafs " + what + " list` shows them";
  return e;
}

Result<std::shared_ptr<View>> view_of(Call& c, bool writing) {
  ViewSpec spec;
  spec.bucket = bucket_of(c.request);
  spec.branch = name_field(c.request, "branch").value_or("main");
  spec.snapshot = name_field(c.request, "snapshot").value_or("");
  spec.live = false;
  spec.read_only = !writing;
  if (writing && !spec.snapshot.empty()) return fail(EROFS, "snapshot " + spec.snapshot);
  INDRA_LET(spec.seq, seq_field(c.request));
  if (writing && spec.seq) return fail(EROFS, "the past cannot be changed");
  auto v = c.fs.open_view(spec, &cli_front);
  if (!v) {
    if (v.error().code == std::errc::no_such_file_or_directory)
      return fail(ENOENT,
                  spec.snapshot.empty()
                      ? "there is no branch " + spec.branch + "; `indrafs branch list` shows them"
                      : "there is no snapshot " + spec.snapshot + "; `indrafs snapshot list` shows them");
    return fail(v.error());
  }
  return v;
}

Result<std::shared_ptr<View>> branch_view(Call& c, const std::string& branch) {
  ViewSpec spec;
  spec.bucket = bucket_of(c.request);
  spec.branch = branch;
  spec.live = false;
  auto v = c.fs.open_view(spec, &cli_front);
  if (!v && v.error().code == std::errc::no_such_file_or_directory)
    return fail(ENOENT, "there is no branch " + branch + "; `indrafs branch list` shows them");
  return v;
}

Result<std::string> path_of(Call& c, const char* key) {
  auto p = name_field(c.request, key);
  if (!p || p->find('\0') != std::string::npos || !p->starts_with('/')) return fail(EINVAL, std::string{key});
  return *p;
}

Result<void> report(Call& c, std::string_view path, const Error& e) {
  Message m = error_message(e);
  m.type = FrameType::json;
  m.head["failed"] = name_to_json(path);
  return c.io.send(std::move(m));
}

}  // namespace indra
