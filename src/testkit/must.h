// What a test cannot go on without: the value, or an exception that says why there is none.
#pragma once
#include <stdexcept>
#include <utility>

#include "base/result.h"

namespace indra {

template <class T>
T must(Result<T> r) {
  if (!r) throw std::runtime_error{r.error().text()};
  if constexpr (!std::is_void_v<T>) return std::move(*r);
}

}  // namespace indra
