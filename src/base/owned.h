// What root makes in somebody's directory belongs to that somebody, else its owner could not open it any
// more.
//
// Units:    as the calls of the same names: errno on failure, links are not followed.
// Threads:  any; the calling thread alone has the owner's rights for the moment of the making.
#pragma once
#include <sys/types.h>

#include <string>

namespace indra {

/// While it lives, and where this process is root, this thread makes files as the owner of the directory
/// `dir` (a descriptor) and with that owner's rights: what the owner has planted there leads nowhere that it
/// could not go.
class AsOwnerOf {
 public:
  explicit AsOwnerOf(int dir);
  ~AsOwnerOf();
  AsOwnerOf(const AsOwnerOf&) = delete;
  AsOwnerOf& operator=(const AsOwnerOf&) = delete;

 private:
  bool other_ = false;
};

/// open(2) with O_CLOEXEC and O_NOFOLLOW. With O_CREAT: a file that is not there is made as by its
/// directory's owner.
[[nodiscard]] int open_owned(const std::string& path, int flags, mode_t mode = 0600);
/// mkdir(2), likewise.
[[nodiscard]] int mkdir_owned(const std::string& path, mode_t mode = 0700);

}  // namespace indra
