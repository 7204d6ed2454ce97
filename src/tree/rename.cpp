// rename(2) and renameat2(2).
#include <sys/stat.h>

#include <cstdio>

#include "tree/internal/tree_impl.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#define RENAME_EXCHANGE (1 << 1)
#endif

namespace indra {

using rows::Edges;

Result<bool> TreeImpl::within(Tx& tx, const Chain& chain, NodeId dir, NodeId ancestor) {
  while (dir) {
    if (dir == ancestor) return true;
    INDRA_LET(const NodeRow row, node(tx, chain, dir));
    dir = row.parent;
  }
  return false;
}

Result<Tree::Renamed> TreeImpl::rename(Tx& tx, const Who& who, const Chain& chain, NodeId from_parent,
                                       std::string_view from, NodeId to_parent, std::string_view to,
                                       unsigned flags) {
  INDRA_LET(BranchState * own, writable(chain));
  if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE) return fail(EINVAL);
  const bool exchange = flags == RENAME_EXCHANGE;
  INDRA_TRY(check_name(from));
  INDRA_TRY(check_name(to));
  INDRA_LET(NodeRow from_dir, directory(tx, chain, from_parent));
  NodeRow to_dir;
  const bool same_dir = from_parent == to_parent;
  if (!same_dir) {
    INDRA_LET(to_dir, directory(tx, chain, to_parent));
  }
  const auto from_key = key_of(from_parent, from), to_key = key_of(to_parent, to);
  INDRA_LET(const Edges::Row a, edge(tx, chain, from_key));
  if (a.gone()) return fail(ENOENT);
  INDRA_LET(const Edges::Row b, edge(tx, chain, to_key));
  const bool taken = !b.gone();
  if (exchange && !taken) return fail(ENOENT);
  if (taken && flags == RENAME_NOREPLACE) return fail(EEXIST);
  INDRA_LET(const NodeRow old_moved, node(tx, chain, a.node));
  Renamed done{old_moved, std::nullopt};
  done.nothing = taken && a.node == b.node;  // two names of one file, or the same name
  if (done.nothing) return done;

  NodeRow old_other;
  if (taken) {
    INDRA_LET(old_other, node(tx, chain, b.node));
  }
  const bool moved_dir = S_ISDIR(old_moved.mode), other_dir = taken && S_ISDIR(old_other.mode);
  if (!same_dir) {
    if (moved_dir) {
      INDRA_LET(const bool below, within(tx, chain, to_parent, a.node));
      if (below) return fail(EINVAL);
    }
    if (other_dir) {
      INDRA_LET(const bool above, within(tx, chain, from_parent, b.node));
      if (above) return fail(exchange ? EINVAL : ENOTEMPTY);
    }
  }
  if (taken && !exchange) {
    if (moved_dir && !other_dir) return fail(ENOTDIR);
    if (!moved_dir && other_dir) return fail(EISDIR);
    if (other_dir) {
      INDRA_LET(const bool none, empty(tx, chain, b.node));
      if (!none) return fail(ENOTEMPTY);
    }
  }

  const TimeNs now = clock_.now();
  INDRA_LET(const Seq s, next_seq(tx, *own));
  NodeRow moved = old_moved, other = old_other;
  const bool lines = taken && S_ISREG(moved.mode) && S_ISREG(other.mode);
  moved.ctime = now;
  moved.parent = to_parent;
  if (lines) moved.line = old_other.line;
  if (!taken && S_ISREG(moved.mode)) {
    INDRA_LET(const NodeId before, left_line(tx, chain, *own, to_key, s, false));
    if (before) moved.line = before;
  }

  // Edges
  INDRA_TRY(put_edge(tx, *own, to_key, b, moved.node, moved.mode & S_IFMT, s));
  if (exchange)
    INDRA_TRY(put_edge(tx, *own, from_key, a, other.node, other.mode & S_IFMT, s));
  else
    INDRA_TRY(erase_edge(tx, chain, *own, from_key, a, s));

  // Nodes
  INDRA_TRY(put_node(tx, *own, old_moved, moved, s));
  if (exchange) {
    other.ctime = now;
    other.parent = from_parent;
    if (lines) other.line = old_moved.line;
    INDRA_TRY(put_node(tx, *own, old_other, other, s));
  } else if (taken) {
    INDRA_TRY(drop_name(tx, *own, other, to_parent, now, s));
  }

  // Directories
  const int out = moved_dir ? 1 : 0, back = exchange && other_dir ? 1 : 0,
            gone = !exchange && other_dir ? 1 : 0;
  if (same_dir) {
    INDRA_TRY(touch(tx, *own, from_dir, -gone, now, s));
  } else {
    INDRA_TRY(touch(tx, *own, from_dir, back - out, now, s));
    INDRA_TRY(touch(tx, *own, to_dir, out - back - gone, now, s));
  }

  char extra[16 + 255];
  store_le(reinterpret_cast<std::byte*>(extra), from_parent.raw());
  store_le(reinterpret_cast<std::byte*>(extra) + 8, other.node.raw());
  std::memcpy(extra + 16, from.data(), from.size());
  INDRA_TRY(record(tx, who, *own, s, exchange ? Op::exchange : Op::rename, moved.node, to_parent, to,
                   as_view({extra, 16 + from.size()})));
  if (!exchange && S_ISREG(moved.mode))
    left_.put({own->info.id, from_parent, from_key.cookie}, {old_moved.line, moved.node, clock_.steady()});
  done.moved = std::move(moved);
  if (taken) done.replaced = std::move(other);
  return done;
}

}  // namespace indra
