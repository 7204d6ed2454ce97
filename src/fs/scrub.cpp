// The scrub: its slices, its place, and the files that what it found concerns.
#include <algorithm>
#include <set>

#include "base/log.h"
#include "db/check.h"
#include "events/coord.h"
#include "fs/internal/fs_impl.h"
#include "tree/check.h"

namespace indra {
namespace {
using Json = Coord::Json;

constexpr std::uint64_t kSlice = 1ull << 20;
constexpr std::uint32_t kPages = 256;
constexpr int kSlicesAtOnce = 256;                  // others have their turn between
constexpr TimeNs kAtOnce = 300 * (kSecond / 1000);  // likewise
constexpr TimeNs kKeepEvery = 5 * kSecond;          // a crash costs as much of reading again
constexpr std::size_t kDamageKept = 1000;
constexpr std::size_t kFilesNamed = 256;  // for one damaged place

const Clock& steady() { return system_clock(); }
}  // namespace

Result<void> FileSystemImpl::keep_scrub() {
  Json j;
  {
    const MutexLock lock{scrub_mutex_};
    Json damage = Json::array();
    for (const auto& d : scrub_.damage) damage.push_back({d.blob.raw(), d.from, d.to, d.what});
    j = {{"running", scrub_.running},
         {"started", scrub_.started},
         {"finished", scrub_.finished},
         {"bytes", scrub_.bytes},
         {"total", scrub_.total},
         {"rate", scrub_.rate},
         {"blob", scrub_.place.blob.raw()},
         {"chunk", scrub_.place.chunk},
         {"content_done", scrub_.content_done},
         {"page", scrub_.page},
         {"damage", std::move(damage)}};
  }
  const std::string text = j.dump(-1, ' ', false, Json::error_handler_t::replace);
  return writer_->mutate([&](Tx& tx) {
    return Statement{tx, "INSERT OR REPLACE INTO properties(name, value) VALUES('scrub', ?1)"}
        .bind_text(1, text)
        .run();
  });
}

Result<void> FileSystemImpl::load_scrub() {
  INDRA_LET(const std::string text, writer_->read([&](Tx& tx) -> Result<std::string> {
    Statement q{tx, "SELECT value FROM properties WHERE name = 'scrub'"};
    INDRA_LET(const bool row, q.step());
    return row ? std::string{q.text_at(0)} : std::string{};
  }));
  if (text.empty()) return {};
  const MutexLock lock{scrub_mutex_};
  try {
    const Json j = Json::parse(text);
    Scrubbing s;
    s.running = j.at("running").get<bool>();
    s.started = j.at("started").get<TimeNs>();
    s.finished = j.at("finished").get<TimeNs>();
    s.bytes = j.at("bytes").get<std::uint64_t>();
    s.total = j.at("total").get<std::uint64_t>();
    s.rate = j.at("rate").get<std::uint64_t>();
    s.place = {BlobId{j.at("blob").get<std::int64_t>()}, j.at("chunk").get<std::uint64_t>()};
    s.content_done = j.at("content_done").get<bool>();
    s.page = j.at("page").get<std::uint32_t>();
    for (const Json& d : j.at("damage"))
      s.damage.push_back({BlobId{d.at(0).get<std::int64_t>()}, d.at(1).get<std::uint64_t>(),
                          d.at(2).get<std::uint64_t>(), d.at(3).get<std::string>()});
    scrub_ = std::move(s);
  } catch (const Json::exception& e) {
    log::error("where the last scrub was is not known: {}", e.what());  // the next one begins anew
    return {};
  }
  scrub_wanted_ = scrub_.running && options_.jobs;
  return {};
}

Result<void> FileSystemImpl::scrub(std::uint64_t rate, bool again) {
  // About what there is to read, each shared byte once.
  const auto content = writer_->read([](Tx& tx) -> Result<std::uint64_t> {
    Statement q{tx,
                "SELECT (SELECT coalesce(sum(live), 0) FROM segments) + (SELECT coalesce(sum(size), 0) FROM "
                "blobs WHERE form = 0) + (SELECT coalesce(sum(length(data)), 0) FROM chunks)"};
    INDRA_TRY(q.step());
    return static_cast<std::uint64_t>(q.int64_at(0));
  });
  const auto pages = writer_->read([](Tx& tx) { return tx.db().pragma("PRAGMA page_count"); });
  {
    const MutexLock lock{scrub_mutex_};
    if (!scrub_.running || again) {
      scrub_ = {};
      scrub_.running = true;
      scrub_.started = clock_->now();
      // Of a damaged vault it may not be known.
      scrub_.total = (content ? *content : 0) + (pages ? static_cast<std::uint64_t>(*pages) * 4096 : 0);
    }
    scrub_.rate = rate;
  }
  scrub_wanted_ = true;
  write_down();
  look_for_jobs();
  return {};
}

Result<void> FileSystemImpl::stop_scrub() {
  scrub_wanted_ = false;
  const MutexLock lock{work_mutex_};  // no slice is under way any more
  write_down();
  return {};
}

/// A scrub that cannot be written down goes on all the same.
void FileSystemImpl::write_down() {
  if (auto r = keep_scrub(); !r && !writer_->failed()) log::warn("scrub: {}", r.error().text());
}

/// Slices as long as it may. True: there is more.
Result<bool> FileSystemImpl::scrub_some() {
  const TimeNs begun = steady().steady();
  for (int n = 0; n < kSlicesAtOnce && !stop_; ++n) {
    const TimeNs now = steady().steady();
    if (!scrub_wanted_ || now < scrub_next_ || now - begun > kAtOnce) return scrub_wanted_.load();
    Scrubbing s;
    {
      const MutexLock lock{scrub_mutex_};
      s = scrub_;
    }
    std::vector<ContentStore::Damage> damage;
    std::uint64_t bytes = 0;
    bool end = false;
    if (!s.content_done) {
      auto slice = store_->scrub(s.place, kSlice);
      if (slice) {
        bytes = slice->bytes;
        s.place = slice->next;
        damage = std::move(slice->damage);
        s.content_done = slice->end;
      } else if (slice.error().code == make_error_code(Errc::corrupt) || writer_->failed()) {
        damage.push_back({{}, 0, 0, "the rest of the content cannot be found: " + slice.error().text()});
        s.content_done = true;
      } else {
        return fail(slice.error());
      }
      // What was in the WAL is read in its place. A damaged vault may take no changes any more, and is read
      // on.
      if (s.content_done && writer_->barrier()) (void)writer_->checkpoint();
    } else {
      INDRA_LET(const auto slice, read_pages(dir_.db_path(), options_.vfs_below, s.page, kPages));
      bytes = slice.bytes;
      for (const std::uint32_t page : slice.wrong)
        damage.push_back({{},
                          (page - 1) * std::uint64_t{4096},
                          page * std::uint64_t{4096},
                          "page " + std::to_string(page) + " of vault.db does not match its checksum"});
      end = !slice.next;
      s.page = slice.next.value_or(0);
    }
    for (auto& d : damage) {
      log::error("scrub: {}{}", d.blob ? "blob " + std::to_string(d.blob.raw()) + ": " : "", d.what);
      if (s.damage.size() < kDamageKept) s.damage.push_back(std::move(d));
    }
    s.bytes += bytes;
    if (end) {
      s.running = false;
      s.finished = clock_->now();
    }
    {
      const MutexLock lock{scrub_mutex_};
      if (scrub_.started != s.started) continue;  // begun anew meanwhile
      s.rate = scrub_.rate;
      scrub_ = s;
    }
    if (end) {
      scrub_wanted_ = false;
      write_down();
      return false;
    }
    if (s.rate != 0)
      scrub_next_ = std::max(scrub_next_, now - kSecond / 5) +
                    static_cast<TimeNs>(static_cast<double>(std::max<std::uint64_t>(bytes, 4096)) *
                                        static_cast<double>(kSecond) / static_cast<double>(s.rate));
    if (now - scrub_kept_ > kKeepEvery) {
      scrub_kept_ = now;
      write_down();
    }
  }
  return scrub_wanted_.load();
}

FileSystem::Scrub FileSystemImpl::scrub_progress() {
  Scrub out;
  const MutexLock lock{scrub_mutex_};
  out.running = scrub_.running;
  out.started = scrub_.started;
  out.finished = scrub_.finished;
  out.bytes = scrub_.bytes;
  out.total = scrub_.running ? std::max(scrub_.total, scrub_.bytes) : scrub_.bytes;
  out.rate = scrub_.rate;
  return out;
}

Result<FileSystem::Scrub> FileSystemImpl::scrub_status() {
  Scrub out = scrub_progress();
  std::vector<ContentStore::Damage> damage;
  {
    const MutexLock lock{scrub_mutex_};
    damage = scrub_.damage;
  }
  if (damage.empty()) return out;
  std::set<BlobId> blobs;
  for (const auto& d : damage)
    if (d.blob) blobs.insert(d.blob);
  // A connection of its own: nobody waits while the rows are looked through.
  (void)writer_->barrier();
  std::multimap<BlobId, std::pair<std::string, std::string>> files;
  const auto name = [&]() -> Result<void> {
    INDRA_LET(const auto db, Db::open(dir_.db_path(), {.read_only = true, .vfs_below = options_.vfs_below}));
    INDRA_TRY(db->execute("BEGIN"));
    Tx tx = db->borrow();
    INDRA_LET(const Forest forest, Forest::read(tx));
    INDRA_LET(const auto uses, views_of(tx, forest, {blobs.begin(), blobs.end()}, kFilesNamed));
    for (const Use& u : uses) {
      const auto path = path_of(tx, forest, u.branch, u.moment, u.node);
      files.emplace(u.blob, std::pair{forest.title(u.branch, u.moment),
                                      path ? *path : "#" + std::to_string(u.node.raw())});
    }
    return {};
  };
  std::string unnamed;
  if (!blobs.empty())
    if (auto r = name(); !r) unnamed = r.error().text();
  for (const auto& d : damage) {
    Scrub::Damage named{d.from, d.to, d.what, {}};
    const auto [from, to] = files.equal_range(d.blob);
    for (auto it = from; it != to; ++it) named.files.push_back(it->second);
    if (!d.blob) named.files.clear();
    if (d.blob && named.files.empty()) {
      if (unnamed.empty()) continue;  // no file holds it any more
      named.what += "; its files could not be named: " + unnamed;
    }
    out.damage.push_back(std::move(named));
  }
  return out;
}

}  // namespace indra
