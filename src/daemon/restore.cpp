// restore, undelete.
#include "fs/restore.h"

#include <algorithm>
#include <cerrno>

#include "daemon/internal/verbs.h"

namespace indra {
namespace {

Who who(const Call& c) { return {c.caller.uid, c.caller.pid, "indrafs", "cli"}; }
Result<Json> tell(Call& c, const Result<Restored>& done) {
  if (!done) return Failure{explained(done.error())};
  Rows rows{c.io};
  for (const MergeStep& s : done->steps)
    INDRA_TRY(rows.add({{"kind", step_name(s.kind)},
                        {"path", name_to_json(s.path)},
                        {"content", s.kind == MergeStep::Kind::change && s.content.has_value()}}));
  INDRA_TRY(rows.flush());
  return Json{{"steps", done->steps.size()}, {"before", done->before.raw()}};
}

}  // namespace

// {"branch", "path", "from": moment, "to", "dry_run"}: rows {"kind", "path", "content"}
Result<Json> verb_restore(Call& c) {
  RestoreRequest r;
  r.branch = name_field(c.request, "branch").value_or("main");
  INDRA_LET(r.from, moment_of(c.request.value("from", Json::object())));
  INDRA_LET(r.path, path_of(c));
  r.to = name_field(c.request, "to").value_or("");
  r.dry_run = bool_field(c.request, "dry_run");
  return tell(c, restore(c.fs, who(c), bucket_of(c.request), r));
}

// {"branch", "path", "limit"}: rows
Result<Json> verb_deleted(Call& c) {
  INDRA_LET(const std::string path, path_of(c));
  const auto limit =
      static_cast<std::size_t>(std::clamp<std::int64_t>(int_field(c.request, "limit", 1000), 1, 100'000));
  const std::string branch = name_field(c.request, "branch").value_or("main");
  const auto all = deleted_below(c.fs, bucket_of(c.request), branch, path, limit);
  if (!all) return tell(c, Failure{all.error()});
  Rows rows{c.io};
  for (const DeletedPath& d : *all)
    INDRA_TRY(rows.add({{"number", d.what.row.node.raw()},
                        {"path", name_to_json(d.path)},
                        {"mode", d.what.row.mode},
                        {"size", d.what.row.size},
                        {"mtime", d.what.row.mtime},
                        {"deleted", d.what.time != 0 ? Json(d.what.time) : Json(nullptr)},
                        {"uid", d.what.who.uid},
                        {"program", name_to_json(d.what.who.program)}}));
  INDRA_TRY(rows.flush());
  return Json{{"items", all->size()}};
}

// {"branch", "path" or "number", "to", "dry_run"}: rows as restore
Result<Json> verb_undelete(Call& c) {
  UndeleteRequest r;
  r.branch = name_field(c.request, "branch").value_or("main");
  r.node = NodeId{int_field(c.request, "number")};
  if (!r.node) {
    INDRA_LET(r.path, path_of(c));
  }
  r.to = name_field(c.request, "to").value_or("");
  r.dry_run = bool_field(c.request, "dry_run");
  return tell(c, undelete(c.fs, who(c), bucket_of(c.request), r));
}

}  // namespace indra
