// When things happen by themselves: sessions persisted and published in time, orphans reaped, automatic pins.
// What takes longer is work.cpp's, in a thread of its own. Nothing to do: no wake-up.
#include <algorithm>

#include "base/log.h"
#include "fs/internal/fs_impl.h"

namespace indra {
namespace {
constexpr TimeNs kLook = kSecond / 10;  // how often the clockwork looks while something is under way
constexpr TimeNs kThinEvery = 60 * kSecond;
constexpr TimeNs kOwedEvent = kSecond;  // S6
constexpr TimeNs kTryAgain = kSecond;   // what failed, on a full disk say: nobody may call any more
constexpr std::size_t kReapSlice = 4;   // orphans taken apart in one mutation: others wait meanwhile
constexpr TimeNs kNever = INT64_MAX;

void complain(const char* what, const Result<void>& r) {
  if (!r) log::error("{}: {}", what, r.error().text());
}
}  // namespace

void FileSystemImpl::poke() {
  work_poked_ = true;
  if (poked_.exchange(true)) return;
  { const std::lock_guard lock{clock_mutex_}; }
  clock_cv_.notify_one();
}

void FileSystemImpl::orphaned(BranchId b, NodeId n, bool replaced) {
  const MutexLock lock{orphans_mutex_};
  if (orphans_.insert({{b, n}, replaced}).second) ++orphan_count_;
}

bool FileSystemImpl::replaced(BranchId b, NodeId n) const {
  const MutexLock lock{orphans_mutex_};
  const auto it = orphans_.find({b, n});
  return it != orphans_.end() && it->second;
}

bool FileSystemImpl::referenced(BranchId b, NodeId n) const {
  if (sessions_.open({b, n})) return true;
  const ReadLock lock{views_mutex_};
  return std::any_of(views_.begin(), views_.end(),
                     [&](const ViewImpl* v) { return v->branch() == b && v->holds(n); });
}

void FileSystemImpl::released(BranchId b, NodeId n) {
  if (orphan_count_ == 0) return;
  {
    const MutexLock lock{orphans_mutex_};
    if (!orphans_.contains({b, n})) return;
  }
  if (referenced(b, n)) return;
  {
    const MutexLock lock{orphans_mutex_};
    reapable_.push_back({b, n});
  }
  poke();
}

Result<void> FileSystemImpl::reap_some() {
  for (;;) {
    std::vector<SessionKey> some;
    {
      const MutexLock lock{orphans_mutex_};
      while (!reapable_.empty() && some.size() < kReapSlice) {
        if (orphans_.contains(reapable_.back())) some.push_back(reapable_.back());
        reapable_.pop_back();
      }
    }
    if (some.empty()) return {};
    struct Again {  // unless all goes well
      FileSystemImpl& fs;
      std::vector<SessionKey>& keys;
      ~Again() {
        const MutexLock lock{fs.orphans_mutex_};
        fs.reapable_.insert(fs.reapable_.end(), keys.begin(), keys.end());
      }
    } const again{*this, some};
    INDRA_TRY(options_.faults.at("reap"));
    std::vector<std::shared_ptr<const BranchView>> states;
    std::erase_if(some, [&](const SessionKey& k) {
      auto state = branch_state(k.branch);
      if (state) states.push_back(std::move(*state));
      if (state || state.error().code != std::errc::no_such_file_or_directory) return !state;
      const MutexLock lock{orphans_mutex_};  // went with its branch
      orphan_count_ -= orphans_.erase(k);
      return true;
    });
    INDRA_TRY(writer_->mutate([&](Tx& tx) -> Result<void> {
      for (std::size_t i = 0; i < some.size(); ++i)
        if (!referenced(some[i].branch, some[i].node)) {
          INDRA_TRY(forget_persisted(tx, some[i]));
          if (auto r = tree_->reap(tx, states[i]->head.merging(), some[i].node);
              !r && r.error().code != std::errc::no_such_file_or_directory)
            return r;
          const MutexLock lock{orphans_mutex_};
          orphan_count_ -= orphans_.erase(some[i]);
        }
      return {};
    }));
    some.clear();
    work_poked_ = true;  // whoever looked before this found nothing of it
  }
}

void FileSystemImpl::notify(BranchId branch, const View* from, Change::Kind kind, NodeId node, NodeId parent,
                            std::string_view name) {
  const ReadLock lock{views_mutex_};
  if (views_.size() <= 1 && (views_.empty() || static_cast<const View*>(views_.front()) == from)) return;
  for (ViewImpl* v : views_)
    if (static_cast<const View*>(v) != from && v->front() != nullptr && v->live() && v->branch() == branch)
      v->front()->changed({kind, node, parent, std::string{name}});
}

void FileSystemImpl::did(BranchId branch, const View* by, const Deed& deed) {
  const bool name = deed.kind < Deed::written;
  const ReadLock lock{views_mutex_};
  if (views_.size() <= 1 && !name && (views_.empty() || static_cast<const View*>(views_.front()) == by))
    return;
  for (ViewImpl* v : views_) {
    const bool own = static_cast<const View*>(v) == by;
    if ((!own || name) && v->front() != nullptr && v->live() && v->branch() == branch)
      v->front()->did(deed, own);
  }
}

void FileSystemImpl::add_view(ViewImpl* v) {
  const WriteLock lock{views_mutex_};
  views_.push_back(v);
}

void FileSystemImpl::remove_view(ViewImpl* v) {
  {
    const WriteLock lock{views_mutex_};
    std::erase(views_, v);
  }
  if (v->state().stale || v->stale()) {  // what it kept of a deleted branch may go now
    sweep_wanted_ = true;
    poke();
  }
  if (orphan_count_ == 0) return;
  std::vector<SessionKey> candidates;
  {
    const MutexLock lock{orphans_mutex_};
    for (const auto& [key, replaced] : orphans_) candidates.push_back(key);
  }
  for (const SessionKey& k : candidates) released(k.branch, k.node);
}

bool FileSystemImpl::shared(const ViewImpl* v) const {
  const ReadLock lock{views_mutex_};
  return std::any_of(views_.begin(), views_.end(), [&](const ViewImpl* o) {
    return o != v && o->branch() == v->branch() && o->live() && o->writable() && o->front() != nullptr;
  });
}

/// One look. Returns how long until the next is needed.
TimeNs FileSystemImpl::tick_once(bool force) {
  const TimeNs now = clock_->steady();
  TimeNs next = kNever;
  const auto at = [&](TimeNs when) { next = std::min(next, std::max<TimeNs>(when - now, kLook)); };
  const auto tried = [&](const char* what, const Result<void>& r) {
    complain(what, r);
    if (!r && !writer_->failed()) at(now + kTryAgain);
  };
  tried("reaping orphans", reap_some());

  for (const auto& s : sessions_.all()) {
    if (s->unlinked && s->replaced_before == 0) continue;
    const TimeNs dirty = s->dirty_since, unpublished = s->unpublished_since;
    if (s->synced_unpublished) {
      if (force || now - s->published_at >= kOwedEvent)
        tried("publishing", publish_owed_event(*s));
      else
        at(s->published_at + kOwedEvent);
    }
    if (unpublished != 0 && s->ahead) {
      if (now - unpublished >= options_.publish_after) {
        tried("publishing", publish(*s));
        continue;
      }
      at(unpublished + options_.publish_after);
    }
    if (dirty != 0) {
      if (now - dirty >= options_.persist_after)
        tried("persisting", persist_privately(*s));
      else
        at(dirty + options_.persist_after);
    }
  }

  if (options_.automatic_pins && !full_ && writer_->mutations() != pinned_mutations_) {
    if (now - last_pin_ >= options_.pin_every) {
      auto pins = writer_->mutate([&](Tx& tx) { return tree_->create_automatic_pins(tx); });
      if (!pins) log::error("automatic pins: {}", pins.error().text());
      last_pin_ = now;
      pinned_mutations_ = writer_->mutations();
    } else {
      at(last_pin_ + options_.pin_every);
    }
  }
  if (now - last_thin_ >= kThinEvery) {
    thin_wanted_ = true;
    work_poked_ = true;
    last_thin_ = now;
    pinned_mutations_ = std::max(pinned_mutations_, writer_->mutations());
  }
  return next;
}

void FileSystemImpl::run_clockwork() {
  std::unique_lock lock{clock_mutex_};
  TimeNs wait = kNever;
  while (!stop_) {
    if (wait == kNever)
      clock_cv_.wait(lock, [&] { return stop_ || poked_.load(); });
    else
      clock_cv_.wait_for(lock, std::chrono::nanoseconds{wait}, [&] { return stop_ || poked_.load(); });
    if (stop_) return;
    const bool poked = poked_.exchange(false);
    lock.unlock();
    if (poked) work_cv_.notify_one();
    wait = tick_once(false);
    lock.lock();
    if (work_poked_) work_cv_.notify_one();
    // Pokes come with every change; one look each kLook is enough.
    if (!stop_) clock_cv_.wait_for(lock, std::chrono::nanoseconds{kLook}, [&] { return stop_.load(); });
  }
}

void FileSystemImpl::run_worker() {
  std::unique_lock lock{clock_mutex_};
  bool idle = false;
  while (!stop_) {
    if (idle) {
      work_cv_.wait(lock, [&] { return stop_ || work_poked_.load(); });
    } else {
      work_cv_.wait_for(lock, std::chrono::nanoseconds{kLook}, [&] { return stop_.load(); });
    }
    if (stop_) return;
    const bool poked = work_poked_.exchange(false);
    lock.unlock();
    const bool rest = work_pass();
    lock.lock();
    idle = rest && !poked;
  }
}

Result<bool> FileSystemImpl::tick() {
  const TimeNs next = tick_once(false);
  if (!options_.background) INDRA_TRY(writer_->tick(clock_->steady()));
  return !work_pass() || next != kNever;
}

Result<void> FileSystemImpl::settle() {
  for (const auto& s : sessions_.all()) INDRA_TRY(publish(*s));
  INDRA_TRY(reap_some());
  while (sweep_wanted_) INDRA_TRY(sweep_slice());
  for (int i = 0; i < 100000; ++i) {
    INDRA_LET(const bool more, store_->work());
    INDRA_LET(const bool rest, store_->at_rest());
    if (!more && rest) break;
    INDRA_TRY(writer_->barrier());
    if (!more) {
      timespec pause{0, 20'000'000};
      nanosleep(&pause, nullptr);
    }
  }
  INDRA_TRY(writer_->barrier());
  return writer_->checkpoint();
}

}  // namespace indra
