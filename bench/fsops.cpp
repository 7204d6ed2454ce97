// The micro loops of the end-to-end benchmarks: one program for all file systems, so that they run the same
// code. Prints one line of JSON: {"op", "count", "jobs", "seconds", "per_second", "p50_us", "p99_us",
// "max_us", ...}.
//
//   fsops create DIR --count N --size B --jobs J       new files d<job>/f<i>: open, write, close
//   fsops stat DIR --count N --files F                 stat of F existing files in turn (made by create,
//   --jobs 1) fsops open-read-close DIR --count N --files F      open, read 4 KiB, close, likewise fsops
//   absent DIR --count N                         stat of names that were never asked for and do not exist
//   fsops overwrite FILE --count N --size B            pwrite of 4 KiB at random in a file of B bytes,
//   fdatasync each fsops write FILE --size B                          1 MiB writes, then close fsops read
//   FILE                                    1 MiB reads to the end fsops sqlite FILE --journal WAL|DELETE
//   --count N   transactions of one row, synchronous=FULL fsops rename DIR --count N a directory of 2,000
//   files renamed back and forth fsops tree DIR --files N --size B --dirs D --seed S   makes N files, B bytes
//   in all, the same ones for each seed
// --rate R: at most R operations a second in each job (for latencies beside other work). --seconds S: stop
// then.
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using SteadyClock = std::chrono::steady_clock;
using Micros = std::chrono::duration<double, std::micro>;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "fsops: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

struct Arguments {
  std::string op, path, journal = "WAL";
  std::int64_t count = 10'000, size = 4096, files = 1000, dirs = 600, seed = 42;
  int jobs = 1;
  double rate = 0, seconds = 0;
};

std::vector<char> noise(std::size_t n, std::uint64_t seed) {
  std::vector<char> out(n + 8);
  std::mt19937_64 random{seed};
  for (std::size_t i = 0; i < n; i += 8) {
    const std::uint64_t v = random();
    std::memcpy(out.data() + i, &v, 8);
  }
  out.resize(n);
  return out;
}

void write_all(int fd, const char* data, std::size_t n, const std::string& name) {
  while (n > 0) {
    const ssize_t done = ::write(fd, data, n);
    if (done < 0) die(name);
    data += done;
    n -= static_cast<std::size_t>(done);
  }
}

void write_file(const std::string& name, const char* data, std::size_t n) {
  const int fd = ::open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0) die(name);
  write_all(fd, data, n, name);
  if (::close(fd) != 0) die(name);
}

void make_dir(const std::string& name) {
  if (::mkdir(name.c_str(), 0755) != 0 && errno != EEXIST) die(name);
}

std::string file_name(const std::string& dir, int job, std::int64_t i) {
  return dir + "/d" + std::to_string(job) + "/f" + std::to_string(i);
}

struct Measured {
  std::vector<double> micros;  // one for each operation
  double seconds = 0;
};

/// Runs body(job, i) for i in [0, count) in each job's share, and times each call.
Measured measure(const Arguments& a, const std::function<void(int job, std::int64_t i)>& body) {
  std::vector<std::vector<double>> times(static_cast<std::size_t>(a.jobs));
  const auto start = SteadyClock::now();
  std::vector<std::thread> threads;
  for (int job = 0; job < a.jobs; ++job) {
    threads.emplace_back([&, job] {
      auto& mine = times[static_cast<std::size_t>(job)];
      const std::int64_t n = a.count / a.jobs;
      mine.reserve(static_cast<std::size_t>(n));
      for (std::int64_t i = 0; i < n; ++i) {
        const auto before = SteadyClock::now();
        if (a.seconds > 0 && before - start > std::chrono::duration<double>(a.seconds)) break;
        body(job, i);
        const auto after = SteadyClock::now();
        mine.push_back(Micros(after - before).count());
        if (a.rate > 0) {
          std::this_thread::sleep_until(
              start + std::chrono::duration_cast<SteadyClock::duration>(
                          std::chrono::duration<double>(static_cast<double>(i + 1) / a.rate)));
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  Measured m;
  m.seconds = std::chrono::duration<double>(SteadyClock::now() - start).count();
  for (const auto& t : times) m.micros.insert(m.micros.end(), t.begin(), t.end());
  return m;
}

void report(const Arguments& a, Measured m, double bytes = 0) {
  std::sort(m.micros.begin(), m.micros.end());
  const auto at = [&](double q) {
    if (m.micros.empty()) return 0.0;
    return m.micros[static_cast<std::size_t>(q * static_cast<double>(m.micros.size() - 1))];
  };
  std::printf(
      "{\"op\":\"%s\",\"count\":%zu,\"jobs\":%d,\"seconds\":%.6f,\"per_second\":%.1f,\"p50_us\":%.2f,"
      "\"p99_us\":%.2f,\"max_us\":%.1f,\"mb_per_second\":%.1f}\n",
      a.op.c_str(), m.micros.size(), a.jobs, m.seconds, static_cast<double>(m.micros.size()) / m.seconds,
      at(0.5), at(0.99), at(1.0), bytes / m.seconds / 1e6);
}

void create(const Arguments& a) {
  // Other bytes in each run: a file system that finds equal content must not find this.
  const auto data = noise(static_cast<std::size_t>(a.size) + 4096,
                          static_cast<std::uint64_t>(SteadyClock::now().time_since_epoch().count()));
  make_dir(a.path);
  for (int job = 0; job < a.jobs; ++job) make_dir(a.path + "/d" + std::to_string(job));
  report(a, measure(a, [&](int job, std::int64_t i) {
           // A different window of the noise for each file, so that no two files are equal.
           thread_local std::vector<char> mine;
           mine.assign(data.begin() + i % 4096, data.begin() + i % 4096 + a.size);
           const std::int64_t mark = i * 1000 + job;
           if (mine.size() >= sizeof mark) std::memcpy(mine.data(), &mark, sizeof mark);
           write_file(file_name(a.path, job, i), mine.data(), mine.size());
         }));
}

void stat_files(const Arguments& a) {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < a.files; ++i) names.push_back(file_name(a.path, 0, i));
  report(a, measure(a, [&](int, std::int64_t i) {
           struct stat st {};
           const auto& name = names[static_cast<std::size_t>(i % a.files)];
           if (::stat(name.c_str(), &st) != 0) die(name);
         }));
}

void open_read_close(const Arguments& a) {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < a.files; ++i) names.push_back(file_name(a.path, 0, i));
  report(a, measure(a, [&](int, std::int64_t i) {
           char buffer[4096];
           const auto& name = names[static_cast<std::size_t>(i % a.files)];
           const int fd = ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
           if (fd < 0 || ::read(fd, buffer, sizeof buffer) < 0) die(name);
           ::close(fd);
         }));
}

void absent(const Arguments& a) {
  const std::string unique = a.path + "/absent-" + std::to_string(::getpid()) + "-";
  report(a, measure(a, [&](int job, std::int64_t i) {
           struct stat st {};
           const std::string name = unique + std::to_string(job) + "-" + std::to_string(i);
           if (::stat(name.c_str(), &st) == 0 || errno != ENOENT) die(name);
         }));
}

void overwrite(const Arguments& a) {
  constexpr std::int64_t kBlock = 4096;
  struct stat st {};
  if (::stat(a.path.c_str(), &st) != 0 || st.st_size != a.size) {
    const auto data = noise(1 << 20, 2);
    const int fd = ::open(a.path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0) die(a.path);
    for (std::int64_t left = a.size; left > 0; left -= 1 << 20)
      write_all(fd, data.data(), static_cast<std::size_t>(std::min<std::int64_t>(left, 1 << 20)), a.path);
    if (::fsync(fd) != 0 || ::close(fd) != 0) die(a.path);
  }
  const int fd = ::open(a.path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) die(a.path);
  const auto data = noise(kBlock, static_cast<std::uint64_t>(::getpid()));
  std::mt19937_64 random{static_cast<std::uint64_t>(::getpid())};
  report(a, measure(a, [&](int, std::int64_t) {
           const auto at =
               static_cast<off_t>(random() % static_cast<std::uint64_t>(a.size / kBlock)) * kBlock;
           if (::pwrite(fd, data.data(), kBlock, at) != kBlock || ::fdatasync(fd) != 0) die(a.path);
         }));
  ::close(fd);
}

void write_big(Arguments a) {
  const auto data = noise(2 << 20, static_cast<std::uint64_t>(::getpid()));
  a.count = a.size >> 20;
  a.jobs = 1;
  const auto start = SteadyClock::now();
  const int fd = ::open(a.path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0) die(a.path);
  Measured m = measure(
      a, [&](int, std::int64_t i) { write_all(fd, data.data() + (i * 4099) % (1 << 20), 1 << 20, a.path); });
  if (::close(fd) != 0) die(a.path);
  m.seconds = std::chrono::duration<double>(SteadyClock::now() - start).count();
  report(a, std::move(m), static_cast<double>(a.count << 20));
}

void read_big(Arguments a) {
  const int fd = ::open(a.path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat st {};
  if (fd < 0 || ::fstat(fd, &st) != 0) die(a.path);
  std::vector<char> buffer(1 << 20);
  a.count = (st.st_size + (1 << 20) - 1) >> 20;
  a.jobs = 1;
  report(a,
         measure(a,
                 [&](int, std::int64_t) {
                   if (::read(fd, buffer.data(), buffer.size()) < 0) die(a.path);
                 }),
         static_cast<double>(st.st_size));
  ::close(fd);
}

void sqlite(const Arguments& a) {
  sqlite3* db = nullptr;
  const auto check = [&](int rc) {
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) {
      std::fprintf(stderr, "fsops: %s: %s\n", a.path.c_str(), sqlite3_errmsg(db));
      std::exit(1);
    }
  };
  const auto run = [&](const std::string& sql) {
    check(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr));
  };
  check(sqlite3_open(a.path.c_str(), &db));
  run("PRAGMA journal_mode=" + a.journal +
      "; PRAGMA synchronous=FULL;"
      "CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v BLOB);");
  sqlite3_stmt* insert = nullptr;
  check(sqlite3_prepare_v2(db, "INSERT INTO t(v) VALUES(randomblob(100))", -1, &insert, nullptr));
  report(a, measure(a, [&](int, std::int64_t) {
           check(sqlite3_step(insert));
           check(sqlite3_reset(insert));
         }));
  sqlite3_finalize(insert);
  sqlite3_close(db);
}

void rename_dir(const Arguments& a) {
  const std::string one = a.path + "/one", two = a.path + "/two";
  make_dir(a.path);
  make_dir(one);
  for (int i = 0; i < 2000; ++i) write_file(one + "/f" + std::to_string(i), "x", 1);
  report(a, measure(a, [&](int, std::int64_t i) {
           const auto& from = i % 2 == 0 ? one : two;
           if (std::rename(from.c_str(), (i % 2 == 0 ? two : one).c_str()) != 0) die(from);
         }));
}

// Sizes as in source trees: many small files, few large ones (log-normal, scaled to the total). Text-like
// content.
void tree(const Arguments& a) {
  std::mt19937_64 random{static_cast<std::uint64_t>(a.seed)};
  std::normal_distribution<double> normal{0.0, 1.4};
  std::vector<double> sizes;
  double sum = 0;
  for (std::int64_t i = 0; i < a.files; ++i) sum += sizes.emplace_back(std::exp(normal(random)));
  std::string words;
  while (words.size() < (8u << 20)) {
    for (auto n = 2 + random() % 9; n > 0; --n) words += static_cast<char>('a' + random() % 26);
    words += random() % 9 == 0 ? '\n' : ' ';
  }
  make_dir(a.path);
  std::vector<std::string> dirs{a.path};
  for (std::int64_t d = 1; d < a.dirs; ++d) {
    dirs.push_back(dirs[random() % dirs.size()] + "/dir" + std::to_string(d));
    make_dir(dirs.back());
  }
  const auto start = SteadyClock::now();
  for (std::int64_t i = 0; i < a.files; ++i) {
    const double share = sizes[static_cast<std::size_t>(i)] / sum;
    const auto size =
        std::min<std::size_t>(static_cast<std::size_t>(share * static_cast<double>(a.size)), 4u << 20);
    const auto at = random() % (words.size() - size);
    write_file(dirs[random() % dirs.size()] + "/file" + std::to_string(i) + ".txt", words.data() + at, size);
  }
  Measured m;
  m.seconds = std::chrono::duration<double>(SteadyClock::now() - start).count();
  report(a, std::move(m));
}

Arguments parse(int argc, char** argv) {
  Arguments a;
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: fsops OPERATION PATH [--count N] [--size B] [--jobs J] ... (see bench/fsops.cpp)\n");
    std::exit(2);
  }
  a.op = argv[1];
  a.path = argv[2];
  for (int i = 3; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--count")
      a.count = std::stoll(value);
    else if (name == "--size")
      a.size = std::stoll(value);
    else if (name == "--files")
      a.files = std::stoll(value);
    else if (name == "--dirs")
      a.dirs = std::stoll(value);
    else if (name == "--seed")
      a.seed = std::stoll(value);
    else if (name == "--jobs")
      a.jobs = std::stoi(value);
    else if (name == "--rate")
      a.rate = std::stod(value);
    else if (name == "--seconds")
      a.seconds = std::stod(value);
    else if (name == "--journal")
      a.journal = value;
    else {
      std::fprintf(stderr, "fsops: no option %s\n", name.c_str());
      std::exit(2);
    }
  }
  return a;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments a = parse(argc, argv);
  const std::map<std::string, void (*)(const Arguments&)> operations{
      {"create", create},
      {"stat", stat_files},
      {"open-read-close", open_read_close},
      {"absent", absent},
      {"overwrite", overwrite},
      {"write", [](const Arguments& x) { write_big(x); }},
      {"read", [](const Arguments& x) { read_big(x); }},
      {"sqlite", sqlite},
      {"rename", rename_dir},
      {"tree", tree}};
  const auto it = operations.find(a.op);
  if (it == operations.end()) {
    std::fprintf(stderr, "fsops: no operation %s\n", a.op.c_str());
    return 2;
  }
  it->second(a);
}
