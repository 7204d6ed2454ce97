// Merges: planned from rows, texts joined outside the transaction, applied in one (docs/branches.md, G1..).
#include "fs/internal/merging.h"

#include <sys/stat.h>

#include <ctime>

#include "base/log.h"
#include "merge/apply.h"

namespace indra {

namespace {

constexpr int kAttempts = 20;

std::string date_of(TimeNs t) {
  const std::time_t seconds = t / kSecond;
  std::tm tm{};
  gmtime_r(&seconds, &tm);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", &tm);
  return text;
}

}  // namespace

Merging::Merging(FileSystemImpl& fs, const Who& who, const FileSystem::MergeRequest& request,
                 std::shared_ptr<const BranchView> target, Source source)
    : fs_{fs}, who_{who}, request_{request}, target_{std::move(target)}, source_{std::move(source)} {
  policy_.ours = request.ours;
  policy_.theirs = request.theirs;
  policy_.only = request.only;
  policy_.label = source_.name;
  policy_.date = date_of(fs.now());
}

Merging::~Merging() { drop_scratch(); }

Result<FileSystem::MergeReport> Merging::run() {
  if (!request_.dry_run && for_ == For::user) {
    // So that nearly always the first plan stays true.
    for (const auto& s : fs_.sessions().all())
      if (s->key.branch == source_.moment.branch || (s->key.branch == target_->info.id && !target_->locked))
        INDRA_TRY(fs_.publish(*s));
  }
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    FileSystem::MergeReport report;
    INDRA_TRY(settle(report.plan));
    if (request_.dry_run || (report.plan.changes == 0 && for_ != For::base)) return report;
    INDRA_TRY(fs_.space().need(FileSystemImpl::kRowsPerStep * (report.plan.steps.size() + 8)));
    INDRA_LET(const bool done, apply(report));
    if (done) return report;
  }
  return fail(EBUSY, "both branches are being written to; try again");
}

Result<void> Merging::follow(FileSystemImpl& fs, const Who& who,
                             const std::shared_ptr<const BranchView>& target,
                             const std::shared_ptr<const BranchView>& source) {
  Merging m{fs, who, {}, target, head_of(source)};
  m.for_ = For::follower;
  m.policy_.own_wins = true;
  m.policy_.busy = [&fs, id = target->info.id](NodeId n) {
    const auto s = fs.sessions().find({id, n});
    return s && (s->writers != 0 || s->ahead);
  };
  INDRA_TRY(m.run());
  return {};
}

void Merging::drop_scratch() {
  if (!scratch_) return;
  const BranchId id = scratch_->info.id;
  scratch_.reset();
  (void)fs_.writer().read([&](Tx& tx) -> Result<void> {
    fs_.tree().end_scratch(tx, id);
    return {};
  });
  fs_.sweep_wanted_ = true;
  fs_.poke();
}

Result<void> Merging::find_base() {
  INDRA_LET(Bases bases, fs_.writer().read([&](Tx& tx) {
    return fs_.tree().merge_bases(tx, {target_->info.id, kSeqMax}, source_.moment);
  }));
  if (bases == bases_) return {};
  drop_scratch();
  if (bases.size() > 1) INDRA_TRY(put_together(bases));
  bases_ = std::move(bases);
  return {};
}

// As git's recursive strategy does: the moments are merged with each other, and where that is a conflict the
// base gets what neither side has, so that it is one again in the merge itself.
Result<void> Merging::put_together(const Bases& bases) {
  INDRA_LET(scratch_, fs_.writer().mutate([&](Tx& tx) -> Result<std::shared_ptr<const BranchView>> {
    INDRA_LET(BranchInfo info, fs_.tree().create_scratch(tx, bases.front().branch, bases.front().seq));
    INDRA_LET(Chain chain, fs_.tree().chain(tx, info.id));
    return std::make_shared<const BranchView>(std::move(info), std::move(chain));
  }));
  for (std::size_t i = 1; i < bases.size(); ++i) {
    INDRA_LET(Chain chain, fs_.writer().read([&](Tx& tx) {
      return fs_.tree().chain_at(tx, bases[i].branch, bases[i].seq);
    }));
    FileSystem::MergeRequest request;
    request.markers = true;
    Merging m{fs_, who_, request, scratch_, {bases[i], std::move(chain), "base", nullptr}};
    m.for_ = For::base;
    m.policy_.for_base = true;
    INDRA_TRY(m.run());
  }
  return {};
}

Result<MergePlan> Merging::plan(Tx& tx) {
  Tree& tree = fs_.tree();
  INDRA_LET(const Bases bases, tree.merge_bases(tx, {target_->info.id, kSeqMax}, source_.moment));
  other_bases_ = bases != bases_;
  if (other_bases_) return MergePlan{};
  const Tree::MergeBase one = scratch_ ? Tree::MergeBase{scratch_->info.id, kSeqMax} : bases.front();
  INDRA_LET(const Chain base, tree.chain_at(tx, one.branch, one.seq));
  INDRA_LET(auto kept,
            for_ == For::follower ? Result<Tree::Kept>{Tree::Kept{}} : tree.kept_own(tx, source_.chain, one));
  return plan_merge(tx, tree, fs_.store(),
                    {base, target_->head, source_.chain, target_->info.root, std::move(kept)}, verdicts_,
                    policy_);
}

/// Plans until all that bytes must tell is known.
Result<void> Merging::settle(MergePlan& out) {
  for (int round = 0; round < kAttempts; ++round) {
    INDRA_TRY(find_base());
    INDRA_LET(out, fs_.writer().read([&](Tx& tx) { return plan(tx); }));
    if (other_bases_) continue;
    if (out.unknown.empty()) return {};
    for (const TextKey& key : out.unknown) INDRA_TRY(ask(key));
  }
  return fail(EBUSY, "both branches are being written to; try again");
}

Result<Bytes> Merging::bytes(const TextVersion& v) {
  Bytes out;
  if (v.size == 0) return out;
  INDRA_LET(const auto content, fs_.store().open_frozen(target_->info.bucket, v.blob));
  if (content->size() != v.size) return out;  // rewritten since: the next plan has another key
  out.resize(v.size);
  INDRA_LET(const std::size_t n, content->read(0, out));
  out.resize(n);
  return out;
}

/// Equal bytes, without having both in memory.
Result<bool> Merging::equal(const TextVersion& x, const TextVersion& y) {
  if (x.size != y.size) return false;
  INDRA_LET(const auto p, fs_.store().open_frozen(target_->info.bucket, x.blob));
  INDRA_LET(const auto q, fs_.store().open_frozen(target_->info.bucket, y.blob));
  Bytes a(1 << 20), b(1 << 20);
  for (std::uint64_t at = 0; at < x.size;) {
    INDRA_LET(const std::size_t n, p->read(at, a));
    INDRA_LET(const std::size_t m, q->read(at, b));
    if (n != m || n == 0 || !std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(n), b.begin()))
      return false;
    at += n;
  }
  return true;
}

Result<void> Merging::ask(const TextKey& key) {
  if (verdicts_.contains(key)) return {};
  const bool large =
      std::max({key.base ? key.base->size : 0, key.target.size, key.source.size}) > kLargestText;
  MergedText merged;
  if (large) {
    INDRA_LET(const bool same, equal(key.target, key.source));
    INDRA_LET(const bool by_target, key.base ? equal(*key.base, key.source) : Result<bool>{false});
    INDRA_LET(const bool by_source, key.base ? equal(*key.base, key.target) : Result<bool>{false});
    merged.verdict = same        ? TextVerdict::same
                     : by_target ? TextVerdict::target
                     : by_source ? TextVerdict::source
                                 : TextVerdict::overlap;
  } else {
    Bytes base;
    if (key.base) {
      INDRA_LET(base, bytes(*key.base));
    }
    INDRA_LET(const Bytes target, bytes(key.target));
    INDRA_LET(const Bytes source, bytes(key.source));
    INDRA_LET(merged, merge_texts(key.base ? std::optional{ByteView{base}} : std::nullopt, target, source,
                                  {"base", target_->info.name, source_.name}, request_.markers));
  }
  if (merged.verdict == TextVerdict::merged || merged.verdict == TextVerdict::marked) {
    INDRA_LET(auto content, fs_.store().open_content(target_->info.bucket, BlobId{}));
    if (!request_.dry_run) {
      INDRA_TRY(fs_.space().need(merged.bytes.size()));
      INDRA_TRY(content->write(0, merged.bytes));
    }
    texts_[key] = std::move(content);
  }
  verdicts_[key] = merged.verdict;
  return {};
}

/// False: the plan did not stay true, and nothing was done.
Result<bool> Merging::apply(FileSystem::MergeReport& report) {
  std::map<TextKey, std::unique_ptr<Content::Staged>> staged;
  for (const MergeStep& s : report.plan.steps) {
    if (!s.text || staged.contains(*s.text)) continue;
    INDRA_LET(staged[*s.text], texts_.at(*s.text)->stage(Content::For::publish));
  }
  std::map<TextKey, BlobInfo> blobs;
  const MergeHooks hooks{.in_use =
                             [&](NodeId n) {
                               return fs_.sessions().find({target_->info.id, n}) != nullptr;
                             },
                         .text = [&](Tx& tx, const TextKey& key) -> Result<BlobInfo> {
                           const auto known = blobs.find(key);
                           if (known != blobs.end()) return known->second;
                           INDRA_LET(const BlobInfo info, staged.at(key)->apply(tx, false));
                           blobs[key] = info;
                           return info;
                         },
                         .now = fs_.now()};
  std::vector<std::shared_ptr<const BranchView>> published;
  if (for_ == For::user) published.push_back(source_.head);
  if (for_ == For::user && !target_->locked) published.push_back(target_);
  MergeEffect effect;
  bool stale = false;
  auto done = fs_.mutate_published(published, [&](Tx& tx) -> Result<void> {
    INDRA_LET(report.plan, plan(tx));
    stale = other_bases_ || !report.plan.unknown.empty();
    for (const MergeStep& s : report.plan.steps) stale = stale || (s.text && !staged.contains(*s.text));
    if (stale) return fail(EAGAIN);
    const BranchId to = target_->info.id, from = source_.moment.branch;
    Tree& tree = fs_.tree();
    const bool picking = !request_.only.empty();
    report.moment = source_.moment.seq;  // For::base: whoever merged it has pinned it
    if (!picking && for_ != For::base) {
      INDRA_LET(report.moment, tree.begin_merge(tx, to, from));
    }
    INDRA_LET(effect, fs_.carry_out(tx, who_, *target_, report.plan, hooks));
    if (picking) return {};
    INDRA_TRY(tree.end_merge(tx, who_, to, from, report.moment, for_ == For::follower));
    return tree.keep_own(tx, to, from, report.moment, report.plan.kept);
  });
  if (stale) return false;
  if (!done) return fail(done.error());
  for (auto& [key, s] : staged)
    if (blobs.contains(key)) s->accept();
  report.applied = true;
  fs_.carried_out(target_->info.id, effect);
  return true;
}

Result<FileSystem::MergeReport> FileSystemImpl::merge(const Who& who, std::string_view bucket,
                                                      const MergeRequest& request) {
  INDRA_LET(auto source, branch_state(bucket, request.source));
  INDRA_LET(auto target, branch_state(bucket, request.target));
  if (source->info.id == target->info.id)
    return fail(EINVAL, "branch " + request.source + " cannot be merged with itself");
  return Merging{*this, who, request, std::move(target), Merging::head_of(source)}.run();
}

}  // namespace indra
