// The lock of a path: one of coord.db's named locks, whose name follows from the path, so that all who work
// on a file by path find the same one. It is the name that is locked, and only for those who ask: a write
// that brings a token is refused once the token is stale (FileSystem::Incoming::guard), any other is not.
//
// Threads:  pure function.
// Source:   docs/design/events.md (E26, E45).
#pragma once
#include <string>
#include <string_view>

namespace indra {

/// "path:BRANCH:/PATH", with BUCKET/ before the branch when it is not main's; a hash of that where it is too
/// long for a lock's name, or no text. A trailing slash does not count.
[[nodiscard]] std::string path_lock(std::string_view bucket, std::string_view branch, std::string_view path);

}  // namespace indra
