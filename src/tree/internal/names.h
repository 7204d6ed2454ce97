// What a name may be, and what is computed from one.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "base/strong.h"
#include "db/db.h"

namespace indra {

/// ENOENT for no bytes, ENAMETOOLONG above 255, EINVAL for '/', NUL, "." and "..".
[[nodiscard]] Result<void> check_name(std::string_view name);
/// Names of branches, snapshots and buckets: EINVAL with the reason.
[[nodiscard]] Result<void> check_title(std::string_view what, std::string_view name);

/// Keyed by the vault, so that what a name hashes to is the vault's own and stays for ever.
class NameHash {
 public:
  explicit NameHash(ByteView vault_id32);
  /// 16 .. 2^63-1: smaller ones are free for front ends ("." and "..").
  [[nodiscard]] std::int64_t cookie(std::string_view name) const;
  [[nodiscard]] Bytes doc_id(NodeId line) const;

 private:
  std::array<std::uint8_t, 32> vault_{};
  std::uint64_t k0_ = 0, k1_ = 0;
};
/// The vault's own.
[[nodiscard]] Result<NameHash> name_hash(Tx&);

}  // namespace indra
