// Where things are below a mount point: inode numbers on the wire, the mounted branch, other branches and
// snapshots (views opened when first used), and the fixed directories and virtual files around them.
//
// Shapes:   a wire id is (view index << 48) | NodeId. View 0 is the mounted branch, whose root has a fixed
// id.
//           It is also st_ino.
// Threads:  every member may be called from any thread.
// Source:   docs/design/mount.md, M10 to M14.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "fs/view.h"
#include "mount/options.h"

namespace indra {

using WireId = std::uint64_t;

namespace fixed_id {
inline constexpr WireId root = 1, vault = 2, peers = 3, realms = 4, indra = 5, attention_log = 6,
                        heat_json = 7, peers_json = 8, player_json = 9, status_json = 10,
                        sync_status_json = 11, branches = 12, snapshots = 13,
                        here = 14,  // the mounted branch in branches/, a link to ../vault
    stage = 15;                     // hidden: for raising events (docs/design/editor-events.md)
inline constexpr WireId end = 16;   // NodeIds other than a root's start here
}  // namespace fixed_id

/// One view of the mount, and the ear through which it tells of changes.
class Slot final : public FrontEnd {
 public:
  struct Ear {
    std::function<void(Slot&, const Change&)> changed;
    std::function<void(Slot&, const Deed&, bool own)> did;
  };
  Slot(std::uint64_t index, std::uint64_t generation, WireId root_wire, const Ear& ear)
      : index_{index}, generation_{generation}, root_wire_{root_wire}, ear_{ear} {}

  [[nodiscard]] View& view() const noexcept { return *view_; }
  [[nodiscard]] std::uint64_t index() const noexcept { return index_; }
  [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }
  [[nodiscard]] WireId wire(NodeId n) const noexcept {
    return n == root_ ? root_wire_ : (index_ << 48) | static_cast<WireId>(n.raw());
  }
  [[nodiscard]] NodeId node(WireId w) const noexcept {
    return w == root_wire_ ? root_ : NodeId{static_cast<std::int64_t>(w & 0xFFFF'FFFF'FFFFull)};
  }
  [[nodiscard]] bool is_root(WireId w) const noexcept { return w == root_wire_; }

  /// Before its view is open the kernel holds nothing of it.
  void changed(const Change& c) override {
    if (open_.load(std::memory_order_acquire)) ear_.changed(*this, c);
  }
  void did(const Deed& d, bool own) override {
    if (open_.load(std::memory_order_acquire)) ear_.did(*this, d, own);
  }
  [[nodiscard]] std::string_view name() const override { return "fuse"; }

 private:
  friend class Layout;
  const std::uint64_t index_, generation_;
  WireId root_wire_;
  const Ear& ear_;
  NodeId root_{};
  std::atomic<bool> open_{false};  // root_ and root_wire_ are set
  std::string key_;                // "b:NAME" or "s:NAME"; empty for the mounted branch
  std::atomic<std::int64_t> refs_{
      0};                       // what the kernel holds of it: nodes and handles; not counted in view 0
  std::shared_ptr<View> view_;  // last: goes first, while the ear still listens
};

class Layout {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Layout>> make(const MountOptions&, Views&, Slot::Ear);
  ~Layout();

  /// The view a wire id belongs to, nullptr for a fixed one.
  [[nodiscard]] Slot* slot(WireId w) const noexcept {
    if (w < fixed_id::end) [[unlikely]]
      return w == branch_root_ ? slots_[0].load(std::memory_order_acquire) : nullptr;
    const std::uint64_t index = w >> 48;
    return index < kViews ? slots_[index].load(std::memory_order_acquire) : nullptr;
  }
  [[nodiscard]] Slot& mounted() const noexcept { return *slots_[0].load(std::memory_order_relaxed); }

  /// slot(), held until let_go().
  [[nodiscard]] Slot* acquire(WireId) INDRA_EXCLUDES(mutex_);
  /// Where the root of a view is, relative to the mount point.
  [[nodiscard]] std::string path_of(const Slot&) const;
  void hold(Slot& s) noexcept {
    if (s.index_ != 0) s.refs_.fetch_add(1, std::memory_order_relaxed);
  }
  /// Closes the view when this was the last that was held.
  void let_go(Slot& s, std::uint64_t n = 1) INDRA_EXCLUDES(mutex_);

  /// A fixed node: a directory, a virtual file, or the link in branches/.
  struct Fixed {
    WireId id;
    std::string name;
    std::uint32_t mode;
  };
  [[nodiscard]] Result<Attr> fixed_attr(WireId) const;
  /// What `name` is in a fixed directory: a fixed node, or the root of a view (then `slot` is set and held).
  struct Found {
    WireId id = 0;
    Slot* slot = nullptr;
  };
  [[nodiscard]] Result<Found> find(WireId dir, std::string_view name) INDRA_EXCLUDES(mutex_);
  [[nodiscard]] std::vector<Fixed> list(WireId dir) const;
  [[nodiscard]] Result<std::string> content(WireId file) const;
  [[nodiscard]] static bool is_directory(WireId) noexcept;
  /// The errno for a change attempted in a fixed directory; logs the command that does it.
  [[nodiscard]] int refuse(WireId dir, std::string_view name) const;
  [[nodiscard]] std::size_t open_views() const noexcept;

 private:
  static constexpr std::size_t kViews = 4096;
  Layout(const MountOptions& options, Views& views, Slot::Ear ear);
  [[nodiscard]] Result<Slot*> open(std::string key, const ViewSpec&) INDRA_EXCLUDES(mutex_);

  const MountOptions options_;
  Views& views_;
  const Slot::Ear ear_;
  const WireId branch_root_;
  const TimeNs since_;
  std::vector<std::atomic<Slot*>> slots_;
  Mutex mutex_;  // opening and closing views
  std::vector<std::unique_ptr<Slot>> owned_ INDRA_GUARDED_BY(mutex_);
  std::uint64_t opened_ INDRA_GUARDED_BY(mutex_) = 0;
};

}  // namespace indra
