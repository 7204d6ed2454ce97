// Long because what waits, and how it is replayed, are one set of rules under one lock.
#include "mount/internal/raiser.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"

extern char** environ;

namespace indra {
namespace {

constexpr TimeNs kMs = 1'000'000;
constexpr TimeNs kDataEvery = 10 * kMs;  // a file that is written on and on gives an event this often
constexpr TimeNs kLookEvery = 10 * kMs;  // who watches is not looked up more often,
constexpr TimeNs kLookShare = 20;        // and takes at most one part in so many of the time
constexpr TimeNs kLookKeeps = kSecond;   // who was seen to watch counts as watching for so long
constexpr TimeNs kIdle = 30 * kSecond;   // the process ends after so long without work
constexpr TimeNs kFloodEnds = 20 * kMs;  // after so long without a deed,
constexpr TimeNs kFloodLasts = kSecond;  // or at the latest after this
constexpr TimeNs kSpawnAgain = kSecond;
constexpr std::size_t kRemembered = 4096;  // places and times
constexpr int kDeepest = 4096;

TimeNs steady() { return system_clock().steady(); }

std::size_t of_data(Deed::Kind k) { return static_cast<std::size_t>(k - Deed::written); }

/// A reference on the view of a node, kept from being closed meanwhile.
class HeldSlot {
 public:
  HeldSlot(Layout& layout, WireId id) : layout_{layout}, slot_{layout.acquire(id)} {}
  HeldSlot(const HeldSlot&) = delete;
  HeldSlot& operator=(const HeldSlot&) = delete;
  ~HeldSlot() {
    if (slot_ != nullptr) layout_.let_go(*slot_);
  }
  Slot* operator->() const { return slot_; }
  explicit operator bool() const { return slot_ != nullptr; }
  Slot& operator*() const { return *slot_; }

 private:
  Layout& layout_;
  Slot* slot_;
};

}  // namespace

// --- life --------------------------------------------------------------------------------------------

void Raiser::start(Layout& layout, std::uint64_t device) {
  if (options_.events == EventMode::off || options_.raise_program.empty() || options_.read_only) return;
  layout_ = &layout;
  device_ = device;
  stop_event_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_event_ < 0) return;
  on_ = true;
  thread_ = std::thread{[this] { run(); }};
}

void Raiser::stop() {
  on_ = false;
  {
    const MutexLock lock{mutex_};
    stopping_ = true;
  }
  notifier_.wake();
  wake_.notify_all();
  rest_.notify_all();
  if (stop_event_ >= 0) {
    const std::uint64_t one = 1;
    (void)!::write(stop_event_, &one, sizeof one);
  }
  if (thread_.joinable()) thread_.join();
  end_process();
  if (stop_event_ >= 0) ::close(stop_event_);
  stop_event_ = -1;
}

void Raiser::pause() INDRA_NO_ANALYSIS {
  std::unique_lock lock{mutex_};
  paused_ = true;
  rest_.wait_for(lock, std::chrono::seconds{2}, [&]() INDRA_NO_ANALYSIS { return current_ == nullptr; });
}

void Raiser::resume() {
  {
    const MutexLock lock{mutex_};
    paused_ = false;
  }
  wake_.notify_all();
}

bool Raiser::settled(std::chrono::milliseconds limit) INDRA_NO_ANALYSIS {
  std::unique_lock lock{mutex_};
  return rest_.wait_for(lock, limit, [&]() INDRA_NO_ANALYSIS {
    return stopping_ || (queue_.empty() && current_ == nullptr && queued_.empty() && !flood_);
  });
}

Mount::Events Raiser::figures() const { return {raised_, overtaken_, unwatched_, lost_, floods_, looks_}; }

// --- what waits --------------------------------------------------------------------------------------

void Raiser::did(Slot& s, const Deed& d, bool own) {
  if (!on_.load(std::memory_order_relaxed)) return;
  if (own && names_waiting_.load(std::memory_order_acquire) == 0) return;
  const auto place = [&](const Deed::Place& p) {
    return p.parent ? Place{s.wire(p.parent), p.name} : Place{};
  };
  if (own) {
    const MutexLock lock{mutex_};
    if (d.from.parent) overtake(place(d.from));
    if (d.to.parent) overtake(place(d.to));
    return;
  }
  auto t = std::make_shared<Token>();
  t->kind = d.kind;
  t->node = s.wire(d.node);
  t->type = d.type;
  t->other = d.other ? s.wire(d.other) : 0;
  t->other_type = d.other_type;
  if (!is_name(d.kind)) {
    // Not before the kernel has dropped the old content, so that who is told reads the new.
    t->after = notifier_.pushed();
    {
      const MutexLock lock{mutex_};
      if (stopping_ || drowned()) return;
      if (TokenPtr& waiting = queued_[t->node][of_data(d.kind)]) {  // it tells of this too
        waiting->after = std::max(waiting->after, t->after);
        return;
      } else {
        waiting = t;
      }
    }
    push(std::move(t));
    return;
  }
  // Nobody watches what the kernel does not hold.
  const bool knows = known(t->node) || (t->other != 0 && known(t->other));
  t->from = place(d.from);
  t->to = place(d.to);
  if (t->from.parent != 0 && !known(t->from.parent) && (t->to.parent != 0 || !knows)) t->from = {};
  if (t->to.parent != 0 && !known(t->to.parent) && (t->from.parent != 0 || !knows)) t->to = {};
  if (t->from.parent == 0 && t->to.parent == 0) return;
  if (d.kind == Deed::exchanged && (t->from.parent == 0 || t->to.parent == 0)) return;
  push(std::move(t));
}

/// Not told singly any more: the directories will be.
bool Raiser::drowned() {
  if (!flood_) return false;
  flooded_ = steady();
  ++lost_;
  return true;
}

void Raiser::push(TokenPtr t) {
  {
    const MutexLock lock{mutex_};
    if (stopping_ || drowned()) return;
    t->pushed = steady();
    if (queue_.size() >= options_.event_limit) {
      for (const TokenPtr& old : queue_) leave(old);
      lost_ += queue_.size() + 1;
      queue_.clear();
      queued_.clear();
      flood_ = true;
      flooded_ = t->pushed;
      ++floods_;
    } else {
      enter(t, false);
      queue_.push_back(std::move(t));
    }
  }
  wake_.notify_one();
}

/// `first`: before what waits for the same names and nodes already.
void Raiser::enter(const TokenPtr& t, bool first) {
  if (!is_name(t->kind)) return;
  const auto in = [&](std::deque<TokenPtr>& d) {
    if (first)
      d.push_front(t);
    else
      d.push_back(t);
  };
  if (t->from.parent != 0) in(names_[t->from]);
  if (t->to.parent != 0) in(names_[t->to]);
  if (!t->made_up && t->from.parent != 0) in(nodes_[t->node]);
  if (t->other != 0) in(nodes_[t->other]);
  t->entered = true;
  names_waiting_.fetch_add(1, std::memory_order_acq_rel);
}

template <class Map, class Key>
void Raiser::erase(Map& map, const Key& key, const TokenPtr& t) {
  const auto it = map.find(key);
  if (it == map.end()) return;
  std::erase(it->second, t);
  if (it->second.empty()) map.erase(it);
}

void Raiser::leave(const TokenPtr& t) {
  if (!t->entered) return;
  erase(names_, t->from, t);
  erase(names_, t->to, t);
  erase(nodes_, t->node, t);
  erase(nodes_, t->other, t);
  t->entered = false;
  names_waiting_.fetch_sub(1, std::memory_order_acq_rel);
}

/// What waits for this name is no longer to be told: who watches has seen a later deed upon it. The other
/// name of a rename stays owed, in its place among what waits.
void Raiser::overtake(const Place& p) {
  const auto it = names_.find(p);
  if (it == names_.end()) return;
  const auto all = it->second;
  for (const TokenPtr& t : all) {
    if (t->answered) continue;  // the kernel does it already, under the directory's lock
    if (t->kind != Deed::moved || (t->from.parent == 0) != (t->to.parent == 0)) {
      leave(t);
      t->from = t->to = {};
    } else if (t->from == p) {
      erase(names_, p, t);
      erase(nodes_, t->node, t);
      t->from = {};
    } else {
      erase(names_, p, t);
      erase(nodes_, t->other, t);
      t->to = {};
      t->other = 0;
    }
    const bool nothing_left = t->from.parent == 0 && t->to.parent == 0;
    if (nothing_left) ++overtaken_;
    t->overtaken = nothing_left || t == current_;
  }
}

std::optional<Raiser::Node> Raiser::before(const Token& t, const Place& p) {
  if (t.from == p) return Node{t.node, t.type, t.made_up};
  if (t.to == p) return Node{t.other, t.other_type};
  return std::nullopt;
}

unsigned Raiser::names_lost(WireId node) const {
  const auto it = nodes_.find(node);
  if (it == nodes_.end()) return 0;
  return static_cast<unsigned>(std::count_if(it->second.begin(), it->second.end(), [&](const TokenPtr& t) {
    return t->kind == Deed::removed || (t->kind == Deed::moved && t->other == node);
  }));
}

bool Raiser::waits(WireId parent, std::string_view name) const {
  if (names_waiting_.load(std::memory_order_acquire) == 0) return false;
  const MutexLock lock{mutex_};
  return names_.contains(Place{parent, std::string{name}});
}

std::optional<Raiser::Node> Raiser::before(WireId parent, std::string_view name) const {
  const Place p{parent, std::string{name}};
  const MutexLock lock{mutex_};
  const auto it = names_.find(p);
  if (it == names_.end()) return std::nullopt;
  auto n = before(*it->second.front(), p);
  if (n) n->names_lost = names_lost(n->id);
  return n;
}

std::optional<Raiser::Node> Raiser::makes(WireId parent, std::string_view name) {
  const MutexLock lock{mutex_};
  if (current_ == nullptr || current_->overtaken || current_->to != Place{parent, std::string{name}} ||
      (current_->kind != Deed::made && current_->kind != Deed::linked))
    return std::nullopt;
  current_->answered = true;
  return Node{current_->node, current_->type, current_->made_up};
}

bool Raiser::removes(WireId parent, std::string_view name) {
  const MutexLock lock{mutex_};
  if (current_ == nullptr || current_->overtaken || current_->kind != Deed::removed ||
      current_->from != Place{parent, std::string{name}})
    return false;
  return current_->answered = true;
}

bool Raiser::renames(WireId from_parent, std::string_view from, WireId to_parent, std::string_view to) {
  const MutexLock lock{mutex_};
  if (current_ == nullptr || current_->overtaken ||
      (current_->kind != Deed::moved && current_->kind != Deed::exchanged))
    return false;
  const auto is = [](const Place& p, WireId parent, std::string_view name) {
    return p.parent == 0 ? parent == fixed_id::stage : p.parent == parent && p.name == name;
  };
  if (!is(current_->from, from_parent, from) || !is(current_->to, to_parent, to)) return false;
  return current_->answered = true;
}

bool Raiser::touches(WireId node) const {
  const MutexLock lock{mutex_};
  return current_ != nullptr && !is_name(current_->kind) && current_->node == node;
}

std::optional<Raiser::Node> Raiser::staged(std::string_view name) const {
  const MutexLock lock{mutex_};
  if (name != kStaged || current_ == nullptr || current_->kind != Deed::moved || current_->from.parent != 0)
    return std::nullopt;
  return Node{current_->node, current_->type, current_->made_up};
}

// --- the thread --------------------------------------------------------------------------------------

void Raiser::run() INDRA_NO_ANALYSIS {
  std::uint64_t told = 0;  // of the notifier's
  for (;;) {
    TokenPtr t;
    bool flood = false;
    {
      std::unique_lock lock{mutex_};
      const auto work = [&]() INDRA_NO_ANALYSIS {
        return stopping_ || (!paused_ && (flood_ || !queue_.empty()));
      };
      if (queue_.empty()) rest_.notify_all();
      if (socket_ < 0) {
        wake_.wait(lock, work);
      } else if (!wake_.wait_for(lock, std::chrono::nanoseconds{kIdle}, work)) {
        lock.unlock();
        end_process();
        continue;
      }
      if (stopping_) return;
      if (flood_) {
        flood = true;
      } else if (const Token& first = *queue_.front(); first.judged || first.overtaken) {
        if (first.after > told) {
          const std::uint64_t upto = first.after;
          lock.unlock();
          if (notifier_.wait_until_told(upto, on_)) told = upto;
          continue;
        }
        t = std::move(queue_.front());
        queue_.pop_front();
        current_ = t;
        no_longer_queued(*t);
      }
    }
    if (flood)
      raise_floods();
    else if (t == nullptr)
      judge();
    else
      replay(t);
    {
      const MutexLock lock{mutex_};
      if (t != nullptr) leave(t);
      current_ = nullptr;
    }
    rest_.notify_all();
  }
}

void Raiser::pause_for(TimeNs how_long) INDRA_NO_ANALYSIS {
  if (how_long <= 0) return;
  std::unique_lock lock{mutex_};
  wake_.wait_for(lock, std::chrono::nanoseconds{how_long}, [&]() INDRA_NO_ANALYSIS { return stopping_; });
}

bool Raiser::watched(const Token& t) const {
  if (all_watched_) return true;
  const auto has = [&](WireId id) { return id != 0 && watches_.nodes.contains(id); };
  return has(t.node) || has(t.other) || has(t.from.parent) || has(t.to.parent);
}

/// A deed upon content or attributes says nothing of names. Finds the directory, and drops the deed where the
/// kernel holds neither that nor the node.
void Raiser::find_directories() {
  std::vector<TokenPtr> some;
  {
    const MutexLock lock{mutex_};
    for (const TokenPtr& t : queue_)
      if (!is_name(t->kind) && !t->judged && !t->looked_up) some.push_back(t);
  }
  for (const TokenPtr& t : some) {
    // Where the kernel was told of it, and where it truly is: a rename here is not told again.
    const auto k = known_.find(t->node);
    WireId truly = 0;
    if (HeldSlot s{*layout_, t->node}; s && !s->is_root(t->node))
      if (const auto p = s->view().parent_of(s->node(t->node)); p && *p) truly = s->wire(*p);
    const MutexLock lock{mutex_};
    t->looked_up = true;
    t->from.parent = k ? k->parent : 0;
    t->to.parent = truly;
  }
  const MutexLock lock{mutex_};
  std::erase_if(queue_, [&](const TokenPtr& t) INDRA_NO_ANALYSIS {
    if (is_name(t->kind) || t->judged || !t->looked_up) return false;
    for (const WireId id : {t->node, t->from.parent, t->to.parent})
      if (id != 0 && known(id)) return false;
    no_longer_queued(*t);
    return true;
  });
}

void Raiser::no_longer_queued(const Token& t) {
  if (is_name(t.kind)) return;
  const auto it = queued_.find(t.node);
  if (it == queued_.end()) return;
  TokenPtr& waiting = it->second[of_data(t.kind)];
  if (waiting.get() != &t) return;
  waiting.reset();
  const auto& all = it->second;
  if (std::none_of(all.begin(), all.end(), [](const TokenPtr& p) { return p != nullptr; })) queued_.erase(it);
}

/// Judges what was pushed before `until`, when who watches was looked up.
void Raiser::judge_by_watches(TimeNs until) {
  bool any = false;
  for (const TokenPtr& t : queue_) any = any || t->judged || watched(*t);
  std::deque<TokenPtr> kept;
  for (TokenPtr& t : queue_) {
    // A directory that went or moved is part of the way to others.
    const bool way = any && is_name(t->kind) && t->from.parent != 0 &&
                     (t->type == S_IFDIR || (t->kind == Deed::exchanged && t->other_type == S_IFDIR));
    const bool ready = is_name(t->kind) || t->looked_up;
    if (t->judged || t->overtaken || (ready && watched(*t)) || (way && t->pushed < until)) {
      t->judged = true;
      kept.push_back(std::move(t));
    } else if (ready && t->pushed < until) {
      leave(t);
      no_longer_queued(*t);
      ++unwatched_;
    } else {
      kept.push_back(std::move(t));
    }
  }
  queue_ = std::move(kept);
}

void Raiser::look() {
  const auto used = [] {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * kSecond + t.tv_nsec;
  };
  const TimeNs before = used();
  looked_ = steady();
  watches_ = find_watches(device_);
  ++looks_;
  next_look_ = steady() + std::max(kLookEvery, (used() - before) * kLookShare);
  // Others than this user's processes come in only when let in, or when this is root's.
  all_watched_ = watches_.whole || (watches_.hidden && (::geteuid() == 0 || options_.allow_other));
}

void Raiser::judge() {
  if (options_.events == EventMode::always) {
    all_watched_ = true;
    const MutexLock lock{mutex_};
    for (const TokenPtr& t : queue_) t->judged = true;
    return;
  }
  find_directories();
  {
    const MutexLock lock{mutex_};
    if (queue_.empty()) return;
  }
  const TimeNs now = steady();
  if (watches_.any() && now - looked_ < kLookKeeps) {
    const MutexLock lock{mutex_};
    if (!queue_.empty() && watched(*queue_.front())) {
      judge_by_watches(0);
      return;
    }
  }
  pause_for(next_look_ - now);
  look();
  const MutexLock lock{mutex_};
  judge_by_watches(looked_);
}

/// Too much to tell singly: one change of attributes on each directory that is watched, upon which programs
/// look through it again.
void Raiser::raise_floods() {
  log::warn("more than {} changes wait to be told to who watches the mount: telling of directories only",
            options_.event_limit);
  const TimeNs until = steady() + kFloodLasts;
  for (TimeNs now = steady(), quiet = 0; now < until; now = steady()) {
    {
      const MutexLock lock{mutex_};
      quiet = flooded_ + kFloodEnds - now;
      if (stopping_ || quiet <= 0) break;
    }
    pause_for(std::min(quiet, until - now));
  }
  look();
  const MutexLock lock{mutex_};
  flood_ = false;
  for (const WireId id : watches_.nodes) {
    const auto k = known_.find(id);
    if (id != fixed_id::root && (!k || !k->directory)) continue;
    auto t = std::make_shared<Token>();
    t->kind = Deed::attributes;
    t->node = id;
    t->judged = true;
    queue_.push_back(std::move(t));
  }
}

void Raiser::replay(const TokenPtr& t) {
  Token copy;
  bool overtaken = false;
  {
    const MutexLock lock{mutex_};
    copy = *t;
    overtaken = t->overtaken;
  }
  if (!is_name(copy.kind)) {
    if (raised_at_.size() > kRemembered) raised_at_.clear();
    TimeNs& last = raised_at_[copy.node * 16 + static_cast<unsigned>(copy.kind)];
    if (last != 0) pause_for(last + kDataEvery - steady());
    last = steady();
  }
  const bool staged = copy.kind == Deed::moved && (copy.from.parent == 0 || copy.to.parent == 0);
  if (staged && stage_told_ != 0) (void)notifier_.wait_until_told(stage_told_, on_);
  const int e = overtaken ? ECANCELED : replay_as(copy);
  if (e == 0 && staged && copy.to.parent == 0) {
    // The kernel may know it as what went there for as long as it was to know the name it had.
    notifier_.entry(fixed_id::stage, std::string{kStaged}, 0);
    stage_told_ = notifier_.pushed();
  }
  {
    const MutexLock lock{mutex_};
    overtaken = t->overtaken;
    // A part of it may still be owed.
    if (overtaken && !t->answered && (t->from.parent != 0 || t->to.parent != 0) && t->kind == Deed::moved) {
      auto rest = std::make_shared<Token>(*t);
      rest->overtaken = false;
      leave(t);
      enter(rest, true);
      queue_.push_front(std::move(rest));
    }
  }
  if (overtaken) return;
  if (e == 0) {
    ++raised_;
    if (where_.size() > kRemembered) where_.clear();
    if (is_name(copy.kind) && copy.to.parent != 0 && copy.type != 0) where_[copy.node] = copy.to;
    if (copy.kind == Deed::exchanged) where_[copy.other] = copy.from;
    return;
  }
  if (copy.kind == Deed::moved && !copy.made_up && e != ENOTCONN && e != ECONNABORTED) return split(t);
  ++lost_;
  const int kind = static_cast<int>(copy.kind);
  if (!is_name(copy.kind))
    return log::debug("an event could not be raised: kind {}, node {}, errno {}", kind, copy.node, e);
  log::warn("who watches the mount has missed an event: kind {}, node {}, from {}/{} to {}/{}, errno {}",
            kind, copy.node, copy.from.parent, copy.from.name, copy.to.parent, copy.to.name, e);
  if (copy.from.parent != 0) notifier_.entry(copy.from.parent, copy.from.name, 0);
  if (copy.to.parent != 0) notifier_.entry(copy.to.parent, copy.to.name, 0);
}

/// A rename that the kernel does not let through (a directory to another, looked up there meanwhile): told as
/// a name that goes and one that comes.
void Raiser::split(const TokenPtr& t) {
  const MutexLock lock{mutex_};
  leave(t);
  const auto part = [&](Deed::Kind kind, WireId node, std::uint32_t type, const Place& at) INDRA_NO_ANALYSIS {
    if (at.parent == 0 || node == 0) return;
    auto p = std::make_shared<Token>();
    p->kind = kind;
    p->node = node;
    p->type = type;
    (kind == Deed::made ? p->to : p->from) = at;
    p->made_up = p->judged = true;
    enter(p, true);
    queue_.push_front(std::move(p));
  };
  part(Deed::made, t->node, t->type, t->to);
  part(Deed::removed, t->other, t->other_type, t->to);
  part(Deed::removed, t->node, t->type, t->from);
}

int Raiser::replay_as(const Token& t) {
  RaiseOrder o;
  o.type = t.type;
  const auto stage = [](RaiseOrder::Place& p) {
    p = {fixed_id::stage, std::string{kStage}, std::string{kStaged}};
  };
  const auto put = [&](const Place& p, RaiseOrder::Place& out) { return p.parent != 0 && address(p, out); };
  switch (t.kind) {
    case Deed::made:
    case Deed::linked: {
      if (!put(t.to, o.to)) return ENOENT;
      o.call = t.type == S_IFDIR   ? RaiseOrder::directory
               : t.type == S_IFLNK ? RaiseOrder::symlink
                                   : RaiseOrder::node;
      if (t.kind == Deed::linked)
        if (const auto at = place_of(t.node, &t.to); at && put(*at, o.from)) o.call = RaiseOrder::link;
      const int e = order(o);
      if (e == 0 || o.call != RaiseOrder::link) return e;
      o.call = t.type == S_IFLNK ? RaiseOrder::symlink : RaiseOrder::node;
      return order(o);
    }
    case Deed::removed:
      if (!put(t.from, o.from)) return ENOENT;
      o.call = t.type == S_IFDIR ? RaiseOrder::rmdir : RaiseOrder::unlink;
      return order(o);
    case Deed::moved:
    case Deed::exchanged:
      if (t.from.parent == 0)
        stage(o.from);
      else if (!put(t.from, o.from))
        return ENOENT;
      if (t.to.parent == 0)
        stage(o.to);
      else if (!put(t.to, o.to))
        return ENOENT;
      o.call = t.kind == Deed::moved ? RaiseOrder::rename : RaiseOrder::exchange;
      return order(o);
    case Deed::written:
    case Deed::closed:
    case Deed::attributes: {
      o.call = t.kind == Deed::written  ? RaiseOrder::modify
               : t.kind == Deed::closed ? RaiseOrder::close
                                        : RaiseOrder::attributes;
      HeldSlot s{*layout_, t.node};
      if (t.node == fixed_id::root || (s && s->is_root(t.node))) {
        const auto path = address({t.node, {}}, o.from);
        return path ? order(o) : ENOENT;
      }
      const auto at = place_of(t.node, nullptr);
      if (!at || !put(*at, o.from)) return ENOENT;
      return order(o);
    }
  }
  return EINVAL;
}

// --- where things are --------------------------------------------------------------------------------

/// Where a node is as far as replays have come; but not `but`. Who looks where it truly is waits for the
/// mutation under way, and sees what that did: it is looked up once more whether a deed waits.
std::optional<Raiser::Place> Raiser::place_of(WireId node, const Place* but) {
  if (auto p = place_that_waits(node, but)) return p;
  auto truly = true_place(node, but);
  if (auto p = place_that_waits(node, but)) return p;
  return truly;
}

std::optional<Raiser::Place> Raiser::place_that_waits(WireId node, const Place* but) const {
  const MutexLock lock{mutex_};
  if (const auto it = nodes_.find(node); it != nodes_.end())
    for (const TokenPtr& t : it->second) {
      const Place& p = t->node == node ? t->from : t->to;
      if (p.parent != 0 && (but == nullptr || p != *but)) return p;
    }
  return std::nullopt;
}

std::optional<Raiser::Place> Raiser::true_place(WireId node, const Place* but) {
  HeldSlot s{*layout_, node};
  if (!s) return std::nullopt;
  View& view = s->view();
  const NodeId id = s->node(node);
  if (const auto it = where_.find(node); it != where_.end()) {
    const Place p = it->second;
    const auto there = view.lookup(s->node(p.parent), p.name);
    if (there) view.forget(there->node, 1);
    if (there && there->node == id && (but == nullptr || p != *but)) return p;
    where_.erase(node);
  }
  const auto k = known_.find(node);
  const auto truly = view.parent_of(id);
  std::optional<Place> found;
  // For a file with several names: the one that the kernel was told of.
  if (k && !k->directory && k->parent != 0) found = search(*s, s->node(k->parent), id, but);
  if (!found && truly && *truly) found = search(*s, *truly, id, but);
  if (found) where_[node] = *found;
  return found;
}

std::optional<Raiser::Place> Raiser::search(Slot& s, NodeId parent, NodeId node, const Place* but) {
  const auto dir = s.view().opendir(parent);
  if (!dir) return std::nullopt;
  std::optional<Place> found;
  std::uint64_t cookie = 0;
  for (bool more = true; more && !found;) {
    more = false;
    const auto r = s.view().readdir(*dir, cookie, false, [&](const DirEntry& e) {
      more = true;
      cookie = e.cookie;
      if (e.node != node) return true;
      Place p{s.wire(parent), std::string{e.name}};
      if (but != nullptr && p == *but) return true;
      found = std::move(p);
      return false;
    });
    if (!r) break;
  }
  s.view().releasedir(*dir);
  return found;
}

bool Raiser::address(const Place& p, RaiseOrder::Place& out) {
  std::vector<std::string> parts;
  WireId at = p.parent;
  for (int depth = 0; at != fixed_id::root; ++depth) {
    if (depth > kDeepest) return false;
    HeldSlot s{*layout_, at};
    if (!s) return false;
    if (s->is_root(at)) {
      parts.push_back(layout_->path_of(*s));
      break;
    }
    auto place = place_of(at, nullptr);
    if (!place) return false;
    parts.push_back(std::move(place->name));
    at = place->parent;
  }
  out.dir = p.parent;
  out.name = p.name;
  out.path.clear();
  for (auto it = parts.rbegin(); it != parts.rend(); ++it) out.path += (out.path.empty() ? "" : "/") + *it;
  return true;
}

// --- the process -------------------------------------------------------------------------------------

bool Raiser::spawn() {
  if (steady() < next_spawn_) return false;
  next_spawn_ = steady() + kSpawnAgain;
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return false;
  std::vector<std::string> words = options_.raise_program;
  words.push_back(options_.mountpoint);
  words.push_back(std::to_string(device_));
  std::vector<char*> argv;
  for (auto& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
  posix_spawn_file_actions_adddup2(&actions, 0, 1);
  posix_spawn_file_actions_adddup2(&actions, 0, 2);
  posix_spawn_file_actions_adddup2(&actions, pair[1], 3);
  posix_spawn_file_actions_addclosefrom_np(&actions, 4);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, every;
  sigemptyset(&none);
  sigfillset(&every);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &every);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
  pid_t pid = -1;
  const int rc = ::posix_spawn(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  ::close(pair[1]);
  if (rc != 0) {
    ::close(pair[0]);
    log::error("cannot run {}: errno {}; who watches this mount will not hear of changes made elsewhere",
               words[0], rc);
    return false;
  }
  socket_ = pair[0];
  pid_.store(pid, std::memory_order_release);
  return true;
}

/// Its number stays its own until it is reaped, and is then no longer recognised.
void Raiser::end_process() {
  const pid_t pid = pid_.exchange(0, std::memory_order_acq_rel);
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
  if (pid <= 0) return;
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

/// Makes a call and waits until it is done; 0 or its errno.
int Raiser::order(const RaiseOrder& o) {
  if (socket_ < 0 && !spawn()) return EAGAIN;
  const std::string bytes = o.encode();
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t n = ::send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      end_process();
      return EPIPE;
    }
    sent += static_cast<std::size_t>(n);
  }
  std::int32_t result = 0;
  for (std::size_t got = 0; got < sizeof result;) {
    pollfd p[2] = {{socket_, POLLIN, 0}, {stop_event_, POLLIN, 0}};
    const int n = ::poll(p, 2, 10'000);
    if (n == 0) log::warn("a program holds a directory of the mount: events on it wait");
    if (n < 0 && errno != EINTR) return errno;
    if (n > 0 && p[1].revents != 0) return ECANCELED;  // stop() ends the process
    if (n <= 0 || p[0].revents == 0) continue;
    const ssize_t k = ::read(socket_, reinterpret_cast<char*>(&result) + got, sizeof result - got);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) {
      end_process();
      return EPIPE;
    }
    got += static_cast<std::size_t>(k);
  }
  return result;
}

}  // namespace indra
