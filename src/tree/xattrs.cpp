// Extended attributes, versioned like everything else.
#include <sys/xattr.h>

#include "tree/internal/tree_impl.h"

namespace indra {

using rows::Xattrs;

namespace {
constexpr std::size_t kMaxName = 255, kMaxValue = 64 * 1024, kMaxList = 64 * 1024;
}

Result<void> TreeImpl::set_xattr(Tx& tx, const Who& who, const Chain& chain, NodeId id, std::string_view name,
                                 std::optional<ByteView> value, int flags) {
  INDRA_LET(BranchState * own, writable(chain));
  if (name.empty() || name.size() > kMaxName) return fail(ERANGE);
  if (name.find('\0') != name.npos || (flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) return fail(EINVAL);
  if (value && value->size() > kMaxValue) return fail(E2BIG);
  INDRA_LET(const NodeRow old_row, node(tx, chain, id));
  Xattrs::Row old;
  INDRA_TRY(rows::find<Xattrs>(tx, chain, {id, name}, old));
  if (!value && old.gone()) return fail(ENODATA);
  if (value && (flags & XATTR_CREATE) != 0 && !old.gone()) return fail(EEXIST);
  if (value && (flags & XATTR_REPLACE) != 0 && old.gone()) return fail(ENODATA);
  if (value && old.gone()) {
    INDRA_LET(const auto names, xattrs(tx, chain, id));
    std::size_t total = name.size() + 1;
    for (const auto& n : names) total += n.size() + 1;
    if (total > kMaxList) return fail(ENOSPC);
  }

  NodeRow row = old_row;
  row.ctime = clock_.now();
  INDRA_LET(const Seq s, next_seq(tx, *own));
  if (value) {
    row.flags |= kHasXattrs;
    INDRA_TRY(put_xattr(tx, *own, {id, name}, old, value, s));
  } else {
    INDRA_TRY(erase_xattr(tx, chain, *own, {id, name}, old, s));
  }
  INDRA_TRY(put_node(tx, *own, old_row, row, s));
  return record(tx, who, *own, s, Op::xattr, id, row.parent, name);
}

}  // namespace indra
