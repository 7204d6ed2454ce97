// What a vault ought to hold: plain maps, copied whenever something changes.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace indra::lab {

struct Text {
  Bytes bytes;
  std::uint64_t hash = 0;
};
using TextPtr = std::shared_ptr<const Text>;
[[nodiscard]] TextPtr text(Bytes);

struct Node {
  char kind = 'f';  ///< f, d, l
  std::uint32_t mode = 0;
  std::uint64_t id = 0;  ///< NodeId; 0: nobody was told
  std::string target;
  TextPtr kept;  ///< of what is in rows: published, or persisted privately
  std::map<std::string, std::string> xattrs;
  std::map<std::string, int> names;
};

/// One branch or snapshot, by numbers of our own; 0 is the root.
struct Tree {
  std::map<int, Node> nodes;
  /// 0 and false when a part is missing; `node` may be null.
  [[nodiscard]] bool find(const std::string& path, int& node) const;
  [[nodiscard]] int links(int node) const;
  [[nodiscard]] bool inside(int node, int dir) const;  ///< or the same
};

/// Lines of a listing by "branch:/path": what is compared.
using Listing = std::map<std::string, std::string>;
[[nodiscard]] std::string line_of(const Node&);

struct World {
  std::map<std::string, std::shared_ptr<const Tree>> branches, snapshots;
  [[nodiscard]] Tree& edit(const std::string& branch);
  [[nodiscard]] Listing listing() const;
};

[[nodiscard]] std::string difference(const Listing& expected, const Listing& found);

}  // namespace indra::lab
