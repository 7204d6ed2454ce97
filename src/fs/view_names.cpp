// Names and attributes: everything of a View that does not touch bytes.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "base/log.h"
#include "fs/internal/fs_impl.h"

namespace indra {

ViewImpl::ViewImpl(FileSystemImpl& fs, ViewSpec spec, std::shared_ptr<const BranchView> branch, Chain chain,
                   FrontEnd* front)
    : fs_{fs},
      spec_{std::move(spec)},
      branch_{std::move(branch)},
      chain_{std::move(chain)},
      front_{front},
      live_{spec_.live && spec_.snapshot.empty() && !spec_.seq},
      writable_{spec_.snapshot.empty() && !spec_.seq && !spec_.read_only && !branch_->locked} {
  fs_.add_view(this);
}

ViewImpl::~ViewImpl() { fs_.remove_view(this); }

Result<void> ViewImpl::check_writable(std::uint64_t bytes) const {
  if (!writable_ || branch_->locked) return fail(EROFS);
  if (fs_.writer().failed()) return fail(make_error_code(Errc::failed));
  return bytes == 0 ? Result<void>{} : fs_.space().need(bytes);
}

void ViewImpl::hold(NodeId node, std::uint64_t n) {
  RefShard& s = ref_shard(node);
  const MutexLock lock{s.mutex};
  s.counts[node] += n;
}

bool ViewImpl::holds(NodeId node) const {
  const RefShard& s = ref_shard(node);
  const MutexLock lock{s.mutex};
  return s.counts.contains(node);
}

void ViewImpl::forget(NodeId node, std::uint64_t n) {
  {
    RefShard& s = ref_shard(node);
    const MutexLock lock{s.mutex};
    const auto it = s.counts.find(node);
    if (it == s.counts.end()) return;
    if (it->second > n) {
      it->second -= n;
      return;
    }
    s.counts.erase(it);
  }
  if (live_) fs_.released(branch_->info.id, node);
}

// Read before the row: a session published in between is then seen in the row, never neither (S3).
Ahead ViewImpl::ahead(NodeId node) const {
  if (!live_) return {};
  const auto s = fs_.sessions().find(key(node));
  if (!s || !s->ahead) return {};
  return {true, s->size, s->stored, s->mtime, s->ctime};
}

Attr ViewImpl::attr(const NodeRow& row, const Ahead& ahead) {
  Attr a;
  a.node = row.node;
  a.mode = row.mode;
  a.nlink = row.nlink;
  a.uid = row.uid;
  a.gid = row.gid;
  a.rdev = row.rdev;
  a.atime = row.atime;
  a.mtime = ahead.yes ? ahead.mtime : row.mtime;
  a.ctime = ahead.yes ? ahead.ctime : row.ctime;
  a.btime = row.btime;
  if (S_ISREG(row.mode)) {
    a.size = ahead.yes ? ahead.size : row.size;
    const std::uint64_t stored = ahead.yes ? ahead.stored : row.stored.value_or(row.size);
    a.blocks = (stored + 4095) / 4096 * 8;
  } else if (S_ISDIR(row.mode)) {
    a.size = 4096;
    a.blocks = 8;
  } else {
    a.size = row.size;
  }
  return a;
}

Result<Attr> ViewImpl::lookup(NodeId parent, std::string_view name) {
  if (name.size() > 255) return fail(ENAMETOOLONG);
  const bool itself = name == ".", above = name == "..";
  Ahead a;
  INDRA_LET(const auto row, fs_.writer().read([&](Tx& tx) -> Result<std::optional<NodeRow>> {
    auto r = [&]() -> Result<std::optional<NodeRow>> {
      if (!itself && !above) return fs_.tree().lookup_node(tx, chain_, parent, name);
      INDRA_LET(NodeRow node, fs_.tree().node(tx, chain_, parent));
      if (above) {
        if (!S_ISDIR(node.mode)) return fail(ENOTDIR);
        if (!node.parent) return std::optional<NodeRow>{};
        INDRA_LET(node, fs_.tree().node(tx, chain_, node.parent));
      }
      if (node.nlink == 0) return std::optional<NodeRow>{};
      return std::optional{std::move(node)};
    }();
    if (r && *r) {
      hold((*r)->node);
      a = ahead((*r)->node);  // here, where nothing is published between the two (S3)
    }
    return r;
  }));
  if (!row) return fail(ENOENT);
  return attr(*row, a);
}

Result<Attr> ViewImpl::refer(NodeId node) {
  hold(node);  // first: who reaps orphans looks at this inside a mutation
  auto r = getattr(node);
  if (!r) forget(node, 1);
  return r;
}

Result<NodeId> ViewImpl::parent_of(NodeId node) {
  INDRA_LET(const NodeRow row, fs_.writer().read([&](Tx& tx) { return fs_.tree().node(tx, chain_, node); }));
  return row.parent;
}

Result<Attr> ViewImpl::getattr(NodeId node) {
  const Ahead a = ahead(node);
  INDRA_LET(const NodeRow row, fs_.writer().read([&](Tx& tx) { return fs_.tree().node(tx, chain_, node); }));
  return attr(row, a);
}

namespace {
bool in_group(const Caller& c, gid_t gid) {
  if (c.gid == gid) return true;
  std::ifstream in{"/proc/" + std::to_string(c.pid) + "/status"};
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("Groups:")) continue;
    std::istringstream groups{line.substr(7)};
    for (gid_t g = 0; groups >> g;)
      if (g == gid) return true;
  }
  return false;
}
}  // namespace

Result<void> ViewImpl::kill_suid_sgid(const Caller& c, NodeId node) {
  INDRA_LET(const NodeRow now, fs_.writer().read([&](Tx& tx) { return fs_.tree().node(tx, chain_, node); }));
  if ((now.mode & (S_ISUID | S_ISGID)) == 0 && (now.flags & kHasXattrs) == 0) return {};
  // Asked here, because it may read from /proc: nothing is waited for inside a mutation.
  const bool of_group = in_group(c, now.gid);
  bool changed = false;
  INDRA_TRY(fs_.writer().mutate([&](Tx& tx) -> Result<void> {
    INDRA_LET(NodeRow row, fs_.tree().node(tx, chain_, node));
    std::uint32_t mode = row.mode & ~static_cast<std::uint32_t>(S_ISUID);
    const bool member = of_group && row.gid == now.gid;  // as the kernel: a stranger's write ends it too
    if ((mode & S_ISGID) != 0 && ((mode & S_IXGRP) != 0 || !member))
      mode &= ~static_cast<std::uint32_t>(S_ISGID);
    if ((row.flags & kHasXattrs) != 0) {
      INDRA_LET(const auto caps, fs_.tree().xattr(tx, chain_, node, "security.capability"));
      if (caps)
        INDRA_TRY(fs_.tree().set_xattr(tx, who(c), chain_, node, "security.capability", std::nullopt, 0));
    }
    changed = mode != row.mode;
    if (!changed) return {};
    row.mode = mode;
    INDRA_LET(const NodeRow after, fs_.tree().set_attributes(tx, who(c), chain_, row));
    return {};
  }));
  // Our own front end too: the kernel that asked for it does not forget the mode that it has cached.
  if (changed) fs_.notify(branch(), nullptr, Change::attributes, node);
  return {};
}

Result<Attr> ViewImpl::setattr(const Caller& c, NodeId node, const SetAttr& set) {
  INDRA_TRY(check_writable(0));
  if (set.size) {
    if (*set.size > kMaxFileSize) return fail(EFBIG);
    INDRA_LET(const Handle h, open(c, node, O_WRONLY));
    auto r = change(c, h, set.kill_suid_sgid,
                    [&](Session& s) INDRA_NO_ANALYSIS { return s.content->truncate(*set.size); });
    const auto session = file(h).session;
    // With nobody else writing this is a whole change of its own.
    if (r && session.use_count() <= 3 && !session->unlinked) r = fs_.publish(*session);
    end(h);
    if (!r) return fail(r.error());
  }
  const bool rest =
      set.mode || set.uid || set.gid || set.atime || set.mtime || (set.kill_suid_sgid && !set.size);
  if (rest) {
    const auto session = live_ ? fs_.sessions().find(key(node)) : nullptr;
    std::optional<std::unique_lock<SharedMutex>> lock;
    if (session) lock.emplace(session->mutex);  // so that a publish beside us does not put old times back
    const TimeNs now = set.ctime.value_or(fs_.now());
    INDRA_TRY(fs_.writer().mutate([&](Tx& tx) -> Result<void> {
      INDRA_LET(NodeRow row, fs_.tree().node(tx, chain_, node));
      if (set.mode) row.mode = (row.mode & S_IFMT) | (*set.mode & 07777);
      if (set.uid) row.uid = *set.uid;
      if (set.gid) row.gid = *set.gid;
      if (((set.kill_suid_sgid && S_ISREG(row.mode)) ||
           ((set.uid || set.gid) && !S_ISDIR(row.mode)))) {  // as chown(2) does
        if (!set.mode) row.mode &= ~static_cast<std::uint32_t>(S_ISUID);
        if (!set.mode && (row.mode & S_IXGRP) != 0) row.mode &= ~static_cast<std::uint32_t>(S_ISGID);
        if ((row.flags & kHasXattrs) != 0 && (set.uid || set.gid)) {
          INDRA_LET(const auto caps, fs_.tree().xattr(tx, chain_, node, "security.capability"));
          if (caps)
            INDRA_TRY(fs_.tree().set_xattr(tx, who(c), chain_, node, "security.capability", std::nullopt, 0));
        }
      }
      if (set.mtime) row.mtime = *set.mtime;
      if (set.atime) row.atime = *set.atime;
      row.ctime = now;
      INDRA_LET(const NodeRow after, fs_.tree().set_attributes(tx, who(c), chain_, row));
      return {};
    }));
    if (session && session->ahead) {
      if (set.mtime) session->mtime = *set.mtime;
      session->ctime = now;
    }
  }
  fs_.poke();
  if (rest) {
    fs_.notify(branch(), this, Change::attributes, node);
    fs_.did(branch(), this, {.kind = Deed::attributes, .node = node});
  }
  return getattr(node);
}

Result<std::string> ViewImpl::readlink(NodeId node) {
  INDRA_LET(NodeRow row, fs_.writer().read([&](Tx& tx) { return fs_.tree().node(tx, chain_, node); }));
  if (!S_ISLNK(row.mode)) return fail(EINVAL);
  return std::move(row.target);
}

/// Owner, group and setgid of a new node, as the directory it goes into says.
Result<NodeRow> ViewImpl::inherit(Tx& tx, const Caller& c, NodeId parent, std::uint32_t mode) const {
  INDRA_LET(const NodeRow dir, fs_.tree().node(tx, chain_, parent));
  NodeRow row;
  row.mode = mode;
  row.uid = c.uid;
  row.gid = c.gid;
  if ((dir.mode & S_ISGID) != 0) {
    row.gid = dir.gid;
    if (S_ISDIR(mode)) row.mode |= S_ISGID;
  }
  return row;
}

Result<Attr> ViewImpl::make(const Caller& c, NodeId parent, std::string_view name, NodeRow init) {
  INDRA_TRY(check_writable(4096));
  if (name.size() > 255) return fail(ENAMETOOLONG);
  const Who w = who(c);
  INDRA_LET(const NodeRow row, fs_.writer().mutate([&](Tx& tx) -> Result<NodeRow> {
    INDRA_LET(NodeRow base, inherit(tx, c, parent, init.mode));
    base.rdev = init.rdev;
    base.target = std::move(init.target);
    auto made = fs_.tree().create(tx, w, chain_, parent, name, base);
    if (made) {
      hold(made->node);
      fs_.did(branch(), this,
              {.kind = Deed::made,
               .node = made->node,
               .type = made->mode & S_IFMT,
               .to = {parent, std::string{name}}});
    }
    return made;
  }));
  fs_.poke();
  fs_.notify(branch(), this, Change::entry, {}, parent, name);
  fs_.notify(branch(), this, Change::attributes, parent);
  return attr(row);
}

Result<Attr> ViewImpl::mknod(const Caller& c, NodeId parent, std::string_view name, std::uint32_t mode,
                             std::uint64_t rdev) {
  NodeRow init;
  init.mode = (mode & S_IFMT) == 0 ? mode | S_IFREG : mode;
  if (S_ISDIR(init.mode) || S_ISLNK(init.mode)) return fail(EINVAL);
  if (S_ISBLK(init.mode) || S_ISCHR(init.mode)) init.rdev = rdev;
  return make(c, parent, name, std::move(init));
}

Result<Attr> ViewImpl::mkdir(const Caller& c, NodeId parent, std::string_view name, std::uint32_t mode) {
  NodeRow init;
  init.mode = S_IFDIR | (mode & 07777);
  return make(c, parent, name, std::move(init));
}

Result<Attr> ViewImpl::symlink(const Caller& c, NodeId parent, std::string_view name,
                               std::string_view target) {
  if (target.empty()) return fail(ENOENT);
  if (target.size() > 4095) return fail(ENAMETOOLONG);
  NodeRow init;
  init.mode = S_IFLNK | 0777;
  init.target = target;
  return make(c, parent, name, std::move(init));
}

Result<Attr> ViewImpl::link(const Caller& c, NodeId node, NodeId parent, std::string_view name) {
  INDRA_TRY(check_writable(4096));
  if (name.size() > 255) return fail(ENAMETOOLONG);
  const auto session = fs_.sessions().find(key(node));
  if (session && session->temporary)
    INDRA_TRY(fs_.publish(*session));  // linkat of an O_TMPFILE: it comes whole
  const Who w = who(c);
  const Ahead a = ahead(node);
  INDRA_LET(const NodeRow row, fs_.writer().mutate([&](Tx& tx) -> Result<NodeRow> {
    INDRA_LET(const NodeRow old, fs_.tree().node(tx, chain_, node));
    // Removed since the kernel looked. Only what never had a name is given its first one.
    if (old.nlink == 0 && !(session && session->temporary)) return fail(ENOENT);
    auto r = fs_.tree().link(tx, w, chain_, node, parent, name);
    if (r) {
      if (session) session->temporary = session->unlinked = false;
      hold(node);
      fs_.did(
          branch(), this,
          {.kind = Deed::linked, .node = node, .type = r->mode & S_IFMT, .to = {parent, std::string{name}}});
    }
    return r;
  }));
  fs_.poke();
  fs_.notify(branch(), this, Change::entry, {}, parent, name);
  fs_.notify(branch(), this, Change::attributes, parent);
  fs_.notify(branch(), this, Change::attributes, node);
  return attr(row, a);
}

/// After a node lost a name, inside the transaction: an orphan stays while somebody has it open or refers to
/// it.
void ViewImpl::lost_name(const NodeRow& row) {
  if (row.nlink != 0) return;
  fs_.orphaned(branch(), row.node);
  if (const auto s = fs_.sessions().find(key(row.node))) s->unlinked = true;
}

Result<void> ViewImpl::unlink(const Caller& c, NodeId parent, std::string_view name) {
  INDRA_TRY(check_writable(0));
  const Who w = who(c);
  INDRA_LET(const NodeRow row, fs_.writer().mutate([&](Tx& tx) -> Result<NodeRow> {
    auto r = fs_.tree().unlink(tx, w, chain_, parent, name);
    if (r) {
      lost_name(*r);
      fs_.did(branch(), this,
              {.kind = Deed::removed,
               .node = r->node,
               .type = r->mode & S_IFMT,
               .from = {parent, std::string{name}}});
    }
    return r;
  }));
  fs_.poke();
  if (row.nlink == 0) fs_.released(branch(), row.node);
  fs_.notify(branch(), this, Change::entry, row.node, parent, name);
  fs_.notify(branch(), this, Change::attributes, row.node);
  fs_.notify(branch(), this, Change::attributes, parent);
  return {};
}

Result<void> ViewImpl::rmdir(const Caller& c, NodeId parent, std::string_view name) {
  INDRA_TRY(check_writable(0));
  const Who w = who(c);
  INDRA_LET(const NodeRow row, fs_.writer().mutate([&](Tx& tx) -> Result<NodeRow> {
    auto r = fs_.tree().rmdir(tx, w, chain_, parent, name);
    if (r) {
      fs_.orphaned(branch(), r->node);
      fs_.did(branch(), this,
              {.kind = Deed::removed, .node = r->node, .type = S_IFDIR, .from = {parent, std::string{name}}});
    }
    return r;
  }));
  fs_.poke();
  fs_.released(branch(), row.node);
  fs_.notify(branch(), this, Change::entry, row.node, parent, name);
  fs_.notify(branch(), this, Change::attributes, parent);
  return {};
}

Result<void> ViewImpl::rename(const Caller& c, NodeId from_parent, std::string_view from, NodeId to_parent,
                              std::string_view to, unsigned flags) {
  INDRA_TRY(check_writable(0));
  if (to.size() > 255) return fail(ENAMETOOLONG);
  if ((flags & ~static_cast<unsigned>(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) return fail(EINVAL);
  const Who w = who(c);
  const bool writers = flags == 0 && fs_.sessions().count() != 0;
  if (writers) INDRA_TRY(fs_.publish_before_replacing(branch(), chain_, to_parent, to));
  INDRA_LET(const Tree::Renamed r, fs_.writer().mutate([&](Tx& tx) -> Result<Tree::Renamed> {
    Seq pinned;
    if (writers) {
      INDRA_LET(const auto old, fs_.tree().lookup_node(tx, chain_, to_parent, to));
      INDRA_LET(const auto moved, fs_.tree().lookup(tx, chain_, from_parent, from));
      if (old && moved && moved->node != old->node) {
        INDRA_LET(pinned, fs_.pin_before_replacing(tx, chain_, *old));
      }
    }
    auto renamed = fs_.tree().rename(tx, w, chain_, from_parent, from, to_parent, to, flags);
    if (renamed && renamed->replaced && (flags & RENAME_EXCHANGE) == 0)
      fs_.was_replaced(branch(), *renamed->replaced, pinned);
    if (renamed && !renamed->nothing) {
      const NodeRow* const other = renamed->replaced ? &*renamed->replaced : nullptr;
      fs_.did(branch(), this,
              {.kind = (flags & RENAME_EXCHANGE) != 0 ? Deed::exchanged : Deed::moved,
               .node = renamed->moved.node,
               .type = renamed->moved.mode & S_IFMT,
               .from = {from_parent, std::string{from}},
               .to = {to_parent, std::string{to}},
               .other = other != nullptr ? other->node : NodeId{},
               .other_type = other != nullptr ? other->mode & S_IFMT : 0});
    }
    return renamed;
  }));
  fs_.poke();
  if (r.replaced && r.replaced->nlink == 0) fs_.released(branch(), r.replaced->node);
  fs_.notify(branch(), this, Change::entry, r.moved.node, from_parent, from);
  fs_.notify(branch(), this, Change::entry, r.replaced ? r.replaced->node : NodeId{}, to_parent, to);
  fs_.notify(branch(), this, Change::attributes, from_parent);
  if (to_parent != from_parent) fs_.notify(branch(), this, Change::attributes, to_parent);
  fs_.notify(branch(), this, Change::attributes, r.moved.node);
  if (r.replaced) fs_.notify(branch(), this, Change::attributes, r.replaced->node);
  return {};
}

Result<void> ViewImpl::sync() { return fs_.writer().barrier(); }

Result<FsStat> ViewImpl::statfs() {
  INDRA_LET(const Disk::Space s, fs_.space().left());
  FsStat f;
  f.blocks = s.total / f.block_size;
  f.free = f.available = s.free / f.block_size;
  // A node needs some 200 bytes of vault.db: what is free bounds how many there can be.
  f.files_free = s.free / 256;
  f.files = f.files_free + static_cast<std::uint64_t>(fs_.tree().last_seq().raw());
  return f;
}

}  // namespace indra
