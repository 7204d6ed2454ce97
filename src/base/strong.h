// Integers that only compare with their own kind: explicit in, explicit out.
#pragma once
#include <compare>
#include <concepts>
#include <cstdint>
#include <functional>

namespace indra {

template <class Tag, std::integral Rep>
class Strong {
 public:
  using rep = Rep;
  constexpr Strong() noexcept = default;  // 0
  constexpr explicit Strong(Rep v) noexcept : v_{v} {}
  [[nodiscard]] constexpr Rep raw() const noexcept { return v_; }
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return v_ != 0; }
  friend constexpr auto operator<=>(Strong, Strong) = default;

 private:
  Rep v_ = 0;
};

using NodeId = Strong<struct NodeIdTag, std::int64_t>;      // a file, directory, ...; never reused; 0 = none
using BranchId = Strong<struct BranchIdTag, std::int64_t>;  // row of branches; 0 = none
using BucketId = Strong<struct BucketIdTag, std::int64_t>;  // row of buckets; 1 = main
using BlobId = Strong<struct BlobIdTag, std::int64_t>;      // row of blobs; 0 = the empty blob
using Seq = Strong<struct SeqTag, std::int64_t>;            // number of a mutation; strictly increasing
using ActorId = Strong<struct ActorIdTag, std::int64_t>;    // row of actors: who did it

inline constexpr Seq kSeqMax{INT64_MAX};

}  // namespace indra

template <class Tag, class Rep>
struct std::hash<indra::Strong<Tag, Rep>> {
  std::size_t operator()(indra::Strong<Tag, Rep> v) const noexcept {
    // Ids are dense: mix, so that power-of-two tables and shards spread.
    auto x = static_cast<std::uint64_t>(v.raw()) * 0x9E3779B97F4A7C15ull;
    return static_cast<std::size_t>(x ^ (x >> 32));
  }
};
