// The checksums of pages and frames, and files read past SQLite.
#include <bit>
#include <cerrno>
#include <cstring>

#include "db/vfs.h"

namespace indra {
namespace {

constexpr std::uint64_t mix(std::uint64_t h, std::uint64_t w) {
  h = std::rotl(h ^ (w * 0x9E3779B185EBCA87ull), 29);
  return h * 0xC2B2AE3D27D4EB4Full + 0x165667B19E3779F9ull;
}

}  // namespace

// Four lanes, each step a bijection of its lane: any change within one word is always noticed.
std::uint64_t page_checksum(std::uint32_t page, const std::byte* bytes) {
  std::uint64_t a = page, b = 1, c = 2, d = 3;
  std::size_t i = 0;
  for (; i + 32 <= kSummed; i += 32) {
    a = mix(a, load_le<std::uint64_t>(bytes + i));
    b = mix(b, load_le<std::uint64_t>(bytes + i + 8));
    c = mix(c, load_le<std::uint64_t>(bytes + i + 16));
    d = mix(d, load_le<std::uint64_t>(bytes + i + 24));
  }
  for (; i < kSummed; i += 8) a = mix(a, load_le<std::uint64_t>(bytes + i));
  std::uint64_t h = mix(mix(mix(a, b), c), d);
  h ^= h >> 32;
  return h != 0 ? h : 1;
}

bool page_is_sound(std::uint32_t page, const std::byte* bytes) {
  return page == kLockPage || load_le<std::uint64_t>(bytes + kSummed) == page_checksum(page, bytes);
}

void wal_checksum(ByteView bytes, std::uint32_t& s1, std::uint32_t& s2) {
  for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    s1 += load_le<std::uint32_t>(bytes.data() + i) + s2;
    s2 += load_le<std::uint32_t>(bytes.data() + i + 4) + s1;
  }
}

Result<std::unique_ptr<RawFile>> RawFile::open(const std::string& path, const char* below) {
  std::unique_ptr<RawFile> f{new RawFile};
  f->path_ = path;
  f->name_ = sqlite3_create_filename(path.c_str(), "", "", 0, nullptr);
  sqlite3_vfs* vfs = sqlite3_vfs_find(below != nullptr ? below : "unix");
  const auto size = static_cast<std::size_t>(vfs->szOsFile);
  f->file_ = std::make_unique<std::max_align_t[]>(size / sizeof(std::max_align_t) + 1);
  auto* file = reinterpret_cast<sqlite3_file*>(f->file_.get());
  file->pMethods = nullptr;
  int out = 0;
  const int rc = vfs->xOpen(vfs, f->name_, file, SQLITE_OPEN_READONLY | SQLITE_OPEN_MAIN_DB, &out);
  if (rc != SQLITE_OK) {
    file->pMethods = nullptr;
    return fail(std::error_code{ENOENT, std::generic_category()}, "open " + path);
  }
  return f;
}

RawFile::~RawFile() {
  auto* file = reinterpret_cast<sqlite3_file*>(file_.get());
  if (file != nullptr && file->pMethods != nullptr) file->pMethods->xClose(file);
  if (name_ != nullptr) sqlite3_free_filename(const_cast<char*>(name_));
}

Result<bool> RawFile::read(std::uint64_t at, MutableBytes out) {
  auto* file = reinterpret_cast<sqlite3_file*>(file_.get());
  const int rc =
      file->pMethods->xRead(file, out.data(), static_cast<int>(out.size()), static_cast<sqlite3_int64>(at));
  if (rc == SQLITE_IOERR_SHORT_READ) return false;
  if (rc != SQLITE_OK) return fail(EIO, "read " + path_);
  return true;
}

Result<std::uint64_t> RawFile::size() {
  auto* file = reinterpret_cast<sqlite3_file*>(file_.get());
  sqlite3_int64 n = 0;
  if (file->pMethods->xFileSize(file, &n) != SQLITE_OK) return fail(EIO, "stat " + path_);
  return static_cast<std::uint64_t>(n);
}

}  // namespace indra
