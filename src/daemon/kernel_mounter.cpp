// Mounts through the kernel: src/mount.
#include "daemon/internal/mounts.h"
#include "mount/mount.h"

namespace indra {
namespace {

class KernelMount final : public Mounted {
 public:
  explicit KernelMount(std::unique_ptr<Mount> m) : mount_{std::move(m)} {}
  Result<void> unmount(bool lazy) override { return mount_->stop(lazy); }
  [[nodiscard]] bool ended() const override { return !mount_->running(); }

 private:
  std::unique_ptr<Mount> mount_;
};

}  // namespace

Mounter kernel_mounter() {
  return [](FileSystem& fs, MountOptions options, std::function<void()> ended) -> Result<std::unique_ptr<Mounted>> {
    INDRA_LET(auto m, Mount::start(std::move(options), fs, std::move(ended)));
    return std::make_unique<KernelMount>(std::move(m));
  };
}

}  // namespace indra
