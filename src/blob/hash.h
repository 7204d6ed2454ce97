// BLAKE3 as a tree: whole hashes, chaining values of aligned 64 KiB chunks, and how they join.
//
// Shapes:   a chunk is 64 KiB, the last of a blob 1..64 KiB; chunk i starts at i * 64 KiB. A chaining value
// (CV)
//           depends on the bytes and on i, and is never a root: a blob of at most 64 KiB has only its
//           BlobHash. A page is 64 chunks (4 MiB); a page of pages 256 MiB, and so on by 64.
// Threads:  pure functions.
// Source:   docs/design/content.md (C1..C5); the BLAKE3 paper, section 2.4 on the tree.
#pragma once
#include <array>
#include <compare>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace indra {

inline constexpr std::size_t kChunkSize = 64 * 1024;
inline constexpr std::size_t kFanout = 64;  // entries in a manifest page

/// BLAKE3-256 of a blob's whole content: its identity, what `b3sum` prints.
class BlobHash {
 public:
  constexpr BlobHash() = default;
  [[nodiscard]] static BlobHash of(ByteView content);  ///< computes, in this thread
  [[nodiscard]] static BlobHash from_digest(ByteView digest32);
  [[nodiscard]] static std::optional<BlobHash> parse_hex(std::string_view s);  ///< exactly 64 digits
  [[nodiscard]] std::string hex() const { return to_hex(d_); }
  [[nodiscard]] ByteView bytes() const { return d_; }
  friend bool operator==(const BlobHash&, const BlobHash&) = default;

 private:
  std::array<std::byte, 32> d_{};
};

/// Chaining value of a subtree that is not the root.
struct Cv {
  std::array<std::byte, 32> bytes{};
  friend bool operator==(const Cv&, const Cv&) = default;
};

/// CV of chunk `index`. 1 <= chunk.size() <= 64 KiB; only the last chunk of a blob is shorter.
[[nodiscard]] Cv chunk_cv(std::uint64_t index, ByteView chunk);
/// CV of a chunk of zeros.
[[nodiscard]] Cv zero_chunk_cv(std::uint64_t index, std::size_t size = kChunkSize);
/// CV of the subtree over neighbouring CVs of equal height (the last may be lower): left-full, an odd one is
/// carried up unchanged; one CV alone is itself. 1 <= cvs.size() <= any.
[[nodiscard]] Cv join(std::span<const Cv> cvs);
/// The blob's hash from the CVs of its parts (chunks, pages, pages of pages). cvs.size() >= 2.
[[nodiscard]] BlobHash root_of(std::span<const Cv> cvs);

}  // namespace indra
