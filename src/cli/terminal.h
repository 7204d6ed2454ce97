// What people see: names without control characters, sizes, times, colours, progress.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/time.h"

namespace indra::cli {

[[nodiscard]] bool stdout_is_terminal();
[[nodiscard]] bool colours();  ///< standard output is a terminal and NO_COLOR is not set
/// On a terminal control characters, backslashes and bytes that are not UTF-8 become \n, \\, \xNN; else the
/// bytes as they are.
[[nodiscard]] std::string shown_name(std::string_view name, bool terminal = stdout_is_terminal());
[[nodiscard]] std::string mode_text(std::uint32_t mode);   ///< "drwxr-xr-x"
[[nodiscard]] std::string time_text(TimeNs);               ///< "2026-01-31 12:00:00"
[[nodiscard]] std::string size_text(std::uint64_t bytes);  ///< "1.5 GiB"
/// In the colour for a node of this mode, where colours() says so.
[[nodiscard]] std::string coloured(std::string_view name, std::uint32_t mode);

/// A line on standard error that is renewed while something takes over a second; nothing when it is no
/// terminal.
class Progress {
 public:
  explicit Progress(std::string what, std::uint64_t total = 0);
  ~Progress();
  std::atomic<std::uint64_t> bytes{0}, items{0}, total;

 private:
  void draw();
  const std::string what_;
  bool drawn_ = false, ended_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace indra::cli
