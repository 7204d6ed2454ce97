// Moving items between the host and a vault, with progress and the failures of single items shown.
#pragma once
#include "cli/app.h"
#include "cli/host.h"
#include "cli/terminal.h"

namespace indra::cli {

struct Sent {
  Json answer;
  std::uint64_t failed = 0;  ///< items, on either side
};
/// Sends what `produce` emits with a `put` request.
[[nodiscard]] Result<Sent> send_items(Context&, Client&, const Json& request, Progress&, bool contents,
                                      const std::function<Result<void>(const ItemSinks&)>& produce);
/// Receives the items of a `get` request into `sink`. `failed` counts what the sink reported as well.
[[nodiscard]] Result<Sent> receive_items(Context&, Client&, const Json& request, Progress&, Sink& sink,
                                         const std::uint64_t& sink_failed);

}  // namespace indra::cli
