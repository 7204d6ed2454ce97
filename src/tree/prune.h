// Which automatic versions go by age, and what goes with them. Rows alone: no Tree is needed, so a connection
// of one's own may ask while others work.
//
// Source: docs/design/tree.md (T9, T14).
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "tree/tree.h"

namespace indra {

/// How long automatic versions of a bucket are kept, by age: all of them, then one an hour, then one a day.
struct Retention {
  bool automatic = true;  ///< false: none are made any more; those there go by their age as before
  TimeNs all = Tree::Options{}.keep_all, hourly = Tree::Options{}.keep_hourly,
         daily = Tree::Options{}.keep_daily;
  [[nodiscard]] static Retention of(const Tree::Options& o) {
    return {true, o.keep_all, o.keep_hourly, o.keep_daily};
  }
  friend bool operator==(const Retention&, const Retention&) = default;
};

struct AutomaticPin {
  std::int64_t id = 0;
  BranchId branch;
};

/// What buckets were told to keep; those that are not in it keep the default.
[[nodiscard]] Result<std::map<BucketId, Retention>> kept_by_buckets(Tx&);
/// EINVAL for an age below zero, or above a hundred years.
[[nodiscard]] Result<void> keep_by_bucket(Tx&, BucketId, const Retention&);
/// ENOENT.
[[nodiscard]] Result<BucketId> bucket_named(Tx&, std::string_view name);

/// Automatic pins that the schedules no longer keep: a later one of its branch lies in the same hour or day,
/// or it is too old. `only`: of this bucket.
[[nodiscard]] Result<std::vector<AutomaticPin>> outlived_pins(Tx&, TimeNs now, const Retention& otherwise,
                                                              std::optional<BucketId> only = {});
/// Automatic pins of the bucket made at `until`, or before.
[[nodiscard]] Result<std::vector<AutomaticPin>> older_pins(Tx&, BucketId, TimeNs until);

/// They are readable no more; Tree::thin() removes what they alone kept. Returns how many: at most `limit`.
[[nodiscard]] Result<int> give_up(Tx&, const std::vector<AutomaticPin>&, int limit);

/// References to content that would be dropped if these pins were given up, beside those that have been and
/// whose rows are still there.
[[nodiscard]] Result<std::map<BlobId, std::int64_t>> dropped_without(Tx&, const std::vector<AutomaticPin>&);

}  // namespace indra
