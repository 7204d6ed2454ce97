// docs/decisions/0006-overlays.md, by what mountinfo says. With real overlays: tests/cli/conditions.sh.
#include "fs/overlay.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "db/test_dir.h"

namespace indra {
namespace {

struct Layers {
  TestDir dir;
  std::string real = std::filesystem::canonical(dir / "").string();
  Layers() {
    for (const char* d : {"merged/sub", "a b/upper/w/segments", "lower/w/segments", "view"})
      std::filesystem::create_directories(dir / d);
  }
  [[nodiscard]] std::vector<MountInfo> mounts(const std::string& upper) const {
    return parse_mountinfo(
        "22 1 254:0 / / rw shared:1 - ext4 /dev/root rw\n"
        "30 22 0:40 / " +
        real + "/merged rw - overlay none rw,lowerdir=" + real + "/lower,upperdir=" + upper +
        ",workdir=/x\n"
        "31 22 0:40 /w " +
        real + "/view rw - overlay none rw,lowerdir=" + real + "/lower,upperdir=" + upper + ",workdir=/x\n");
  }
  [[nodiscard]] std::vector<MountInfo> mounts() const { return mounts(real + "/a\\040b/upper"); }
};

TEST(Overlay, GivenADirectoryOnAnOverlay_ThenItsPlaceInTheUpperLayerIsKnown) {
  const Layers t;
  const auto p = overlay_place(t.mounts(), t.real + "/merged/w");
  ASSERT_TRUE(p);
  EXPECT_EQ(p->mountpoint, t.real + "/merged");
  EXPECT_EQ(p->upper, t.real + "/a b/upper/w");
  const auto bound = overlay_place(t.mounts(), t.real + "/view/v");  // a part of it, shown elsewhere
  ASSERT_TRUE(bound);
  EXPECT_EQ(bound->upper, t.real + "/a b/upper/w/v");
}

TEST(Overlay, GivenADirectoryInAnUpperLayer_ThenItIsRefusedWhileTheOverlayIsMounted) {
  const Layers t;
  const auto r = overlay_place(t.mounts(), t.real + "/a b/upper/w");
  ASSERT_FALSE(r);
  EXPECT_EQ(to_errno(r.error()), ENOTSUP);
  EXPECT_NE(r.error().context.find(t.real + "/merged; reach it there"), std::string::npos)
      << r.error().context;
  EXPECT_TRUE(overlay_place({}, t.real + "/a b/upper/w"));
  for (const char* elsewhere : {"/a b", "/a b/upper2", "/lower/w"})
    EXPECT_TRUE(overlay_place(t.mounts(), t.real + elsewhere)) << elsewhere;
}

TEST(Overlay, GivenAnUpperLayerThatIsNotToBeSeen_ThenNothingIsRefused) {
  const Layers t;
  for (const std::string upper : {"/var/lib/nowhere", "upper"}) {
    const auto p = overlay_place(t.mounts(upper), t.real + "/merged/w");
    ASSERT_TRUE(p);
    EXPECT_EQ(p->mountpoint, t.real + "/merged");
    EXPECT_EQ(p->upper, "");
    EXPECT_TRUE(check_layers(t.real + "/lower/w", *p));
  }
}

TEST(Overlay, GivenAVaultOfWhichAPartComesFromBelow_ThenItIsRefused) {
  const Layers t;
  // Stands for what the overlay shows: all that is in either layer.
  const std::string shown = t.real + "/lower/w";
  const OverlayPlace p{t.real + "/merged", t.real + "/a b/upper/w"};
  EXPECT_TRUE(check_layers(shown, p));  // nothing is there yet
  for (const char* name : {"lower/w/vault.db", "lower/w/segments/1.seg"}) t.dir.write(name, {});
  EXPECT_EQ(to_errno(check_layers(shown, p).error()), ENOTSUP);
  t.dir.write("a b/upper/w/vault.db", {});
  EXPECT_EQ(to_errno(check_layers(shown, p).error()), ENOTSUP);
  t.dir.write("a b/upper/w/segments/1.seg", {});
  EXPECT_TRUE(check_layers(shown, p));
}

}  // namespace
}  // namespace indra
