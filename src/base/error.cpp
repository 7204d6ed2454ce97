#include <cerrno>

#include "base/result.h"

namespace indra {
namespace {
class Category final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "indra"; }
  [[nodiscard]] std::string message(int v) const override {
    switch (static_cast<Errc>(v)) {
      case Errc::corrupt:
        return "stored bytes do not match their checksum";
      case Errc::not_local:
        return "content is not on this machine";
      case Errc::conflict:
        return "changed by somebody else meanwhile";
      case Errc::newer_format:
        return "made by a newer version of indrafs";
      case Errc::bad_format:
        return "not a vault, or damaged";
      case Errc::failed:
        return "an earlier write failed; the vault takes no more changes until it is reopened";
    }
    return "unknown error";
  }
  [[nodiscard]] std::error_condition default_error_condition(int v) const noexcept override {
    return {errno_of(static_cast<Errc>(v)), std::generic_category()};
  }
  static int errno_of(Errc e) noexcept {
    switch (e) {
      case Errc::corrupt:
      case Errc::not_local:
        return EIO;
      case Errc::conflict:
        return EBUSY;
      case Errc::newer_format:
        return EPROTONOSUPPORT;
      case Errc::bad_format:
        return EINVAL;
      case Errc::failed:
        return EROFS;
    }
    return EIO;
  }
};
}  // namespace

const std::error_category& indra_category() noexcept {
  static const Category category;
  return category;
}

std::string Error::text() const { return context.empty() ? code.message() : context + ": " + code.message(); }

int to_errno(const std::error_code& code) noexcept {
  if (code.category() == std::generic_category() || code.category() == std::system_category())
    return code.value() != 0 ? code.value() : EIO;
  const auto condition = code.default_error_condition();
  if (condition.category() == std::generic_category() && condition.value() != 0) return condition.value();
  return EIO;
}

}  // namespace indra
