// What the WAL must still hold, kept outside the WAL.
#pragma once

namespace indra {

class Mark {};

}  // namespace indra
