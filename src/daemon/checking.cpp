// fsck of a vault that is open.
#include "daemon/checking.h"

#include <chrono>

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

}  // namespace indra
