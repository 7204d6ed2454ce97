// Faults that a program or a disk might have. Each is planted below or beside the vault: the laboratory must
// find it.
#include <memory>

#include "db/db.h"
#include "db/vfs.h"
#include "lab/lab.h"

namespace indra::lab {
namespace {

using DiskOp = MemDisk::Op;

bool is_segment(const std::string& path) { return path.ends_with(".seg"); }
bool is_wal(const std::string& path) { return path.ends_with("-wal"); }
bool is_database(const std::string& path) { return path.ends_with("vault.db"); }

/// This answer for each call of that kind.
MemDisk::Fault answers(DiskOp which, bool (*file)(const std::string&), int answer) {
  return [=](DiskOp op, const std::string& path) {
    return op == which && (file == nullptr || file(path)) ? answer : 0;
  };
}

/// SQL on the vault, by a connection of its own.
void execute(const char* vfs, const std::string& dir, const std::string& sql, bool plain = false) {
  auto db =
      plain ? Db::open(dir + "/vault.db", {.vfs = vfs}) : Db::open(dir + "/vault.db", {.vfs_below = vfs});
  if (db) (void)(*db)->execute("PRAGMA busy_timeout=0; " + sql);
}

Fault stranger() {
  Fault f;
  const auto asleep = std::make_shared<bool>(false);
  f.disk = [asleep](DiskOp op, const std::string& path) {
    return *asleep && op == DiskOp::sync && (is_database(path) || is_wal(path)) ? MemDisk::kSwallow : 0;
  };
  f.meddle = [asleep](MemDisk&, const char* vfs, const std::string& dir) {
    *asleep = true;  // its synchronous=OFF
    execute(vfs, dir, "PRAGMA synchronous=OFF; PRAGMA wal_checkpoint(TRUNCATE)", true);
    *asleep = false;
  };
  return f;
}

/// A manifest's root page goes back to what it was at the meddling before.
Fault stale_page() {
  Fault f;
  const auto seen = std::make_shared<std::map<std::int64_t, std::pair<std::int64_t, Bytes>>>();
  f.meddle = [seen](MemDisk&, const char* vfs, const std::string& dir) {
    auto db = Db::open(dir + "/vault.db", {.vfs_below = vfs});
    if (!db || !(*db)->execute("PRAGMA busy_timeout=0; BEGIN IMMEDIATE")) return;
    Tx tx = (*db)->borrow();
    std::map<std::int64_t, std::pair<std::int64_t, Bytes>> now;
    {
      Statement q{tx, "SELECT id, size, data FROM blobs WHERE form = 1"};
      for (auto row = q.step(); row && *row; row = q.step())
        now[q.int64_at(0)] = {q.int64_at(1), Bytes{q.blob_at(2).begin(), q.blob_at(2).end()}};
    }
    for (const auto& [id, page] : now) {
      const auto before = seen->find(id);
      if (before == seen->end() || before->second.first != page.first || before->second.second == page.second)
        continue;
      (void)Statement{tx, "UPDATE blobs SET data = ?2 WHERE id = ?1"}
          .bind(1, id)
          .bind_blob(2, before->second.second)
          .run();
    }
    (void)(*db)->execute("COMMIT");
    *seen = std::move(now);
  };
  return f;
}

/// A collector that knows rows only: what a file being written has placed already is garbage to it.
Fault collector() {
  Fault f;
  f.meddle = [](MemDisk& disk, const char* vfs, const std::string& dir) {
    const auto living = living_blocks(disk, vfs, dir);
    const auto names = disk.list(dir + "/segments");
    if (!names) return;
    for (const std::string& name : *names) {
      const std::string path = dir + "/segments/" + name;
      const auto file = disk.open(path, false);
      const auto it = living.find(path);
      for (const std::uint64_t at : disk.blocks(path))
        if (at >= 4096 && (it == living.end() || !it->second.contains(at))) (void)(*file)->punch(at, 4096);
    }
  };
  return f;
}

Fault hasty_punch() {
  Fault f;
  const auto collecting = std::make_shared<bool>(false);
  f.before = [collecting](const std::string& verb) { *collecting = verb == "tick"; };
  f.disk = [collecting](DiskOp op, const std::string& path) {
    if (!*collecting) return 0;
    if (op == DiskOp::sync && is_wal(path)) return MemDisk::kSwallow;
    return op == DiskOp::punch ? MemDisk::kAtOnce : 0;
  };
  return f;
}

Fault at_recovery(const std::string& sql) {
  Fault f;
  f.at_recovery = [sql](MemDisk&, const char* vfs, const std::string& dir) { execute(vfs, dir, sql); };
  return f;
}

Fault on_disk(MemDisk::Fault disk) {
  Fault f;
  f.disk = std::move(disk);
  return f;
}

const std::map<std::string, Fault (*)()>& all() {
  static const std::map<std::string, Fault (*)()> faults{
      {"a_segments_fsync_is_dropped",
       [] { return on_disk(answers(DiskOp::sync, is_segment, MemDisk::kSwallow)); }},
      {"a_commit_comes_before_its_segments_sync",
       [] { return on_disk(answers(DiskOp::sync, is_segment, MemDisk::kPutOff)); }},
      {"an_fsync_flushes_nothing", [] { return on_disk(answers(DiskOp::sync, is_wal, MemDisk::kSwallow)); }},
      {"a_commit_is_reordered",
       [] {
         Fault f;
         f.holds_back = true;
         return f;
       }},
      {"a_manifest_page_is_stale", stale_page},
      {"a_database_page_is_stale",
       [] {
         const auto n = std::make_shared<int>(0);
         return on_disk([n](DiskOp op, const std::string& path) {
           return op == DiskOp::write && is_database(path) && ++*n % 16 == 0 ? MemDisk::kSwallow : 0;
         });
       }},
      {"a_collector_knows_no_leases", collector},
      {"space_is_freed_before_its_commit_is_durable", hasty_punch},
      {"space_is_punched_without_a_barrier",
       [] {
         Fault f = on_disk(answers(DiskOp::punch, is_segment, MemDisk::kAtOnce));
         f.leaves_out = "collect.barrier";
         return f;
       }},
      {"a_directory_sync_is_lost",
       [] { return on_disk(answers(DiskOp::sync_dir, nullptr, MemDisk::kSwallow)); }},
      {"a_sequence_number_is_used_again",
       [] {
         return at_recovery(
             "UPDATE counters SET reserved = (SELECT max(seq) FROM changes), clean = 1 WHERE name = 'seq'");
       }},
      {"a_node_number_is_used_again",
       [] {
         return at_recovery(
             "UPDATE counters SET reserved = (SELECT max(node) FROM nodes), clean = 1 WHERE name = 'node'");
       }},
      {"a_stranger_checkpoints", stranger},
      {"a_database_is_never_synced",
       [] { return on_disk(answers(DiskOp::sync, is_database, MemDisk::kSwallow)); }},
      {"a_write_to_a_segment_is_lost",
       [] {
         const auto n = std::make_shared<int>(0);
         return on_disk([n](DiskOp op, const std::string& path) {
           return op == DiskOp::write && is_segment(path) && ++*n % 4 == 0 ? MemDisk::kSwallow : 0;
         });
       }},
      {"a_wal_is_ended_without_a_sync",
       [] {
         // The first write to the WAL after all of it went to the file (V6).
         const auto since = std::make_shared<int>(2);
         return on_disk([since](DiskOp op, const std::string& path) {
           if (op == DiskOp::sync && is_database(path)) *since = 0;
           if (op == DiskOp::write && is_wal(path)) ++*since;
           return op == DiskOp::sync && is_wal(path) && *since == 1 ? MemDisk::kSwallow : 0;
         });
       }},
      {"a_hole_is_never_punched",
       [] { return on_disk(answers(DiskOp::punch, is_segment, MemDisk::kSwallow)); }},
      {"a_wal_is_cut_short",
       [] {
         Fault f;
         f.at_recovery = [](MemDisk& disk, const char*, const std::string& dir) {
           const std::string wal = dir + "/vault.db-wal";
           const auto file = disk.open(wal, false);
           if (!file) return;
           // One frame is left. (Half of the file may well be room that no frame took yet.)
           constexpr std::uint64_t kLeft = kWalHeader + kWalFrame;
           if ((*file)->size().value_or(0) > kLeft) (void)disk.resize(wal, kLeft);
         };
         return f;
       }},
  };
  return faults;
}

}  // namespace

Fault planted(const std::string& name) {
  Fault f = all().at(name)();
  f.name = name;
  return f;
}

std::vector<std::string> planted_names() {
  std::vector<std::string> names;
  for (const auto& [name, make] : all()) names.push_back(name);
  return names;
}

}  // namespace indra::lab
