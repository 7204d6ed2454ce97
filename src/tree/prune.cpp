#include "tree/prune.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <set>
#include <string>

namespace indra {
namespace {

constexpr TimeNs kHour = 3600 * kSecond, kDay = 24 * kHour;
constexpr std::string_view kPrefix = "versions:";  // then the bucket's number: "1 86400 604800 7776000"

std::optional<std::int64_t> number(std::string_view& text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || n < 0 || n > INT64_MAX / kSecond) return {};
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return n;
}

std::optional<Retention> parse(std::string_view text) {
  const auto on = number(text), all = number(text), hourly = number(text), daily = number(text);
  if (!on || !all || !hourly || !daily || !text.empty()) return {};
  return Retention{*on != 0, *all * kSecond, *hourly * kSecond, *daily * kSecond};
}

}  // namespace

Result<std::map<BucketId, Retention>> kept_by_buckets(Tx& tx) {
  std::map<BucketId, Retention> all;
  Statement q{tx, "SELECT name, value FROM properties WHERE name >= 'versions:' AND name < 'versions;'"};
  for (;;) {
    INDRA_LET(const bool more, q.step());
    if (!more) return all;
    std::string_view id = q.text_at(0).substr(kPrefix.size());
    const auto bucket = number(id);
    const auto keep = parse(q.text_at(1));
    // What makes no sense must not have history removed by chance.
    if (bucket && id.empty() && keep) all[BucketId{*bucket}] = *keep;
  }
}

Result<std::vector<AutomaticPin>> outlived_pins(Tx& tx, TimeNs now, const Retention& otherwise,
                                                std::optional<BucketId> only) {
  INDRA_LET(const auto told, kept_by_buckets(tx));
  TimeNs youngest = otherwise.all;
  for (const auto& [bucket, keep] : told) youngest = std::min(youngest, keep.all);
  struct Pin {
    AutomaticPin pin;
    TimeNs time;
    const Retention* keep;
  };
  std::vector<Pin> old;
  Statement q{
      tx,
      "SELECT p.id, p.branch, p.time, b.bucket FROM pins p LEFT JOIN branches b ON b.id = p.branch WHERE "
      "p.kind = 3 AND p.time < ?1 AND (?2 IS NULL OR b.bucket = ?2) ORDER BY p.branch, p.time, p.id"};
  q.bind(1, now - youngest).bind(2, only);
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) break;
    const auto it = told.find(q.id_at<BucketId>(3));
    const Retention* keep = it == told.end() ? &otherwise : &it->second;
    if (now - q.int64_at(2) > keep->all)
      old.push_back({{q.int64_at(0), q.id_at<BranchId>(1)}, q.int64_at(2), keep});
  }
  std::vector<AutomaticPin> out;
  for (std::size_t i = 0; i < old.size(); ++i) {
    const Pin& p = old[i];
    const TimeNs age = now - p.time;
    bool stays = age <= std::max(p.keep->daily, p.keep->hourly);
    if (stays && i + 1 < old.size() && old[i + 1].pin.branch == p.pin.branch) {
      const TimeNs unit = age <= p.keep->hourly ? kHour : kDay;
      stays = p.time / unit != old[i + 1].time / unit;
    }
    if (!stays) out.push_back(p.pin);
  }
  return out;
}

Result<std::vector<AutomaticPin>> older_pins(Tx& tx, BucketId bucket, TimeNs before) {
  std::vector<AutomaticPin> out;
  Statement q{
      tx,
      "SELECT p.id, p.branch FROM pins p JOIN branches b ON b.id = p.branch WHERE p.kind = 3 AND p.time <= "
      "?1 AND b.bucket = ?2 ORDER BY p.branch, p.time, p.id"};
  q.bind(1, before).bind(2, bucket);
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return out;
    out.push_back({q.int64_at(0), q.id_at<BranchId>(1)});
  }
}

Result<std::map<BlobId, std::int64_t>> dropped_without(Tx& tx, const std::vector<AutomaticPin>& pins) {
  std::set<std::int64_t> without;
  for (const AutomaticPin& p : pins) without.insert(p.id);
  std::map<BranchId, std::vector<std::int64_t>> standing;  // in order
  {
    Statement q{tx, "SELECT id, branch, seq FROM pins WHERE kind < 4 ORDER BY branch, seq"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      if (!without.contains(q.int64_at(0))) standing[q.id_at<BranchId>(1)].push_back(q.int64_at(2));
    }
  }
  std::map<BlobId, std::int64_t> dropped;
  Statement q{tx, "SELECT branch, seq, until, blob FROM nodes_past WHERE blob IS NOT NULL"};
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return dropped;
    const auto& of = standing[q.id_at<BranchId>(0)];
    const auto pin = std::lower_bound(of.begin(), of.end(), q.int64_at(1));
    if (pin == of.end() || *pin >= q.int64_at(2)) ++dropped[q.id_at<BlobId>(3)];
  }
}

Result<BucketId> bucket_named(Tx& tx, std::string_view name) {
  Statement q{tx, "SELECT id FROM buckets WHERE name = ?1"};
  INDRA_LET(const bool there, q.bind_text(1, name).step());
  if (!there) return fail(ENOENT, "bucket " + std::string{name});
  return q.id_at<BucketId>(0);
}

Result<void> keep_by_bucket(Tx& tx, BucketId id, const Retention& k) {
  for (const TimeNs age : {k.all, k.hourly, k.daily})
    if (age < 0 || age > kDay * 366 * 100) return fail(EINVAL, "versions are kept for up to a hundred years");
  const std::string property = std::string{kPrefix} + std::to_string(id.raw());
  const std::string text = std::to_string(int{k.automatic}) + ' ' + std::to_string(k.all / kSecond) + ' ' +
                           std::to_string(k.hourly / kSecond) + ' ' + std::to_string(k.daily / kSecond);
  return Statement{tx, "INSERT OR REPLACE INTO properties(name, value) VALUES(?1, ?2)"}
      .bind_text(1, property)
      .bind_text(2, text)
      .run();
}

Result<int> give_up(Tx& tx, const std::vector<AutomaticPin>& pins, int limit) {
  int n = 0;
  for (const AutomaticPin& p : pins) {
    if (n == limit) break;
    INDRA_TRY(Statement(tx, "UPDATE pins SET kind = 4 WHERE id = ?1 AND kind = 3").bind(1, p.id).run());
    ++n;
  }
  return n;
}

}  // namespace indra
