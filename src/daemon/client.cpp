#include "daemon/client.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "base/log.h"
#include "daemon/server.h"
#include "events/relay.h"

namespace indra {

Result<std::unique_ptr<Client>> Client::daemon(const std::string& vault) {
  INDRA_LET(auto line, connect_daemon(vault));
  std::unique_ptr<Client> c{new Client};
  c->line_ = std::move(line);
  return c;
}

Result<std::unique_ptr<Client>> Client::reach(const Options& o) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{o.wait_seconds};
  std::unique_ptr<Client> c;
  for (bool told = false;;) {
    if (auto d = daemon(o.vault)) {
      c = std::move(*d);
      // One that is just ending may have taken the connection and never answer it.
      auto hello = c->call({{"verb", "hello"}});
      if (hello) {
        if (!o.player.empty() && text_field(*hello, "player") != o.player)
          return fail(EPERM,
                      "the vault is player " + text_field(*hello, "player") + "'s, not " + o.player + "'s");
        return c;
      }
      c.reset();
      if (hello.error().code != std::errc::broken_pipe) return fail(hello.error());
    }
    FileSystem::Options options;
    options.create = o.create;
    options.single_file = o.single_file;
    options.content.single_file = o.single_file;
    auto fs = FileSystem::open(o.vault, options);
    if (fs) {
      c.reset(new Client);
      c->fs_ = std::move(*fs);
      c->vault_ = o.vault;
      break;
    }
    if (fs.error().code != std::errc::operation_would_block || std::chrono::steady_clock::now() >= until)
      return fail(fs.error());
    if (!told && o.waiting) o.waiting(fs.error().context);
    told = true;
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }
  if (!o.player.empty()) {
    INDRA_LET(const auto s, c->fs_->status());
    if (s.player != o.player)
      return fail(EPERM, "the vault is player " + s.player + "'s, not " + o.player + "'s");
  }
  auto [near, far] = local_channels();
  c->line_ = std::move(near);
  c->far_ = std::move(far);
  c->service_ = std::make_unique<Service>(*c->fs_);
  c->thread_ = std::thread{[&service = *c->service_, &far_end = *c->far_] {
    const Caller caller{::getuid(), ::getgid(), ::getpid()};
    for (;;) {
      auto m = far_end.receive();
      if (!m || !*m) return;
      if ((*m)->type == FrameType::json && !service.run((*m)->head, caller, far_end)) return;
    }
  }};
  return c;
}

Client::~Client() {
  if (line_) line_->close();
  if (thread_.joinable()) thread_.join();
  if (fs_) relay_rules();
}

// What this command changed makes its jobs now, where there are rules; if somebody holds coord.db, the next
// one does it.
void Client::relay_rules() {
  Relay::Options o;
  o.durable = [this] { return fs_->sync(false); };
  Relay relay{vault_, std::move(o)};
  // Each change is committed, so that the relay sees it.
  if (::access((vault_ + "/coord.db").c_str(), F_OK) != 0 || !fs_->sync(false)) return;
  for (;;) {
    const auto more = relay.pass();
    if (!more && more.error().code != std::errc::device_or_resource_busy)
      log::warn("rules: {}", more.error().text());
    if (!more || !*more) return;
  }
}

Result<Json> Client::call(const Json& request, const OnMessage& on) {
  Message m;
  m.head = request;
  INDRA_TRY(line_->send(std::move(m)));
  return finish(on);
}

Result<Json> Client::finish(const OnMessage& on) {
  for (;;) {
    INDRA_LET(auto m, line_->receive());
    if (!m) return fail(EPIPE, "the vault's daemon ended before it answered");
    if (m->type == FrameType::error) return fail(error_of(*m));
    if (m->type == FrameType::end) return std::move(m->head);
    if (on) INDRA_TRY(on(std::move(*m)));
  }
}

Result<void> Client::wait_committed() {
  for (;;) {
    INDRA_LET(auto m, line_->receive());
    if (!m) return fail(EPIPE, "the daemon ended without confirming its last commit; its log tells more");
    if (bool_field(m->head, "committed")) return {};
  }
}

}  // namespace indra
