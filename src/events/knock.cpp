#include "events/knock.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <ctime>

#include "base/owned.h"

namespace indra {
namespace {
constexpr std::size_t kSize = 64;
constexpr off_t kByte = 32;  // written for inotify, beside the counter

std::uint32_t* counter(void* map) { return static_cast<std::uint32_t*>(map); }
}  // namespace

Result<std::unique_ptr<Knock>> Knock::open(const std::string& path) {
  const int fd = open_owned(path, O_RDWR | O_CREAT);
  if (fd < 0) return fail(errno, "open " + path);
  struct stat st {};
  void* map = MAP_FAILED;
  // It only ever grows: a mapping of what somebody cut off would end the process.
  if (::fstat(fd, &st) == 0 && (st.st_size >= static_cast<off_t>(kSize) || ::ftruncate(fd, kSize) == 0))
    map = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    const int err = errno;
    ::close(fd);
    return fail(err, "map " + path);
  }
  return std::unique_ptr<Knock>{new Knock{fd, map}};
}

Knock::~Knock() {
  ::munmap(map_, kSize);
  ::close(fd_);
}

void Knock::ring() noexcept {
  std::atomic_ref<std::uint32_t>{*counter(map_)}.fetch_add(1);
  ::syscall(SYS_futex, counter(map_), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  if (::pwrite(fd_, "", 1, kByte) != 1) return;  // a full disk: those who map it are awake all the same
}

Knock::Ticket Knock::ticket() const noexcept { return std::atomic_ref<std::uint32_t>{*counter(map_)}.load(); }

void Knock::wait(Ticket seen, TimeNs timeout) const noexcept {
  const timespec t{timeout / kSecond, timeout % kSecond};
  ::syscall(SYS_futex, counter(map_), FUTEX_WAIT, seen, timeout < 0 ? nullptr : &t, nullptr, 0);
}

}  // namespace indra
