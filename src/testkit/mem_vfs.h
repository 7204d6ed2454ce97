// A MemDisk as SQLite sees it: a VFS whose databases and WALs lie on the simulated disk, with locks and
// shared memory among the connections of this process.
//
// Threads:  as SQLite uses a VFS.
// Durable:  as MemDisk; the first sync of a new WAL or journal also syncs its directory, as "unix" does.
// Errors:   SQLITE_IOERR_* for an errno of the disk, SQLITE_FULL for ENOSPC.
#pragma once
#include <memory>
#include <string>

#include "testkit/mem_disk.h"

namespace indra {

class MemVfs {
 public:
  /// Registers itself under a name of its own. The disk is named later, so that one VFS serves many disks in
  /// turn: our own VFS over it stays registered for ever.
  MemVfs();
  ~MemVfs();
  MemVfs(const MemVfs&) = delete;
  MemVfs& operator=(const MemVfs&) = delete;

  /// No connection may be open.
  void use(MemDisk& disk);
  [[nodiscard]] const char* name() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace indra
