// fsck of a vault that is open.
#include "daemon/checking.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "daemon/internal/verbs.h"

namespace indra {

Json fsck_json(const FsckReport& r) {
  Json rows = Json::array();
  for (const FsckFinding& f : r.findings) {
    Json paths = Json::array();
    for (const std::string& p : f.paths) paths.push_back(name_to_json(p));
    rows.push_back({{"rule", f.rule},
                    {"what", name_to_json(f.what)},
                    {"where", name_to_json(f.branch)},
                    {"paths", std::move(paths)},
                    {"mending", f.mending.empty() ? Json(nullptr) : Json(f.mending)},
                    {"mended", f.mended}});
  }
  return {{"clean", r.clean()},
          {"found", r.found},
          {"mended", r.mended},
          {"rows", r.rows},
          {"findings", std::move(rows)}};
}

// {"repair"}: json messages {"rows"} while it goes on.
Result<Json> verb_fsck(Call& c) {
  INDRA_TRY(c.fs.sync(false));  // what was answered is committed
  INDRA_LET(const FileSystem::Status status, c.fs.status());
  FsckOptions o;
  o.in_use = true;
  o.repair = bool_field(c.request, "repair");
  auto told = std::chrono::steady_clock::now();
  o.progress = [&](std::uint64_t rows) -> Result<void> {
    const auto now = std::chrono::steady_clock::now();
    if (now - told < std::chrono::milliseconds{200}) return {};
    told = now;
    Message m;
    m.head = {{"rows", rows}};
    return c.io.send(std::move(m));
  };
  INDRA_LET(const FsckReport report, fsck(status.dir, o));
  return fsck_json(report);
}

Json scrub_json(const FileSystem::Scrub& s) {
  Json damage = Json::array();
  for (const auto& d : s.damage) {
    Json files = Json::array();
    for (const auto& [where, path] : d.files)
      files.push_back({{"where", name_to_json(where)}, {"path", name_to_json(path)}});
    damage.push_back({{"what", d.what}, {"from", d.from}, {"to", d.to}, {"files", std::move(files)}});
  }
  return {{"state", s.running         ? "running"
                    : s.finished != 0 ? "done"
                                      : "never"},
          {"started", s.started},
          {"finished", s.finished},
          {"bytes", s.bytes},
          {"total", s.total},
          {"rate", s.rate},
          {"clean", s.damage.empty()},
          {"damage", std::move(damage)}};
}

// {"do": "start", "again", "rate"}, {"do": "stop"} or {"do": "tell"}; "wait": json messages {"bytes",
// "total"} until it is done. Where no daemon goes on with it, a start waits.
Result<Json> verb_scrub(Call& c) {
  const std::string what = text_field(c.request, "do", "tell");
  bool wait = bool_field(c.request, "wait");
  if (what == "start") {
    INDRA_TRY(c.fs.scrub(static_cast<std::uint64_t>(std::max<std::int64_t>(0, int_field(c.request, "rate"))),
                         bool_field(c.request, "again")));
    wait = wait || c.mounts == nullptr;
  } else if (what == "stop") {
    INDRA_TRY(c.fs.stop_scrub());
  } else if (what != "tell") {
    return fail(EINVAL, "do");
  }
  for (;;) {
    const FileSystem::Scrub s = c.fs.scrub_progress();
    if (!wait || !s.running) break;
    Message m;
    m.head = {{"bytes", s.bytes}, {"total", s.total}};
    INDRA_TRY(c.io.send(std::move(m)));
    std::this_thread::sleep_for(std::chrono::milliseconds{100});
  }
  INDRA_LET(const FileSystem::Scrub s, c.fs.scrub_status());
  return scrub_json(s);
}

}  // namespace indra
