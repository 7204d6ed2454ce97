// What the content store costs: small files, small synchronous overwrites, large files.
//
//   content_bench DIRECTORY      on the device to be measured; prints what it measured
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

/// Bytes written to the device that holds `dir`, by anybody: /proc/self/io counts a whole large folio for one
/// block.
std::uint64_t written(const std::string& dir) {
  struct stat st {};
  if (::stat(dir.c_str(), &st) != 0) return 0;
  std::ifstream in{"/sys/dev/block/" + std::to_string(major(st.st_dev)) + ":" +
                   std::to_string(minor(st.st_dev)) + "/stat"};
  std::uint64_t v = 0;
  for (int field = 0; field < 7; ++field) in >> v;
  return v * 512;
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
  const Bytes block = random_bytes(4096, 9);
  const auto one = [&](std::uint64_t at, int k) {
    Bytes other = block;
    store_le(other.data(), k);
    const double from = now();
    TestStore::take(c->write(at, other));
    auto staged = TestStore::take(c->stage(Content::For::sync));
    (void)TestStore::take(t.writer().mutate([&](Tx& tx) { return staged->apply(tx, true); }));
    staged->accept();
    TestStore::take(t.writer().barrier());
    ours.push_back(now() - from);
  };
  const auto anywhere = [&] { return static_cast<std::uint64_t>(rng() % (kSize / 4096)) * 4096; };
  for (int k = 0; k < n; ++k) {
    const double from = now();
    if (::pwrite(fd, block.data(), block.size(), static_cast<off_t>(anywhere())) < 0 || ::fdatasync(fd) != 0)
      std::abort();
    native.push_back(now() - from);
    one(anywhere(), k);
  }
  std::printf(
      "4 KiB overwrite made durable, 1 GiB, %d interleaved: native p50 %.0f p99 %.0f us, ours p50 %.0f p99 "
      "%.0f us\n",
      n, percentile(native, .5), percentile(native, .99), percentile(ours, .5), percentile(ours, .99));
  const auto rest = [&] {
    TestStore::take(t.settle());
    TestStore::take(t.writer().barrier());
    TestStore::take(t.writer().checkpoint());
  };
  rest();
  ::sync();
  for (const bool scattered : {true, false}) {
    std::uint64_t before = written(dir);
    const double from = now();
    for (int k = 0; k < n; ++k)
      one(scattered ? anywhere() : static_cast<std::uint64_t>(k % 64) * 4096 * 5, n + k);
    const std::uint64_t at_once = written(dir) - before;
    rest();
    const std::uint64_t all = written(dir) - before;
    const double took = now() - from;
    before = written(dir);
    ::usleep(static_cast<useconds_t>(took * 1e6));
    std::printf(
        "  %s: to the device each %.1f KiB, until at rest %.1f KiB = %.1f times the 4 KiB (others wrote %.1f "
        "KiB "
        "in as long)\n",
        scattered ? "scattered" : "64 blocks in turn", double(at_once) / n / 1024, double(all) / n / 1024,
        double(all) / n / 4096, double(written(dir) - before) / n / 1024);
  }
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
