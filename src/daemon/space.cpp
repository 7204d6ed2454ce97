// What a vault holds, what of it could go, and having it go; and what it is told to keep.
#include "daemon/internal/space.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "fs/space.h"

namespace indra {
namespace {

Error no_bucket(Error e) {
  if (e.code == std::errc::no_such_file_or_directory)
    e.context = "there is no " + e.context + "; there is main";
  return e;
}

/// {"older": seconds}
Result<PruneRequest> prune_request(Call& c) {
  PruneRequest r;
  r.bucket = bucket_of(c.request);
  if (!c.request.contains("older")) return r;
  const std::int64_t seconds = int_field(c.request, "older");
  if (seconds < 0 || seconds > INT64_MAX / kSecond / 4) return fail(EINVAL, "older");
  r.older = seconds * kSecond;
  return r;
}

/// json messages {"freed"} until it is done.
Result<std::uint64_t> wait_for(Call& c, Collection& going) {
  for (;;) {
    INDRA_LET(const bool done, collected(c.fs, going));
    if (done) return going.freed;
    Message m;
    m.head = {{"freed", going.freed}};
    INDRA_TRY(c.io.send(std::move(m)));
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
}

}  // namespace

Json stats_json(const FileSystem::Status& s) {
  return {{"vault", s.dir},
          {"vault_id", s.vault_id},
          {"player", s.player},
          {"at_rest", s.at_rest},
          {"failed", s.failed},
          {"single_file", s.single_file},
          {"artifacts",
           {{"total", s.tree.nodes},
            {"trees", s.tree.directories},
            {"leaves", s.tree.files},
            {"symlinks", s.tree.symlinks},
            {"others", s.tree.others}}},
          {"versions", {{"past_rows", s.tree.past_rows}, {"pins", s.tree.pins}, {"changes", s.tree.changes}}},
          {"space",
           {{"logical", s.content.logical},
            {"unique", s.content.unique},
            {"physical", s.physical},
            {"content", s.content.physical},
            {"inline", s.content.inline_bytes},
            {"database", s.database_bytes},
            {"wal", s.wal_bytes}}},
          {"dedup_ratio", s.content.unique == 0 ? 1.0
                                                : static_cast<double>(s.content.logical) /
                                                      static_cast<double>(s.content.unique)},
          {"todo",
           {{"patches", s.content.patches},
            {"dead", s.content.dead},
            {"dirty_bytes", s.dirty_bytes},
            {"wal", s.wal_bytes}}},
          {"blobs", s.content.blobs},
          {"open_files", s.open_files},
          {"damage", s.content.damage},
          {"blocking_reader", s.blocking_reader}};
}

/// Everything `status` tells but the mounts, and what could be given back.
Result<Json> verb_stats(Call& c) {
  INDRA_LET(const FileSystem::Status s, c.fs.status());
  Json j = stats_json(s);
  auto r = reclaimable(c.fs, {.bucket = bucket_of(c.request)});
  if (!r && r.error().code != make_error_code(Errc::corrupt)) return fail(no_bucket(r.error()));
  if (!r) {  // all else is told of a damaged vault too
    j["reclaim"] = {{"error", r.error().text()}};
    return j;
  }
  j["reclaim"] = {{"gc", r->dead},
                  {"prune", r->pruned},
                  {"prune_versions", r->versions},
                  {"automatic", r->all_pruned},
                  {"automatic_versions", r->all_versions},
                  {"unreadable", r->unreadable}};
  return j;
}

/// {"dry_run"}, {"wait"}: where no daemon goes on with it, it waits.
Result<Json> verb_gc(Call& c) {
  if (bool_field(c.request, "dry_run")) {
    INDRA_LET(const auto r, reclaimable(c.fs, {.bucket = "main"}));
    return Json{{"dry_run", true}, {"bytes", r.dead}, {"unreadable", r.unreadable}};
  }
  INDRA_LET(auto going, collect(c.fs));
  const bool wait = bool_field(c.request, "wait") || c.mounts == nullptr;
  if (wait) INDRA_TRY(wait_for(c, going));
  INDRA_LET(const FileSystem::Status s, c.fs.status());
  return Json{{"dry_run", false},
              {"state", wait ? "done" : "running"},
              {"freed", going.freed},
              {"physical", s.physical},
              {"damage", s.content.damage}};
}

/// {"bucket", "older", "dry_run", "wait"}
Result<Json> verb_prune(Call& c) {
  INDRA_LET(const auto request, prune_request(c));
  const auto r = reclaimable(c.fs, request);
  if (!r) return fail(no_bucket(r.error()));
  Json j = {{"bucket", request.bucket},
            {"dry_run", bool_field(c.request, "dry_run")},
            {"versions", r->versions},
            {"bytes", r->pruned},
            {"unreadable", r->unreadable}};
  if (j["dry_run"].get<bool>()) return j;
  INDRA_LET(const std::uint64_t n, prune(c.fs, request));
  j["versions"] = n;
  if (bool_field(c.request, "wait") || c.mounts == nullptr) {
    INDRA_LET(auto going, collect(c.fs));
    INDRA_LET(j["freed"], wait_for(c, going));
  }
  return j;
}

/// {"keep_changes": seconds}, {"versions": bool, "versions_all", "versions_hourly", "versions_daily":
/// seconds} change it; the answer is what holds.
Result<Json> verb_config(Call& c) {
  const auto seconds = [&](const char* key) {
    const std::int64_t n = int_field(c.request, key);
    return n > INT64_MAX / kSecond || n < 0 ? TimeNs{-1} : n * kSecond;
  };
  const std::string bucket = bucket_of(c.request);
  auto before = versions_kept(c.fs, bucket);
  if (!before) return fail(no_bucket(before.error()));
  Retention keep = *before;
  if (c.request.contains("versions")) keep.automatic = bool_field(c.request, "versions");
  for (const auto& [key, age] : {std::pair{"versions_all", &keep.all},
                                 {"versions_hourly", &keep.hourly},
                                 {"versions_daily", &keep.daily}})
    if (c.request.contains(key)) *age = seconds(key);
  if (c.request.contains("keep_changes"))
    INDRA_TRY(c.fs.keep_changes(std::max<TimeNs>(0, seconds("keep_changes"))));
  if (keep != *before) INDRA_TRY(keep_versions(c.fs, bucket, keep));
  INDRA_TRY(c.fs.sync(false));
  return Json{{"keep_changes", c.fs.changes_kept() / kSecond},
              {"versions", keep.automatic},
              {"versions_all", keep.all / kSecond},
              {"versions_hourly", keep.hourly / kSecond},
              {"versions_daily", keep.daily / kSecond}};
}

}  // namespace indra
