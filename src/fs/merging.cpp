// Merges: planned from rows, texts joined outside the transaction, applied in one (docs/branches.md, G1..).
#include <sys/stat.h>

#include <ctime>

#include "fs/internal/fs_impl.h"
#include "merge/apply.h"
#include "merge/text.h"

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

class Merging {
 public:
  Merging(FileSystemImpl& fs, const Who& who, const FileSystem::MergeRequest& request,
          std::shared_ptr<const BranchView> target, std::shared_ptr<const BranchView> source)
      : fs_{fs}, who_{who}, request_{request}, target_{std::move(target)}, source_{std::move(source)} {
    policy_ = {.ours = request.ours,
               .theirs = request.theirs,
               .only = request.only,
               .label = source_->info.name,
               .date = date_of(fs.now())};
  }

  Result<FileSystem::MergeReport> run() {
    if (!request_.dry_run) {
      // So that nearly always the first plan stays true.
      for (const auto& s : fs_.sessions().all())
        if (s->key.branch == source_->info.id || (s->key.branch == target_->info.id && !target_->locked))
          INDRA_TRY(fs_.publish(*s));
    }
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      FileSystem::MergeReport report;
      INDRA_TRY(settle(report.plan));
      if (request_.dry_run || report.plan.changes == 0) return report;
      INDRA_TRY(fs_.space().need(FileSystemImpl::kRowsPerStep * (report.plan.steps.size() + 8)));
      INDRA_LET(const bool done, apply(report));
      if (done) return report;
    }
    return fail(EBUSY, "both branches are being written to; try again");
  }

 private:
  Result<MergePlan> plan(Tx& tx) {
    Tree& tree = fs_.tree();
    INDRA_LET(const auto bases,
              tree.merge_bases(tx, {target_->info.id, kSeqMax}, {source_->info.id, kSeqMax}));
    INDRA_LET(const Chain base, tree.chain_at(tx, bases.front().branch, bases.front().seq));
    return plan_merge(tx, tree, fs_.store(), {base, target_->head, source_->head, target_->info.root},
                      verdicts_, policy_);
  }

  /// Plans until all that bytes must tell is known.
  Result<void> settle(MergePlan& out) {
    for (int round = 0; round < kAttempts; ++round) {
      INDRA_LET(out, fs_.writer().read([&](Tx& tx) { return plan(tx); }));
      if (out.unknown.empty()) return {};
      for (const TextKey& key : out.unknown) INDRA_TRY(ask(key));
    }
    return fail(EBUSY, "both branches are being written to; try again");
  }

  Result<Bytes> bytes(const TextVersion& v) {
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
  Result<bool> equal(const TextVersion& x, const TextVersion& y) {
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

  Result<void> ask(const TextKey& key) {
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
                                    {"base", target_->info.name, source_->info.name}, request_.markers));
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
  Result<bool> apply(FileSystem::MergeReport& report) {
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
    std::vector<std::shared_ptr<const BranchView>> published{source_};
    if (!target_->locked) published.push_back(target_);
    MergeEffect effect;
    bool stale = false;
    auto done = fs_.mutate_published(published, [&](Tx& tx) -> Result<void> {
      INDRA_LET(report.plan, plan(tx));
      stale = !report.plan.unknown.empty();
      for (const MergeStep& s : report.plan.steps) stale = stale || (s.text && !staged.contains(*s.text));
      if (stale) return fail(EAGAIN);
      const BranchId to = target_->info.id, from = source_->info.id;
      Tree& tree = fs_.tree();
      const bool picking = !request_.only.empty();
      if (!picking) {
        INDRA_LET(report.moment, tree.begin_merge(tx, to, from));
      }
      INDRA_LET(effect, fs_.carry_out(tx, who_, *target_, report.plan, hooks));
      if (!picking) INDRA_TRY(tree.end_merge(tx, who_, to, from, report.moment));
      return {};
    });
    if (stale) return false;
    if (!done) return fail(done.error());
    for (auto& [key, s] : staged)
      if (blobs.contains(key)) s->accept();
    report.applied = true;
    fs_.carried_out(target_->info.id, effect);
    return true;
  }

  FileSystemImpl& fs_;
  const Who& who_;
  const FileSystem::MergeRequest& request_;
  const std::shared_ptr<const BranchView> target_, source_;
  MergePolicy policy_;
  TextVerdicts verdicts_;
  std::map<TextKey, std::unique_ptr<Content>> texts_;
};

Result<FileSystem::MergeReport> FileSystemImpl::merge(const Who& who, std::string_view bucket,
                                                      const MergeRequest& request) {
  INDRA_LET(auto source, branch_state(bucket, request.source));
  INDRA_LET(auto target, branch_state(bucket, request.target));
  if (source->info.id == target->info.id)
    return fail(EINVAL, "branch " + request.source + " cannot be merged with itself");
  return Merging{*this, who, request, std::move(target), std::move(source)}.run();
}

}  // namespace indra
