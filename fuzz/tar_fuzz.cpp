// Any bytes that an archive to import can be. Corpus: fuzz/corpus/tar/.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "cli/host.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace indra;
  const int fd = ::memfd_create("tar", MFD_CLOEXEC);
  if (fd < 0 || ::write(fd, data, size) != static_cast<ssize_t>(size)) std::abort();
  std::size_t bytes = 0;
  cli::ItemSinks sinks;
  sinks.owners = true;
  sinks.failed = [](const std::string&, const Error&) {};
  sinks.emit = [&](Item i) -> Result<void> {
    // What is left of a name may still be too long for one: the vault refuses that.
    const std::string none, &second = i.op == Item::Op::link ? i.target : none;
    for (const std::string_view name : {std::string_view{i.path}, std::string_view{second}})
      for (std::size_t at = 0; at < name.size();) {
        const std::size_t end = std::min(name.find('/', at), name.size());
        const std::string_view part = name.substr(at, end - at);
        if (part.empty() || part == "." || part == "..") std::abort();
        at = end + 1;
      }
    bytes += i.body.size();
    Message m = to_message(std::move(i));
    (void)encode_prefix(m);
    (void)to_item(std::move(m));
    return bytes < (16u << 20) ? Result<void>{} : fail(EFBIG, "enough");
  };
  (void)cli::read_tar("/proc/self/fd/" + std::to_string(fd), sinks);
  ::close(fd);
  return 0;
}
