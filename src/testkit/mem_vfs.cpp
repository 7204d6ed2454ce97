#include "testkit/mem_vfs.h"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

namespace indra {
namespace {

constexpr int kSlots = 8;  // SQLITE_SHM_NLOCK
constexpr int kExclusive = -1;

/// What the connections to one database share.
struct Shared {
  std::vector<std::unique_ptr<std::array<std::byte, 32768>>> regions;
  std::array<int, kSlots> slots{};  // how many share it, or kExclusive
  int readers = 0;                  // SQLITE_LOCK_SHARED or more
  bool reserved = false, pending = false, exclusive = false;
};

}  // namespace

struct MemVfs::Impl {
  sqlite3_vfs vfs{};
  std::string name;
  std::mutex mutex;  // of all locks
  MemDisk* disk = nullptr;
  std::map<std::string, std::weak_ptr<Shared>> shared;
};

namespace {

struct Connection {
  MemVfs::Impl* owner = nullptr;
  MemDisk* disk = nullptr;
  std::unique_ptr<DiskFile> file;
  std::string path;
  std::shared_ptr<Shared> shared;  // of a database
  int lock = SQLITE_LOCK_NONE;
  std::array<bool, kSlots> shares{}, excludes{};
  bool sync_names = false;
  sqlite3_int64 step = 0;  // SQLITE_FCNTL_CHUNK_SIZE
};

struct File {
  sqlite3_file base;
  Connection* c;
};

Connection& of(sqlite3_file* f) { return *reinterpret_cast<File*>(f)->c; }

int code(const Error& e, int otherwise) {
  return e.code == std::errc::no_space_on_device ? SQLITE_FULL : otherwise;
}

int x_read(sqlite3_file* f, void* out, int n, sqlite3_int64 at) {
  const auto r = of(f).file->read(static_cast<std::uint64_t>(at),
                                  {static_cast<std::byte*>(out), static_cast<std::size_t>(n)});
  if (!r) return SQLITE_IOERR_READ;
  if (*r == static_cast<std::size_t>(n)) return SQLITE_OK;
  std::memset(static_cast<std::byte*>(out) + *r, 0, static_cast<std::size_t>(n) - *r);
  return SQLITE_IOERR_SHORT_READ;
}

int x_write(sqlite3_file* f, const void* in, int n, sqlite3_int64 at) {
  const auto r = of(f).file->write(static_cast<std::uint64_t>(at),
                                   {static_cast<const std::byte*>(in), static_cast<std::size_t>(n)});
  return r ? SQLITE_OK : code(r.error(), SQLITE_IOERR_WRITE);
}

int x_truncate(sqlite3_file* f, sqlite3_int64 size) {
  const auto r = of(f).disk->resize(of(f).path, static_cast<std::uint64_t>(size));
  return r ? SQLITE_OK : SQLITE_IOERR_TRUNCATE;
}

int x_sync(sqlite3_file* f, int) {
  Connection& c = of(f);
  if (!c.file->sync()) return SQLITE_IOERR_FSYNC;
  if (c.sync_names && !c.disk->sync_dir(dir_of(c.path))) return SQLITE_IOERR_DIR_FSYNC;
  c.sync_names = false;
  return SQLITE_OK;
}

int x_size(sqlite3_file* f, sqlite3_int64* n) {
  const auto r = of(f).file->size();
  if (!r) return SQLITE_IOERR_FSTAT;
  *n = static_cast<sqlite3_int64>(*r);
  return SQLITE_OK;
}

int x_lock(sqlite3_file* f, int want) {
  Connection& c = of(f);
  if (c.lock >= want || !c.shared) return SQLITE_OK;
  const std::scoped_lock lock{c.owner->mutex};
  Shared& s = *c.shared;
  if (want == SQLITE_LOCK_SHARED) {
    if (s.pending || s.exclusive) return SQLITE_BUSY;
    ++s.readers;
  } else if (want == SQLITE_LOCK_RESERVED) {
    if (s.reserved) return SQLITE_BUSY;
    s.reserved = true;
  } else {
    if (s.pending && c.lock < SQLITE_LOCK_PENDING) return SQLITE_BUSY;
    if (s.reserved && c.lock < SQLITE_LOCK_RESERVED) return SQLITE_BUSY;
    s.reserved = s.pending = true;
    c.lock = SQLITE_LOCK_PENDING;
    if (s.readers > 1) return SQLITE_BUSY;
    s.exclusive = true;
  }
  c.lock = want;
  return SQLITE_OK;
}

int x_unlock(sqlite3_file* f, int want) {
  Connection& c = of(f);
  if (c.lock <= want || !c.shared) return SQLITE_OK;
  const std::scoped_lock lock{c.owner->mutex};
  Shared& s = *c.shared;
  if (c.lock >= SQLITE_LOCK_RESERVED) s.reserved = false;
  if (c.lock >= SQLITE_LOCK_PENDING) s.pending = s.exclusive = false;
  if (want == SQLITE_LOCK_NONE) --s.readers;
  c.lock = want;
  return SQLITE_OK;
}

int x_check_reserved(sqlite3_file* f, int* out) {
  Connection& c = of(f);
  const std::scoped_lock lock{c.owner->mutex};
  *out = c.shared && c.shared->reserved ? 1 : 0;
  return SQLITE_OK;
}

int x_control(sqlite3_file* f, int op, void* arg) {
  Connection& c = of(f);
  if (op == SQLITE_FCNTL_CHUNK_SIZE) {
    c.step = *static_cast<int*>(arg);
    return SQLITE_OK;
  }
  if (op == SQLITE_FCNTL_SIZE_HINT) {
    if (c.step <= 0) return SQLITE_OK;
    sqlite3_int64 now = 0;
    if (const int rc = x_size(f, &now); rc != SQLITE_OK) return rc;
    const sqlite3_int64 want = (*static_cast<sqlite3_int64*>(arg) + c.step - 1) / c.step * c.step;
    return want > now ? x_truncate(f, want) : SQLITE_OK;
  }
  return SQLITE_NOTFOUND;
}

int x_sector(sqlite3_file*) { return 4096; }
int x_device(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

int x_shm_map(sqlite3_file* f, int region, int size, int extend, void volatile** out) {
  Connection& c = of(f);
  *out = nullptr;
  if (size > 32768) return SQLITE_IOERR_SHMMAP;
  const std::scoped_lock lock{c.owner->mutex};
  auto& regions = c.shared->regions;
  while (static_cast<int>(regions.size()) <= region) {
    if (extend == 0) return SQLITE_OK;
    regions.push_back(std::make_unique<std::array<std::byte, 32768>>());
  }
  *out = regions[static_cast<std::size_t>(region)]->data();
  return SQLITE_OK;
}

int x_shm_lock(sqlite3_file* f, int first, int n, int flags) {
  Connection& c = of(f);
  const std::scoped_lock lock{c.owner->mutex};
  Shared& s = *c.shared;
  const auto from = static_cast<std::size_t>(first), to = from + static_cast<std::size_t>(n);
  if ((flags & SQLITE_SHM_UNLOCK) != 0) {
    for (std::size_t i = from; i < to; ++i) {
      if (c.excludes[i]) s.slots[i] = 0;
      if (c.shares[i]) --s.slots[i];
      c.excludes[i] = c.shares[i] = false;
    }
    return SQLITE_OK;
  }
  if ((flags & SQLITE_SHM_SHARED) != 0) {
    if (c.shares[from]) return SQLITE_OK;
    if (s.slots[from] == kExclusive) return SQLITE_BUSY;
    ++s.slots[from];
    c.shares[from] = true;
    return SQLITE_OK;
  }
  for (std::size_t i = from; i < to; ++i)
    if (s.slots[i] != 0 && !c.excludes[i]) return SQLITE_BUSY;
  for (std::size_t i = from; i < to; ++i) {
    s.slots[i] = kExclusive;
    c.excludes[i] = true;
  }
  return SQLITE_OK;
}

void x_shm_barrier(sqlite3_file*) { std::atomic_thread_fence(std::memory_order_seq_cst); }

int x_shm_unmap(sqlite3_file* f, int) { return x_shm_lock(f, 0, kSlots, SQLITE_SHM_UNLOCK); }

int x_close(sqlite3_file* f) {
  Connection* c = &of(f);
  if (c->shared) {
    x_shm_unmap(f, 0);
    x_unlock(f, SQLITE_LOCK_NONE);
  }
  delete c;
  f->pMethods = nullptr;
  return SQLITE_OK;
}

const sqlite3_io_methods kMethods = {2,        x_close,   x_read,     x_write,          x_truncate,  x_sync,
                                     x_size,   x_lock,    x_unlock,   x_check_reserved, x_control,   x_sector,
                                     x_device, x_shm_map, x_shm_lock, x_shm_barrier,    x_shm_unmap, nullptr,
                                     nullptr};

MemVfs::Impl& impl(sqlite3_vfs* v) { return *static_cast<MemVfs::Impl*>(v->pAppData); }

int x_open(sqlite3_vfs* v, const char* name, sqlite3_file* f, int flags, int* out) {
  MemVfs::Impl& o = impl(v);
  auto* file = reinterpret_cast<File*>(f);
  file->base.pMethods = nullptr;
  if (name == nullptr) return SQLITE_CANTOPEN;
  auto c = std::make_unique<Connection>();
  c->owner = &o;
  c->disk = o.disk;
  c->path = name;
  auto opened = o.disk->open(name, false);
  if (!opened && opened.error().code == std::errc::no_such_file_or_directory &&
      (flags & SQLITE_OPEN_CREATE) != 0) {
    opened = o.disk->open(name, true);
    c->sync_names = (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL)) != 0;
  }
  if (!opened) return SQLITE_CANTOPEN;
  c->file = std::move(*opened);
  if ((flags & SQLITE_OPEN_MAIN_DB) != 0) {
    const std::scoped_lock lock{o.mutex};
    c->shared = o.shared[name].lock();
    if (!c->shared) o.shared[name] = c->shared = std::make_shared<Shared>();
  }
  file->c = c.release();
  file->base.pMethods = &kMethods;
  if (out != nullptr) *out = flags;
  return SQLITE_OK;
}

int x_delete(sqlite3_vfs* v, const char* name, int sync_dir) {
  MemDisk& d = *impl(v).disk;
  if (!d.exists(name)) return SQLITE_IOERR_DELETE_NOENT;
  if (!d.remove(name)) return SQLITE_IOERR_DELETE;
  if (sync_dir != 0 && !d.sync_dir(dir_of(name))) return SQLITE_IOERR_DIR_FSYNC;
  return SQLITE_OK;
}

int x_access(sqlite3_vfs* v, const char* name, int flags, int* out) {
  MemDisk& d = *impl(v).disk;
  *out = d.exists(name) ? 1 : 0;
  if (*out != 0 && flags == SQLITE_ACCESS_EXISTS) {  // "unix" takes an empty one for none
    const auto f = d.open(name, false);
    const auto n = f ? (*f)->size() : Result<std::uint64_t>{0};
    *out = n && *n > 0 ? 1 : 0;
  }
  return SQLITE_OK;
}

int x_full_path(sqlite3_vfs*, const char* name, int n, char* out) {
  sqlite3_snprintf(n, out, "%s", name);
  return SQLITE_OK;
}

}  // namespace

MemVfs::MemVfs() : impl_{std::make_unique<Impl>()} {
  static std::atomic<int> count{0};
  impl_->name = "mem-" + std::to_string(++count);
  impl_->vfs = *sqlite3_vfs_find("unix");
  impl_->vfs.pNext = nullptr;
  impl_->vfs.zName = impl_->name.c_str();
  impl_->vfs.pAppData = impl_.get();
  impl_->vfs.szOsFile = static_cast<int>(sizeof(File));
  impl_->vfs.xOpen = x_open;
  impl_->vfs.xDelete = x_delete;
  impl_->vfs.xAccess = x_access;
  impl_->vfs.xFullPathname = x_full_path;
  sqlite3_vfs_register(&impl_->vfs, 0);
}

MemVfs::~MemVfs() { sqlite3_vfs_unregister(&impl_->vfs); }

void MemVfs::use(MemDisk& disk) {
  const std::scoped_lock lock{impl_->mutex};
  impl_->disk = &disk;
  impl_->shared.clear();
}

const char* MemVfs::name() const { return impl_->name.c_str(); }

}  // namespace indra
