// An event of the change feed as JSON: what `indrafs watch --json` prints, and what a rule's job has as its
// payload.
//
// Names are strings where they are UTF-8, else {"hex": "..."}. Times are nanoseconds since 1970.
#pragma once
#include <nlohmann/json.hpp>

#include "tree/change_log.h"

namespace indra {

[[nodiscard]] nlohmann::json event_json(const ChangeEvent&);

}  // namespace indra
