// What must hold in each row by itself and among the rows of one key: numbers, branches, pins, the change
// log, fields of nodes, past rows, attributes.
#include <fmt/format.h>
#include <sys/stat.h>

#include "tree/internal/checks.h"
#include "tree/internal/names.h"
#include "tree/internal/rows.h"

namespace indra::checks {
namespace {

class RowCheck {
 public:
  RowCheck(Tx& tx, Checking& c, const Forest& f) : tx_{tx}, c_{c}, forest_{f} {}

  Result<void> run() {
    INDRA_TRY(numbers());
    INDRA_TRY(branches());
    INDRA_TRY(pins());
    INDRA_TRY(changes());
    INDRA_TRY(intervals());
    INDRA_TRY(node_rows());
    INDRA_TRY(xattrs());
    return sessions();
  }

 private:
  void found(Finding f) { c_.found(std::move(f)); }
  Result<std::int64_t> number(const char* literal) {
    Statement q{tx_, literal};
    INDRA_LET(const bool row, q.step());
    return row ? q.int64_at(0) : 0;
  }

  // ---- F2 ----
  Result<void> numbers() {
    struct Kind {
      const char *name, *what, *highest;
    };
    static constexpr Kind kKinds[] = {
        {"seq", "change",
         "SELECT max(coalesce((SELECT max(seq) FROM changes), 0), coalesce((SELECT max(seq) FROM nodes), 0), "
         "coalesce((SELECT max(seq) FROM edges), 0), coalesce((SELECT max(seq) FROM xattrs), 0), "
         "coalesce((SELECT "
         "max(until) FROM nodes_past), 0), coalesce((SELECT max(until) FROM edges_past), 0), "
         "coalesce((SELECT max(until) "
         "FROM xattrs_past), 0), coalesce((SELECT max(seq) FROM pins), 0), coalesce((SELECT max(seq) FROM "
         "merges), 0))"},
        {"node", "node",
         "SELECT max(coalesce((SELECT max(node) FROM nodes), 0), coalesce((SELECT max(node) FROM "
         "nodes_past), 0), "
         "coalesce((SELECT max(line) FROM nodes), 0), coalesce((SELECT max(line) FROM nodes_past), 0), "
         "coalesce((SELECT max(node) FROM edges), 0))"},
        {"branch", "branch", "SELECT coalesce(max(id), 0) FROM branches"},
    };
    for (const Kind& k : kKinds) {
      INDRA_LET(const std::int64_t highest, number(k.highest));
      Statement q{tx_, "SELECT reserved FROM counters WHERE name = ?1"};
      INDRA_LET(const bool row, q.bind_text(1, k.name).step());
      const std::int64_t reserved = row ? q.int64_at(0) : 0;
      if (std::string_view{k.name} == "seq") last_seq_ = std::max(reserved, highest);
      if (highest > reserved)
        found({.rule = "F2",
               .what = fmt::format("{} number {} is in use, but only those up to {} were reserved", k.what,
                                   highest, reserved),
               .mending = "reserved up to it",
               .mend = sql(fmt::format("INSERT INTO counters(name, reserved, clean) VALUES('{}', {}, 1) ON "
                                       "CONFLICT(name) DO UPDATE SET reserved = {}",
                                       k.name, highest, highest))});
    }
    Statement q{tx_, "SELECT value FROM properties WHERE name = 'vault_id'"};
    INDRA_LET(const bool row, q.step());
    const Bytes id = row ? from_hex(q.text_at(0)) : Bytes{};
    if (id.size() != 32) found({.rule = "F2", .what = "the vault's own number is missing"});
    return {};
  }

  // ---- F3 ----
  Result<void> branches() {
    std::map<std::pair<BranchId, Seq>, int> forks;
    for (const auto& [id, b] : forest_.branches()) {
      const auto wrong = [&, id = id](std::string what) {
        found({.rule = "F3", .what = std::move(what), .branch = id});
      };
      if (!b.hidden)
        if (auto r = check_title("branch", b.name); !r) wrong(r.error().context);
      if (forest_.chain(id).links().size() > forest_.branches().size()) {
        wrong("was forked from itself, by a roundabout way");
        continue;
      }
      if (b.parent) {
        const BranchInfo* p = forest_.branch(b.parent);
        if (p == nullptr) {
          wrong(fmt::format("was forked from branch #{}, which there is not", b.parent.raw()));
          continue;
        }
        if (p->bucket != b.bucket) wrong("lies in another bucket than what it was forked from");
        ++forks[{b.parent, b.fork_seq}];
      }
      if (!b.hidden) {
        NodeRow root;
        INDRA_LET(const bool there, rows::find<rows::Nodes>(tx_, forest_.chain(id), {b.root}, root));
        if (!there || !S_ISDIR(root.mode))
          wrong(fmt::format("its root, node {}, is no directory", b.root.raw()));
      }
    }
    const BranchInfo* main = forest_.branch(BranchId{1});
    if (main == nullptr || main->hidden) found({.rule = "F3", .what = "branch main is missing"});
    for (const auto& [at, n] : forks) {
      Statement q{tx_, "SELECT count(*) FROM pins WHERE branch = ?1 AND seq = ?2 AND kind = 1"};
      INDRA_TRY(q.bind(1, at.first).bind(2, at.second).step());
      if (const auto have = q.int64_at(0); have < n)
        found({.rule = "F4",
               .what = fmt::format("{} branches were forked as of change {}, {} pins keep it", n,
                                   at.second.raw(), have),
               .branch = at.first,
               .mending = "pinned",
               .mend = sql(fmt::format("INSERT INTO pins(branch, seq, kind, time) VALUES({}, {}, 1, (SELECT "
                                       "min(created) FROM branches WHERE parent = {} AND fork_seq = {}))",
                                       at.first.raw(), at.second.raw(), at.first.raw(), at.second.raw()))});
    }
    Statement q{tx_, "SELECT id, name, bucket FROM branches WHERE bucket NOT IN (SELECT id FROM buckets)"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      found({.rule = "F3", .what = "lies in a bucket which there is not", .branch = q.id_at<BranchId>(0)});
    }
  }

  // ---- F4 ----
  Result<void> pins() {
    Statement q{tx_, "SELECT id, branch, seq, kind, name FROM pins"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) break;
      INDRA_TRY(c_.count());
      const auto branch = q.id_at<BranchId>(1);
      const std::string which = fmt::format("pin {}", q.int64_at(0));
      if (forest_.branch(branch) == nullptr)
        found({.rule = "F4",
               .what = fmt::format("{} is of branch #{}, which there is not", which, branch.raw()),
               .mending = "removed",
               .mend = sql(fmt::format("DELETE FROM pins WHERE id = {}", q.int64_at(0)))});
      if (q.int64_at(3) < 0 || q.int64_at(3) > 4)
        found({.rule = "F4",
               .what = fmt::format("{} has the unknown kind {}", which, q.int64_at(3)),
               .branch = branch});
      if (q.int64_at(2) < 0 || q.int64_at(2) > last_seq_)
        found({.rule = "F4",
               .what = fmt::format("{} is of change {}, which was never made", which, q.int64_at(2)),
               .branch = branch});
      if (q.int64_at(3) == 0 && !check_title("snapshot", q.text_at(4)))
        found({.rule = "F4", .what = which + " is a snapshot without a proper name", .branch = branch});
    }
    Statement d{tx_,
                "SELECT p.name, count(*), min(p.branch) FROM pins p JOIN branches b ON b.id = p.branch WHERE "
                "p.kind = 0 "
                "GROUP BY b.bucket, p.name HAVING count(*) > 1"};
    for (;;) {
      INDRA_LET(const bool row, d.step());
      if (!row) break;
      found({.rule = "F4",
             .what = fmt::format("{} snapshots have the name {}", d.int64_at(1), d.text_at(0)),
             .branch = d.id_at<BranchId>(2)});
    }
    Statement m{tx_,
                "SELECT target, seq, source FROM merges WHERE target NOT IN (SELECT id FROM branches) OR "
                "source NOT IN "
                "(SELECT id FROM branches)"};
    for (;;) {
      INDRA_LET(const bool row, m.step());
      if (!row) return {};
      found({.rule = "F4",
             .what = fmt::format("a merge of branch #{} into #{} is noted, one of which there is not",
                                 m.int64_at(2), m.int64_at(0)),
             .mending = "forgotten",
             .mend = sql(fmt::format("DELETE FROM merges WHERE target = {} AND seq = {} AND source = {}",
                                     m.int64_at(0), m.int64_at(1), m.int64_at(2)))});
    }
  }

  // ---- F5 ----
  Result<void> changes() {
    std::int64_t removed = 0;
    {
      Statement q{tx_, "SELECT value FROM properties WHERE name = 'changes_removed'"};
      INDRA_LET(const bool row, q.step());
      if (row) removed = std::strtoll(std::string{q.text_at(0)}.c_str(), nullptr, 10);
    }
    INDRA_LET(const std::int64_t branches, number("SELECT reserved FROM counters WHERE name = 'branch'"));
    Statement q{tx_,
                "SELECT c.seq, c.branch, c.op, a.id, c.actor FROM changes c LEFT JOIN actors a ON a.id = "
                "c.actor ORDER BY "
                "c.seq"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      INDRA_TRY(c_.count());
      const std::string which = fmt::format("change {}", q.int64_at(0));
      const auto branch = q.id_at<BranchId>(1);
      if (q.int64_at(0) <= 0 || q.int64_at(0) <= removed)
        found({.rule = "F5",
               .what = fmt::format("{} is there, though those up to {} were removed", which, removed),
               .branch = branch});
      if (q.int64_at(2) < 1 || q.int64_at(2) > 18)
        found({.rule = "F5",
               .what = fmt::format("{} is of the unknown kind {}", which, q.int64_at(2)),
               .branch = branch});
      if (forest_.branch(branch) == nullptr && branch.raw() > branches)
        found(
            {.rule = "F5", .what = fmt::format("{} is of branch #{}, which never was", which, branch.raw())});
      if (q.is_null(3))
        found({.rule = "F5",
               .what = fmt::format("{} was made by actor {}, who is not known", which, q.int64_at(4)),
               .branch = branch});
    }
  }

  // ---- F11: past rows ----
  Result<void> intervals() {
    struct Table {
      const char *name, *past, *sql;
      int keys;
    };
    // Key columns first; then branch, seq, until of a past row, and the current row's seq.
    static constexpr Table kTables[] = {
        {"nodes", "nodes_past",
         "SELECT p.node, 0, NULL, p.branch, p.seq, p.until, c.seq, p.node FROM nodes_past p LEFT JOIN nodes "
         "c ON c.node = "
         "p.node AND c.branch = p.branch ORDER BY p.node, p.branch, p.seq",
         1},
        {"edges", "edges_past",
         "SELECT p.parent, p.cookie, p.name, p.branch, p.seq, p.until, c.seq, p.node FROM edges_past p LEFT "
         "JOIN edges c ON "
         "c.parent = p.parent AND c.cookie = p.cookie AND c.name = p.name AND c.branch = p.branch ORDER BY "
         "p.parent, "
         "p.cookie, p.name, p.branch, p.seq",
         3},
        {"xattrs", "xattrs_past",
         "SELECT p.node, 0, p.name, p.branch, p.seq, p.until, c.seq, p.node FROM xattrs_past p LEFT JOIN "
         "xattrs c ON c.node "
         "= p.node AND c.name = p.name AND c.branch = p.branch ORDER BY p.node, p.name, p.branch, p.seq",
         2},
    };
    for (const Table& t : kTables) {
      const std::string_view table = t.name;
      struct Key {
        std::int64_t a = 0, b = 0;
        std::string name;
        std::int64_t branch = 0;
        bool operator==(const Key&) const = default;
      } last;
      std::int64_t until = 0;
      Statement q{tx_, t.sql};
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        INDRA_TRY(c_.count());
        Key now{q.int64_at(0), q.int64_at(1), std::string{q.text_at(2)}, q.int64_at(3)};
        const std::int64_t from = q.int64_at(4), to = q.int64_at(5);
        const BranchId branch{now.branch};
        const NodeId node = table == "edges" ? NodeId{now.a} : q.id_at<NodeId>(0);
        const auto wrong = [&](std::string what) {
          Finding f{.rule = "F11", .what = std::move(what), .branch = branch, .node = node};
          if (table == "edges") f.name = now.name;
          found(std::move(f));
        };
        const std::string what = table == "nodes"   ? "a past version"
                                 : table == "edges" ? "a past entry"
                                                    : "a past attribute";
        if (forest_.branch(branch) == nullptr)
          wrong(fmt::format("{} is of branch #{}, which there is not", what, now.branch));
        if (from <= 0 || from >= to)
          wrong(fmt::format("{} is said to have lasted from change {} to {}", what, from, to));
        if (now == last && from < until)
          wrong(fmt::format("{} from change {} on begins before the one before it ends, at {}", what, from,
                            until));
        const BranchInfo* b = forest_.branch(branch);
        if (b != nullptr && !b->hidden) {
          if (q.is_null(6))
            wrong(fmt::format("{} up to change {} has no row after it", what, to));
          else if (q.int64_at(6) < to)
            wrong(
                fmt::format("{} lasts to change {}, what came after it is from {}", what, to, q.int64_at(6)));
        }
        until = to;
        last = std::move(now);
      }
    }
    return {};
  }

  // ---- F7: fields of node rows ----
  Result<void> node_rows() {
    for (const bool past : {false, true}) {
      Statement q{
          tx_,
          past ? "SELECT n.node, n.branch, n.seq, n.mode, n.nlink, n.size, n.blob, n.stored, n.line, n.rdev, "
                 "n.target, b.size, b.form = 0 AND length(b.data) = b.size, b.bucket, n.until FROM "
                 "nodes_past n LEFT JOIN blobs b ON b.id = "
                 "n.blob"
               : "SELECT n.node, n.branch, n.seq, n.mode, n.nlink, n.size, n.blob, n.stored, n.line, n.rdev, "
                 "n.target, b.size, b.form = 0 AND length(b.data) = b.size, b.bucket, 0 FROM nodes n LEFT "
                 "JOIN blobs b ON b.id = n.blob"};
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        INDRA_TRY(c_.count());
        const auto node = q.id_at<NodeId>(0);
        const auto branch = q.id_at<BranchId>(1);
        const auto mode = static_cast<std::uint32_t>(q.int64_at(3));
        Seq moment = kSeqMax;
        if (past)
          moment = forest_.pin_within(branch, q.id_at<Seq>(2), q.id_at<Seq>(14)).value_or(q.id_at<Seq>(2));
        const auto wrong = [&](const char* rule, std::string what, std::string mending = {},
                               std::string text = {}) {
          Finding f{.rule = rule, .what = std::move(what), .branch = branch, .node = node, .moment = moment};
          if (!text.empty()) {
            f.mending = std::move(mending);
            f.mend = sql(fmt::format("UPDATE {} SET {} WHERE node = {} AND branch = {} AND seq = {}",
                                     past ? "nodes_past" : "nodes", text, node.raw(), branch.raw(),
                                     q.int64_at(2)));
          }
          found(std::move(f));
        };
        if (node.raw() < kFirstNode.raw())
          wrong("F7", fmt::format("has the number {}, which no node has", node.raw()));
        if (forest_.branch(branch) == nullptr) {
          wrong("F7", fmt::format("is of branch #{}, which there is not", branch.raw()));
          continue;
        }
        if (mode == 0) {
          if (!q.is_null(6)) wrong("F7", "is gone, and still holds content");
          continue;
        }
        const std::uint32_t type = mode & S_IFMT;
        const bool device = S_ISCHR(mode) || S_ISBLK(mode);
        if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode) && !device && !S_ISFIFO(mode) &&
            !S_ISSOCK(mode))
          wrong("F7", fmt::format("is of the unknown type {:o}", type));
        if (mode > 0177777) wrong("F7", fmt::format("has the mode {:o}", mode));
        if (q.int64_at(4) < 0) wrong("F7", fmt::format("counts {} names", q.int64_at(4)));
        if (!S_ISREG(mode)) {
          if (!q.is_null(6)) wrong("F7", "is no regular file, and holds content");
          if (!q.is_null(8) && q.id_at<NodeId>(8) != node)
            wrong("F7", "is no regular file, and continues a line");
        } else if (q.is_null(6)) {
          if (q.int64_at(5) != 0) wrong("F7", fmt::format("has no content, and a size of {}", q.int64_at(5)));
        } else if (!q.is_null(11)) {
          if (q.int64_at(5) != q.int64_at(11))
            wrong("F7", fmt::format("says {} bytes, its content has {}", q.int64_at(5), q.int64_at(11)),
                  "its length counted", q.int64_at(12) != 0 ? fmt::format("size = {}", q.int64_at(11)) : "");
          if (const BranchInfo* b = forest_.branch(branch); b->bucket.raw() != q.int64_at(13))
            wrong("F7", "uses content of another bucket");
        }
        if (S_ISLNK(mode) && (q.is_null(10) || q.blob_at(10).empty()))
          wrong("F7", "is a symlink that leads nowhere: its target is missing");
        else if (S_ISLNK(mode) && q.int64_at(5) != static_cast<std::int64_t>(q.blob_at(10).size()))
          wrong(
              "F7",
              fmt::format("is a symlink of {} bytes, its target has {}", q.int64_at(5), q.blob_at(10).size()),
              "its length counted", fmt::format("size = {}", q.blob_at(10).size()));
        if (q.int64_at(2) <= 0 || q.int64_at(2) > last_seq_)
          wrong("F7", fmt::format("is of change {}, which was never made", q.int64_at(2)));
      }
    }
    return {};
  }

  // ---- F12 ----
  Result<void> xattrs() {
    Statement q{tx_,
                "SELECT x.node, x.name, x.branch, x.seq, x.value IS NULL, 0 FROM xattrs x UNION ALL SELECT "
                "node, name, branch, "
                "seq, value IS NULL, until FROM xattrs_past"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      INDRA_TRY(c_.count());
      const auto node = q.id_at<NodeId>(0);
      const auto branch = q.id_at<BranchId>(2);
      const bool past = q.int64_at(5) != 0;
      const std::string name{q.text_at(1)};
      if (forest_.branch(branch) == nullptr) {
        found({.rule = "F12",
               .what = fmt::format("an attribute of node {} is of branch #{}, which there is not", node.raw(),
                                   branch.raw())});
        continue;
      }
      if (q.int64_at(4) != 0) continue;
      Seq moment = kSeqMax;
      if (past || !forest_.has_head(branch)) {
        const auto pin = forest_.pin_within(branch, q.id_at<Seq>(3), past ? q.id_at<Seq>(5) : kSeqMax);
        if (!pin) continue;
        moment = *pin;
      }
      NodeRow n;
      INDRA_LET(const bool there, rows::find<rows::Nodes>(tx_, forest_.chain(branch, moment), {node}, n));
      if (!there || n.mode == 0) {
        Finding f{
            .rule = "F12",
            .what = fmt::format("the attribute {} belongs to node {}, which there is not", name, node.raw()),
            .branch = branch,
            .moment = moment};
        if (!past && moment == kSeqMax) {
          f.mending = "the attribute removed";
          f.mend = [branch, node, name](Tx& tx) { return take_attribute(tx, branch, node, name); };
        }
        found(std::move(f));
      } else if (!past && (n.flags & kHasXattrs) == 0) {
        Finding f{.rule = "F12",
                  .what = fmt::format("has the attribute {}, and is marked as having none", name),
                  .branch = branch,
                  .node = node,
                  .moment = moment};
        if (n.branch == branch && moment == kSeqMax) {
          f.mending = "marked";
          f.mend = sql(fmt::format("UPDATE nodes SET flags = flags | 2 WHERE node = {} AND branch = {}",
                                   node.raw(), branch.raw()));
        }
        found(std::move(f));
      }
    }
  }

  // ---- F19 ----
  Result<void> sessions() {
    Statement q{tx_, "SELECT branch, node, blob FROM sessions"};
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      const auto branch = q.id_at<BranchId>(0);
      const auto node = q.id_at<NodeId>(1);
      if (!forest_.has_head(branch)) {
        found({.rule = "F19",
               .what = fmt::format("bytes of a file being written are of branch #{}, which there is not",
                                   branch.raw())});
        continue;
      }
      NodeRow n;
      INDRA_LET(const bool there, rows::find<rows::Nodes>(tx_, forest_.chain(branch), {node}, n));
      if (!there || !S_ISREG(n.mode))
        found({.rule = "F19",
               .what = "bytes are kept of it as of a file being written, and it is no file",
               .branch = branch,
               .node = node});
    }
  }

  Tx& tx_;
  Checking& c_;
  const Forest& forest_;
  std::int64_t last_seq_ = 0;
};

}  // namespace

Result<void> check_rows(Tx& tx, Checking& c, const Forest& forest) { return RowCheck{tx, c, forest}.run(); }

}  // namespace indra::checks
