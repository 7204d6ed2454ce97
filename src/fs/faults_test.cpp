// D6, D7: every write, sync, creation, removal and punch below a vault fails in turn, in a fixed history.
// Whoever asked hears of it at the latest on fsync, close or sync; nothing else is damaged; the vault goes on
// or takes no more changes; and what it is opened to again is sound.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "db/vfs.h"
#include "fs/filesystem.h"
#include "testkit/nth_fault.h"

namespace indra {
namespace {

using Op = NthFault::Op;

/// What a name may show: its states in order, of which those before `acked` were replaced by calls that were
/// answered well, those before `durable` by such as a sync covers.
struct Name {
  std::vector<std::string> states{"(absent)"};
  std::size_t acked = 0, durable = 0;
  bool torn = false;  // a write failed half way: bytes of two states
};

class History {
 public:
  explicit History(const NthFault::Plan& plan) : plan_{plan} {
    char name[] = "/dev/shm/indra-faults-XXXXXX";
    char other[] = "/tmp/indra-faults-XXXXXX";
    dir_ = mkdtemp(name) != nullptr ? name : mkdtemp(other);
    disk_ = fault_.over(real_disk());
    set_vfs_fault([this](const DiskEvent& e) {
      const int code = fault_.ask(e.kind == DiskEvent::sync ? Op::sync : Op::write);
      if (code == 0) return SQLITE_OK;
      if (e.kind == DiskEvent::sync) return SQLITE_IOERR_FSYNC;
      return code == ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    });
    open();
  }
  ~History() {
    fault_.disarm();
    view_.reset();
    fs_.reset();
    set_vfs_fault(nullptr);
    std::filesystem::remove_all(dir_);
  }

  void run() {
    fault_.arm(plan_);
    whole("a", std::string(200000, 'A'), true);
    whole("b", std::string(500, 'B'), false);
    sync();
    patch("a", 65536 + 8192, std::string(4096, 'C'));
    whole("c", std::string(70000, 'D'), false);
    replace("c", "b");
    put("a", std::string(100000, 'E'));
    heard(static_cast<bool>(fs_->create_snapshot({}, "main", "main", "s", "")));
    background();
    remove("b");
    whole("d", std::string(3 << 20, 'F'), true);
    patch("d", 1 << 20, std::string(3000, 'G'));
    background();
    put("b", std::string(20, 'H'));
    cut("d", 1000);
    sync();
    failed_ = fs_->status() ? fs_->status()->failed : true;
    if (!plan_.for_good) fault_.disarm();
  }

  /// Works on, if it can, is closed, opened again, and looked at.
  void check() {
    if (failed_) EXPECT_GT(errors_, 0) << "the vault takes no more changes, and nobody was told";
    if (plan_.code == ENOSPC) EXPECT_FALSE(failed_) << "a full disk passes";
    if (!failed_ && !plan_.for_good) {
      const int before = errors_;
      whole("e", std::string(300000, 'I'), true);
      EXPECT_EQ(errors_, before) << "the fault is over, and the vault is not failed";
    }
    view_.reset();
    fs_.reset();
    fault_.disarm();
    open();
    if (!fs_) return;
    for (auto& [name, n] : names_) {
      const std::string found = read(name);
      // A disk that fails until the vault is closed keeps what was durable.
      const std::size_t from = failed_ || plan_.for_good ? n.durable : n.acked;
      bool good = false;
      for (std::size_t i = from; i < n.states.size(); ++i) good = good || n.states[i] == found;
      if (!good && n.torn) good = mixed(n, from, found);
      EXPECT_TRUE(good) << name << " is " << shown(found) << ", expected one from " << shown(n.states[from])
                        << " to " << shown(n.states.back()) << (failed_ ? ", failed" : "");
    }
    clock_.advance(10 * kSecond);
    const auto rest = fs_->settle();
    EXPECT_TRUE(rest) << (rest ? "" : rest.error().text());
    EXPECT_TRUE(fs_->status() && fs_->status()->content.damage.empty());
  }

  [[nodiscard]] int fired() const { return fault_.fired(); }
  [[nodiscard]] int operations() const { return fault_.count(); }

 private:
  void open() {
    FileSystem::Options o;
    o.create = true;
    o.background = false;
    o.clock = &clock_;
    o.disk = disk_.get();
    auto fs = FileSystem::open(dir_ + "/v", o);
    EXPECT_TRUE(fs) << (fs ? "" : fs.error().text());
    if (!fs) return;
    fs_ = std::move(*fs);
    view_ = *fs_->open_view({}, nullptr);
  }
  bool heard(bool good) {
    errors_ += good ? 0 : 1;
    return good;
  }
  void became(const std::string& name, std::string state, bool good) {
    Name& n = names_[name];
    n.states.push_back(std::move(state));
    if (heard(good)) n.acked = n.states.size() - 1;
  }
  /// A barrier covers all that was mutated before it.
  void covered() {
    for (auto& [name, n] : names_) n.durable = n.acked;
  }
  void sync() {
    if (heard(static_cast<bool>(fs_->sync(true)))) covered();
  }
  void background() {
    clock_.advance(10 * kSecond);
    for (int i = 0; i < 30; ++i) (void)fs_->tick();
    clock_.advance(10 * kSecond);
    for (int i = 0; i < 30; ++i) (void)fs_->tick();
  }
  void finish(const std::string& name, Handle h, const Result<void>& written, std::string state, bool fsync) {
    if (!written) names_[name].torn = true;
    bool good = static_cast<bool>(written);
    bool durable = false;
    if (good && fsync) good = durable = static_cast<bool>(view_->fsync(me_, h, false));
    good = static_cast<bool>(view_->flush(me_, h)) && good;
    view_->release(h);
    became(name, std::move(state), good);
    if (durable && good) covered();
  }
  void whole(const std::string& name, std::string bytes, bool fsync) {
    const auto f = view_->create(me_, view_->root(), name, 0644, O_RDWR);
    if (!heard(static_cast<bool>(f))) return;
    names_[name].states.emplace_back();
    const auto w = view_->write(me_, f->handle, 0, as_view(bytes), false, false);
    finish(name, f->handle, w, std::move(bytes), fsync);
    view_->forget(f->attr.node, 1);
  }
  /// The last change of it failed: what a change of a part would give is not known.
  bool unsure(const std::string& name) { return names_[name].acked + 1 != names_[name].states.size(); }
  void patch(const std::string& name, std::size_t at, const std::string& bytes) {
    const auto a = resolve_path(*view_, "/" + name);
    if (!a || unsure(name)) return;
    const auto h = view_->open(me_, a->node, O_RDWR);
    if (!heard(static_cast<bool>(h))) return;
    std::string state = names_[name].states.back();
    if (at + bytes.size() <= state.size()) state.replace(at, bytes.size(), bytes);
    const auto w = view_->write(me_, *h, at, as_view(bytes), false, false);
    finish(name, *h, w, std::move(state), true);
  }
  void cut(const std::string& name, std::size_t size) {
    const auto a = resolve_path(*view_, "/" + name);
    if (!a || unsure(name)) return;
    SetAttr set;
    set.size = size;
    became(name, names_[name].states.back().substr(0, size),
           static_cast<bool>(view_->setattr(me_, a->node, set)));
  }
  void put(const std::string& name, std::string bytes) {
    auto in = fs_->incoming(*view_, view_->root(), name);
    if (!heard(static_cast<bool>(in))) return;
    const bool good = (*in)->write(0, as_view(bytes)) && (*in)->commit(me_, {});
    became(name, std::move(bytes), good);
  }
  void replace(const std::string& from, const std::string& to) {
    if (!resolve_path(*view_, "/" + from)) return;
    const bool good = static_cast<bool>(view_->rename(me_, view_->root(), from, view_->root(), to, 0));
    std::string state = names_[from].states.back();
    names_[to].torn = names_[to].torn || names_[from].torn || unsure(from);
    became(to, std::move(state), good);
    became(from, "(absent)", good);
  }
  void remove(const std::string& name) {
    if (!resolve_path(*view_, "/" + name)) return;
    became(name, "(absent)", static_cast<bool>(view_->unlink(me_, view_->root(), name)));
  }
  std::string read(const std::string& name) {
    const auto a = resolve_path(*view_, "/" + name);
    if (!a) return a.error().code == std::errc::no_such_file_or_directory ? "(absent)" : a.error().text();
    const auto h = view_->open(me_, a->node, O_RDONLY);
    if (!h) return h.error().text();
    Bytes b(a->size);
    const auto n = view_->read(*h, 0, b);
    view_->release(*h);
    if (!n) return n.error().text();
    return std::string{as_text(ByteView{b}.first(*n))};
  }
  static bool mixed(const Name& n, std::size_t from, const std::string& found) {
    for (std::size_t at = 0; at < found.size(); ++at) {
      bool known = false;
      for (std::size_t i = from; i < n.states.size() && !known; ++i)
        known = at < n.states[i].size() && n.states[i][at] == found[at];
      if (!known) return false;
    }
    return true;
  }
  static std::string shown(const std::string& s) {
    return s.size() < 60 ? s : std::to_string(s.size()) + " bytes of " + s.substr(0, 3);
  }

  const NthFault::Plan plan_;
  NthFault fault_;
  std::unique_ptr<Disk> disk_;
  std::string dir_;
  ManualClock clock_;
  std::unique_ptr<FileSystem> fs_;
  std::shared_ptr<View> view_;
  Caller me_{0, 0, 0};
  std::map<std::string, Name> names_;
  int errors_ = 0;
  bool failed_ = false;
};

std::string name_of(const NthFault::Plan& p) {
  return std::string{p.code == EIO ? "Eio" : "Enospc"} + (p.for_good ? "ForGood" : "Once") +
         (p.partial ? "HalfWritten" : "");
}

class Faults : public testing::TestWithParam<NthFault::Plan> {};

TEST_P(Faults, EachOperationFailsInTurn) {
  NthFault::Plan plan = GetParam();
  int last = 0;
  {
    History h{NthFault::Plan{.nth = 0, .code = plan.code, .for_good = false, .partial = false}};
    h.run();
    last = h.operations();
    h.check();
    if (HasFailure()) return;
  }
  ASSERT_GT(last, 30);
  for (plan.nth = 1; plan.nth <= last; ++plan.nth) {
    SCOPED_TRACE("operation " + std::to_string(plan.nth) + " of " + std::to_string(last));
    History h{plan};
    h.run();
    h.check();
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Faults,
    testing::Values(NthFault::Plan{.nth = 0, .code = EIO, .for_good = false, .partial = false},
                    NthFault::Plan{.nth = 0, .code = EIO, .for_good = true, .partial = false},
                    NthFault::Plan{.nth = 0, .code = ENOSPC, .for_good = false, .partial = false},
                    NthFault::Plan{.nth = 0, .code = ENOSPC, .for_good = true, .partial = false},
                    NthFault::Plan{.nth = 0, .code = ENOSPC, .for_good = false, .partial = true}),
    [](const auto& i) { return name_of(i.param); });

}  // namespace
void PrintTo(const NthFault::Plan& p, std::ostream* os) { *os << name_of(p); }
}  // namespace indra
