// Vaults and overlay file systems (docs/decisions/0006-overlays.md): one vault must not have two owners, one
// that comes through an overlay and one that goes past it.
#pragma once
#include <string>
#include <vector>

#include "base/mountinfo.h"
#include "base/result.h"

namespace indra {

/// What the mounts that we see tell of the directory `path` (absolute, links resolved).
struct OverlayPlace {
  std::string mountpoint;  ///< of the overlay that it lies on; empty: on none
  std::string upper;       ///< the same directory in the overlay's upper layer; empty: on none, or not known
};
/// Refuses (ENOTSUP) what lies in the upper layer of an overlay that is mounted.
[[nodiscard]] Result<OverlayPlace> overlay_place(const std::vector<MountInfo>&, const std::string& path);

/// Refuses (ENOTSUP) a vault of which anything comes from a layer below the upper one.
[[nodiscard]] Result<void> check_layers(const std::string& vault, const OverlayPlace&);

}  // namespace indra
