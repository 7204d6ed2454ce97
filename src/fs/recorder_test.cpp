// D1, D3 of docs/durability.md: a recorder below SQLite and below the segments sees each write and each flush
// of a vault, and answers at every reply of fsync, of a directory's fsync and of sync whether all that was
// written before it had been flushed. Planted faults swallow flushes and must be noticed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <set>

#include "db/vfs.h"
#include "fs/filesystem.h"
#include "testkit/must.h"

namespace indra {
namespace {

enum class Target { segment, directory, wal, database };
constexpr Target kTargets[] = {Target::segment, Target::directory, Target::wal, Target::database};
const char* name_of(Target t) {
  constexpr const char* kNames[] = {"segment", "directory", "wal", "database"};
  return kNames[static_cast<int>(t)];
}

Target target_of(const DiskEvent& e) {
  if (e.kind == DiskEvent::sync_dir) return Target::directory;
  if (e.path.ends_with("-wal")) return Target::wal;
  return e.path.ends_with(".db") ? Target::database : Target::segment;
}

/// The flushes that are lost: of these, from the `from`-th on (1 is the first), `count` of them.
struct Lost {
  Target of = Target::segment;
  int from = 0;  // 0: none
  int count = 0;
};

/// Knows what is written and not flushed.
class Recorder {
 public:
  explicit Recorder(Lost lost) : lost_{lost} {}

  void saw(const DiskEvent& e) {
    const std::scoped_lock lock{mutex_};
    const Target t = target_of(e);
    switch (e.kind) {
      case DiskEvent::create:
        if (t == Target::database) break;  // made durable with the vault's own directory
        names_.insert(std::filesystem::path{e.path}.parent_path());
        ++created_;
        break;
      case DiskEvent::remove:
        dirty_.erase(e.path);
        break;
      case DiskEvent::write:
        // A commit must not refer to bytes that are not flushed yet (D3), and pages that were moved into the
        // database must be flushed before the WAL, their only durable copy, is written over.
        if (t == Target::wal) {
          for (const auto& [path, of] : dirty_)
            if (of == Target::segment) complain("the WAL is written before the flush of " + path);
          for (const auto& dir : names_) complain("the WAL is written before the flush of " + dir);
          need({Target::segment, Target::directory});
        }
        dirty_[e.path] = t;
        break;
      case DiskEvent::sync:
        flushed(e.path, t, dirty_.erase(e.path) != 0);
        break;
      case DiskEvent::sync_dir:
        flushed(e.path, t, names_.erase(e.path) != 0);
        break;
    }
  }
  /// True: this flush is lost, though its caller hears that it was done.
  bool loses(Target t) {
    const std::scoped_lock lock{mutex_};
    if (lost_.from == 0 || t != lost_.of) return false;
    const int n = ++asked_;
    return n >= lost_.from && n < lost_.from + lost_.count;
  }
  /// A call that promises durability has answered. Pages in vault.db are also in the WAL: they do not count.
  void replied(const std::string& call) {
    const std::scoped_lock lock{mutex_};
    ++replies_;
    for (const auto& [path, of] : dirty_)
      if (of != Target::database) complain(call + " answered before the flush of " + path);
    for (const auto& dir : names_) complain(call + " answered before the flush of " + dir);
    need({Target::segment, Target::directory, Target::wal});
  }
  /// A checkpoint is done: the WAL may be written over, so nothing may be in it alone.
  void checkpointed() {
    replied("checkpoint");
    const std::scoped_lock lock{mutex_};
    for (const auto& [path, of] : dirty_)
      if (of == Target::database) complain("a checkpoint ended before the flush of " + path);
    need({Target::database});
  }

  [[nodiscard]] std::vector<std::string> complaints() const { return complaints_; }
  [[nodiscard]] int flushes(Target t) const {
    const auto it = flushes_.find(t);
    return it == flushes_.end() ? 0 : it->second;
  }
  /// The flushes (1 is the first) that something relied on before another one of the same file came.
  [[nodiscard]] std::vector<int> needed(Target t) const {
    const auto it = needed_.find(t);
    return it == needed_.end() ? std::vector<int>{} : it->second;
  }
  [[nodiscard]] int created() const { return created_; }
  [[nodiscard]] int replies() const { return replies_; }

 private:
  void flushed(const std::string& path, Target t, bool had_news) {
    ++flushes_[t];
    last_.erase(path);
    if (had_news) last_[path] = {t, flushes_[t]};
  }
  void need(const std::set<Target>& targets) {
    std::erase_if(last_, [&](const auto& flush) {
      const auto& [of, nth] = flush.second;
      if (!targets.contains(of)) return false;
      needed_[of].push_back(nth);
      return true;
    });
  }
  void complain(std::string what) {
    if (complaints_.size() < 5) complaints_.push_back(std::move(what));
  }

  mutable std::mutex mutex_;
  Lost lost_;
  int asked_ = 0, created_ = 0, replies_ = 0;
  std::map<std::string, Target> dirty_;
  std::set<std::string> names_;  // directories with a new name
  std::map<Target, int> flushes_;
  std::map<std::string, std::pair<Target, int>> last_;  // flushes that nothing has relied on yet
  std::map<Target, std::vector<int>> needed_;
  std::vector<std::string> complaints_;
};

/// The machine's disk. Flushes go to the recorder instead of the device: what counts is that they were asked
/// for, and a test that waits for a device thousands of times would be run less often.
class ForgetfulDisk final : public Disk {
  class File final : public DiskFile {
   public:
    File(std::unique_ptr<DiskFile> below, std::string path, Recorder& r)
        : below_{std::move(below)}, path_{std::move(path)}, recorder_{r} {}
    Result<std::size_t> read(std::uint64_t at, MutableBytes out) const override {
      return below_->read(at, out);
    }
    Result<void> write(std::uint64_t at, ByteView b) override { return below_->write(at, b); }
    Result<void> sync() override {
      if (!recorder_.loses(Target::segment)) recorder_.saw({DiskEvent::sync, path_});
      return {};
    }
    Result<void> punch(std::uint64_t at, std::uint64_t n) override { return below_->punch(at, n); }
    Result<std::uint64_t> size() const override { return below_->size(); }
    Result<std::uint64_t> allocated() const override { return below_->allocated(); }

   private:
    std::unique_ptr<DiskFile> below_;
    std::string path_;
    Recorder& recorder_;
  };

 public:
  explicit ForgetfulDisk(Recorder& r)
      : recorder_{r}, below_{observed_disk(real_disk(), [&r](const DiskEvent& e) { r.saw(e); })} {}
  Result<std::unique_ptr<DiskFile>> open(const std::string& path, bool create) override {
    INDRA_LET(auto f, below_->open(path, create));
    return std::make_unique<File>(std::move(f), path, recorder_);
  }
  bool exists(const std::string& path) override { return below_->exists(path); }
  Result<std::unique_ptr<DiskMap>> map(const std::string& path, std::size_t size) override {
    return below_->map(path, size);
  }
  std::uint64_t boot() const override { return below_->boot(); }
  Result<void> make_dir(const std::string& path) override { return below_->make_dir(path); }
  Result<void> remove(const std::string& path) override { return below_->remove(path); }
  Result<std::vector<std::string>> list(const std::string& dir) override { return below_->list(dir); }
  Result<void> sync_dir(const std::string& path) override {
    if (!recorder_.loses(Target::directory)) recorder_.saw({DiskEvent::sync_dir, path});
    return {};
  }
  Result<Space> space(const std::string& path) override { return below_->space(path); }

 private:
  Recorder& recorder_;
  std::unique_ptr<Disk> below_;
};

/// Plays one history on a new vault: the first commit, small and large files, patches, names, folding,
/// checkpoints, and segments that are full after a few files.
void play(Recorder& recorder, std::uint64_t seed, int steps) {
  char name[] = "/tmp/indra-recorder-XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  const std::string dir = name;
  ForgetfulDisk disk{recorder};
  set_vfs_observer([&](const DiskEvent& e) { recorder.saw(e); });
  set_vfs_fault([&](const DiskEvent& e) {
    if (e.kind != DiskEvent::sync) return SQLITE_OK;
    if (!recorder.loses(target_of(e))) recorder.saw(e);
    return kSwallow;
  });
  const struct CleanUp {
    const std::string& dir;
    ~CleanUp() {
      set_vfs_observer(nullptr);
      set_vfs_fault(nullptr);
      std::filesystem::remove_all(dir);
    }
  } clean_up{dir};

  ManualClock clock;
  FileSystem::Options o;
  o.create = true;
  o.background = false;
  o.clock = &clock;
  o.disk = &disk;
  o.content.workers = 1;
  o.content.segment_size = 1 << 20;
  o.content.fold_after = 0;  // settle() need not wait for the clock
  const auto fs = must(FileSystem::open(dir + "/v", o));
  recorder.replied("open");
  const auto view = must(fs->open_view({}, nullptr));
  const Caller me{0, 0, 0};
  const NodeId root = view->root();
  std::mt19937_64 random{seed};
  const auto noise = [&](std::size_t n) {
    Bytes b(n);
    for (auto& x : b) x = static_cast<std::byte>(random());
    return b;
  };
  const Opened big = must(view->create(me, root, "big", 0644, O_RDWR));
  must(view->write(me, big.handle, 0, noise(1 << 20), false, false));
  must(view->fsync(me, big.handle, false));
  recorder.replied("the first fsync");

  for (int i = 0; i < steps; ++i) {
    const std::string file = "f" + std::to_string(random() % 12);
    switch (random() % 7) {
      case 0:    // a new file, small or large, in place of the one of that name
      case 1: {  // ... renamed over it
        const bool large = random() % 4 == 0;
        const std::string temp = file + ".new";
        const Opened f = must(view->create(me, root, temp, 0644, O_RDWR));
        must(view->write(me, f.handle, 0, noise(large ? 300'000 + random() % 600'000 : random() % 3000),
                         false, false));
        must(view->fsync(me, f.handle, random() % 2 == 0));
        recorder.replied("fsync of a new file");
        must(view->flush(me, f.handle));
        view->release(f.handle);
        must(view->rename(me, root, temp, root, file, 0));
        must(view->sync());
        recorder.replied("fsync of a directory");
        break;
      }
      case 2:  // small synchronous edits: patches
      case 3:
        for (int n = 0; n < 3; ++n) {
          const Bytes edit = noise(1 + random() % 4000);
          must(view->write(me, big.handle, random() % (1 << 20), edit, false, false));
          must(view->fsync(me, big.handle, random() % 2 == 0));
          recorder.replied("fsync of an edit");
        }
        break;
      case 4: {
        must(view->mkdir(me, root, "d" + std::to_string(i), 0755));
        const Bytes edit = noise(random() % 70'000);
        must(view->write(me, big.handle, random() % (1 << 20), edit, false, false));
        must(fs->sync(random() % 2 == 0));
        recorder.replied("sync");
        break;
      }
      case 5:
        (void)view->unlink(me, root, file);
        must(view->sync());
        recorder.replied("fsync of a directory");
        break;
      default:
        clock.advance(3 * kSecond);
        if (random() % 3 != 0) {
          (void)must(fs->tick());
          break;
        }
        must(view->flush(me, big.handle));
        must(fs->settle());
        recorder.checkpointed();
    }
  }
  view->release(big.handle);
}

}  // namespace

// D1, D3
TEST(Recorder, EveryReplyComesAfterTheFlushOfAllItCovers) {
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    Recorder recorder{{}};
    play(recorder, seed, 120);
    for (const std::string& c : recorder.complaints()) ADD_FAILURE() << "seed " << seed << ": " << c;
    // The history has what it is meant to have.
    EXPECT_GT(recorder.replies(), 100);
    EXPECT_GE(recorder.created(), 3) << "segments";
    EXPECT_GE(recorder.flushes(Target::segment), 10);
    EXPECT_GE(recorder.flushes(Target::directory), 3);
    EXPECT_GE(recorder.flushes(Target::wal), 100);
    EXPECT_GE(recorder.flushes(Target::database), 2);
  }
}

// The proof of the proof: a flush that is dropped is noticed, whichever file it was for.
TEST(Recorder, ADroppedFlushIsNoticed) {
  for (const Target t : kTargets) {
    Recorder sound{{}};
    play(sound, 4, 40);
    ASSERT_TRUE(sound.complaints().empty()) << sound.complaints().front();
    const std::vector<int> needed = sound.needed(t);
    ASSERT_GE(needed.size(), 2u) << name_of(t);
    for (std::size_t i = 0; i < needed.size(); i += std::max<std::size_t>(1, needed.size() / 10)) {
      Recorder recorder{{t, needed[i], 1}};
      play(recorder, 4, 40);
      EXPECT_FALSE(recorder.complaints().empty()) << name_of(t) << " flush " << needed[i];
    }
    Recorder recorder{{t, 2, 1 << 30}};
    play(recorder, 4, 40);
    EXPECT_FALSE(recorder.complaints().empty()) << name_of(t) << ": all but the first";
  }
}

}  // namespace indra
