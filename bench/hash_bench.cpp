// What hashing costs, and appending to segments. b3sum on the same bytes is the measure.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "blob/hash.h"
#include "blob/segments.h"

namespace indra {
namespace {

Bytes content(std::size_t n) {
  Bytes b(n);
  std::uint64_t x = 88172645463325252ull;
  for (std::size_t i = 0; i + 8 <= n; i += 8) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    store_le(b.data() + i, x);
  }
  return b;
}

/// Chunk CVs by `threads`, pages of 64, the root: how a file of n bytes gets its hash.
BlobHash by_tree(ByteView all, int threads) {
  std::vector<Cv> cvs((all.size() + kChunkSize - 1) / kChunkSize);
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (;;) {
      const std::size_t from = next.fetch_add(kFanout);
      if (from >= cvs.size()) return;
      for (std::size_t i = from; i < std::min(from + kFanout, cvs.size()); ++i)
        cvs[i] = chunk_cv(i, all.subspan(i * kChunkSize, std::min(kChunkSize, all.size() - i * kChunkSize)));
    }
  };
  std::vector<std::thread> pool;
  for (int i = 1; i < threads; ++i) pool.emplace_back(work);
  work();
  for (auto& t : pool) t.join();
  return root_of(cvs);
}

void BM_HashInMemory(benchmark::State& state) {
  const Bytes b = content(256 << 20);
  for (auto _ : state) benchmark::DoNotOptimize(by_tree(b, static_cast<int>(state.range(0))));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(b.size()));
}
BENCHMARK(BM_HashInMemory)
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(2)
    ->Arg(4)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

/// The official hasher, streaming: what a blob of at most 64 KiB takes, and the comparison for larger ones.
void BM_OfficialHasher(benchmark::State& state) {
  const Bytes b = content(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(BlobHash::of(b));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(b.size()));
}
BENCHMARK(BM_OfficialHasher)->ArgName("bytes")->Arg(256)->Arg(4096)->Arg(65536)->Arg(64 << 20);

void BM_ChunkCv(benchmark::State& state) {
  const Bytes b = content(kChunkSize);
  std::uint64_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(chunk_cv(i++, b));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(b.size()));
}
BENCHMARK(BM_ChunkCv);

/// One dirty chunk in 10 GiB: its CV, its page, the page above, the root.
void BM_OneDirtyChunkIn10GiB(benchmark::State& state) {
  const Bytes b = content(kChunkSize);
  std::vector<Cv> chunks(64), pages(64), top(40, zero_chunk_cv(1));
  for (std::size_t i = 0; i < 64; ++i) chunks[i] = pages[i] = zero_chunk_cv(i);
  std::uint64_t i = 0;
  for (auto _ : state) {
    chunks[i % 64] = chunk_cv(i, b);
    pages[i / 64 % 64] = join(chunks);
    top[i % 40] = join(pages);
    benchmark::DoNotOptimize(root_of(top));
    ++i;
  }
}
BENCHMARK(BM_OneDirtyChunkIn10GiB);

/// `threads` streams append chunks of `bytes`; a sync after 256 MiB, in the measured time.
void BM_Append(benchmark::State& state) {
  static std::unique_ptr<Segments> segments;
  static std::string dir;
  if (state.thread_index() == 0) {
    const char* where = std::getenv("TMPDIR");
    dir = (where != nullptr ? std::string{where} : std::string{"/var/tmp"}) + "/indra-bench-XXXXXX";
    if (::mkdtemp(dir.data()) == nullptr) return state.SkipWithError("no temporary directory");
    auto s = Segments::open(real_disk(), dir, {}, {});
    if (!s) return state.SkipWithError("segments cannot be opened");
    segments = std::move(*s);
  }
  const Bytes b = content(static_cast<std::size_t>(state.range(0)));
  Segments::StreamPtr stream{nullptr, {nullptr}};
  std::uint64_t since = 0;
  for (auto _ : state) {
    if (!stream) stream = segments->stream();
    const auto e = segments->append(*stream, b);
    since += b.size();
    const bool sync = state.range(1) != 0 && since >= 256 << 20;
    if (!e || (sync && !segments->sync())) return state.SkipWithError("append failed");
    if (sync) since = 0;
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(b.size()));
  stream.reset();
  if (state.thread_index() == 0) {
    segments.reset();
    std::filesystem::remove_all(dir);
  }
}
BENCHMARK(BM_Append)
    ->ArgNames({"bytes", "sync"})
    ->Args({65536, 0})
    ->Args({65536, 1})
    ->Iterations(16384)
    ->UseRealTime();
BENCHMARK(BM_Append)
    ->ArgNames({"bytes", "sync"})
    ->Args({65536, 0})
    ->Iterations(4096)
    ->Threads(4)
    ->UseRealTime();
BENCHMARK(BM_Append)
    ->ArgNames({"bytes", "sync"})
    ->Args({1500, 0})
    ->Args({4096, 0})
    ->Iterations(200000)
    ->UseRealTime();

}  // namespace
}  // namespace indra
