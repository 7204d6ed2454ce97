// Branches and snapshots: made, renamed, protected, deleted (docs/branches.md).
#include <algorithm>
#include <functional>

#include "base/log.h"
#include "fs/internal/fs_impl.h"

namespace indra {

// A fork or snapshot holds every write that returned: the branch's sessions are locked, made ready, and
// published in the transaction that makes the pin (S9). They are locked in the order of their nodes.
namespace {
struct Ready {
  std::shared_ptr<Session> session;
  std::unique_ptr<Content::Staged> staged;
};
}  // namespace

INDRA_NO_ANALYSIS Result<void> FileSystemImpl::mutate_published(
    const std::vector<std::shared_ptr<const BranchView>>& states,
    const std::function<Result<void>(Tx&)>& fn) {
  const auto state_of = [&](BranchId id) -> const BranchView* {
    for (const auto& s : states)
      if (s->info.id == id) return s.get();
    return nullptr;
  };
  std::vector<std::shared_ptr<Session>> dirty;
  for (auto& s : sessions_.all())
    if (state_of(s->key.branch) != nullptr && s->ahead && !s->unlinked) dirty.push_back(s);
  std::sort(dirty.begin(), dirty.end(), [](const auto& a, const auto& b) { return a->key < b->key; });
  std::vector<std::unique_lock<SharedMutex>> locks;
  std::vector<Ready> ready;
  for (auto& s : dirty) locks.emplace_back(s->mutex);  // all of them before any blob is held (locks.md)
  for (auto& s : dirty) {
    if (!s->ahead || !s->content) continue;
    INDRA_LET(auto staged, s->content->stage(Content::For::publish));
    ready.push_back({s, std::move(staged)});
  }
  INDRA_TRY(writer_->mutate_content([&](Tx& tx) INDRA_NO_ANALYSIS -> Result<void> {
    for (Ready& r : ready)
      INDRA_TRY(put_content(tx, *state_of(r.session->key.branch), *r.session, *r.staged));
    return fn(tx);
  }));
  for (Ready& r : ready) {
    r.staged->accept();
    published(*r.session);
  }
  return {};
}

template <class T>
Result<T> FileSystemImpl::with_published(const std::shared_ptr<const BranchView>& state,
                                         const std::function<Result<T>(Tx&)>& fn) {
  std::optional<T> out;
  INDRA_TRY(mutate_published({state}, [&](Tx& tx) -> Result<void> {
    INDRA_LET(out, fn(tx));
    return {};
  }));
  return std::move(*out);
}

Result<BranchInfo> FileSystemImpl::fork(const Who& who, std::string_view bucket, std::string_view name,
                                        const ForkFrom& from) {
  if (from.empty)
    return writer_->mutate(
        [&](Tx& tx) { return tree_->create_branch(tx, who, bucket, name, BranchId{}, {}); });
  const bool past = !from.snapshot.empty() || from.seq || from.time;
  if (from.follow && past) return fail(EINVAL, "what was then does not change any more: nothing to follow");
  INDRA_LET(auto state, branch_state(bucket, from.branch));
  const std::function<Result<BranchInfo>(Tx&)> make = [&](Tx& tx) -> Result<BranchInfo> {
    BranchId parent = state->info.id;
    Seq at = kSeqMax;
    if (!from.snapshot.empty()) {
      INDRA_LET(const auto pins, tree_->pins(tx, bucket, PinKind::snapshot));
      const auto it =
          std::find_if(pins.begin(), pins.end(), [&](const PinInfo& p) { return p.name == from.snapshot; });
      if (it == pins.end()) return fail(ENOENT, "snapshot " + from.snapshot);
      parent = it->branch;
      at = it->seq;
    } else if (from.seq) {
      INDRA_LET(const Tree::KeptMoment m, tree_->moment_at_seq(tx, parent, *from.seq));
      parent = m.branch, at = m.seq;
    } else if (from.time) {
      INDRA_LET(const Tree::KeptMoment m, tree_->moment_at_time(tx, parent, *from.time));
      parent = m.branch, at = m.seq;
    }
    return tree_->create_branch(tx, who, bucket, name, parent, at, from.follow);
  };
  auto made = past || from.committed ? writer_->mutate(make) : with_published<BranchInfo>(state, make);
  if (made) follows(*made);
  poke();
  return made;
}

Result<PinInfo> FileSystemImpl::create_snapshot(const Who& who, std::string_view bucket,
                                                std::string_view branch, std::string_view name,
                                                std::string_view message) {
  INDRA_LET(auto state, branch_state(bucket, branch));
  auto made = with_published<PinInfo>(
      state, [&](Tx& tx) { return tree_->create_snapshot(tx, who, state->info.id, name, message); });
  poke();
  return made;
}

Result<Tree::KeptMoment> FileSystemImpl::moment(std::string_view bucket, std::string_view branch,
                                                std::optional<Seq> seq, std::optional<TimeNs> time) {
  INDRA_LET(auto state, branch_state(bucket, branch));
  return writer_->read([&](Tx& tx) -> Result<Tree::KeptMoment> {
    if (seq) return tree_->moment_at_seq(tx, state->info.id, *seq);
    if (time) return tree_->moment_at_time(tx, state->info.id, *time);
    return Tree::KeptMoment{state->info.id, kSeqMax, clock_->now(), true};
  });
}

Result<void> FileSystemImpl::rename_branch(const Who& who, std::string_view bucket, std::string_view name,
                                           std::string_view to) {
  INDRA_LET(auto state, branch_state(bucket, name));
  INDRA_TRY(writer_->mutate([&](Tx& tx) { return tree_->rename_branch(tx, who, bucket, name, to); }));
  if (name != to) state->stale = true;
  {
    const MutexLock lock{branches_mutex_};
    branches_.erase(state->info.id);
  }
  poke();
  return {};
}

Result<void> FileSystemImpl::protect_branch(const Who&, std::string_view bucket, std::string_view name,
                                            bool on) {
  INDRA_LET(auto state, branch_state(bucket, name));
  const bool before = state->locked;
  state->locked = on;
  auto r = with_published<bool>(state, [&](Tx& tx) -> Result<bool> {
    INDRA_TRY(tree_->protect_branch(tx, bucket, name, on));
    return true;
  });
  if (!r) {
    state->locked = before;
    return fail(r.error());
  }
  poke();
  return {};
}

Result<void> FileSystemImpl::delete_branch(const Who& who, std::string_view bucket, std::string_view name) {
  INDRA_LET(auto state, branch_state(bucket, name));
  const BranchId id = state->info.id;
  std::vector<BranchId> followers;  // to have all of it before nothing new comes
  {
    const MutexLock lock{followers_mutex_};
    for (const auto& [follower, f] : followers_)
      if (f.parent == id) followers.push_back(follower);
  }
  for (const BranchId f : followers) INDRA_TRY(catch_up(f));
  INDRA_TRY(writer_->mutate([&](Tx& tx) -> Result<void> {
    INDRA_LET(const BranchInfo gone, tree_->delete_branch(tx, who, bucket, name));
    std::vector<BlobId> held;
    {
      Statement q{tx, "SELECT blob FROM sessions WHERE branch = ?1"};
      q.bind(1, gone.id);
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        held.push_back(q.id_at<BlobId>(0));
      }
    }
    for (const BlobId b : held) INDRA_TRY(store_->drop_ref(tx, b));
    Statement q{tx, "DELETE FROM sessions WHERE branch = ?1"};
    return q.bind(1, gone.id).run();
  }));
  state->locked = true;
  state->stale = true;
  {
    const MutexLock lock{followers_mutex_};
    followers_.erase(id);
  }
  {
    const MutexLock lock{branches_mutex_};
    branches_.erase(id);
  }
  // What files still open hold lives as long as their handles, like a file that lost its last name (S4).
  for (const auto& s : sessions_.all()) {
    if (s->key.branch != id) continue;
    const WriteLock lock{s->mutex};
    s->unlinked = true;
    s->replaced_before = 0;
    s->private_blob = {};
  }
  sweep_wanted_ = true;
  poke();
  return {};
}

Result<void> FileSystemImpl::delete_snapshot(const Who& who, std::string_view bucket, std::string_view name) {
  INDRA_TRY(writer_->mutate([&](Tx& tx) { return tree_->delete_snapshot(tx, who, bucket, name); }));
  {
    const ReadLock lock{views_mutex_};
    for (ViewImpl* v : views_)
      if (v->spec().bucket == bucket && v->spec().snapshot == name) v->became_stale();
  }
  sweep_wanted_ = true;
  poke();
  return {};
}

bool FileSystemImpl::viewed(BranchId id) const {
  const ReadLock lock{views_mutex_};
  return std::any_of(views_.begin(), views_.end(),
                     [&](const ViewImpl* v) { return v->branch() == id || v->chain().depth_of(id) >= 0; });
}

// A slice each, so that nobody waits for it; what is still looked at is left for later.
Result<bool> FileSystemImpl::sweep_slice() {
  sweep_wanted_ = false;
  const auto n = writer_->mutate(
      [&](Tx& tx) { return tree_->sweep(tx, 128, [this](BranchId id) { return viewed(id); }); });
  if (!n || *n != 0) sweep_wanted_ = true;
  if (!n) return fail(n.error());
  return *n != 0;
}

}  // namespace indra
