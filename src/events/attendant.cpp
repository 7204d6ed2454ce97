#include "events/attendant.h"

#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "events/own_work.h"

namespace indra {
namespace {
constexpr TimeNs kFar = 3600 * kSecond;
}  // namespace

Result<std::unique_ptr<Attendant>> Attendant::start(const std::string& vault,
                                                    std::function<Result<void>()> durable,
                                                    std::function<void()> own_jobs) {
  std::unique_ptr<Attendant> a{new Attendant};
  a->vault_ = vault;
  a->own_jobs_ = std::move(own_jobs);
  INDRA_LET(a->changes_, Knock::open(vault_knock(vault)));
  INDRA_LET(a->coord_, Knock::open(coord_knock(vault + "/coord.db")));
  Relay::Options o;
  o.durable = std::move(durable);
  a->relay_ = std::make_unique<Relay>(vault, std::move(o));
  a->relaying_ = std::thread{[p = a.get()] { p->relay(); }};
  a->firing_ = std::thread{[p = a.get()] { p->fire_schedules(); }};
  return a;
}

Attendant::~Attendant() {
  stop_ = true;
  if (changes_) changes_->ring();
  if (coord_) coord_->ring();
  if (relaying_.joinable()) relaying_.join();
  if (firing_.joinable()) firing_.join();
}

void Attendant::relay() {
  bool complained = false;
  while (!stop_) {
    const auto seen = changes_->ticket();
    if (stop_) return;
    const auto more = relay_->pass();
    if (more && *more) continue;
    if (!more && more.error().code != std::errc::device_or_resource_busy && !complained)
      log::error("rules: {}", more.error().text());
    complained = !more;
    changes_->wait(seen, more ? -1 : OwnWork::kAgain);
  }
}

/// How long until a job of the vault's own queue is due (< 0: none is there); tells when one is now.
Result<TimeNs> Attendant::own_due(Coord& c) const {
  if (!own_jobs_) return -1;
  INDRA_LET(const auto queue, c.select("SELECT 1 FROM indra_queues WHERE queue = ?", {OwnWork::kQueue}));
  if (queue.empty()) return -1;
  INDRA_LET(const auto next, c.call("indra_next_at", {OwnWork::kQueue}));
  if (!next.is_number()) return -1;
  const auto in = static_cast<TimeNs>(next.get<double>() * 1e9) - system_clock().now();
  if (in > 0) return in;
  own_jobs_();
  return OwnWork::kAgain;
}

void Attendant::fire_schedules() {
  std::unique_ptr<Coord> c;
  bool complained = false;
  const auto once = [&]() -> Result<TimeNs> {
    if (!c) {
      const std::string path = vault_ + "/coord.db";
      if (::access(path.c_str(), F_OK) != 0) return -1;
      Coord::Options o;
      o.create = false;
      o.busy = kSecond / 10;
      auto opened = Coord::open(path, o);
      if (!opened && opened.error().code == std::errc::no_such_file_or_directory)
        return -1;  // being made just now
      if (!opened) return fail(opened.error());
      c = std::move(*opened);
    }
    for (;;) {
      INDRA_LET(const auto next, c->call("indra_schedule_next", {}));
      const auto in =
          !next.is_number() ? kFar : static_cast<TimeNs>(next.get<double>() * 1e9) - system_clock().now();
      if (in <= 0) {
        INDRA_TRY(c->call("indra_schedule_tick", {}));
        continue;
      }
      INDRA_LET(const TimeNs own, own_due(*c));
      if (!next.is_number()) return own;
      // Clocks may be set: a far time is looked at again.
      return std::min(own < 0 ? kFar : own, std::min(in, kFar));
    }
  };
  while (!stop_) {
    const auto seen = coord_->ticket();
    if (stop_) return;
    const auto wait = once();
    if (!wait && wait.error().code != std::errc::device_or_resource_busy && !complained)
      log::error("schedules: {}", wait.error().text());
    complained = !wait;
    coord_->wait(seen, wait ? *wait : OwnWork::kAgain);
  }
}

}  // namespace indra
