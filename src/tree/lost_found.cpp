// Putting a node that no path leads to where it can be found. Written as a mutation of its branch: rows that
// a pin needs are kept (T4), and the change log tells of it.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "tree/check.h"
#include "tree/internal/names.h"
#include "tree/internal/rows.h"
#include "tree/internal/tree_impl.h"

namespace indra {
namespace {

using rows::Edges;
using rows::Nodes;
using rows::Xattrs;

class LostFound {
 public:
  LostFound(Tx& tx, Forest f, BranchId b)
      : tx_{tx}, forest_{std::move(f)}, branch_{b}, chain_{forest_.chain(b)} {}

  Result<std::string> move(NodeId node) {
    const BranchInfo* b = forest_.branch(branch_);
    if (b == nullptr || b->hidden) return fail(ENOENT, "branch");
    NodeRow row;
    INDRA_LET(const bool there, rows::find<Nodes>(tx_, chain_, {node}, row));
    if (!there || row.mode == 0) return std::string{};
    NodeRow root;
    INDRA_LET(const bool rooted, rows::find<Nodes>(tx_, chain_, {b->root}, root));
    if (!rooted || !S_ISDIR(root.mode)) return std::string{};  // nowhere to put it
    {
      Statement q{tx_, "SELECT value FROM properties WHERE name = 'vault_id'"};
      INDRA_LET(const bool some, q.step());
      const Bytes id = some ? from_hex(q.text_at(0)) : Bytes{};
      if (id.size() != 32) return fail(Errc::corrupt, "vault_id");
      hash_.emplace(id);
    }
    INDRA_LET(const auto names, names_of(node));
    std::vector<Found> bad;
    bool lost_above = false;
    for (const Found& n : names) {
      INDRA_LET(const int way, leads_to_root(n.parent, node));
      if (way == 1) return std::string{};  // it has a path
      if (way == 0) lost_above = true;     // it lies in a directory that is lost itself, and goes with it
      if (way == -1) bad.push_back(n);
    }
    if (lost_above) return std::string{};
    INDRA_LET(const Seq s, next("seq").map([](std::int64_t n) { return Seq{n}; }));
    for (const Found& n : bad) {
      INDRA_TRY(put_edge({n.parent, n.cookie, n.name}, {}, 0, s));
      NodeRow dir;
      INDRA_LET(const bool known, rows::find<Nodes>(tx_, chain_, {n.parent}, dir));
      if (!known || !S_ISDIR(dir.mode) || !S_ISDIR(row.mode)) continue;
      INDRA_TRY(own(n.parent, s));
      INDRA_TRY(set(n.parent, "nlink = max(nlink - 1, 2)"));
    }
    INDRA_LET(const NodeId dir, directory(*b, s));
    const std::string name = "#" + std::to_string(node.raw());
    INDRA_TRY(put_edge({dir, hash_->cookie(name), name}, node, row.mode & S_IFMT, s));
    INDRA_TRY(own(node, s));
    INDRA_TRY(set(node, "parent = " + std::to_string(dir.raw()) + (S_ISDIR(row.mode) ? "" : ", nlink = 1")));
    if (S_ISDIR(row.mode)) {
      INDRA_TRY(own(dir, s));
      INDRA_TRY(set(dir, "nlink = nlink + 1"));
    }
    INDRA_TRY(record(s, S_ISDIR(row.mode) ? Op::mkdir : Op::create, node, dir, name));
    return "/" + title_ + "/" + name;
  }

  Result<bool> take_name(const Edges::Key& key) {
    Edges::Row e;
    INDRA_LET(const bool there, rows::find_at<Edges>(tx_, key, {branch_, kSeqMax}, e));
    if (!there || e.gone()) return false;
    INDRA_LET(const bool kept, shown_since(e.seq, e.node));
    if (kept) {
      INDRA_LET(const Seq s, next("seq").map([](std::int64_t n) { return Seq{n}; }));
      INDRA_TRY(put_edge(key, {}, 0, s));
      // Past rows are found behind a current one (T8).
      INDRA_TRY(
          Statement(tx_,
                    "INSERT OR IGNORE INTO nodes(node, branch, seq, mode, nlink, uid, gid, size, mtime, "
                    "atime_d, ctime_d, btime_d, flags) VALUES(?1, ?2, ?3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)")
              .bind(1, e.node)
              .bind(2, branch_)
              .bind(3, s)
              .run());
      return true;
    }
    Statement q{tx_,
                "UPDATE edges SET node = NULL, type = 0 WHERE parent = ?1 AND cookie = ?2 AND name = ?3 AND "
                "branch = ?4"};
    Edges::bind(q, key);
    INDRA_TRY(q.bind(4, branch_).run());
    return true;
  }

  Result<bool> take_attribute(const Xattrs::Key& key) {
    Xattrs::Row x;
    INDRA_LET(const bool there, rows::find_at<Xattrs>(tx_, key, {branch_, kSeqMax}, x));
    if (!there || x.gone()) return false;
    INDRA_LET(const bool kept, shown_since(x.seq, key.node));
    Seq s = x.seq;
    if (kept) {
      INDRA_LET(s, next("seq").map([](std::int64_t n) { return Seq{n}; }));
      Statement k{tx_, Xattrs::kKeep};
      Xattrs::bind(k, key);
      INDRA_TRY(k.bind(3, branch_).bind(4, s).run());
    }
    Statement q{tx_,
                "UPDATE xattrs SET value = NULL, seq = ?4 WHERE node = ?1 AND name = ?2 AND branch = ?3"};
    Xattrs::bind(q, key);
    INDRA_TRY(q.bind(3, branch_).bind(4, s).run());
    return true;
  }

 private:
  /// At a pin from then on.
  Result<bool> shown_since(Seq from, NodeId node) {
    for (Seq at = from;;) {
      const auto pin = forest_.pin_within(branch_, at, kSeqMax);
      if (!pin) return false;
      NodeRow row;
      INDRA_LET(bool there, rows::find<Nodes>(tx_, forest_.chain(branch_, *pin), {node}, row));
      if (!there) {  // its current row is what is lost
        INDRA_LET(there, rows::find_past<Nodes>(tx_, {node}, branch_, *pin, row));
      }
      if (there && row.mode != 0) return true;
      at = Seq{pin->raw() + 1};
    }
  }

  struct Found {
    NodeId parent;
    std::int64_t cookie;
    std::string name;
  };

  Result<std::vector<Found>> names_of(NodeId node) {
    std::vector<Found> all, out;
    for (const char* sql : {"SELECT parent, cookie, name FROM edges WHERE node = ?1",
                            "SELECT parent, cookie, name FROM edges_past WHERE node = ?1"}) {
      Statement q{tx_, sql};
      q.bind(1, node);
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        all.push_back({q.id_at<NodeId>(0), q.int64_at(1), std::string{q.text_at(2)}});
      }
    }
    for (const Found& n : all) {
      Edges::Row e;
      INDRA_LET(const bool there, rows::find<Edges>(tx_, chain_, {n.parent, n.cookie, n.name}, e));
      const bool twice = std::any_of(out.begin(), out.end(), [&](const Found& o) {
        return o.parent == n.parent && o.cookie == n.cookie && o.name == n.name;
      });
      if (there && e.node == node && !twice) out.push_back(n);
    }
    return out;
  }

  /// 1: up to the root; 0: up to a directory without a name; -1: to nothing, or in a circle through `from`.
  Result<int> leads_to_root(NodeId dir, NodeId from) {
    std::vector<NodeId> way;
    for (NodeId at = dir;;) {
      if (at == forest_.branch(branch_)->root) return 1;
      NodeRow row;
      INDRA_LET(const bool there, rows::find<Nodes>(tx_, chain_, {at}, row));
      if (!there || !S_ISDIR(row.mode)) return at == dir ? -1 : 0;
      if (at == from) return -1;
      if (std::find(way.begin(), way.end(), at) != way.end()) return 0;
      way.push_back(at);
      INDRA_LET(const auto names, names_of(at));
      if (names.empty()) return 0;
      at = names.front().parent;
    }
  }

  Result<std::int64_t> next(std::string_view counter) {
    Statement q{tx_, "UPDATE counters SET reserved = reserved + 1 WHERE name = ?1 RETURNING reserved"};
    INDRA_LET(const bool row, q.bind_text(1, counter).step());
    if (!row) return fail(Errc::corrupt, "counters");
    const std::int64_t n = q.int64_at(0);
    INDRA_TRY(q.step());
    return n;
  }

  bool pinned(Seq row) const { return row <= forest_.last_pin(branch_); }

  Result<void> put_edge(const Edges::Key& key, NodeId node, std::uint32_t type, Seq s) {
    Edges::Row old;
    INDRA_LET(const bool there, rows::find_at<Edges>(tx_, key, {branch_, kSeqMax}, old));
    if (there && pinned(old.seq)) {
      Statement q{tx_, Edges::kKeep};
      Edges::bind(q, key);
      INDRA_TRY(q.bind(4, branch_).bind(5, s).run());
    }
    Statement q{tx_,
                "INSERT OR REPLACE INTO edges(parent, cookie, name, branch, seq, node, type) VALUES(?1, ?2, "
                "?3, ?4, ?5, ?6, "
                "?7)"};
    Edges::bind(q, key);
    return q.bind(4, branch_).bind(5, s).bind_or_null(6, node).bind(7, std::int64_t{type >> 12}).run();
  }

  /// A row of the branch's own that may be changed, as of `s`.
  Result<void> own(NodeId node, Seq s) {
    NodeRow row;
    INDRA_LET(const bool there, rows::find<Nodes>(tx_, chain_, {node}, row));
    if (!there) return fail(ENOENT, "node");
    if (row.seq == s && row.branch == branch_) return {};
    if (row.branch != branch_) {
      Statement q{tx_,
                  "INSERT INTO nodes(node, branch, seq, mode, nlink, uid, gid, size, stored, blob, mtime, "
                  "atime_d, ctime_d, "
                  "btime_d, parent, line, flags, rdev, target) SELECT node, ?3, ?4, mode, nlink, uid, gid, "
                  "size, stored, "
                  "blob, mtime, atime_d, ctime_d, btime_d, parent, line, flags & ~4, rdev, target FROM "
                  "(SELECT * FROM nodes "
                  "WHERE node = ?1 AND branch = ?2 AND seq = ?5)"};
      INDRA_TRY(q.bind(1, node).bind(2, row.branch).bind(3, branch_).bind(4, s).bind(5, row.seq).run());
      if (tx_.db().changes() != 1) {  // inherited from a past row
        Statement p{
            tx_,
            "INSERT INTO nodes(node, branch, seq, mode, nlink, uid, gid, size, stored, blob, mtime, atime_d, "
            "ctime_d, btime_d, parent, line, flags, rdev, target) SELECT node, ?3, ?4, mode, nlink, uid, "
            "gid, size, "
            "stored, blob, mtime, atime_d, ctime_d, btime_d, parent, line, flags & ~4, rdev, target FROM "
            "nodes_past "
            "WHERE node = ?1 AND branch = ?2 AND seq = ?5"};
        INDRA_TRY(p.bind(1, node).bind(2, row.branch).bind(3, branch_).bind(4, s).bind(5, row.seq).run());
      }
      return add_ref(row.blob);
    }
    if (pinned(row.seq)) {
      Statement q{tx_, Nodes::kKeep};
      INDRA_TRY(q.bind(1, node).bind(2, branch_).bind(3, s).run());
      INDRA_TRY(add_ref(row.blob));
    }
    return Statement{tx_, "UPDATE nodes SET seq = ?3 WHERE node = ?1 AND branch = ?2"}
        .bind(1, node)
        .bind(2, branch_)
        .bind(3, s)
        .run();
  }

  Result<void> add_ref(BlobId blob) {
    if (!blob) return {};
    return Statement{tx_, "UPDATE blobs SET refs = refs + 1 WHERE id = ?1"}.bind(1, blob).run();
  }

  Result<void> set(NodeId node, const std::string& what) {
    return tx_.db().execute("UPDATE nodes SET " + what + " WHERE node = " + std::to_string(node.raw()) +
                            " AND branch = " + std::to_string(branch_.raw()));
  }

  /// /lost+found, made where it is missing.
  Result<NodeId> directory(const BranchInfo& b, Seq s) {
    for (int n = 0;; ++n) {
      title_ = n == 0 ? "lost+found" : "lost+found." + std::to_string(n);
      const Edges::Key key{b.root, hash_->cookie(title_), title_};
      Edges::Row e;
      INDRA_LET(const bool there, rows::find<Edges>(tx_, chain_, key, e));
      if (there && !e.gone()) {
        NodeRow row;
        INDRA_LET(const bool sound, rows::find<Nodes>(tx_, chain_, {e.node}, row));
        if (!sound || !S_ISDIR(row.mode)) continue;
        return e.node;
      }
      INDRA_LET(const NodeId id, next("node").map([](std::int64_t i) { return NodeId{i}; }));
      INDRA_TRY(put_edge(key, id, S_IFDIR, s));
      NodeRow root;
      INDRA_TRY(rows::find<Nodes>(tx_, chain_, {b.root}, root));
      INDRA_TRY(Statement(tx_,
                          "INSERT INTO nodes(node, branch, seq, mode, nlink, uid, gid, size, mtime, atime_d, "
                          "ctime_d, btime_d, "
                          "parent, flags) VALUES(?1, ?2, ?3, ?4, 2, ?5, ?6, 0, ?7, 0, 0, 0, ?8, 0)")
                    .bind(1, id)
                    .bind(2, branch_)
                    .bind(3, s)
                    .bind(4, std::int64_t{S_IFDIR | 0700})
                    .bind(5, std::int64_t{root.uid})
                    .bind(6, std::int64_t{root.gid})
                    .bind(7, system_clock().now())
                    .bind(8, b.root)
                    .run());
      INDRA_TRY(own(b.root, s));
      INDRA_TRY(set(b.root, "nlink = nlink + 1"));
      INDRA_LET(const std::int64_t change, next("seq"));
      INDRA_TRY(record(Seq{change}, Op::mkdir, id, b.root, title_));
      return id;
    }
  }

  Result<void> record(Seq s, Op op, NodeId node, NodeId parent, std::string_view name) {
    Statement a{
        tx_,
        "INSERT INTO actors(uid, pid, program, front_end) VALUES(?1, 0, 'indrafs', 'fsck') RETURNING id"};
    INDRA_TRY(a.bind(1, std::int64_t{geteuid()}).step());
    const std::int64_t actor = a.int64_at(0);
    INDRA_TRY(a.step());
    return Statement{tx_,
                     "INSERT INTO changes(seq, branch, op, node, parent, name, time, actor) VALUES(?1, ?2, "
                     "?3, ?4, ?5, ?6, ?7, "
                     "?8)"}
        .bind(1, s)
        .bind(2, branch_)
        .bind(3, static_cast<std::int64_t>(op))
        .bind(4, node)
        .bind(5, parent)
        .bind_blob(6, as_view(name))
        .bind(7, system_clock().now() / 1'000'000)
        .bind(8, actor)
        .run();
  }

  Tx& tx_;
  const Forest forest_;
  const BranchId branch_;
  const Chain chain_;
  std::optional<NameHash> hash_;
  std::string title_;
};

}  // namespace

Result<std::string> move_to_lost_found(Tx& tx, BranchId branch, NodeId node) {
  INDRA_LET(Forest forest, Forest::read(tx));
  return LostFound{tx, std::move(forest), branch}.move(node);
}

Result<bool> take_name(Tx& tx, BranchId branch, NodeId parent, std::int64_t cookie, const std::string& name) {
  INDRA_LET(Forest forest, Forest::read(tx));
  return LostFound{tx, std::move(forest), branch}.take_name({parent, cookie, name});
}

Result<bool> take_attribute(Tx& tx, BranchId branch, NodeId node, const std::string& name) {
  INDRA_LET(Forest forest, Forest::read(tx));
  return LostFound{tx, std::move(forest), branch}.take_attribute({node, name});
}

}  // namespace indra
