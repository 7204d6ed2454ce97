// One mount of a vault: the connection, its workers, and the views they serve.
//
// Threads:  every member may be called from any thread.
// Errors:   start() says what is wrong with the mount point or the machine, and what to do about it.
// Source:   docs/design/mount.md.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "mount/options.h"

namespace indra {

class Mount {
 public:
  /// `views` must outlive the Mount. `ended` is called once, from a thread of the Mount, when the mount is
  /// gone: by stop(), or taken away from outside. It must not destroy the Mount.
  [[nodiscard]] static Result<std::unique_ptr<Mount>> start(MountOptions, Views&,
                                                            std::function<void()> ended = {});
  ~Mount();  ///< stops, lazily if need be

  /// Takes the mount away and returns when every request was answered. EBUSY while files are open, unless
  /// `lazy`.
  [[nodiscard]] Result<void> stop(bool lazy = false);
  [[nodiscard]] bool running() const;
  /// A mount is still shown at its path. Running without it: taken away, and about to end.
  [[nodiscard]] bool attached() const;
  /// Returns once the kernel knows what changed before the call; false when that takes longer than `limit`.
  [[nodiscard]] bool caught_up(std::chrono::milliseconds limit);
  /// Returns once every event for what was done before the call was raised; false when that takes longer.
  [[nodiscard]] bool events_settled(std::chrono::milliseconds limit);
  void hold_events(bool on);                    ///< none is raised until it is off again (tests)
  [[nodiscard]] pid_t raising_process() const;  ///< 0: none at the moment
  void wait();                                  ///< until it has ended
  [[nodiscard]] const MountOptions& options() const;

  /// Inotify events for what others did: raised, not raised because this mount did something later upon the
  /// name, because nobody watched, because the kernel refused; times there were too many; looks at who
  /// watches.
  struct Events {
    std::uint64_t raised = 0, overtaken = 0, unwatched = 0, lost = 0, floods = 0, looks = 0;
  };
  struct Figures {
    Events events;
    std::uint64_t known_nodes = 0, notifications = 0, overflows = 0, errors = 0, exceptions = 0;
    unsigned workers = 0;
    std::vector<std::pair<std::string, std::uint64_t>> requests;  ///< by opcode, those that came
  };
  [[nodiscard]] Figures figures() const;

 private:
  struct Impl;
  explicit Mount(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

}  // namespace indra
