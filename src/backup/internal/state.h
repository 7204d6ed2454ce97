// The file `state` of a backup: what the vault consists of, and where each block of it lies.
//
// Source:   docs/formats/backup-v1.md.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"

namespace indra::backup {

inline constexpr std::uint32_t kBlockMax = 64 * 1024;
inline constexpr std::uint64_t kPackHeader = 64;
// In the place of a segment's number: files that are kept in blocks of kBlockMax, the block's number behind.
inline constexpr std::uint32_t kVaultDb = 0xFFFFFFF0, kCoordDb = 0xFFFFFFF1, kKey = 0xFFFFFFF2;
inline constexpr std::uint32_t kFirstFile = kVaultDb, kLastFile = kKey;
inline constexpr std::uint32_t kSegmentHeader = 4096;  ///< the block at offset 0 of each segment

/// One block: 64 bytes in the file.
struct Record {
  std::uint64_t where = 0;  ///< segment << 32 | offset; kVaultDb << 32 | number ...
  std::uint64_t index =
      0;  ///< of a chunk: its number in its blob; of a segment's header: where the segment ends
  std::uint32_t length = 0;  ///< bytes, 1..kBlockMax
  bool root = false;         ///< `cv` is the BLAKE3 of the bytes; else their chaining value as chunk `index`
  std::array<std::byte, 32> cv{};
  std::uint32_t pack = 0;
  std::uint64_t offset = 0;

  [[nodiscard]] std::uint32_t segment() const { return static_cast<std::uint32_t>(where >> 32); }
  [[nodiscard]] std::uint32_t place() const { return static_cast<std::uint32_t>(where); }
  [[nodiscard]] bool is_file() const { return segment() >= kFirstFile; }
  [[nodiscard]] bool same_bytes(const Record& o) const {
    return where == o.where && index == o.index && length == o.length && root == o.root && cv == o.cv;
  }
};
/// Do these bytes belong to the record?
[[nodiscard]] bool matches(const Record&, ByteView);

struct State {
  std::uint64_t number = 0;
  TimeNs made = 0;
  std::array<std::byte, 32> vault_id{}, player{};
  std::map<std::uint32_t, std::uint64_t> packs;  ///< number -> bytes
  std::vector<Record> records;                   ///< by `where`, each place once

  /// Errors: Errc::corrupt (its seal, or anything in it that cannot be), Errc::newer_format,
  /// Errc::bad_format.
  [[nodiscard]] static Result<State> parse(ByteView);
  [[nodiscard]] Bytes encode() const;
  /// Nothing when the place is not in it.
  [[nodiscard]] const Record* find(std::uint64_t where) const;
};

}  // namespace indra::backup
