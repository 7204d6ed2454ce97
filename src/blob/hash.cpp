#include "blob/hash.h"

#include <algorithm>
#include <cassert>

extern "C" {
#include <blake3.h>
#include <blake3_impl.h>
}

namespace indra {
namespace {

constexpr std::size_t kLeaf = BLAKE3_CHUNK_LEN;  // 1 KiB: what BLAKE3 itself calls a chunk
constexpr std::size_t kLeaves = kChunkSize / kLeaf;
using Words = std::array<std::uint32_t, 8>;

// blake3_dispatch.c remembers the CPU's features in a plain static: filled in before any thread starts.
[[maybe_unused]] const std::size_t simd_degree_known = blake3_simd_degree();

const std::uint8_t* raw(const std::byte* p) { return reinterpret_cast<const std::uint8_t*>(p); }
std::uint8_t* raw(std::byte* p) { return reinterpret_cast<std::uint8_t*>(p); }

/// CV of the last, short leaf (1..1023 bytes; 1024 too).
void short_leaf(ByteView leaf, std::uint64_t counter, std::byte* out) {
  Words cv;
  std::copy(std::begin(IV), std::end(IV), cv.begin());
  std::uint8_t flags = CHUNK_START;
  for (;;) {
    std::array<std::uint8_t, BLAKE3_BLOCK_LEN> block{};
    const std::size_t n = std::min<std::size_t>(leaf.size(), BLAKE3_BLOCK_LEN);
    if (n != 0) std::memcpy(block.data(), leaf.data(), n);
    leaf = leaf.subspan(n);
    if (leaf.empty()) flags |= CHUNK_END;
    blake3_compress_in_place(cv.data(), block.data(), static_cast<std::uint8_t>(n), counter, flags);
    if (leaf.empty()) break;
    flags = 0;
  }
  std::memcpy(out, cv.data(), 32);
}

/// One level up: pairs become parents, an odd one is carried. `cvs` holds n * 32 bytes, is overwritten;
/// returns the new n.
std::size_t level_up(std::byte* cvs, std::size_t n) {
  const std::size_t pairs = n / 2;
  constexpr std::size_t kAtOnce = 64;
  std::array<const std::uint8_t*, kAtOnce> inputs;
  std::array<std::byte, kAtOnce * 32> out;
  for (std::size_t done = 0; done < pairs;) {
    const std::size_t batch = std::min(kAtOnce, pairs - done);
    for (std::size_t i = 0; i < batch; ++i) inputs[i] = raw(cvs + (done + i) * 64);
    blake3_hash_many(inputs.data(), batch, 1, IV, 0, false, PARENT, 0, 0, raw(out.data()));
    std::memcpy(cvs + done * 32, out.data(), batch * 32);
    done += batch;
  }
  if (n % 2 != 0) std::memmove(cvs + pairs * 32, cvs + (n - 1) * 32, 32);
  return pairs + n % 2;
}

/// Down to `stop` CVs.
std::size_t reduce(std::byte* cvs, std::size_t n, std::size_t stop) {
  while (n > stop) n = level_up(cvs, n);
  return n;
}

}  // namespace

BlobHash BlobHash::of(ByteView content) {
  blake3_hasher hasher;
  blake3_hasher_init(&hasher);
  blake3_hasher_update(&hasher, content.data(), content.size());
  BlobHash h;
  blake3_hasher_finalize(&hasher, raw(h.d_.data()), h.d_.size());
  return h;
}

BlobHash BlobHash::from_digest(ByteView digest) {
  assert(digest.size() == 32);
  BlobHash h;
  std::copy_n(digest.begin(), std::min<std::size_t>(digest.size(), 32), h.d_.begin());
  return h;
}

std::optional<BlobHash> BlobHash::parse_hex(std::string_view s) {
  if (s.size() != 64) return std::nullopt;
  const Bytes b = from_hex(s);
  if (b.size() != 32) return std::nullopt;
  return from_digest(b);
}

Cv chunk_cv(std::uint64_t index, ByteView chunk) {
  assert(!chunk.empty() && chunk.size() <= kChunkSize);
  const std::uint64_t counter = index * kLeaves;
  const std::size_t whole = chunk.size() / kLeaf;
  std::array<std::byte, kLeaves * 32> cvs;
  std::array<const std::uint8_t*, kLeaves> inputs;
  for (std::size_t i = 0; i < whole; ++i) inputs[i] = raw(chunk.data() + i * kLeaf);
  if (whole != 0)
    blake3_hash_many(inputs.data(), whole, kLeaf / BLAKE3_BLOCK_LEN, IV, counter, true, 0, CHUNK_START,
                     CHUNK_END, raw(cvs.data()));
  std::size_t n = whole;
  if (chunk.size() % kLeaf != 0)
    short_leaf(chunk.subspan(whole * kLeaf), counter + whole, cvs.data() + 32 * n++);
  reduce(cvs.data(), n, 1);
  Cv cv;
  std::copy_n(cvs.begin(), 32, cv.bytes.begin());
  return cv;
}

Cv zero_chunk_cv(std::uint64_t index, std::size_t size) {
  alignas(64) static constexpr std::array<std::byte, kChunkSize> zeros{};
  return chunk_cv(index, ByteView{zeros}.first(size));
}

Cv join(std::span<const Cv> cvs) {
  assert(!cvs.empty());
  static_assert(sizeof(Cv) == 32);
  if (cvs.size() == 1) return cvs[0];
  Bytes copy(cvs.size() * 32);
  std::memcpy(copy.data(), cvs.data(), copy.size());
  reduce(copy.data(), cvs.size(), 1);
  Cv cv;
  std::copy_n(copy.begin(), 32, cv.bytes.begin());
  return cv;
}

BlobHash root_of(std::span<const Cv> cvs) {
  assert(cvs.size() >= 2);
  Bytes copy(cvs.size() * 32);
  std::memcpy(copy.data(), cvs.data(), copy.size());
  reduce(copy.data(), cvs.size(), 2);
  Words iv;
  std::copy(std::begin(IV), std::end(IV), iv.begin());
  std::array<std::uint8_t, 64> out;
  blake3_compress_xof(iv.data(), raw(copy.data()), BLAKE3_BLOCK_LEN, 0, PARENT | ROOT, out.data());
  return BlobHash::from_digest(std::as_bytes(std::span{out}).first(32));
}

}  // namespace indra
