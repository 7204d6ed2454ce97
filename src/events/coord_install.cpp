// What a connection gets when the functions are installed in it: transactions around calls, the wal hook, the
// schema.
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "events/internal/coord_state.h"

namespace indra::coord {
namespace {

struct Registered {
  State* state;
  const Function* function;
};

/// Runs fn as one: all of it, or nothing. The write lock comes first, so that no read is overtaken (E10).
Result<void> atomically(State& s, Call& call, Fn fn) {
  // No savepoint is to be had while a statement writes, as in a trigger; then that statement's own atomicity
  // holds.
  const bool saved = Query{s, "SAVEPOINT indra_call"}.run().has_value();
  Result<void> r;
  if (sqlite3_txn_state(s.db, "main") != SQLITE_TXN_WRITE)
    r = Query{s, "DELETE FROM indra_meta WHERE 0"}.run();
  if (r) r = fn(call);
  if (!saved) return r;
  if (r) r = Query{s, "RELEASE indra_call"}.run();
  if (!r && sqlite3_get_autocommit(s.db) == 0)
    sqlite3_exec(s.db, "ROLLBACK TO indra_call; RELEASE indra_call", nullptr, nullptr, nullptr);
  return r;
}

int code_of(const Error& e) {
  if (e.code == std::errc::device_or_resource_busy) return SQLITE_BUSY;
  if (e.code == std::errc::no_space_on_device) return SQLITE_FULL;
  if (e.code == std::errc::read_only_file_system) return SQLITE_READONLY;
  if (e.code == std::errc::operation_not_permitted) return SQLITE_PERM;
  if (e.code == std::errc::no_such_file_or_directory) return SQLITE_NOTFOUND;
  if (e.code == std::errc::message_size) return SQLITE_TOOBIG;
  if (e.code == std::error_code{ESTALE, std::generic_category()}) return SQLITE_RANGE;
  if (e.code == std::errc::invalid_argument) return SQLITE_MISMATCH;
  return SQLITE_ERROR;
}

void run(sqlite3_context* ctx, int n, sqlite3_value** values) {
  const auto& r = *static_cast<Registered*>(sqlite3_user_data(ctx));
  const Function& f = *r.function;
  Result<void> done;
  try {
    if (n < f.least || n > f.most) {
      done = fail(EINVAL, "the arguments are (" + std::string{f.arguments} + "), and " +
                              (f.least == f.most ? "all" : "at least " + std::to_string(f.least)) +
                              " must be given");
    } else {
      Call call{*r.state, ctx, n, values};
      done = f.writes ? atomically(*r.state, call, f.fn) : f.fn(call);
    }
  } catch (const std::exception& e) {
    done = fail(EIO, e.what());
  }
  if (done) return;
  const std::string text = std::string{f.name} + ": " + done.error().context;
  sqlite3_result_error(ctx, text.c_str(), static_cast<int>(text.size()));
  sqlite3_result_error_code(ctx, code_of(done.error()));
}

Result<bool> made(State& s) {
  Query q{s, "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'indra_meta'"};
  INDRA_TRY(q.step());
  return q.integer(0) != 0;
}

/// All tables or none, whoever else makes them just now.
Result<void> bootstrap(Call& c) {
  c.answer(std::int64_t{1});
  INDRA_LET(const bool there, made(c.s));
  if (there) return {};
  const bool alone = sqlite3_get_autocommit(c.s.db) != 0;
  const auto run = [&](const char* sql) -> Result<void> {
    if (sqlite3_exec(c.s.db, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
    return sql_failure(c.s.db, sqlite3_extended_errcode(c.s.db));
  };
  INDRA_TRY(run(alone ? "BEGIN IMMEDIATE" : "SAVEPOINT indra_call"));
  const auto make = [&]() -> Result<void> {
    INDRA_LET(const bool meanwhile, made(c.s));
    if (!meanwhile) INDRA_TRY(run(kSchema));
    return run(alone ? "COMMIT" : "RELEASE indra_call");
  };
  auto r = make();
  if (!r && sqlite3_get_autocommit(c.s.db) == 0)
    (void)run(alone ? "ROLLBACK" : "ROLLBACK TO indra_call; RELEASE indra_call");
  return r;
}
const Function kBootstrap{"indra_bootstrap", 0, 0, false, bootstrap, ""};

// After the commit is visible and its locks are gone. This hook displaces SQLite's automatic checkpoint, so
// it does that too. It never fails the commit.
int committed(void* p, sqlite3* db, const char* name, int frames) {
  State& s = *static_cast<State*>(p);
  if (s.wakes && std::strcmp(name, "main") == 0) {
    s.wakes = false;
    if (!s.knock)
      if (const char* file = sqlite3_db_filename(db, "main"); file != nullptr && *file != '\0')
        if (auto k = Knock::open(coord_knock(file))) s.knock = std::move(*k);
    if (s.knock) s.knock->ring();
  }
  if (frames >= kCheckpointFrames)
    (void)sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  return SQLITE_OK;
}

// An eponymous table without rows. SQLite disconnects it when the connection is being closed, before it asks
// whether statements are left: the only place where those that are kept can be given back in time.
struct Table : sqlite3_vtab {
  State* state;
};
int connect(sqlite3* db, void* aux, int, const char* const*, sqlite3_vtab** out, char**) {
  if (const int rc = sqlite3_declare_vtab(db, "CREATE TABLE x(name TEXT, arguments TEXT)"); rc != SQLITE_OK)
    return rc;
  auto* t = new Table{};
  t->state = static_cast<State*>(aux);
  *out = t;
  return SQLITE_OK;
}
int disconnect(sqlite3_vtab* v) {
  auto* t = static_cast<Table*>(v);
  t->state->finalize();
  delete t;
  return SQLITE_OK;
}
int best_index(sqlite3_vtab*, sqlite3_index_info*) { return SQLITE_OK; }

const std::vector<const Function*>& all_functions() {
  static const std::vector<const Function*> all = [] {
    std::vector<const Function*> v{&kBootstrap};
    for (const auto* list : {&kQueueFunctions, &kStreamFunctions, &kLockFunctions, &kScheduleFunctions})
      for (const Function& f : *list) v.push_back(&f);
    return v;
  }();
  return all;
}

// SELECT * FROM indra_functions: what there is.
struct Cursor : sqlite3_vtab_cursor {
  std::size_t at = 0;
};
int open_cursor(sqlite3_vtab*, sqlite3_vtab_cursor** out) {
  *out = new Cursor{};
  return SQLITE_OK;
}
int close_cursor(sqlite3_vtab_cursor* c) {
  delete static_cast<Cursor*>(c);
  return SQLITE_OK;
}
int filter(sqlite3_vtab_cursor* c, int, const char*, int, sqlite3_value**) {
  static_cast<Cursor*>(c)->at = 0;
  return SQLITE_OK;
}
int next_row(sqlite3_vtab_cursor* c) {
  ++static_cast<Cursor*>(c)->at;
  return SQLITE_OK;
}
int at_end(sqlite3_vtab_cursor* c) { return static_cast<Cursor*>(c)->at >= all_functions().size() ? 1 : 0; }
int column(sqlite3_vtab_cursor* c, sqlite3_context* ctx, int i) {
  const Function& f = *all_functions()[static_cast<Cursor*>(c)->at];
  sqlite3_result_text(ctx, i == 0 ? f.name : f.arguments, -1, SQLITE_STATIC);
  return SQLITE_OK;
}
int row_id(sqlite3_vtab_cursor* c, sqlite3_int64* id) {
  *id = static_cast<sqlite3_int64>(static_cast<Cursor*>(c)->at);
  return SQLITE_OK;
}

const sqlite3_module kModule = [] {
  sqlite3_module m{};
  m.xConnect = connect;
  m.xBestIndex = best_index;
  m.xDisconnect = disconnect;
  m.xOpen = open_cursor;
  m.xClose = close_cursor;
  m.xFilter = filter;
  m.xNext = next_row;
  m.xEof = at_end;
  m.xColumn = column;
  m.xRowid = row_id;
  return m;
}();

}  // namespace

int install(sqlite3* db, const Clock* clock, bool own) {
  auto* state = new State{};
  state->db = db;
  state->clock = clock;
  state->own = own;
  // The module owns the state; SQLite destroys it after the functions' last use.
  int rc = sqlite3_create_module_v2(db, "indra_functions", &kModule, state,
                                    [](void* p) { delete static_cast<State*>(p); });
  if (rc != SQLITE_OK) return rc;
  for (const Function* f : all_functions()) {
    auto* r = new Registered{state, f};
    rc = sqlite3_create_function_v2(db, f->name, -1, SQLITE_UTF8, r, run, nullptr, nullptr,
                                    [](void* p) { delete static_cast<Registered*>(p); });
    if (rc != SQLITE_OK) return rc;
  }
  // Connects the table, so that it will be disconnected.
  rc = sqlite3_exec(db, "SELECT 1 FROM indra_functions LIMIT 1", nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) return rc;
  sqlite3_wal_hook(db, committed, state);
  return SQLITE_OK;
}

}  // namespace indra::coord
