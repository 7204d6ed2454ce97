#include "events/relay.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/log.h"
#include "events/event_json.h"

namespace indra {
namespace {

constexpr int kChangesAtOnce = 1000;
constexpr std::int64_t kLag = 100'000;  // changes that fit nothing before the position is written down

bool below(std::string_view path, std::string_view top) {
  if (top == "/") return true;
  return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

bool listed(std::string_view list, std::string_view word) {
  if (list.empty()) return true;
  for (std::size_t i = 0; i <= list.size();) {
    const std::size_t end = std::min(list.find(',', i), list.size());
    if (list.substr(i, end - i) == word) return true;
    i = end + 1;
  }
  return false;
}

}  // namespace

bool Relay::fits(const Rule& r, const ChangeEvent& e) {
  if (e.row.seq.raw() <= r.since || e.row.op == "epoch") return false;
  if (!listed(r.kinds, e.row.op)) return false;
  if (r.branch && *r.branch != e.branch) return false;
  if (!r.path) return true;
  const auto inside = [&](const std::optional<std::string>& p) { return p && below(*p, *r.path); };
  return inside(e.path) || inside(e.from_path);
}

Result<std::vector<Relay::Rule>> Relay::rules() {
  INDRA_LET(const auto rows,
            coord_->select("SELECT name, queue, bucket, branch, path, kinds, since FROM indra_rules"));
  std::vector<Rule> all;
  const auto maybe = [](const Coord::Json& j) {
    return j.is_null() ? std::nullopt : std::optional{j.get<std::string>()};
  };
  for (const auto& r : rows)
    all.push_back({r[0].get<std::string>(), r[1].get<std::string>(), r[2].get<std::string>(),
                   r[5].get<std::string>(), maybe(r[3]), maybe(r[4]), r[6].get<std::int64_t>()});
  return all;
}

Result<void> Relay::open_reader() {
  if (db_) return {};
  DbOptions o;
  o.read_only = true;
  o.cache_kib = 2048;
  INDRA_LET(db_, Db::open(vault_ + "/vault.db", o));
  return {};
}

Result<bool> Relay::pass() {
  const std::string path = vault_ + "/coord.db";
  if (!coord_) {
    if (::access(path.c_str(), F_OK) != 0) return false;  // nobody coordinates here
    Coord::Options o;
    o.create = false;
    o.busy = options_.busy;
    auto opened = Coord::open(path, o);
    if (!opened && opened.error().code == std::errc::no_such_file_or_directory)
      return false;  // being made just now
    if (!opened) return fail(opened.error());
    coord_ = std::move(*opened);
  }
  INDRA_LET(auto all, rules());
  if (all.empty()) {
    db_.reset();
    logs_.clear();
    started_ = false;
    return false;
  }
  INDRA_TRY(open_reader());
  INDRA_LET(const auto row, coord_->select("SELECT value FROM indra_meta WHERE name = 'relayed'"));
  const Seq stored{row.at(0).at(0).get<std::int64_t>()};
  if (!started_ || stored > seen_) seen_ = stored;
  started_ = true;

  // All buckets in one snapshot: the same rows, each with what is its own.
  std::vector<std::pair<std::string, ChangeEvent>> events;
  std::set<std::string> asked;
  for (const Rule& r : all) asked.insert(r.bucket);
  Seq upto = seen_;
  bool more = false;
  {
    Tx tx = db_->borrow();
    INDRA_TRY(db_->execute("BEGIN"));
    const auto read = [&]() -> Result<void> {
      INDRA_LET(const Seq removed, ChangeLog::removed(tx));
      if (seen_ < removed) {
        log::warn("rules: changes {} to {} are no longer kept and made no jobs", seen_.raw() + 1,
                  removed.raw());
        seen_ = removed;
      }
      for (const Rule& r : all) {
        if (logs_.contains(r.bucket)) continue;
        ChangeFilter filter;
        filter.bucket = r.bucket;
        auto log = ChangeLog::open(tx, filter);
        if (!log) {
          if (log.error().code == std::errc::no_such_file_or_directory) continue;  // no such bucket yet
          return fail(log.error());
        }
        logs_.emplace(r.bucket, std::move(*log));
      }
      if (logs_.empty()) {
        INDRA_LET(upto, ChangeLog::last(tx));
      }
      for (auto& [bucket, log] : logs_) {
        INDRA_LET(const ChangeLog::Batch batch, log.read(tx, seen_, kChangesAtOnce));
        upto = std::max(upto, batch.upto);
        more = more || batch.more;
        for (const ChangeEvent& e : batch.events) events.emplace_back(bucket, e);
      }
      return {};
    };
    const auto r = read();
    INDRA_TRY(db_->execute("COMMIT"));
    INDRA_TRY(r);
  }
  // The rules as they are after the changes were read: one that was there before a change sees it.
  INDRA_LET(all, rules());
  std::vector<std::pair<const Rule*, const ChangeEvent*>> found;
  for (const Rule& r : all)
    if (!asked.contains(r.bucket)) return true;  // a new one, for another bucket: once more
  for (const auto& [bucket, e] : events)
    for (const Rule& r : all)
      if (r.bucket == bucket && fits(r, e)) found.emplace_back(&r, &e);
  if (found.empty() && upto.raw() - stored.raw() < kLag) {
    seen_ = upto;
    return more;
  }
  if (!found.empty() && options_.durable) INDRA_TRY(options_.durable());

  INDRA_TRY(coord_->execute("BEGIN IMMEDIATE"));
  const auto put = [&]() -> Result<bool> {
    INDRA_LET(const auto now, coord_->select("SELECT value FROM indra_meta WHERE name = 'relayed'"));
    if (now.at(0).at(0).get<std::int64_t>() != stored.raw()) return false;  // another relay was quicker
    for (const auto& [rule, event] : found) {
      const std::string payload = [&, &rule = rule, &event = event] {
        auto j = event_json(*event);
        j["rule"] = rule->name;
        return j.dump(-1, ' ', false, Coord::Json::error_handler_t::replace);
      }();
      INDRA_TRY(options_.faults.at("relay.jobs"));
      INDRA_TRY(coord_->call("indra_enqueue", {rule->queue, payload}));
      INDRA_TRY(coord_->select("UPDATE indra_rules SET made = made + 1 WHERE name = ?", {rule->name}));
    }
    INDRA_TRY(coord_->select("UPDATE indra_meta SET value = ? WHERE name = 'relayed'", {upto.raw()}));
    return true;
  };
  const auto done = put();
  if (!done || !*done) {
    (void)coord_->execute("ROLLBACK");
    if (!done) return fail(done.error());
    return true;
  }
  INDRA_TRY(options_.faults.at("relay.commit"));
  INDRA_TRY(coord_->execute("COMMIT"));
  seen_ = upto;
  return more;
}

void relay_before_closing(const std::string& vault, const std::function<Result<void>()>& durable) {
  if (::access((vault + "/coord.db").c_str(), F_OK) != 0 || !durable()) return;
  Relay::Options o;
  o.durable = durable;
  Relay relay{vault, std::move(o)};
  for (;;) {
    const auto more = relay.pass();
    if (!more && more.error().code != std::errc::device_or_resource_busy)
      log::warn("rules: {}", more.error().text());
    if (!more || !*more) return;
  }
}

}  // namespace indra
