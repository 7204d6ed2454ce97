#include "db/check.h"

#include <algorithm>

namespace indra {

Result<bool> run_once(Tx& tx, const std::string& sql) {
  INDRA_TRY(tx.db().execute(sql));
  return true;
}

Result<void> check_pages(Db& db, Checking& c) {
  Tx tx = db.borrow();
  Statement q{tx, "PRAGMA integrity_check(1000)"};
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) return {};
    std::string text{q.text_at(0)};
    std::replace(text.begin(), text.end(), '\n', ' ');
    if (text != "ok") c.found({.rule = "F1", .what = "vault.db: " + text});
    INDRA_TRY(c.count());
  }
}

}  // namespace indra
