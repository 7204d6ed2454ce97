// Any bytes that a pack can be, with right seals, and without. Corpus: fuzz/corpus/pack/.
#include <cstdlib>

#include "cli/pack.h"
#include "daemon/items.h"

namespace {

using namespace indra;

void read(ByteView stream, std::size_t portion) {
  cli::PackReader reader{[&](MutableBytes out) -> Result<std::size_t> {
    const std::size_t n = std::min({out.size(), stream.size(), portion});
    std::memcpy(out.data(), stream.data(), n);
    stream = stream.subspan(n);
    std::size_t done = n;
    while (done < out.size() && !stream.empty()) {
      const std::size_t m = std::min({out.size() - done, stream.size(), portion});
      std::memcpy(out.data() + done, stream.data(), m);
      stream = stream.subspan(m);
      done += m;
    }
    return done;
  }};
  if (!reader.begin()) return;
  for (;;) {
    auto m = reader.next();
    if (!m || !*m) return;
    const auto item = to_item(std::move(**m));
    if (item && (!safe_relative(item->path) || (item->op == Item::Op::link && !safe_relative(item->target))))
      std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView all = std::as_bytes(std::span{data + 1, size - 1});
  read(all, data[0] + 1u);
  // The same as messages one behind the other, each with the seal that belongs there.
  cli::PackSeal seal;
  Bytes stream{seal.head().begin(), seal.head().end()};
  for (std::size_t at = 0; at + 4 <= all.size();) {
    const std::size_t n = std::min<std::size_t>(load_le<std::uint32_t>(all.data() + at), all.size() - at - 4);
    const ByteView message = all.subspan(at, 4 + n);
    stream.insert(stream.end(), message.begin(), message.end());
    const ByteView s = seal.next(message);
    stream.insert(stream.end(), s.begin(), s.end());
    at += 4 + n;
  }
  read(stream, data[0] + 1u);
  return 0;
}
