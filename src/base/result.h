// Errors are values. Result<T> is either a T or an Error.
//
// Codes are std::error_code: errno (generic_category), SQLite's (db/), and our own kinds (Errc).
// Compare conditions: `e.code == std::errc::no_space_on_device` is true for errno and for ours.
// A context is for people and stays empty on hot paths, so that nothing is allocated there.
#pragma once
#include <string>
#include <string_view>
#include <system_error>
#include <tl/expected.hpp>
#include <utility>

namespace indra {

/// Our own kinds. Each maps to one errno (to_errno).
enum class Errc {
  corrupt = 1,   ///< bytes do not match their hash or checksum: EIO
  not_local,     ///< known, but its bytes are elsewhere: EIO
  conflict,      ///< somebody else changed it first: EBUSY
  newer_format,  ///< the file was made by a newer version: EPROTONOSUPPORT
  bad_format,    ///< not a file of ours, or damaged beyond reading: EINVAL
  failed,        ///< an earlier write or sync failed; the vault takes no more changes: EROFS
};
const std::error_category& indra_category() noexcept;
inline std::error_code make_error_code(Errc e) noexcept { return {static_cast<int>(e), indra_category()}; }

struct Error {
  std::error_code code;
  std::string context;

  /// "context: message", or the message alone.
  [[nodiscard]] std::string text() const;
};

template <class T>
using Result = tl::expected<T, Error>;
using Failure = tl::unexpected<Error>;

[[nodiscard]] inline Failure fail(std::error_code code, std::string context = {}) {
  return Failure{Error{code, std::move(context)}};
}
/// `err` is an errno value, positive.
[[nodiscard]] inline Failure fail(int err, std::string context = {}) {
  return Failure{Error{std::error_code{err, std::generic_category()}, std::move(context)}};
}
[[nodiscard]] inline Failure fail(Error e) { return Failure{std::move(e)}; }

/// The errno an outside program is told. Never 0.
[[nodiscard]] int to_errno(const std::error_code& code) noexcept;
[[nodiscard]] inline int to_errno(const Error& e) noexcept { return to_errno(e.code); }

#define INDRA_CAT2(a, b) a##b
#define INDRA_CAT(a, b) INDRA_CAT2(a, b)
/// Runs `expr` (a Result) and returns its error, unchanged, from the enclosing function.
#define INDRA_TRY(...) INDRA_TRY_(INDRA_CAT(indra_try_, __COUNTER__), __VA_ARGS__)
#define INDRA_TRY_(tmp, ...)                           \
  do {                                                 \
    if (auto tmp = (__VA_ARGS__); !tmp) [[unlikely]]   \
      return ::indra::Failure{std::move(tmp).error()}; \
  } while (false)
/// `INDRA_LET(auto x, expr);` declares x with the value of `expr`, or returns its error.
#define INDRA_LET(decl, ...) INDRA_LET_(INDRA_CAT(indra_let_, __COUNTER__), decl, __VA_ARGS__)
#define INDRA_LET_(tmp, decl, ...)                   \
  auto tmp = (__VA_ARGS__);                          \
  if (!tmp) [[unlikely]]                             \
    return ::indra::Failure{std::move(tmp).error()}; \
  decl = std::move(*tmp)

}  // namespace indra

template <>
struct std::is_error_code_enum<indra::Errc> : std::true_type {};
