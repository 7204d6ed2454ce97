// Items: files, directories and the rest on their way into a vault or out of it, one data message each.
//
// Shapes:   head {"op", "path", attributes}; body: file bytes.
//             dir, file, symlink ("target"), link ("target": path of an earlier item), node (fifo, socket,
//             device: "rdev") file with "more": its bytes go on in chunk {"id", "at"} and end with done
//             {"id", "size"}
//           Paths are relative, without "." and ".."; empty is the top itself.
// Source:   docs/design/daemon.md.
#pragma once
#include <map>
#include <optional>
#include <string>

#include "daemon/wire.h"
#include "fs/view.h"

namespace indra {

struct Item {
  enum class Op { dir, file, symlink, link, node, chunk, done } op = Op::file;
  std::string path, target;
  std::optional<std::uint32_t> mode;  ///< type and permission bits
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::optional<TimeNs> mtime, atime;
  std::uint64_t size = 0;  ///< file: its size, where known; done: the size it has
  std::uint64_t rdev = 0;
  std::uint64_t id = 0, at = 0;
  bool more = false;
  std::map<std::string, std::string> xattrs;
  Bytes body;
};

[[nodiscard]] Message to_message(Item);
/// Errors: EPROTO.
[[nodiscard]] Result<Item> to_item(Message);

/// How many directories may lie in each other where one request walks through all of them: it does so by
/// recursion, and a deeper tree would be the end of the process. Longer paths than PATH_MAX have more.
inline constexpr int kDeepest = 2048;

/// Relative and harmless: no empty, "." or ".." component, no NUL, no component above 255 bytes, no more of
/// them than kDeepest. "" is the top.
[[nodiscard]] bool safe_relative(std::string_view path);

}  // namespace indra
