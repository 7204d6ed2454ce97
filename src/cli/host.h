// The host's side of put, get, import and export: files of this machine, and tar archives, as items and back.
//
// Threads:  a Source calls `emit` from several threads at once; a Sink is used from one.
// Errors:   what is wrong with one item goes to `failed`, and the rest goes on.
#pragma once
#include <archive.h>
#include <time.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/items.h"

namespace indra::cli {

inline TimeNs host_time(const timespec& t) { return static_cast<TimeNs>(t.tv_sec) * kSecond + t.tv_nsec; }

struct ItemSinks {
  std::function<Result<void>(Item)> emit;  ///< an error ends the walk
  std::function<void(const std::string& path, const Error&)> failed;
  bool contents = true;  ///< false: files without their bytes (a dry run)
  bool owners = false;   ///< uid and gid are kept: root
};

/// The file, directory (with all in it) or other node at `path`, as item `name` ("" = the directory's content
/// alone). Links are not followed, except `path` itself when `follow`.
[[nodiscard]] Result<void> read_host(const std::string& path, const std::string& name, bool recursive,
                                     bool follow, const ItemSinks&);
/// All bytes of a descriptor as one file.
[[nodiscard]] Result<void> read_stream(int fd, const std::string& name, const ItemSinks&);
/// A tar archive in any compression that libarchive knows; `path` "-" = standard input.
[[nodiscard]] Result<void> read_tar(const std::string& path, const ItemSinks&);
[[nodiscard]] bool looks_like_tar(const std::string& path);
/// A name out of an archive made harmless: without leading '/', "." and "..". Nothing when nothing is left.
[[nodiscard]] std::optional<std::string> harmless(std::string_view name);

class Sink {
 public:
  virtual ~Sink() = default;
  [[nodiscard]] virtual Result<void> take(Message) = 0;  ///< a data message
  [[nodiscard]] virtual Result<void> finish() = 0;
};
enum class Existing { replace, skip, fail };
/// Below the directory `dir`, which is there. An item's first name becomes `top` where that is not empty.
[[nodiscard]] Result<std::unique_ptr<Sink>> directory_sink(
    const std::string& dir, const std::string& top, Existing, bool owners,
    std::function<void(const std::string&, const Error&)> failed);
/// A pax archive; compressed as the name's ending says; "-" = standard output.
[[nodiscard]] Result<std::unique_ptr<Sink>> tar_sink(
    const std::string& path, std::function<void(const std::string&, const Error&)> failed);
/// The bytes alone, one file after the other.
[[nodiscard]] std::unique_ptr<Sink> byte_sink(int fd);

}  // namespace indra::cli
