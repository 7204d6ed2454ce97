// One merge: of a user, of a follower (docs/branches.md, O1..), or of moments into the base of another merge
// (G1).
#pragma once
#include "fs/internal/fs_impl.h"
#include "merge/text.h"

namespace indra {

class Merging {
 public:
  /// What is merged: a branch's head, or a moment of it.
  struct Source {
    Tree::MergeBase moment;
    Chain chain;
    std::string name;
    std::shared_ptr<const BranchView> head;  ///< null: a moment
  };
  Merging(FileSystemImpl& fs, const Who& who, const FileSystem::MergeRequest& request,
          std::shared_ptr<const BranchView> target, Source source);
  ~Merging();
  Merging(const Merging&) = delete;
  Merging& operator=(const Merging&) = delete;

  [[nodiscard]] Result<FileSystem::MergeReport> run();
  /// `target` takes over what its parent `source` has published; its own stands.
  [[nodiscard]] static Result<void> follow(FileSystemImpl&, const Who&,
                                           const std::shared_ptr<const BranchView>& target,
                                           const std::shared_ptr<const BranchView>& source);
  [[nodiscard]] static Source head_of(std::shared_ptr<const BranchView> b) {
    return {{b->info.id, kSeqMax}, b->head, b->info.name, b};
  }

 private:
  enum class For { user, follower, base };
  using Bases = std::vector<Tree::MergeBase>;

  /// The one moment from which both have come; or, of several, a branch of our own that holds them all.
  Result<void> find_base();
  Result<void> put_together(const Bases&);
  void drop_scratch();
  Result<MergePlan> plan(Tx&);
  Result<void> settle(MergePlan& out);
  Result<Bytes> bytes(const TextVersion&);
  Result<bool> equal(const TextVersion&, const TextVersion&);
  Result<void> ask(const TextKey&);
  Result<bool> apply(FileSystem::MergeReport&);

  FileSystemImpl& fs_;
  const Who& who_;
  FileSystem::MergeRequest request_;
  const std::shared_ptr<const BranchView> target_;
  const Source source_;
  For for_ = For::user;
  MergePolicy policy_;
  TextVerdicts verdicts_;
  std::map<TextKey, std::unique_ptr<Content>> texts_;
  Bases bases_;                                // as find_base() found them
  std::shared_ptr<const BranchView> scratch_;  // where they are several
  bool other_bases_ = false;                   // plan(): they have changed since
};

}  // namespace indra
