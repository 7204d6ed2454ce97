// Versioned rows replaced and removed by the rule of pins (T4, T8).
#include "tree/internal/tree_impl.h"

namespace indra {

using rows::Edges;
using rows::Nodes;
using rows::Xattrs;

template <class T>
Result<void> TreeImpl::keep_past(Tx& tx, BranchState& own, const typename T::Key& key, Seq until) {
  auto q = Statement{tx, T::kKeep};
  T::bind(q, key);
  own.has_past = true;
  return q.bind(T::kBranch, own.info.id).bind(T::kBranch + 1, until).run();
}

template <class T>
Result<void> TreeImpl::delete_own(Tx& tx, BranchState& own, const typename T::Key& key) {
  auto q = Statement{tx, T::kDelete};
  T::bind(q, key);
  return q.bind(T::kBranch, own.info.id).run();
}

template <class T>
Result<bool> TreeImpl::removable(Tx& tx, const Chain& chain, BranchState& own, const typename T::Key& key) {
  if (own.has_past) {
    auto q = Statement{tx, T::kHasPast};
    T::bind(q, key);
    INDRA_LET(const bool past, q.bind(T::kBranch, own.info.id).step());
    if (past) return false;
  }
  if (chain.links().size() == 1) return true;
  typename T::Row above;
  INDRA_LET(const bool found, rows::find<T>(tx, chain, key, above, 1));
  if constexpr (std::is_same_v<T, Nodes>)
    return !found || above.mode == 0;
  else
    return !found || above.gone();
}
template Result<bool> TreeImpl::removable<Edges>(Tx&, const Chain&, BranchState&, const Edges::Key&);
template Result<bool> TreeImpl::removable<Nodes>(Tx&, const Chain&, BranchState&, const Nodes::Key&);
template Result<bool> TreeImpl::removable<Xattrs>(Tx&, const Chain&, BranchState&, const Xattrs::Key&);
template Result<void> TreeImpl::delete_own<Edges>(Tx&, BranchState&, const Edges::Key&);
template Result<void> TreeImpl::delete_own<Nodes>(Tx&, BranchState&, const Nodes::Key&);
template Result<void> TreeImpl::delete_own<Xattrs>(Tx&, BranchState&, const Xattrs::Key&);

// Nodes
// ---------------------------------------------------------------------------------------------------------

namespace {

void bind_node(Statement& q, const NodeRow& r) {
  q.bind(1, r.node)
      .bind(2, r.branch)
      .bind(3, r.seq)
      .bind(4, std::int64_t{r.mode})
      .bind(5, std::int64_t{r.nlink})
      .bind(6, std::int64_t{r.uid})
      .bind(7, std::int64_t{r.gid})
      .bind(8, static_cast<std::int64_t>(r.size));
  if (r.stored)
    q.bind(9, static_cast<std::int64_t>(*r.stored));
  else
    q.bind(9, nullptr);
  q.bind_or_null(10, r.blob)
      .bind(11, r.mtime)
      .bind(12, r.atime - r.mtime)
      .bind(13, r.ctime - r.mtime)
      .bind(14, r.btime - r.mtime)
      .bind_or_null(15, r.parent);
  if (r.line && r.line != r.node)
    q.bind(16, r.line);
  else
    q.bind(16, nullptr);
  q.bind(17, std::int64_t{r.flags});
  if (r.rdev != 0)
    q.bind(18, static_cast<std::int64_t>(r.rdev));
  else
    q.bind(18, nullptr);
  if (r.target.empty())
    q.bind(19, nullptr);
  else
    q.bind_blob(19, as_view(r.target));
}

Result<void> update_node(Tx& tx, const NodeRow& r) {
  auto q = Statement{tx,
                     "UPDATE nodes SET seq = ?3, mode = ?4, nlink = ?5, uid = ?6, gid = ?7, size = ?8, "
                     "stored = ?9, blob = ?10,"
                     " mtime = ?11, atime_d = ?12, ctime_d = ?13, btime_d = ?14, parent = ?15, line = ?16, "
                     "flags = ?17, rdev = ?18,"
                     " target = ?19 WHERE node = ?1 AND branch = ?2"};
  bind_node(q, r);
  return q.run();
}

}  // namespace

Result<void> TreeImpl::insert_node(Tx& tx, BranchState& own, NodeRow& row, Seq s) {
  row.branch = own.info.id;
  row.seq = s;
  auto q = Statement{
      tx,
      "INSERT INTO nodes(node, branch, seq, mode, nlink, uid, gid, size, stored, blob, mtime, atime_d, "
      "ctime_d, btime_d,"
      " parent, line, flags, rdev, target)"
      " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)"};
  bind_node(q, row);
  INDRA_TRY(q.run());
  return add_ref(tx, row.blob);
}

/// A past row as `row` says. Its reference is the caller's to add.
Result<void> TreeImpl::insert_past(Tx& tx, const NodeRow& row, Seq until) {
  auto q = Statement{
      tx,
      "INSERT INTO nodes_past(node, branch, seq, mode, nlink, uid, gid, size, stored, blob, mtime, atime_d, "
      "ctime_d, btime_d,"
      " parent, line, flags, rdev, target, until)"
      " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)"};
  bind_node(q, row);
  return q.bind(20, until).run();
}

Result<void> TreeImpl::put_node(Tx& tx, BranchState& own, const NodeRow& old, NodeRow& now, Seq s,
                                Keep keep) {
  if (old.branch != own.info.id) return insert_node(tx, own, now, s);
  now.branch = own.info.id;
  now.seq = s;
  if (keep == Keep::pinned && old.seq <= own.last_pin) {
    // The past row takes over the reference of the current one.
    INDRA_TRY(keep_past<Nodes>(tx, own, {old.node}, s));
    INDRA_TRY(add_ref(tx, now.blob));
    return update_node(tx, now);
  }
  if (now.blob != old.blob) {
    INDRA_TRY(add_ref(tx, now.blob));
    INDRA_TRY(drop_ref(tx, old.blob));
  }
  return update_node(tx, now);
}

Result<void> TreeImpl::erase_node(Tx& tx, const Chain& chain, BranchState& own, const NodeRow& old, Seq s) {
  if (old.branch == own.info.id && old.seq > own.last_pin) {
    INDRA_LET(const bool gone, removable<Nodes>(tx, chain, own, {old.node}));
    if (gone) {
      INDRA_TRY(delete_own<Nodes>(tx, own, {old.node}));
      return drop_ref(tx, old.blob);
    }
  }
  NodeRow tombstone;
  tombstone.node = old.node;
  return put_node(tx, own, old, tombstone, s);
}

// Edges
// ---------------------------------------------------------------------------------------------------------

Result<void> TreeImpl::put_edge(Tx& tx, BranchState& own, const Edges::Key& key, const Edges::Row& old,
                                NodeId node, std::uint32_t type, Seq s) {
  if (old.branch != own.info.id) {
    auto q = Statement{tx,
                       "INSERT INTO edges(parent, cookie, name, branch, seq, node, type) VALUES(?1, ?2, ?3, "
                       "?4, ?5, ?6, ?7)"};
    Edges::bind(q, key);
    return q.bind(4, own.info.id).bind(5, s).bind_or_null(6, node).bind(7, std::int64_t{type >> 12}).run();
  }
  if (old.seq <= own.last_pin) INDRA_TRY(keep_past<Edges>(tx, own, key, s));
  auto q = Statement{tx,
                     "UPDATE edges SET seq = ?5, node = ?6, type = ?7 WHERE parent = ?1 AND cookie = ?2 AND "
                     "name = ?3 AND branch = ?4"};
  Edges::bind(q, key);
  return q.bind(4, own.info.id).bind(5, s).bind_or_null(6, node).bind(7, std::int64_t{type >> 12}).run();
}

Result<void> TreeImpl::erase_edge(Tx& tx, const Chain& chain, BranchState& own, const Edges::Key& key,
                                  const Edges::Row& old, Seq s) {
  if (old.branch == own.info.id && old.seq > own.last_pin) {
    INDRA_LET(const bool gone, removable<Edges>(tx, chain, own, key));
    if (gone) return delete_own<Edges>(tx, own, key);
  }
  return put_edge(tx, own, key, old, {}, 0, s);
}

// Extended attributes
// -------------------------------------------------------------------------------------------

Result<void> TreeImpl::put_xattr(Tx& tx, BranchState& own, const Xattrs::Key& key, const Xattrs::Row& old,
                                 std::optional<ByteView> value, Seq s) {
  const auto run = [&](Statement& q) {
    Xattrs::bind(q, key);
    q.bind(3, own.info.id).bind(4, s);
    if (value)
      q.bind_blob(5, *value);
    else
      q.bind(5, nullptr);
    return q.run();
  };
  if (old.branch != own.info.id) {
    auto q = Statement{tx, "INSERT INTO xattrs(node, name, branch, seq, value) VALUES(?1, ?2, ?3, ?4, ?5)"};
    return run(q);
  }
  if (old.seq <= own.last_pin) INDRA_TRY(keep_past<Xattrs>(tx, own, key, s));
  auto q =
      Statement{tx, "UPDATE xattrs SET seq = ?4, value = ?5 WHERE node = ?1 AND name = ?2 AND branch = ?3"};
  return run(q);
}

Result<void> TreeImpl::erase_xattr(Tx& tx, const Chain& chain, BranchState& own, const Xattrs::Key& key,
                                   const Xattrs::Row& old, Seq s) {
  if (old.branch == own.info.id && old.seq > own.last_pin) {
    INDRA_LET(const bool gone, removable<Xattrs>(tx, chain, own, key));
    if (gone) return delete_own<Xattrs>(tx, own, key);
  }
  return put_xattr(tx, own, key, old, std::nullopt, s);
}

}  // namespace indra
