// Numbers that are never given twice, whatever crashes (T10).
//
// A block of numbers is used only once a barrier has made its reservation durable. Several blocks are kept
// ahead, so that the barrier of every few seconds always comes first. A reservation that a rolled back
// mutation took with it is noticed, because it is read again before it is trusted.
#pragma once
#include <atomic>
#include <cstdint>
#include <optional>

#include "base/result.h"
#include "db/writer.h"

namespace indra {

class Numbers {
 public:
  /// `name`: the row of `counters`. `first`: the first number in a new vault.
  Numbers(Writer& writer, const char* name, std::int64_t block)
      : writer_{writer}, name_{name}, block_{block} {}

  /// Reserves the first blocks: nothing may be taken before a barrier. Returns true after an unclean end.
  [[nodiscard]] Result<bool> open(Tx&, std::int64_t first);
  /// Gives back what was not used.
  [[nodiscard]] Result<void> close(Tx&);
  [[nodiscard]] Result<std::int64_t> take(Tx& tx) {
    const std::int64_t n = next_.load(std::memory_order_relaxed);
    if (n + (kAhead - 1) * block_ > usable_) [[unlikely]]
      INDRA_TRY(reserve(tx, n));
    next_.store(n + 1, std::memory_order_relaxed);
    return n;
  }
  /// The last number given.
  [[nodiscard]] std::int64_t last() const { return next_.load(std::memory_order_relaxed) - 1; }

 private:
  static constexpr std::int64_t kAhead = 4;  // blocks
  struct Pending {
    std::int64_t upto;
    std::uint64_t mutation;  // how many there were before the one that stored it
    bool kept;               // that one was not rolled back
  };
  Result<void> reserve(Tx&, std::int64_t n);
  Result<void> store(Tx&, std::int64_t upto, bool clean);

  Writer& writer_;
  const char* name_;
  std::int64_t block_;
  std::atomic<std::int64_t> next_{1};
  std::int64_t usable_ = 0;  // numbers up to this one are durably ours
  std::optional<Pending> pending_;
};

}  // namespace indra
