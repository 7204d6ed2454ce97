#include <sys/stat.h>

#include <functional>
#include <set>
#include <tuple>
#include <unordered_map>

#include "fs/internal/fs_impl.h"
#include "fs/restore.h"
#include "merge/apply.h"
#include "merge/restore.h"
#include "tree/names_of.h"

namespace indra {

class Restoring {
 public:
  Restoring(FileSystemImpl& fs, const Who& who, std::shared_ptr<const BranchView> state)
      : fs_{fs}, who_{who}, state_{std::move(state)} {}

  using Plan = std::function<Result<std::vector<MergeStep>>(Tx&)>;
  Result<Restored> run(bool dry_run, const Plan& plan) {
    Restored done;
    if (dry_run) {
      INDRA_LET(done.steps, fs_.writer().read(plan));
      return done;
    }
    INDRA_TRY(fs_.space().need(1 << 20));
    MergeEffect effect;
    INDRA_TRY(fs_.mutate_published({state_}, [&](Tx& tx) -> Result<void> {
      INDRA_LET(const BranchInfo info, fs_.tree().branch(tx, state_->info.id));
      if (info.protect) return fail(EROFS, "branch " + info.name + " is protected");
      if (info.hidden) return fail(ENOENT, "branch " + info.name);
      // What is there now is kept like every version, however young the one before it is (U2).
      INDRA_LET(const int pinned, fs_.tree().create_automatic_pins(tx));
      (void)pinned;
      const Seq last = fs_.tree().last_seq();
      INDRA_LET(auto kept, fs_.tree().moment_at_seq(tx, state_->info.id, last));
      if (kept.seq == kSeqMax) {  // nothing has happened here since the last pin, or versions are off (T14)
        const auto pin = fs_.tree().moment_at_seq(tx, state_->info.id, Seq{last.raw() - 1});
        if (!pin && pin.error().code != std::errc::no_such_file_or_directory) return fail(pin.error());
        INDRA_LET(const Seq changed, fs_.tree().last_change(tx, state_->info.id));
        if (pin && changed <= (pin->branch == state_->info.id ? pin->seq : Seq{})) {
          kept = *pin;
        } else {
          INDRA_LET(kept.seq, fs_.tree().pin_before(tx, state_->head));
        }
      }
      done.before = kept.seq;
      MergePlan steps;
      INDRA_LET(steps.steps, plan(tx));
      INDRA_TRY(fs_.space().need(FileSystemImpl::kRowsPerStep * steps.steps.size()));
      const MergeHooks hooks{
          .in_use = [](NodeId) { return true; },  // a new node: who has the file open keeps it
          .text = [](Tx&, const TextKey&) -> Result<BlobInfo> { return fail(EINVAL); },
          .now = fs_.now()};
      INDRA_LET(effect, fs_.carry_out(tx, who_, *state_, steps, hooks));
      INDRA_TRY(fs_.tree().create_automatic_pins(tx));  // what came back can come back again
      done.steps = std::move(steps.steps);
      return {};
    }));
    fs_.carried_out(state_->info.id, effect);
    return done;
  }

 private:
  FileSystemImpl& fs_;
  const Who& who_;
  const std::shared_ptr<const BranchView> state_;
};

Result<Restored> restore(FileSystem& f, const Who& who, std::string_view bucket, const RestoreRequest& r) {
  auto& fs = static_cast<FileSystemImpl&>(f);
  INDRA_LET(auto state, fs.branch_state(bucket, r.branch));
  return Restoring{fs, who, state}.run(r.dry_run, [&](Tx& tx) -> Result<std::vector<MergeStep>> {
    INDRA_LET(const Chain then, chain_of_moment(fs, tx, bucket, r.from));
    const RestoreViews v{state->head, then, state->info.root};
    if (!r.to.empty()) return plan_restore_beside(tx, fs.tree(), v, r.path, r.to);
    return plan_restore(tx, fs.tree(), v, r.path);
  });
}

namespace {

/// Paths of directories; each is looked for once.
class Paths {
 public:
  Paths(Tree& tree, const BranchView& state) : tree_{tree}, chain_{state.head} {
    known_[state.info.root] = "";
  }
  Result<std::string> of(Tx& tx, NodeId dir) {
    if (const auto it = known_.find(dir); it != known_.end()) return it->second;
    INDRA_LET(const NodeRow row, tree_.node(tx, chain_, dir));
    INDRA_LET(std::string path, of(tx, row.parent));
    INDRA_LET(const auto name, name_in(tx, chain_, dir, row.parent));
    if (name) path.append("/").append(*name);
    return known_[dir] = path;
  }

 private:
  Tree& tree_;
  const Chain& chain_;
  std::unordered_map<NodeId, std::string> known_;
};

/// Calls fn(tx, item), newest first, until it says that it has enough. Others get their turn in between.
template <class F>
Result<void> each_deleted(FileSystemImpl& fs, const BranchView& state, F&& fn) {
  std::set<std::tuple<NodeId, std::string, NodeId>> known;  // of one name and document only the last end
  bool enough = false;
  for (Seq before = kSeqMax; before && !enough;)
    INDRA_TRY(fs.writer().read([&](Tx& tx) -> Result<void> {
      INDRA_LET(auto slice, list_deleted(tx, fs.tree(), state.head, before));
      before = slice.next;
      for (Deleted& d : slice.items) {
        if (!known.insert({d.parent, d.name, d.row.line}).second) continue;
        INDRA_LET(enough, fn(tx, std::move(d)));
        if (enough) break;
      }
      return {};
    }));
  return {};
}

}  // namespace

Result<std::vector<DeletedPath>> deleted_below(FileSystem& f, std::string_view bucket,
                                               std::string_view branch, std::string_view path,
                                               std::size_t limit) {
  auto& fs = static_cast<FileSystemImpl&>(f);
  INDRA_LET(auto state, fs.branch_state(bucket, branch));
  while (path.ends_with('/')) path.remove_suffix(1);
  Paths paths{fs.tree(), *state};
  std::vector<DeletedPath> out;
  INDRA_TRY(each_deleted(fs, *state, [&](Tx& tx, Deleted d) -> Result<bool> {
    INDRA_LET(std::string at, paths.of(tx, d.parent));
    at.append("/").append(d.name);
    const bool in = at.starts_with(path) && (at.size() == path.size() || at[path.size()] == '/');
    if (in) out.push_back({std::move(d), std::move(at)});
    return out.size() >= limit;
  }));
  return out;
}

Result<Restored> undelete(FileSystem& f, const Who& who, std::string_view bucket, const UndeleteRequest& r) {
  auto& fs = static_cast<FileSystemImpl&>(f);
  INDRA_LET(auto state, fs.branch_state(bucket, r.branch));
  Tree& tree = fs.tree();
  Tree::At wanted;
  if (!r.node) {
    INDRA_LET(wanted, fs.writer().read([&](Tx& tx) {
      return place_for(tx, tree, state->head, state->info.root, r.path);
    }));
  }
  std::optional<Deleted> found;
  std::string path = r.path;
  Paths paths{tree, *state};
  INDRA_TRY(each_deleted(fs, *state, [&](Tx& tx, Deleted d) -> Result<bool> {
    if (r.node ? d.row.node != r.node : d.parent != wanted.parent || d.name != wanted.name) return false;
    if (r.node) {
      INDRA_LET(path, paths.of(tx, d.parent));
      path.append("/").append(d.name);
    }
    found = std::move(d);
    return true;
  }));
  if (!found)
    return fail(ENOENT, (r.node ? "number " + std::to_string(r.node.raw()) : r.path) +
                            " is not among what was deleted; `indrafs undelete` lists that");
  const std::string to = r.to.empty() ? path : r.to;
  return Restoring{fs, who, state}.run(r.dry_run, [&](Tx& tx) -> Result<std::vector<MergeStep>> {
    INDRA_LET(const auto taken, find_node(tx, tree, state->head, state->info.root, to));
    if (taken) return fail(EEXIST, to + " is there by now; say another place with --to");
    INDRA_LET(const Tree::At at, place_for(tx, tree, state->head, state->info.root, to));
    INDRA_LET(const auto still, deleted_still(tx, state->head, *found));
    if (still) return plan_undelete(tx, tree, state->head, *still, at, to);
    return fail(ENOENT, path + " was brought back meanwhile, or is no longer kept");
  });
}

}  // namespace indra
