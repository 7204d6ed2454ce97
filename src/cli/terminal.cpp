#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <ctime>

#include "daemon/wire.h"

namespace indra::cli {

bool stdout_is_terminal() {
  static const bool yes = ::isatty(STDOUT_FILENO) == 1;
  return yes;
}

bool colours() {
  const char* off = std::getenv("NO_COLOR");
  return stdout_is_terminal() && (off == nullptr || *off == '\0');
}

std::string shown_name(std::string_view name, bool terminal) {
  if (!terminal) return std::string{name};
  const bool text = is_utf8(name);
  std::string out;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const auto c = static_cast<unsigned char>(name[i]);
    // U+0080..U+009F are control characters too: C2 80 .. C2 9F.
    const bool c1 = c == 0xC2 && i + 1 < name.size() && static_cast<unsigned char>(name[i + 1]) < 0xA0;
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\\')
      out += "\\\\";
    else if (c < 0x20 || c == 0x7F || (c >= 0x80 && !text))
      out += fmt::format("\\x{:02x}", c);
    else if (c1) {
      out += fmt::format("\\x{:02x}\\x{:02x}", c, static_cast<unsigned char>(name[i + 1]));
      ++i;
    } else
      out += static_cast<char>(c);
  }
  return out;
}

std::string mode_text(std::uint32_t mode) {
  std::string s = "?rwxrwxrwx";
  s[0] = S_ISDIR(mode)    ? 'd'
         : S_ISREG(mode)  ? '-'
         : S_ISLNK(mode)  ? 'l'
         : S_ISFIFO(mode) ? 'p'
         : S_ISSOCK(mode) ? 's'
         : S_ISCHR(mode)  ? 'c'
         : S_ISBLK(mode)  ? 'b'
                          : '?';
  for (unsigned i = 0; i < 9; ++i)
    if ((mode & (0400u >> i)) == 0) s[1 + i] = '-';
  if ((mode & S_ISUID) != 0) s[3] = s[3] == 'x' ? 's' : 'S';
  if ((mode & S_ISGID) != 0) s[6] = s[6] == 'x' ? 's' : 'S';
  if ((mode & S_ISVTX) != 0) s[9] = s[9] == 'x' ? 't' : 'T';
  return s;
}

std::string time_text(TimeNs t) {
  const std::time_t seconds = static_cast<std::time_t>(t / kSecond - (t % kSecond < 0 ? 1 : 0));
  std::tm local{};
  if (::localtime_r(&seconds, &local) == nullptr) return std::to_string(seconds);
  std::array<char, 64> buf{};
  return {buf.data(), std::strftime(buf.data(), buf.size(), "%Y-%m-%d %H:%M:%S", &local)};
}

std::string size_text(std::uint64_t bytes) {
  static constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto v = static_cast<double>(bytes);
  std::size_t u = 0;
  while (v >= 1024 && u + 1 < units.size()) {
    v /= 1024;
    ++u;
  }
  return u == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", v, units[u]);
}

std::string coloured(std::string_view name, std::uint32_t mode) {
  if (!colours()) return std::string{name};
  const char* colour = S_ISDIR(mode)   ? "1;34"
                       : S_ISLNK(mode) ? "36"
                       : S_ISREG(mode) ? ((mode & 0111) != 0 ? "32" : nullptr)
                                       : "33";
  return colour == nullptr ? std::string{name} : fmt::format("\033[{}m{}\033[0m", colour, name);
}

Progress::Progress(std::string what, std::uint64_t all) : total{all}, what_{std::move(what)} {
  if (::isatty(STDERR_FILENO) != 1) return;
  thread_ = std::thread{[this] {
    std::unique_lock lock{mutex_};
    if (wake_.wait_for(lock, std::chrono::seconds{1}, [this] { return ended_; })) return;
    do draw();
    while (!wake_.wait_for(lock, std::chrono::milliseconds{200}, [this] { return ended_; }));
  }};
}

Progress::~Progress() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock{mutex_};
    ended_ = true;
  }
  wake_.notify_all();
  thread_.join();
  if (drawn_) fmt::print(stderr, "\r\033[K");
}

void Progress::draw() {
  drawn_ = true;
  const std::uint64_t done = bytes, all = total;
  std::string line = fmt::format("{} {}", what_, size_text(done));
  if (all > 0) {
    const auto share = std::min(1.0, static_cast<double>(done) / static_cast<double>(all));
    const auto filled = static_cast<std::size_t>(share * 24);
    line += fmt::format(" of {} [{}{}] {:.0f}%", size_text(all), std::string(filled, '#'),
                        std::string(24 - filled, ' '), share * 100);
  } else if (items > 1) {
    line += fmt::format(", {} items", items.load());
  }
  fmt::print(stderr, "\r{}\033[K", line);
  std::fflush(stderr);
}

}  // namespace indra::cli
