// indra_mem_mount DIRECTORY [OPTION=VALUE]...: mounts an empty tree in memory (layout plain) until it is
// unmounted, then prints how often each request came. Options: allow_other, dev_suid, workers, spin (us),
// direct_create.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "mount/mem_view.h"
#include "mount/mount.h"

int main(int argc, char** argv) {
  using namespace indra;
  if (argc < 2) return 2;
  MountOptions o;
  o.mountpoint = argv[1];
  o.layout = LayoutKind::plain;
  o.fsname = "memory";
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i], key = word.substr(0, word.find('='));
    const long value = word.find('=') == std::string::npos ? 1 : std::atol(word.c_str() + word.find('=') + 1);
    if (key == "allow_other") o.allow_other = value != 0;
    if (key == "dev_suid") o.dev_suid = value != 0;
    if (key == "workers") o.workers = static_cast<unsigned>(value);
    if (key == "spin") o.spin = value * 1000;
    if (key == "direct_create") o.direct_create = value != 0;
  }
  MemViews views;
  auto mount = Mount::start(o, views);
  if (!mount) {
    std::fprintf(stderr, "%s\n", mount.error().text().c_str());
    return 1;
  }
  (*mount)->wait();
  for (const auto& [name, n] : (*mount)->figures().requests)
    std::printf("%-20s %llu\n", name.c_str(), static_cast<unsigned long long>(n));
  return 0;
}
