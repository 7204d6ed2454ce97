// A vault at rest, read by a connection of its own: every number must agree with every other, every chunk
// with its hash, and nothing may take up room that nobody refers to.
#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "blob/hash.h"
#include "blob/internal/store.h"
#include "db/db.h"
#include "lab/lab.h"

namespace indra::lab {
namespace {

using blob::Entry;

class Inspector {
 public:
  Inspector(MemDisk& disk, Db& db, std::string dir) : disk_{disk}, tx_{db.borrow()}, dir_{std::move(dir)} {}

  std::vector<std::string> run() {
    if (auto r = check(); !r) say(r.error().text());
    return std::move(wrong_);
  }
  std::map<std::string, std::set<std::uint64_t>> living() {
    std::map<std::string, std::set<std::uint64_t>> out;
    if (const auto extents = chunks())
      for (const auto& [where, what] : *extents) {
        const std::uint64_t from = where & 0xFFFFFFFF, to = from + what.first;
        for (std::uint64_t b = from / 4096; b <= (to - 1) / 4096; ++b)
          out[path_of(static_cast<std::uint32_t>(where >> 32))].insert(b * 4096);
      }
    return out;
  }

 private:
  void say(std::string what) {
    if (wrong_.size() < 10) wrong_.push_back(std::move(what));
  }
  Result<std::int64_t> one(const char* sql) {
    Statement q{tx_, sql};
    INDRA_TRY(q.step());
    return q.int64_at(0);
  }
  Result<void> none(const char* sql, const std::string& what) {
    Statement q{tx_, sql};
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) return {};
      say(what + " " + std::to_string(q.int64_at(0)));
    }
  }

  Result<void> check() {
    {
      Statement q{tx_, "PRAGMA integrity_check"};
      INDRA_TRY(q.step());
      if (q.text_at(0) != "ok") say("SQLite: " + std::string{q.text_at(0)});
    }
    INDRA_TRY(none("SELECT id FROM blobs WHERE refs = 0", "nobody refers to blob"));
    INDRA_TRY(none("SELECT blob FROM patches", "there are patches of blob"));
    INDRA_TRY(none("SELECT segment FROM dead_extents", "there are dead extents in segment"));
    INDRA_TRY(none("SELECT family FROM loose", "there is loose content of family"));
    INDRA_TRY(none("SELECT node FROM sessions", "there is a session of node"));
    INDRA_TRY(none("SELECT node FROM nodes WHERE nlink = 0 AND mode <> 0", "there is an orphan, node"));
    INDRA_TRY(
        none("SELECT b.id FROM blobs b WHERE b.refs <> (SELECT count(*) FROM nodes WHERE blob = b.id) + "
             "(SELECT count(*) FROM nodes_past WHERE blob = b.id)",
             "the references are not as many as the blob says:"));
    INDRA_TRY(
        none("SELECT node FROM (SELECT node, blob FROM nodes UNION ALL SELECT node, blob FROM nodes_past) "
             "WHERE blob <> 0 AND blob NOT IN (SELECT id FROM blobs)",
             "there is no such blob as that of node"));
    INDRA_TRY(none("SELECT n.node FROM nodes n JOIN blobs b ON b.id = n.blob WHERE n.size <> b.size",
                   "its blob has another size: node"));
    INDRA_TRY(
        none("SELECT seq FROM changes GROUP BY seq HAVING count(*) > 1", "two changes have the number"));
    INDRA_TRY(
        none("SELECT e.node FROM edges e WHERE e.node IS NOT NULL AND e.node NOT IN (SELECT node FROM nodes)",
             "a name leads to a node that is not there:"));
    return content();
  }

  Result<void> content() {
    INDRA_LET(const auto extents, chunks());
    return space(extents);
  }

  using Extents = std::map<std::uint64_t, std::pair<std::uint32_t, std::uint64_t>>;  // where -> space, blob

  Result<Extents> chunks() {
    std::set<std::uint64_t> pages;
    Extents extents;
    const blob::PageLoader load = [&](std::uint64_t id) -> Result<blob::PagePtr> {
      pages.insert(id);
      Statement q{tx_, "SELECT data FROM pages WHERE id = ?1"};
      INDRA_LET(const bool row, q.bind(1, static_cast<std::int64_t>(id)).step());
      if (!row) return fail(Errc::corrupt, "manifest page " + std::to_string(id) + " is missing");
      auto page = std::make_shared<blob::Page>();
      INDRA_TRY(decode_page(q.blob_at(0), std::nullopt, *page));
      page->id = id;
      return page;
    };
    Statement q{tx_, "SELECT id, size, hash, form, data FROM blobs"};
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) break;
      const std::int64_t id = q.int64_at(0);
      std::optional<BlobHash> hash;
      if (!q.is_null(2)) hash = BlobHash::from_digest(q.blob_at(2));
      if (q.int64_at(3) == 0) {
        if (hash && BlobHash::of(q.blob_at(4)) != *hash)
          say("blob " + std::to_string(id) + " does not match its hash");
        continue;
      }
      blob::Manifest m;
      m.size = static_cast<std::uint64_t>(q.int64_at(1));
      auto root = std::make_shared<blob::Page>();
      INDRA_TRY(decode_page(q.blob_at(4), hash, *root));
      m.root = std::move(root);
      INDRA_TRY(each_chunk(m, 0, load, [&](std::uint64_t index, const Entry& e) -> Result<bool> {
        const auto [it, fresh] =
            extents.try_emplace(e.where, blob::space_of(e), static_cast<std::uint64_t>(id));
        it->second.first = std::max(it->second.first, blob::space_of(e));
        if (auto bytes = read(e); !bytes)
          say("blob " + std::to_string(id) + ", chunk " + std::to_string(index) + ": " +
              bytes.error().text());
        else if (!(e.root ? std::ranges::equal(BlobHash::of(*bytes).bytes(), e.cv.bytes)
                          : chunk_cv(index, *bytes) == e.cv))
          say("blob " + std::to_string(id) + ", chunk " + std::to_string(index) + " does not match its hash");
        return true;
      }));
    }
    Statement p{tx_, "SELECT id FROM pages"};
    for (;;) {
      INDRA_LET(const bool more, p.step());
      if (!more) break;
      if (!pages.contains(static_cast<std::uint64_t>(p.int64_at(0))))
        say("nobody refers to manifest page " + std::to_string(p.int64_at(0)));
    }
    return extents;
  }

  Result<Bytes> read(const Entry& e) {
    if (e.segment() == blob::kInDatabase) {
      Statement q{tx_, "SELECT data FROM chunks WHERE id = ?1"};
      INDRA_LET(const bool row, q.bind(1, static_cast<std::int64_t>(e.offset())).step());
      if (!row || q.blob_at(0).size() != e.length) return fail(Errc::corrupt, "its row is missing");
      return Bytes{q.blob_at(0).begin(), q.blob_at(0).end()};
    }
    INDRA_LET(const auto f, disk_.open(path_of(e.segment()), false));
    Bytes b(e.length);
    INDRA_LET(const std::size_t n, f->read(e.offset(), b));
    if (n != b.size()) return fail(Errc::corrupt, "lies beyond the end of its segment");
    return b;
  }
  [[nodiscard]] std::string path_of(std::uint32_t segment) const {
    char name[16];
    std::snprintf(name, sizeof name, "%08u.seg", segment);
    return dir_ + "/segments/" + name;
  }

  [[nodiscard]] bool is_packed(const std::string& path) const {
    std::array<std::byte, 20> header{};
    const auto f = disk_.open(path, false);
    return f && (*f)->read(0, header) && load_le<std::uint32_t>(header.data() + 16) != 0;
  }

  Result<void> space(const Extents& extents) {
    std::map<std::uint32_t, std::set<std::uint64_t>> living;  // blocks of a segment
    std::map<std::uint32_t, std::uint64_t> bytes;
    std::uint64_t end = 0;
    for (const auto& [where, what] : extents) {
      if (where < end) say("two extents overlap at " + std::to_string(where));
      end = where + what.first;
      bytes[static_cast<std::uint32_t>(where >> 32)] += what.first;
      for (std::uint64_t b = (where & 0xFFFFFFFF) / 4096; b <= ((where & 0xFFFFFFFF) + what.first - 1) / 4096;
           ++b)
        living[static_cast<std::uint32_t>(where >> 32)].insert(b * 4096);
    }
    std::set<std::string> known;
    Statement q{tx_, "SELECT id, live, end FROM segments"};
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) break;
      const auto id = static_cast<std::uint32_t>(q.int64_at(0));
      const std::string path = path_of(id);
      known.insert(path);
      if (static_cast<std::uint64_t>(q.int64_at(1)) != bytes[id])
        say("segment " + std::to_string(id) + " says that " + std::to_string(q.int64_at(1)) +
            " bytes live, and " + std::to_string(bytes[id]) + " do");
      // Where small extents lie one behind the other the last block may still be written to (C8).
      const std::uint64_t until =
          is_packed(path) ? static_cast<std::uint64_t>(q.int64_at(2)) / 4096 * 4096 : UINT64_MAX;
      std::uint64_t leaked = 0;
      for (const std::uint64_t at : disk_.blocks(path))
        if (at >= 4096 && at < until && !living[id].contains(at)) ++leaked;
      if (leaked != 0)
        say("segment " + std::to_string(id) + " holds " + std::to_string(leaked) +
            " blocks that nobody refers to");
    }
    Statement c{tx_, "SELECT id FROM chunks"};
    for (;;) {
      INDRA_LET(const bool more, c.step());
      if (!more) break;
      if (!extents.contains(std::uint64_t{blob::kInDatabase} << 32 |
                            static_cast<std::uint64_t>(c.int64_at(0))))
        say("nobody refers to chunk row " + std::to_string(c.int64_at(0)));
    }
    INDRA_LET(const auto names, disk_.list(dir_ + "/segments"));
    for (const std::string& name : names)
      if (!known.contains(dir_ + "/segments/" + name)) ++strange_;
    if (strange_ > 2) say(std::to_string(strange_) + " segment files are of no use");
    return {};
  }

  MemDisk& disk_;
  Tx tx_;
  std::string dir_;
  int strange_ = 0;  // one of each kind may have been begun
  std::vector<std::string> wrong_;
};

}  // namespace

std::vector<std::string> inspect_at_rest(MemDisk& disk, const char* vfs, const std::string& dir) {
  const auto db = Db::open(dir + "/vault.db", {.read_only = true, .vfs_below = vfs});
  if (!db) return {"a second connection: " + db.error().text()};
  return Inspector{disk, **db, dir}.run();
}

std::map<std::string, std::set<std::uint64_t>> living_blocks(MemDisk& disk, const char* vfs,
                                                             const std::string& dir) {
  const auto db = Db::open(dir + "/vault.db", {.read_only = true, .vfs_below = vfs});
  return db ? Inspector{disk, **db, dir}.living() : std::map<std::string, std::set<std::uint64_t>>{};
}

}  // namespace indra::lab
