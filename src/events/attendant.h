// What coordination needs while a vault is open: rules relayed, schedules fired. Two threads that sleep when
// there is nothing to do, and that alone ever wait for coord.db.
//
// Threads:  made and destroyed by one thread.
// Errors:   logged; what failed is tried again.
// Source:   docs/design/events.md (E7, E31).
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "events/knock.h"
#include "events/relay.h"

namespace indra {

class Attendant {
 public:
  /// `durable` as Relay::Options says; `own_jobs` is told when jobs of the vault's own queue are due. Both
  /// must stay callable until the Attendant is gone.
  [[nodiscard]] static Result<std::unique_ptr<Attendant>> start(const std::string& vault,
                                                                std::function<Result<void>()> durable,
                                                                std::function<void()> own_jobs = {});
  ~Attendant();

 private:
  Attendant() = default;
  void relay();
  void fire_schedules();
  [[nodiscard]] Result<TimeNs> own_due(Coord&) const;

  std::string vault_;
  std::unique_ptr<Relay> relay_;
  std::function<void()> own_jobs_;
  std::unique_ptr<Knock> changes_, coord_;
  std::atomic<bool> stop_{false};
  std::thread relaying_, firing_;
};

}  // namespace indra
