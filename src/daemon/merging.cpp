// merge, branch refresh.
#include <cerrno>

#include "daemon/internal/verbs.h"

namespace indra {
namespace {

std::vector<std::string> texts(const Json& request, const char* key) {
  std::vector<std::string> all;
  const auto it = request.find(key);
  if (it == request.end() || !it->is_array()) return all;
  for (const Json& one : *it)
    if (auto name = name_from_json(one)) all.push_back(std::move(*name));
  return all;
}

Json step_json(const MergeStep& s) {
  Json j = {{"kind", step_name(s.kind)}, {"path", name_to_json(s.path)}};
  if (!s.to.name.empty()) j["name"] = name_to_json(s.to.name);
  if (s.text) j["joined"] = true;
  return j;
}

Json conflict_json(const MergeConflict& c) {
  Json j = {
      {"kind", conflict_name(c.kind)}, {"outcome", outcome_name(c.outcome)}, {"path", name_to_json(c.path)}};
  if (!c.second.empty()) j["second"] = name_to_json(c.second);
  if (!c.detail.empty()) j["attribute"] = name_to_json(c.detail);
  return j;
}

/// Messages {"steps": [...], "conflicts": [...]}, as many as it takes; then {"source", "target", "applied"}.
Result<Json> report(Call& c, const FileSystem::MergeReport& r, const FileSystem::MergeRequest& request) {
  constexpr std::size_t kPathBytes = 32 << 10;  // in one message
  Json some = Json::object();
  std::size_t bytes = 0;
  const auto send = [&]() -> Result<void> {
    Message m{.type = FrameType::data, .head = std::move(some), .body = {}};
    some = Json::object();
    bytes = 0;
    return c.io.send(std::move(m));
  };
  const auto add = [&](const char* key, Json one, std::size_t size) -> Result<void> {
    some[key].push_back(std::move(one));
    bytes += size + 100;
    return bytes < kPathBytes ? Result<void>{} : send();
  };
  for (const MergeStep& s : r.plan.steps)
    if (s.kind != MergeStep::Kind::follow)
      INDRA_TRY(add("steps", step_json(s), s.path.size() + s.to.name.size()));
  for (const MergeConflict& k : r.plan.conflicts)
    INDRA_TRY(add("conflicts", conflict_json(k), k.path.size() + k.second.size() + k.detail.size()));
  if (!some.empty()) INDRA_TRY(send());
  return Json{{"source", name_to_json(request.source)},
              {"target", name_to_json(request.target)},
              {"applied", r.applied}};
}

Result<Json> merge(Call& c, FileSystem::MergeRequest request) {
  request.ours = texts(c.request, "ours");
  request.theirs = texts(c.request, "theirs");
  request.only = texts(c.request, "only");
  request.markers = bool_field(c.request, "markers");
  request.dry_run = bool_field(c.request, "dry_run");
  const Who who{c.caller.uid, c.caller.pid, "indrafs", "cli"};
  const auto done = c.fs.merge(who, text_field(c.request, "bucket", "main"), request);
  if (done) return report(c, *done, request);
  Error e = done.error();
  for (const std::string& name : {request.source, request.target})
    if (e.code == std::errc::no_such_file_or_directory && e.context == "branch " + name)
      e.context = "there is no branch " + name + "; `indrafs branch list` shows them";
  return Failure{std::move(e)};
}

}  // namespace

// {"source", "target", "ours", "theirs", "only", "markers", "dry_run"}
Result<Json> verb_merge(Call& c) {
  FileSystem::MergeRequest request;
  auto source = name_field(c.request, "source");
  if (!source || source->empty()) return fail(EINVAL, "source");
  request.source = std::move(*source);
  request.target = name_field(c.request, "target").value_or("main");
  return merge(c, std::move(request));
}

// {"name", ...}: what its parent got since, taken over by a fork.
Result<Json> verb_branch_refresh(Call& c) {
  FileSystem::MergeRequest request;
  request.target = name_field(c.request, "name").value_or("");
  INDRA_LET(const auto all, c.fs.branches(text_field(c.request, "bucket", "main")));
  const BranchInfo* fork = nullptr;
  for (const BranchInfo& b : all)
    if (b.name == request.target) fork = &b;
  if (fork == nullptr)
    return fail(ENOENT, "there is no branch " + request.target + "; `indrafs branch list` shows them");
  for (const BranchInfo& b : all)
    if (b.id == fork->parent) request.source = b.name;
  if (request.source.empty())
    return fail(EINVAL, fork->parent ? "what branch " + request.target +
                                           " was forked from is deleted; merge another branch into it"
                                     : "branch " + request.target + " was forked from nothing");
  return merge(c, std::move(request));
}

}  // namespace indra
