// indra_coord.so: the functions indra_* in anybody's SQLite.
//
//   sqlite> .load ./indra_coord
//   sqlite> SELECT indra_enqueue('mail', 'hello');
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1

#include "events/internal/coord_state.h"

extern "C" __attribute__((visibility("default"))) int sqlite3_indracoord_init(
    sqlite3* db, char** error, const sqlite3_api_routines* api) {
  SQLITE_EXTENSION_INIT2(api);
  // 3.38 knows all that is asked for here; older hosts would crash.
  if (sqlite3_libversion_number() < 3038000) {
    *error = sqlite3_mprintf("indra_coord needs SQLite 3.38 or newer, this is %s", sqlite3_libversion());
    return SQLITE_ERROR;
  }
  return indra::coord::install(db, nullptr);
}
