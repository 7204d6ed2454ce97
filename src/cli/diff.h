// Differences as people and programs read them.
#pragma once
#include <string>

#include "cli/app.h"

namespace indra::cli {

/// Larger files are said to differ, not shown.
inline constexpr std::int64_t kTextMost = 16 << 20;

class DiffPrinter {
 public:
  /// `patch`: as git writes it, with so many lines around a change; else one line an entry.
  DiffPrinter(const Context& ctx, bool patch, unsigned context)
      : json_{ctx.json}, patch_{patch && !ctx.json}, context_{context} {}
  [[nodiscard]] bool patch() const { return patch_; }
  /// A row of the verb `diff`; the contents of both sides with patch().
  [[nodiscard]] Result<void> entry(Json row, std::string a, std::string b);
  /// The last line, or the JSON.
  void finish();
  [[nodiscard]] std::size_t entries() const { return entries_; }

 private:
  const bool json_, patch_;
  const unsigned context_;
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
