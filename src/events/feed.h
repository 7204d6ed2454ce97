// The change feed of a vault for readers of any process: every committed mutation, once, in order, resumable.
//
// Shapes:   tree/change_log.h.
// Threads:  a Feed belongs to one thread, but for stop().
// Durable:  a position is a seq; who keeps it after having done what the events ask for misses nothing (E3).
// Errors:   ESTALE when the position is no longer kept, those of opening the database.
// Source:   docs/design/events.md (E1..E5).
#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "db/db.h"
#include "events/knock.h"
#include "tree/change_log.h"

namespace indra {

class Feed {
 public:
  /// Opens VAULT/vault.db for reading. Beside a daemon, or without one. From now on, unless `from` says after
  /// which seq.
  [[nodiscard]] static Result<std::unique_ptr<Feed>> open(const std::string& vault, ChangeFilter,
                                                          std::optional<Seq> from);

  /// What is there after the position, at most `limit` rows looked at; moves the position. An empty batch
  /// without `more`: nothing is left for now.
  [[nodiscard]] Result<ChangeLog::Batch> next(int limit = 1000);
  /// Sleeps until something was committed after the last next() began, until `timeout` (ns; < 0: none), a
  /// signal, or stop().
  void wait(TimeNs timeout = -1) const { knock_->wait(seen_, timeout); }
  [[nodiscard]] Seq position() const { return at_; }
  [[nodiscard]] Db& db() { return *db_; }

 private:
  Feed() = default;
  std::unique_ptr<Db> db_;
  std::unique_ptr<Knock> knock_;
  std::optional<ChangeLog> log_;
  Knock::Ticket seen_ = 0;
  Seq at_;
};

}  // namespace indra
