#include "mount/mount.h"

#include <sys/stat.h>

#include <cerrno>
#include <mutex>

#include "base/log.h"
#include "mount/adapter.h"
#include "mount/internal/dispatch.h"
#include "mount/internal/loop.h"
#include "mount/internal/prepare.h"
#include "mount/transport.h"

namespace indra {

struct Mount::Impl {
  Impl(MountOptions o, std::unique_ptr<Connection> c)
      : options{std::move(o)},
        connection{std::move(c)},
        adapter{options, *connection},
        dispatcher{*connection, adapter},
        loop{*connection, dispatcher, options} {}

  /// A mount's root is the one node that the kernel holds before it knows its owner and mode. A notification
  /// that overtakes the first answer has the kernel drop it and judge by what it made up: root's, 0755. So
  /// the kernel is made to ask before the first notification leaves.
  /// Returns the mount's st_dev.
  [[nodiscard]] std::uint64_t learn_root() const {
    struct stat st {};
    (void)::stat(options.mountpoint.c_str(), &st);
    return st.st_dev;
  }

  const MountOptions options;
  std::unique_ptr<Connection> connection;
  Adapter adapter;
  Dispatcher dispatcher;
  Loop loop;
  std::function<void()> ended;
  std::thread keeper;  // waits for the end
  std::mutex mutex;
  std::condition_variable over_cv;
  bool over = false;
};

Result<std::unique_ptr<Mount>> Mount::start(MountOptions options, Views& views, std::function<void()> ended) {
  INDRA_LET(auto connection, Connection::mount(options));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(connection));
  INDRA_TRY(impl->adapter.start(views));
  if (impl->options.cache == CacheMode::exclusive && impl->adapter.layout().mounted().view().shared())
    return fail(EBUSY, "cache=exclusive needs a branch that nobody else can write");
  impl->ended = std::move(ended);
  impl->loop.start();
  const std::uint64_t device = impl->learn_root();
  impl->adapter.notify();
  if (device != 0) impl->adapter.raise(device);
  Impl* i = impl.get();
  impl->keeper = std::thread{[i] {
    i->loop.join();
    i->adapter.stop();  // closes every view: what was written is published by now
    {
      const std::lock_guard lock{i->mutex};
      i->over = true;
    }
    i->over_cv.notify_all();
    if (i->ended) i->ended();
  }};
  return std::unique_ptr<Mount>{new Mount{std::move(impl)}};
}

Mount::Mount(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}

Mount::~Mount() {
  if (running())
    if (auto r = stop(true); !r) log::error("unmounting {}: {}", impl_->options.mountpoint, r.error().text());
  if (impl_->keeper.joinable()) impl_->keeper.join();
}

Result<void> Mount::stop(bool lazy) {
  if (!running()) return {};
  impl_->adapter.raiser().pause();  // its calls would make the mount busy
  if (auto r = impl_->connection->unmount(lazy); !r) {
    impl_->adapter.raiser().resume();
    return r;
  }
  wait();
  return {};
}

bool Mount::attached() const { return mounted_type(options().mountpoint) == "fuse.indrafs"; }

bool Mount::running() const {
  const std::lock_guard lock{impl_->mutex};
  return !impl_->over;
}

bool Mount::caught_up(std::chrono::milliseconds limit) { return impl_->adapter.caught_up(limit); }

bool Mount::events_settled(std::chrono::milliseconds limit) {
  return impl_->adapter.caught_up(limit) && impl_->adapter.raiser().settled(limit);
}

void Mount::hold_events(bool on) {
  if (on)
    impl_->adapter.raiser().pause();
  else
    impl_->adapter.raiser().resume();
}

pid_t Mount::raising_process() const { return impl_->adapter.raiser().process(); }

void Mount::wait() {
  std::unique_lock lock{impl_->mutex};
  impl_->over_cv.wait(lock, [&] { return impl_->over; });
}

const MountOptions& Mount::options() const { return impl_->options; }

Mount::Figures Mount::figures() const {
  Figures f;
  f.known_nodes = impl_->adapter.known();
  f.notifications = impl_->adapter.notifier().sent();
  f.overflows = impl_->adapter.notifier().overflows();
  f.events = impl_->adapter.raiser().figures();
  const Counters& c = impl_->dispatcher.counters();
  f.errors = c.errors;
  f.exceptions = c.exceptions;
  f.workers = impl_->loop.workers();
  for (std::uint32_t op = 0; op < c.requests.size(); ++op)
    if (const std::uint64_t n = c.requests[op]; n != 0) f.requests.emplace_back(opcode_name(op), n);
  return f;
}

}  // namespace indra
