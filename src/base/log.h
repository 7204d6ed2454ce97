// One logger for the process. Messages are for the person who runs the daemon.
#pragma once
#include <spdlog/spdlog.h>

#include <string>
#include <string_view>

namespace indra::log {

/// "trace", "debug", "info", "warn", "error", "off". False when the name is none of these.
bool set_level(std::string_view name);
/// To standard error: the library's own choice is standard output, which is a verb's data.
void to_stderr();
/// Appends to a file instead of standard error.
bool to_file(const std::string& path);

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::trace;
using spdlog::warn;

}  // namespace indra::log
