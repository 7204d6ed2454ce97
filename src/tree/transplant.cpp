// Names and nodes by themselves, for merges: what is known elsewhere is put in place as it is.
#include <sys/stat.h>

#include "tree/internal/tree_impl.h"

namespace indra {

using rows::Edges;
using rows::Nodes;

Result<NodeRow> TreeImpl::lift(Tx& tx, const Chain& chain, NodeId parent, std::string_view name) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_TRY(check_name(name));
  INDRA_LET(NodeRow dir, node(tx, chain, parent));
  const auto key = key_of(parent, name);
  INDRA_LET(const Edges::Row old, edge(tx, chain, key));
  if (old.gone()) return fail(ENOENT);
  INDRA_LET(NodeRow row, node(tx, chain, old.node));
  INDRA_LET(const Seq s, next_seq(tx, *own));
  INDRA_TRY(erase_edge(tx, chain, *own, key, old, s));
  INDRA_TRY(touch(tx, *own, dir, S_ISDIR(row.mode) ? -1 : 0, clock_.now(), s));
  if (!S_ISDIR(row.mode)) return row;
  const NodeRow before = row;
  row.parent = {};  // it lies in none: so that the order of several moves does not matter to within()
  INDRA_TRY(put_node(tx, *own, before, row, s));
  return row;
}

Result<NodeRow> TreeImpl::lay(Tx& tx, const Who& who, const Chain& chain, NodeId id, const At& from,
                              NodeId parent, std::string_view name) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_TRY(check_name(name));
  INDRA_LET(NodeRow dir, directory(tx, chain, parent));
  const auto key = key_of(parent, name);
  INDRA_LET(const Edges::Row old, edge(tx, chain, key));
  if (!old.gone()) return fail(EEXIST);
  INDRA_LET(const NodeRow before, node(tx, chain, id));
  if (S_ISDIR(before.mode)) {
    INDRA_LET(const bool below, within(tx, chain, parent, id));
    if (below) return fail(EINVAL);
  }
  const TimeNs now = clock_.now();
  INDRA_LET(const Seq s, next_seq(tx, *own));
  NodeRow row = before;
  row.parent = parent;
  row.ctime = now;
  INDRA_TRY(put_edge(tx, *own, key, old, id, row.mode & S_IFMT, s));
  INDRA_TRY(put_node(tx, *own, before, row, s));
  INDRA_TRY(touch(tx, *own, dir, S_ISDIR(row.mode) ? 1 : 0, now, s));
  std::byte numbers[16]{};
  store_le(numbers, from.parent.raw());
  Bytes extra{numbers, numbers + 16};
  const ByteView old_name = as_view(from.name);
  extra.insert(extra.end(), old_name.begin(), old_name.end());
  INDRA_TRY(record(tx, who, *own, s, Op::rename, id, parent, name, extra));
  return row;
}

Result<NodeRow> TreeImpl::adopt(Tx& tx, const Who& who, const Chain& chain, const NodeRow& as, NodeId parent,
                                std::string_view name) {
  INDRA_LET(BranchState * own, writable(chain));
  INDRA_TRY(check_name(name));
  if ((as.mode & S_IFMT) == 0) return fail(EINVAL);
  INDRA_LET(NodeRow dir, directory(tx, chain, parent));
  const auto key = key_of(parent, name);
  INDRA_LET(const Edges::Row old, edge(tx, chain, key));
  if (!old.gone()) return fail(EEXIST);

  NodeRow row = as, there;
  bool known = false;
  if (row.node) {
    INDRA_LET(known, rows::find<Nodes>(tx, chain, {row.node}, there));
  }
  if (!row.node || (known && there.mode != 0)) {  // in use, were it only by who has it open
    INDRA_LET(const std::int64_t id, node_ids_.take(tx));
    row.node = NodeId{id};
    known = false;
  }
  const TimeNs now = clock_.now();
  INDRA_LET(const Seq s, next_seq(tx, *own));
  const bool is_dir = S_ISDIR(row.mode);
  if (!row.line || !S_ISREG(row.mode)) row.line = row.node;  // only a file goes on in another node
  row.nlink = is_dir ? 2 : 1;
  row.parent = parent;
  row.flags = as.flags & kNoVersions;
  row.ctime = now;
  const Op op = is_dir ? Op::mkdir : S_ISLNK(row.mode) ? Op::symlink : Op::create;
  INDRA_TRY(put_edge(tx, *own, key, old, row.node, row.mode & S_IFMT, s));
  if (known)
    INDRA_TRY(put_node(tx, *own, there, row, s));
  else
    INDRA_TRY(insert_node(tx, *own, row, s));
  INDRA_TRY(touch(tx, *own, dir, is_dir ? 1 : 0, now, s));
  INDRA_TRY(record(tx, who, *own, s, op, row.node, parent, name));
  if (!row.blob) return row;
  std::byte blob[8];
  store_le(blob, row.blob.raw());
  INDRA_LET(const Seq written, next_seq(tx, *own));
  INDRA_TRY(record(tx, who, *own, written, Op::write, row.node, parent, {}, ByteView{blob, sizeof blob}));
  return row;
}

}  // namespace indra
