// What programs do, through the kernel: the adapter says what the View says.
#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include "mount/internal/test_mount.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

namespace indra {
namespace {

class MountedFiles : public TestMount {
 protected:
  void SetUp() override {
    TestMount::SetUp();
    if (!IsSkipped()) start();
  }
};

class MountedFilesAsRoot : public MountedFiles {};

TEST_F(MountedFiles, read_back_what_was_written_at_every_size) {
  for (const std::size_t size :
       {0u, 1u, 4095u, 4096u, 4097u, 131072u, 1048575u, 1048576u, 1048577u, 3000000u}) {
    std::string text(size, 0);
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + i / 4096);
    write_file(at("f"), text);
    EXPECT_EQ(read_file(at("f")), text) << size;
    struct stat st {};
    ASSERT_EQ(::stat(at("f").c_str(), &st), 0);
    EXPECT_EQ(static_cast<std::size_t>(st.st_size), size);
  }
}

// A reader beside a write past the page cache may bring old bytes into the cache again: they must not stay
// there.
TEST_F(MountedFiles, written_asynchronously_past_the_cache_do_not_read_as_before) {
  constexpr std::size_t kPart = 65536, kParts = 10;
  write_file(at("f"), std::string(kPart * kParts, 'a'));
  const int direct = ::open(at("f").c_str(), O_WRONLY | O_DIRECT), fd = ::open(at("f").c_str(), O_RDONLY);
  ASSERT_GE(direct, 0);
  ASSERT_GE(fd, 0);
  std::atomic<bool> end{false};
  std::thread reader{[&] {
    std::string text(kPart * kParts, 0);
    while (!end) (void)!::pread(fd, text.data(), text.size(), 0);
  }};
  aio_context_t context = 0;
  ASSERT_EQ(::syscall(SYS_io_setup, kParts, &context), 0);
  const std::unique_ptr<char, decltype(&std::free)> data{static_cast<char*>(std::aligned_alloc(4096, kPart)),
                                                         &std::free};
  std::string text(kPart * kParts, 0);
  int stale = 0;
  for (int round = 0; round < 400 && stale == 0; ++round) {
    const char wanted = static_cast<char>('b' + round % 20);
    std::memset(data.get(), wanted, kPart);
    std::array<iocb, kParts> blocks{};
    std::array<iocb*, kParts> list{};
    for (std::size_t i = 0; i < kParts; ++i) {
      blocks[i].aio_fildes = static_cast<std::uint32_t>(direct);
      blocks[i].aio_lio_opcode = IOCB_CMD_PWRITE;
      blocks[i].aio_buf = reinterpret_cast<std::uintptr_t>(data.get());
      blocks[i].aio_nbytes = kPart;
      blocks[i].aio_offset = static_cast<std::int64_t>(i * kPart);
      list[i] = &blocks[i];
    }
    ASSERT_EQ(::syscall(SYS_io_submit, context, kParts, list.data()), static_cast<long>(kParts));
    std::array<io_event, kParts> events{};
    ASSERT_EQ(::syscall(SYS_io_getevents, context, kParts, kParts, events.data(), nullptr),
              static_cast<long>(kParts));
    for (const io_event& e : events) ASSERT_EQ(e.res, static_cast<std::int64_t>(kPart));
    ASSERT_EQ(::pread(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    for (const char c : text) stale += c != wanted ? 1 : 0;
  }
  end = true;
  reader.join();
  EXPECT_EQ(stale, 0);
  ::syscall(SYS_io_destroy, context);
  ::close(direct);
  ::close(fd);
}

TEST_F(MountedFiles, are_made_removed_and_found_missing) {
  ASSERT_EQ(::mkdir(at("d").c_str(), 0750), 0);
  write_file(at("d/f"), "x");
  EXPECT_EQ(errno_of(::rmdir(at("d").c_str())), ENOTEMPTY);
  EXPECT_EQ(errno_of(::mkdir(at("d").c_str(), 0750)), EEXIST);
  EXPECT_EQ(errno_of(::unlink(at("d").c_str())), EISDIR);
  EXPECT_EQ(::unlink(at("d/f").c_str()), 0);
  EXPECT_EQ(errno_of(::access(at("d/f").c_str(), F_OK)), ENOENT);
  EXPECT_EQ(::rmdir(at("d").c_str()), 0);
  EXPECT_EQ(names_in(at("")), std::set<std::string>{});
}

TEST_F(MountedFiles, take_the_umask_once) {
  const mode_t before = ::umask(027);
  write_file(at("f"), "x");
  ::mkdir(at("d").c_str(), 0777);
  ::mkfifo(at("p").c_str(), 0666);
  ::umask(before);
  struct stat st {};
  ::stat(at("f").c_str(), &st);
  EXPECT_EQ(st.st_mode, S_IFREG | 0640u);
  ::stat(at("d").c_str(), &st);
  EXPECT_EQ(st.st_mode, S_IFDIR | 0750u);
  ::stat(at("p").c_str(), &st);
  EXPECT_EQ(st.st_mode, S_IFIFO | 0640u);
}

TEST_F(MountedFilesAsRoot, keep_device_numbers) {
  for (const dev_t dev : {makedev(1, 3), makedev(259, 70000), makedev(4095, 0xFFFFF)}) {
    ASSERT_EQ(::mknod(at("dev").c_str(), S_IFCHR | 0600, dev), 0);
    struct stat st {};
    ASSERT_EQ(::stat(at("dev").c_str(), &st), 0);
    EXPECT_EQ(st.st_rdev, dev);
    ::unlink(at("dev").c_str());
  }
}

TEST_F(MountedFiles, have_links_of_both_kinds) {
  write_file(at("f"), "text");
  ASSERT_EQ(::link(at("f").c_str(), at("hard").c_str()), 0);
  ASSERT_EQ(::symlink("f", at("soft").c_str()), 0);
  struct stat st {};
  ::stat(at("hard").c_str(), &st);
  EXPECT_EQ(st.st_nlink, 2u);
  char target[16] = {};
  EXPECT_EQ(::readlink(at("soft").c_str(), target, sizeof target), 1);
  EXPECT_EQ(read_file(at("soft")), "text");
  ::unlink(at("f").c_str());
  EXPECT_EQ(read_file(at("hard")), "text");
  EXPECT_EQ(errno_of(::open(at("soft").c_str(), O_RDONLY)), ENOENT);
  ::stat(at("hard").c_str(), &st);
  EXPECT_EQ(st.st_nlink, 1u);
}

TEST_F(MountedFiles, live_on_without_a_name_while_open) {
  write_file(at("f"), "alive");
  const int fd = ::open(at("f").c_str(), O_RDWR);
  ::unlink(at("f").c_str());
  char buf[8] = {};
  EXPECT_EQ(::pread(fd, buf, sizeof buf, 0), 5);
  EXPECT_EQ(::pwrite(fd, "A", 1, 0), 1);
  struct stat st {};
  EXPECT_EQ(::fstat(fd, &st), 0);
  EXPECT_EQ(st.st_nlink, 0u);
  ::close(fd);
  EXPECT_TRUE(soon([&] { return views_.nodes() == 1; })) << views_.nodes();
}

TEST_F(MountedFiles, obey_the_flags_of_renameat2) {
  write_file(at("a"), "A");
  write_file(at("b"), "B");
  ::mkdir(at("d").c_str(), 0755);
  EXPECT_EQ(errno_of(::renameat2(AT_FDCWD, at("a").c_str(), AT_FDCWD, at("b").c_str(), RENAME_NOREPLACE)),
            EEXIST);
  EXPECT_EQ(::renameat2(AT_FDCWD, at("a").c_str(), AT_FDCWD, at("b").c_str(), RENAME_EXCHANGE), 0);
  EXPECT_EQ(read_file(at("a")), "B");
  EXPECT_EQ(::renameat2(AT_FDCWD, at("a").c_str(), AT_FDCWD, at("d").c_str(), RENAME_EXCHANGE), 0);
  EXPECT_EQ(names_in(at("a")), std::set<std::string>{});
  EXPECT_EQ(::rename(at("d").c_str(), at("b").c_str()), 0);
  EXPECT_EQ(read_file(at("b")), "B");
  EXPECT_EQ(::renameat2(AT_FDCWD, at("b").c_str(), AT_FDCWD, at("a/b").c_str(), RENAME_NOREPLACE), 0);
  EXPECT_EQ(names_in(at("")), (std::set<std::string>{"a"}));
  EXPECT_EQ(errno_of(::rename(at("a").c_str(), at("a/b/c").c_str())), ENOTDIR);
  EXPECT_EQ(errno_of(::rename(at("a").c_str(), at("a/c").c_str())), EINVAL);
}

TEST_F(MountedFiles, have_names_of_any_bytes_up_to_255) {
  const std::string longest(255, 'n'), newline = "a\nb", invalid = "\xff\xfe\x80", odd = "-\t\\ '\"*";
  for (const auto& name : {longest, newline, invalid, odd}) write_file(at(name), name);
  EXPECT_EQ(names_in(at("")), (std::set<std::string>{longest, newline, invalid, odd}));
  for (const auto& name : {longest, newline, invalid, odd}) EXPECT_EQ(read_file(at(name)), name);
  const std::string longer(256, 'n');
  EXPECT_EQ(errno_of(::open(at(longer).c_str(), O_CREAT | O_WRONLY, 0644)), ENAMETOOLONG);
  EXPECT_EQ(errno_of(::mkdir(at(longer).c_str(), 0755)), ENAMETOOLONG);
  EXPECT_EQ(errno_of(::access(at(longer).c_str(), F_OK)), ENAMETOOLONG);
  EXPECT_EQ(errno_of(::rename(at(newline).c_str(), at(longer).c_str())), ENAMETOOLONG);
  const std::string target(4000, 't');
  EXPECT_EQ(::symlink(target.c_str(), at("long-link").c_str()), 0);
  std::string back(5000, 0);
  EXPECT_EQ(::readlink(at("long-link").c_str(), back.data(), back.size()), 4000);
}

TEST_F(MountedFiles, keep_extended_attributes) {
  write_file(at("f"), "x");
  const std::string path = at("f");
  std::string value(40'000, 'v');
  EXPECT_EQ(::setxattr(path.c_str(), "user.a", "1", 1, XATTR_CREATE), 0) << std::strerror(errno);
  EXPECT_EQ(errno_of(::setxattr(path.c_str(), "user.a", "1", 1, XATTR_CREATE)), EEXIST);
  EXPECT_EQ(errno_of(::setxattr(path.c_str(), "user.b", "1", 1, XATTR_REPLACE)), ENODATA);
  EXPECT_EQ(::setxattr(path.c_str(), "user.long", value.data(), value.size(), 0), 0);
  EXPECT_EQ(::setxattr(path.c_str(), "user.empty", "", 0, 0), 0);
  EXPECT_EQ(::getxattr(path.c_str(), "user.long", nullptr, 0), 40'000);
  std::string back(40'000, 0);
  EXPECT_EQ(errno_of(::getxattr(path.c_str(), "user.long", back.data(), 100)), ERANGE);
  EXPECT_EQ(::getxattr(path.c_str(), "user.long", back.data(), back.size()), 40'000);
  EXPECT_EQ(back, value);
  char list[64] = {};
  const ssize_t n = ::listxattr(path.c_str(), list, sizeof list);
  EXPECT_EQ((std::string{list, static_cast<std::size_t>(n)}),
            (std::string{"user.a\0user.empty\0user.long\0", 28}));
  EXPECT_EQ(::removexattr(path.c_str(), "user.a"), 0);
  EXPECT_EQ(errno_of(::getxattr(path.c_str(), "user.a", back.data(), 10)), ENODATA);
}

TEST_F(MountedFiles, can_be_mapped_and_shared) {
  write_file(at("f"), std::string(8192, 'a'));
  const int fd = ::open(at("f").c_str(), O_RDWR);
  auto* map = static_cast<char*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  ASSERT_NE(map, MAP_FAILED);
  map[5000] = 'b';
  ASSERT_EQ(::pwrite(fd, "c", 1, 6000), 1);
  EXPECT_EQ(map[6000], 'c');
  ASSERT_EQ(::msync(map, 8192, MS_SYNC), 0);
  Bytes bytes(8192);
  View& outside = views_.outside();
  const auto node = outside.lookup(outside.root(), "f");
  const auto h = outside.open({}, node->node, O_RDONLY);
  ASSERT_TRUE(outside.read(*h, 0, bytes));
  EXPECT_EQ(bytes[5000], std::byte{'b'});
  EXPECT_EQ(bytes[6000], std::byte{'c'});
  ::munmap(map, 8192);
  ::close(fd);
}

TEST_F(MountedFiles, append_truncate_and_grow) {
  write_file(at("f"), "one");
  const int a = ::open(at("f").c_str(), O_WRONLY | O_APPEND),
            b = ::open(at("f").c_str(), O_WRONLY | O_APPEND);
  ASSERT_EQ(::write(a, "two", 3), 3);
  ASSERT_EQ(::write(b, "three", 5), 5);
  ASSERT_EQ(::write(a, "four", 4), 4);
  ::close(a);
  ::close(b);
  EXPECT_EQ(read_file(at("f")), "onetwothreefour");
  ASSERT_EQ(::truncate(at("f").c_str(), 4), 0);
  ASSERT_EQ(::truncate(at("f").c_str(), 6), 0);
  EXPECT_EQ(read_file(at("f")), (std::string{"onet\0\0", 6}));
  const int t = ::open(at("f").c_str(), O_RDWR | O_TRUNC);
  EXPECT_EQ(read_file(at("f")), "");
  ASSERT_EQ(::pwrite(t, "x", 1, 1 << 20), 1);
  struct stat st {};
  ::fstat(t, &st);
  EXPECT_EQ(st.st_size, (1 << 20) + 1);
  ::close(t);
}

TEST_F(MountedFiles, have_holes) {
  write_file(at("f"), std::string(5 * 4096, 'd'));
  const int fd = ::open(at("f").c_str(), O_RDWR);
  ASSERT_EQ(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 2 * 4096), 0)
      << std::strerror(errno);
  EXPECT_EQ(::lseek(fd, 0, SEEK_HOLE), 4096);
  EXPECT_EQ(::lseek(fd, 4096, SEEK_DATA), 3 * 4096);
  EXPECT_EQ(::lseek(fd, 3 * 4096, SEEK_HOLE), 5 * 4096);
  EXPECT_EQ(errno_of(::lseek(fd, 5 * 4096, SEEK_DATA)), ENXIO);
  char c = 1;
  EXPECT_EQ(::pread(fd, &c, 1, 5000), 1);
  EXPECT_EQ(c, 0);
  EXPECT_EQ(::fallocate(fd, 0, 0, 10 * 4096), 0);
  struct stat st {};
  ::fstat(fd, &st);
  EXPECT_EQ(st.st_size, 10 * 4096);
  ::close(fd);
}

TEST_F(MountedFiles, copy_inside_the_view) {
  std::string text(300'000, 0);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  write_file(at("a"), text);
  write_file(at("b"), "");
  const int a = ::open(at("a").c_str(), O_RDONLY), b = ::open(at("b").c_str(), O_RDWR);
  off_t from = 100, to = 50;
  const auto moved = count("READ") + count("WRITE");
  EXPECT_EQ(::copy_file_range(a, &from, b, &to, 200'000, 0), 200'000) << std::strerror(errno);
  EXPECT_EQ(count("READ") + count("WRITE"), moved);
  ::close(a);
  ::close(b);
  EXPECT_EQ(read_file(at("b")), std::string(50, 0) + text.substr(100, 200'000));
  EXPECT_GT(count("COPY_FILE_RANGE") + count("COPY_FILE_RANGE_64"), 0u);
}

TEST_F(MountedFiles, can_be_made_without_a_name) {
  const int fd = ::open(at("").c_str(), O_TMPFILE | O_RDWR, 0600);
  ASSERT_GE(fd, 0) << std::strerror(errno);
  ASSERT_EQ(::write(fd, "temporary", 9), 9);
  EXPECT_EQ(names_in(at("")), std::set<std::string>{});
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  ASSERT_EQ(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, at("named").c_str(), AT_SYMLINK_FOLLOW), 0)
      << std::strerror(errno);
  ::close(fd);
  EXPECT_EQ(read_file(at("named")), "temporary");
}

TEST_F(MountedFiles, know_when_they_were_born) {
  const auto before = system_clock().now();
  write_file(at("f"), "x");
  struct statx sx {};
  ASSERT_EQ(::statx(AT_FDCWD, at("f").c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &sx), 0);
  ASSERT_TRUE(sx.stx_mask & STATX_BTIME);
  const TimeNs born = sx.stx_btime.tv_sec * kSecond + sx.stx_btime.tv_nsec;
  EXPECT_GE(born, before);
  EXPECT_LE(born, system_clock().now());
}

TEST_F(MountedFiles, keep_times_to_the_nanosecond_before_1970_too) {
  write_file(at("f"), "x");
  for (const timespec t :
       {timespec{1234567890, 123456789}, timespec{-86400, 5}, timespec{5'000'000'000, 999999999}}) {
    const std::array times{t, t};
    ASSERT_EQ(::utimensat(AT_FDCWD, at("f").c_str(), times.data(), 0), 0);
    struct stat st {};
    ::stat(at("f").c_str(), &st);
    EXPECT_EQ(st.st_mtim.tv_sec, t.tv_sec);
    EXPECT_EQ(st.st_mtim.tv_nsec, t.tv_nsec);
    EXPECT_EQ(st.st_atim.tv_nsec, t.tv_nsec);
  }
}

TEST_F(MountedFiles, are_listed_whole_while_others_delete) {
  constexpr int kFiles = 20'000;
  View& outside = views_.outside();
  for (int i = 0; i < kFiles; ++i)
    ASSERT_TRUE(outside.mknod({}, outside.root(), "f" + std::to_string(i), S_IFREG | 0644, 0));
  DIR* d = ::opendir(at("").c_str());
  ASSERT_NE(d, nullptr);
  std::multiset<std::string> seen;
  int deleted = 0;
  while (const dirent* e = ::readdir(d)) {
    seen.insert(e->d_name);
    // Every second file goes while we read, behind and before the place where we are.
    if (seen.size() % 2 == 0 && deleted < kFiles / 2) {
      ASSERT_EQ(::unlink(at("f" + std::to_string(2 * deleted++)).c_str()), 0);
    }
  }
  ::closedir(d);
  for (int i = 1; i < kFiles; i += 2) ASSERT_EQ(seen.count("f" + std::to_string(i)), 1u) << i;
  for (const auto& name : seen) ASSERT_EQ(seen.count(name), 1u) << name;
  EXPECT_EQ(names_in(at("")).size(), static_cast<std::size_t>(kFiles - deleted));
}

TEST_F(MountedFiles, give_back_every_reference_and_handle) {
  for (int i = 0; i < 500; ++i) write_file(at("f" + std::to_string(i)), "x");
  for (const auto& name : names_in(at(""))) {
    struct stat st {};
    ASSERT_EQ(::stat(at(name).c_str(), &st), 0);
    ASSERT_EQ(::unlink(at(name).c_str()), 0);
  }
  EXPECT_TRUE(soon([&] { return views_.nodes() == 1; })) << views_.nodes();
  EXPECT_TRUE(soon([&] { return views_.handles() == 0; })) << views_.handles();
  EXPECT_TRUE(soon([&] { return mount_->figures().known_nodes == 0; })) << mount_->figures().known_nodes;
  EXPECT_EQ(mount_->figures().exceptions, 0u);
}

TEST_F(MountedFiles, M9_cost_one_request_a_write_and_none_a_warm_stat) {
  write_file(at("f"), "warm");
  const int fd = ::open(at("f").c_str(), O_WRONLY);
  ASSERT_EQ(::pwrite(fd, "1", 1, 0), 1);
  const auto before = count_all();
  for (int i = 0; i < 100; ++i) ASSERT_EQ(::pwrite(fd, "2", 1, i), 1);
  EXPECT_EQ(count_all() - before, 100u);
  ::close(fd);

  struct stat st {};
  ASSERT_EQ(::stat(at("f").c_str(), &st), 0);
  EXPECT_NE(::stat(at("absent").c_str(), &st), 0);
  EXPECT_EQ(read_file(at("f")).size(), 100u);
  ASSERT_EQ(::stat(at("f").c_str(), &st), 0);  // a READ makes the kernel doubt the access time, once
  (void)soon([&] { return views_.handles() == 0; });
  const auto stats = count_all();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(::stat(at("f").c_str(), &st), 0);
    ASSERT_NE(::stat(at("absent").c_str(), &st), 0);
  }
  EXPECT_EQ(count_all(), stats);
  EXPECT_EQ(read_file(at("f")).size(), 100u);
  (void)soon([&] { return views_.handles() == 0; });
  EXPECT_EQ(count_all() - stats, 2u);  // OPEN and RELEASE: content from the page cache, no FLUSH
}

TEST_F(MountedFiles, M9_cost_two_requests_a_warm_listing) {
  for (int i = 0; i < 10; ++i) write_file(at("f" + std::to_string(i)), "x");
  EXPECT_EQ(names_in(at("")).size(), 10u);
  EXPECT_EQ(names_in(at("")).size(), 10u);
  (void)soon([&] { return views_.handles() == 0; });
  const auto before = count_all();
  EXPECT_EQ(names_in(at("")).size(), 10u);
  (void)soon([&] { return views_.handles() == 0; });
  EXPECT_EQ(count_all() - before, 2u);
  write_file(at("g"), "x");
  EXPECT_EQ(names_in(at("")).size(), 11u);
}

TEST_F(MountedFilesAsRoot, lose_setuid_when_an_ordinary_user_writes) {
  mount_.reset();
  options_.allow_other = true;
  start();
  write_file(at("f"), "x");
  ASSERT_EQ(::chmod(dir_.c_str(), 0755), 0);
  for (const bool truncates : {false, true}) {
    ASSERT_EQ(::chmod(at("f").c_str(), 06777), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) ::_exit(1);
      const int fd = ::open(at("f").c_str(), O_WRONLY | (truncates ? O_TRUNC : 0));
      if (fd < 0) ::_exit(2);
      if (!truncates && ::write(fd, "y", 1) != 1) ::_exit(3);
      ::_exit(0);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    struct stat st {};
    ::stat(at("f").c_str(), &st);
    EXPECT_EQ(st.st_mode & 07777, 0777u) << (truncates ? "O_TRUNC" : "write");
  }
}

TEST_F(MountedFiles, refuse_what_FUSE_does_not_have) {
  write_file(at("f"), "x");
  const int fd = ::open(at("f").c_str(), O_RDWR);
  EXPECT_NE(::isatty(fd), 1);
  EXPECT_EQ(errno, ENOTTY);
  EXPECT_EQ(errno_of(::fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096)), EOPNOTSUPP);
  ::close(fd);
}

}  // namespace
}  // namespace indra
