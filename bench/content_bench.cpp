// What the content store costs: small files, small synchronous overwrites, large files.
//
//   content_bench DIRECTORY      on the device to be measured; prints a table
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "blob/internal/test_store.h"

using namespace indra;
using namespace indra::blob;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::uint64_t written() {  // bytes this process caused to be written to devices
  std::ifstream in{"/proc/self/io"};
  std::string key;
  std::uint64_t v = 0;
  while (in >> key >> v)
    if (key == "write_bytes:") return v;
  return 0;
}

double percentile(std::vector<double>& v, double p) {
  std::sort(v.begin(), v.end());
  return v[static_cast<std::size_t>(p * static_cast<double>(v.size() - 1))] * 1e6;
}

void small_files(int n) {
  TestStore t;
  std::vector<Bytes> all;
  for (int i = 0; i < n; ++i) all.push_back(random_bytes(4096, static_cast<std::uint64_t>(i)));
  double start = now();
  std::vector<BlobId> ids;
  for (const Bytes& b : all) ids.push_back(t.put(b).id);
  const double put = now() - start;
  TestStore::take(t.writer().barrier());
  const double durable = now() - start;
  start = now();
  for (const BlobId id : ids) (void)t.get(id);
  const double get = now() - start;
  std::printf(
      "put of %d files of 4 KiB: %.2f us each, with one barrier at the end %.2f us; read back %.2f us each\n",
      n, put / n * 1e6, durable / n * 1e6, get / n * 1e6);
}

void overwrites(const std::string& dir, int n) {
  constexpr std::uint64_t kSize = 1ull << 30;
  ContentStore::Options o;
  TestStore t{o};
  const Bytes mib = random_bytes(1 << 20, 1);
  auto c = t.content();
  const double start = now();
  for (std::uint64_t at = 0; at < kSize; at += mib.size()) {
    Bytes b = mib;
    store_le(b.data(), at);
    TestStore::take(c->write(at, b));
  }
  const BlobInfo i = TestStore::take(t.publish(*c));
  const double hashed = now() - start;
  TestStore::take(t.writer().barrier());
  const double durable = now() - start;
  std::printf("sequential write of 1 GiB: %.2f GiB/s with its hash, %.2f GiB/s durable\n", 1 / hashed,
              1 / durable);

  const std::string file = dir + "/native";
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
  for (std::uint64_t at = 0; at < kSize; at += mib.size())
    if (::pwrite(fd, mib.data(), mib.size(), static_cast<off_t>(at)) < 0) std::abort();
  ::fsync(fd);
  Bytes out(1 << 20);
  for (const char* how : {"first (page cache)", "again"}) {
    const double from = now();
    for (std::uint64_t at = 0; at < kSize; at += out.size()) (void)TestStore::take(c->read(at, out));
    std::printf("sequential read of 1 GiB, verified, %s: %.2f GiB/s\n", how, 1 / (now() - from));
  }

  TestStore::take(t.settle());
  TestStore::take(t.writer().checkpoint());
  ::sync();
  std::mt19937_64 rng{3};
  std::vector<double> native, ours;
  std::uint64_t native_bytes = 0, our_bytes = 0;
  const Bytes block = random_bytes(4096, 9);
  for (int k = 0; k < n; ++k) {
    const auto at = static_cast<std::uint64_t>(rng() % (kSize / 4096)) * 4096;
    std::uint64_t before = written();
    double from = now();
    if (::pwrite(fd, block.data(), block.size(), static_cast<off_t>(at)) < 0 || ::fdatasync(fd) != 0)
      std::abort();
    native.push_back(now() - from);
    native_bytes += written() - before;
    Bytes other = block;
    store_le(other.data(), k);
    before = written();
    from = now();
    TestStore::take(c->write(at, other));
    auto staged = TestStore::take(c->stage(Content::For::sync));
    (void)TestStore::take(t.writer().mutate([&](Tx& tx) { return staged->apply(tx, true); }));
    staged->accept();
    TestStore::take(t.writer().barrier());
    ours.push_back(now() - from);
    our_bytes += written() - before;
  }
  const std::uint64_t before = written();
  const double from = now();
  TestStore::take(t.settle());
  TestStore::take(t.writer().barrier());
  TestStore::take(t.writer().checkpoint());
  std::printf(
      "4 KiB overwrite made durable, 1 GiB, %d interleaved: native p50 %.0f p99 %.0f us, ours p50 %.0f p99 "
      "%.0f us\n",
      n, percentile(native, .5), percentile(native, .99), percentile(ours, .5), percentile(ours, .99));
  std::printf(
      "  bytes to the device each: native %.1f KiB, ours %.1f KiB, and %.1f KiB until at rest (in %.2f s): "
      "%.1f times the 4 KiB\n",
      double(native_bytes) / n / 1024, double(our_bytes) / n / 1024, double(written() - before) / n / 1024,
      now() - from, double(our_bytes + written() - before) / n / 4096);
  std::printf("  stays the same blob: %s\n",
              TestStore::take(t.writer().read([&](Tx& tx) { return t.store().info(tx, i.id); })).size == kSize
                  ? "yes"
                  : "no");
  ::close(fd);
  std::filesystem::remove(file);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string dir = argc > 1 ? argv[1] : ".";
  ::setenv("TMPDIR", dir.c_str(), 1);
  small_files(10'000);
  overwrites(dir, 1000);
}
