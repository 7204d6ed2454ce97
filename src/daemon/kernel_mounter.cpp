// Mounts through the kernel: src/mount.
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <thread>

#include "base/log.h"
#include "base/mountinfo.h"
#include "daemon/internal/mounts.h"
#include "mount/mount.h"

namespace indra {
namespace {

/// What the kernel calls the mount's connection: the minor number of its device. Empty when it cannot be
/// found.
std::string connection_of(const std::string& mountpoint) {
  std::string found;
  for (const MountInfo& m : mountinfo())
    if (m.mountpoint == mountpoint && m.device.starts_with("0:")) found = m.device.substr(2);
  return found;
}

class KernelMount final : public Mounted {
 public:
  explicit KernelMount(std::unique_ptr<Mount> m)
      : mount_{std::move(m)}, connection_{connection_of(mount_->options().mountpoint)} {}
  ~KernelMount() override {
    if (stopper_.joinable()) stopper_.join();
  }

  Result<void> unmount(bool force) override {
    if (!force) return mount_->stop(false);
    // A lazy unmount alone would last until the last file is closed. Root's MNT_FORCE ends the connection.
    if (mount_->running() && ::geteuid() == 0 &&
        ::umount2(mount_->options().mountpoint.c_str(), MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
      mount_->wait();
      return {};
    }
    return cut_off();
  }
  [[nodiscard]] bool ended() const override { return !mount_->running(); }
  [[nodiscard]] bool attached() const override { return mount_->attached(); }
  bool caught_up(std::chrono::milliseconds limit) override { return mount_->caught_up(limit); }

 private:
  /// As a user: taken away, given a second to end by itself, then ended through the connection's control
  /// file.
  Result<void> cut_off() {
    if (!stopper_.joinable())
      stopper_ = std::thread{[this] {
        auto r = mount_->stop(true);
        const std::lock_guard lock{mutex_};
        stopped_ = std::move(r);
        changed_.notify_all();
      }};
    std::unique_lock lock{mutex_};
    const auto over = [this] { return stopped_.has_value(); };
    if (changed_.wait_for(lock, std::chrono::seconds{1}, over)) return *stopped_;
    const std::string control = "/sys/fs/fuse/connections/" + connection_ + "/abort";
    if (const int fd = ::open(control.c_str(), O_WRONLY | O_CLOEXEC); fd >= 0) {
      if (::write(fd, "1", 1) != 1) log::warn("{} cannot be written", control);
      ::close(fd);
      if (changed_.wait_for(lock, std::chrono::seconds{10}, over)) return *stopped_;
    }
    return fail(ETIMEDOUT,
                mount_->options().mountpoint +
                    " is taken away, but files in it are open still; its daemon ends when they are closed");
  }

  const std::unique_ptr<Mount> mount_;
  const std::string connection_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Result<void>> stopped_;  // under mutex_
  std::thread stopper_;
};

}  // namespace

Mounter kernel_mounter() {
  return [](FileSystem& fs, MountOptions options,
            std::function<void()> ended) -> Result<std::unique_ptr<Mounted>> {
    INDRA_LET(auto m, Mount::start(std::move(options), fs, std::move(ended)));
    return std::make_unique<KernelMount>(std::move(m));
  };
}

}  // namespace indra
