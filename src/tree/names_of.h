// The names of a node.
//
// Cost:     follows the names, not the directories they lie in (T13).
// Threads:  only reads, in the Tx it is given.
// Source:   docs/design/tree.md (T13).
#pragma once
#include <set>
#include <string>

#include "tree/tree.h"

namespace indra {

struct NamePlace {
  NodeId parent;
  std::int64_t cookie = 0;
  std::string name;
  auto operator<=>(const NamePlace&) const = default;
};

/// Where a branch of the chain has the node, or had it in a row that is kept.
[[nodiscard]] Result<std::set<NamePlace>> places_of(Tx&, const Chain&, NodeId);
/// Where the view has it.
[[nodiscard]] Result<std::set<NamePlace>> names_of(Tx&, const Chain&, NodeId);
/// One of them, in `parent`.
[[nodiscard]] Result<std::optional<std::string>> name_in(Tx&, const Chain&, NodeId, NodeId parent);

}  // namespace indra
