// Random operations on one file, as fsx makes them, and the proof that what is found after a crash is the
// file as it was after one of them, none older than the last fsync that was answered.
//
//   loads run FILE SEED LOG            works on FILE (made by it) until the filesystem dies under it
//
//   loads check FILE SEED LOG [MORE]   0: FILE is as rules D1, D2 and D4 allow, with at most MORE operations
//   (1)
//                                      that LOG does not know of
//
// Operations follow from SEED alone, so LOG holds numbers only: operations done, those that an fsync answered
// for (or that are older than five seconds), and fsyncs. Knows nothing of IndraFS, only POSIX.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <string>
#include <utility>

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint64_t kLargest = 300'000;

struct Random {
  std::uint64_t state;
  std::uint64_t operator()() {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) { return (*this)() % n; }
};

enum class Kind { write, truncate, punch, sync, read };
struct Op {
  Kind kind;
  std::uint64_t at = 0, size = 0;
  std::string bytes;
};

class Ops {
 public:
  explicit Ops(std::uint64_t seed) : random_{seed} {}
  std::string content;

  Op next() {
    const std::uint64_t size = content.size(), what = random_.below(20);
    if (what < 2) return {Kind::truncate, random_.below(kLargest / 2), 0, {}};
    if (what < 4 && size > 10) return {Kind::punch, random_.below(size), 1 + random_.below(20'000), {}};
    if (what < 7) return {Kind::sync, 0, 0, {}};
    if (what < 9) return {Kind::read, 0, 0, {}};
    Op op{Kind::write, 0, 1 + random_.below(random_.below(4) == 0 ? 60'000 : 5'000), {}};
    op.at = random_.below(4) == 0 ? std::min(size, kLargest - op.size) : random_.below(kLargest - op.size);
    op.bytes.resize(op.size + 8);
    for (std::uint64_t i = 0; i < op.size; i += 8) {
      const std::uint64_t v = random_() | 0x0101010101010101;  // no zeros: a hole is seen
      std::memcpy(op.bytes.data() + i, &v, 8);
    }
    op.bytes.resize(op.size);
    return op;
  }
  void apply(const Op& op) {
    if (op.kind == Kind::truncate) content.resize(op.at);
    if (op.kind == Kind::punch)
      std::fill_n(content.begin() + static_cast<std::ptrdiff_t>(op.at),
                  std::min(op.size, content.size() - op.at), '\0');
    if (op.kind != Kind::write) return;
    if (content.size() < op.at + op.size) content.resize(op.at + op.size);
    content.replace(op.at, op.size, op.bytes);
  }

 private:
  Random random_;
};

bool read_all(int fd, std::string& content) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return false;
  content.assign(static_cast<std::size_t>(st.st_size) + 1, 'x');
  std::size_t got = 0;
  while (got < content.size()) {
    const ssize_t n = ::pread(fd, content.data() + got, content.size() - got, static_cast<off_t>(got));
    if (n < 0) return false;
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  content.resize(got);
  return true;
}

bool died(int e) { return e == ENOTCONN || e == ECONNABORTED || e == ENODEV || e == EIO; }

bool perform(int fd, const Op& op, const std::string& content, bool& wrong) {
  std::string found;
  switch (op.kind) {
    case Kind::write:
      errno = EIO;  // a write that ends short tells no error
      return ::pwrite(fd, op.bytes.data(), op.size, static_cast<off_t>(op.at)) ==
             static_cast<ssize_t>(op.size);
    case Kind::truncate:
      return ::ftruncate(fd, static_cast<off_t>(op.at)) == 0;
    case Kind::punch:
      return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(op.at),
                         static_cast<off_t>(op.size)) == 0;
    case Kind::sync:
      return ::fsync(fd) == 0;
    case Kind::read:
      if (!read_all(fd, found)) return false;
      wrong = found != content;
      return true;
  }
  return false;
}

/// One line, always of the same length: whoever reads it meanwhile finds it whole.
void tell(int log, bool begun, std::uint64_t done, std::uint64_t sure, std::uint64_t fsyncs) {
  char line[100];
  const int n = std::snprintf(line, sizeof line, "%d %20llu %20llu %20llu ok\n", begun ? 1 : 0,
                              static_cast<unsigned long long>(done), static_cast<unsigned long long>(sure),
                              static_cast<unsigned long long>(fsyncs));
  if (::pwrite(log, line, static_cast<std::size_t>(n), 0) != n) std::perror("loads: the log");
}

int run(const std::string& file, std::uint64_t seed, const std::string& log) {
  Ops ops{seed};
  std::uint64_t done = 0, sure = 0, fsyncs = 0;
  std::deque<std::pair<Clock::time_point, std::uint64_t>> past;
  const int fd = ::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  const int out = ::open(log.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
  const bool begun = fd >= 0 && ::fsync(fd) == 0;
  int why = errno;
  bool wrong = false;
  while (begun && !wrong) {
    const Op op = ops.next();
    errno = 0;
    if (!perform(fd, op, ops.content, wrong)) {
      why = errno;
      break;
    }
    ops.apply(op);
    ++done;
    if (op.kind == Kind::sync) {
      sure = done, ++fsyncs;
      tell(out, begun, done, sure, fsyncs);
    }
    const auto now = Clock::now();
    if (past.empty() || now - past.back().first > std::chrono::milliseconds{20}) past.emplace_back(now, done);
  }
  const auto limit = Clock::now() - std::chrono::seconds{6};
  for (const auto& [when, n] : past)
    if (when < limit) sure = std::max(sure, n);
  tell(out, begun, done, sure, fsyncs);
  if (wrong)
    return std::fprintf(stderr, "loads: after %llu operations other bytes are read than were written\n",
                        static_cast<unsigned long long>(done)),
           1;
  if (!died(why)) return std::fprintf(stderr, "loads: %s\n", std::strerror(why)), 1;
  return 0;
}

int check(const std::string& file, std::uint64_t seed, const std::string& log, std::uint64_t more) {
  bool begun = false;
  std::uint64_t done = 0, sure = 0, fsyncs = 0;
  std::ifstream in{log};
  if (!(in >> begun >> done >> sure >> fsyncs)) return 2;
  if (!begun) return std::puts("0 fsyncs"), 0;
  std::string found;
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || !read_all(fd, found)) return std::perror("loads: reading"), 1;
  Ops ops{seed};
  for (std::uint64_t k = 0; k <= done + more; ++k) {  // the one that was under way may have happened
    if (k >= sure && ops.content == found)
      return std::printf("%llu fsyncs, %llu operations, %llu sure, found %llu\n",
                         static_cast<unsigned long long>(fsyncs), static_cast<unsigned long long>(done),
                         static_cast<unsigned long long>(sure), static_cast<unsigned long long>(k)),
             0;
    ops.apply(ops.next());
  }
  std::fprintf(
      stderr, "loads: %zu bytes are found that the file held after none of the operations %llu to %llu\n",
      found.size(), static_cast<unsigned long long>(sure), static_cast<unsigned long long>(done + more));
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::string{argv[1]} == "run")
    return run(argv[2], std::strtoull(argv[3], nullptr, 10), argv[4]);
  if ((argc == 5 || argc == 6) && std::string{argv[1]} == "check")
    return check(argv[2], std::strtoull(argv[3], nullptr, 10), argv[4],
                 argc == 6 ? std::strtoull(argv[5], nullptr, 10) : 1);
  std::fprintf(stderr, "usage: loads run|check FILE SEED LOG [MORE]\n");
  return 2;
}
