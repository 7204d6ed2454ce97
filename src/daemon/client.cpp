#include "daemon/client.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>

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
  const auto asked = std::chrono::steady_clock::now();
  const auto until = asked + std::chrono::seconds{o.wait_seconds};
  const auto patience = asked + std::chrono::milliseconds{500};  // until the caller hears why it takes long
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
    if (!told && o.waiting && std::chrono::steady_clock::now() >= patience) {
      o.waiting(fs.error().context);
      told = true;
    }
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
  // What this command changed makes its jobs now.
  if (fs_) relay_before_closing(vault_, [this] { return fs_->sync(false); });
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
