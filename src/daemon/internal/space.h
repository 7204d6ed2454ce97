// Verbs about space, and what a vault holds: space.cpp
#pragma once
#include "daemon/internal/verbs.h"

namespace indra {

Result<Json> verb_gc(Call&);
Result<Json> verb_prune(Call&);
Result<Json> verb_stats(Call&);
Result<Json> verb_config(Call&);
[[nodiscard]] Json stats_json(const FileSystem::Status&);

}  // namespace indra
