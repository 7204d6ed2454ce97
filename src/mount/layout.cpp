#include "mount/layout.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"

namespace indra {
namespace {

struct KnownFile {
  WireId id;
  std::string_view name;
};
constexpr std::array kFiles{KnownFile{fixed_id::attention_log, "attention.log"},
                            KnownFile{fixed_id::heat_json, "heat.json"},
                            KnownFile{fixed_id::peers_json, "peers.json"},
                            KnownFile{fixed_id::player_json, "player.json"},
                            KnownFile{fixed_id::status_json, "status.json"},
                            KnownFile{fixed_id::sync_status_json, "sync-status.json"}};

bool offered(const VirtualFiles& files, std::string_view name) {
  return files.content && std::find(files.names.begin(), files.names.end(), name) != files.names.end();
}
std::string_view file_name(WireId id) {
  for (const auto& f : kFiles)
    if (f.id == id) return f.name;
  return {};
}
bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

Layout::Layout(const MountOptions& options, Views& views, Slot::Ear ear)
    : options_{options},
      views_{views},
      ear_{std::move(ear)},
      branch_root_{options.layout == LayoutKind::plain ? fixed_id::root : fixed_id::vault},
      since_{system_clock().now()},
      slots_(kViews) {}

Layout::~Layout() = default;

Result<std::unique_ptr<Layout>> Layout::make(const MountOptions& options, Views& views, Slot::Ear ear) {
  std::unique_ptr<Layout> l{new Layout{options, views, std::move(ear)}};
  ViewSpec spec = options.view;
  spec.read_only = spec.read_only || options.read_only;
  INDRA_TRY(l->open({}, spec));
  return l;
}

Result<Slot*> Layout::open(std::string key, const ViewSpec& spec) {
  const MutexLock lock{mutex_};
  for (const auto& s : owned_)
    if (s->key_ == key && !s->view_->stale()) {
      hold(*s);
      return s.get();
    }
  std::uint64_t index = 0;
  if (!owned_
           .empty()) {  // view 0 is the mounted one; the others take turns, so that an id is not soon reused
    index = opened_ % (kViews - 1) + 1;
    for (std::size_t tries = 0; slots_[index].load() != nullptr; ++tries) {
      if (tries == kViews) return fail(ENFILE, "too many branches and snapshots are in use below this mount");
      index = index % (kViews - 1) + 1;
    }
  }
  ++opened_;
  auto s = std::make_unique<Slot>(index, opened_, branch_root_, ear_);
  INDRA_LET(s->view_, views_.open_view(spec, s.get()));
  s->root_ = s->view_->root();
  if (index != 0) s->root_wire_ = (index << 48) | static_cast<WireId>(s->root_.raw());
  s->open_.store(true, std::memory_order_release);
  s->key_ = std::move(key);
  hold(*s);
  slots_[index].store(s.get(), std::memory_order_release);
  owned_.push_back(std::move(s));
  return owned_.back().get();
}

Slot* Layout::acquire(WireId id) {
  if (id >> 48 == 0) return slot(id);  // the mounted one stays
  const MutexLock lock{mutex_};
  Slot* s = slot(id);
  if (s != nullptr) hold(*s);
  return s;
}

std::string Layout::path_of(const Slot& s) const {
  if (s.index_ == 0) return branch_root_ == fixed_id::root ? "" : "vault";
  return (s.key_.starts_with("b:") ? "branches/" : "snapshots/") + s.key_.substr(2);
}

void Layout::let_go(Slot& s, std::uint64_t n) {
  if (s.index_ == 0) return;
  if (s.refs_.fetch_sub(static_cast<std::int64_t>(n)) > static_cast<std::int64_t>(n)) return;
  std::unique_ptr<Slot> last;  // destroyed without the lock: a view may have work to finish
  const MutexLock lock{mutex_};
  const auto it = std::find_if(owned_.begin(), owned_.end(), [&](const auto& o) { return o.get() == &s; });
  if (it == owned_.end() || s.refs_.load() > 0) return;
  slots_[s.index_].store(nullptr, std::memory_order_release);
  last = std::move(*it);
  owned_.erase(it);
}

bool Layout::is_directory(WireId id) noexcept {
  return id == fixed_id::root || id == fixed_id::indra || id == fixed_id::branches ||
         id == fixed_id::snapshots || id == fixed_id::stage;
}

Result<Attr> Layout::fixed_attr(WireId id) const {
  Attr a;
  a.node = NodeId{static_cast<std::int64_t>(id)};
  a.uid = ::geteuid();
  a.gid = ::getegid();
  a.atime = a.mtime = a.ctime = a.btime = since_;
  a.nlink = 1;
  if (is_directory(id)) {
    a.mode = S_IFDIR | (id == fixed_id::indra || id == fixed_id::stage ? 0700u : 0755u);
    a.nlink = 2;
  } else if (id == fixed_id::here) {
    a.mode = S_IFLNK | 0777;
    a.size = 8;
  } else {
    INDRA_LET(const std::string text, content(id));
    a.mode = S_IFREG | 0400;
    a.size = text.size();
    a.blocks = (a.size + 511) / 512;
    a.mtime = a.ctime = system_clock().now();
  }
  return a;
}

Result<std::string> Layout::content(WireId id) const {
  const auto name = file_name(id);
  if (name.empty() || !offered(options_.files, name)) return fail(ENOENT);
  return options_.files.content(name);
}

Result<Layout::Found> Layout::find(WireId dir, std::string_view name) {
  switch (dir) {
    case fixed_id::root:
      if (name == "vault") return Found{fixed_id::vault, &mounted()};
      if (name == ".indra") return Found{fixed_id::indra};
      if (name == "branches") return Found{fixed_id::branches};
      if (name == "snapshots") return Found{fixed_id::snapshots};
      break;
    case fixed_id::indra:
      for (const auto& f : kFiles)
        if (f.name == name && offered(options_.files, name)) return Found{f.id};
      break;
    case fixed_id::branches:
    case fixed_id::snapshots: {
      const bool snapshot = dir == fixed_id::snapshots;
      ViewSpec spec = options_.view;
      if (!snapshot && name == spec.branch && spec.snapshot.empty() && !spec.seq)
        return Found{fixed_id::here};
      spec.seq.reset();
      // A listed name only: a front end must not learn of others by guessing.
      if (!contains(snapshot ? views_.snapshot_names(spec.bucket) : views_.branch_names(spec.bucket), name))
        break;
      (snapshot ? spec.snapshot : spec.branch) = name;
      if (!snapshot) spec.snapshot.clear();
      spec.read_only = snapshot || options_.read_only;
      INDRA_LET(Slot * s, open((snapshot ? "s:" : "b:") + std::string{name}, spec));
      return Found{s->root_wire_, s};
    }
    default:
      break;
  }
  return fail(ENOENT);
}

std::vector<Layout::Fixed> Layout::list(WireId dir) const {
  std::vector<Fixed> out;
  switch (dir) {
    case fixed_id::root:
      out = {{fixed_id::vault, "vault", S_IFDIR},
             {fixed_id::branches, "branches", S_IFDIR},
             {fixed_id::snapshots, "snapshots", S_IFDIR},
             {fixed_id::indra, ".indra", S_IFDIR}};
      break;
    case fixed_id::indra:
      for (const auto& f : kFiles)
        if (offered(options_.files, f.name)) out.push_back({f.id, std::string{f.name}, S_IFREG});
      break;
    // The numbers of other views are known once they are opened; ~0 says "not yet".
    case fixed_id::branches:
      for (auto& name : views_.branch_names(options_.view.bucket)) {
        const bool here =
            name == options_.view.branch && options_.view.snapshot.empty() && !options_.view.seq;
        out.push_back({here ? fixed_id::here : ~0ull, std::move(name),
                       static_cast<std::uint32_t>(here ? S_IFLNK : S_IFDIR)});
      }
      break;
    case fixed_id::snapshots:
      for (auto& name : views_.snapshot_names(options_.view.bucket))
        out.push_back({~0ull, std::move(name), S_IFDIR});
      break;
    default:
      break;
  }
  return out;
}

int Layout::refuse(WireId dir, std::string_view name) const {
  if (dir == fixed_id::branches)
    log::info("branches/ lists branches; `indrafs branch create|delete|rename {}` changes them", name);
  if (dir == fixed_id::snapshots)
    log::info("snapshots/ lists snapshots; `indrafs snapshot create|delete {}` changes them", name);
  return EPERM;
}

std::size_t Layout::open_views() const noexcept {
  std::size_t n = 0;
  for (const auto& s : slots_) n += s.load(std::memory_order_relaxed) != nullptr ? 1u : 0u;
  return n;
}

}  // namespace indra
