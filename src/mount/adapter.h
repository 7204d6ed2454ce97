// FUSE's operations on Views, free of the wire's structs: ids, names and attributes in, ids and attributes
// out.
//
// Threads:  every member may be called from any thread.
// Errors:   those of the View; a fixed directory refuses changes with EPERM.
// Source:   docs/design/mount.md.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fs/file_locks.h"
#include "fs/view.h"
#include "mount/internal/known_nodes.h"
#include "mount/internal/notifier.h"
#include "mount/internal/raiser.h"
#include "mount/layout.h"
#include "mount/options.h"

namespace indra {

/// A counter as it was before a reply was computed.
struct Stamp {
  const ChangeCounters::Counter* counter = nullptr;
  std::uint64_t seen = 0;
  void take(const ChangeCounters::Counter& c) noexcept {
    counter = &c;
    seen = c.load(std::memory_order_seq_cst);
  }
  [[nodiscard]] bool moved() const noexcept {
    return counter != nullptr && counter->load(std::memory_order_seq_cst) != seen;
  }
};

/// One request: who asks, and what the kernel will cache of its answer.
struct Call {
  Caller caller;
  Stamp entry, attr;          // what a cacheable reply depends on
  bool cached_entry = false;  // the reply lets the kernel keep the name (parent, name) ...
  bool cached_attr = false;   // ... the attributes of `node`
  bool cached_list = false;   // ... the listing of `node`
  WireId node = 0, parent = 0;
  std::string_view name;
};

struct Entry {
  WireId id = 0;  ///< 0: the name is known not to exist
  std::uint64_t generation = 0;
  Attr attr;
  TimeNs entry_ttl = 0, attr_ttl = 0;
};
struct AttrReply {
  WireId id = 0;
  Attr attr;
  TimeNs ttl = 0;
};
struct OpenReply {
  Handle handle = 0;
  bool direct_io = false, keep_cache = false, cache_dir = false, no_flush = false, parallel_writes = false;
};
struct ListItem {
  std::string_view name;
  WireId id = 0;
  std::uint32_t mode = 0;
  std::uint64_t next = 0;  ///< where to go on after this one
  const Entry* entry = nullptr;
};
/// Returns false when the item did not fit.
using ListSink = std::function<bool(const ListItem&)>;

/// The times of a SETATTR, where "now" is this machine's.
struct SetAttrRequest {
  SetAttr set;
  bool atime_now = false, mtime_now = false;
};

class Adapter {
 public:
  Adapter(const MountOptions&, Connection&);
  ~Adapter();
  /// Opens the mounted view.
  [[nodiscard]] Result<void> start(Views&);
  /// From here on the kernel is told what changes; what changed since start() first.
  void notify() { notifier_.start(); }
  /// From here on who watches hears of what others do. `device`: st_dev of the mount.
  void raise(std::uint64_t device) { raiser_.start(*layout_, device); }
  /// No more notifications; closes all views.
  void stop();

  Result<Entry> lookup(Call&, WireId parent, std::string_view name);
  void forget(WireId, std::uint64_t n);
  Result<AttrReply> getattr(Call&, WireId);
  Result<AttrReply> setattr(Call&, WireId, SetAttrRequest);
  Result<std::string> readlink(Call&, WireId);
  Result<Entry> mknod(Call&, WireId parent, std::string_view name, std::uint32_t mode, std::uint64_t rdev);
  Result<Entry> mkdir(Call&, WireId parent, std::string_view name, std::uint32_t mode);
  Result<Entry> symlink(Call&, WireId parent, std::string_view name, std::string_view target);
  Result<Entry> link(Call&, WireId node, WireId parent, std::string_view name);
  Result<void> unlink(Call&, WireId parent, std::string_view name);
  Result<void> rmdir(Call&, WireId parent, std::string_view name);
  Result<void> rename(Call&, WireId from_parent, std::string_view from, WireId to_parent, std::string_view to,
                      unsigned flags);

  Result<OpenReply> open(Call&, WireId, int flags, bool kill_suid_sgid);
  struct Created {
    Entry entry;
    OpenReply open;
  };
  Result<Created> create(Call&, WireId parent, std::string_view name, std::uint32_t mode, int flags);
  Result<Created> tmpfile(Call&, WireId parent, std::uint32_t mode, int flags);
  /// What was read: a part of `space`.
  Result<ByteView> read(Call&, WireId, Handle, std::uint64_t at, MutableBytes space);
  Result<void> write(Call&, WireId, Handle, std::uint64_t at, ByteView, bool from_page_cache,
                     bool kill_suid_sgid);
  Result<void> flush(Call&, WireId, Handle);
  void release(WireId, Handle, int flags);  ///< the flags it was opened with
  Result<void> fsync(Call&, WireId, Handle, bool data_only);
  Result<void> fallocate(Call&, WireId, Handle, int mode, std::uint64_t at, std::uint64_t n);
  Result<std::uint64_t> lseek(Call&, WireId, Handle, std::uint64_t at, int whence);
  Result<std::uint64_t> copy_file_range(Call&, WireId, Handle, std::uint64_t at, WireId to, Handle to_handle,
                                        std::uint64_t to_at, std::uint64_t n);

  Result<OpenReply> opendir(Call&, WireId);
  Result<void> readdir(Call&, WireId, Handle, std::uint64_t from, bool plus, const ListSink&);
  void releasedir(WireId, Handle);
  Result<void> sync(Call&, WireId);
  Result<FsStat> statfs(Call&, WireId);

  Result<void> setxattr(Call&, WireId, std::string_view name, ByteView value, int flags);
  Result<Bytes> getxattr(Call&, WireId, std::string_view name);
  Result<std::vector<std::string>> listxattr(Call&, WireId);
  Result<void> removexattr(Call&, WireId, std::string_view name);

  /// fcntl and flock locks, with LockMode::daemon; `owner` is the kernel's word for who asks.
  struct LockRequest {
    WireId file;
    FileLocks::Family family;
    std::uint64_t owner;
    FileLocks::Lock lock;
  };
  [[nodiscard]] std::optional<FileLocks::Lock> conflicting_lock(const LockRequest&) const;
  [[nodiscard]] int lock(const LockRequest&);  ///< 0 or EAGAIN
  void lock_or_wait(const LockRequest&, std::uint64_t unique, FileLocks::Done);
  void unlock(const LockRequest&);
  void close_locks(WireId, Handle);         ///< the open file is gone
  bool stop_waiting(std::uint64_t unique);  ///< true: the wait ends with EINTR
  [[nodiscard]] bool keeps_locks() const noexcept { return options_.locks == LockMode::daemon; }

  // Requests of the process that replays deeds of others, which happened already (editor-events.md, E3).
  [[nodiscard]] bool replays(const Caller& c) const noexcept { return raiser_.replays(c.pid); }
  Result<Entry> replay_lookup(Call&, WireId parent, std::string_view name);
  Result<Entry> replay_make(Call&, WireId parent, std::string_view name);
  Result<void> replay_remove(WireId parent, std::string_view name);
  Result<void> replay_rename(WireId from_parent, std::string_view from, WireId to_parent,
                             std::string_view to);
  Result<AttrReply> replay_setattr(Call&, WireId);
  Result<OpenReply> replay_open(WireId);
  static constexpr Handle kReplayHandle = ~Handle{0};

  /// After the reply was written: invalidates again what a change overtook meanwhile.
  void sent(const Call&);
  /// The same for one item of a listing.
  void sent_item(const Call&, WireId parent, std::string_view name, WireId id);
  /// The reply did not arrive: gives back what it would have handed out.
  void undo(WireId entry);

  [[nodiscard]] const Layout& layout() const noexcept { return *layout_; }
  [[nodiscard]] const Notifier& notifier() const noexcept { return notifier_; }
  [[nodiscard]] Raiser& raiser() noexcept { return raiser_; }
  /// See Notifier::after.
  void in_step(std::function<void()> then) { notifier_.after(std::move(then)); }
  [[nodiscard]] bool caught_up(std::chrono::milliseconds limit) { return notifier_.caught_up(limit); }
  [[nodiscard]] std::size_t known() const noexcept { return known_.size(); }

 private:
  void heard(Slot&, const Change&);
  /// The slot of a wire id; nullptr for fixed nodes and ids that are no longer valid.
  [[nodiscard]] Slot* slot(WireId id) const noexcept { return layout_->slot(id); }
  /// What a file handle names: no name, so nothing of a name stays cached.
  Entry handle_of(Call& c, Slot& s, WireId from, const Attr& attr);
  Entry entry_of(Call&, Slot&, WireId parent, std::string_view name, const Attr&);
  Entry replayed(WireId parent, const Raiser::Node&);
  OpenReply opened(const Slot&, Handle, int flags, bool created) const;
  Result<Created> create_in(Call&, Slot&, WireId parent, std::string_view name, std::uint32_t mode,
                            int flags);
  template <class Make>
  Result<Entry> make(Call&, WireId parent, std::string_view name, Make&&);

  const MountOptions options_;
  KnownNodes known_;
  ChangeCounters counters_;
  Notifier notifier_;
  Raiser raiser_;
  std::unique_ptr<Layout> layout_;
  [[nodiscard]] FileLocks::File locked_file(const LockRequest&) const;
  /// Below branches/ an open file that is written claims the branch for who keeps the locks here.
  Result<void> claim(const Slot&, int flags, std::string_view name);
  void unclaim(const Slot&, int flags);
  void moved(Slot&, WireId parent, std::string_view name);
  [[nodiscard]] std::uint64_t keeper() const noexcept { return keeps_locks() ? 0 : front_; }
  std::atomic<TimeNs> others_did_{0};  // something upon a name, last; 0: never
  FileLocks* locks_ = nullptr;
  std::uint64_t front_ = 0;                 // this mount among the owners of locks
  std::optional<std::uint64_t> writes_to_;  // the mounted branch, claimed for as long as the mount lasts
};

}  // namespace indra
