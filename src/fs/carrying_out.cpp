// A plan of steps becomes rows, and who sees the branch is told: for merge, refresh, restore and undelete
// alike.
#include <sys/stat.h>

#include "fs/internal/fs_impl.h"
#include "merge/apply.h"

namespace indra {

Result<MergeEffect> FileSystemImpl::carry_out(Tx& tx, const Who& who, const BranchView& target,
                                              const MergePlan& plan, const MergeHooks& hooks) {
  const BranchId branch = target.info.id;
  const auto written = [&](NodeId n) {
    const auto s = sessions_.find({branch, n});
    return s && s->writers != 0;
  };
  Seq before;  // who writes to a file that gets a successor writes a version of now (S13)
  for (const MergeStep& step : plan.steps) {
    if (step.kind != MergeStep::Kind::change || before || !written(step.node)) continue;
    INDRA_LET(before, tree_->pin_before(tx, target.head.merging()));
  }
  INDRA_LET(MergeEffect effect, apply_merge(tx, *tree_, who, target.head, plan, hooks));
  for (const auto& l : effect.lost) {
    const bool goes_on = l.replaced && S_ISREG(l.row.mode) && written(l.row.node);
    was_replaced(branch, l.row, goes_on ? before : Seq{});
  }
  for (const Deed& d : effect.told) did(branch, nullptr, d);
  return effect;
}

void FileSystemImpl::carried_out(BranchId branch, const MergeEffect& effect) {
  poke();
  for (const auto& l : effect.lost) released(branch, l.row.node);
  std::set<NodeId> nodes(effect.attributes.begin(), effect.attributes.end());
  for (const auto& n : effect.names) {
    notify(branch, nullptr, Change::entry, n.was, n.at.parent, n.at.name);
    nodes.insert(n.at.parent);
  }
  for (const auto& l : effect.lost) nodes.insert(l.row.node);
  for (const NodeId n : effect.data) notify(branch, nullptr, Change::data, n);
  for (const NodeId n : nodes) notify(branch, nullptr, Change::attributes, n);
  for (const Deed& d : effect.told_after) did(branch, nullptr, d);
}

}  // namespace indra
