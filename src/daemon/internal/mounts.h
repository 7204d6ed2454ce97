// The mounts of one daemon.
#pragma once
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <mutex>

#include "daemon/service.h"
#include "mount/options.h"

namespace indra {

/// One mount, served. Destroying it waits for its end.
class Mounted {
 public:
  virtual ~Mounted() = default;
  /// EBUSY while files are open, unless `force`: then they are cut off. ETIMEDOUT where that cannot be done.
  [[nodiscard]] virtual Result<void> unmount(bool force) = 0;
  [[nodiscard]] virtual bool ended() const = 0;
  /// False: it was taken away, and ends.
  [[nodiscard]] virtual bool attached() const = 0;
  /// See Mount.
  [[nodiscard]] virtual bool caught_up(std::chrono::milliseconds limit) = 0;
};
/// `ended` is called once, from any thread, when the mount is gone for whatever reason.
using Mounter =
    std::function<Result<std::unique_ptr<Mounted>>(FileSystem&, MountOptions, std::function<void()> ended)>;
[[nodiscard]] Mounter kernel_mounter();

[[nodiscard]] Result<MountOptions> mount_options(const Json& request);

class Mounts final : public MountTable {
 public:
  /// `changed` is called, from any thread, when a mount ended.
  Mounts(FileSystem& fs, Mounter mounter, std::function<void()> changed)
      : fs_{fs}, mounter_{std::move(mounter)}, changed_{std::move(changed)} {}
  Result<Json> mount(const Json& request) override;
  Result<Json> unmount(const std::string& mountpoint, bool force) override;
  void caught_up() override;
  [[nodiscard]] Json list() const override;

  /// Lets go of mounts that ended. True: none is left.
  bool sweep();
  /// False: a mount would not end, and still serves requests.
  [[nodiscard]] bool unmount_all();

 private:
  /// Another mount at that path is there no more, or is gone within a few seconds.
  void await_end(const std::string& mountpoint);
  struct One {
    MountOptions options;
    std::shared_ptr<Mounted> mounted;  // null while it is being made
  };
  FileSystem& fs_;
  const Mounter mounter_;
  const std::function<void()> changed_;
  mutable std::mutex mutex_;
  std::list<One> all_;      // under mutex_
  std::mutex sweep_mutex_;  // before mutex_
};

}  // namespace indra
