#include "base/log.h"

#include <fcntl.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include "base/owned.h"

namespace indra::log {

bool set_level(std::string_view name) {
  const auto level = spdlog::level::from_str(std::string{name});
  if (level == spdlog::level::off && name != "off") return false;
  spdlog::set_level(level);
  return true;
}

void to_stderr() {
  auto logger =
      std::make_shared<spdlog::logger>("indrafs", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(spdlog::get_level());
  spdlog::set_default_logger(std::move(logger));
}

bool to_file(const std::string& path) {
  if (const int fd = open_owned(path, O_WRONLY | O_CREAT | O_APPEND); fd >= 0)
    ::close(fd);
  else
    return false;
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    auto logger = std::make_shared<spdlog::logger>("indrafs", sink);
    logger->set_level(spdlog::get_level());
    logger->flush_on(spdlog::level::info);
    spdlog::set_default_logger(logger);
    return true;
  } catch (const spdlog::spdlog_ex&) {
    return false;
  }
}

}  // namespace indra::log
