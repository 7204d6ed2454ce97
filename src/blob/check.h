// Checks of the content store's rows and of the segment files' outer form; no chunk's bytes are read.
//
// Rules: F13..F18 of docs/design/fsck.md. See db/check.h for the contract.
#pragma once
#include <string>

#include "db/check.h"

namespace indra {

/// `segments`: their directory.
[[nodiscard]] Result<void> check_content(Tx&, const std::string& segments, Checking&);

}  // namespace indra
