// diff and log: what differs between two moments; the versions of a file.
#include "fs/history.h"

#include <algorithm>
#include <cerrno>

#include "daemon/internal/verbs.h"

namespace indra {
namespace {

Result<Moment> moment_of(const Json& j) {
  Moment m;
  m.branch = name_field(j, "branch").value_or("main");
  m.snapshot = name_field(j, "snapshot").value_or("");
  m.fork_point = bool_field(j, "fork_point");
  INDRA_LET(m.seq, seq_field(j));
  return m;
}

bool below(std::string_view path, std::string_view top) {
  if (top == "/") return true;
  return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

Json side_json(const std::optional<DiffEntry::Side>& s) {
  if (!s) return nullptr;
  return {{"path", name_to_json(s->path)}, {"mode", s->row.mode},      {"size", s->row.size},
          {"mtime", s->row.mtime},         {"uid", s->row.uid},        {"gid", s->row.gid},
          {"node", s->row.node.raw()},     {"line", s->row.line.raw()}};
}

}  // namespace

// {"a": moment, "b": moment, "path"}: rows. A moment is {"branch", "snapshot", "at", "fork_point"}.
Result<Json> verb_diff(Call& c) {
  const Json none = Json::object();
  INDRA_LET(const Moment a, moment_of(c.request.value("a", none)));
  INDRA_LET(const Moment b, moment_of(c.request.value("b", none)));
  INDRA_LET(const std::string top, path_of(c));
  INDRA_LET(const auto all, diff_moments(c.fs, text_field(c.request, "bucket", "main"), a, b));
  std::uint64_t n = 0;
  Json rows = Json::array();
  const auto flush = [&]() -> Result<void> {
    Message m;
    m.head = {{"rows", std::move(rows)}};
    rows = Json::array();
    return c.io.send(std::move(m));
  };
  for (const DiffEntry& e : all) {
    if (!(e.a && below(e.a->path, top)) && !(e.b && below(e.b->path, top))) continue;
    ++n;
    rows.push_back({{"a", side_json(e.a)},
                    {"b", side_json(e.b)},
                    {"moved", e.moved},
                    {"content", e.content},
                    {"mode", e.mode},
                    {"owner", e.owner},
                    {"xattrs", e.xattrs}});
    if (rows.size() >= 128) INDRA_TRY(flush());
  }
  INDRA_TRY(flush());
  return Json{{"entries", n}};
}

// {"branch", "snapshot", "at", "path"}
Result<Json> verb_log(Call& c) {
  INDRA_LET(const Moment m, moment_of(c.request));
  INDRA_LET(const std::string path, path_of(c));
  INDRA_LET(const auto all, versions_of(c.fs, text_field(c.request, "bucket", "main"), m, path));
  Json rows = Json::array();
  for (const Version& v : all)
    rows.push_back({{"seq", v.seq.raw()},
                    {"time", v.time},
                    {"size", v.row.size},
                    {"op", v.op},
                    {"uid", v.who.uid},
                    {"pid", v.who.pid},
                    {"program", name_to_json(v.who.program)},
                    {"front_end", v.who.front_end},
                    {"node", v.row.node.raw()}});
  return Json{{"versions", std::move(rows)}};
}

}  // namespace indra
