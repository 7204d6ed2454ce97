// Raises inotify events on a mount for what others did: replays each deed through the mount, by the hands of
// a process that this one recognises, and changes nothing when the replay arrives as a request.
//
// Threads:  every member may be called from any thread; none of them waits for the kernel, but stop() and
//           pause(). One thread of its own waits for the process; it holds no lock while it does.
// Source:   docs/design/editor-events.md, E1..
#pragma once
#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>

#include "base/sync.h"
#include "fs/view.h"
#include "mount/internal/known_nodes.h"
#include "mount/internal/notifier.h"
#include "mount/internal/watches.h"
#include "mount/layout.h"
#include "mount/mount.h"
#include "mount/raise_program.h"

namespace indra {

class Raiser {
 public:
  Raiser(const MountOptions& options, const KnownNodes& known, Notifier& notifier)
      : options_{options}, known_{known}, notifier_{notifier} {}
  ~Raiser() { stop(); }
  /// `device`: st_dev of the mount. Does nothing where there is no program to run, or nothing can be changed.
  void start(Layout&, std::uint64_t device);
  void stop() INDRA_EXCLUDES(mutex_);
  /// No call is under way through the mount when this returns, so that it can be unmounted, and none begins
  /// until resume(). Waits two seconds at most.
  void pause() INDRA_EXCLUDES(mutex_);
  void resume() INDRA_EXCLUDES(mutex_);

  void did(Slot&, const Deed&, bool own) INDRA_EXCLUDES(mutex_);

  // For answering requests
  // ---------------------------------------------------------------------------------------------
  /// Whether a request comes from the process that replays.
  [[nodiscard]] bool replays(pid_t pid) const noexcept {
    return pid != 0 && pid == pid_.load(std::memory_order_acquire);
  }
  /// Whether a deed upon this name waits: the kernel must then not keep what it is told of it (E4).
  [[nodiscard]] bool waits(WireId parent, std::string_view name) const INDRA_EXCLUDES(mutex_);
  struct Node {
    WireId id = 0;  ///< 0: nothing
    std::uint32_t type = 0;
    bool made_up = false;     ///< the kernel shall not be given the node itself
    unsigned names_lost = 0;  ///< by deeds that wait
  };
  /// What a name meant before the first deed that waits; nothing when none waits.
  [[nodiscard]] std::optional<Node> before(WireId parent, std::string_view name) const INDRA_EXCLUDES(mutex_);
  /// What the replay under way makes at this name; nothing: it shall not happen.
  [[nodiscard]] std::optional<Node> makes(WireId parent, std::string_view name) INDRA_EXCLUDES(mutex_);
  [[nodiscard]] bool removes(WireId parent, std::string_view name) INDRA_EXCLUDES(mutex_);
  [[nodiscard]] bool renames(WireId from_parent, std::string_view from, WireId to_parent, std::string_view to)
      INDRA_EXCLUDES(mutex_);
  [[nodiscard]] bool touches(WireId node) const INDRA_EXCLUDES(mutex_);
  /// What lies in the hidden directory for the replay under way.
  [[nodiscard]] std::optional<Node> staged(std::string_view name) const INDRA_EXCLUDES(mutex_);

  static constexpr std::string_view kStage =
      ".indrafs-raise";  ///< at the mount's root, for the process alone
  static constexpr std::string_view kStaged = "node";
  /// A node that stands for one the kernel shall not be given: of a type, with a number, nothing else.
  [[nodiscard]] static WireId made_up(WireId node, std::uint32_t type) noexcept {
    return (0xFFFFull << 48) | (std::uint64_t{(type >> 12) & 15} << 44) | (node & 0xFFF'FFFF'FFFFull);
  }
  [[nodiscard]] static bool is_made_up(WireId id) noexcept { return id >> 48 == 0xFFFF; }
  [[nodiscard]] static std::uint32_t type_of_made_up(WireId id) noexcept {
    return static_cast<std::uint32_t>((id >> 44) & 15) << 12;
  }

  [[nodiscard]] static Attr made_up_attr(WireId id);

  [[nodiscard]] Mount::Events figures() const;
  [[nodiscard]] pid_t process() const noexcept { return pid_.load(std::memory_order_acquire); }
  /// Returns once nothing waits; false when that takes longer than `limit`.
  [[nodiscard]] bool settled(std::chrono::milliseconds limit) INDRA_EXCLUDES(mutex_);

 private:
  struct Place {
    WireId parent = 0;  // 0: nowhere
    std::string name;
    bool operator==(const Place&) const = default;
  };
  struct PlaceHash {
    std::size_t operator()(const Place& p) const noexcept {
      return std::hash<std::string>{}(p.name) ^ (p.parent * 0x9E3779B97F4A7C15ull);
    }
  };
  struct Token {
    Deed::Kind kind;
    WireId node = 0;
    std::uint32_t type = 0;
    Place from, to;
    WireId other = 0;
    std::uint32_t other_type = 0;
    TimeNs pushed = 0;
    std::uint64_t after = 0;  // what the kernel must have been told before: Notifier::pushed()
    bool looked_up = false;   // from.parent, to.parent: where the node is, for deeds not upon names
    bool judged = false;      // somebody watches
    bool entered = false;     // in names_ and nodes_
    bool made_up = false;     // `node` itself cannot be given to the kernel there
    bool overtaken = false;   // by a deed of this mount
    bool answered = false;    // the kernel was told to go ahead
  };
  using TokenPtr = std::shared_ptr<Token>;

  [[nodiscard]] bool known(WireId id) const { return id == fixed_id::root || known_.find(id).has_value(); }
  void push(TokenPtr) INDRA_EXCLUDES(mutex_);
  [[nodiscard]] bool drowned() INDRA_REQUIRES(mutex_);
  void enter(const TokenPtr&, bool first) INDRA_REQUIRES(mutex_);
  template <class Map, class Key>
  static void erase(Map&, const Key&, const TokenPtr&);
  void leave(const TokenPtr&) INDRA_REQUIRES(mutex_);
  void overtake(const Place&) INDRA_REQUIRES(mutex_);
  [[nodiscard]] static std::optional<Node> before(const Token&, const Place&);
  [[nodiscard]] unsigned names_lost(WireId node) const INDRA_REQUIRES(mutex_);
  [[nodiscard]] static bool is_name(Deed::Kind k) { return k < Deed::written; }

  void run() INDRA_EXCLUDES(mutex_);
  void judge() INDRA_EXCLUDES(mutex_);
  void look();  // who watches
  void find_directories() INDRA_EXCLUDES(mutex_);
  void no_longer_queued(const Token&) INDRA_REQUIRES(mutex_);
  void judge_by_watches(TimeNs until) INDRA_REQUIRES(mutex_);
  [[nodiscard]] bool watched(const Token&) const;
  void raise_floods() INDRA_EXCLUDES(mutex_);
  void replay(const TokenPtr&) INDRA_EXCLUDES(mutex_);
  [[nodiscard]] int replay_as(const Token&) INDRA_EXCLUDES(mutex_);
  void split(const TokenPtr&) INDRA_EXCLUDES(mutex_);
  [[nodiscard]] std::optional<Place> place_of(WireId node, const Place* but) INDRA_EXCLUDES(mutex_);
  [[nodiscard]] std::optional<Place> place_that_waits(WireId node, const Place* but) const
      INDRA_EXCLUDES(mutex_);
  [[nodiscard]] std::optional<Place> true_place(WireId node, const Place* but);
  [[nodiscard]] static std::optional<Place> search(Slot&, NodeId parent, NodeId node, const Place* but);
  [[nodiscard]] bool address(const Place&, RaiseOrder::Place& out) INDRA_EXCLUDES(mutex_);
  [[nodiscard]] int order(const RaiseOrder&) INDRA_EXCLUDES(mutex_);
  [[nodiscard]] bool spawn();
  void end_process();
  void pause_for(TimeNs) INDRA_EXCLUDES(mutex_);

  const MountOptions& options_;
  const KnownNodes& known_;
  Notifier& notifier_;
  Layout* layout_ = nullptr;
  std::uint64_t device_ = 0;
  std::atomic<bool> on_{false};
  std::atomic<pid_t> pid_{0};
  std::atomic<std::size_t> names_waiting_{0};

  mutable Mutex mutex_;
  std::condition_variable_any wake_, rest_;
  std::deque<TokenPtr> queue_ INDRA_GUARDED_BY(mutex_);
  TokenPtr current_ INDRA_GUARDED_BY(mutex_);
  // What waits, by what it concerns; the oldest first.
  std::unordered_map<Place, std::deque<TokenPtr>, PlaceHash> names_ INDRA_GUARDED_BY(mutex_);
  std::unordered_map<WireId, std::deque<TokenPtr>> nodes_ INDRA_GUARDED_BY(mutex_);
  /// In queue_, by node: written, closed, attributes.
  std::unordered_map<WireId, std::array<TokenPtr, 3>> queued_ INDRA_GUARDED_BY(mutex_);
  bool flood_ INDRA_GUARDED_BY(mutex_) = false;
  TimeNs flooded_ INDRA_GUARDED_BY(mutex_) = 0;  // when a deed was last dropped for it
  bool stopping_ INDRA_GUARDED_BY(mutex_) = false;
  bool paused_ INDRA_GUARDED_BY(mutex_) = false;

  // The thread's own.
  int socket_ = -1;
  int stop_event_ = -1;
  Watches watches_;
  bool all_watched_ = false;
  std::uint64_t stage_told_ = 0;  // Notifier::pushed() once what was left in the hidden directory is dropped
  TimeNs looked_ = 0, next_look_ = 0, next_spawn_ = 0;
  std::unordered_map<WireId, TimeNs> raised_at_;
  std::unordered_map<WireId, Place> where_;

  std::atomic<std::uint64_t> raised_{0}, overtaken_{0}, unwatched_{0}, lost_{0}, floods_{0}, looks_{0};
  std::thread thread_;
};

}  // namespace indra
