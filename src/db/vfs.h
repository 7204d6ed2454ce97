// Our layer over SQLite's "unix" VFS: page checksums, verified WAL frames, and the recorder's and tests'
// hooks.
//
// Page:     the last 8 of 4096 bytes hold page_checksum() of the others, set whenever a page is written, to
// the
//           database file or to the WAL, and checked whenever one is read from the file (V1, V3).
// WAL:      its bytes are SQLite's but for that, and for the frames' checksums, which follow from it; a page
//           read from it is checked against its frame's checksum (V2).
// Threads:  files as SQLite uses them, and xSync beside anything; the functions here from any thread.
// Errors:   a mismatch is SQLITE_IOERR_DATA, which sqlite_failure() turns into Errc::corrupt.
// Source:   docs/design/db.md.
#pragma once
#include <sqlite3.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/disk.h"
#include "base/result.h"

namespace indra {

inline constexpr std::size_t kDbPage = 4096;
inline constexpr unsigned kDbSpare = 8;                     // at the end of each page: its checksum
inline constexpr std::size_t kSummed = kDbPage - kDbSpare;  // what that covers
/// SQLite locks bytes of this page and never uses it: a hole in a file of more than 1 GiB.
inline constexpr std::uint32_t kLockPage = 0x40000000 / kDbPage + 1;
inline constexpr std::uint32_t kWalMagic = 0x377f0682;  // checksums over little-endian words
inline constexpr std::size_t kWalHeader = 32;
inline constexpr std::size_t kWalFrameHeader = 24;
inline constexpr std::size_t kWalFrame = kWalFrameHeader + kDbPage;

/// Registers our VFS over the one called `below` (null: "unix") at the first call; its name for
/// sqlite3_open_v2(). Tests put a simulated disk below; its VFS stays registered.
[[nodiscard]] const char* our_vfs(const char* below = nullptr);

/// Told of each write and sync of a database or WAL after it succeeded; an empty function ends that.
void set_vfs_observer(std::function<void(const DiskEvent&)> observer);
/// Asked before each write and sync: not SQLITE_OK fails it with that code. For tests.
void set_vfs_fault(std::function<int(const DiskEvent&)> fault);
/// From a fault at a sync: the sync is not done, and answered as if it were, as by a disk that lies.
inline constexpr int kSwallow = SQLITE_DONE;

/// Of the first 4088 bytes of a page, and its number. Never 0.
[[nodiscard]] std::uint64_t page_checksum(std::uint32_t page, const std::byte* bytes);

/// Whether the page bears its checksum (or is the one that SQLite never uses, where it locks).
[[nodiscard]] bool page_is_sound(std::uint32_t page, const std::byte* bytes);

/// For files of formats in which a checksum of 0 meant "none" (V3): such pages are read all the same.
void expect_unsealed(sqlite3* db, bool on);
/// Gives each page of such a file its checksum, durably; may be repeated. Nothing may be in the WAL that is
/// not in the file, and nobody may write. What it returns is SQLite's.
[[nodiscard]] int seal_pages(sqlite3* db);

/// The last commit in a WAL: its place, the checksum of all before it, and the page it wrote last.
struct WalPosition {
  std::uint32_t salt1 = 0, salt2 = 0;
  std::uint32_t frame = 0;
  std::uint32_t sum1 = 0, sum2 = 0;
  std::uint32_t page = 0;
  std::uint64_t page_sum = 0;  ///< page_checksum() of it
};
/// The last commit written through `wal`, a file of our VFS; frame 0 when there was none.
[[nodiscard]] WalPosition last_commit(sqlite3_file* wal);
/// The WAL was ended: SQLite's TRUNCATE on `wal`'s connection found all of it in the file, put zeros where
/// its header was, and those are synced. So it may begin again without a sync of its own (V6).
void wal_was_ended(sqlite3_file* wal);
/// Makes room for the first `bytes` of `wal`, so that writing them finds no full disk. SQLITE_FULL if there
/// is none.
[[nodiscard]] int reserve(sqlite3_file* wal, std::uint64_t bytes);

/// Writes to a WAL, since the process began, that went beyond what was reserved for it. For tests: on a full
/// disk each of them may have been a COMMIT that failed.
[[nodiscard]] std::uint64_t writes_beyond_reserve();

/// Reads a database or WAL beside live connections. SQLite opens and closes it, so that no lock is dropped.
class RawFile {
 public:
  [[nodiscard]] static Result<std::unique_ptr<RawFile>> open(const std::string& path,
                                                             const char* below = nullptr);
  ~RawFile();
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;
  /// False: the file ends before.
  [[nodiscard]] Result<bool> read(std::uint64_t at, MutableBytes out);
  [[nodiscard]] Result<std::uint64_t> size();

 private:
  RawFile() = default;
  std::string path_;
  const char* name_ = nullptr;
  std::unique_ptr<std::max_align_t[]> file_;
};

/// SQLite's running checksum over `bytes` (a multiple of 8), little-endian.
void wal_checksum(ByteView bytes, std::uint32_t& s1, std::uint32_t& s2);

}  // namespace indra
