// The program of the process that raises events on a mount (docs/design/editor-events.md, E5). It does the
// calls that it is told to do, through the mount, and says what became of each. A process of its own: a
// thread of the daemon in such a call would keep a killed daemon's mount from ending.
//
// Shapes:   orders and answers go over a stream socket; see RaiseOrder.
// Threads:  one, which owns everything.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace indra {

/// One call to be made below the mount point.
struct RaiseOrder {
  enum Call : char {
    ping = 'p',
    node = 'n',        ///< mknod `to`; `type` with permission bits
    directory = 'd',   ///< mkdir `to`
    symlink = 's',     ///< symlink `to`
    link = 'l',        ///< link `from` to `to`
    unlink = 'u',      ///< unlink `from`
    rmdir = 'r',       ///< rmdir `from`
    rename = 'm',      ///< rename `from` to `to`
    exchange = 'x',    ///< the same, exchanging
    modify = 'w',      ///< set the mtime of `from`
    attributes = 'a',  ///< set both times of `from`
    close = 'c',       ///< open `from` for writing and close it
  } call = ping;
  std::uint32_t type = 0;
  struct Place {
    std::uint64_t dir = 0;  ///< the directory's inode number: nothing is done in another
    std::string path;       ///< the directory, relative to the mount point; empty: the mount point
    std::string name;       ///< empty: the directory itself
  } from, to;
  [[nodiscard]] std::string encode() const;
  [[nodiscard]] static std::optional<RaiseOrder> decode(std::string_view);
};

/// Serves orders from `socket` until it closes. `mountpoint` must be the mount with this device number.
int run_raise_program(const std::string& mountpoint, std::uint64_t device, int socket);
/// The arguments behind the verb: MOUNTPOINT DEVICE; the socket is descriptor 3. For main().
int run_raise_program(int argc, char** argv);

}  // namespace indra
