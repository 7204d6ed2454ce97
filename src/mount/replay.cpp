// Answers to the process that does once more, through the mount, what others did
// (docs/design/editor-events.md).
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "mount/adapter.h"

namespace indra {

Attr Raiser::made_up_attr(WireId id) {
  Attr a;
  a.mode = type_of_made_up(id) | 0700u;
  a.nlink = S_ISDIR(a.mode) ? 2 : 1;
  a.uid = ::geteuid();
  a.gid = ::getegid();
  return a;
}

/// The entry of a node as the replay needs it: never kept, and with a stand-in where the node itself is gone
/// or shall not be given.
Entry Adapter::replayed(WireId parent, const Raiser::Node& n) {
  Entry e;
  Slot* s = n.made_up ? nullptr : layout_->acquire(n.id);
  if (s != nullptr) {
    const auto attr = s->view().refer(s->node(n.id));
    if (attr && (attr->mode & S_IFMT) == n.type) {
      e.id = n.id;
      e.generation = s->index() == 0 ? 0 : s->generation();
      e.attr = *attr;
      if (n.type != S_IFDIR) e.attr.nlink += n.names_lost;  // the kernel takes them off
      const auto known = known_.find(n.id);
      // A file's other name may be about to go: where users found it is where it stays known.
      const bool stays = known && (parent == fixed_id::stage || n.type != S_IFDIR);
      known_.add(n.id, stays ? known->parent : parent, n.type == S_IFDIR);
      if (s->index() == 0) layout_->hold(*s);  // else the one that acquire() took
      return e;
    }
    if (attr) s->view().forget(attr->node, 1);
    layout_->let_go(*s);
  }
  e.id = Raiser::made_up(n.id, n.type);
  e.attr = Raiser::made_up_attr(e.id);
  return e;
}

Result<Entry> Adapter::replay_lookup(Call& c, WireId parent, std::string_view name) {
  if (parent == fixed_id::root && name == Raiser::kStage) {
    Entry e;
    e.id = fixed_id::stage;
    INDRA_LET(e.attr, layout_->fixed_attr(e.id));
    return e;
  }
  if (parent == fixed_id::stage) {
    const auto n = raiser_.staged(name);
    return n ? replayed(parent, *n) : Entry{};
  }
  const auto as_before = [&](const Raiser::Node& n) { return n.id != 0 ? replayed(parent, n) : Entry{}; };
  if (const auto n = raiser_.before(parent, name)) return as_before(*n);
  auto truly = lookup(c, parent, name);
  // It waits for the mutation under way, and tells what that did: whose deed waits by now.
  if (const auto n = raiser_.before(parent, name)) {
    if (truly) undo(truly->id);
    return as_before(*n);
  }
  return truly;
}

Result<Entry> Adapter::replay_make(Call&, WireId parent, std::string_view name) {
  const auto n = raiser_.makes(parent, name);
  if (!n) return fail(ECANCELED);
  return replayed(parent, *n);
}

Result<void> Adapter::replay_remove(WireId parent, std::string_view name) {
  if (!raiser_.removes(parent, name)) return fail(ECANCELED);
  return {};
}

Result<void> Adapter::replay_rename(WireId from_parent, std::string_view from, WireId to_parent,
                                    std::string_view to) {
  if (!raiser_.renames(from_parent, from, to_parent, to)) return fail(ECANCELED);
  return {};
}

Result<AttrReply> Adapter::replay_setattr(Call& c, WireId id) {
  if (!raiser_.touches(id)) return fail(ECANCELED);
  INDRA_LET(AttrReply r, getattr(c, id));
  r.ttl = 0;
  c.cached_attr = false;
  return r;
}

Result<OpenReply> Adapter::replay_open(WireId id) {
  if (!raiser_.touches(id)) return fail(ECANCELED);
  OpenReply r;
  r.handle = kReplayHandle;
  r.direct_io = r.no_flush = true;
  return r;
}

}  // namespace indra
