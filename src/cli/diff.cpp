#include "cli/diff.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <map>
#include <set>

#include "cli/terminal.h"
#include "cli/text_diff.h"

namespace indra::cli {
namespace {

std::uint32_t mode_of(const Json& side) { return static_cast<std::uint32_t>(int_field(side, "mode")); }

std::string path_of(const Json& side) {
  return side.is_null() ? "" : name_field(side, "path").value_or("") + (S_ISDIR(mode_of(side)) ? "/" : "");
}

std::string letters(const Json& e) {
  if (e["a"].is_null()) return "A";
  if (e["b"].is_null()) return "D";
  std::string s;
  if (bool_field(e, "moved")) s += 'R';
  if (bool_field(e, "content")) s += 'M';
  if (bool_field(e, "mode") || bool_field(e, "owner")) s += 'm';
  if (bool_field(e, "xattrs")) s += 'x';
  return s;
}

std::string one_line(const Json& e) {
  const Json &a = e["a"], &b = e["b"];
  const std::string from = path_of(a), to = path_of(b), l = letters(e);
  const std::int64_t was = a.is_null() ? 0 : int_field(a, "size"),
                     is = b.is_null() ? 0 : int_field(b, "size");
  const char* colour = !colours() ? "" : l == "A" ? "\033[32m" : l == "D" ? "\033[31m" : "\033[33m";
  return fmt::format("{}{:<4} {}{}{}{}", colour, l, shown_name(b.is_null() ? from : to),
                     bool_field(e, "moved") ? "  from " + shown_name(from) : "",
                     was != is ? fmt::format("  {:+} bytes", is - was) : "", colours() ? "\033[0m" : "");
}

std::optional<TextSide> text_side(const Json& side, std::string content) {
  if (side.is_null() || !(S_ISREG(mode_of(side)) || S_ISLNK(mode_of(side)))) return std::nullopt;
  TextSide t;
  t.path = name_field(side, "path").value_or("").substr(1);
  t.mode = mode_of(side);
  t.whole = int_field(side, "size") <= kTextMost;
  t.content = std::move(content);
  return t;
}

}  // namespace

Result<void> DiffPrinter::entry(Json e, std::string a, std::string b) {
  ++entries_;
  const bool both = !e["a"].is_null() && !e["b"].is_null();
  if (!both) ++(e["a"].is_null() ? added_ : removed_);
  if (both && bool_field(e, "moved")) ++moved_;
  if (both && letters(e) != "R") ++changed_;
  if (json_) {
    all_.push_back(std::move(e));
    return {};
  }
  if (!patch_) {
    if (entries_ <= o_.most) fmt::print(o_.to, "{}\n", one_line(e));
    return {};
  }
  const bool same = both && !bool_field(e, "content");
  auto old = text_side(e["a"], std::move(a)), now = text_side(e["b"], std::move(b));
  if (same && old && now) old->whole = now->whole = true;  // nothing to be shown of them
  if ((!old && !now) || (same && old->path == now->path && (old->mode & 0100) == (now->mode & 0100))) {
    fmt::print(o_.to, "# {}\n", one_line(e));  // a directory, an owner: git has no words for it
    return {};
  }
  INDRA_LET(const std::string text, file_patch(old, now, o_.context));
  if (std::fwrite(text.data(), 1, text.size(), o_.to) != text.size()) return fail(EPIPE);
  return {};
}

void DiffPrinter::finish() {
  if (json_) fmt::print(o_.to, "{}\n", all_.dump(2, ' ', false, Json::error_handler_t::replace));
  if (json_ || patch_ || entries_ == 0) return;
  std::string parts;
  for (const auto& [n, what] : {std::pair{changed_, "changed"}, std::pair{added_, "added"},
                                std::pair{removed_, "removed"}, std::pair{moved_, "moved"}})
    if (n > 0) parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", n, what);
  if (entries_ > o_.most) fmt::print(o_.to, "...    and {} more\n", entries_ - o_.most);
  fmt::print(o_.to, "{}\n", parts);
}

namespace {

/// Directories that moved with all in them: git wants each file told.
class Moves {
 public:
  void note(const Json& e) {
    if (e["b"].is_null()) return;
    const std::string to = name_field(e["b"], "path").value_or("");
    told_.insert(to);
    if (!e["a"].is_null() && S_ISDIR(mode_of(e["b"])) && bool_field(e, "moved"))
      dirs_[to] = name_field(e["a"], "path").value_or("");
  }
  Result<void> tell_rest(Client& client, const Json& moment, DiffPrinter& out) {
    for (const auto& [to, from] : dirs_) {
      if (mover_of(to.substr(0, to.rfind('/'))) != dirs_.end()) continue;  // is told with the one above
      Json request = moment;
      request["verb"] = "list";
      request["path"] = name_to_json(to);
      request["depth"] = -1;
      request["follow"] = false;
      INDRA_TRY(client.call(request, [&](Message m) -> Result<void> {
        if (m.head.contains("failed")) return fail(error_of(m));
        for (Json& row : m.head["rows"]) {
          const std::string path = name_field(row, "path").value_or("");
          if (told_.contains(path) || S_ISDIR(mode_of(row))) continue;
          const auto mover = mover_of(path.substr(0, path.rfind('/')));
          if (mover == dirs_.end()) continue;
          Json was = row;
          was["path"] = name_to_json(mover->second + path.substr(mover->first.size()));
          INDRA_TRY(out.entry({{"a", std::move(was)}, {"b", std::move(row)}, {"moved", true}}, {}, {}));
        }
        return {};
      }));
    }
    return {};
  }

 private:
  std::map<std::string, std::string>::const_iterator mover_of(std::string dir) const {
    for (; !dir.empty(); dir.resize(dir.rfind('/')))
      if (const auto it = dirs_.find(dir); it != dirs_.end()) return it;
    return dirs_.end();
  }
  std::map<std::string, std::string> dirs_;  // where to, where from
  std::set<std::string> told_;
};

}  // namespace

Result<int> diff_in_vault(Context& ctx, Client& client, const Json& a, const Json& b, const std::string& path,
                          DiffPrinter& out) {
  int failed = 0;
  Moves moves;
  std::string old, now;
  const Json request = {{"verb", "diff"},
                        {"a", a},
                        {"b", b},
                        {"path", name_to_json(path)},
                        {"contents", out.patch() ? kTextMost : 0}};
  INDRA_TRY(client.call(request, [&](Message m) -> Result<void> {
    if (const auto bad = name_field(m.head, "failed")) {
      ctx.complain(*bad, error_of(m));
      ++failed;
      return {};
    }
    if (m.type == FrameType::data) {
      (text_field(m.head, "side") == "a" ? old : now) += as_text(m.body);
      return {};
    }
    for (Json& e : m.head["rows"]) {
      if (out.patch()) moves.note(e);
      INDRA_TRY(out.entry(std::move(e), std::exchange(old, {}), std::exchange(now, {})));
    }
    return {};
  }));
  INDRA_TRY(moves.tell_rest(client, b, out));
  return failed;
}

}  // namespace indra::cli
