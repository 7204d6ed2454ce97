// What the verbs that work in VAULT/coord.db share. They need no daemon: the file is open to any program.
#pragma once
#include <string>

#include "cli/app.h"
#include "events/coord.h"

namespace indra::cli {

/// `own`: to schedule work of the vault's own.
[[nodiscard]] Result<std::unique_ptr<Coord>> open_coord(Context&, bool own = false);
/// The argument, or standard input for "-"; at most a little more than a payload may have.
[[nodiscard]] Result<std::string> payload_of(const std::string& argument);
/// Options that were given, as the JSON that the functions take.
class JobOptionArgs {
 public:
  void add(CLI::App* verb);
  [[nodiscard]] std::string json() const;

 private:
  std::optional<double> delay_, expires_;
  std::optional<std::int64_t> priority_, max_attempts_;
  std::string key_;
};
/// Seconds since 1970; what steady waiting counts by.
[[nodiscard]] double seconds_now();
/// A name of this process that no other has.
[[nodiscard]] std::string own_name(const char* prefix);
/// Runs a program with `input` on its standard input (null: ours). Calls `every` each `interval` seconds
/// while it runs. Its exit status, 128 + n for a signal.
[[nodiscard]] Result<int> run_program(const std::vector<std::string>& command,
                                      const std::vector<std::pair<std::string, std::string>>& environment,
                                      const std::string* input, double interval,
                                      const std::function<void()>& every);
/// Rows of a query as a list of objects.
[[nodiscard]] Result<Json> objects(Coord&, const std::string& sql, const std::vector<std::string>& columns,
                                   const Coord::Arguments& = {});

}  // namespace indra::cli
