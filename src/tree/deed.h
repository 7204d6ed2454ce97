// What was done to a name or a node, for who watches.
#pragma once
#include <cstdint>
#include <string>

#include "base/strong.h"

namespace indra {

/// What was done, as inotify(7) would tell it to somebody who watches.
struct Deed {
  enum Kind {
    made,        ///< a new node at `to`
    linked,      ///< one more name, `to`, for `node`
    removed,     ///< `from` is gone
    moved,       ///< from `from` to `to`; `other` stood there. From nowhere (parent 0): a new file, whole
    exchanged,   ///< `node` was at `from` and `other` at `to`
    written,     ///< content or size of `node`
    closed,      ///< an open file that could be written was closed
    attributes,  ///< mode, owner, times, extended attributes
  } kind;
  struct Place {
    NodeId parent;
    std::string name;
  };
  NodeId node;
  std::uint32_t type = 0;  ///< of `node`: S_IFREG, S_IFDIR, ...
  Place from{}, to{};
  NodeId other{};
  std::uint32_t other_type = 0;
};

}  // namespace indra
