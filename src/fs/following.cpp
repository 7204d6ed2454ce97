// Branches that follow their parents: forks that take over, by themselves, what the parent has published
// (docs/branches.md, O1..).
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "fs/internal/fs_impl.h"
#include "fs/internal/merging.h"

namespace indra {
namespace {
constexpr TimeNs kRetry = 5 * kSecond;  // after a failure: a mount's follower is not tried at every change
}  // namespace

Result<void> FileSystemImpl::load_followers() {
  return writer_->read([&](Tx& tx) -> Result<void> {
    Statement q{tx, "SELECT id, parent FROM branches WHERE follow = 1 AND hidden = 0"};
    const MutexLock lock{followers_mutex_};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      followers_[q.id_at<BranchId>(0)] = {q.id_at<BranchId>(1)};
    }
    any_followers_ = !followers_.empty();
    return {};
  });
}

void FileSystemImpl::follows(const BranchInfo& info) {
  const MutexLock lock{followers_mutex_};
  if (info.follow)
    followers_[info.id] = {info.parent};
  else
    followers_.erase(info.id);
  any_followers_ = !followers_.empty();
}

Result<void> FileSystemImpl::follow_branch(const Who&, std::string_view bucket, std::string_view name,
                                           bool on) {
  INDRA_LET(const BranchInfo now, writer_->mutate([&](Tx& tx) -> Result<BranchInfo> {
    INDRA_LET(BranchInfo info, tree_->follow_branch(tx, bucket, name, on));
    if (!on) return info;
    INDRA_LET(const BranchInfo parent, tree_->branch(tx, info.parent));
    if (parent.hidden) return fail(EINVAL, "what branch " + info.name + " was forked from is deleted");
    return info;
  }));
  if (on) {
    follows(now);
    const auto r = catch_up(now.id);
    if (r) return {};
    INDRA_LET(const BranchInfo as_before,
              writer_->mutate([&](Tx& tx) { return tree_->follow_branch(tx, bucket, name, false); }));
    follows(as_before);
    return r;
  }
  INDRA_TRY(catch_up(now.id));  // all that came until now
  follows(now);
  return {};
}

Result<void> FileSystemImpl::catch_up(BranchId id) {
  Follower f;
  {
    const MutexLock lock{followers_mutex_};
    const auto it = followers_.find(id);
    if (it == followers_.end()) return {};
    f = it->second;
  }
  INDRA_TRY(catch_up(f.parent));
  const MutexLock one{follow_mutex_};
  Seq last;
  INDRA_LET(const bool gone, writer_->read([&](Tx& tx) -> Result<bool> {
    INDRA_LET(const BranchInfo parent, tree_->branch(tx, f.parent));
    INDRA_LET(last, tree_->last_change(tx, f.parent));
    return parent.hidden;  // nothing new comes
  }));
  {
    const MutexLock lock{followers_mutex_};
    const auto it = followers_.find(id);
    if (gone || it == followers_.end() || it->second.seen == last) return {};
  }
  const auto target = branch_state(id), source = branch_state(f.parent);
  if (!target || !source) return {};  // deleted meanwhile
  const Who who{0, ::getpid(), "indrafs", "follow"};
  const auto done = Merging::follow(*this, who, *target, *source);
  const MutexLock lock{followers_mutex_};
  if (const auto it = followers_.find(id); it != followers_.end()) {
    if (done) it->second.seen = last;
    it->second.failed_at = done ? 0 : std::max<TimeNs>(clock_->steady(), 1);
  }
  return done ? Result<void>{} : fail(done.error());
}

void FileSystemImpl::catch_up_or_say(BranchId id) {
  if (const auto r = catch_up(id); !r)
    log::warn("a branch stays behind what it follows: {}", r.error().text());
}

void FileSystemImpl::catch_up_mounted() {
  if (!any_followers_ || writer_->failed()) return;
  std::vector<BranchId> some;
  {
    const TimeNs now = clock_->steady();
    const MutexLock lock{followers_mutex_};
    for (const auto& [id, f] : followers_)
      if (f.failed_at == 0 || now - f.failed_at >= kRetry) some.push_back(id);
  }
  std::erase_if(some, [&](BranchId id) {
    const ReadLock lock{views_mutex_};
    return std::none_of(views_.begin(), views_.end(), [&](const ViewImpl* v) {
      return v->branch() == id && v->live() && v->front() != nullptr;
    });
  });
  for (const BranchId id : some) catch_up_or_say(id);
}

}  // namespace indra
