// The tree against the plainest model: maps, copied at each fork and pin.
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "tree/internal/test_tree.h"

namespace indra {
namespace {

struct ModelNode {
  std::uint32_t mode = 0, nlink = 0;
  int content = 0;
  NodeId parent;
  std::map<std::string, std::string> xattrs;
};
struct Model {
  std::map<NodeId, ModelNode> nodes;
  std::map<std::pair<NodeId, std::string>, NodeId> edges;

  [[nodiscard]] NodeId at(NodeId p, const std::string& n) const {
    const auto it = edges.find({p, n});
    return it == edges.end() ? NodeId{} : it->second;
  }
  [[nodiscard]] bool is_dir(NodeId n) const { return S_ISDIR(nodes.at(n).mode); }
  [[nodiscard]] bool empty(NodeId d) const {
    const auto it = edges.lower_bound({d, ""});
    return it == edges.end() || it->first.first != d;
  }
  [[nodiscard]] bool within(NodeId d, NodeId above) const {
    for (; d; d = nodes.at(d).parent)
      if (d == above) return true;
    return false;
  }
  [[nodiscard]] std::vector<NodeId> pick(bool dirs) const {
    std::vector<NodeId> all;
    if (dirs) all.push_back(kFirstNode);
    for (const auto& [k, n] : edges)
      if (is_dir(n) == dirs) all.push_back(n);
    return all;
  }
  void drop(NodeId n) {
    ModelNode& m = nodes.at(n);
    m.nlink = S_ISDIR(m.mode) ? 0 : m.nlink - 1;
    if (m.nlink == 0) nodes.erase(n);
  }
};

struct Moment {
  BranchId branch;
  Seq seq;
  Model model;
  bool automatic;
  std::string name;
};
struct Branch {
  BranchId id;
  Model model;
  bool changed = true;
};

using Step = std::tuple<std::uint8_t, std::uint8_t, std::uint8_t, std::uint8_t, std::uint8_t, std::uint8_t>;

class Run {
 public:
  Run() : t_{options()} {
    Model m;
    m.nodes[kFirstNode] = {.mode = S_IFDIR | 0755, .nlink = 2, .content = 0, .parent = {}, .xattrs = {}};
    branches_.push_back({BranchId{1}, m});
  }

  void step(const Step& s) {
    const auto [op, b, x, y, z, w] = s;
    Branch& br = branches_[b % branches_.size()];
    Model& m = br.model;
    const Chain c = t_.head(br.id);
    const auto dirs = m.pick(true), files = m.pick(false);
    const NodeId p = dirs[x % dirs.size()], q = dirs[y % dirs.size()];
    const std::string n = name(z), n2 = name(w);
    t_.clock.advance(kSecond / 4 * (w % 8));
    switch (op % 16) {
      case 0:
      case 1:
      case 2:
        create(br, c, p, n, op % 16 == 1 ? S_IFDIR | 0755 : w % 5 == 0 ? S_IFLNK | 0777 : S_IFREG | 0644);
        break;
      case 3: {
        if (files.empty()) break;
        const NodeId f = files[y % files.size()];
        const auto r = t_.run([&](Tx& tx) { return t_.tree->link(tx, t_.who, c, f, p, n); });
        RC_ASSERT(r.has_value() == !m.at(p, n));
        if (r) m.edges[{p, n}] = f, ++m.nodes[f].nlink, br.changed = true;
        break;
      }
      case 4:
      case 5: {
        const NodeId e = m.at(p, n);
        const auto r = t_.unlink(c, p, n, w % 3 != 0);
        RC_ASSERT(err(r) == (!e ? ENOENT : m.is_dir(e) ? EISDIR : 0));
        if (r) m.edges.erase({p, n}), m.drop(e), br.changed = true;
        break;
      }
      case 6: {
        const NodeId e = m.at(p, n);
        const auto r = t_.run([&](Tx& tx) -> Result<NodeRow> {
          INDRA_LET(NodeRow row, t_.tree->rmdir(tx, t_.who, c, p, n));
          INDRA_TRY(t_.tree->reap(tx, c, row.node));
          return row;
        });
        RC_ASSERT(err(r) == (!e ? ENOENT : !m.is_dir(e) ? ENOTDIR : !m.empty(e) ? ENOTEMPTY : 0));
        if (r) m.edges.erase({p, n}), m.drop(e), --m.nodes[p].nlink, br.changed = true;
        break;
      }
      case 7:
      case 8:
        rename(br, c, p, n, q, n2,
               op % 16 == 7 && (x ^ y) % 2 != 0 ? RENAME_EXCHANGE
               : z % 4 == 3                     ? RENAME_NOREPLACE
                                                : 0);
        break;
      case 9:
      case 10: {
        std::vector<NodeId> regular;
        for (const NodeId f : files)
          if (S_ISREG(m.nodes[f].mode)) regular.push_back(f);
        if (regular.empty()) break;
        const NodeId f = regular[y % regular.size()];
        RC_ASSERT(err(t_.write(c, f, ++says_, z % 3 != 0)) == 0);
        m.nodes[f].content = says_;
        br.changed = true;
        break;
      }
      case 11: {
        const NodeId f = files.empty() || z % 4 == 0 ? p : files[y % files.size()];
        const std::string key = "user." + n, value = w % 4 == 0 ? "" : "v" + std::to_string(w);
        auto& xs = m.nodes[f].xattrs;
        const bool remove = y % 3 == 0;
        const auto r = t_.run([&](Tx& tx) {
          return t_.tree->set_xattr(tx, t_.who, c, f, key,
                                    remove ? std::nullopt : std::optional{as_view(value)}, 0);
        });
        RC_ASSERT(err(r) == (remove && !xs.contains(key) ? ENODATA : 0));
        if (r && remove) xs.erase(key);
        if (r && !remove) xs[key] = value;
        br.changed |= r.has_value();
        break;
      }
      case 12:
        fork(x, y, br);
        break;
      case 13: {
        const std::string s = "s" + std::to_string(++names_);
        const PinInfo pin = t_.snapshot(s, br.id);
        moments_.push_back({br.id, pin.seq, m, false, s});
        break;
      }
      case 14: {
        t_.pin_all();
        const auto pins =
            t_.run([&](Tx& tx) { return t_.tree->pins(tx, "main", PinKind::automatic); }).value();
        std::set<std::pair<BranchId, Seq>> known;
        for (const auto& k : moments_) known.insert({k.branch, k.seq});
        for (const auto& pin : pins)
          if (!known.contains({pin.branch, pin.seq}))
            moments_.push_back({pin.branch, pin.seq, model_of(pin.branch), true, ""});
        break;
      }
      case 15: {
        if (x % 5 == 0)
          t_.reopen(y % 2 != 0);
        else if (x % 5 == 1)
          thin(w);
        else if (x % 5 == 2)
          drop_snapshot(y);
        else
          drop_branch(y, x % 5 == 3);
        break;
      }
    }
  }

  void check() {
    for (const auto& b : branches_) compare(t_.head(b.id), b.model);
    for (const auto& k : moments_) compare(t_.at(k.branch, k.seq), k.model);
    std::map<BlobId, std::int64_t> held;
    for (const auto& [id, n] : t_.store.refs) held[id] = 0;
    RC_ASSERT(t_.writer
                  ->read([&](Tx& tx) -> Result<void> {
                    auto q = Statement{tx,
                                       "SELECT blob, COUNT(*) FROM (SELECT blob FROM nodes UNION ALL SELECT "
                                       "blob FROM nodes_past) WHERE blob IS NOT NULL GROUP BY blob"};
                    for (;;) {
                      INDRA_LET(const bool row, q.step());
                      if (!row) return {};
                      held[q.id_at<BlobId>(0)] = q.int64_at(1);
                    }
                  })
                  .has_value());
    RC_ASSERT(held == t_.store.refs);
  }

  void finish() {
    sweep(100000);
    thin(255);
    check();
    for (const char* table : {"edges_past", "nodes_past", "xattrs_past"}) {
      const std::string sql = std::string{"SELECT COUNT(*) FROM "} + table +
                              " e WHERE NOT EXISTS(SELECT 1 FROM pins p WHERE p.kind < 4 AND p.branch = "
                              "e.branch AND p.seq >= e.seq AND p.seq < e.until)";
      RC_ASSERT(scalar(sql) == 0);
    }
    RC_ASSERT(scalar("SELECT COUNT(*) FROM pins WHERE kind = 4") == 0);
    RC_ASSERT(
        scalar("SELECT COUNT(*) FROM edges e WHERE node IS NULL AND branch = 1 AND NOT EXISTS(SELECT 1 FROM "
               "edges_past p"
               " WHERE p.parent = e.parent AND p.cookie = e.cookie AND p.name = e.name AND p.branch = 1)") ==
        0);
    RC_ASSERT(scalar("SELECT COUNT(*) FROM nodes e WHERE mode = 0 AND branch = 1 AND NOT EXISTS(SELECT 1 "
                     "FROM nodes_past p WHERE p.node = e.node AND p.branch = 1)") == 0);
    RC_ASSERT(scalar("SELECT COUNT(*) FROM xattrs e WHERE value IS NULL AND branch = 1 AND NOT EXISTS(SELECT "
                     "1 FROM xattrs_past p"
                     " WHERE p.node = e.node AND p.name = e.name AND p.branch = 1)") == 0);
  }

 private:
  static Tree::Options options() {
    Tree::Options o;
    o.churn_bytes_per_second = UINT64_MAX;  // everything is within the budget
    o.min_version_gap = 0;
    o.keep_all = 3 * kSecond;
    return o;
  }
  static std::string name(std::uint8_t x) { return std::string(1, static_cast<char>('a' + x % 5)); }
  template <class T>
  static int err(const Result<T>& r) {
    return r ? 0 : to_errno(r.error());
  }
  std::int64_t scalar(const std::string& sql) {
    sqlite3_stmt* s = nullptr;
    return t_.writer
        ->read([&](Tx& tx) -> Result<std::int64_t> {
          if (sqlite3_prepare_v2(tx.db().raw(), sql.c_str(), -1, &s, nullptr) != SQLITE_OK)
            return fail(EIO, sql);
          sqlite3_step(s);
          const auto n = sqlite3_column_int64(s, 0);
          sqlite3_finalize(s);
          return n;
        })
        .value();
  }
  const Model& model_of(BranchId id) const {
    for (const auto& b : branches_)
      if (b.id == id) return b.model;
    throw std::runtime_error{"branch"};
  }

  void create(Branch& br, const Chain& c, NodeId p, const std::string& n, std::uint32_t mode) {
    Model& m = br.model;
    const auto r = t_.make(c, p, n, mode);
    RC_ASSERT(err(r) == (m.at(p, n) ? EEXIST : 0));
    if (!r) return;
    const bool dir = S_ISDIR(mode);
    m.edges[{p, n}] = r->node;
    m.nodes[r->node] = {
        .mode = mode, .nlink = dir ? 2u : 1u, .content = 0, .parent = dir ? p : NodeId{}, .xattrs = {}};
    if (dir) ++m.nodes[p].nlink;
    br.changed = true;
  }

  void rename(Branch& br, const Chain& c, NodeId p, const std::string& a, NodeId q, const std::string& b,
              unsigned flags) {
    Model& m = br.model;
    const NodeId x = m.at(p, a), y = m.at(q, b);
    int expect = 0;
    if (!x)
      expect = ENOENT;
    else if (flags == RENAME_EXCHANGE && !y)
      expect = ENOENT;
    else if (flags == RENAME_NOREPLACE && y)
      expect = EEXIST;
    else if (x == y)
      expect = 0;
    else if (m.is_dir(x) && m.within(q, x))
      expect = EINVAL;
    else if (y && m.is_dir(y) && m.within(p, y))
      expect = flags == RENAME_EXCHANGE ? EINVAL : ENOTEMPTY;
    else if (y && flags != RENAME_EXCHANGE) {
      if (m.is_dir(x) && !m.is_dir(y))
        expect = ENOTDIR;
      else if (!m.is_dir(x) && m.is_dir(y))
        expect = EISDIR;
      else if (m.is_dir(y) && !m.empty(y))
        expect = ENOTEMPTY;
    }
    const auto r = t_.run([&](Tx& tx) -> Result<Tree::Renamed> {
      INDRA_LET(auto done, t_.tree->rename(tx, t_.who, c, p, a, q, b, flags));
      if (done.replaced && done.replaced->nlink == 0) INDRA_TRY(t_.tree->reap(tx, c, done.replaced->node));
      return done;
    });
    RC_ASSERT(err(r) == expect);
    if (!r || x == y) return;
    br.changed = true;
    const auto move = [&](NodeId n, NodeId from, NodeId to) {
      if (!m.is_dir(n)) return;
      m.nodes[n].parent = to;
      --m.nodes[from].nlink;
      ++m.nodes[to].nlink;
    };
    m.edges[{q, b}] = x;
    move(x, p, q);
    if (flags == RENAME_EXCHANGE) {
      m.edges[{p, a}] = y;
      move(y, q, p);
    } else {
      m.edges.erase({p, a});
      if (y) {
        if (m.is_dir(y)) --m.nodes[q].nlink;
        m.drop(y);
      }
    }
  }

  void fork(std::uint8_t x, std::uint8_t y, const Branch& from) {
    if (branches_.size() > 8) return;
    const std::string n = "b" + std::to_string(++names_);
    Model model = from.model;
    BranchId id;
    Seq at = kSeqMax;
    if (x % 2 != 0 && !moments_.empty()) {
      const Moment& k = moments_[y % moments_.size()];
      model = k.model;
      id = k.branch;
      at = k.seq;
    } else {
      id = from.id;
    }
    const BranchInfo info = t_.fork(n, id, at);
    RC_ASSERT(info.parent == id);
    moments_.push_back({info.parent, info.fork_seq, model, false, ""});
    branches_.push_back({info.id, std::move(model)});
  }

  void drop_snapshot(std::uint8_t y) {
    std::vector<std::size_t> named;
    for (std::size_t i = 0; i < moments_.size(); ++i)
      if (!moments_[i].name.empty()) named.push_back(i);
    if (named.empty()) return;
    const std::size_t i = named[y % named.size()];
    const std::string n = moments_[i].name;
    RC_ASSERT(t_.run([&](Tx& tx) { return t_.tree->delete_snapshot(tx, t_.who, "main", n); }).has_value());
    forget();
    if (y % 2 == 0) t_.run([&](Tx& tx) { return t_.tree->thin(tx, 1); }).value();
    forget();
  }

  // Nobody else notices: neither what forks from it nor a snapshot of it (B2, B3).
  void drop_branch(std::uint8_t y, bool sweep) {
    if (branches_.size() < 2) return;
    const std::size_t i = 1 + y % (branches_.size() - 1);
    const BranchId id = branches_[i].id;
    RC_ASSERT(t_.run([&](Tx& tx) -> Result<void> {
                  INDRA_LET(const BranchInfo info, t_.tree->branch(tx, id));
                  INDRA_LET(const BranchInfo gone, t_.tree->delete_branch(tx, t_.who, "main", info.name));
                  return {};
                }).has_value());
    branches_.erase(branches_.begin() + static_cast<std::ptrdiff_t>(i));
    if (sweep) this->sweep(3);
    forget();
  }
  void sweep(int slices) {
    for (int i = 0; i < slices; ++i)
      if (t_.run([&](Tx& tx) { return t_.tree->sweep(tx, 5, [](BranchId) { return false; }); }).value() == 0)
        return;
  }

  void thin(std::uint8_t w) {
    t_.clock.advance(kSecond * (w % 5));
    t_.thin();
    forget();
  }

  // Only what is still pinned is promised.
  void forget() {
    const auto pins = t_.run([&](Tx& tx) { return t_.tree->pins(tx, "main", std::nullopt); }).value();
    std::set<std::pair<BranchId, Seq>> live;
    std::set<std::string> snapshots;
    for (const auto& pin : pins) live.insert({pin.branch, pin.seq}), snapshots.insert(pin.name);
    std::erase_if(moments_, [&](const Moment& k) { return !live.contains({k.branch, k.seq}); });
    for (auto& k : moments_)
      if (!snapshots.contains(k.name)) k.name.clear();
  }

  void compare(const Chain& c, const Model& m) {
    std::set<NodeId> reached{kFirstNode};
    std::vector<NodeId> todo{kFirstNode};
    std::size_t edges = 0;
    while (!todo.empty()) {
      const NodeId d = todo.back();
      todo.pop_back();
      for (const bool plus : {false, true}) {
        std::set<std::string> seen;
        std::uint64_t after = 0;
        for (bool more = true; more;) {  // in pages of two
          more = false;
          RC_ASSERT(t_.run([&](Tx& tx) {
                        return t_.tree->list(tx, c, d, after, plus, 2, [&](const Tree::Listed& e) {
                          more = true;
                          RC_ASSERT(e.edge.cookie > 15 && e.edge.cookie >= after);
                          after = e.edge.cookie;
                          RC_ASSERT(seen.insert(std::string{e.name}).second);
                          RC_ASSERT(m.at(d, std::string{e.name}) == e.edge.node);
                          RC_ASSERT(e.edge.type == (m.nodes.at(e.edge.node).mode & S_IFMT));
                          RC_ASSERT((e.row != nullptr) == plus);
                          if (plus) same(*e.row, e.edge.node, m);
                          if (plus && ++edges != 0 && reached.insert(e.edge.node).second &&
                              S_ISDIR(e.edge.type))
                            todo.push_back(e.edge.node);
                          return true;
                        });
                      }).has_value());
        }
        for (const auto& [k, n] : m.edges)
          if (k.first == d) RC_ASSERT(seen.contains(k.second));
      }
    }
    RC_ASSERT(edges == m.edges.size());
    for (const NodeId n : reached) {
      const auto row = t_.run([&](Tx& tx) { return t_.tree->node(tx, c, n); });
      RC_ASSERT(row.has_value());
      same(*row, n, m);
      const auto names = t_.run([&](Tx& tx) { return t_.tree->xattrs(tx, c, n); }).value();
      const auto& xs = m.nodes.at(n).xattrs;
      RC_ASSERT(names.size() == xs.size());
      for (const auto& [k, v] : xs) {
        const auto got = t_.run([&, &k = k](Tx& tx) { return t_.tree->xattr(tx, c, n, k); }).value();
        RC_ASSERT(got.has_value() && as_text(*got) == v);
      }
    }
    for (const auto& [k, n] : m.edges) {
      const auto e =
          t_.run([&, &k = k](Tx& tx) { return t_.tree->lookup(tx, c, k.first, k.second); }).value();
      RC_ASSERT(e.has_value() && e->node == n);
    }
  }
  void same(const NodeRow& r, NodeId id, const Model& m) {
    const ModelNode& n = m.nodes.at(id);
    RC_ASSERT(r.node == id);
    RC_ASSERT(r.mode == n.mode);
    RC_ASSERT(r.nlink == n.nlink);
    if (S_ISDIR(n.mode)) {
      RC_ASSERT(r.parent == n.parent);
    } else if (r.parent) {  // one of the places it has a name in; 0 when nobody knows which
      const auto named = [&](const auto& e) { return e.first.first == r.parent && e.second == id; };
      RC_ASSERT(std::any_of(m.edges.begin(), m.edges.end(), named));
    }
    RC_ASSERT((r.blob ? t_.store.content.at(r.blob) : 0) == n.content);
  }

  TestTree t_;
  std::vector<Branch> branches_;
  std::vector<Moment> moments_;
  int says_ = 0, names_ = 0;
};

}  // namespace

RC_GTEST_PROP(TreeProperty, EqualsMapsCopiedAtEachForkAndPin, ()) {
  const auto steps =
      *rc::gen::scale(2.0, rc::gen::container<std::vector<Step>>(rc::gen::tuple(
                               rc::gen::arbitrary<std::uint8_t>(), rc::gen::arbitrary<std::uint8_t>(),
                               rc::gen::arbitrary<std::uint8_t>(), rc::gen::arbitrary<std::uint8_t>(),
                               rc::gen::arbitrary<std::uint8_t>(), rc::gen::arbitrary<std::uint8_t>())));
  Run run;
  std::size_t n = 0;
  for (const Step& s : steps) {
    run.step(s);
    if (++n % 32 == 0) run.check();
  }
  run.check();
  run.finish();
}

}  // namespace indra
