// Fault points: a test makes a named point fail, wait or die. Passed in, never global.
#pragma once
#include <functional>
#include <string_view>

#include "base/result.h"

namespace indra {

class FaultPoints {
 public:
  using Hook = std::function<Result<void>(std::string_view point)>;
  FaultPoints() = default;
  explicit FaultPoints(Hook hook) : hook_{std::move(hook)} {}

  /// Costs one branch when no hook is set.
  [[nodiscard]] Result<void> at(std::string_view point) const {
    if (!hook_) [[likely]]
      return {};
    return hook_(point);
  }

  /// For a step whose absence a test plants: true when the hook answers ECANCELED.
  [[nodiscard]] bool leaves_out(std::string_view point) const {
    if (!hook_) [[likely]]
      return false;
    const auto r = hook_(point);
    return !r && r.error().code == std::errc::operation_canceled;
  }

 private:
  Hook hook_;
};

}  // namespace indra
