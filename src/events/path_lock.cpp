#include "events/path_lock.h"

#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "blob/hash.h"

namespace indra {
namespace {
constexpr std::size_t kMaxName = 200;

bool is_text(const std::string& s) {
  if (s.find('\0') != std::string::npos) return false;
  try {
    (void)nlohmann::json(s).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}
}  // namespace

std::string path_lock(std::string_view bucket, std::string_view branch, std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  std::string name = "path:";
  if (bucket != "main") name.append(bucket).append("/");
  name.append(branch).append(":").append(path);
  if (name.size() <= kMaxName && is_text(name)) return name;
  return "path:#" + BlobHash::of(as_view(name)).hex();
}

}  // namespace indra
