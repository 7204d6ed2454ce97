// Opening and closing a vault; branches, snapshots, status.
#include "fs/filesystem.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>

#include "base/log.h"
#include "fs/internal/fs_impl.h"

namespace indra {

std::span<const Migration> vault_migrations() {
  static const std::array all{kTreeSchema,  kBlobSchema,  kSessionSchema,
                              kTreeSchema2, kBlobSchema2, kTreeSchema3};
  return all;
}

Result<void> SpaceGuard::refresh() {
  // In this order: what is being written meanwhile counts twice rather than not at all.
  const ContentStore* store = store_;
  const std::uint64_t pending = store != nullptr ? store->unwritten() : 0;
  INDRA_LET(const Disk::Space s, disk_.space(dir_));
  free_ = s.free > pending ? s.free - pending : 0;
  total_ = s.total;
  used_ = 0;
  asked_ = clock_.steady();
  return {};
}

namespace {
// Kept free for commits, checkpoints and deletes: so a full disk never stops them.
std::uint64_t margin_of(std::uint64_t total) { return std::min<std::uint64_t>(64ull << 20, total / 8); }
}  // namespace

Result<void> SpaceGuard::need(std::uint64_t bytes) {
  const std::uint64_t used = used_.fetch_add(bytes + 512) + bytes;
  const TimeNs age = clock_.steady() - asked_.load();
  if (asked_ == 0 || age > kSecond / 4 ||
      used > (free_.load() - std::min(free_.load(), margin_of(total_))) / 8)
    INDRA_TRY(refresh());
  if (free_ >= margin_of(total_) + bytes) return {};
  if (refused_) refused_();
  return fail(ENOSPC);
}

Result<Disk::Space> SpaceGuard::left() {
  INDRA_TRY(refresh());
  const std::uint64_t free = free_, margin = margin_of(total_);
  return Disk::Space{free > margin ? free - margin : 0, total_};
}

Who Callers::who(const Caller& c, std::string_view front_end, TimeNs now) {
  Who w{c.uid, c.pid, {}, std::string{front_end}};
  if (c.pid <= 0) return w;
  const MutexLock lock{mutex_};
  if (known_.size() > 1024) known_.clear();
  Known& k = known_[c.pid];
  if (k.at == 0 || now - k.at > kSecond) {
    std::ifstream f{"/proc/" + std::to_string(c.pid) + "/comm"};
    k.program.clear();
    std::getline(f, k.program);
    k.at = now;
  }
  w.program = k.program;
  return w;
}

Result<std::unique_ptr<FileSystem>> FileSystem::open(const std::string& dir, Options options) {
  INDRA_LET(VaultDir vault,
            VaultDir::open(dir, options.create, options.disk != nullptr ? *options.disk : real_disk()));
  auto fs = std::make_unique<FileSystemImpl>(std::move(vault), std::move(options));
  INDRA_TRY(fs->start());
  return fs;
}

FileSystemImpl::FileSystemImpl(VaultDir dir, Options options)
    : dir_{std::move(dir)},
      options_{std::move(options)},
      clock_{options_.clock != nullptr ? options_.clock : &system_clock()},
      disk_{options_.disk != nullptr ? options_.disk : &real_disk()},
      space_{*disk_, dir_.path(), *clock_} {}

Result<void> FileSystemImpl::start() {
  if (!dir_.has_db() && !options_.create)
    return fail(ENOENT, dir_.path() + " holds no vault; make one with: indrafs init");
  INDRA_TRY(disk_->make_dir(dir_.segments_path()));
  INDRA_LET(const VaultDir::Identity id, dir_.identity(true));
  player_ = id.player;

  WriterOptions w;
  w.create = options_.create;
  w.migrations = vault_migrations();
  w.disk = disk_;
  w.vfs_below = options_.vfs_below;
  w.background = options_.background;
  w.faults = options_.faults;
  w.sync_content = [this]() -> Result<void> { return store_ ? store_->sync_content() : Result<void>{}; };
  w.content_dirty = [this] { return store_ && store_->content_dirty(); };
  INDRA_LET(knock_, Knock::open(vault_knock(dir_.path())));
  w.committed = [this] { knock_->ring(); };
  auto opened = Writer::open(dir_.db_path(), std::move(w));
  if (!opened && opened.error().code == std::errc::no_such_file_or_directory)
    return fail(ENOENT,
                dir_.path() +
                    " holds no vault, only one that was cut in its making; make one with: " + "indrafs init");
  INDRA_LET(writer_, std::move(opened));

  // The power may have gone in the midst of the making: what is not there yet is made now.
  options_.content.faults = options_.faults;
  bool fresh = false;
  INDRA_LET(options_.content.single_file, writer_->mutate([&](Tx& tx) -> Result<bool> {
    Statement q{tx, "SELECT value FROM properties WHERE name = 'content'"};
    INDRA_LET(const bool row, q.step());
    if (row) return q.text_at(0) == "single-file";
    Statement id_there{tx, "SELECT 1 FROM properties WHERE name = 'vault_id'"};
    INDRA_LET(const bool old, id_there.step());
    if (old) return false;
    fresh = true;
    Statement made{tx, "INSERT INTO properties(name, value) VALUES('content', ?1)"};
    INDRA_TRY(made.bind_text(1, options_.single_file ? "single-file" : "segments").run());
    return options_.single_file;
  }));
  INDRA_LET(store_, ContentStore::open(*writer_, *disk_, dir_.segments_path(), *clock_, options_.content));
  space_.count_unwritten(store_.get());
  space_.on_refusal([this] {
    full_ = true;
    poke();
  });
  INDRA_LET(tree_, Tree::open(*writer_, *store_, *clock_, options_.tree));
  INDRA_TRY(recover_sessions());
  INDRA_TRY(load_followers());
  INDRA_LET(vault_id_, writer_->read([&](Tx& tx) -> Result<std::string> {
    Statement q{tx, "SELECT value FROM properties WHERE name = 'vault_id'"};
    INDRA_LET(const bool row, q.step());
    return row ? std::string{q.text_at(0)} : std::string{};
  }));
  INDRA_LET(keep_changes_, writer_->read([&](Tx& tx) -> Result<TimeNs> {
    Statement q{tx, "SELECT CAST(value AS INTEGER) FROM properties WHERE name = 'changes_kept'"};
    INDRA_LET(const bool row, q.step());
    return row ? std::clamp<TimeNs>(q.int64_at(0), 1, INT64_MAX / kSecond) * kSecond : options_.keep_changes;
  }));
  INDRA_TRY(load_scrub());
  INDRA_TRY(writer_->barrier());
  knock_->ring();  // whoever was killed between a commit and its knock owes one
  if (fresh || options_.create) INDRA_TRY(disk_->sync_dir(dir_.path()));
  last_pin_ = last_thin_ = clock_->steady();
  pinned_mutations_ = writer_->mutations();
  if (options_.background) {
    clockwork_ = std::thread{[this] { run_clockwork(); }};
    worker_ = std::thread{[this] { run_worker(); }};
  }
  return {};
}

FileSystemImpl::~FileSystemImpl() {
  {
    const std::lock_guard lock{clock_mutex_};
    stop_ = true;
  }
  clock_cv_.notify_all();
  work_cv_.notify_all();
  if (clockwork_.joinable()) clockwork_.join();
  if (worker_.joinable()) worker_.join();
  {
    const MutexLock lock{work_mutex_};
    if (own_) own_->give_back(doing_);
    own_.reset();
  }
  if (tree_) {
    if (scrub_wanted_)
      if (auto r = keep_scrub(); !r) log::error("closing the vault: {}", r.error().text());
    for (const auto& s : sessions_.all())
      if (auto r = publish(*s); !r) log::error("closing the vault: {}", r.error().text());
    if (auto r = reap_some(); !r) log::error("closing the vault: {}", r.error().text());
    if (auto r = tree_->close(); !r) log::error("closing the vault: {}", r.error().text());
    if (auto r = writer_->barrier(); !r) log::error("closing the vault: {}", r.error().text());
  }
  tree_.reset();
  // The writer's last commit may still ask for content to be synced: the store goes after it has been told to
  // rest.
  if (writer_) (void)writer_->checkpoint();
  space_.count_unwritten(nullptr);
  store_.reset();
  writer_.reset();
}

Result<std::shared_ptr<const BranchView>> FileSystemImpl::branch_state(BranchId id) {
  const MutexLock lock{branches_mutex_};
  const auto it = branches_.find(id);
  if (it != branches_.end()) return it->second;
  // Not known yet: find it by asking for every branch of every bucket once. Rare.
  INDRA_LET(auto state, writer_->read([&](Tx& tx) -> Result<std::shared_ptr<const BranchView>> {
    INDRA_LET(BranchInfo info, tree_->branch(tx, id));
    if (info.hidden) return fail(ENOENT, "branch " + info.name);
    INDRA_LET(Chain head, tree_->chain(tx, id));
    return std::make_shared<const BranchView>(std::move(info), std::move(head));
  }));
  branches_[id] = state;
  return state;
}

Result<std::shared_ptr<const BranchView>> FileSystemImpl::branch_state(std::string_view bucket,
                                                                       std::string_view name) {
  INDRA_LET(const BranchInfo info, writer_->read([&](Tx& tx) { return tree_->branch(tx, bucket, name); }));
  if (info.follow) catch_up_or_say(info.id);
  return branch_state(info.id);
}

Result<std::shared_ptr<View>> FileSystemImpl::open_view(const ViewSpec& spec, FrontEnd* front) {
  INDRA_LET(auto state, branch_state(spec.bucket, spec.branch));
  Chain chain = state->head;
  if (!spec.snapshot.empty()) {
    INDRA_LET(chain, writer_->read([&](Tx& tx) -> Result<Chain> {
      INDRA_LET(const auto pins, tree_->pins(tx, spec.bucket, PinKind::snapshot));
      for (const PinInfo& p : pins)
        if (p.name == spec.snapshot) return tree_->chain_at(tx, p.branch, p.seq);
      return fail(ENOENT, "snapshot " + spec.snapshot);
    }));
  } else if (spec.seq) {
    INDRA_LET(chain, writer_->read([&](Tx& tx) { return tree_->chain_at(tx, state->info.id, *spec.seq); }));
  }
  return std::make_shared<ViewImpl>(*this, spec, std::move(state), std::move(chain), front);
}

std::vector<std::string> FileSystemImpl::branch_names(std::string_view bucket) {
  std::vector<std::string> names;
  if (auto all = branches(bucket))
    for (const BranchInfo& b : *all) names.push_back(b.name);
  return names;
}

std::vector<std::string> FileSystemImpl::snapshot_names(std::string_view bucket) {
  std::vector<std::string> names;
  if (auto all = snapshots(bucket))
    for (const PinInfo& p : *all) names.push_back(p.name);
  return names;
}

Result<std::vector<BranchInfo>> FileSystemImpl::branches(std::string_view bucket) {
  return writer_->read([&](Tx& tx) { return tree_->branches(tx, bucket); });
}

Result<std::vector<PinInfo>> FileSystemImpl::snapshots(std::string_view bucket) {
  return writer_->read([&](Tx& tx) { return tree_->pins(tx, bucket, PinKind::snapshot); });
}

Result<std::vector<Tree::ChangeRow>> FileSystemImpl::changes(Seq after, int limit) {
  return writer_->read([&](Tx& tx) { return tree_->changes(tx, after, limit); });
}

Result<void> FileSystemImpl::sync(bool publish_open_files) {
  if (publish_open_files)
    for (const auto& s : sessions_.all()) INDRA_TRY(publish(*s));
  return writer_->barrier();
}

Result<FileSystem::Status> FileSystemImpl::status() {
  Status s;
  s.dir = dir_.path();
  s.vault_id = vault_id_;
  s.player = player_;
  s.single_file = options_.content.single_file;
  s.failed = writer_->failed();
  INDRA_LET(auto state, branch_state("main", "main"));
  INDRA_LET(s.tree, writer_->read([&](Tx& tx) { return tree_->stats(tx, state->head); }));
  INDRA_LET(s.content, store_->stats());
  struct stat st {};
  if (::stat(dir_.db_path().c_str(), &st) == 0)
    s.database_bytes = static_cast<std::uint64_t>(st.st_blocks) * 512;
  s.wal_bytes = writer_->wal_bytes();
  s.physical = s.content.physical + s.database_bytes + s.wal_bytes;
  s.open_files = sessions_.count();
  bool dirty = false;
  for (const auto& session : sessions_.all()) {
    if (session->dirty_since == 0 && !session->synced_unpublished) continue;
    dirty = true;
    const ReadLock lock{session->mutex};
    if (session->content) s.dirty_bytes += session->content->dirty_bytes();
  }
  INDRA_LET(const bool content_rest, store_->at_rest());
  s.at_rest = !dirty && content_rest && orphan_count_ == 0 && writer_->at_rest();
  s.blocking_reader = writer_->blocking_reader();
  return s;
}

}  // namespace indra
