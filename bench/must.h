// What a benchmark cannot go on without: the value, or its end with the reason.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/result.h"

template <class T>
T must(indra::Result<T> r) {
  if (!r) {
    std::fprintf(stderr, "%s\n", r.error().text().c_str());
    std::_Exit(1);
  }
  if constexpr (!std::is_void_v<T>) return std::move(*r);
}
