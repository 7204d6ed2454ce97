// Rules: changes of a vault become jobs in coord.db, exactly once.
//
// How:      the position (a seq) is a row of coord.db and moves in the transaction that puts the jobs in. So
// a kill
//           anywhere, or two relays at once, neither loses a job nor makes it twice. Only what survives a
//           power cut is relayed: a job never speaks of a change that then was not.
// Threads:  a Relay belongs to one thread.
// Durable:  as coord.db's commits (synchronous=NORMAL): jobs and position are lost together or not at all.
// Errors:   EBUSY while somebody holds coord.db's write lock; nothing was done, and it may be tried again.
// Source:   docs/design/events.md (E30, E31).
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "events/coord.h"
#include "events/feed.h"

namespace indra {

class Relay {
 public:
  struct Options {
    /// Makes everything that is committed durable; null: the vault has no writer now, all is.
    std::function<Result<void>()> durable;
    TimeNs busy = kSecond / 10;
    FaultPoints faults;  ///< "relay.jobs", "relay.commit"
  };
  Relay(std::string vault, Options options) : vault_{std::move(vault)}, options_{std::move(options)} {}

  /// Relays what is there, at most some thousand changes. True: there is more.
  [[nodiscard]] Result<bool> pass();

 private:
  struct Rule {
    std::string name, queue, bucket, kinds;
    std::optional<std::string> branch, path;
    std::int64_t since;
  };
  [[nodiscard]] Result<std::vector<Rule>> rules();
  [[nodiscard]] Result<void> open_reader();
  [[nodiscard]] static bool fits(const Rule&, const ChangeEvent&);

  const std::string vault_;
  const Options options_;
  std::unique_ptr<Coord> coord_;
  std::unique_ptr<Db> db_;
  std::map<std::string, ChangeLog> logs_;  // by bucket
  Seq seen_;  // looked at, all that fit are jobs; the row may lag behind, which only costs looking again
  bool started_ = false;
};

}  // namespace indra
