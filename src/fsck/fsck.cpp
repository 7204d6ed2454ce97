#include "fsck/fsck.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "base/disk.h"
#include "blob/check.h"
#include "db/mark.h"
#include "db/writer.h"
#include "fs/filesystem.h"
#include "fs/vault_dir.h"
#include "tree/check.h"

namespace indra {
namespace {

constexpr std::size_t kUsesOfEach = 16;  // paths named for one blob
constexpr int kRounds = 16;              // one mend may show what another one hid

struct Run {
  const std::string& dir;
  const FsckOptions& options;
  FsckReport report;
  std::vector<Finding> findings;
  std::uint64_t found = 0;

  [[nodiscard]] Result<void> looked_at(std::uint64_t rows) {
    report.rows += rows;
    return options.progress ? options.progress(report.rows) : Result<void>{};
  }
  void add(Finding f) {
    ++found;
    if (findings.size() < options.limit) findings.push_back(std::move(f));
  }
};

/// The tables, indices and views that the migrations make, by kind and name, and what makes each.
struct Maker {
  std::string sql, of;  // of: the table or view that an index or trigger belongs to
};
using Schema = std::map<std::pair<std::string, std::string>, Maker>;
Result<Schema> schema_of(Tx& tx) {
  Schema out;
  Statement q{tx, "SELECT type, name, sql, tbl_name FROM sqlite_schema WHERE sql IS NOT NULL"};
  for (;;) {
    INDRA_LET(const bool more, q.step());
    if (!more) return out;
    out[{std::string{q.text_at(0)}, std::string{q.text_at(1)}}] = {std::string{q.text_at(2)},
                                                                   std::string{q.text_at(3)}};
  }
}

/// F20. What holds no rows of its own can be made again.
Result<void> check_schema(Tx& tx, Checking& c) {
  INDRA_LET(const auto model, Db::open(":memory:", {}));
  for (const Migration& m : vault_migrations()) INDRA_TRY(model->execute(m.sql));
  Tx made = model->borrow();
  INDRA_LET(const Schema wanted, schema_of(made));
  INDRA_LET(const Schema there, schema_of(tx));
  for (const auto& [object, maker] : wanted) {
    INDRA_TRY(c.count());
    if (there.contains(object)) continue;
    // Goes and comes with what it belongs to.
    const auto is_there = [&, &of = maker.of](const char* kind) { return there.contains({kind, of}); };
    if ((object.first == "index" || object.first == "trigger") && !is_there("table") && !is_there("view"))
      continue;
    Finding f{.rule = "F20", .what = fmt::format("vault.db lacks the {} {}", object.first, object.second)};
    if (object.first != "table") {
      f.mending = "made again";
      f.mend = [sql = maker.sql](Tx& t) { return run_once(t, sql); };
    }
    c.found(std::move(f));
  }
  return {};
}

/// No check hides another one's findings: each is run, and what it could not read is a finding.
Result<void> check_all(Run& run, Tx& tx, bool at_rest) {
  std::optional<Error> cancelled;
  Checking c;
  c.found = [&](Finding f) { run.add(std::move(f)); };
  c.progress = [&](std::uint64_t rows) -> Result<void> {
    auto r = run.looked_at(rows);
    if (!r) cancelled = r.error();
    return r;
  };
  c.at_rest = at_rest;
  const auto part = [&](const char* what, Result<void> r) -> Result<void> {
    if (r) r = c.flush();
    if (r) return {};
    if (cancelled) return fail(*cancelled);
    run.add(
        {.rule = "F1", .what = fmt::format("{} could not be read to the end: {}", what, r.error().text())});
    return {};
  };
  INDRA_TRY(part("vault.db", check_pages(tx.db(), c)));
  INDRA_TRY(part("the schema", check_schema(tx, c)));
  INDRA_TRY(part("the tree", check_tree(tx, c)));
  return part("the content", check_content(tx, run.dir + "/segments", c));
}

Result<bool> closed_in_order(Tx& tx) {
  Statement q{tx, "SELECT coalesce((SELECT value FROM content_state WHERE name = 'clean'), 0)"};
  INDRA_TRY(q.step());
  return q.int64_at(0) != 0;
}

/// The findings as people read them.
Result<void> tell(Run& run, Tx& tx) {
  Forest forest;
  if (auto f = Forest::read(tx)) forest = std::move(*f);
  std::vector<BlobId> blobs;
  for (const Finding& f : run.findings)
    if (f.blob) blobs.push_back(f.blob);
  std::sort(blobs.begin(), blobs.end());
  blobs.erase(std::unique(blobs.begin(), blobs.end()), blobs.end());
  std::multimap<BlobId, Use> uses;
  if (!blobs.empty())
    if (auto all = uses_of(tx, forest, blobs, kUsesOfEach))
      for (const Use& u : *all) uses.emplace(u.blob, u);
  // Where rows cannot be read a number must do for a path.
  const auto path = [&](BranchId branch, Seq moment, NodeId node) {
    auto p = path_of(tx, forest, branch, moment, node);
    return p ? *p : fmt::format("#{}", node.raw());
  };
  for (Finding& f : run.findings) {
    FsckFinding out{
        .rule = f.rule, .what = {}, .branch = {}, .paths = {}, .mending = f.mending, .mended = false};
    if (f.branch) out.branch = forest.title(f.branch, f.moment);
    if (f.node) {
      std::string p = path(f.branch, f.moment, f.node);
      if (!f.name.empty()) p += (p.ends_with('/') ? "" : "/") + f.name;
      out.paths.push_back(std::move(p));
    }
    out.what = out.branch.empty()
                   ? f.what
                   : fmt::format("{}{}: {}", out.branch, f.node ? " " + out.paths[0] : "", f.what);
    if (f.blob) {
      const auto [from, to] = uses.equal_range(f.blob);
      std::string where;
      for (auto it = from; it != to; ++it) {
        const std::string p = path(it->second.branch, it->second.moment, it->second.node);
        where += fmt::format("{}{} {}", where.empty() ? " (" : ", ",
                             forest.title(it->second.branch, it->second.moment), p);
        out.paths.push_back(p);
      }
      out.what += where.empty() ? " (of no file)" : where + ")";
    }
    run.report.findings.push_back(std::move(out));
  }
  run.report.found = run.found;
  return {};
}

Result<void> read_only(Run& run, bool at_rest) {
  INDRA_LET(const auto db, Db::open(run.dir + "/vault.db", {.read_only = true}));
  INDRA_TRY(db->execute("PRAGMA temp_store=FILE; BEGIN"));
  Tx tx = db->borrow();
  if (at_rest) {
    const auto clean = closed_in_order(tx);
    at_rest = clean && *clean;
  }
  INDRA_TRY(check_all(run, tx, at_rest));
  return tell(run, tx);  // the transaction ends with the connection; a damaged page may have ended it before
}

/// All in one transaction, checked again until nothing is left that can be mended.
Result<void> repair(Run& run) {
  WriterOptions w;
  w.migrations = vault_migrations();
  w.background = false;
  INDRA_LET(const auto writer, Writer::open(run.dir + "/vault.db", std::move(w)));
  INDRA_TRY(writer->mutate([&](Tx& tx) -> Result<void> {
    const auto clean = closed_in_order(tx);
    std::vector<FsckFinding> mended;
    for (int round = 0;; ++round) {
      run.findings.clear();
      run.report.findings.clear();
      run.found = 0;
      INDRA_TRY(check_all(run, tx, clean && *clean));
      INDRA_TRY(tell(run, tx));
      bool did = false;
      for (const bool last : {false, true}) {
        if (last && did) break;  // what is lost is judged when the rest is right
        for (std::size_t i = 0; i < run.findings.size() && round < kRounds; ++i) {
          const Finding& f = run.findings[i];
          if (!f.mend || f.last_resort != last) continue;
          INDRA_LET(const bool done, f.mend(tx));
          if (!done) continue;
          did = true;
          run.report.findings[i].mended = true;
          mended.push_back(run.report.findings[i]);
        }
      }
      if (!did) break;
    }
    run.report.found = run.found + mended.size();
    run.report.mended = mended.size();
    run.report.findings.insert(run.report.findings.begin(), mended.begin(), mended.end());
    return {};
  }));
  return writer->barrier();
}

}  // namespace

Result<FsckReport> fsck(const std::string& vault, const FsckOptions& options) {
  if (options.in_use && options.repair) return fail(EBUSY, "the vault is in use; unmount it, then repair");
  std::optional<VaultDir> lock;
  if (!options.in_use) {
    INDRA_LET(VaultDir held, VaultDir::open(vault, false, real_disk()));
    lock.emplace(std::move(held));
    if (!lock->has_db()) return fail(ENOENT, vault + " holds no vault");
  }
  const std::string dir = lock ? lock->path() : vault;
  Run run{dir, options, {}, {}, 0};
  if (!options.in_use) {
    const auto seen = inspect(dir + "/vault.db");
    if (!seen) {
      if (seen.error().code != make_error_code(Errc::corrupt)) return fail(seen.error());
      run.add({.rule = "F1", .what = seen.error().context});
      if (options.repair) return fail(seen.error());
    } else if (const auto known = vault_migrations().size(); seen->user_version != known) {
      if (seen->user_version > known)
        return fail(Errc::newer_format,
                    fmt::format("{} has format {}, this program knows {}", dir, seen->user_version, known));
      return fail(EINVAL,
                  fmt::format("{} has format {}; any command that opens it brings it to {}: indrafs status",
                              dir, seen->user_version, known));
    }
  }
  INDRA_TRY(options.repair ? repair(run) : read_only(run, !options.in_use));
  return std::move(run.report);
}

}  // namespace indra
