// Any bytes a damaged disk can hold in a segment file: opening answers, and never writes below the recorded
// end.
#include <cstdlib>

#include "base/log.h"
#include "blob/segments.h"
#include "testkit/mem_disk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  indra::log::set_level("off");
  if (size < 4) return 0;
  const std::uint64_t end = indra::load_le<std::uint32_t>(reinterpret_cast<const std::byte*>(data)) % 20000;
  const indra::ByteView bytes = std::as_bytes(std::span{data, size}).subspan(4);
  indra::MemDisk disk;
  (void)disk.make_dir("/s");
  {
    auto file = disk.open("/s/00000001.seg", true);
    if (!file || !(*file)->write(0, bytes)) std::abort();
  }
  auto segments = indra::Segments::open(disk, "/s", {{1, end}}, {});
  if (!segments) return 0;
  {
    const auto stream = (*segments)->stream();
    const auto e = (*segments)->append(*stream, indra::Bytes(5000));
    if (!e || !(*segments)->sync() || (e->segment == 1 && e->offset < end)) std::abort();
  }
  indra::Bytes now(bytes.size());
  auto file = disk.open("/s/00000001.seg", false);
  if (!file || !(*file)->read(0, now)) std::abort();
  const std::size_t kept = std::min<std::size_t>(std::max<std::uint64_t>(end, 4096), bytes.size());
  if (!std::equal(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(kept), now.begin()))
    std::abort();
  return 0;
}
