// indra_formats_test VAULT: the vault's files on a simulated disk, opened (and so migrated), with the power
// gone at each step of it: what is opened again afterwards is the newest format and holds what an uncut
// opening finds. VAULT itself is only read. Run by formats.sh for each sample. docs/formats/vault-v1.md.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "base/log.h"
#include "fs/filesystem.h"
#include "testkit/mem_vfs.h"
#include "testkit/must.h"

namespace indra {
namespace {

namespace stdfs = std::filesystem;
using Listing = std::map<std::string, std::string>;

MemVfs& vfs() {
  static MemVfs v;
  return v;
}

/// As it lies there, all of it durable; in the directory that the simulated disk calls by the same name.
std::unique_ptr<MemDisk> loaded(const std::string& vault) {
  auto disk = std::make_unique<MemDisk>();
  must(disk->make_dir(vault + "/segments"));
  for (const auto& e : stdfs::recursive_directory_iterator{vault}) {
    const std::string path = e.path().string();
    if (!e.is_regular_file() || path.ends_with("-shm") || path.ends_with("/lock")) continue;
    std::ifstream in{path, std::ios::binary};
    const std::string text{std::istreambuf_iterator<char>{in}, {}};
    auto f = must(disk->open(path, true));
    must(f->write(0, as_view(text)));
    must(f->sync());
  }
  must(disk->sync_dir(vault + "/segments"));
  must(disk->sync_dir(vault));
  return disk;
}

Result<std::unique_ptr<FileSystem>> open(MemDisk& disk, const std::string& vault) {
  FileSystem::Options o;
  o.background = false;
  o.disk = &disk;
  o.vfs_below = vfs().name();
  o.content.workers = -1;
  return FileSystem::open(vault, std::move(o));
}

void list(Listing& out, View& v, NodeId node, const std::string& path) {
  const Attr a = must(v.getattr(node));
  std::string line = fmt::format("{:o} {} {} {}", a.mode, a.size, a.nlink, a.mtime);
  if (S_ISLNK(a.mode)) line += " -> " + must(v.readlink(node));
  if (S_ISREG(a.mode)) {
    const Handle h = must(v.open(Caller{}, node, O_RDONLY));
    Bytes bytes(a.size);
    const auto n = v.read(h, 0, bytes);
    v.release(h);
    line += must(n) == bytes.size() ? fmt::format(" {:x}", std::hash<std::string_view>{}(as_text(bytes)))
                                    : " short";
  }
  for (const std::string& x : must(v.listxattr(node)))
    line += " " + x + "=" + std::string{as_text(must(v.getxattr(node, x)))};
  out[path] = line;
  if (!S_ISDIR(a.mode)) return;
  std::map<std::string, NodeId> names;
  const Handle h = must(v.opendir(node));
  must(v.readdir(h, 0, false, [&](const DirEntry& e) {
    names.emplace(e.name, e.node);
    return true;
  }));
  v.releasedir(h);
  for (const auto& [name, child] : names) list(out, v, child, path + "/" + name);
}

Listing found_in(FileSystem& fs) {
  Listing out;
  const auto of = [&](const std::string& name, const ViewSpec& spec) {
    const auto v = must(fs.open_view(spec, nullptr));
    list(out, *v, v->root(), name);
  };
  for (const std::string& b : fs.branch_names("main")) {
    ViewSpec spec;
    spec.branch = b;
    of(b + ":", spec);
  }
  for (const std::string& s : fs.snapshot_names("main")) {
    ViewSpec spec;
    spec.snapshot = s;
    of("@" + s + ":", spec);
  }
  return out;
}

int run(const std::string& vault) {
  log::set_level("off");
  const auto before = loaded(vault);
  Listing expected;
  std::uint64_t steps = 0;
  {
    const auto disk = before->copy();
    vfs().use(*disk);
    const std::uint64_t first = disk->steps();
    const auto fs = must(open(*disk, vault));
    steps = disk->steps() - first;
    expected = found_in(*fs);
  }
  if (expected.size() < 30) throw std::runtime_error{"the sample holds next to nothing"};
  int wrong = 0, unopened = 0;
  for (std::uint64_t step = 1; step <= steps + 1; ++step)
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      const auto disk = before->copy();
      vfs().use(*disk);
      disk->power_off_at(step);
      {
        auto fs = open(*disk, vault);
        if (!fs) ++unopened;
        disk->power_off();
      }
      seed == 0 ? disk->crash_strictly() : disk->crash(seed);
      auto again = open(*disk, vault);
      const std::string at = fmt::format("cut at step {} of {}, seed {}: ", step, steps, seed);
      if (!again) {
        fmt::print("{}{}\n", at, again.error().text());
        ++wrong;
        continue;
      }
      const Listing found = found_in(**again);
      if (found != expected) {
        ++wrong;
        for (const auto& [path, line] : expected)
          if (!found.contains(path) || found.at(path) != line)
            fmt::print("{}{}\n  was {}\n  is {}\n", at, path, line,
                       found.contains(path) ? found.at(path) : "absent");
      }
    }
  fmt::print("{} steps, {} openings cut, {} wrong\n", steps, unopened, wrong);
  if (unopened == 0) throw std::runtime_error{"no opening was cut: nothing was tested"};
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace indra

int main(int argc, char** argv) {
  try {
    return argc == 2 ? indra::run(argv[1]) : 2;
  } catch (const std::exception& e) {
    fmt::print("{}\n", e.what());
    return 1;
  }
}
