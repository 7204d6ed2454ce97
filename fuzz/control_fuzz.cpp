// Any bytes a client can send to a daemon's control socket. Corpus: fuzz/corpus/control/.
#include <cstdlib>

#include "daemon/items.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace indra;
  if (size == 0) return 0;
  // The first byte says in what portions the rest comes.
  const std::size_t portion = data[0] + 1u;
  const ByteView all = std::as_bytes(std::span{data + 1, size - 1});
  FrameReader reader;
  for (std::size_t at = 0; at < all.size(); at += portion) {
    reader.feed(all.subspan(at, std::min(portion, all.size() - at)));
    for (;;) {
      auto m = reader.next();
      if (!m) return 0;  // refusing is fine; the connection ends
      if (!*m) break;
      // What was accepted can be sent on, and arrives equal.
      auto prefix = encode_prefix(**m);
      if (prefix) {
        FrameReader again;
        again.feed(as_view(*prefix));
        again.feed((*m)->body);
        auto back = again.next();
        if (!back || !*back || (*back)->head != (*m)->head || (*back)->body != (*m)->body) std::abort();
      }
      (void)error_of(**m);
      auto item = to_item(std::move(**m));
      if (item &&
          (!safe_relative(item->path) || (item->op == Item::Op::link && !safe_relative(item->target))))
        std::abort();
    }
    if (reader.wanted() == 0 || reader.wanted() > kMaxFrame + 4) std::abort();
  }
  return 0;
}
