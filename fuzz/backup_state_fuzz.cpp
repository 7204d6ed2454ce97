// Any bytes that the state of a backup can be, with a right seal. Corpus: fuzz/corpus/backup_state/.
#include <cstdlib>

#include "backup/internal/state.h"
#include "blob/hash.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace indra;
  using backup::State;
  const ByteView raw = std::as_bytes(std::span{data, size});
  (void)State::parse(raw);
  Bytes sealed{raw.begin(), raw.end()};
  sealed.resize(size + 32);
  const BlobHash seal = BlobHash::of(raw);
  std::memcpy(sealed.data() + size, seal.bytes().data(), 32);
  const auto s = State::parse(sealed);
  if (!s) return 0;
  // What was accepted leads nowhere but into its packs and files, and is written as it was read.
  std::uint64_t last = 0;
  for (const backup::Record& r : s->records) {
    const auto pack = s->packs.find(r.pack);
    if (r.where <= last || r.length == 0 || r.length > backup::kBlockMax || pack == s->packs.end() ||
        r.offset + r.length > pack->second || r.offset + r.length < r.offset || s->find(r.where) != &r)
      std::abort();
    last = r.where;
    Bytes zeros(r.length);
    (void)backup::matches(r, zeros);
  }
  const auto again = State::parse(s->encode());
  if (!again || again->records.size() != s->records.size() || again->packs != s->packs) std::abort();
  return 0;
}
