#include "tree/internal/numbers.h"

namespace indra {

Result<bool> Numbers::open(Tx& tx, std::int64_t first) {
  auto q = Statement{tx, "SELECT reserved, clean FROM counters WHERE name = ?1"};
  INDRA_LET(const bool row, q.bind_text(1, name_).step());
  const std::int64_t reserved = row ? q.int64_at(0) : first - 1;
  const bool clean = row ? q.int64_at(1) != 0 : true;
  q.reset();
  next_ = reserved + 1;
  usable_ = reserved + kAhead * block_;
  INDRA_TRY(store(tx, usable_, false));
  return !clean;
}

Result<void> Numbers::close(Tx& tx) { return store(tx, last(), true); }

Result<void> Numbers::store(Tx& tx, std::int64_t upto, bool clean) {
  auto q = Statement{tx, "INSERT OR REPLACE INTO counters(name, reserved, clean) VALUES(?1, ?2, ?3)"};
  return q.bind_text(1, name_).bind(2, upto).bind(3, std::int64_t{clean}).run();
}

Result<void> Numbers::reserve(Tx& tx, std::int64_t n) {
  if (pending_ && !pending_->kept) {
    // The mutation that stored it may have been rolled back; once another one has followed, it cannot be.
    auto q = Statement{tx, "SELECT reserved FROM counters WHERE name = ?1"};
    INDRA_LET(const bool row, q.bind_text(1, name_).step());
    if (!row || q.int64_at(0) != pending_->upto)
      pending_.reset();
    else
      pending_->kept = writer_.mutations() > pending_->mutation;
  }
  if (pending_ && pending_->kept && writer_.durable() > pending_->mutation) {
    usable_ = pending_->upto;
    pending_.reset();
  }
  if (!pending_ && n + (kAhead - 1) * block_ > usable_) {
    const std::int64_t upto = usable_ + kAhead * block_;
    INDRA_TRY(store(tx, upto, false));
    pending_ = Pending{upto, writer_.mutations(), false};
  }
  // Millions of mutations without a barrier: only a Writer that is never synced gets here.
  if (n > usable_) return fail(EAGAIN, "no barrier made the next numbers durable");
  return {};
}

}  // namespace indra
