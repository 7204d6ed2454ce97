// A history on a vault and on the model side by side, and what may be found after the power came back.
// Long because each operation stands here twice: as the vault does it, and as the model says it.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <deque>
#include <filesystem>
#include <set>
#include <utility>

#include "base/log.h"
#include "fs/filesystem.h"
#include "lab/lab.h"
#include "lab/model.h"
#include "testkit/mem_vfs.h"

namespace indra::lab {
namespace {

constexpr TimeNs kMs = 1'000'000;
const Caller kMe{0, 0, 0};
const Who kWho{0, 0, "lab", "lab"};

using Effect = std::function<void(World&)>;

/// What an operation does to the rows: each effect at once, in this order, or (sessions) in any.
struct Effects {
  std::vector<Effect> each;
  bool any_order = false;
  bool barrier = false;  ///< when it has answered, all before is durable
};

/// A file that is open: what was written, published or not.
struct Session {
  Bytes live;
  TimeNs dirty_since = 0;
  bool unlinked = false;
  int handles = 0;
  [[nodiscard]] bool dirty() const { return dirty_since != 0 && !unlinked; }
};
using Key = std::pair<std::string, int>;  // branch, node

struct OpenHandle {
  Key key;
  std::shared_ptr<View> view;
  Handle handle = 0;
};

struct Stop {};  // the power went, or a violation was noted

Bytes bytes_from(std::uint64_t seed, std::uint64_t n) {
  Bytes b(n);
  std::uint64_t x = seed * 0x9E3779B97F4A7C15ull + 0x1234567;
  for (std::uint64_t i = 0; i < n; ++i) {
    if (i % 8 == 0) x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9ull + i;
    b[i] = static_cast<std::byte>((x >> (i % 8 * 8)) | 1);  // never a zero: zeros are holes, or damage
  }
  return b;
}

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }
std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// Where vaults of this process have what is not on the simulated disk: lock, key, knock.
const std::string& shell_dir() {
  static const struct Dir {
    Dir() {
      std::string name =
          std::filesystem::exists("/dev/shm") ? "/dev/shm/indra-lab-XXXXXX" : "/tmp/indra-lab-XXXXXX";
      path = ::mkdtemp(name.data()) != nullptr ? name : "";
    }
    ~Dir() { std::filesystem::remove_all(path); }
    std::string path;
  } dir;
  return dir.path;
}

MemVfs& shared_vfs() {
  static MemVfs vfs;
  return vfs;
}

class Runner {
 public:
  explicit Runner(const Fault& fault) : fault_{fault}, dir_{shell_dir() + "/v"} {
    log::set_level("off");
    World w;
    auto tree = std::make_shared<Tree>();
    tree->nodes[0].kind = 'd';
    tree->nodes[0].mode = 0755;
    w.branches["main"] = tree;
    log_.push_back(std::move(w));
  }
  ~Runner() { abandon(); }

  Outcome run(const History& h) {
    try {
      const std::string kind = h.empty() ? "" : h.front().text();
      const bool single_file = kind.starts_with("vault") && kind.find("single-file") != std::string::npos;
      pins_ = !kind.starts_with("vault") || kind.find("no-pins") == std::string::npos;
      disk_ = template_disk(single_file).copy();
      shared_vfs().use(*disk_);
      if (fault_.disk) disk_->set_fault(fault_.disk);
      open(nullptr);
      for (const Op& op : h) {
        ++out_.operations;
        current_ = op.text();
        one(op);
      }
      finish();
    } catch (const Stop&) {
    }
    if (disk_) out_.steps = disk_->steps();
    return std::move(out_);
  }

  /// A new vault, of which the making is cut.
  Outcome run_making(std::uint64_t step, std::uint64_t seed) {
    try {
      current_ = "making the vault, cut at step " + std::to_string(step) + ", seed " + std::to_string(seed);
      disk_ = std::make_unique<MemDisk>();
      shared_vfs().use(*disk_);
      disk_->power_off_at(step);
      auto fs = FileSystem::open(dir_, options(*disk_, &clock_, pins_));
      const bool whole = disk_->power();
      disk_->power_off();
      if (fs) fs->reset();
      disk_->crash(seed);
      ++out_.cuts;
      open(nullptr);
      if (const Listing found = listing(); found != now().listing())
        violation("not an empty vault" + difference(now().listing(), found));
      out_.steps = whole ? 0 : step;
      finish();
    } catch (const Stop&) {
    }
    return std::move(out_);
  }

  /// An empty vault.
  static MemDisk& template_disk(bool single_file) {
    static std::array<std::unique_ptr<MemDisk>, 2> made;
    auto& d = made[single_file ? 1 : 0];
    if (d) return *d;
    d = std::make_unique<MemDisk>();
    shared_vfs().use(*d);
    FileSystem::Options o = options(*d, nullptr);
    o.single_file = single_file;
    { auto fs = FileSystem::open(shell_dir() + "/v", o); }
    return *d;
  }

 private:
  static FileSystem::Options options(MemDisk& disk, const Clock* clock, bool pins = true) {
    FileSystem::Options o;
    o.create = true;
    o.background = false;
    o.automatic_pins = pins;
    o.clock = clock;
    o.disk = &disk;
    o.vfs_below = shared_vfs().name();
    o.publish_after = 3600 * kSecond;
    o.jobs = false;  // coord.db is not on the simulated disk
    o.content.workers = -1;
    o.content.segment_size = 1 << 20;
    o.content.fold_after = kSecond;
    o.content.cache_limit = 64 << 10;  // most reads go to the disk
    o.content.buffer_limit = 256 << 10;
    return o;
  }
  FileSystem::Options its_options() {
    FileSystem::Options o = options(*disk_, &clock_, pins_);
    if (!fault_.leaves_out.empty())
      o.faults = FaultPoints{[this](std::string_view point) -> Result<void> {
        return point == fault_.leaves_out ? Result<void>{fail(ECANCELED)} : Result<void>{};
      }};
    return o;
  }
  [[noreturn]] void violation(const std::string& what) {
    out_.violations.push_back("at \"" + current_ + "\": " + what);
    throw Stop{};
  }
  World& now() { return log_.back(); }
  const Tree& tree(const std::string& branch) { return *now().branches.at(branch); }

  // ---- opening, and what is found ----

  void abandon() {
    if (!fs_) return;
    disk_->power_off();
    drop_handles();
    fs_.reset();
  }
  void drop_handles() {
    for (auto& [name, h] : handles_) h.view->release(h.handle);
    handles_.clear();
    sessions_.clear();
    views_.clear();
  }

  /// Opens the vault. `cut`: recovery itself is cut; false: it was.
  bool open(const Cut* cut) {
    if (fault_.before) fault_.before("recover");
    if (cut != nullptr && cut->again != 0) disk_->power_off_at(cut->again);
    auto fs = FileSystem::open(dir_, its_options());
    if (cut != nullptr && cut->again != 0 && !disk_->power()) {
      if (fs) fs_ = std::move(*fs);
      abandon();
      return false;
    }
    disk_->power_off_at(0);
    if (!fs) violation("the vault does not open: " + fs.error().text());
    fs_ = std::move(*fs);
    return true;
  }

  /// The candidates, newest first: what is found must be one of them.
  void recover(const Cut& cut, std::vector<World> candidates) {
    ++out_.cuts;
    abandon();
    if (cut.kill)
      disk_->kill();
    else
      disk_->crash(cut.seed);
    held_.clear();
    if (fault_.at_recovery) fault_.at_recovery(*disk_, shared_vfs().name(), dir_);
    current_ += " (recovery)";
    if (!open(&cut)) {
      disk_->crash(cut.seed + 1);
      current_ += " (again)";
      open(nullptr);
    }
    ids_.clear();
    const Listing found = listing();
    std::string other_node;
    for (auto& w : candidates) {
      if (w.listing() != found) continue;
      if (other_node = learn(w); !other_node.empty()) continue;
      log_.clear();
      log_.push_back(std::move(w));
      owed_ = 0;
      check_changes(true);
      return;
    }
    if (!other_node.empty()) violation(other_node);
    std::string what = "nothing that may be found after it was found; the latest state that may was";
    what += difference(candidates.front().listing(), found);
    if (candidates.size() > 1)
      what += "\n  and the earliest" + difference(candidates.back().listing(), found);
    violation(what);
  }

  template <class T>
  T must(Result<T> r, const std::string& what) {
    if (!r) violation(what + ": " + r.error().text());
    if constexpr (!std::is_void_v<T>) return std::move(*r);
  }

  Bytes content_of(View& v, NodeId node, const std::string& path) {
    const Attr a = must(v.getattr(node), "attributes of " + path);
    const Handle h = must(v.open(kMe, node, O_RDONLY), "open " + path);
    Bytes b(a.size);
    const auto n = v.read(h, 0, b);
    v.release(h);
    if (!n) violation("read " + path + ": " + n.error().text());
    if (*n != b.size()) violation(path + " is shorter than its size");
    return b;
  }

  void list(Listing& out, const std::string& where, View& v) {
    std::map<std::uint64_t, std::string> first;
    std::function<void(NodeId, const std::string&)> walk = [&](NodeId id, const std::string& path) {
      const Attr a = must(v.getattr(id), "attributes of " + where + path);
      Node n;
      n.id = static_cast<std::uint64_t>(id.raw());
      n.mode = a.mode & 07777;
      n.kind = S_ISDIR(a.mode) ? 'd' : S_ISLNK(a.mode) ? 'l' : 'f';
      if (n.kind == 'f') n.kept = text(content_of(v, id, where + path));
      if (n.kind == 'l') n.target = must(v.readlink(id), "readlink " + where + path);
      for (const std::string& x : must(v.listxattr(id), "xattrs of " + where + path)) {
        const Bytes value = must(v.getxattr(id, x), "xattr of " + where + path);
        n.xattrs[x] = std::string{as_text(value)};
      }
      std::string line = line_of(n);
      if (n.kind != 'd') {
        const auto [it, fresh] = first.try_emplace(n.id, path);
        if (!fresh) line += " same as " + it->second;
      }
      const std::string key = where + (path.empty() ? "/" : path);
      out[key] = line;
      ids_[key] = n.id;
      if (n.kind != 'd') return;
      std::map<std::string, NodeId> names;
      const Handle h = must(v.opendir(id), "opendir " + where + path);
      const auto r = v.readdir(h, 0, false, [&](const DirEntry& e) {
        names.emplace(e.name, e.node);
        return true;
      });
      v.releasedir(h);
      if (!r) violation("readdir " + where + path + ": " + r.error().text());
      for (const auto& [name, child] : names) walk(child, path + "/" + name);
    };
    walk(v.root(), "");
  }

  Listing listing() {
    Listing out;
    for (const std::string& b : fs_->branch_names("main")) {
      ViewSpec spec;
      spec.branch = b;
      const auto v = must(fs_->open_view(spec, nullptr), "view of " + b);
      list(out, b + ":", *v);
    }
    for (const std::string& s : fs_->snapshot_names("main")) {
      ViewSpec spec;
      spec.snapshot = s;
      const auto v = must(fs_->open_view(spec, nullptr), "view of snapshot " + s);
      list(out, "@" + s + ":", *v);
    }
    return out;
  }

  /// Node numbers: those that callers were told are what they were, else what is wrong; the others are
  /// learnt.
  std::string learn(World& w) {
    std::string wrong;
    for (auto& [branch_name, shared] : w.branches) {
      const std::string& branch = branch_name;
      auto copy = std::make_shared<Tree>(*shared);
      std::function<void(int, const std::string&)> walk = [&](int n, const std::string& path) {
        Node& node = copy->nodes.at(n);
        const std::uint64_t id = ids_[branch + ":" + (path.empty() ? "/" : path)];
        if (node.id == 0) node.id = id;
        if (node.id != id)
          wrong = branch + ":" + path + " was node " + std::to_string(node.id) + " and is node " +
                  std::to_string(id);
        for (const auto& [name, child] : node.names) walk(child, path + "/" + name);
      };
      walk(0, "");
      shared = copy;
    }
    return wrong;
  }

  /// D8: a seq that was seen with one change never comes with another.
  void check_changes(bool all) {
    std::uint64_t after = all ? 0 : seen_max_;
    std::uint64_t highest = seen_max_;
    for (;;) {
      const auto rows = must(fs_->changes(Seq{static_cast<std::int64_t>(after)}, 1000), "changes");
      for (const auto& r : rows) {
        after = static_cast<std::uint64_t>(r.seq.raw());
        const std::string what =
            std::to_string(r.branch.raw()) + " " + std::to_string(r.node.raw()) + " " + r.name;
        const auto it = seen_.find(after);
        if (it != seen_.end() && it->second != what)
          violation("number " + std::to_string(after) + " is used twice: " + it->second + ", then " + what);
        if (it == seen_.end() && after <= seen_max_)
          violation("number " + std::to_string(after) + " is new, though " + std::to_string(seen_max_) +
                    " was given before");
        if (it == seen_.end()) seen_[after] = what;
        highest = std::max(highest, after);
      }
      if (rows.size() < 1000) break;
    }
    seen_max_ = highest;
  }

  void finish() {
    current_ = "the end";
    one(parse("reopen").front());
    current_ = "the end, after an orderly close";
    ids_.clear();
    const Listing expected = now().listing();
    if (const Listing found = listing(); found != expected)
      violation("not what was written" + difference(expected, found));
    current_ = "the end, at rest";
    come_to_rest();
    if (const Listing found = listing(); found != expected)
      violation("not what was written" + difference(expected, found));
    for (const std::string& wrong : inspect_at_rest(*disk_, shared_vfs().name(), dir_)) {
      out_.violations.push_back(current_ + ": " + wrong);
    }
    if (!out_.violations.empty()) throw Stop{};
    drop_handles();
    fs_.reset();
  }

  // ---- one operation ----

  void one(const Op& op) {
    clock_.advance(10 * kMs);
    if (fault_.before) fault_.before(op.words[0]);
    const Cut cut = op.cut.value_or(Cut{});
    effects_ = {};
    const std::uint64_t before = disk_->steps();
    if (op.cut && cut.step != 0) disk_->power_off_at(cut.step);
    const bool made_sense = perform(op.words);
    if (!held_.empty() && disk_->power() && --held_.front().first == 0) {
      held_.front().second();
      held_.pop_front();
    }
    if (!disk_->power()) {
      recover(cut, candidates());
      return;
    }
    disk_->power_off_at(0);
    (void)before;
    if (made_sense) {
      apply();
      check_changes(false);
    }
    if (op.cut) {
      effects_ = {};
      recover(cut, candidates());
    }
  }

  /// All states since the last barrier, and those in the midst of the operation that was cut; newest first.
  std::vector<World> candidates() {
    std::vector<World> out(log_.begin(), log_.end());
    const World base = now();
    in_between(base, out);
    std::reverse(out.begin(), out.end());
    return out;
  }
  void in_between(const World& base, std::vector<World>& out) {
    const std::size_t n = effects_.each.size();
    if (!effects_.any_order || n > 6) {
      World w = base;
      for (const Effect& e : effects_.each) {
        e(w);
        out.push_back(w);
      }
      return;
    }
    for (unsigned set = 1; set < 1u << n; ++set) {  // the full one last
      World w = base;
      for (std::size_t i = 0; i < n; ++i)
        if ((set >> i & 1) != 0) effects_.each[i](w);
      out.push_back(std::move(w));
    }
  }
  void apply() {
    const World base = now();
    in_between(base, log_);
    if (effects_.barrier) log_.erase(log_.begin(), log_.end() - 1);
    if (effects_.barrier) owed_ = 0;
  }

  struct PowerWent {};
  /// An answer of the vault while the power is on: an error is a violation.
  template <class T>
  T done(Result<T> r, const char* what) {
    if (!disk_->power()) throw PowerWent{};
    if (!r) violation(std::string{what} + ": " + r.error().text());
    if constexpr (!std::is_void_v<T>) return std::move(*r);
  }
  void come_to_rest() {
    done(fs_->sync(true), "sync");
    clock_.advance(10 * kSecond);  // whatever waits for a while has waited for long enough
    done(fs_->settle(), "settle");
  }

  bool perform(const std::vector<std::string>& w) {
    try {
      return act(w);
    } catch (const PowerWent&) {
      return true;
    }
  }

  // ---- what operations are made of ----

  struct Place {
    std::string branch, path;
    int node = 0;  // 0: the root, or none
    bool there = false;
    int parent = 0;
    bool parent_there = false;
    std::string name;
  };
  Place place(const std::string& word) {
    Place p;
    const auto colon = word.find(':');
    p.branch = word.substr(0, colon);
    p.path = word.substr(colon + 1);
    if (!now().branches.contains(p.branch)) return p;
    const Tree& t = tree(p.branch);
    p.there = t.find(p.path, p.node);
    p.parent_there = t.find(parent_of(p.path), p.parent) && t.nodes.at(p.parent).kind == 'd';
    p.name = name_of(p.path);
    return p;
  }
  const Node& node(const Place& p) { return tree(p.branch).nodes.at(p.node); }
  NodeId id(const std::string& branch, int n) {
    return n == 0 ? view(branch)->root() : NodeId{static_cast<std::int64_t>(tree(branch).nodes.at(n).id)};
  }
  NodeId id(const Place& p) { return id(p.branch, p.node); }
  NodeId dir(const Place& p) { return id(p.branch, p.parent); }
  std::shared_ptr<View> view(const std::string& branch) {
    auto& v = views_[branch];
    if (!v) {
      ViewSpec spec;
      spec.branch = branch;
      v = done(fs_->open_view(spec, nullptr), "view");
    }
    return v;
  }
  Session* session(const std::string& branch, int n) {
    const auto it = sessions_.find({branch, n});
    return it == sessions_.end() ? nullptr : &it->second;
  }
  void touch(Session& s) {
    if (s.dirty_since == 0) s.dirty_since = clock_.steady();
  }
  /// The session's bytes become its node's, as one effect.
  void will_keep(const Key& key, const Session& s) {
    if (!s.dirty()) return;
    effects_.each.push_back([key, t = text(s.live)](World& w) {
      if (!w.branches.contains(key.first) || !w.branches.at(key.first)->nodes.contains(key.second)) return;
      w.edit(key.first).nodes.at(key.second).kept = t;
    });
    owed_ = owed_ == 0 ? s.dirty_since : std::min(owed_, s.dirty_since);
  }
  void will_make(const Place& p, int number, const Node& n) {
    effects_.each.push_back([p, number, n](World& w) {
      Tree& t = w.edit(p.branch);
      t.nodes[number] = n;
      t.nodes.at(p.parent).names[p.name] = number;
    });
  }
  void told(const std::string& branch, int number, NodeId given) {
    const auto raw = static_cast<std::uint64_t>(given.raw());
    if (!given_.insert(raw).second) violation("node number " + std::to_string(raw) + " is given twice");
    // The effects make the node without its number; they are told it here.
    effects_.each.push_back([branch, number, raw](World& w) { w.edit(branch).nodes.at(number).id = raw; });
  }
  /// A node may have lost its last name: what is open of it is nobody's business any more.
  void lost_name(const std::string& branch, int n, int names_left) {
    if (names_left > 0) return;
    if (Session* s = session(branch, n)) s->unlinked = true;
  }
  bool any_dirty(const std::string& branch) {
    for (const auto& [key, s] : sessions_)
      if (key.first == branch && s.dirty()) return true;
    return false;
  }
  void clean(const std::string& branch) {
    for (auto& [key, s] : sessions_)
      if (branch.empty() || key.first == branch) s.dirty_since = 0;
  }
  void write_live(Session& s, std::uint64_t at, ByteView b) {
    if (s.live.size() < at + b.size()) s.live.resize(at + b.size());
    std::copy(b.begin(), b.end(), s.live.begin() + static_cast<std::ptrdiff_t>(at));
    touch(s);
  }

  bool act(const std::vector<std::string>& w);
  bool act_on_handle(const std::vector<std::string>& w);
  bool act_on_names(const std::vector<std::string>& w);
  bool act_on_vault(const std::vector<std::string>& w);

  static std::uint64_t num(const std::string& s) { return std::stoull(s); }

  const Fault& fault_;
  const std::string dir_;
  std::unique_ptr<MemDisk> disk_;
  ManualClock clock_;
  std::unique_ptr<FileSystem> fs_;
  std::map<std::string, std::shared_ptr<View>> views_;
  std::map<std::string, OpenHandle> handles_;
  std::map<Key, Session> sessions_;
  std::vector<World> log_;  // from what is durable for certain, to now
  Effects effects_;
  TimeNs owed_ = 0;  // since when bytes have waited that are in rows, and not yet durable for certain
  std::deque<std::pair<int, std::function<void()>>> held_;  // by a fault, for so many operations
  int next_node_ = 1;
  std::set<std::uint64_t> given_;
  std::map<std::uint64_t, std::string> seen_;
  std::uint64_t seen_max_ = 0;
  std::map<std::string, std::uint64_t> ids_;
  std::string current_ = "the beginning";
  bool pins_ = true;  // automatic ones: they keep much from being collected
  Outcome out_;
};

bool Runner::act(const std::vector<std::string>& w) {
  return act_on_handle(w) || act_on_names(w) || act_on_vault(w);
}

// ---- handles and bytes ----

bool Runner::act_on_handle(const std::vector<std::string>& w) {
  const std::string& verb = w[0];
  if (verb == "open" || verb == "opentrunc") {
    const Place p = place(w[2]);
    if (handles_.contains(w[1]) || !p.parent_there) return false;
    const auto v = view(p.branch);
    if (!p.there) {
      const int number = next_node_++;
      Node n;
      n.mode = 0644;
      will_make(p, number, n);
      const Opened o = done(v->create(kMe, dir(p), p.name, 0644, O_RDWR), "create");
      told(p.branch, number, o.attr.node);
      handles_[w[1]] = {{p.branch, number}, v, o.handle};
      ++sessions_[{p.branch, number}].handles;
      return true;
    }
    if (node(p).kind != 'f') return false;
    const bool cut = verb == "opentrunc";
    const Handle h = done(v->open(kMe, id(p), O_RDWR | (cut ? O_TRUNC : 0)), "open");
    const bool fresh = !sessions_.contains({p.branch, p.node});
    Session& s = sessions_[{p.branch, p.node}];
    if (fresh && node(p).kept) s.live = node(p).kept->bytes;
    if (cut) {
      s.live.clear();
      touch(s);
    }
    ++s.handles;
    handles_[w[1]] = {{p.branch, p.node}, v, h};
    return true;
  }
  static const std::set<std::string> kVerbs{"write", "punch",     "zero",  "extend", "copy",
                                            "fsync", "fdatasync", "close", "read"};
  if (!kVerbs.contains(verb)) return false;
  const auto it = handles_.find(w[1]);
  if (it == handles_.end()) return false;
  OpenHandle& h = it->second;
  Session& s = sessions_.at(h.key);
  if (verb == "write") {
    const Bytes b = bytes_from(num(w[4]), num(w[3]));
    done(h.view->write(kMe, h.handle, num(w[2]), b, false, false), "write");
    write_live(s, num(w[2]), b);
  } else if (verb == "punch" || verb == "zero") {
    const std::uint64_t at = num(w[2]), n = num(w[3]), end = std::min<std::uint64_t>(at + n, s.live.size());
    const int mode = verb == "punch" ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
    done(h.view->fallocate(kMe, h.handle, mode, at, n), "fallocate");
    if (at < end)
      std::fill(s.live.begin() + static_cast<std::ptrdiff_t>(at),
                s.live.begin() + static_cast<std::ptrdiff_t>(end), std::byte{0});
    if (verb == "zero" && at + n > s.live.size()) s.live.resize(at + n);
    touch(s);
  } else if (verb == "extend") {
    done(h.view->fallocate(kMe, h.handle, 0, 0, num(w[2])), "fallocate");
    if (num(w[2]) > s.live.size()) s.live.resize(num(w[2]));
    touch(s);
  } else if (verb == "copy") {  // copy FROM AT TO AT N
    const auto to = handles_.find(w[3]);
    if (to == handles_.end() || to->second.key.first != h.key.first) return false;
    Session& t = sessions_.at(to->second.key);
    const std::uint64_t from_at = num(w[2]), at = num(w[4]);
    if (from_at >= s.live.size()) return false;
    const std::uint64_t n = std::min<std::uint64_t>(num(w[5]), s.live.size() - from_at);
    if (&s == &t && from_at < at + n && at < from_at + n) return false;
    const std::uint64_t copied =
        done(h.view->copy_file_range(kMe, h.handle, from_at, to->second.handle, at, n), "copy");
    if (copied == 0 || copied > n)
      violation("copy_file_range copied " + std::to_string(copied) + " of " + std::to_string(n));
    const Bytes b(s.live.begin() + static_cast<std::ptrdiff_t>(from_at),
                  s.live.begin() + static_cast<std::ptrdiff_t>(from_at + copied));
    write_live(t, at, b);
  } else if (verb == "read") {
    Bytes b(s.live.size() + 1);
    const std::size_t n = done(h.view->read(h.handle, 0, b), "read");
    b.resize(n);
    if (b != s.live) violation("other bytes are read than were written");
  } else if (verb == "fsync" || verb == "fdatasync") {
    will_keep(h.key, s);
    effects_.barrier = true;
    done(h.view->fsync(kMe, h.handle, verb == "fdatasync"), "fsync");
    s.dirty_since = 0;
  } else {
    will_keep(h.key, s);
    done(h.view->flush(kMe, h.handle), "close");
    s.dirty_since = 0;
    h.view->release(h.handle);
    if (--s.handles == 0) sessions_.erase(h.key);
    handles_.erase(it);
    if (!disk_->power()) throw PowerWent{};
  }
  return true;
}

// ---- names ----

bool Runner::act_on_names(const std::vector<std::string>& w) {
  const std::string& verb = w[0];
  static const std::set<std::string> kVerbs{"truncate", "mkdir", "rmdir",   "unlink", "rename",
                                            "exchange", "link",  "symlink", "chmod",  "setxattr",
                                            "rmxattr",  "put",   "abort"};
  if (!kVerbs.contains(verb)) return false;
  const Place p = place(verb == "symlink" ? w[2] : w[1]);
  if (!p.parent_there || p.path.empty()) return false;
  const auto v = view(p.branch);
  const Tree& t = tree(p.branch);
  const auto change = [&](const std::function<void(Node&)>& fn) {
    effects_.each.push_back([p, fn](World& world) { fn(world.edit(p.branch).nodes.at(p.node)); });
  };
  const auto remove_name = [&] {
    effects_.each.push_back([p](World& world) {
      Tree& changed = world.edit(p.branch);
      changed.nodes.at(p.parent).names.erase(p.name);
      if (changed.links(p.node) == 0) changed.nodes.erase(p.node);
    });
  };
  if (verb == "mkdir" || verb == "symlink") {
    if (p.there) return false;
    const int number = next_node_++;
    Node n;
    n.kind = verb == "mkdir" ? 'd' : 'l';
    n.mode = verb == "mkdir" ? 0755 : 0777;
    n.target = verb == "mkdir" ? "" : w[1];
    will_make(p, number, n);
    const Attr a = verb == "mkdir" ? done(v->mkdir(kMe, dir(p), p.name, 0755), "mkdir")
                                   : done(v->symlink(kMe, dir(p), p.name, w[1]), "symlink");
    told(p.branch, number, a.node);
    return true;
  }
  if (verb == "abort") {  // a put that is given up
    const auto in = done(fs_->incoming(*v, dir(p), p.name), "put");
    done(in->write(0, bytes_from(num(w[3]), num(w[2]))), "put: write");
    return true;
  }
  if (verb == "put") {
    if (p.there && node(p).kind != 'f') return false;
    const Bytes b = bytes_from(num(w[3]), num(w[2]));
    const int number = next_node_++;
    Node n;
    n.mode = p.there ? node(p).mode : 0644;
    n.kept = text(b);
    Session* old = p.there ? session(p.branch, p.node) : nullptr;
    if (old != nullptr) will_keep({p.branch, p.node}, *old);
    effects_.each.push_back([p, number, n](World& world) {
      Tree& changed = world.edit(p.branch);
      changed.nodes[number] = n;
      changed.nodes.at(p.parent).names[p.name] = number;
      if (p.there && changed.links(p.node) == 0) changed.nodes.erase(p.node);
    });
    const auto in = done(fs_->incoming(*v, dir(p), p.name), "put");
    done(in->write(0, b), "put: write");
    const Attr a = done(in->commit(kMe, {}), "put: commit");
    told(p.branch, number, a.node);
    if (old != nullptr) {
      old->dirty_since = 0;
      lost_name(p.branch, p.node, t.links(p.node) - 1);
    }
    return true;
  }
  if (!p.there || p.node == 0) return false;
  const Node& n = node(p);
  if (verb == "truncate") {
    if (n.kind != 'f') return false;
    Session* s = session(p.branch, p.node);
    Bytes b = s != nullptr ? s->live : n.kept ? n.kept->bytes : Bytes{};
    b.resize(num(w[2]));
    change([content = text(b)](Node& changed) { changed.kept = content; });
    SetAttr set;
    set.size = num(w[2]);
    (void)done(v->setattr(kMe, id(p), set), "truncate");
    if (s != nullptr) {
      s->live = std::move(b);
      s->dirty_since = 0;
    }
  } else if (verb == "chmod") {
    const auto mode = static_cast<std::uint32_t>(std::stoul(w[2], nullptr, 8));
    if (n.kind == 'l') return false;
    change([mode](Node& changed) { changed.mode = mode; });
    SetAttr set;
    set.mode = mode;
    if (fault_.holds_back)
      held_.emplace_back(4, [v, node = id(p), set] { (void)v->setattr(kMe, node, set); });
    else
      (void)done(v->setattr(kMe, id(p), set), "chmod");
  } else if (verb == "setxattr") {
    if (n.kind == 'l') return false;
    change([name = w[2], value = w[3]](Node& changed) { changed.xattrs[name] = value; });
    if (fault_.holds_back)
      held_.emplace_back(4, [v, node = id(p), name = w[2], value = w[3]] {
        (void)v->setxattr(kMe, node, name, as_view(value), 0);
      });
    else
      done(v->setxattr(kMe, id(p), w[2], as_view(w[3]), 0), "setxattr");
  } else if (verb == "rmxattr") {
    if (!n.xattrs.contains(w[2])) return false;
    change([name = w[2]](Node& changed) { changed.xattrs.erase(name); });
    done(v->removexattr(kMe, id(p), w[2]), "removexattr");
  } else if (verb == "rmdir") {
    if (n.kind != 'd' || !n.names.empty()) return false;
    remove_name();
    done(v->rmdir(kMe, dir(p), p.name), "rmdir");
  } else if (verb == "unlink") {
    if (n.kind == 'd') return false;
    remove_name();
    const int left = t.links(p.node) - 1;
    done(v->unlink(kMe, dir(p), p.name), "unlink");
    lost_name(p.branch, p.node, left);
  } else {
    const Place to = place(w[2]);
    if (to.branch != p.branch || !to.parent_there || to.node == p.node || to.path.empty()) return false;
    if (n.kind == 'd' && t.inside(to.parent, p.node)) return false;
    if (verb == "link") {
      if (to.there || n.kind == 'd') return false;
      effects_.each.push_back(
          [p, to](World& world) { world.edit(p.branch).nodes.at(to.parent).names[to.name] = p.node; });
      (void)done(v->link(kMe, id(p), dir(to), to.name), "link");
    } else if (verb == "exchange") {
      if (!to.there || (node(to).kind == 'd' && t.inside(p.parent, to.node))) return false;
      effects_.each.push_back([p, to](World& world) {
        Tree& changed = world.edit(p.branch);
        changed.nodes.at(p.parent).names[p.name] = to.node;
        changed.nodes.at(to.parent).names[to.name] = p.node;
      });
      done(v->rename(kMe, dir(p), p.name, dir(to), to.name, RENAME_EXCHANGE), "exchange");
    } else {
      if (to.there && (node(to).kind == 'd') != (n.kind == 'd')) return false;
      if (to.there && node(to).kind == 'd' && !node(to).names.empty()) return false;
      // What was written to the one that is replaced becomes a version first (S13).
      Session* old = to.there ? session(p.branch, to.node) : nullptr;
      if (old != nullptr) will_keep({p.branch, to.node}, *old);
      effects_.each.push_back([p, to](World& world) {
        Tree& changed = world.edit(p.branch);
        changed.nodes.at(p.parent).names.erase(p.name);
        changed.nodes.at(to.parent).names[to.name] = p.node;
        if (to.there && changed.links(to.node) == 0) changed.nodes.erase(to.node);
      });
      const int left = to.there ? t.links(to.node) - 1 : 0;
      done(v->rename(kMe, dir(p), p.name, dir(to), to.name, 0), "rename");
      if (old != nullptr) old->dirty_since = 0;
      if (to.there) lost_name(p.branch, to.node, left);
    }
  }
  return true;
}

// ---- the vault as a whole ----

bool Runner::act_on_vault(const std::vector<std::string>& w) {
  const std::string& verb = w[0];
  const auto keep_all = [&](const std::string& branch) {
    for (const auto& [key, s] : sessions_)
      if (branch.empty() || key.first == branch) will_keep(key, s);
    effects_.any_order = true;
  };
  /// With the branch's sessions, in one transaction.
  const auto together = [&](Effect last) {
    Effect all = [each = std::move(effects_.each), last = std::move(last)](World& world) {
      for (const Effect& e : each) e(world);
      last(world);
    };
    effects_ = {};
    effects_.each.push_back(std::move(all));
  };
  if (verb == "sync") {
    effects_.barrier = true;
    done(view("main")->sync(), "sync");
  } else if (verb == "syncall" || verb == "syncrows") {
    if (verb == "syncall") keep_all("");
    effects_.barrier = true;
    done(fs_->sync(verb == "syncall"), "sync");
    if (verb == "syncall") clean("");
  } else if (verb == "snapshot") {
    if (!now().branches.contains(w[1]) || now().snapshots.contains(w[2])) return false;
    keep_all(w[1]);
    together([from = w[1], name = w[2]](World& world) { world.snapshots[name] = world.branches.at(from); });
    (void)done(fs_->create_snapshot(kWho, "main", w[1], w[2], ""), "snapshot");
    clean(w[1]);
  } else if (verb == "unsnapshot") {
    if (!now().snapshots.contains(w[1])) return false;
    effects_.each.push_back([name = w[1]](World& world) { world.snapshots.erase(name); });
    done(fs_->delete_snapshot(kWho, "main", w[1]), "unsnapshot");
  } else if (verb == "fork") {
    if (!now().branches.contains(w[2]) || now().branches.contains(w[1])) return false;
    keep_all(w[2]);
    together([from = w[2], name = w[1]](World& world) { world.branches[name] = world.branches.at(from); });
    FileSystem::ForkFrom from;
    from.branch = w[2];
    (void)done(fs_->fork(kWho, "main", w[1], from), "fork");
    clean(w[2]);
  } else if (verb == "forksnap") {  // a fork of a moment
    if (!now().snapshots.contains(w[2]) || now().branches.contains(w[1])) return false;
    effects_.each.push_back(
        [from = w[2], name = w[1]](World& world) { world.branches[name] = world.snapshots.at(from); });
    FileSystem::ForkFrom from;
    from.snapshot = w[2];
    (void)done(fs_->fork(kWho, "main", w[1], from), "fork");
  } else if (verb == "namefork") {
    if (w[1] == "main" || !now().branches.contains(w[1]) || now().branches.contains(w[2])) return false;
    for (const auto& [key, s] : sessions_)
      if (key.first == w[1]) return false;
    views_.erase(w[1]);
    effects_.each.push_back([from = w[1], to = w[2]](World& world) {
      world.branches[to] = world.branches.at(from);
      world.branches.erase(from);
    });
    done(fs_->rename_branch(kWho, "main", w[1], w[2]), "rename of a branch");
  } else if (verb == "unfork") {
    if (w[1] == "main" || !now().branches.contains(w[1])) return false;
    for (const auto& [key, s] : sessions_)
      if (key.first == w[1]) return false;
    views_.erase(w[1]);
    effects_.each.push_back([name = w[1]](World& world) { world.branches.erase(name); });
    done(fs_->delete_branch(kWho, "main", w[1]), "unfork");
  } else if (verb == "tick") {
    clock_.advance(static_cast<TimeNs>(num(w[1])) * kMs);
    effects_.any_order = true;
    for (auto& [key, s] : sessions_)
      if (s.dirty() && clock_.steady() - s.dirty_since >= 4 * kSecond) will_keep(key, s);
    effects_.barrier = owed_ != 0 && clock_.steady() - owed_ >= 4 * kSecond;  // within the five seconds (D2)
    for (std::uint64_t i = 0; i < num(w[2]); ++i) (void)done(fs_->tick(), "tick");
    for (auto& [key, s] : sessions_)
      if (s.dirty() && clock_.steady() - s.dirty_since >= 4 * kSecond) s.dirty_since = 0;
  } else if (verb == "rest") {  // nothing happens for 5 s: all that was written is durable (D2)
    keep_all("");
    effects_.barrier = true;
    for (int i = 0; i < 10; ++i) {
      clock_.advance(500 * kMs);
      (void)done(fs_->tick(), "tick");
    }
    clean("");
  } else if (verb == "settle") {
    for (const auto& [key, s] : sessions_)
      if (s.unlinked) return false;
    keep_all("");
    effects_.barrier = true;
    come_to_rest();
    clean("");
  } else if (verb == "reopen") {
    keep_all("");
    effects_.barrier = true;
    held_.clear();
    drop_handles();
    fs_.reset();
    if (!disk_->power()) throw PowerWent{};
    auto fs = FileSystem::open(dir_, its_options());
    if (!disk_->power()) {
      if (fs) fs_ = std::move(*fs);
      throw PowerWent{};
    }
    fs_ = done(std::move(fs), "open");
  } else if (verb == "vault") {  // its kind: the first line of a history
    return true;
  } else if (verb == "meddle") {
    effects_.barrier = true;
    done(fs_->sync(false), "sync");
    if (fault_.meddle) fault_.meddle(*disk_, shared_vfs().name(), dir_);
  } else {
    return false;
  }
  return true;
}

}  // namespace

Outcome run(const History& h, const Fault& fault) { return Runner{fault}.run(h); }

Outcome run_making(std::uint64_t step, std::uint64_t seed) {
  const Fault none;
  return Runner{none}.run_making(step, seed);
}

}  // namespace indra::lab
