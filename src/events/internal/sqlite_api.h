// SQLite as the loadable extension sees it (through the table of its host), or as the library links it.
#pragma once
#ifdef INDRA_COORD_EXTENSION
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT3
#else
#include <sqlite3.h>
#endif
