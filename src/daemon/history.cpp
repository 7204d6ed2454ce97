// diff and log: what differs between two moments; the versions of a file.
#include "fs/history.h"

#include <algorithm>
#include <cerrno>

#include "daemon/internal/verbs.h"

namespace indra {
namespace {

Json side_json(const std::optional<DiffEntry::Side>& s) {
  if (!s) return nullptr;
  return {{"path", name_to_json(s->path)}, {"mode", s->row.mode}, {"size", s->row.size},
          {"mtime", s->row.mtime},         {"uid", s->row.uid},   {"gid", s->row.gid},
          {"node", s->row.node.raw()}};
}

/// The bytes of one side, as data messages before its row: {"side", "at"}.
Result<void> send_content(Call& c, const char* name, const std::optional<DiffEntry::Side>& s,
                          std::uint64_t most) {
  if (!s || s->row.size > most || !(S_ISREG(s->row.mode) || S_ISLNK(s->row.mode))) return {};
  const auto bytes = content_of(c.fs, text_field(c.request, "bucket", "main"), s->row, most);
  if (!bytes) return report(c, s->path, bytes.error());
  for (std::size_t at = 0; at < bytes->size(); at += kBodySize) {
    Message m;
    m.type = FrameType::data;
    m.head = {{"side", name}, {"at", at}};
    const std::size_t n = std::min(kBodySize, bytes->size() - at);
    m.body.assign(bytes->begin() + static_cast<std::ptrdiff_t>(at),
                  bytes->begin() + static_cast<std::ptrdiff_t>(at + n));
    INDRA_TRY(c.io.send(std::move(m)));
  }
  return {};
}

}  // namespace

Result<Moment> moment_of(const Json& j) {
  Moment m;
  m.branch = name_field(j, "branch").value_or("main");
  m.snapshot = name_field(j, "snapshot").value_or("");
  m.fork_point = bool_field(j, "fork_point");
  INDRA_LET(m.seq, seq_field(j));
  return m;
}

// {"a": moment, "b": moment, "path", "contents": bytes}: rows. A moment is {"branch", "snapshot", "at",
// "fork_point"}. With "contents", what files of at most so many bytes hold comes before the row of their
// change.
Result<Json> verb_diff(Call& c) {
  const Json none = Json::object();
  INDRA_LET(const Moment a, moment_of(c.request.value("a", none)));
  INDRA_LET(const Moment b, moment_of(c.request.value("b", none)));
  INDRA_LET(const std::string top, path_of(c));
  const auto most = static_cast<std::uint64_t>(std::max<std::int64_t>(int_field(c.request, "contents"), 0));
  const auto all = diff_moments(c.fs, text_field(c.request, "bucket", "main"), a, b, top);
  if (!all) return Failure{explained(all.error())};
  Json rows = Json::array();
  const auto flush = [&]() -> Result<void> {
    if (rows.empty()) return {};
    Message m;
    m.head = {{"rows", std::move(rows)}};
    rows = Json::array();
    return c.io.send(std::move(m));
  };
  for (const DiffEntry& e : *all) {
    if (most > 0 && (e.content || !e.a || !e.b)) {
      INDRA_TRY(flush());
      INDRA_TRY(send_content(c, "a", e.a, most));
      INDRA_TRY(send_content(c, "b", e.b, most));
    }
    rows.push_back({{"a", side_json(e.a)},
                    {"b", side_json(e.b)},
                    {"moved", e.moved},
                    {"content", e.content},
                    {"mode", e.mode},
                    {"owner", e.owner},
                    {"xattrs", e.xattrs}});
    if (rows.size() >= 128 || most > 0) INDRA_TRY(flush());
  }
  INDRA_TRY(flush());
  return Json{{"entries", all->size()}};
}

// {"branch", "snapshot", "at", "path"}
Result<Json> verb_log(Call& c) {
  INDRA_LET(const Moment m, moment_of(c.request));
  INDRA_LET(const std::string path, path_of(c));
  const auto all = versions_of(c.fs, text_field(c.request, "bucket", "main"), m, path);
  if (!all) return Failure{explained(all.error())};
  const auto flush = [&](Json rows) -> Result<void> {
    Message out;
    out.head = {{"rows", std::move(rows)}};
    return c.io.send(std::move(out));
  };
  Json rows = Json::array();
  for (std::size_t i = 0; i < all->size(); ++i) {
    const Version& v = (*all)[i];
    const auto before = i + 1 < all->size() ? static_cast<std::int64_t>((*all)[i + 1].row.size) : 0;
    Json row = {{"seq", v.seq.raw()},
                {"at", nullptr},
                {"time", v.time},
                {"size", v.row.size},
                {"grew", static_cast<std::int64_t>(v.row.size) - before},
                {"op", v.op},
                {"uid", v.who.uid},
                {"pid", v.who.pid},
                {"program", name_to_json(v.who.program)},
                {"front_end", v.who.front_end},
                {"node", v.row.node.raw()}};
    if (v.at != kSeqMax) row["at"] = v.at.raw();
    rows.push_back(std::move(row));
    if (rows.size() >= 128) INDRA_TRY(flush(std::exchange(rows, Json::array())));
  }
  INDRA_TRY(flush(std::move(rows)));
  return Json{{"versions", all->size()}};
}

}  // namespace indra
