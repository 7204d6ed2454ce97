// What fsck found, as its verb and `--json` tell it.
#pragma once
#include "daemon/channel.h"
#include "fsck/fsck.h"

namespace indra {

/// {"clean", "found", "mended", "rows", "findings": [{"rule", "what", "where", "paths", "mending",
/// "mended"}]}
[[nodiscard]] Json fsck_json(const FsckReport&);

}  // namespace indra
