// The three versioned tables (edges, nodes, xattrs), seen alike: how to find the row that a view shows.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "db/db.h"
#include "tree/tree.h"

namespace indra::rows {

/// So many rows of branches that the view does not see are passed over before a seek leaps beyond them (T3).
inline constexpr int kPassOver = 8;

struct Edges {
  struct Key {
    NodeId parent;
    std::int64_t cookie;
    std::string_view name;
  };
  struct Row {
    BranchId branch;  // 0: the view has no row
    Seq seq;
    NodeId node;  // 0: tombstone
    std::uint32_t type = 0;
    [[nodiscard]] bool gone() const { return !node; }
  };
  static constexpr const char* kDown =
      "SELECT branch, seq, node, type FROM edges WHERE parent = ?1 AND cookie = ?2 AND name = ?3 AND branch "
      "<= ?4 ORDER BY branch DESC";
  static constexpr const char* kOne =
      "SELECT branch, seq, node, type FROM edges WHERE parent = ?1 AND cookie = ?2 AND name = ?3 AND branch "
      "= ?4";
  static constexpr const char* kPast =
      "SELECT branch, seq, node, type, until FROM edges_past WHERE parent = ?1 AND cookie = ?2 AND name = ?3 "
      "AND branch = ?4"
      " AND seq <= ?5 ORDER BY seq DESC LIMIT 1";
  static constexpr const char* kHasPast =
      "SELECT 1 FROM edges_past WHERE parent = ?1 AND cookie = ?2 AND name = ?3 AND branch = ?4 LIMIT 1";
  static constexpr const char* kKeep =
      "INSERT INTO edges_past(parent, cookie, name, branch, seq, until, node, type) SELECT parent, cookie, "
      "name, branch, seq, ?5,"
      " node, type FROM edges WHERE parent = ?1 AND cookie = ?2 AND name = ?3 AND branch = ?4";
  static constexpr const char* kDelete =
      "DELETE FROM edges WHERE parent = ?1 AND cookie = ?2 AND name = ?3 AND branch = ?4";
  static constexpr int kUntil = 4;
  static constexpr int kBranch = 4;  // parameter
  static void bind(Statement& q, const Key& k) {
    q.bind(1, k.parent).bind(2, k.cookie).bind_blob(3, as_view(k.name));
  }
  static void read(const Statement& q, const Key&, Row& r) {
    r.branch = q.id_at<BranchId>(0);
    r.seq = q.id_at<Seq>(1);
    r.node = q.id_at<NodeId>(2);
    r.type = static_cast<std::uint32_t>(q.int64_at(3)) << 12;
  }
};

/// Reads the columns of kNodeColumns, from `first` on.
void read_node(const Statement& q, int first, NodeRow& r);
#define INDRA_NODE_COLUMNS(t)                                                                            \
  t "branch, " t "seq, " t "mode, " t "nlink, " t "uid, " t "gid, " t "size, " t "stored, " t "blob, " t \
    "mtime, " t "atime_d, " t "ctime_d, " t "btime_d, " t "parent, " t "line, " t "flags, " t "rdev, " t \
    "target"

struct Nodes {
  struct Key {
    NodeId node;
  };
  using Row = NodeRow;
  static constexpr const char* kDown =
      "SELECT " INDRA_NODE_COLUMNS("") " FROM nodes WHERE node = ?1 AND branch <= ?2 ORDER BY branch DESC";
  static constexpr const char* kOne =
      "SELECT " INDRA_NODE_COLUMNS("") " FROM nodes WHERE node = ?1 AND branch = ?2";
  static constexpr const char* kPast = "SELECT " INDRA_NODE_COLUMNS("") ", until FROM nodes_past WHERE node = ?1 AND branch = ?2"
                                       " AND seq <= ?3 ORDER BY seq DESC LIMIT 1";
  static constexpr const char* kHasPast = "SELECT 1 FROM nodes_past WHERE node = ?1 AND branch = ?2 LIMIT 1";
  static constexpr const char* kKeep = "INSERT INTO nodes_past(node, until, " INDRA_NODE_COLUMNS(
      "") ") SELECT node, ?3, " INDRA_NODE_COLUMNS("") " FROM nodes WHERE node = ?1 AND branch = ?2";
  static constexpr const char* kDelete = "DELETE FROM nodes WHERE node = ?1 AND branch = ?2";
  static constexpr int kUntil = 18;
  static constexpr int kBranch = 2;
  static void bind(Statement& q, const Key& k) { q.bind(1, k.node); }
  static void read(const Statement& q, const Key& k, Row& r) {
    r.node = k.node;
    read_node(q, 0, r);
    if (!r.line) r.line = k.node;
  }
};

struct Xattrs {
  struct Key {
    NodeId node;
    std::string_view name;
  };
  struct Row {
    BranchId branch;
    Seq seq;
    bool absent = true;
    Bytes value;
    [[nodiscard]] bool gone() const { return absent; }
  };
  static constexpr const char* kDown =
      "SELECT branch, seq, value FROM xattrs WHERE node = ?1 AND name = ?2 AND branch <= ?3 ORDER BY branch "
      "DESC";
  static constexpr const char* kOne =
      "SELECT branch, seq, value FROM xattrs WHERE node = ?1 AND name = ?2 AND branch = ?3";
  static constexpr const char* kPast =
      "SELECT branch, seq, value, until FROM xattrs_past WHERE node = ?1 AND name = ?2 AND branch = ?3"
      " AND seq <= ?4 ORDER BY seq DESC LIMIT 1";
  static constexpr const char* kHasPast =
      "SELECT 1 FROM xattrs_past WHERE node = ?1 AND name = ?2 AND branch = ?3 LIMIT 1";
  static constexpr const char* kKeep =
      "INSERT INTO xattrs_past(node, name, branch, seq, until, value) SELECT node, name, branch, seq, ?4, "
      "value FROM xattrs"
      " WHERE node = ?1 AND name = ?2 AND branch = ?3";
  static constexpr const char* kDelete = "DELETE FROM xattrs WHERE node = ?1 AND name = ?2 AND branch = ?3";
  static constexpr int kUntil = 3;
  static constexpr int kBranch = 3;
  static void bind(Statement& q, const Key& k) { q.bind(1, k.node).bind_blob(2, as_view(k.name)); }
  static void read(const Statement& q, const Key&, Row& r) {
    r.branch = q.id_at<BranchId>(0);
    r.seq = q.id_at<Seq>(1);
    r.absent = q.is_null(2);
    const ByteView v = q.blob_at(2);
    r.value.assign(v.begin(), v.end());
  }
};

/// The row of `branch` as of `limit` among the past ones; false when there is none.
template <class T>
Result<bool> find_past(Tx& tx, const typename T::Key& key, BranchId branch, Seq limit, typename T::Row& out) {
  auto q = Statement{tx, T::kPast};
  T::bind(q, key);
  q.bind(T::kBranch, branch).bind(T::kBranch + 1, limit);
  INDRA_LET(const bool row, q.step());
  if (!row || q.int64_at(T::kUntil) <= limit.raw()) return false;
  T::read(q, key, out);
  return true;
}

/// The row of one level of the chain; false when it has none.
template <class T>
Result<bool> find_at(Tx& tx, const typename T::Key& key, const Chain::Link& link, typename T::Row& out) {
  {
    auto q = Statement{tx, T::kOne};
    T::bind(q, key);
    INDRA_LET(const bool row, q.bind(T::kBranch, link.branch).step());
    if (!row) return false;
    if (q.int64_at(1) <= link.limit.raw()) {
      T::read(q, key, out);
      return true;
    }
  }
  return find_past<T>(tx, key, link.branch, link.limit, out);
}

/// The row that the view shows, which may be a tombstone; false when no branch of the chain has one. Branches
/// nearer than `from` are passed over: from = 1 finds what would show through (T8).
///
/// The rows of a key and the chain both lie in the order of branches, the nearest first: they are walked
/// together, and whoever is behind leaps to where the other is.
template <class T>
Result<bool> find(Tx& tx, const Chain& chain, const typename T::Key& key, typename T::Row& out,
                  int from = 0) {
  const auto& links = chain.links();
  auto level = static_cast<std::size_t>(from);
  if (!chain.descends()) {  // a damaged vault
    for (; level < links.size(); ++level) {
      INDRA_LET(const bool row, find_at<T>(tx, key, links[level], out));
      if (row) return true;
    }
    return false;
  }
  if (level >= links.size()) return false;
  auto q = Statement{tx, T::kDown};
  T::bind(q, key);
  q.bind(T::kBranch, links[level].branch);
  for (int strangers = 0;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return false;
    const auto branch = q.id_at<BranchId>(0);
    while (links[level].branch > branch)
      if (++level == links.size()) return false;
    const Chain::Link& link = links[level];
    if (link.branch == branch) {
      if (q.int64_at(1) <= link.limit.raw()) {
        T::read(q, key, out);
        return true;
      }
      INDRA_LET(const bool past, find_past<T>(tx, key, branch, link.limit, out));
      if (past) return true;
      if (++level == links.size()) return false;
    } else if (++strangers > kPassOver) {
      q.reset();
      T::bind(q, key);
      q.bind(T::kBranch, link.branch);
      strangers = 0;
    }
  }
}

}  // namespace indra::rows
