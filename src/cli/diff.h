// Differences as people and programs read them.
#pragma once
#include <cstdio>
#include <string>

#include "cli/app.h"

namespace indra::cli {

/// Larger files are said to differ, not shown.
inline constexpr std::int64_t kTextMost = 16 << 20;

class DiffPrinter {
 public:
  struct Options {
    bool json = false;
    bool patch = false;           ///< as git writes it; else one line an entry
    unsigned context = 3;         ///< with so many lines around a change
    std::FILE* to = stdout;       ///< where to print
    std::size_t most = SIZE_MAX;  ///< lines at most; the rest is counted
  };
  explicit DiffPrinter(const Options& o) : json_{o.json}, patch_{o.patch && !o.json}, o_{o} {}
  [[nodiscard]] bool patch() const { return patch_; }
  /// A row of the verb `diff`; the contents of both sides with patch().
  [[nodiscard]] Result<void> entry(Json row, std::string a, std::string b);
  /// The last line, or the JSON.
  void finish();
  [[nodiscard]] std::size_t entries() const { return entries_; }
  [[nodiscard]] Json take() { return std::move(all_); }  ///< with json: instead of finish()

 private:
  const bool json_, patch_;
  const Options o_;
  Json all_ = Json::array();
  std::size_t entries_ = 0, added_ = 0, removed_ = 0, changed_ = 0, moved_ = 0;
};

/// Between two moments of one vault. Returns how many files could not be read; they were told.
[[nodiscard]] Result<int> diff_in_vault(Context&, Client&, const Json& a, const Json& b,
                                        const std::string& path, DiffPrinter&);
/// Between a place in a vault and a directory of the host: names, types, permission bits and contents.
[[nodiscard]] Result<int> diff_outside(Context&, Client&, const Place&, const std::string& dir,
                                       bool outside_is_a, DiffPrinter&);

}  // namespace indra::cli
