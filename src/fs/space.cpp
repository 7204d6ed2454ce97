// Space: what nobody needs any more, given back when asked for, and told beforehand.
#include "fs/space.h"

#include "blob/collecting.h"
#include "fs/internal/fs_impl.h"

namespace indra {
namespace {
constexpr int kPinsAtOnce = 256;  // given up in one mutation
FileSystemImpl& of(FileSystem& fs) { return static_cast<FileSystemImpl&>(fs); }
}  // namespace

Result<void> FileSystemImpl::look_for_space() {
  thin_wanted_ = sweep_wanted_ = true;
  auto r = reap_some();
  look_for_jobs();
  return r;
}

Result<Retention> versions_kept(FileSystem& fs, std::string_view bucket) {
  return of(fs).writer().read([&](Tx& tx) -> Result<Retention> {
    INDRA_LET(const BucketId id, bucket_named(tx, bucket));
    INDRA_LET(const auto told, kept_by_buckets(tx));
    const auto it = told.find(id);
    return it == told.end() ? Retention::of(of(fs).options().tree) : it->second;
  });
}

Result<void> keep_versions(FileSystem& fs, std::string_view bucket, const Retention& keep) {
  INDRA_TRY(of(fs).writer().mutate([&](Tx& tx) -> Result<void> {
    INDRA_LET(const BucketId id, bucket_named(tx, bucket));
    return keep_by_bucket(tx, id, keep);
  }));
  return of(fs).look_for_space();
}

Result<Collection> collect(FileSystem& fs) {
  try_damaged_again(of(fs).store());
  const Freed now = freed(of(fs).store());
  INDRA_TRY(of(fs).look_for_space());
  return Collection{now.rounds, now.bytes};
}

// Rounds count from when nothing is left to be thinned and swept: what that lets go is found by those after.
Result<bool> collected(FileSystem& fs, Collection& c) {
  FileSystemImpl& f = of(fs);
  if (f.writer().failed()) return fail(make_error_code(Errc::failed));
  const bool looked = f.space_looked_for();
  const Freed now = freed(f.store());
  c.freed = now.bytes - std::min(c.begun, now.bytes);
  if (!looked) {
    c.rounds = now.rounds;
    return false;
  }
  if (now.rounds >= c.rounds + 2) return true;
  return f.store().at_rest(ContentStore::Work::free);
}

Result<Reclaimable> reclaimable(FileSystem& fs, const PruneRequest& request) {
  FileSystemImpl& f = of(fs);
  (void)f.writer()
      .barrier();  // what was answered is there for whoever reads the file; a failed vault is read
  INDRA_LET(const auto db,
            Db::open(f.dir() + "/vault.db", {.read_only = true, .vfs_below = f.options().vfs_below}));
  INDRA_TRY(db->execute("BEGIN"));
  Tx tx = db->borrow();
  INDRA_LET(const BucketId bucket, bucket_named(tx, request.bucket));
  const TimeNs now = f.now();
  Reclaimable out;
  const auto bytes = [&](const std::vector<AutomaticPin>& pins) -> Result<std::uint64_t> {
    INDRA_LET(const auto dropped, dropped_without(tx, pins));
    INDRA_LET(const Freeable free, freeable(tx, dropped));
    out.unreadable = std::max(out.unreadable, free.unreadable);
    return free.bytes;
  };
  INDRA_LET(out.dead, bytes({}));
  std::vector<AutomaticPin> goes;
  if (request.older) {
    INDRA_LET(goes, older_pins(tx, bucket, now - *request.older));
  } else {
    INDRA_LET(goes, outlived_pins(tx, now, Retention::of(f.options().tree), bucket));
  }
  INDRA_LET(const auto all, older_pins(tx, bucket, INT64_MAX));
  out.versions = goes.size();
  out.all_versions = all.size();
  out.pruned = out.all_pruned = out.dead;
  if (!goes.empty()) {
    INDRA_LET(out.pruned, bytes(goes));
  }
  if (!all.empty()) {
    INDRA_LET(out.all_pruned, bytes(all));
  }
  out.pruned -= std::min(out.pruned, out.dead);
  out.all_pruned -= std::min(out.all_pruned, out.dead);
  return out;
}

Result<void> still_kept(FileSystem& fs, const View& view) {
  const auto& v = static_cast<const ViewImpl&>(view);
  const Chain::Link top = v.chain().links().front();
  if (top.limit == kSeqMax) return {};
  return of(fs).writer().read([&](Tx& tx) -> Result<void> {
    const auto now = of(fs).tree().chain_at(tx, top.branch, top.limit);
    if (now && now->links().front().branch == top.branch && now->links().front().limit == top.limit)
      return {};
    return fail(ESTALE, (v.spec().snapshot.empty() ? "that moment" : "snapshot " + v.spec().snapshot) +
                            " was given up meanwhile, so a part may be missing");
  });
}

Result<std::uint64_t> prune(FileSystem& fs, const PruneRequest& request) {
  FileSystemImpl& f = of(fs);
  const TimeNs now = f.now();
  std::uint64_t n = 0;
  for (;;) {
    INDRA_LET(const int some, f.writer().mutate([&](Tx& tx) -> Result<int> {
      INDRA_LET(const BucketId bucket, bucket_named(tx, request.bucket));
      std::vector<AutomaticPin> pins;
      if (request.older) {
        INDRA_LET(pins, older_pins(tx, bucket, now - *request.older));
      } else {
        INDRA_LET(pins, outlived_pins(tx, now, Retention::of(f.options().tree), bucket));
      }
      return give_up(tx, pins, kPinsAtOnce);
    }));
    if (some == 0) break;
    n += static_cast<std::uint64_t>(some);
  }
  INDRA_TRY(f.look_for_space());
  return n;
}

}  // namespace indra
