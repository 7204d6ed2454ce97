// A small sound store, some of whose rows are replaced by any bytes: reading answers. Where one bit of a
// manifest was flipped it answers with the right bytes or none; where nothing was changed, with all of them.
// Corpus: fuzz/corpus/blob_rows/.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "base/log.h"
#include "blob/internal/test_store.h"
#include "blob/kept.h"

namespace {

using namespace indra;

struct World {
  TestDir dir;
  std::string database;
  std::map<std::int64_t, Bytes> blobs;
  std::map<std::filesystem::path, std::filesystem::file_time_type> segments;  ///< when last put back

  static Result<std::unique_ptr<Writer>> writer(const std::string& path, bool create) {
    static const Migration migrations[] = {kBlobSchema, kBlobSchema2, kBlobSchema3, kBlobSchema4};
    WriterOptions w;
    w.create = create;
    w.migrations = migrations;
    w.background = false;
    return Writer::open(path, std::move(w));
  }
  static ContentStore::Options options() {
    ContentStore::Options o;
    o.workers = -1;
    return o;
  }
  World() {
    auto w = writer(dir / "vault.db", true);
    if (!w) std::abort();
    {
      auto store = ContentStore::open(**w, real_disk(), dir / "segments", system_clock(), options());
      if (!store) std::abort();
      const std::size_t sizes[] = {500, 3000, 70'000, 300'000, (4u << 20) + 100'000};
      unsigned seed = 0;
      for (const std::size_t n : sizes) {
        const Bytes content = blob::random_bytes(n, ++seed);
        auto c = (*store)->open_content(BucketId{1}, {});
        if (!c || !(*c)->write(0, content)) std::abort();
        auto staged = (*c)->stage(Content::For::publish);
        if (!staged) std::abort();
        auto info = (*w)->mutate_content([&](Tx& tx) -> Result<BlobInfo> {
          INDRA_LET(const BlobInfo i, (*staged)->apply(tx, false));
          INDRA_TRY((*store)->add_ref(tx, i.id));
          return i;
        });
        if (!info) std::abort();
        (*staged)->accept();
        blobs[info->id.raw()] = content;
      }
      if (!(*store)->sync_content() || !(*w)->barrier()) std::abort();
    }
    w->reset();
    std::ifstream in{dir / "vault.db", std::ios::binary};
    database.assign(std::istreambuf_iterator<char>{in}, {});
    std::filesystem::copy(dir / "segments", dir / "whole");
  }
  void put_back() {
    for (const char* end : {"vault.db-wal", "vault.db-shm", "vault.db-mark"})
      std::filesystem::remove(dir / end);
    std::ofstream{dir / "vault.db", std::ios::binary | std::ios::trunc} << database;
    // An opening cuts segments off where the rows say that they end.
    for (const auto& e : std::filesystem::directory_iterator(dir / "segments"))
      if (!std::filesystem::exists(std::filesystem::path{dir / "whole"} / e.path().filename()))
        std::filesystem::remove(e.path());
    for (const auto& e : std::filesystem::directory_iterator(dir / "whole")) {
      const auto name = std::filesystem::path{dir / "segments"} / e.path().filename();
      if (const auto was = segments.find(name); was != segments.end() && std::filesystem::exists(name) &&
                                                was->second == std::filesystem::last_write_time(name))
        continue;
      std::filesystem::copy_file(e.path(), name, std::filesystem::copy_options::overwrite_existing);
      segments[name] = std::filesystem::last_write_time(name);
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  log::set_level("off");
  static World world;
  world.put_back();
  const bool unchanged = size < 4, one_bit = unchanged || data[0] % 4 == 0;
  if (!unchanged) {
    const ByteView rest = std::as_bytes(std::span{data + 3, size - 3});
    auto db = Db::open(world.dir / "vault.db", {});
    if (!db) std::abort();
    Tx tx = (*db)->borrow();
    const auto change = [&](const char* read, const char* write) {
      std::int64_t id = 0;
      Bytes bytes;
      {
        Statement q{tx, read};
        const auto row = q.bind(1, std::int64_t{data[1]}).step();
        if (!row || !*row) return;
        id = q.int64_at(0);
        bytes.assign(q.blob_at(1).begin(), q.blob_at(1).end());
      }
      if (one_bit) {
        if (bytes.empty()) return;
        bytes[(data[2] * 257u + data[3]) % bytes.size()] ^= static_cast<std::byte>(1u << data[0] / 4 % 8);
      } else {
        const std::size_t at = bytes.empty() ? 0 : data[2] * 16u % bytes.size();
        bytes.resize(std::max(at, bytes.size() - std::min<std::size_t>(bytes.size(), data[2] % 3 * 48u)));
        for (std::size_t i = 0; i < rest.size(); ++i)
          if (at + i < bytes.size())
            bytes[at + i] = rest[i];
          else
            bytes.push_back(rest[i]);
      }
      (void)Statement{tx, write}.bind(1, id).bind_blob(2, bytes).run();
    };
    switch (one_bit ? data[0] / 32 % 2 : data[0] % 7) {
      case 0:
        change("SELECT id, data FROM pages ORDER BY id LIMIT 1 OFFSET ?1 % (SELECT count(*) FROM pages)",
               "UPDATE pages SET data = ?2 WHERE id = ?1");
        break;
      case 1:
        change("SELECT id, data FROM blobs WHERE form = 1 ORDER BY id LIMIT 1 OFFSET ?1 % 4",
               "UPDATE blobs SET data = ?2 WHERE id = ?1");
        break;
      case 2:
        change("SELECT id, hash FROM blobs ORDER BY id LIMIT 1 OFFSET ?1 % 5",
               "UPDATE blobs SET hash = ?2, twin = 1 WHERE id = ?1");
        break;
      case 3:
        change("SELECT id, data FROM blobs ORDER BY id LIMIT 1 OFFSET ?1 % 5",
               "UPDATE blobs SET form = 1 - form, data = ?2 WHERE id = ?1");
        break;
      case 4:
        change("SELECT id, CAST(size AS BLOB) FROM blobs ORDER BY id LIMIT 1 OFFSET ?1 % 5",
               "UPDATE blobs SET size = abs(CAST(?2 AS INTEGER)) % 17592186044417 WHERE id = ?1");
        break;
      case 5:
        change("SELECT id, data FROM blobs ORDER BY id LIMIT 1 OFFSET ?1 % 5",
               "INSERT OR REPLACE INTO patches(blob, block, seal, data) VALUES(?1, length(?2) % 80, 1, ?2)");
        break;
      default:
        change("SELECT id, CAST(end AS BLOB) FROM segments ORDER BY id LIMIT 1 OFFSET ?1 % 2",
               "UPDATE segments SET end = CAST(?2 AS INTEGER), live = 0 WHERE id = ?1");
    }
    {
      Tx all = (*db)->borrow();
      (void)each_kept(all, [](KeptChunk c) -> Result<void> {
        Bytes zeros(c.length);
        (void)matches(c, zeros);
        return {};
      });
    }
    if (!(*db)->execute("PRAGMA wal_checkpoint(TRUNCATE)")) std::abort();
  }
  const auto refused = [&] {
    if (unchanged) std::abort();
    return 0;
  };
  auto w = World::writer(world.dir / "vault.db", false);
  if (!w) return refused();
  auto store = ContentStore::open(**w, real_disk(), world.dir / "segments", system_clock(), World::options());
  if (!store) return refused();
  for (const auto& [id, content] : world.blobs) {
    auto c = (*store)->open_frozen(BucketId{1}, BlobId{id});
    if (!c) {
      refused();
      continue;
    }
    Bytes out(64 * 1024);
    for (std::size_t at = 0; at < content.size(); at += out.size()) {
      const auto n = (*c)->read(at, out);
      if (!n) refused();
      if (n && one_bit &&
          (*n != std::min(out.size(), content.size() - at) ||
           !std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(*n),
                       content.begin() + static_cast<std::ptrdiff_t>(at))))
        std::abort();
    }
  }
  return 0;
}
