#include "cli/transfer.h"

#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <thread>

namespace indra::cli {

Result<Sent> send_items(Context& ctx, Client& client, const Json& request, Progress& progress, bool contents,
                        const std::function<Result<void>(const ItemSinks&)>& produce) {
  Sent sent;
  std::mutex mutex;
  Channel& line = client.line();
  Message m;
  m.head = request;
  INDRA_TRY(line.send(std::move(m)));
  INDRA_LET(auto first, line.receive());
  if (!first) return fail(EPIPE, "the vault's daemon ended before it answered");
  if (first->type == FrameType::error) return fail(error_of(*first));

  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> failed{0};
  const auto complain = [&](const std::string& path, const Error& e) {
    ++failed;
    const std::lock_guard lock{mutex};
    ctx.complain(path, e);
  };
  ItemSinks sinks;
  sinks.contents = contents;
  sinks.owners = ::geteuid() == 0;
  sinks.failed = complain;
  sinks.emit = [&](Item i) -> Result<void> {
    if (over) return fail(EPIPE);
    progress.bytes += i.body.size();
    if (i.op != Item::Op::chunk && i.op != Item::Op::done) ++progress.items;
    const bool broken = i.op == Item::Op::done && i.size == UINT64_MAX;
    if (broken) i.size = 0;
    Message item = to_message(std::move(i));
    if (broken) item.head["abort"] = true;
    return line.send(std::move(item));
  };
  Result<void> produced{};
  std::thread producer{[&] {
    produced = produce(sinks);
    Message end;
    end.type =
        !produced && produced.error().code != std::errc::broken_pipe ? FrameType::error : FrameType::end;
    if (end.type == FrameType::error) end = error_message(produced.error());
    (void)line.send(std::move(end));
  }};
  auto answer = client.finish([&](Message got) -> Result<void> {
    if (const auto path = name_field(got.head, "failed")) complain(*path, error_of(got));
    return {};
  });
  over = true;
  producer.join();
  if (!answer)
    return fail(!produced && produced.error().code != std::errc::broken_pipe ? produced.error()
                                                                             : answer.error());
  sent.answer = std::move(*answer);
  sent.failed = failed;
  return sent;
}

Result<Sent> receive_items(Context& ctx, Client& client, const Json& request, Progress& progress, Sink& sink,
                           const std::uint64_t& sink_failed) {
  Sent sent;
  INDRA_LET(sent.answer, client.call(request, [&](Message m) -> Result<void> {
    if (const auto path = name_field(m.head, "failed")) {
      ++sent.failed;
      ctx.complain(*path, error_of(m));
      return {};
    }
    if (m.type != FrameType::data) return {};
    progress.bytes += m.body.size();
    if (m.head.contains("path")) ++progress.items;
    return sink.take(std::move(m));
  }));
  INDRA_TRY(sink.finish());
  sent.failed += sink_failed;
  return sent;
}

}  // namespace indra::cli
