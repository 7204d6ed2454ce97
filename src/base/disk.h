// The disk below the segments: few calls, so that a test can stand in for it (record, lose, tear, fail).
//
// Units:    bytes.
// Threads:  every member may be called from any thread; calls on one file may overlap.
// Durable:  written bytes after sync() of the file; a new or removed name after sync_dir().
// Errors:   the errno of the call that failed. Short reads only at the end of the file.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace indra {

class DiskFile {
 public:
  virtual ~DiskFile() = default;
  [[nodiscard]] virtual Result<std::size_t> read(std::uint64_t at, MutableBytes out) const = 0;
  [[nodiscard]] virtual Result<void> write(std::uint64_t at, ByteView bytes) = 0;  ///< all or an error
  [[nodiscard]] virtual Result<void> sync() = 0;                                   ///< fdatasync
  [[nodiscard]] virtual Result<void> punch(std::uint64_t at,
                                           std::uint64_t n) = 0;  ///< frees whole blocks inside
  /// The next read of these bytes asks the device, as far as they are durable. A wish.
  virtual void uncache(std::uint64_t /*at*/, std::uint64_t /*n*/) const {}
  [[nodiscard]] virtual Result<std::uint64_t> size() const = 0;
  [[nodiscard]] virtual Result<std::uint64_t> allocated() const = 0;  ///< bytes on the device
};

/// A file as shared memory: what is stored in it survives the process at once, and a power cut after sync().
class DiskMap {
 public:
  virtual ~DiskMap() = default;
  [[nodiscard]] virtual MutableBytes bytes() = 0;
  [[nodiscard]] virtual Result<void> sync() = 0;
};

class Disk {
 public:
  virtual ~Disk() = default;
  [[nodiscard]] virtual Result<std::unique_ptr<DiskFile>> open(const std::string& path, bool create) = 0;
  [[nodiscard]] virtual bool exists(const std::string& path) = 0;
  /// The first `size` bytes of a file, which is made, with room for them, when it is not there.
  [[nodiscard]] virtual Result<std::unique_ptr<DiskMap>> map(const std::string& path, std::size_t size) = 0;
  /// Names the time since the machine started: what was written within it cannot be missing. 0: not known.
  [[nodiscard]] virtual std::uint64_t boot() const = 0;
  [[nodiscard]] virtual Result<void> make_dir(const std::string& path) = 0;  ///< fine when it is there
  [[nodiscard]] virtual Result<void> remove(const std::string& path) = 0;
  [[nodiscard]] virtual Result<std::vector<std::string>> list(const std::string& dir) = 0;
  [[nodiscard]] virtual Result<void> sync_dir(const std::string& path) = 0;
  /// Free and total bytes of the file system that holds `path`.
  struct Space {
    std::uint64_t free, total;
  };
  [[nodiscard]] virtual Result<Space> space(const std::string& path) = 0;
};

/// The machine's file system. Files are made with mode 0600, directories 0700, links are not followed.
[[nodiscard]] Disk& real_disk();

/// Passes everything on and tells `observer` of each write and sync after it succeeded:
/// the recorder that proves the durability contract.
struct DiskEvent {
  enum Kind { write, sync, sync_dir, create, remove } kind;
  std::string path;
};
[[nodiscard]] std::unique_ptr<Disk> observed_disk(Disk& below,
                                                  std::function<void(const DiskEvent&)> observer);

}  // namespace indra
