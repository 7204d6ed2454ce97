// What must hold between entries and nodes. Rows are read in the order of nodes, three streams beside each
// other: versions of the node, entries that lead to it, directories in it; so memory holds one node at a
// time.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <climits>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "tree/internal/checks.h"
#include "tree/internal/names.h"
#include "tree/internal/rows.h"

namespace indra::checks {
namespace {

struct Version {  // of a node
  BranchId branch;
  Seq seq, until;
  bool past = false;
  std::uint32_t mode = 0;
  std::int64_t nlink = 0;
  NodeId parent;
  std::uint32_t flags = 0;
  [[nodiscard]] bool covers(Seq limit) const { return seq <= limit && (limit < until || until == kSeqMax); }
};

struct Name {  // an entry's row
  NodeId parent;
  std::int64_t cookie = 0;
  std::string name;
  BranchId branch;
  Seq seq, until;
  std::uint32_t type = 0;
  NodeId node;
  [[nodiscard]] bool covers(Seq limit) const { return seq <= limit && (limit < until || until == kSeqMax); }
};

class NameCheck {
 public:
  NameCheck(Tx& tx, Checking& c, const Forest& f) : tx_{tx}, c_{c}, forest_{f} {}

  Result<void> run() {
    {
      Statement q{tx_, "SELECT value FROM properties WHERE name = 'vault_id'"};
      INDRA_LET(const bool row, q.step());
      const Bytes id = row ? from_hex(q.text_at(0)) : Bytes{};
      if (id.size() == 32) hash_.emplace(id);
    }
    INDRA_TRY(entries());
    INDRA_TRY(nodes());
    return circles();
  }

 private:
  void found(Finding f) { c_.found(std::move(f)); }
  // ---- F6: entries, in the order of directories ----
  Result<void> entries() {
    Statement q{tx_,
                "SELECT parent, cookie, name, branch, seq, NULL AS until, node, type FROM edges UNION ALL "
                "SELECT parent, "
                "cookie, name, branch, seq, until, node, type FROM edges_past ORDER BY 1"};
    NodeId dir;
    std::unordered_map<BranchId, bool> head_dir;  // of `dir`
    for (;;) {
      INDRA_LET(const bool row, q.step());
      if (!row) return {};
      INDRA_TRY(c_.count());
      Name e = name_at(q);
      if (e.parent != dir) dir = e.parent, head_dir.clear();
      const bool past = e.until != kSeqMax;
      if (forest_.branch(e.branch) == nullptr) {
        found({.rule = "F6",
               .what = fmt::format("the entry {} of node {} is of branch #{}, which there is not",
                                   hex(e.name), e.parent.raw(), e.branch.raw())});
        continue;
      }
      const auto wrong = [&](std::string what) {
        found({.rule = "F6", .what = std::move(what), .branch = e.branch, .node = e.parent, .name = e.name});
      };
      if (!check_name(e.name)) {
        wrong("is no name that a file can have: " + hex(e.name));
      } else if (hash_ && hash_->cookie(e.name) != e.cookie) {
        Finding f{.rule = "F6",
                  .what = "stands at the wrong place of its directory, and is not found by its name",
                  .branch = e.branch,
                  .node = e.parent,
                  .name = e.name,
                  .mending = "put in its place"};
        f.mend = [e, right = hash_->cookie(e.name), past](Tx& tx) -> Result<bool> {
          return run_once(
              tx,
              fmt::format("UPDATE OR IGNORE {} SET cookie = {} WHERE parent = {} AND cookie = {} AND name = "
                          "x'{}' AND branch = {} AND seq = {}",
                          past ? "edges_past" : "edges", right, e.parent.raw(), e.cookie, hex(e.name),
                          e.branch.raw(), e.seq.raw()));
        };
        found(std::move(f));
      }
      // Its directory, where the entry can be seen.
      if (past) {
        const auto pin = forest_.pin_within(e.branch, e.seq, e.until);
        if (!pin || !e.node) continue;
        INDRA_LET(const bool there, is_directory(e.branch, *pin, e.parent));
        if (!there) lost_entry(e, *pin);
        continue;
      }
      if (!forest_.has_head(e.branch)) continue;
      if (e.node) {
        auto known = head_dir.find(e.branch);
        if (known == head_dir.end()) {
          INDRA_LET(const bool there, is_directory(e.branch, kSeqMax, e.parent));
          known = head_dir.emplace(e.branch, there).first;
        }
        if (!known->second) lost_entry(e, kSeqMax);
      }
      // What a fork's entry hides must have been changed in the fork as well.
      const Chain chain = forest_.chain(e.branch);
      if (chain.links().size() == 1) continue;
      rows::Edges::Row above;
      INDRA_LET(const bool hides,
                rows::find<rows::Edges>(tx_, chain, {e.parent, e.cookie, e.name}, above, 1));
      if (!hides || above.gone() || above.node == e.node) continue;
      Statement own{tx_, "SELECT 1 FROM nodes WHERE node = ?1 AND branch = ?2"};
      INDRA_LET(const bool changed, own.bind(1, above.node).bind(2, e.branch).step());
      if (!changed)
        wrong(fmt::format("hides node {} of the branch below, whose names were not counted anew",
                          above.node.raw()));
    }
  }

  void lost_entry(const Name& e, Seq moment) {
    Finding f{.rule = "F10",
              .what = fmt::format("node {} lies in node {}, which is no directory there", e.node.raw(),
                                  e.parent.raw()),
              .branch = e.branch,
              .node = e.node,
              .moment = moment};
    if (moment == kSeqMax) lost(f, e.branch, e.node);
    found(std::move(f));
  }

  /// The mend of everything that no path leads to.
  static void lost(Finding& f, BranchId branch, NodeId node) {
    f.last_resort = true;
    f.mending = "moved to /lost+found";
    f.mend = [branch, node](Tx& tx) -> Result<bool> {
      INDRA_LET(const std::string path, move_to_lost_found(tx, branch, node));
      return !path.empty();
    };
  }

  Result<bool> is_directory(BranchId branch, Seq moment, NodeId node) {
    NodeRow row;
    INDRA_LET(const bool there, rows::find<rows::Nodes>(tx_, forest_.chain(branch, moment), {node}, row));
    return there && S_ISDIR(row.mode);
  }

  // ---- F8, F9, F10: nodes and their names ----
  static Name name_at(const Statement& q) {
    return {q.id_at<NodeId>(0),
            q.int64_at(1),
            std::string{q.text_at(2)},
            q.id_at<BranchId>(3),
            q.id_at<Seq>(4),
            q.is_null(5) ? kSeqMax : q.id_at<Seq>(5),
            static_cast<std::uint32_t>(q.int64_at(7)) << 12,
            q.id_at<NodeId>(6)};
  }

  Result<void> nodes() {
    Statement v{tx_,
                "SELECT node, branch, seq, NULL AS until, mode, nlink, parent, flags FROM nodes UNION ALL "
                "SELECT node, "
                "branch, seq, until, mode, nlink, parent, flags FROM nodes_past ORDER BY 1"};
    Statement n{tx_,
                "SELECT parent, cookie, name, branch, seq, NULL AS until, node, type FROM edges NOT INDEXED "
                "WHERE node IS NOT NULL UNION ALL SELECT parent, cookie, name, branch, seq, until, node, "
                "type FROM edges_past NOT INDEXED WHERE node IS NOT NULL ORDER BY 7"};
    Statement s{tx_,
                "SELECT parent, cookie, name, branch, seq, NULL AS until, node, type FROM edges NOT INDEXED "
                "WHERE type = 4 AND node IS NOT NULL UNION ALL SELECT parent, cookie, name, branch, seq, "
                "until, node, type FROM edges_past NOT INDEXED WHERE type = 4 AND node IS NOT NULL ORDER BY "
                "1"};
    INDRA_LET(bool have_v, v.step());
    INDRA_LET(bool have_n, n.step());
    INDRA_LET(bool have_s, s.step());
    std::vector<Version> versions;
    std::vector<Name> names, subs;
    for (;;) {
      NodeId id{INT64_MAX};
      if (have_v) id = std::min(id, v.id_at<NodeId>(0));
      if (have_n) id = std::min(id, n.id_at<NodeId>(6));
      if (have_s) id = std::min(id, s.id_at<NodeId>(0));
      if (!have_v && !have_n && !have_s) return {};
      versions.clear(), names.clear(), subs.clear();
      while (have_v && v.id_at<NodeId>(0) == id) {
        versions.push_back({v.id_at<BranchId>(1), v.id_at<Seq>(2), v.is_null(3) ? kSeqMax : v.id_at<Seq>(3),
                            !v.is_null(3), static_cast<std::uint32_t>(v.int64_at(4)), v.int64_at(5),
                            v.id_at<NodeId>(6), static_cast<std::uint32_t>(v.int64_at(7))});
        INDRA_LET(have_v, v.step());
      }
      while (have_n && n.id_at<NodeId>(6) == id) {
        names.push_back(name_at(n));
        INDRA_LET(have_n, n.step());
      }
      while (have_s && s.id_at<NodeId>(0) == id) {
        subs.push_back(name_at(s));
        INDRA_LET(have_s, s.step());
      }
      INDRA_TRY(c_.count());
      INDRA_TRY(node(id, versions, names, subs));
    }
  }

  /// Looked at in each branch that has a row about it, at one moment of each time in which nothing changed.
  Result<void> node(NodeId id, const std::vector<Version>& versions, const std::vector<Name>& names,
                    const std::vector<Name>& subs) {
    std::map<BranchId, std::set<Seq>> edges_of_time;
    for (const auto& v : versions) edges_of_time[v.branch].insert({v.seq, v.until});
    for (const auto* list : {&names, &subs})
      for (const auto& n : *list) edges_of_time[n.branch].insert({n.seq, n.until});
    for (const auto& [branch, times] : edges_of_time) {
      if (forest_.branch(branch) == nullptr) continue;  // told elsewhere
      bool told = false;
      if (forest_.has_head(branch)) {
        INDRA_TRY(node_at(id, branch, kSeqMax, versions, names, subs, told));
      }
      for (auto it = times.begin(); it != times.end() && !told; ++it) {
        const auto next = std::next(it);
        if (next == times.end()) break;
        if (const auto pin = forest_.pin_within(branch, *it, *next))
          INDRA_TRY(node_at(id, branch, *pin, versions, names, subs, told));
      }
    }
    return {};
  }

  Result<std::vector<const Name*>> visible(const std::vector<Name>& list, const Chain& chain) {
    std::vector<const Name*> out;
    for (const Name& n : list) {
      const int depth = chain.depth_of(n.branch);
      if (depth < 0 || !n.covers(chain.links()[static_cast<std::size_t>(depth)].limit)) continue;
      if (chain.links().size() > 1) {
        rows::Edges::Row e;
        INDRA_LET(const bool there, rows::find<rows::Edges>(tx_, chain, {n.parent, n.cookie, n.name}, e));
        if (!there || e.node != n.node || e.branch != n.branch) continue;
      }
      out.push_back(&n);
    }
    return out;
  }

  Result<void> node_at(NodeId id, BranchId branch, Seq moment, const std::vector<Version>& versions,
                       const std::vector<Name>& all_names, const std::vector<Name>& all_subs, bool& told) {
    const Chain chain = forest_.chain(branch, moment);
    const Version* v = nullptr;
    int best = INT_MAX;
    for (const Version& x : versions) {
      const int depth = chain.depth_of(x.branch);
      if (depth < 0 || depth >= best || !x.covers(chain.links()[static_cast<std::size_t>(depth)].limit))
        continue;
      v = &x;
      best = depth;
    }
    INDRA_LET(const auto names, visible(all_names, chain));
    INDRA_LET(const auto subs, visible(all_subs, chain));
    const bool head = moment == kSeqMax;
    if (v == nullptr || v->mode == 0) {
      for (const Name* n : names) {
        Finding f{.rule = "F6",
                  .what = fmt::format("leads to node {}, which there is not", id.raw()),
                  .branch = branch,
                  .node = n->parent,
                  .moment = moment,
                  .name = n->name};
        if (head && n->branch == branch) {
          f.mending = "the name removed";
          f.mend = [branch, parent = n->parent, cookie = n->cookie, name = n->name](Tx& tx) {
            return take_name(tx, branch, parent, cookie, name);
          };
        }
        found(std::move(f));
        told = true;
      }
      return {};
    }
    const auto wrong = [&](const char* rule, std::string what, std::string mending = {},
                           std::string text = {}) {
      Finding f{.rule = rule, .what = std::move(what), .branch = branch, .node = id, .moment = moment};
      // A row that the head shows as well says what is right there.
      if (!text.empty() && v->branch == branch && (head || v->past || !forest_.has_head(branch))) {
        f.mending = std::move(mending);
        f.mend =
            sql(fmt::format("UPDATE {} SET {} WHERE node = {} AND branch = {} AND seq = {}",
                            v->past ? "nodes_past" : "nodes", text, id.raw(), branch.raw(), v->seq.raw()));
      }
      found(std::move(f));
      told = true;
    };
    for (const Name* n : names)
      if (n->type != (v->mode & S_IFMT)) {
        wrong("F6", fmt::format("the entry {} in node {} says it is of type {:o}, it is {:o}", hex(n->name),
                                n->parent.raw(), n->type, v->mode & S_IFMT));
      }
    const bool root = id == forest_.branch(branch)->root;
    const auto count = static_cast<std::int64_t>(names.size());
    if (S_ISDIR(v->mode)) {
      if (root ? count != 0 : count > 1) {
        wrong("F9", root ? "is the root, and lies in a directory"
                         : fmt::format("is a directory with {} names", count));
        return {};
      }
      if (v->nlink == 0 && count == 0) return {};  // removed, and still open
      if (!root && count == 0) {
        no_name(*v, id, branch, moment);
        told = true;
        return {};
      }
      const auto links = 2 + static_cast<std::int64_t>(subs.size());
      if (v->nlink != links)
        wrong("F8", fmt::format("counts {} links, there are {}", v->nlink, links),
              fmt::format("counted as {}", links), fmt::format("nlink = {}", links));
      const NodeId parent = root ? NodeId{} : names.front()->parent;
      if (v->parent != parent)
        wrong("F9", fmt::format("says that it lies in node {}, it lies in {}", v->parent.raw(), parent.raw()),
              "put right", parent ? fmt::format("parent = {}", parent.raw()) : std::string{"parent = NULL"});
      return {};
    }
    if ((v->flags & kStandsIn) != 0 && !head) return {};  // of a time before: T6
    if (count == 0 && v->nlink != 0) {
      no_name(*v, id, branch, moment);
      told = true;
      return {};
    }
    if (v->nlink != count)
      wrong("F8", fmt::format("counts {} names, there are {}", v->nlink, count),
            fmt::format("counted as {}", count), fmt::format("nlink = {}", count));
    if (v->parent && count != 0 &&
        std::none_of(names.begin(), names.end(), [&](const Name* n) { return n->parent == v->parent; }))
      wrong("F9", fmt::format("says that it lies in node {}, where it has no name", v->parent.raw()),
            "put right",
            count == 1 ? fmt::format("parent = {}", names.front()->parent.raw())
                       : std::string{"parent = NULL"});
    return {};
  }

  void no_name(const Version& v, NodeId id, BranchId branch, Seq moment) {
    Finding f{.rule = "F10",
              .what = S_ISDIR(v.mode) ? "is a directory without a name" : "is a file without a name",
              .branch = branch,
              .node = id,
              .moment = moment};
    if (moment == kSeqMax) {
      lost(f, branch, id);
    } else if (v.past && v.branch == branch) {
      // Of a past that cannot be changed: what the head has of it is moved there.
      f.last_resort = true;
      f.mending = "noted as without a name";
      f.mend = [id, branch, seq = v.seq](Tx& tx) -> Result<bool> {
        Statement q{tx, "SELECT 1 FROM nodes WHERE node = ?1 AND branch = ?2 AND mode <> 0"};
        INDRA_LET(const bool lives, q.bind(1, id).bind(2, branch).step());
        if (!lives) return false;
        return run_once(
            tx, fmt::format("UPDATE nodes_past SET nlink = 0 WHERE node = {} AND branch = {} AND seq = {}",
                            id.raw(), branch.raw(), seq.raw()));
      };
    }
    found(std::move(f));
  }

  // ---- F9: circles of directories ----
  Result<void> circles() {
    std::vector<std::pair<BranchId, NodeId>> dirs;
    {
      Statement q{tx_, "SELECT branch, node FROM nodes WHERE (mode & 61440) = 16384 AND nlink > 0"};
      for (;;) {
        INDRA_LET(const bool row, q.step());
        if (!row) break;
        if (forest_.has_head(q.id_at<BranchId>(0)))
          dirs.emplace_back(q.id_at<BranchId>(0), q.id_at<NodeId>(1));
      }
    }
    std::sort(dirs.begin(), dirs.end());
    std::unordered_set<NodeId> good;
    BranchId branch;
    std::optional<Chain> chain;
    for (const auto& [b, start] : dirs) {
      if (b != branch) {
        branch = b;
        good.clear();
        good.insert(forest_.branch(b)->root);
        chain = forest_.chain(b);
      }
      INDRA_TRY(c_.count());
      std::vector<NodeId> way;
      std::unordered_set<NodeId> on_way;
      bool circle = false;
      NodeId at = start;
      while (!good.contains(at)) {
        if (!on_way.insert(at).second) {
          circle = true;  // told of the directories that are in it, not of what hangs below
          break;
        }
        way.push_back(at);
        NodeRow row;
        INDRA_LET(const bool there, rows::find<rows::Nodes>(tx_, *chain, {at}, row));
        if (!there || !row.parent) break;  // told elsewhere
        at = row.parent;
      }
      if (circle && at == start) {
        Finding f{.rule = "F9",
                  .what = "is a directory that lies in itself, by a roundabout way",
                  .branch = b,
                  .node = start};
        lost(f, b, start);
        found(std::move(f));
      }
      if (!circle) good.insert(way.begin(), way.end());
    }
    return {};
  }

  Tx& tx_;
  Checking& c_;
  const Forest& forest_;
  std::optional<NameHash> hash_;
};

}  // namespace

Result<void> check_names(Tx& tx, Checking& c, const Forest& forest) { return NameCheck{tx, c, forest}.run(); }

}  // namespace indra::checks
