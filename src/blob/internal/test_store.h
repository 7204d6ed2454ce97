// A store in a directory of its own, without threads in the background, for tests and benchmarks.
#pragma once
#include <filesystem>
#include <random>

#include "blob/internal/store.h"
#include "db/test_dir.h"

namespace indra::blob {

inline Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class TestStore {
 public:
  explicit TestStore(ContentStore::Options o = {}, Disk& disk = real_disk())
      : options_{std::move(o)}, disk_{disk} {
    if (options_.workers == 0) options_.workers = 2;
    open();
  }
  ~TestStore() { close(); }
  void open() {
    static const Migration migrations[] = {kBlobSchema, kBlobSchema2, kBlobSchema3, kBlobSchema4};
    WriterOptions w;
    w.create = !std::filesystem::exists(dir_ / "vault.db");
    w.migrations = migrations;
    w.background = false;
    w.sync_content = [this]() -> Result<void> { return store_ ? store_->sync_content() : Result<void>{}; };
    w.content_dirty = [this] { return store_ && store_->content_dirty(); };
    auto writer = Writer::open(dir_ / "vault.db", w);
    if (!writer) throw std::runtime_error(writer.error().text());
    writer_ = std::move(*writer);
    auto store = ContentStore::open(*writer_, disk_, dir_ / "segments", clock, options_);
    if (!store) throw std::runtime_error(store.error().text());
    store_ = std::move(*store);
  }
  void close() {
    store_.reset();
    writer_.reset();
  }
  /// What a crash leaves: everything committed, and no orderly end.
  void crash() {
    if (auto r = writer_->barrier(); !r) throw std::runtime_error(r.error().text());
    const auto copy = std::filesystem::path{dir_ / "copy"};
    std::filesystem::remove_all(copy);
    std::filesystem::create_directory(copy);
    for (const char* f : {"vault.db", "vault.db-wal", "segments"})
      if (std::filesystem::exists(dir_ / f))
        std::filesystem::copy(dir_ / f, copy / f, std::filesystem::copy_options::recursive);
    std::vector<std::filesystem::path> others;
    for (const auto& e :
         std::filesystem::directory_iterator(std::filesystem::path{dir_ / "vault.db"}.parent_path()))
      if (e.is_regular_file() && e.path().filename() != "vault.db" && e.path().filename() != "vault.db-wal" &&
          e.path().filename() != "vault.db-shm") {
        std::filesystem::copy(e.path(), copy / e.path().filename());
        others.push_back(e.path());
      }
    close();
    for (const char* f : {"vault.db", "vault.db-wal", "vault.db-shm", "segments"})
      std::filesystem::remove_all(dir_ / f);
    for (const auto& p : others) std::filesystem::remove(p);
    for (const auto& e : std::filesystem::directory_iterator(copy))
      std::filesystem::rename(e.path(), copy.parent_path() / e.path().filename());
    open();
  }

  [[nodiscard]] std::filesystem::path segments() const { return std::filesystem::path{dir_ / "segments"}; }
  Store& store() { return static_cast<Store&>(*store_); }
  Writer& writer() { return *writer_; }

  std::unique_ptr<Content> content(BlobId id = {}, int bucket = 1) {
    return take(store_->open_content(BucketId{bucket}, id));
  }
  /// Stages, applies with one reference more for what is new and one less for `old`, accepts.
  Result<BlobInfo> publish(Content& c, BlobId old = {}, bool in_place = true,
                           Content::For how = Content::For::publish) {
    INDRA_LET(auto staged, c.stage(how));
    const auto rows = [&](Tx& tx) -> Result<BlobInfo> {
      INDRA_LET(BlobInfo i, staged->apply(tx, in_place));
      if (i.id != old) {
        INDRA_TRY(store_->add_ref(tx, i.id));
        INDRA_TRY(store_->drop_ref(tx, old));
      }
      return i;
    };
    auto r = staged->needs_content_sync() ? writer_->mutate_content(rows) : writer_->mutate(rows);
    if (r) staged->accept();
    return r;
  }
  Result<void> drop(BlobId id) {
    return writer_->mutate([&](Tx& tx) { return store_->drop_ref(tx, id); });
  }
  BlobInfo put(ByteView bytes, int bucket = 1) {
    auto c = content({}, bucket);
    take(c->write(0, bytes));
    return take(publish(*c));
  }
  Bytes get(BlobId id, int bucket = 1) {
    auto c = take(store_->open_frozen(BucketId{bucket}, id));
    return read_all(*c);
  }
  static Bytes read_all(const Content& c) {
    Bytes out(c.size());
    const std::size_t n = take(c.read(0, out));
    if (n != out.size()) throw std::runtime_error("short read");
    return out;
  }
  /// Background work until nothing is left to do.
  Result<void> settle() {
    clock.advance(10 * kSecond);
    for (int i = 0; i < 100000; ++i) {
      INDRA_LET(const bool more, store_->work());
      if (!more) return {};
    }
    return fail(EDEADLK, "work never ends");
  }
  /// What a blob counts as stored is what there is of it: its chunks, and patches where they hold nothing.
  Result<void> check_stored(BlobId id) {
    if (!id) return {};
    INDRA_LET(const LeasePtr l, store().lease(id, false));
    const ReadLock lock{l->state().rw};
    if (l->state().is_inline) return {};
    std::uint64_t have = 0;
    std::map<std::uint64_t, std::uint32_t> lengths;
    INDRA_TRY(each_chunk(l->state().m, 0, store().loader(),
                         [&](std::uint64_t index, const Entry& e) -> Result<bool> {
                           have += e.length;
                           lengths[index] = e.length;
                           return true;
                         }));
    for (const auto& [block, data] : l->state().patches)
      if (block % kBlocks * kBlockSize >= lengths[block / kBlocks]) have += data->size();
    if (have == l->state().stored) return {};
    return fail(Errc::corrupt,
                "stored: " + std::to_string(l->state().stored) + ", there are " + std::to_string(have));
  }
  /// Every chunk that a blob refers to has the bytes its CV says, and nothing dead overlaps it.
  Result<void> check() {
    std::vector<std::tuple<BlobId, Manifest, Patches>> all;
    INDRA_LET(const auto ids, writer_->read([&](Tx& tx) -> Result<std::vector<BlobId>> {
      std::vector<BlobId> out;
      Statement q{tx, "SELECT id FROM blobs"};
      for (;;) {
        INDRA_LET(const bool more, q.step());
        if (!more) return out;
        out.push_back(q.id_at<BlobId>(0));
      }
    }));
    for (const BlobId id : ids) {
      INDRA_LET(const LeasePtr l, store().lease(id, false));
      const ReadLock lock{l->state().rw};
      if (l->state().is_inline) continue;
      all.emplace_back(id, l->state().m, l->state().patches);
    }
    std::map<std::uint64_t, std::uint64_t> live;
    for (const auto& [id, m, patches] : all) {
      INDRA_TRY(each_chunk(
          m, 0, store().loader(), [&, &p = patches](std::uint64_t index, const Entry& e) -> Result<bool> {
            const auto it = p.lower_bound(index * kBlocks);
            const bool patched = it != p.end() && it->first < (index + 1) * kBlocks;
            Bytes b(e.length);
            INDRA_TRY(store().bytes().read(e.where, b));
            const bool good =
                e.root ? std::ranges::equal(BlobHash::of(b).bytes(), e.cv.bytes) : chunk_cv(index, b) == e.cv;
            if (!good && !patched) return fail(Errc::corrupt, "chunk " + std::to_string(index));
            live[e.where] = e.length;
            return true;
          }));
    }
    std::uint64_t sum = 0;
    for (const auto& [where, n] : live) sum += n;
    return writer_->read([&](Tx& tx) -> Result<void> {
      Statement d{tx, "SELECT segment, offset, length FROM dead_extents"};
      for (;;) {
        INDRA_LET(const bool more, d.step());
        if (!more) break;
        const auto from =
            static_cast<std::uint64_t>(d.int64_at(0)) << 32 | static_cast<std::uint64_t>(d.int64_at(1));
        const auto to = from + static_cast<std::uint64_t>(d.int64_at(2));
        auto it = live.lower_bound(from);
        if (it != live.end() && it->first < to)
          return fail(Errc::corrupt, "a living chunk is among the dead");
      }
      if (options_.single_file) return {};
      Statement s{tx, "SELECT coalesce(sum(live), 0) FROM segments"};
      INDRA_TRY(s.step());
      // What is loose is counted as living until its family is swept.
      if (static_cast<std::uint64_t>(s.int64_at(0)) < sum)
        return fail(Errc::corrupt, "segments.live is too small");
      return {};
    });
  }
  std::uint64_t live_bytes() {
    return take(writer_->read([&](Tx& tx) -> Result<std::uint64_t> {
      Statement s{tx, "SELECT coalesce(sum(live), 0) FROM segments"};
      INDRA_TRY(s.step());
      return static_cast<std::uint64_t>(s.int64_at(0));
    }));
  }
  template <class T>
  static T take(Result<T> r) {
    if (!r) throw std::runtime_error(r.error().text());
    if constexpr (!std::is_void_v<T>) return std::move(*r);
  }

  ManualClock clock;

 private:
  TestDir dir_;
  ContentStore::Options options_;
  Disk& disk_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<ContentStore> store_;
};

inline Bytes random_bytes(std::size_t n, std::uint64_t seed) {
  Bytes b(n);
  std::mt19937_64 rng{seed};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) store_le(b.data() + i, rng());
  for (; i < n; ++i) b[i] = static_cast<std::byte>(rng());
  return b;
}

}  // namespace indra::blob
