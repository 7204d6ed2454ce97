#include "events/feed.h"

namespace indra {
namespace {

/// One snapshot for all that fn reads.
template <class F>
auto reading(Db& db, F&& fn) -> decltype(fn(std::declval<Tx&>())) {
  Tx tx = db.borrow();
  INDRA_TRY(db.execute("BEGIN"));
  auto r = fn(tx);
  if (auto end = db.execute("COMMIT"); !end && r) return fail(end.error());
  return r;
}

}  // namespace

Result<std::unique_ptr<Feed>> Feed::open(const std::string& vault, ChangeFilter filter,
                                         std::optional<Seq> from) {
  std::unique_ptr<Feed> f{new Feed};
  INDRA_LET(f->knock_, Knock::open(vault_knock(vault)));
  f->seen_ = f->knock_->ticket();
  DbOptions options;
  options.read_only = true;
  options.cache_kib = 2048;
  INDRA_LET(f->db_, Db::open(vault + "/vault.db", options));
  INDRA_TRY(reading(*f->db_, [&](Tx& tx) -> Result<void> {
    INDRA_LET(f->log_, ChangeLog::open(tx, std::move(filter)));
    if (from) {
      f->at_ = *from;
      return {};
    }
    INDRA_LET(f->at_, ChangeLog::last(tx));
    INDRA_LET(const Seq removed, ChangeLog::removed(tx));
    f->at_ = std::max(f->at_, removed);
    return {};
  }));
  return f;
}

Result<ChangeLog::Batch> Feed::next(int limit) {
  seen_ = knock_->ticket();
  INDRA_LET(ChangeLog::Batch batch, reading(*db_, [&](Tx& tx) { return log_->read(tx, at_, limit); }));
  at_ = batch.upto;
  return batch;
}

}  // namespace indra
