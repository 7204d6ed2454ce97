// The plainest View there is: a tree in memory under one mutex. Stands in for the real one where the
// transport and the adapter are tested and measured. Tests only.
//
// Threads:  every member may be called from any thread.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fs/file_locks.h"
#include "fs/view.h"

namespace indra {

class MemTree;

class MemViews final : public Views {
 public:
  MemViews();  ///< one branch, `main`
  ~MemViews() override;
  void add_branch(const std::string& name);
  void add_snapshot(const std::string& name,
                    const std::string& of_branch);  ///< shows the branch itself, read-only

  [[nodiscard]] Result<std::shared_ptr<View>> open_view(const ViewSpec&, FrontEnd*) override;
  [[nodiscard]] FileLocks& locks() override { return locks_; }
  [[nodiscard]] std::vector<std::string> branch_names(std::string_view bucket) override;
  [[nodiscard]] std::vector<std::string> snapshot_names(std::string_view bucket) override;

  /// The tree as somebody else sees it, who is not told of changes.
  [[nodiscard]] View& outside(const std::string& branch = "main");
  /// What fsync does besides succeeding; what operations do first; what lookup, getattr and readdir do once
  /// their answer is computed. Set before a mount starts or while nothing uses it.
  std::function<void()> on_fsync;
  std::function<void(std::string_view op)> on_operation, after_operation;
  std::atomic<bool> shared{false};
  [[nodiscard]] std::size_t nodes(
      const std::string& branch = "main") const;  ///< alive, open and unlinked included
  [[nodiscard]] std::uint64_t deeds(const std::string& branch = "main") const;  ///< upon names, ever
  [[nodiscard]] std::size_t references(const std::string& branch = "main") const;
  [[nodiscard]] std::size_t handles(const std::string& branch = "main") const;
  [[nodiscard]] int open_views() const { return open_views_; }

 private:
  friend class MemView;
  std::map<std::string, std::shared_ptr<MemTree>> branches_, snapshots_;
  std::map<std::string, std::shared_ptr<View>> outside_;
  FileLocks locks_;
  std::atomic<int> open_views_{0};
};

}  // namespace indra
