// Random histories with backups in between, each restored and compared with what the vault showed when it was
// begun.
#include <cstdlib>

#include "backup/internal/test_backup.h"

namespace indra {
namespace {

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* s = std::getenv(name);
  return s != nullptr ? std::strtoull(s, nullptr, 10) : otherwise;
}

class History {
 public:
  explicit History(std::uint64_t seed) : random_{seed} {
    v_.single_file = seed % 5 == 4;
    v_.open(true);
  }
  void play() {
    for (int round = 0; round < 4; ++round) {
      steps(12);
      const auto shown = Shown{v_}.all;
      BackupOptions o{.verify = pick(3) == 0, .pack_size = std::uint64_t{1} << (16 + pick(6))};
      o.faults = FaultPoints{[&](std::string_view point) -> Result<void> {
        if (point == "backup.copy") steps(8);  // goes on beside it
        return point == "backup.block" && cut_ && pick(4) == 0 ? fail(EIO, "planted") : Result<void>{};
      }};
      cut_ = pick(4) == 0;
      const auto r = back_up(source_of(v_), dest_, o);
      if (r) {
        EXPECT_EQ(r->damage, std::vector<std::string>{});
        last_ = shown;
      } else {
        EXPECT_TRUE(cut_) << r.error().text();
      }
      if (last_.empty()) continue;
      const auto w = restored(dest_, v_.single_file);
      EXPECT_EQ(Shown{*w}.all, last_);
    }
  }

 private:
  std::uint64_t pick(std::uint64_t n) { return random_() % n; }

  void steps(int n) {
    for (int i = 0; i < n; ++i) step();
  }
  void step() {
    const std::string name = "f" + std::to_string(pick(5)), path = "/" + name;
    const NodeId root = v_.view->root();
    switch (pick(12)) {
      case 0:
      case 1:  // a new file, or the end of one that is there
        v_.put(path, TestVault::bytes(1 + pick(pick(3) == 0 ? 3000 : 400'000), ++seed_), pick(100'000));
        break;
      case 2:
      case 3:
      case 4: {  // small and synchronous: patches, folded in place later
        const auto there = resolve_path(*v_.view, path);
        if (!there || there->size < 70'000) break;
        const Handle h = must(v_.view->open(v_.me, there->node, O_RDWR));
        must(v_.view->write(v_.me, h, pick(there->size - 4096),
                            as_view(TestVault::bytes(1 + pick(4096), ++seed_)), false, false));
        must(v_.view->fsync(v_.me, h, true));
        v_.view->release(h);
        break;
      }
      case 5:
        (void)v_.view->unlink(v_.me, root, name);
        break;
      case 6:
        if (const auto there = resolve_path(*v_.view, path))
          must(v_.view->setxattr(v_.me, there->node, "user.indra.versions",
                                 as_view(pick(2) == 0 ? "off" : "on"), 0));
        break;
      case 7:
        (void)v_.fs->create_snapshot({}, "main", "main", "s" + std::to_string(pick(3)), "");
        break;
      case 8:
        (void)v_.fs->delete_snapshot({}, "main", "s" + std::to_string(pick(3)));
        break;
      case 9: {
        const std::string branch = "b" + std::to_string(pick(2));
        if (!v_.fs->create_branch({}, "main", branch, "main", ""))
          (void)v_.fs->delete_branch({}, "main", branch);
        break;
      }
      case 10:
        v_.clock.pass(static_cast<TimeNs>(pick(20)) * kSecond);
        for (int i = 0; i < 50 && must(v_.fs->tick()); ++i) v_.clock.pass(kSecond / 4);
        break;
      default:
        v_.clock.pass(10 * kSecond);
        must(v_.fs->settle());
    }
  }

  std::mt19937_64 random_;
  TestVault v_;
  const std::string dest_ = v_.dir + "/backup";
  std::map<std::string, std::string> last_;
  unsigned seed_ = 1000;
  bool cut_ = false;
};

// R1..R6. INDRA_HISTORIES=N more of them, INDRA_SEED=N from there on.
TEST(BackupProperty, GivenAHistoryWithBackupsInIt_WhenEachIsRestored_ThenItIsTheMomentItBegan) {
  const std::uint64_t seed = setting("INDRA_SEED", 1), histories = setting("INDRA_HISTORIES", 12);
  for (std::uint64_t i = seed; i < seed + histories; ++i) {
    SCOPED_TRACE("INDRA_SEED=" + std::to_string(i));
    History h{i};
    h.play();
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace indra
