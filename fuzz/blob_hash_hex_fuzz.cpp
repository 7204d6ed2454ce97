// A hash as people and programs write it: 64 hex digits, nothing else.
#include <cctype>
#include <cstdlib>

#include "blob/hash.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto hash = indra::BlobHash::parse_hex(text);
  bool digits = size == 64;
  std::string lower;
  for (const char c : text) {
    digits = digits && std::isxdigit(static_cast<unsigned char>(c)) != 0;
    lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (hash.has_value() != digits) std::abort();
  if (hash && (hash->hex() != lower || indra::BlobHash::parse_hex(lower) != hash)) std::abort();
  return 0;
}
