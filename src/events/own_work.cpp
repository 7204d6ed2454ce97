#include "events/own_work.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <ctime>

#include "base/log.h"

namespace indra {
namespace {

using Json = Coord::Json;

constexpr TimeNs kReopen = 60 * kSecond;  // after coord.db could not be used
constexpr double kVisibility = 60;        // seconds a claim lasts
constexpr TimeNs kBeat = 20 * kSecond;    // how often it is renewed
constexpr std::int64_t kJobsAtOnce = 16;
constexpr std::int64_t kMaxKept = 100'000;
constexpr std::size_t kMaxTitle = 180;  // a snapshot's name has 200 bytes, its time 17

bool busy(const Error& e) { return e.code == std::errc::device_or_resource_busy; }

Result<void> make_queue(Coord& c) {
  INDRA_LET(const auto there, c.select("SELECT 1 FROM indra_queues WHERE queue = ?", {OwnWork::kQueue}));
  if (!there.empty()) return {};
  const Json settings = {
      {"max_attempts", 5}, {"visibility", kVisibility}, {"backoff", 1}, {"backoff_max", 60}};
  INDRA_TRY(c.call("indra_queue_create", {OwnWork::kQueue, settings.dump()}));
  return {};
}

}  // namespace

OwnWork::OwnWork(std::string vault, Options options)
    : vault_{std::move(vault)},
      options_{std::move(options)},
      worker_{"vault-" + std::to_string(::getpid())},
      look_{options_.listed && ::access((vault_ + "/coord.db").c_str(), F_OK) == 0} {
}  // what a crash has left

TimeNs OwnWork::now() const {
  return (options_.clock != nullptr ? *options_.clock : system_clock()).steady();
}

bool OwnWork::within_reach() {
  const TimeNs t = now();
  if (!options_.listed || again_ > t) return false;
  if (!options_.room || options_.room()) return true;
  again_ = t + kAgain;
  return false;
}

void OwnWork::excuse(const Error& e) {
  if (busy(e)) {
    again_ = now() + kAgain;
    return;
  }
  if (!complained_) log::error("coord.db cannot be used, background work goes on without it: {}", e.text());
  complained_ = true;
  coord_.reset();
  owed_.clear();  // what is still claimed there is taken back when it can be opened again
  taken_back_ = false;
  look_ = false;
  again_ = now() + kReopen;
}

Result<void> OwnWork::transaction(const std::function<Result<void>()>& fn) {
  INDRA_TRY(coord_->execute("BEGIN IMMEDIATE"));
  auto r = fn();
  if (r) r = coord_->execute("COMMIT");
  if (!r) (void)coord_->execute("ROLLBACK");
  return r;
}

Result<void> OwnWork::reach() {
  if (coord_) return {};
  Coord::Options o;
  o.busy = options_.busy;
  o.clock = options_.clock;
  o.own = true;
  INDRA_LET(coord_, Coord::open(vault_ + "/coord.db", o));
  complained_ = false;
  return {};
}

Result<void> OwnWork::settle(const Done& d) {
  auto r = d.error.empty() ? coord_->call("indra_ack", {d.id, worker_})
                           : coord_->call("indra_retry", {d.id, worker_, d.error});
  if (r) return {};
  const auto code = r.error().code;
  // The claim had ended, or somebody took the job out by other means: then it is no more ours to answer for.
  if (code == std::errc::operation_not_permitted || code == std::errc::no_such_file_or_directory) return {};
  return fail(r.error());
}

Result<std::vector<OwnWork::Job>> OwnWork::claim(const std::vector<std::string>& wanted) {
  INDRA_TRY(reach());
  std::vector<Job> jobs;
  INDRA_TRY(transaction([&]() -> Result<void> {
    INDRA_TRY(make_queue(*coord_));
    // Whoever owned the vault before is gone: its claims are over.
    if (!taken_back_)
      INDRA_TRY(
          coord_->select("UPDATE indra_jobs SET claim_until = 0 WHERE queue = ? AND state = 1", {kQueue}));
    for (const Done& d : owed_) INDRA_TRY(settle(d));
    for (const std::string& kind : wanted)
      INDRA_TRY(
          coord_->call("indra_enqueue", {kQueue, Json{{"kind", kind}}.dump(), Json{{"key", kind}}.dump()}));
    INDRA_LET(const Json all, coord_->call_json("indra_claim", {kQueue, worker_, kJobsAtOnce, kVisibility}));
    for (const Json& j : all) {
      Job job;
      job.id = j.at("id").get<std::int64_t>();
      if (j.at("payload").is_string())
        job.payload = Json::parse(j["payload"].get<std::string>(), nullptr, false);
      if (job.payload.is_object() && job.payload.contains("kind") && job.payload["kind"].is_string())
        job.kind = job.payload["kind"];
      INDRA_LET(const auto row,
                coord_->select("SELECT created / 1000.0 FROM indra_jobs WHERE id = ?", {job.id}));
      job.created = row.at(0).at(0).get<double>();
      jobs.push_back(std::move(job));
    }
    return {};
  }));
  owed_.clear();
  taken_back_ = true;
  look_ = false;
  beat_ = now();
  return jobs;
}

std::vector<OwnWork::Job> OwnWork::take(const std::vector<std::string>& wanted, std::vector<Job>& doing) {
  const TimeNs t = now();
  std::vector<std::string> ask;
  for (const std::string& kind : wanted) {
    const auto w = waits_.find(kind);
    if (w != waits_.end() && w->second > t) continue;
    if (w != waits_.end()) waits_.erase(w);
    ask.push_back(kind);
  }
  if (ask.empty() && !owes()) return {};
  std::vector<Job> jobs;
  if (within_reach()) {
    auto claimed = claim(ask);
    if (claimed) {
      for (Job& j : *claimed) {
        if (std::any_of(doing.begin(), doing.end(), [&](const Job& d) { return d.id == j.id; })) continue;
        // It had been begun unlisted.
        const auto same = std::find_if(doing.begin(), doing.end(),
                                       [&](const Job& d) { return d.id == 0 && d.kind == j.kind; });
        if (same != doing.end())
          same->id = j.id;
        else
          jobs.push_back(std::move(j));
      }
      // A failed job of the kind is delayed; do not ask all the time.
      for (const std::string& kind : ask)
        if (std::none_of(jobs.begin(), jobs.end(), [&](const Job& j) { return j.kind == kind; }))
          waits_[kind] = t + kAgain;
      (void)options_.faults.at("work.claimed");
      return jobs;
    }
    excuse(claimed.error());
  }
  for (const std::string& kind : ask) jobs.push_back({0, kind, {}, 0});
  return jobs;
}

void OwnWork::keep(const std::vector<Job>& doing) {
  const TimeNs t = now();
  if (!coord_ || t - beat_ < kBeat || !within_reach()) return;
  beat_ = t;
  const auto r = transaction([&]() -> Result<void> {
    for (const Job& j : doing)
      if (j.id != 0) (void)coord_->call("indra_heartbeat", {j.id, worker_, kVisibility});
    return {};
  });
  if (!r) excuse(r.error());
}

void OwnWork::done(const Job& job, const Result<void>& r) {
  if (!r) {
    log::error("{}: {}", job.kind.empty() ? "background work" : job.kind, r.error().text());
    waits_[job.kind] = now() + kAgain;
  }
  (void)options_.faults.at("work.done");
  if (job.id == 0 || !coord_) return;
  Done d{job.id, r ? "" : r.error().text()};
  if (!within_reach()) {
    owed_.push_back(std::move(d));
    return;
  }
  if (const auto s = settle(d); !s) {
    owed_.push_back(std::move(d));
    excuse(s.error());
  }
}

void OwnWork::give_back(const std::vector<Job>& doing) {
  if (!coord_ || (doing.empty() && owed_.empty())) return;
  if (options_.room && !options_.room()) return;  // the next owner takes them back
  const auto r = transaction([&]() -> Result<void> {
    for (const Done& d : owed_) INDRA_TRY(settle(d));
    for (const Job& j : doing)
      INDRA_TRY(
          coord_->select("UPDATE indra_jobs SET state = 0, attempts = attempts - 1, worker = NULL, "
                         "claim_until = NULL WHERE id = ? AND state = 1 AND worker = ?",
                         {j.id, worker_}));
    return {};
  });
  if (!r && !busy(r.error())) log::warn("coord.db: {}", r.error().text());  // the next owner takes them back
}

Result<SnapshotPlan> SnapshotPlan::of(const Json& j) {
  SnapshotPlan p;
  const auto text = [&](const char* key, std::string& to) {
    const auto it = j.find(key);
    if (it == j.end() || !it->is_string()) return false;
    to = it->get<std::string>();
    return true;
  };
  if (!j.is_object() || !text("name", p.name) || !text("bucket", p.bucket) || !text("branch", p.branch) ||
      !j.contains("keep") || !j["keep"].is_number_integer())
    return fail(EINVAL, "this is no plan of snapshots");
  p.keep = j["keep"].get<std::int64_t>();
  if (p.keep < 1) return fail(EINVAL, "this plan keeps no snapshots");
  return p;
}

std::string SnapshotPlan::title(double when) const {
  const auto t = static_cast<std::time_t>(std::floor(when));
  std::tm u{};
  ::gmtime_r(&t, &u);
  char text[32];
  std::strftime(text, sizeof text, "-%Y%m%dT%H%M%SZ", &u);
  return name + text;
}

Result<double> schedule_snapshots(Coord& coord, const SnapshotPlan& p, const std::string& when) {
  if (p.keep < 1 || p.keep > kMaxKept)
    return fail(EINVAL, fmt::format("{} snapshots cannot be kept; 1 to {} can", p.keep, kMaxKept));
  if (p.name.empty() || p.name.size() > kMaxTitle)
    return fail(EINVAL, fmt::format("a name of scheduled snapshots has 1 to {} bytes", kMaxTitle));
  const Json payload = {
      {"kind", "snapshot"}, {"name", p.name}, {"bucket", p.bucket}, {"branch", p.branch}, {"keep", p.keep}};
  const Json options = {{"key", "snapshot:" + p.name}};
  try {
    (void)payload.dump();
  } catch (const Json::exception&) {
    return fail(EINVAL, "the names of scheduled snapshots and their branch must be UTF-8");
  }
  INDRA_TRY(coord.execute("BEGIN IMMEDIATE"));
  const auto put = [&]() -> Result<double> {
    INDRA_TRY(make_queue(coord));
    INDRA_LET(const Json next, coord.call("indra_schedule", {p.schedule(), OwnWork::kQueue, when,
                                                             payload.dump(), options.dump()}));
    INDRA_TRY(coord.execute("COMMIT"));
    return next.get<double>();
  };
  auto r = put();
  if (!r) (void)coord.execute("ROLLBACK");
  return r;
}

}  // namespace indra
