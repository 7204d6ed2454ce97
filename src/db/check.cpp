#include "db/check.h"

#include <algorithm>
#include <array>

#include "db/vfs.h"

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

Result<PagesRead> read_pages(const std::string& path, const char* vfs_below, std::uint32_t page,
                             std::uint32_t pages) {
  constexpr int kAgain = 3;  // a checkpoint may be writing the page
  INDRA_LET(const auto file, RawFile::open(path, vfs_below));
  INDRA_LET(const std::uint64_t size, file->size());
  PagesRead out;
  const auto end = static_cast<std::uint32_t>(size / kDbPage);
  std::array<std::byte, kDbPage> bytes;
  for (std::uint32_t i = page; i < end; ++i) {
    if (i - page == pages) {
      out.next = i;
      break;
    }
    const std::uint64_t at = std::uint64_t{i} * kDbPage;
    bool good = false;
    for (int n = 0; n < kAgain && !good; ++n) {
      const auto whole = file->read(at, bytes);
      if (whole && !*whole) return out;  // cut off meanwhile
      good = whole && page_is_sound(i + 1, bytes.data());
    }
    out.bytes += kDbPage;
    if (!good) out.wrong.push_back(i + 1);
  }
  return out;
}

}  // namespace indra
