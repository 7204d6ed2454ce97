#include <fcntl.h>
#include <unistd.h>

#include <fstream>

#include "backup/internal/dest.h"
#include "backup/internal/test_backup.h"

namespace indra {
namespace {

namespace stdfs = std::filesystem;
using Names = std::vector<std::string>;

std::string dest_of(const TestVault& v) { return v.dir + "/backup"; }

Names packs_of(const std::string& dest) {
  Names all;
  for (const auto& e : stdfs::directory_iterator{dest + "/packs"}) all.push_back(e.path().filename());
  std::sort(all.begin(), all.end());
  return all;
}

// R1, R2, R3: what a restored vault shows is what the vault showed.
TEST(Backup, GivenAVaultWithEverythingInIt_WhenRestored_ThenAllOfItIsThere) {
  for (const bool single : {false, true}) {
    TestVault v;
    v.single_file = single;
    v.fill();
    const auto before = Shown{v}.all;
    const BackupReport r = backed_up(v, dest_of(v));
    EXPECT_EQ(r.number, 1U);
    EXPECT_EQ(r.blocks, r.new_blocks);
    EXPECT_EQ(r.damage, Names{});
    EXPECT_EQ(Shown{v}.all, before);
    const auto w = restored(dest_of(v), single);
    EXPECT_EQ(Shown{*w}.all, before);
    EXPECT_EQ(must(w->fs->status()).player, must(v.fs->status()).player);
    EXPECT_EQ(must(w->fs->status()).vault_id, must(v.fs->status()).vault_id);
  }
}

// R4: only what is new travels; a place whose bytes are others by now is new.
TEST(Backup, GivenABackup_WhenMadeAgain_ThenOnlyWhatIsNewTravels) {
  TestVault v;
  v.fill();
  rest(v);
  const BackupReport first = backed_up(v, dest_of(v));
  const BackupReport again = backed_up(v, dest_of(v));
  EXPECT_EQ(again.number, 2U);
  EXPECT_LT(again.new_bytes, 300U << 10) << "of " << first.new_bytes;  // blocks of vault.db: pins and numbers
  v.put("/docs/deep/pages.bin", TestVault::bytes(100, 9), 1'000'000);
  rest(v);
  const BackupReport edited = backed_up(v, dest_of(v));
  EXPECT_LT(edited.new_bytes, 600U << 10);
  const auto before = Shown{v}.all;
  EXPECT_EQ(Shown{*restored(dest_of(v))}.all, before);
}

// R4, R3: a fold in place writes other bytes into a place that a backup has already.
TEST(Backup, GivenABlockFoldedInPlaceSince_WhenBackedUpAgain_ThenItsNewBytesTravel) {
  TestVault v;
  v.open(true);
  const std::string path = "/big.bin";
  v.put(path, TestVault::bytes(1 << 20, 1));
  must(v.view->setxattr(v.me, v.at(path), "user.indra.versions", as_view("off"), 0));
  rest(v);
  backed_up(v, dest_of(v));
  const auto place = [&] { return v.fs ? must(v.fs->status()).content.physical : 0; };
  const std::uint64_t physical = place();
  const Handle h = must(v.view->open(v.me, v.at(path), O_RDWR));
  must(v.view->write(v.me, h, 300'000, as_view(TestVault::bytes(4096, 2)), false, false));
  must(v.view->fsync(v.me, h, true));
  v.view->release(h);
  v.clock.pass(10 * kSecond);
  rest(v);
  EXPECT_EQ(place(), physical) << "not folded in place: the test shows nothing";
  backed_up(v, dest_of(v));
  const auto before = Shown{v}.all;
  EXPECT_EQ(Shown{*restored(dest_of(v))}.all, before);
}

// R3: what happens while a backup copies does not reach it: nothing it needs is punched or overwritten.
TEST(Backup, GivenChangesWhileItCopies_WhenRestored_ThenItIsTheMomentItBegan) {
  TestVault v;
  v.fill();
  rest(v);
  must(v.view->setxattr(v.me, v.at("/docs/deep/pages.bin"), "user.indra.versions", as_view("off"), 0));
  const auto before = Shown{v}.all;
  BackupOptions o;
  o.faults = FaultPoints{[&](std::string_view point) -> Result<void> {
    if (point != "backup.copy") return {};
    v.put("/docs/deep/pages.bin", TestVault::bytes(9000, 10), 2'000'000);
    v.put("/new.bin", TestVault::bytes(200000, 11));
    must(v.view->unlink(v.me, v.view->root(), "moved.bin"));
    must(v.view->unlink(v.me, v.view->root(), "sparse.bin"));
    must(v.fs->delete_branch({}, "main", "agent"));
    must(v.fs->delete_snapshot({}, "main", "first"));
    v.clock.pass(100 * kSecond);
    for (int i = 0; i < 1000 && must(v.fs->tick()); ++i) v.clock.pass(kSecond);
    rest(v);
    return {};
  }};
  const BackupReport r = backed_up(v, dest_of(v), o);
  EXPECT_EQ(r.damage, Names{});
  EXPECT_EQ(Shown{*restored(dest_of(v))}.all, before);
  // What waited for it goes now.
  for (int i = 0; i < 200 && must(v.fs->tick()); ++i) v.clock.pass(kSecond);
  rest(v);
  EXPECT_EQ(must(v.fs->status()).content.dead, 0U);
}

// That the test above can fail: with nobody who holds the content it is another moment, and is known to be
// damaged.
TEST(Backup, GivenNobodyWhoHolds_WhenChangedWhileItCopies_ThenTheCopyIsKnownToBeDamaged) {
  TestVault v;
  v.open(true);
  v.put("/big.bin", TestVault::bytes(1 << 20, 1));
  must(v.view->setxattr(v.me, v.at("/big.bin"), "user.indra.versions", as_view("off"), 0));
  rest(v);
  BackupOptions o;
  o.faults = FaultPoints{[&](std::string_view point) -> Result<void> {
    if (point != "backup.copy") return {};
    const Handle h = must(v.view->open(v.me, v.at("/big.bin"), O_RDWR));
    must(v.view->write(v.me, h, 300'000, as_view(TestVault::bytes(4096, 2)), false, false));
    must(v.view->fsync(v.me, h, true));
    v.view->release(h);
    rest(v);
    return {};
  }};
  const BackupSource careless{.vault = v.path(),
                              .hold = [&] { return v.fs->sync(true); },
                              .release = []() -> Result<void> { return {}; }};
  EXPECT_EQ(must(back_up(careless, v.dir + "/careless", o)).damage.size(), 1U);
  EXPECT_EQ(backed_up(v, v.dir + "/held", o).damage, Names{});
}

// R5: whatever step it ends at, DEST holds the backup of before, and the next one is whole.
TEST(Backup, GivenAnEndAtEachStep_WhenRestored_ThenItIsTheBackupBefore) {
  TestVault v;
  v.fill();
  backed_up(v, dest_of(v), {.pack_size = 1 << 20});
  auto shown = Shown{v}.all;
  unsigned seed = 100;
  for (const std::string at : {"backup.copy", "backup.block", "backup.state", "backup.renamed"}) {
    v.put("/docs/chunks.bin", TestVault::bytes(150000, seed++), 1000);
    v.put("/more.bin", TestVault::bytes(1'500'000, seed++));
    const Names packs = packs_of(dest_of(v));
    const auto now = Shown{v}.all;
    BackupOptions o{.pack_size = 1 << 20};
    int left = 5;
    o.faults = FaultPoints{[&](std::string_view point) -> Result<void> {
      return point == at && (at != "backup.block" || --left == 0) ? fail(ENOSPC, "planted") : Result<void>{};
    }};
    const auto r = back_up(source_of(v), dest_of(v), o);
    ASSERT_FALSE(r) << at;
    if (at == "backup.renamed") shown = now;                                   // it was taken over already
    if (at != "backup.renamed") EXPECT_EQ(packs_of(dest_of(v)), packs) << at;  // a full disk is not left full
    EXPECT_EQ(Shown{*restored(dest_of(v))}.all, shown) << at;
  }
  backed_up(v, dest_of(v));
  const auto last = Shown{v}.all;
  EXPECT_EQ(Shown{*restored(dest_of(v))}.all, last);
}

// R6: what DEST has lost is noticed, said or copied again.
TEST(Backup, GivenADamagedDestination_WhenVerified_ThenWhatIsLostIsCopiedAgain) {
  TestVault v;
  v.fill();
  backed_up(v, dest_of(v), {.pack_size = 1 << 20});
  const std::string pack = dest_of(v) + "/packs/" + packs_of(dest_of(v)).at(1);
  {  // one bit
    std::fstream f{pack, std::ios::in | std::ios::out | std::ios::binary};
    f.seekg(500000);
    const int c = f.get();
    f.seekp(500000);
    f.put(static_cast<char>(c ^ 8));
  }
  {
    TestVault w;
    const auto r = restore_backup(dest_of(v), w.path());
    EXPECT_TRUE(!r || !r->damage.empty());
  }
  const BackupReport r = backed_up(v, dest_of(v), {.verify = true});
  EXPECT_GT(r.again, 0U);
  const auto before = Shown{v}.all;
  EXPECT_EQ(Shown{*restored(dest_of(v))}.all, before);
  stdfs::resize_file(pack, 1000);  // noticed without being asked
  EXPECT_GT(backed_up(v, dest_of(v)).again, 0U);
  EXPECT_EQ(Shown{*restored(dest_of(v))}.all, before);
}

// R6: what the vault has lost is told; all else is backed up, and what an earlier backup has stays.
TEST(Backup, GivenADamagedVault_WhenBackedUp_ThenTheRestIsThereAndItIsSaid) {
  TestVault v;
  v.open(true);
  v.put("/a.bin", TestVault::bytes(500000, 1));
  v.put("/b.bin", TestVault::bytes(500000, 2));
  rest(v);
  const auto before = Shown{v}.all;
  backed_up(v, dest_of(v));
  v.close();
  const std::string segment = v.path() + "/segments/00000001.seg";
  std::fstream f{segment, std::ios::in | std::ios::out | std::ios::binary};
  f.seekp(100000);
  f.write("damage", 6);
  f.close();
  v.open();
  EXPECT_EQ(backed_up(v, v.dir + "/fresh").damage.size(), 1U);
  EXPECT_EQ(backed_up(v, dest_of(v)).damage, Names{});  // it has it already, and need not look
  EXPECT_EQ(Shown{*restored(dest_of(v))}.all, before);
}

// R6: the same of the queues.
TEST(Backup, GivenQueuesThatAreDamaged_WhenBackedUp_ThenTheBackupKeepsThoseItHas) {
  TestVault v;
  v.open(true);
  v.put("/a.bin", TestVault::bytes(500000, 1));
  {
    const auto db = must(Db::open(v.path() + "/coord.db", {.create = true}));
    must(db->execute("CREATE TABLE q(x); INSERT INTO q VALUES('a job')"));
  }
  backed_up(v, dest_of(v));
  stdfs::remove(v.path() + "/coord.db-wal");
  std::ofstream{v.path() + "/coord.db", std::ios::binary} << std::string(20000, 'x');
  EXPECT_EQ(backed_up(v, dest_of(v)).damage.size(), 1U);
  EXPECT_EQ(backed_up(v, dest_of(v)).damage.size(), 1U);
  TestVault w;
  (void)must(restore_backup(dest_of(v), w.path()));
  const auto db = must(Db::open(w.path() + "/coord.db", {.read_only = true}));
  EXPECT_EQ(must(db->pragma("SELECT count(*) FROM q WHERE x = 'a job'")), 1);
}

// R4: space that is needed no longer is given back.
TEST(Backup, GivenContentThatComesAndGoes_WhenBackedUp_ThenTheDestinationStaysSmall) {
  TestVault v;
  FileSystem::Options without = v.options(true);
  without.automatic_pins = false;  // else what goes stays a version
  v.fs = must(FileSystem::open(v.path(), without));
  v.view = must(v.fs->open_view({}, nullptr));
  v.put("/kept.bin", TestVault::bytes(1'000'000, 1));
  rest(v);
  for (unsigned i = 0; i < 45; ++i) {
    const std::string name = "/b" + std::to_string(i);
    v.put(name, TestVault::bytes(300'000, 50 + i));
    if (i > 0) must(v.view->unlink(v.me, v.view->root(), "b" + std::to_string(i - 1)));
    v.clock.pass(100 * kSecond);
    for (int i = 0; i < 1000 && must(v.fs->tick()); ++i) v.clock.pass(kSecond);
    backed_up(v, dest_of(v));
  }
  EXPECT_LT(packs_of(dest_of(v)).size(), 40U);
  v.close();  // its view still held what was removed
  without.create = false;
  v.fs = must(FileSystem::open(v.path(), without));
  v.view = must(v.fs->open_view({}, nullptr));
  rest(v);
  backed_up(v, dest_of(v));
  backed_up(v, dest_of(v));  // by what was needed last time
  std::uint64_t size = 0;
  for (const auto& e : stdfs::directory_iterator{dest_of(v) + "/packs"}) size += e.file_size();
  EXPECT_LT(size, 6'000'000U);
  const auto before = Shown{v}.all;
  EXPECT_EQ(Shown{*restored(dest_of(v))}.all, before);
}

// R8: no number is given again, not even one that the vault gave after its backup.
TEST(Backup, GivenARestoredVault_WhenChanged_ThenItsNumbersAreBeyondAllOfBefore) {
  TestVault v;
  v.fill();
  backed_up(v, dest_of(v));
  v.put("/later.bin", "after the backup");
  const NodeId later = v.at("/later.bin");
  std::int64_t last = 0;
  for (const auto& c : must(v.fs->changes(Seq{}, 100000))) last = std::max(last, c.seq.raw());
  const auto w = restored(dest_of(v));
  w->put("/first.bin", "after the restore");
  EXPECT_GT(w->at("/first.bin"), later);
  bool epoch = false;
  for (const auto& c : must(w->fs->changes(Seq{last}, 100000))) epoch = epoch || c.op == "epoch";
  EXPECT_TRUE(epoch) << "a watcher of the vault that was would go on as if nothing had happened";
  // And it is backed up into the same place, as the same vault.
  EXPECT_EQ(backed_up(*w, dest_of(v)).number, 2U);
}

// R7: a restore that was cut off at any step is no vault, and can be done again.
TEST(Backup, GivenARestoreThatWasCutOff_WhenOpened_ThenItIsRefusedUntilItIsRestored) {
  TestVault v;
  v.fill();
  backed_up(v, dest_of(v));
  const auto before = Shown{v}.all;
  for (const std::string at : {"restore.block", "restore.rename"}) {
    TestVault w;
    int left = 7;
    const FaultPoints faults{[&](std::string_view point) -> Result<void> {
      return point == at && (at != "restore.block" || --left == 0) ? fail(ENOSPC, "planted") : Result<void>{};
    }};
    ASSERT_FALSE(restore_backup(dest_of(v), w.path(), {}, faults));
    for (const bool create : {false, true}) {
      const auto opened = FileSystem::open(w.path(), w.options(create));
      ASSERT_FALSE(opened) << at;
    }
    (void)must(restore_backup(dest_of(v), w.path()));
    w.open();
    EXPECT_EQ(Shown{w}.all, before);
    const auto twice = restore_backup(dest_of(v), w.path());
    ASSERT_FALSE(twice);
    EXPECT_EQ(twice.error().code, std::errc::directory_not_empty);
  }
}

// R9: places that cannot be one's backup are refused, and stay as they are.
TEST(Backup, GivenAPlaceThatIsNone_WhenBackedUp_ThenItIsRefused) {
  TestVault v, other;
  v.fill();
  other.open(true);
  const auto refused = [&](TestVault& of, const std::string& dest) {
    const auto r = back_up(source_of(of), dest, {});
    EXPECT_FALSE(r) << dest;
    return r ? std::error_code{} : r.error().code;
  };
  EXPECT_EQ(refused(v, v.path()), std::errc::invalid_argument);
  EXPECT_EQ(refused(v, v.path() + "/backup"), std::errc::invalid_argument);
  EXPECT_FALSE(stdfs::exists(v.path() + "/backup"));
  EXPECT_EQ(refused(v, v.dir), std::errc::directory_not_empty);
  EXPECT_EQ(refused(v, v.dir + "/no/such"), std::errc::no_such_file_or_directory);
  stdfs::create_directory(v.dir + "/full");
  std::ofstream{v.dir + "/full/mine"} << "mine";
  EXPECT_EQ(refused(v, v.dir + "/full"), std::errc::directory_not_empty);
  std::ofstream{v.dir + "/file"} << "mine";
  EXPECT_EQ(refused(v, v.dir + "/file"), std::errc::not_a_directory);
  backed_up(v, dest_of(v));
  EXPECT_EQ(refused(other, dest_of(v)), std::errc::file_exists);
  {
    const auto held = must(backup::Dest::open(dest_of(v)));
    EXPECT_EQ(refused(v, dest_of(v)), std::errc::operation_would_block);
    TestVault w;
    EXPECT_FALSE(restore_backup(dest_of(v), w.path()));
  }
  std::ofstream{dest_of(v) + "/state", std::ios::binary | std::ios::in | std::ios::out} << "x";
  EXPECT_NE(refused(v, dest_of(v)), std::error_code{});
  TestVault w;
  EXPECT_FALSE(restore_backup(v.dir + "/full", w.path()));
  EXPECT_FALSE(stdfs::exists(w.path()));
}

// R10: nobody else can read it, whatever the umask.
TEST(Backup, GivenAnOpenUmask_WhenBackedUpAndRestored_ThenNobodyElseCanReadAnyOfIt) {
  TestVault v, w;
  v.fill();
  const mode_t before = ::umask(0);
  backed_up(v, dest_of(v));
  (void)must(restore_backup(dest_of(v), w.path()));
  ::umask(before);
  std::size_t seen = 0;
  for (const std::string& top : {dest_of(v), w.path()}) {
    EXPECT_EQ(stdfs::status(top).permissions(), stdfs::perms::owner_all) << top;
    for (const auto& e : stdfs::recursive_directory_iterator{top}) {
      ++seen;
      EXPECT_EQ(e.status().permissions() & (stdfs::perms::group_all | stdfs::perms::others_all),
                stdfs::perms::none)
          << e.path();
    }
  }
  EXPECT_GE(seen, 8U);
}

TEST(BackupState, GivenAnyByteChangedOrCutOff_WhenParsed_ThenItIsRefused) {
  TestVault v;
  v.open(true);
  v.put("/a.bin", TestVault::bytes(200000, 1));
  backed_up(v, dest_of(v));
  std::ifstream in{dest_of(v) + "/state", std::ios::binary};
  std::string all{std::istreambuf_iterator<char>{in}, {}};
  ASSERT_TRUE(backup::State::parse(as_view(all)));
  for (std::size_t i = 0; i < all.size(); i += 1 + i / 50) {
    std::string bad = all;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_FALSE(backup::State::parse(as_view(bad))) << i;
    EXPECT_FALSE(backup::State::parse(as_view(all).first(i))) << i;
  }
}

}  // namespace
}  // namespace indra
