// branch create, delete, rename, protect, follow; snapshot delete; where a moment is kept.
#include <sys/random.h>

#include <array>
#include <cerrno>
#include <mutex>
#include <set>

#include "base/log.h"
#include "daemon/internal/verbs.h"

namespace indra {
namespace {

Who who(const Call& c) { return {c.caller.uid, c.caller.pid, "indrafs", "cli"}; }
Result<std::string> required(Call& c, const char* key) {
  auto name = name_field(c.request, key);
  if (!name || name->empty()) return fail(EINVAL, key);
  return *name;
}

Result<void> not_mounted(Call& c, const std::string& branch) {
  if (c.mounts == nullptr) return {};
  for (const Json& m : c.mounts->list())
    if (name_field(m, "branch") == branch && name_field(m, "snapshot").value_or("").empty())
      return fail(EBUSY, "branch " + branch + " is mounted at " + name_field(m, "mountpoint").value_or("?") +
                             "; unmount it first");
  return {};
}

}  // namespace

namespace {
// Of this process, so that one request leaves another's alone. Who owns the vault knows them all.
std::mutex work_mutex;
std::set<std::string> work_names;
constexpr std::string_view kWork = "indra-work-";

void forget(const std::string& name) {
  const std::lock_guard lock{work_mutex};
  work_names.erase(name);
}

bool is_work(std::string_view name) {
  return name.starts_with(kWork) && name.size() == kWork.size() + 16 &&
         name.find_first_not_of("0123456789abcdef", kWork.size()) == std::string_view::npos;
}
}  // namespace

Result<WorkBranch> WorkBranch::make(Call& c, const std::string& from) {
  std::array<std::byte, 8> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
    return fail(errno, "getrandom");
  const std::string name = std::string{kWork} + to_hex(random);
  INDRA_LET(const auto all, c.fs.branches("main"));
  for (const BranchInfo& b : all) {
    if (!is_work(b.name)) continue;
    const std::lock_guard lock{work_mutex};
    if (!work_names.contains(b.name)) (void)c.fs.delete_branch(who(c), "main", b.name);
  }
  {
    const std::lock_guard lock{work_mutex};
    work_names.insert(name);
  }
  auto made =
      c.fs.fork(who(c), "main", name, {.branch = from.empty() ? "main" : from, .empty = from.empty()});
  if (!made) {
    forget(name);
    return fail(made.error());
  }
  return WorkBranch{c, name};
}

WorkBranch::WorkBranch(WorkBranch&& o) noexcept : c_{o.c_}, name_{std::exchange(o.name_, {})} {}

WorkBranch::~WorkBranch() {
  if (name_.empty()) return;
  if (auto r = c_->fs.delete_branch(who(*c_), "main", name_); !r)
    log::warn("branch {}: {}; the next pack or unpack removes it", name_, r.error().text());
  forget(name_);
}

Result<void> WorkBranch::rename(const std::string& to) {
  INDRA_TRY(c_->fs.rename_branch(who(*c_), "main", name_, to));
  forget(name_);
  name_.clear();
  return {};
}

// {"at": {"seq": N}}
Result<std::optional<Seq>> seq_field(const Json& request) {
  const auto at = request.find("at");
  if (at == request.end() || at->is_null()) return std::nullopt;
  if (!at->is_object() || !at->contains("seq") || !(*at)["seq"].is_number_integer())
    return fail(EINVAL, "at");
  return Seq{(*at)["seq"].get<std::int64_t>()};
}

namespace {
Result<void> not_work(std::string_view name) {
  if (!is_work(name)) return {};
  return fail(EINVAL, std::string{name} + " is a name of the vault's own; choose another");
}
}  // namespace

// {"name", "from", "from_snapshot", "at": {"seq"}, "committed", "follow"}
Result<Json> verb_branch_create(Call& c) {
  INDRA_LET(const std::string name, required(c, "name"));
  INDRA_TRY(not_work(name));
  FileSystem::ForkFrom from;
  from.branch = name_field(c.request, "from").value_or("main");
  if (from.branch.empty()) from.branch = "main";
  from.snapshot = name_field(c.request, "from_snapshot").value_or("");
  INDRA_LET(from.seq, seq_field(c.request));
  from.committed = bool_field(c.request, "committed");
  from.follow = bool_field(c.request, "follow");
  const auto made = c.fs.fork(who(c), bucket_of(c.request), name, from);
  if (!made) return Failure{explained(made.error())};
  Json j = {{"name", name_to_json(made->name)},
            {"parent", nullptr},
            {"fork_seq", made->fork_seq.raw()},
            {"created", made->created}};
  INDRA_LET(const auto all, c.fs.branches(bucket_of(c.request)));
  for (const BranchInfo& b : all)
    if (b.id == made->parent) j["parent"] = name_to_json(b.name);
  return j;
}

// {"name"}
Result<Json> verb_branch_delete(Call& c) {
  INDRA_LET(const std::string name, required(c, "name"));
  INDRA_TRY(not_mounted(c, name));
  if (auto r = c.fs.delete_branch(who(c), bucket_of(c.request), name); !r)
    return Failure{explained(r.error())};
  return Json::object();
}

// {"name", "to"}
Result<Json> verb_branch_rename(Call& c) {
  INDRA_LET(const std::string name, required(c, "name"));
  INDRA_LET(const std::string to, required(c, "to"));
  INDRA_TRY(not_work(to));
  INDRA_TRY(not_mounted(c, name));
  if (auto r = c.fs.rename_branch(who(c), bucket_of(c.request), name, to); !r)
    return Failure{explained(r.error())};
  return Json::object();
}

// {"name", "on"}
Result<Json> verb_branch_protect(Call& c) {
  INDRA_LET(const std::string name, required(c, "name"));
  if (auto r = c.fs.protect_branch(who(c), bucket_of(c.request), name, bool_field(c.request, "on")); !r)
    return Failure{explained(r.error())};
  return Json::object();
}

// {"name", "on"}
Result<Json> verb_branch_follow(Call& c) {
  INDRA_LET(const std::string name, required(c, "name"));
  if (auto r = c.fs.follow_branch(who(c), bucket_of(c.request), name, bool_field(c.request, "on")); !r)
    return Failure{explained(r.error())};
  return Json::object();
}

// {"name"}
Result<Json> verb_snapshot_delete(Call& c) {
  INDRA_LET(const std::string name, required(c, "name"));
  if (auto r = c.fs.delete_snapshot(who(c), bucket_of(c.request), name); !r) {
    if (r.error().code == std::errc::no_such_file_or_directory)
      return fail(ENOENT, "there is no snapshot " + name + "; `indrafs snapshot list` shows them");
    return fail(r.error());
  }
  return Json::object();
}

// {"branch", "time" or "seq"}: where that moment is kept.
Result<Json> verb_moment(Call& c) {
  const std::string branch = name_field(c.request, "branch").value_or("main");
  std::optional<Seq> seq;
  std::optional<TimeNs> time;
  if (c.request.contains("seq"))
    seq = Seq{int_field(c.request, "seq")};
  else
    time = int_field(c.request, "time");
  const auto m = c.fs.moment(bucket_of(c.request), branch, seq, time);
  if (!m) {
    Error e = explained(m.error());
    if (e.context == "no moment is kept so early")
      e.context += "; `indrafs snapshot list` shows what is kept by name";
    return Failure{e};
  }
  return Json{{"seq", m->seq.raw()}, {"time", m->time}, {"exact", m->exact}};
}

}  // namespace indra
