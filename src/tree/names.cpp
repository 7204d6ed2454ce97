#include "tree/internal/names.h"

extern "C" {
#include <blake3.h>
}

#include <bit>
#include <cerrno>

namespace indra {
namespace {

// SipHash-2-4: Aumasson and Bernstein, 2012.
class Sip {
 public:
  Sip(std::uint64_t k0, std::uint64_t k1)
      : v0_{k0 ^ 0x736f6d6570736575},
        v1_{k1 ^ 0x646f72616e646f6d},
        v2_{k0 ^ 0x6c7967656e657261},
        v3_{k1 ^ 0x7465646279746573} {}
  std::uint64_t hash(std::string_view s) {
    const auto* p = reinterpret_cast<const std::byte*>(s.data());
    std::size_t n = s.size();
    for (; n >= 8; p += 8, n -= 8) block(load_le<std::uint64_t>(p));
    std::uint64_t last = std::uint64_t{s.size()} << 56;
    for (std::size_t i = 0; i < n; ++i) last |= std::to_integer<std::uint64_t>(p[i]) << (8 * i);
    block(last);
    v2_ ^= 0xff;
    for (int i = 0; i < 4; ++i) round();
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  void block(std::uint64_t m) {
    v3_ ^= m;
    round();
    round();
    v0_ ^= m;
  }
  void round() {
    v0_ += v1_, v1_ = std::rotl(v1_, 13) ^ v0_, v0_ = std::rotl(v0_, 32);
    v2_ += v3_, v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ += v3_, v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ += v1_, v1_ = std::rotl(v1_, 17) ^ v2_, v2_ = std::rotl(v2_, 32);
  }
  std::uint64_t v0_, v1_, v2_, v3_;
};

std::array<std::byte, 32> keyed(const std::array<std::uint8_t, 32>& key, std::string_view what,
                                std::int64_t n) {
  blake3_hasher h;
  blake3_hasher_init_keyed(&h, key.data());
  blake3_hasher_update(&h, what.data(), what.size());
  blake3_hasher_update(&h, &n, sizeof n);
  std::array<std::byte, 32> out{};
  blake3_hasher_finalize(&h, reinterpret_cast<std::uint8_t*>(out.data()), out.size());
  return out;
}

}  // namespace

Result<void> check_name(std::string_view name) {
  if (name.empty()) return fail(ENOENT);
  if (name.size() > 255) return fail(ENAMETOOLONG);
  if (name == "." || name == "..") return fail(EINVAL);
  for (const char c : name)
    if (c == '/' || c == '\0') return fail(EINVAL);
  return {};
}

Result<void> check_title(std::string_view what, std::string_view name) {
  const auto bad = [&](const char* why) {
    return Result<void>{fail(EINVAL, "the name of a " + std::string{what} + " " + why)};
  };
  if (name.empty()) return bad("must not be empty");
  if (name.size() > 200) return bad("has at most 200 bytes");
  if (name.front() == '.' || name.front() == '-') return bad("must not begin with '.' or '-'");
  if (name.find('/') != name.npos || name.find(':') != name.npos || name.find('\0') != name.npos)
    return bad("must not contain '/', ':' or NUL");
  return {};
}

NameHash::NameHash(ByteView id) {
  std::memcpy(vault_.data(), id.data(), std::min(id.size(), vault_.size()));
  const auto k = keyed(vault_, "indra cookie", 0);
  k0_ = load_le<std::uint64_t>(k.data());
  k1_ = load_le<std::uint64_t>(k.data() + 8);
}

Result<NameHash> name_hash(Tx& tx) {
  auto q = Statement{tx, "SELECT value FROM properties WHERE name = 'vault_id'"};
  INDRA_LET(const bool row, q.step());
  const Bytes id = row ? from_hex(q.text_at(0)) : Bytes{};
  if (id.size() != 32) return fail(Errc::bad_format, "vault_id");
  return NameHash{id};
}

std::int64_t NameHash::cookie(std::string_view name) const {
  const auto h = static_cast<std::int64_t>(Sip{k0_, k1_}.hash(name) & INT64_MAX);
  return h < 16 ? h + 16 : h;
}

Bytes NameHash::doc_id(NodeId line) const {
  const auto d = keyed(vault_, "indra line", line.raw());
  return {d.begin(), d.end()};
}

}  // namespace indra
