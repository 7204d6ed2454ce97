#include "events/event_json.h"

#include "base/bytes.h"

namespace indra {
namespace {

using Json = nlohmann::json;

Json name(std::string_view bytes) {
  Json j = bytes;
  try {
    (void)j.dump();
    return j;
  } catch (const Json::exception&) {
    return {{"hex", to_hex(as_view(bytes))}};
  }
}
Json optional_name(const std::optional<std::string>& p) { return p ? name(*p) : Json(nullptr); }

}  // namespace

Json event_json(const ChangeEvent& e) {
  const Tree::ChangeRow& c = e.row;
  Json j = {{"seq", c.seq.raw()}, {"time", c.time}, {"op", c.op}};
  if (c.op == "epoch") return j;
  j["branch"] = name(e.branch);
  j["path"] = optional_name(e.path);
  if (c.from_parent) j["from"] = optional_name(e.from_path);
  if (names_a_branch(c.op)) j["name"] = name(c.name);
  if (!e.attribute.empty()) j["attribute"] = name(e.attribute);
  j["node"] = c.node.raw();
  j["line"] = c.line.raw();
  j["uid"] = c.who.uid;
  j["pid"] = c.who.pid;
  j["program"] = name(c.who.program);
  j["front_end"] = c.who.front_end;
  return j;
}

}  // namespace indra
