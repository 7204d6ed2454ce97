// Names and nodes made and removed.
#include <sys/stat.h>

#include "tree/internal/tree_impl.h"

namespace indra {

using rows::Edges;

namespace {
constexpr std::uint32_t kMaxLinks = 65000;  // of a file, as ext4
constexpr std::size_t kMaxTarget = 4095;

Op op_of(std::uint32_t mode) { return S_ISDIR(mode) ? Op::mkdir : S_ISLNK(mode) ? Op::symlink : Op::create; }
}  // namespace

Result<NodeRow> TreeImpl::directory(Tx& tx, const Chain& chain, NodeId id) {
  INDRA_LET(NodeRow dir, node(tx, chain, id));
  if (!S_ISDIR(dir.mode)) return fail(ENOTDIR);
  if (dir.nlink == 0) return fail(ENOENT);  // removed, but still open
  return dir;
}

Result<void> TreeImpl::touch(Tx& tx, BranchState& own, NodeRow& dir, int subdirectories, TimeNs now, Seq s) {
  const NodeRow old = dir;
  dir.mtime = dir.ctime = now;
  dir.nlink = static_cast<std::uint32_t>(static_cast<std::int64_t>(dir.nlink) + subdirectories);
  return put_node(tx, own, old, dir, s);
}

NodeRow TreeImpl::fresh(const NodeRow& init, TimeNs now) const {
  NodeRow row = init;
  row.mtime = init.mtime != 0 ? init.mtime : now;
  row.atime = init.atime != 0 ? init.atime : now;
  row.ctime = init.ctime != 0 ? init.ctime : now;
  row.btime = init.btime != 0 ? init.btime : now;
  row.flags = init.flags & kNoVersions;
  row.parent = {};
  if (!S_ISLNK(row.mode)) row.target.clear();
  if (!S_ISREG(row.mode)) row.blob = {}, row.size = row.target.size(), row.stored.reset();
  return row;
}

Result<NodeId> TreeImpl::left_line(Tx& tx, const Chain& chain, BranchState& own, const Edges::Key& place,
                                   Seq s, bool take) {
  const Left* left = left_.find({own.info.id, place.parent, place.cookie});
  if (left == nullptr || clock_.steady() - left->when > options_.line_window) return NodeId{};
  if (!left->moved) return left->line;
  NodeRow old;
  INDRA_LET(const bool found, rows::find<rows::Nodes>(tx, chain, {left->moved}, old));
  if (!found || old.mode == 0 || old.nlink == 0 || old.line != left->line) return left->line;
  if (!take || old.nlink > 1) return NodeId{};
  NodeRow backup = old;
  INDRA_LET(const std::int64_t id, node_ids_.take(tx));
  backup.line = NodeId{id};
  const NodeId line = left->line;
  INDRA_TRY(put_node(tx, own, old, backup, s));
  return line;
}

Result<NodeRow> TreeImpl::create(Tx& tx, const Who& who, const Chain& chain, NodeId parent,
                                 std::string_view name, const NodeRow& init) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_TRY(check_name(name));
  if ((init.mode & S_IFMT) == 0) return fail(EINVAL);
  if (S_ISLNK(init.mode) && init.target.empty()) return fail(ENOENT);
  if (S_ISLNK(init.mode) && init.target.size() > kMaxTarget) return fail(ENAMETOOLONG);
  INDRA_LET(NodeRow dir, directory(tx, chain, parent));
  const auto key = key_of(parent, name);
  INDRA_LET(const Edges::Row old, edge(tx, chain, key));
  if (!old.gone()) return fail(EEXIST);

  const TimeNs now = clock_.now();
  NodeRow row = fresh(init, now);
  row.flags |= dir.flags & kNoVersions;
  INDRA_LET(const std::int64_t id, node_ids_.take(tx));
  INDRA_LET(const Seq s, next_seq(tx, *own));
  const bool is_dir = S_ISDIR(row.mode);
  row.node = row.line = NodeId{id};
  row.nlink = is_dir ? 2 : 1;
  row.parent = parent;
  if (S_ISREG(row.mode)) {
    INDRA_LET(const NodeId before, left_line(tx, chain, *own, key, s, true));
    if (before) row.line = before;
  }
  INDRA_TRY(put_edge(tx, *own, key, old, row.node, row.mode & S_IFMT, s));
  INDRA_TRY(insert_node(tx, *own, row, s));
  INDRA_TRY(touch(tx, *own, dir, is_dir ? 1 : 0, now, s));
  INDRA_TRY(record(tx, who, *own, s, op_of(row.mode), row.node, parent, name));
  return row;
}

Result<Tree::Renamed> TreeImpl::place(Tx& tx, const Who& who, const Chain& chain, NodeId parent,
                                      std::string_view name, const NodeRow& init) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_TRY(check_name(name));
  if (!S_ISREG(init.mode)) return fail(EINVAL);
  INDRA_LET(NodeRow dir, directory(tx, chain, parent));
  const auto key = key_of(parent, name);
  INDRA_LET(const Edges::Row old, edge(tx, chain, key));
  Renamed done;
  if (!old.gone()) {
    INDRA_LET(done.replaced, node(tx, chain, old.node));
    if (S_ISDIR(done.replaced->mode)) return fail(EISDIR);
  }

  const TimeNs now = clock_.now();
  NodeRow& row = done.moved;
  row = fresh(init, now);
  row.flags |= dir.flags & kNoVersions;
  INDRA_LET(const std::int64_t id, node_ids_.take(tx));
  INDRA_LET(const Seq s, next_seq(tx, *own));
  row.node = row.line = NodeId{id};
  row.nlink = 1;
  row.parent = parent;
  if (!done.replaced) {
    INDRA_LET(const NodeId before, left_line(tx, chain, *own, key, s, true));
    if (before) row.line = before;
  } else if (S_ISREG(done.replaced->mode)) {
    row.line = done.replaced->line;
  }
  INDRA_TRY(put_edge(tx, *own, key, old, row.node, row.mode & S_IFMT, s));
  INDRA_TRY(insert_node(tx, *own, row, s));
  if (done.replaced) INDRA_TRY(drop_name(tx, *own, *done.replaced, parent, now, s));
  INDRA_TRY(touch(tx, *own, dir, 0, now, s));
  std::byte extra[16];
  store_le(extra, row.blob.raw());
  if (done.replaced) store_le(extra + 8, done.replaced->node.raw());
  INDRA_TRY(record(tx, who, *own, s, done.replaced ? Op::write : Op::create, row.node, parent, name,
                   ByteView{extra, done.replaced ? 16u : 8u}));
  return done;
}

Result<NodeRow> TreeImpl::create_unnamed(Tx& tx, const Who&, const Chain& chain, const NodeRow& init) {
  INDRA_LET(BranchState * own, writable(chain));
  if ((init.mode & S_IFMT) == 0 || S_ISDIR(init.mode)) return fail(EINVAL);
  NodeRow row = fresh(init, clock_.now());
  INDRA_LET(const std::int64_t id, node_ids_.take(tx));
  INDRA_LET(const Seq s, next_seq(tx, *own));
  row.node = row.line = NodeId{id};
  row.nlink = 0;
  INDRA_TRY(insert_node(tx, *own, row, s));
  return row;
}

Result<NodeRow> TreeImpl::link(Tx& tx, const Who& who, const Chain& chain, NodeId id, NodeId parent,
                               std::string_view name) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_TRY(check_name(name));
  INDRA_LET(const NodeRow old_row, node(tx, chain, id));
  if (S_ISDIR(old_row.mode)) return fail(EPERM);
  INDRA_LET(NodeRow dir, directory(tx, chain, parent));
  const auto key = key_of(parent, name);
  INDRA_LET(const Edges::Row old, edge(tx, chain, key));
  if (!old.gone()) return fail(EEXIST);
  if (old_row.nlink >= kMaxLinks) return fail(EMLINK);

  const TimeNs now = clock_.now();
  INDRA_LET(const Seq s, next_seq(tx, *own));
  NodeRow row = old_row;
  ++row.nlink;
  if (!row.parent) row.parent = parent;
  row.ctime = now;
  INDRA_TRY(put_edge(tx, *own, key, old, id, row.mode & S_IFMT, s));
  INDRA_TRY(put_node(tx, *own, old_row, row, s));
  INDRA_TRY(touch(tx, *own, dir, 0, now, s));
  INDRA_TRY(record(tx, who, *own, s, Op::link, id, parent, name));
  return row;
}

Result<void> TreeImpl::drop_name(Tx& tx, BranchState& own, NodeRow& row, NodeId parent, TimeNs now, Seq s) {
  const NodeRow old = row;
  if (!S_ISDIR(row.mode) && row.parent == parent) row.parent = {};  // where another name is, nobody says
  row.nlink = S_ISDIR(row.mode) || row.nlink == 0 ? 0 : row.nlink - 1;
  row.ctime = now;
  return put_node(tx, own, old, row, s);
}

Result<NodeRow> TreeImpl::remove(Tx& tx, const Who& who, const Chain& chain, NodeId parent,
                                 std::string_view name, bool is_dir) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_TRY(check_name(name));
  INDRA_LET(NodeRow dir, directory(tx, chain, parent));
  const auto key = key_of(parent, name);
  INDRA_LET(const Edges::Row old, edge(tx, chain, key));
  if (old.gone()) return fail(ENOENT);
  INDRA_LET(NodeRow row, node(tx, chain, old.node));
  if (is_dir) {
    if (!S_ISDIR(row.mode)) return fail(ENOTDIR);
    INDRA_LET(const bool none, empty(tx, chain, row.node));
    if (!none) return fail(ENOTEMPTY);
  } else if (S_ISDIR(row.mode)) {
    return fail(EISDIR);
  }

  const TimeNs now = clock_.now();
  INDRA_LET(const Seq s, next_seq(tx, *own));
  INDRA_TRY(erase_edge(tx, chain, *own, key, old, s));
  INDRA_TRY(drop_name(tx, *own, row, parent, now, s));
  INDRA_TRY(touch(tx, *own, dir, is_dir ? -1 : 0, now, s));
  if (S_ISREG(row.mode)) left_.put({own->info.id, parent, key.cookie}, {row.line, {}, clock_.steady()});
  INDRA_TRY(record(tx, who, *own, s, is_dir ? Op::rmdir : Op::unlink, row.node, parent, name));
  return row;
}

Result<NodeRow> TreeImpl::unlink(Tx& tx, const Who& who, const Chain& chain, NodeId parent,
                                 std::string_view name) {
  return remove(tx, who, chain, parent, name, false);
}

Result<NodeRow> TreeImpl::rmdir(Tx& tx, const Who& who, const Chain& chain, NodeId parent,
                                std::string_view name) {
  return remove(tx, who, chain, parent, name, true);
}

Result<NodeRow> TreeImpl::set_attributes(Tx& tx, const Who& who, const Chain& chain, const NodeRow& want) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_LET(const NodeRow old, node(tx, chain, want.node));
  NodeRow row = old;
  row.mode = (old.mode & S_IFMT) | (want.mode & 07777);
  row.uid = want.uid;
  row.gid = want.gid;
  row.mtime = want.mtime;
  row.atime = want.atime;
  row.ctime = clock_.now();
  INDRA_LET(const Seq s, next_seq(tx, *own));
  INDRA_TRY(put_node(tx, *own, old, row, s));
  INDRA_TRY(record(tx, who, *own, s, Op::attributes, row.node, row.parent, {}));
  return row;
}

Result<void> TreeImpl::set_flags(Tx& tx, const Who& who, const Chain& chain, NodeId id, std::uint32_t flags) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_LET(const NodeRow old, node(tx, chain, id));
  NodeRow row = old;
  row.flags = (old.flags & kHasXattrs) | (flags & (kNoVersions | kHasXattrs));
  if (row.flags == old.flags) return {};
  row.ctime = clock_.now();
  INDRA_LET(const Seq s, next_seq(tx, *own));
  INDRA_TRY(put_node(tx, *own, old, row, s));
  return record(tx, who, *own, s, Op::attributes, id, row.parent, {});
}

Result<void> TreeImpl::reap(Tx& tx, const Chain& chain, NodeId id) {
  INDRA_LET(BranchState * own, writable(chain));
  NodeRow row;
  INDRA_LET(const bool found, rows::find<rows::Nodes>(tx, chain, {id}, row));
  if (!found || row.mode == 0 || row.nlink != 0) return {};
  INDRA_LET(const Seq s, next_seq(tx, *own));
  if ((row.flags & kHasXattrs) != 0) {
    INDRA_LET(const auto names, xattrs(tx, chain, id));
    for (const auto& name : names) {
      rows::Xattrs::Row old;
      INDRA_TRY(rows::find<rows::Xattrs>(tx, chain, {id, name}, old));
      INDRA_TRY(erase_xattr(tx, chain, *own, {id, name}, old, s));
    }
  }
  return erase_node(tx, chain, *own, row, s);
}

}  // namespace indra
