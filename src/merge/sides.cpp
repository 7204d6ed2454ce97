#include "merge/internal/sides.h"

#include <climits>

#include "tree/names_of.h"

namespace indra::merging {

Result<std::optional<NodeRow>> OneSide::live(NodeId id) {
  if (const auto it = nodes_.find(id); it != nodes_.end()) return it->second;
  std::optional<NodeRow> kept;
  auto row = tree_.node(tx_, chain_, id);
  if (row) {
    if (row->nlink != 0 || id == root_) kept = std::move(*row);
  } else if (row.error().code != std::errc::no_such_file_or_directory) {
    return Failure{row.error()};
  }
  nodes_[id] = kept;
  return kept;
}

Result<std::optional<NodeRow>> OneSide::lookup(NodeId parent, const std::string& name) {
  return tree_.lookup_node(tx_, chain_, parent, name);
}

Result<std::optional<NodeRow>> OneSide::by_path(const std::string& path) {
  INDRA_LET(std::optional<NodeRow> at, live(root_));
  std::size_t from = 1;
  while (at && from < path.size()) {
    const std::size_t end = std::min(path.find('/', from), path.size());
    if (!S_ISDIR(at->mode)) return std::optional<NodeRow>{};
    INDRA_LET(at, lookup(at->node, path.substr(from, end - from)));
    from = end + 1;
  }
  return at;
}

Result<std::optional<std::string>> OneSide::name_in(NodeId parent, NodeId node,
                                                    const std::vector<std::string>& guesses) {
  if (!parent) return std::nullopt;
  for (const std::string& name : guesses) {
    INDRA_LET(const auto edge, tree_.lookup(tx_, chain_, parent, name));
    if (edge && edge->node == node) return std::optional{name};
  }
  return indra::name_in(tx_, chain_, node, parent);
}

Result<std::vector<std::string>> OneSide::names(NodeId dir) {
  std::vector<std::string> all;
  INDRA_TRY(tree_.list(tx_, chain_, dir, 0, false, INT_MAX, [&](const Tree::Listed& e) {
    all.emplace_back(e.name);
    return true;
  }));
  return all;
}

Result<std::map<std::string, Bytes>> OneSide::xattrs(const NodeRow& row) {
  std::map<std::string, Bytes> all;
  if ((row.flags & kHasXattrs) == 0) return all;
  INDRA_LET(const auto names, tree_.xattrs(tx_, chain_, row.node));
  for (const auto& name : names) {
    INDRA_LET(auto value, tree_.xattr(tx_, chain_, row.node, name));
    if (value) all[name] = std::move(*value);
  }
  return all;
}

}  // namespace indra::merging
