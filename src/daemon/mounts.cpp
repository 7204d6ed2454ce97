#include "daemon/internal/mounts.h"

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/log.h"
#include "base/mountinfo.h"

namespace indra {

Result<MountOptions> mount_options(const Json& r) {
  MountOptions o;
  const auto mountpoint = name_field(r, "mountpoint");
  if (!mountpoint || !mountpoint->starts_with('/')) return fail(EINVAL, "mountpoint");
  o.mountpoint = *mountpoint;
  o.view.bucket = text_field(r, "bucket", "main");
  o.view.branch = name_field(r, "branch").value_or("main");
  o.view.snapshot = name_field(r, "snapshot").value_or("");
  INDRA_LET(o.view.seq, seq_field(r));
  o.read_only = bool_field(r, "read_only") || !o.view.snapshot.empty() || o.view.seq.has_value();
  o.view.read_only = o.read_only;
  o.allow_other = bool_field(r, "allow_other");
  o.auto_unmount = bool_field(r, "auto_unmount");
  o.nonempty = bool_field(r, "nonempty");
  o.fsname = name_field(r, "fsname").value_or("");
  const std::string layout = text_field(r, "layout", "vault"), locks = text_field(r, "locks", "kernel"),
                    events = text_field(r, "events", "watched");
  if (layout != "vault" && layout != "plain") return fail(EINVAL, "layout " + layout);
  if (locks != "kernel" && locks != "daemon") return fail(EINVAL, "locks " + locks);
  if (events != "watched" && events != "always" && events != "off") return fail(EINVAL, "events " + events);
  o.events = events == "watched"  ? EventMode::watched
             : events == "always" ? EventMode::always
                                  : EventMode::off;
  o.raise_program = {"/proc/self/exe", "raise-events"};
  o.layout = layout == "plain" ? LayoutKind::plain : LayoutKind::vault;
  o.locks = locks == "daemon" ? LockMode::daemon : LockMode::kernel;
  return o;
}

namespace {

Json describe(const MountOptions& o) {
  return {{"mountpoint", name_to_json(o.mountpoint)},
          {"branch", name_to_json(o.view.branch)},
          {"snapshot", name_to_json(o.view.snapshot)},
          {"at", o.view.seq ? Json{{"seq", o.view.seq->raw()}} : Json(nullptr)},
          {"layout", o.layout == LayoutKind::plain ? "plain" : "vault"},
          {"read_only", o.read_only},
          {"locks", o.locks == LockMode::daemon ? "daemon" : "kernel"}};
}

VirtualFiles virtual_files(FileSystem& fs) {
  VirtualFiles f;
  f.names = {"status.json", "player.json"};
  f.content = [&fs](std::string_view name) -> std::string {
    const auto s = fs.status();
    if (!s) return "{}\n";
    if (name == "player.json") return Json{{"player", s->player}, {"vault", s->dir}}.dump(2) + "\n";
    return Json{{"vault", s->dir},
                {"player", s->player},
                {"at_rest", s->at_rest},
                {"open_files", s->open_files},
                {"artifacts", s->tree.nodes}}
               .dump(2) +
           "\n";
  };
  return f;
}

}  // namespace

Result<Json> Mounts::mount(const Json& request) {
  INDRA_LET(MountOptions o, mount_options(request));
  INDRA_LET(const auto s, fs_.status());
  if (const std::string player = text_field(request, "player"); !player.empty() && s.player != player)
    return fail(EPERM, "the vault is player " + s.player + "'s, not " + player + "'s");
  // Nobody would reach its socket any more, nor what is mounted there its files.
  if (lies_below(s.dir, o.mountpoint) || lies_below(o.mountpoint, s.dir))
    return fail(EINVAL,
                o.mountpoint + " would cover the vault " + s.dir + " or a part of it; mount it elsewhere");
  if (const auto v = fs_.open_view(o.view, nullptr);
      !v && v.error().code == std::errc::no_such_file_or_directory)
    return fail(ENOENT,
                o.view.snapshot.empty()
                    ? "there is no branch " + o.view.branch + "; `indrafs branch list` shows them"
                    : "there is no snapshot " + o.view.snapshot + "; `indrafs snapshot list` shows them");
  o.files = virtual_files(fs_);
  if (o.fsname.empty()) o.fsname = s.dir;  // so that a path in the mount leads back to the vault
  One* one = nullptr;
  {
    const std::lock_guard lock{mutex_};
    for (const One& other : all_)
      if (other.options.mountpoint == o.mountpoint && (!other.mounted || other.mounted->attached()))
        return fail(EBUSY, o.mountpoint + " is mounted already; `indrafs unmount` it first");
    one = &all_.emplace_back(One{o, nullptr});
  }
  await_end(o.mountpoint);
  auto mounted = mounter_(fs_, o, changed_);
  const std::lock_guard lock{mutex_};
  if (!mounted) {
    all_.remove_if([&](const One& x) { return &x == one; });
    return fail(mounted.error());
  }
  one->mounted = std::move(*mounted);
  log::info("branch {} is mounted at {}", o.view.branch, o.mountpoint);
  return describe(o);
}

void Mounts::await_end(const std::string& mountpoint) {
  for (int n = 0; n < 5000; ++n) {
    {
      const std::lock_guard lock{mutex_};
      if (std::none_of(all_.begin(), all_.end(), [&](const One& x) {
            return x.mounted && !x.mounted->ended() && x.options.mountpoint == mountpoint;
          }))
        break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  sweep();
}

Result<Json> Mounts::unmount(const std::string& mountpoint, bool force) {
  std::list<One> ours;
  {
    const std::lock_guard lock{mutex_};
    for (auto it = all_.begin(); it != all_.end(); ++it)
      if (it->options.mountpoint == mountpoint && it->mounted && !it->mounted->ended()) {
        ours.splice(ours.end(), all_, it);
        break;
      }
  }
  if (ours.empty()) return fail(EINVAL, mountpoint + " is not mounted by this vault");
  auto r = ours.front().mounted->unmount(force);
  bool last = false;
  {
    const std::lock_guard lock{mutex_};
    if (!r) all_.splice(all_.end(), ours);
    last = all_.empty();
  }
  if (!r) {
    changed_();  // it may have ended meanwhile
    if (force && r.error().code == std::errc::timed_out) {
      INDRA_TRY(fs_.sync(true));
      return Json{{"ending", false}, {"lingering", r.error().context}};
    }
    return fail(r.error());
  }
  ours.clear();
  log::info("{} is unmounted", mountpoint);
  if (last)
    changed_();
  else
    INDRA_TRY(fs_.sync(true));
  return Json{{"ending", last}};
}

void Mounts::caught_up() {
  std::vector<std::shared_ptr<Mounted>> all;
  {
    const std::lock_guard lock{mutex_};
    for (const One& o : all_)
      if (o.mounted) all.push_back(o.mounted);
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{2};
  for (const auto& m : all) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0 || !m->caught_up(left)) log::warn("a mount takes long to show what was changed");
  }
}

Json Mounts::list() const {
  Json rows = Json::array();
  const std::lock_guard lock{mutex_};
  for (const One& o : all_)
    if (o.mounted) rows.push_back(describe(o.options));
  return rows;
}

bool Mounts::sweep() {
  const std::lock_guard sweeping{
      sweep_mutex_};  // who waits for it knows that they have let go of their views
  std::list<One> dead;
  const std::lock_guard lock{mutex_};
  for (auto it = all_.begin(); it != all_.end();) {
    const auto next = std::next(it);
    if (it->mounted && it->mounted->ended()) {
      log::info("{} is unmounted", it->options.mountpoint);
      dead.splice(dead.end(), all_, it);
    }
    it = next;
  }
  return all_.empty();
}

bool Mounts::unmount_all() {
  std::list<One> ours;
  {
    const std::lock_guard lock{mutex_};
    ours.swap(all_);
  }
  bool all = true;
  for (One& o : ours) {
    if (!o.mounted || o.mounted->unmount(false)) continue;
    if (auto r = o.mounted->unmount(true); !r) {
      log::error("unmount {}: {}", o.options.mountpoint, r.error().text());
      all = false;
    }
  }
  if (!all) {
    const std::lock_guard lock{mutex_};
    all_.swap(ours);
  }
  return all;
}

}  // namespace indra
