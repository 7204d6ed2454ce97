// The three views of a merge, asked once for each thing.
#pragma once
#include <sys/stat.h>

#include <unordered_map>

#include "merge/plan.h"

namespace indra::merging {

[[nodiscard]] inline std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }
[[nodiscard]] inline std::uint32_t type_of(const NodeRow& r) { return r.mode & S_IFMT; }

/// One view: nodes with a name, names, attributes.
class OneSide {
 public:
  OneSide(Tx& tx, Tree& tree, const Chain& chain, NodeId root)
      : tx_{tx}, tree_{tree}, chain_{chain}, root_{root} {}
  /// Nothing when the view has no such node, or it has no name.
  Result<std::optional<NodeRow>> live(NodeId);
  Result<std::optional<NodeRow>> lookup(NodeId parent, const std::string& name);
  Result<std::optional<NodeRow>> by_path(const std::string& path);
  /// The name of `node` in `parent`; the guesses are tried first.
  Result<std::optional<std::string>> name_in(NodeId parent, NodeId node,
                                             const std::vector<std::string>& guesses);
  Result<std::vector<std::string>> names(NodeId dir);
  Result<std::map<std::string, Bytes>> xattrs(const NodeRow&);
  [[nodiscard]] const Chain& chain() const { return chain_; }
  [[nodiscard]] NodeId root() const { return root_; }

 private:
  Tx& tx_;
  Tree& tree_;
  const Chain& chain_;
  const NodeId root_;
  std::unordered_map<NodeId, std::optional<NodeRow>> nodes_;
};

}  // namespace indra::merging
