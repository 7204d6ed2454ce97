// Byte views and little-endian integers.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace indra {

using ByteView = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;
using Bytes = std::vector<std::byte>;

inline ByteView as_view(std::string_view s) { return std::as_bytes(std::span{s.data(), s.size()}); }
inline std::string_view as_text(ByteView b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

static_assert(std::endian::native == std::endian::little, "the formats are little-endian");
template <class T>
T load_le(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
void store_le(std::byte* p, T v) {
  std::memcpy(p, &v, sizeof v);
}

inline std::uint32_t load_be32(const std::byte* p) { return __builtin_bswap32(load_le<std::uint32_t>(p)); }
inline void store_be32(std::byte* p, std::uint32_t v) { store_le<std::uint32_t>(p, __builtin_bswap32(v)); }

[[nodiscard]] std::string to_hex(ByteView b);
/// nullptr-free: an empty vector when `s` is not an even number of hex digits.
[[nodiscard]] Bytes from_hex(std::string_view s);

}  // namespace indra
