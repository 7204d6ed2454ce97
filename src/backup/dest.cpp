#include "backup/internal/dest.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/log.h"
#include "blob/hash.h"

namespace indra::backup {
namespace {

constexpr std::string_view kPackMagic = "IndraPak";
constexpr std::uint32_t kPackVersion = 1;
constexpr std::size_t kBuffer = 1 << 20;
constexpr std::string_view kNames[] = {"lock", "state", "state.new", "packs", "lost+found"};

/// Bytes 0..63 of a pack: magic, version, number, and the first 32 bytes of the BLAKE3 of these.
std::array<std::byte, kPackHeader> pack_header(std::uint32_t number) {
  std::array<std::byte, kPackHeader> h{};
  std::memcpy(h.data(), kPackMagic.data(), kPackMagic.size());
  store_le(h.data() + 8, kPackVersion);
  store_le(h.data() + 12, number);
  const BlobHash seal = BlobHash::of(ByteView{h}.first(32));
  std::memcpy(h.data() + 32, seal.bytes().data(), 32);
  return h;
}

/// 0: no pack's name.
std::uint32_t pack_of(std::string_view name) {
  if (!name.ends_with(".pack")) return 0;
  name.remove_suffix(5);
  std::uint32_t n = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), n);
  return error == std::errc{} && end == name.data() + name.size() ? n : 0;
}

}  // namespace

Result<Fd> open_to_read(const std::string& path) {
  Fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  if (!fd) return fail(errno, "open " + path);
  return fd;
}

Result<Fd> make_file(const std::string& path) {
  Fd fd{::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!fd) return fail(errno, "make " + path);
  return fd;
}

Result<std::size_t> read_at(const Fd& fd, std::uint64_t at, MutableBytes out, const std::string& path) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(fd.get(), out.data() + done, out.size() - done, static_cast<off_t>(at + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(errno, "read " + path);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Result<void> write_at(const Fd& fd, std::uint64_t at, ByteView bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(errno, "write " + path);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<void> sync_file(const Fd& fd, const std::string& path) {
  if (::fsync(fd.get()) != 0) return fail(errno, "sync " + path);
  return {};
}

Result<void> sync_dir(const std::string& path) {
  const Fd fd{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd) return fail(errno, "open " + path);
  if (::fsync(fd.get()) != 0 && errno != EINVAL) return fail(errno, "sync " + path);
  return {};
}

Result<void> make_dir(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0) return {};
  const int err = errno;
  struct stat st {};
  if (err == EEXIST && ::lstat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return {};
  return fail(err == EEXIST ? ENOTDIR : err, "make " + path);
}

Result<std::vector<std::string>> names_in(const std::string& dir) {
  DIR* d = ::opendir(dir.c_str());
  if (d == nullptr) return fail(errno, "read " + dir);
  std::vector<std::string> out;
  errno = 0;
  while (const dirent* e = ::readdir(d)) {
    const std::string_view name{e->d_name};
    if (name != "." && name != "..") out.emplace_back(name);
    errno = 0;
  }
  const int err = errno;
  ::closedir(d);
  if (err != 0) return fail(err, "read " + dir);
  return out;
}

std::string Dest::pack_path(std::uint32_t pack) const {
  return fmt::format("{}/{:08}.pack", packs_path(), pack);
}

Result<void> Dest::load() {
  const std::string path = path_ + "/state";
  auto fd = open_to_read(path);
  if (!fd && fd.error().code == std::errc::no_such_file_or_directory) return {};
  if (!fd) return fail(fd.error());
  struct stat st {};
  if (::fstat(fd->get(), &st) != 0) return fail(errno, path);
  if (!S_ISREG(st.st_mode)) return fail(Errc::bad_format, path + " is no file");
  Bytes all(static_cast<std::size_t>(st.st_size));
  INDRA_LET(const std::size_t n, read_at(*fd, 0, all, path));
  all.resize(n);
  auto s = State::parse(all);
  if (!s) {
    if (s.error().code != make_error_code(Errc::newer_format))
      s.error().context = path + " is damaged (" + s.error().context +
                          "); the vault was not touched: back it up to another place";
    return fail(s.error());
  }
  state_ = std::move(*s);
  return {};
}

Result<Dest> Dest::open(const std::string& path) {
  Dest d;
  d.path_ = path;
  INDRA_TRY(make_dir(path));
  const std::size_t slash = path.find_last_of('/', path.find_last_not_of('/'));
  (void)sync_dir(slash == std::string::npos ? "." : path.substr(0, slash + 1));
  INDRA_LET(const auto names, names_in(path));
  const bool ours = std::ranges::all_of(
      names, [](const std::string& n) { return std::ranges::find(kNames, n) != std::end(kNames); });
  if (!ours && std::ranges::find(names, "state") == names.end())
    return fail(ENOTEMPTY,
                path + " is not empty, and holds no backup; name a directory that is new or empty");
  const std::string lock = path + "/lock";
  d.lock_ = Fd{::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!d.lock_) return fail(errno, "open " + lock);
  if (::flock(d.lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return fail(errno == EWOULDBLOCK ? EWOULDBLOCK : errno,
                path + " is in use by another backup or restore; wait until that has ended");
  INDRA_TRY(d.load());
  INDRA_TRY(make_dir(d.packs_path()));
  if (::unlink((path + "/state.new").c_str()) != 0 && errno != ENOENT)
    return fail(errno, path + "/state.new");
  INDRA_TRY(d.remove_other_packs());
  return d;
}

Result<Dest> Dest::open_reading(const std::string& path) {
  Dest d;
  d.path_ = path;
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return fail(errno, path);
  if (!S_ISDIR(st.st_mode)) return fail(ENOTDIR, path);
  d.lock_ = Fd{::open((path + "/lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  if (d.lock_ && ::flock(d.lock_.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return fail(EWOULDBLOCK, path + " is in use by a backup; wait until that has ended");
  INDRA_TRY(d.load());
  if (d.state_.number == 0)
    return fail(ENOENT, path + " holds no backup; make one with: indrafs backup " + path);
  return d;
}

/// Left from a backup that was cut off, or no longer needed.
Result<void> Dest::remove_other_packs() {
  INDRA_LET(const auto names, names_in(packs_path()));
  for (const auto& [pack, bytes] : state_.packs) last_pack_ = std::max(last_pack_, pack);
  for (const std::string& name : names) {
    const std::uint32_t pack = pack_of(name);
    if (pack == 0) continue;
    last_pack_ = std::max(last_pack_, pack);
    if (state_.packs.contains(pack)) continue;
    const std::string path = packs_path() + "/" + name;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail(errno, "remove " + path);
  }
  return {};
}

bool Dest::sound(std::uint32_t pack) {
  const auto known = packs_.find(pack);
  if (known != packs_.end()) return known->second.sound;
  Open& o = packs_[pack];
  const auto said = state_.packs.find(pack);
  auto fd = open_to_read(pack_path(pack));
  struct stat st {};
  std::array<std::byte, kPackHeader> header{};
  if (said == state_.packs.end() || !fd || ::fstat(fd->get(), &st) != 0 ||
      static_cast<std::uint64_t>(st.st_size) < said->second)
    return false;
  const auto n = read_at(*fd, 0, header, {});
  o.sound = n && *n == header.size() && header == pack_header(pack);
  o.fd = std::move(*fd);
  return o.sound;
}

Result<void> Dest::read(const Record& r, MutableBytes out) {
  const std::string path = pack_path(r.pack);
  if (!sound(r.pack)) return fail(Errc::corrupt, path + " is missing, cut short or damaged");
  INDRA_LET(const std::size_t n, read_at(packs_[r.pack].fd, r.offset, out, path));
  if (n != out.size() || !matches(r, out))
    return fail(Errc::corrupt, fmt::format("{} at {} does not match its hash", path, r.offset));
  return {};
}

Result<void> Dest::commit(State next, const FaultPoints& faults) {
  const std::string path = path_ + "/state", temp = path + ".new";
  {
    const Bytes all = next.encode();
    INDRA_LET(const Fd fd, make_file(temp));
    auto r = write_at(fd, 0, all, temp);
    if (r) r = sync_file(fd, temp);
    if (r) r = faults.at("backup.state");
    if (!r) {
      (void)::unlink(temp.c_str());
      return r;
    }
  }
  if (::rename(temp.c_str(), path.c_str()) != 0) return fail(errno, "rename " + temp);
  state_ = std::move(next);  // from now on its packs stay
  packs_.clear();
  INDRA_TRY(sync_dir(path_));
  INDRA_TRY(faults.at("backup.renamed"));
  if (auto r = remove_other_packs(); !r) log::warn("{}; the next backup tries again", r.error().text());
  return {};
}

PackWriter::~PackWriter() {
  for (const std::uint32_t pack : made_)
    if (!dest_.state().packs.contains(pack)) (void)::unlink(dest_.pack_path(pack).c_str());
}

Result<void> PackWriter::begin() {
  pack_ = dest_.next_pack();
  INDRA_LET(fd_, make_file(dest_.pack_path(pack_)));
  made_.push_back(pack_);
  const auto header = pack_header(pack_);
  at_ = 0;
  buffer_.assign(header.begin(), header.end());
  return {};
}

Result<void> PackWriter::flush() {
  INDRA_TRY(write_at(fd_, at_, buffer_, dest_.pack_path(pack_)));
  at_ += buffer_.size();
  buffer_.clear();
  return {};
}

Result<void> PackWriter::end() {
  if (!fd_) return {};
  INDRA_TRY(flush());
  INDRA_TRY(sync_file(fd_, dest_.pack_path(pack_)));
  into_.packs[pack_] = at_;
  fd_ = Fd{};
  return {};
}

Result<void> PackWriter::append(Record& r, ByteView bytes) {
  if (fd_ && at_ + buffer_.size() + bytes.size() > size_) INDRA_TRY(end());
  if (!fd_) INDRA_TRY(begin());
  r.pack = pack_;
  r.offset = at_ + buffer_.size();
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  return buffer_.size() < kBuffer ? Result<void>{} : flush();
}

Result<void> PackWriter::finish() {
  INDRA_TRY(end());
  if (!made_.empty()) INDRA_TRY(sync_dir(dest_.path() + "/packs"));
  return {};
}

}  // namespace indra::backup
