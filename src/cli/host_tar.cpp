// Tar archives as items and back, by libarchive.
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "cli/host.h"

namespace indra::cli {
namespace {

struct EndRead {
  void operator()(archive* a) const { archive_read_free(a); }
};
struct EndWrite {
  void operator()(archive* a) const { archive_write_free(a); }
};
struct EndEntry {
  void operator()(archive_entry* e) const { archive_entry_free(e); }
};

Error archive_error(archive* a, const std::string& what) {
  const int err = archive_errno(a);
  const char* text = archive_error_string(a);
  return {std::error_code{err > 0 && err < 4096 ? err : EINVAL, std::generic_category()},
          what + (text != nullptr ? std::string{": "} + text : "")};
}

/// libarchive cannot tell raw bytes: names come as bytes where the locale is C, which the program never
/// changes.
std::string text(const char* s) { return s != nullptr ? s : ""; }

/// An archive can say any time at all: what nanoseconds cannot tell is the first or the last that they can.
TimeNs time_of(std::int64_t seconds, long nanoseconds) {
  constexpr std::int64_t kLast = INT64_MAX / kSecond - 1;
  return std::clamp(seconds, -kLast, kLast) * kSecond + std::clamp<std::int64_t>(nanoseconds, 0, kSecond - 1);
}

}  // namespace

std::optional<std::string> harmless(std::string_view name) {
  std::string out;
  for (std::size_t i = 0; i < name.size();) {
    const std::size_t end = std::min(name.find('/', i), name.size());
    const std::string_view part = name.substr(i, end - i);
    i = end + 1;
    if (part.empty() || part == "." || part == "..") continue;
    if (!out.empty()) out += '/';
    out += part;
  }
  if (out.empty()) return std::nullopt;
  return out;
}

bool looks_like_tar(const std::string& path) {
  if (path == "-") return true;
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && !S_ISDIR(st.st_mode);
}

Result<void> read_tar(const std::string& path, const ItemSinks& to) {
  const std::unique_ptr<archive, EndRead> a{archive_read_new()};
  archive_read_support_filter_all(a.get());
  archive_read_support_format_tar(a.get());
  archive_read_support_format_empty(a.get());
  const int opened = path == "-" ? archive_read_open_fd(a.get(), STDIN_FILENO, 256 << 10)
                                 : archive_read_open_filename(a.get(), path.c_str(), 256 << 10);
  if (opened != ARCHIVE_OK) return fail(archive_error(a.get(), path));
  std::uint64_t last_id = 0;
  for (;;) {
    archive_entry* e = nullptr;
    const int r = archive_read_next_header(a.get(), &e);
    if (r == ARCHIVE_EOF) return {};
    if (r == ARCHIVE_FATAL || r == ARCHIVE_RETRY) return fail(archive_error(a.get(), path));
    const std::string original = text(archive_entry_pathname(e));
    const auto name = harmless(original);
    if (!name) {  // "./": the top itself
      if (archive_entry_filetype(e) != AE_IFDIR)
        to.failed(original, {std::make_error_code(std::errc::invalid_argument), "not a usable name"});
      continue;
    }
    if (!safe_relative(*name)) {
      to.failed(original, {std::make_error_code(std::errc::filename_too_long), {}});
      continue;
    }
    Item i;
    i.path = *name;
    i.mode = static_cast<std::uint32_t>(archive_entry_mode(e));
    if (to.owners) {
      i.uid = static_cast<uid_t>(archive_entry_uid(e));
      i.gid = static_cast<gid_t>(archive_entry_gid(e));
    }
    if (archive_entry_mtime_is_set(e) != 0)
      i.mtime = time_of(archive_entry_mtime(e), archive_entry_mtime_nsec(e));
    if (archive_entry_atime_is_set(e) != 0)
      i.atime = time_of(archive_entry_atime(e), archive_entry_atime_nsec(e));
    const char* key = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    archive_entry_xattr_reset(e);
    while (archive_entry_xattr_next(e, &key, &value, &size) == ARCHIVE_OK)
      if (std::string_view{key}.starts_with("user."))
        i.xattrs[key] = std::string{static_cast<const char*>(value), size};
    if (const char* target = archive_entry_hardlink(e); target != nullptr) {
      const auto safe = harmless(target);
      if (!safe || !safe_relative(*safe)) {
        to.failed(original,
                  {std::make_error_code(std::errc::invalid_argument), "a hard link to an unusable name"});
        continue;
      }
      i.op = Item::Op::link;
      i.target = *safe;
      INDRA_TRY(to.emit(std::move(i)));
      continue;
    }
    const auto type = archive_entry_filetype(e);
    if (type == AE_IFDIR) {
      i.op = Item::Op::dir;
      INDRA_TRY(to.emit(std::move(i)));
    } else if (type == AE_IFLNK) {
      i.op = Item::Op::symlink;
      i.target = text(archive_entry_symlink(e));
      INDRA_TRY(to.emit(std::move(i)));
    } else if (type != AE_IFREG) {
      i.op = Item::Op::node;
      i.rdev = archive_entry_rdev(e);
      INDRA_TRY(to.emit(std::move(i)));
    } else {
      i.op = Item::Op::file;
      i.size = static_cast<std::uint64_t>(std::max<la_int64_t>(0, archive_entry_size(e)));
      if (!to.contents) {
        INDRA_TRY(to.emit(std::move(i)));
        continue;
      }
      const bool whole = i.size <= kBodySize && archive_entry_sparse_count(e) == 0;
      const std::uint64_t id = ++last_id, full = i.size;
      bool broken = false;
      if (whole)
        i.body.resize(i.size);
      else {
        i.id = id;
        i.more = true;
        INDRA_TRY(to.emit(i));
      }
      const void* block = nullptr;
      std::size_t n = 0;
      la_int64_t at = 0;
      for (;;) {
        const int d = archive_read_data_block(a.get(), &block, &n, &at);
        if (d == ARCHIVE_EOF) break;
        if (d < ARCHIVE_WARN) {
          to.failed(original, archive_error(a.get(), {}));
          broken = true;
          break;
        }
        const ByteView bytes{static_cast<const std::byte*>(block), n};
        const auto offset = static_cast<std::uint64_t>(at);
        if (whole) {
          if (offset + n <= i.body.size())
            std::copy(bytes.begin(), bytes.end(), i.body.begin() + static_cast<std::ptrdiff_t>(offset));
          continue;
        }
        for (std::size_t done = 0; done < n;) {
          Item c;
          c.op = Item::Op::chunk;
          c.id = id;
          c.at = offset + done;
          const std::size_t part = std::min(n - done, kBodySize);
          c.body.assign(bytes.begin() + static_cast<std::ptrdiff_t>(done),
                        bytes.begin() + static_cast<std::ptrdiff_t>(done + part));
          done += part;
          INDRA_TRY(to.emit(std::move(c)));
        }
      }
      if (whole) {
        if (!broken) INDRA_TRY(to.emit(std::move(i)));
      } else {
        Item done;
        done.op = Item::Op::done;
        done.id = id;
        done.size = broken ? UINT64_MAX : full;
        INDRA_TRY(to.emit(std::move(done)));
      }
    }
  }
}

namespace {

class TarSink final : public Sink {
 public:
  using Failed = std::function<void(const std::string&, const Error&)>;
  explicit TarSink(Failed failed) : failed_{std::move(failed)} {}

  static Result<std::unique_ptr<Sink>> open(const std::string& path, Failed failed) {
    auto s = std::make_unique<TarSink>(std::move(failed));
    archive* a = s->archive_.get();
    archive_write_set_format_pax(a);
    archive_write_set_options(a, "xattrheader=SCHILY");  // the one GNU tar knows
    const auto ends = [&](const char* end) { return path.ends_with(end); };
    if (ends(".gz") || ends(".tgz"))
      archive_write_add_filter_gzip(a);
    else if (ends(".xz") || ends(".txz"))
      archive_write_add_filter_xz(a);
    else if (ends(".zst") || ends(".tzst"))
      archive_write_add_filter_zstd(a);
    else if (ends(".bz2") || ends(".tbz2"))
      archive_write_add_filter_bzip2(a);
    // A pipe takes the archive as it is, without blocks of padding at its end.
    archive_write_set_bytes_in_last_block(a, 1);
    const int r =
        path == "-" ? archive_write_open_fd(a, STDOUT_FILENO) : archive_write_open_filename(a, path.c_str());
    if (r != ARCHIVE_OK) return fail(archive_error(a, path));
    return s;
  }

  Result<void> take(Message m) override {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> extents;
    bool has_extents = false;
    if (const auto x = m.head.find("extents"); x != m.head.end() && x->is_array()) {
      has_extents = true;
      for (const Json& pair : *x)
        if (pair.is_array() && pair.size() == 2 && pair[0].is_number_unsigned() &&
            pair[1].is_number_unsigned())
          extents.emplace_back(pair[0], pair[1]);
    }
    INDRA_LET(Item i, to_item(std::move(m)));
    archive* a = archive_.get();
    if (left_out_ && (i.op == Item::Op::chunk || i.op == Item::Op::done)) return {};
    if (i.op == Item::Op::chunk) {
      INDRA_TRY(zeros_to(i.at));
      INDRA_TRY(write(i.body));
      return {};
    }
    if (i.op == Item::Op::done) return zeros_to(size_);
    if (i.path.empty()) i.path = ".";
    const std::unique_ptr<archive_entry, EndEntry> e{archive_entry_new()};
    archive_entry_set_pathname(e.get(), i.path.c_str());
    archive_entry_set_mode(e.get(), static_cast<mode_t>(i.mode.value_or(0644)));
    archive_entry_set_uid(e.get(), i.uid.value_or(0));
    archive_entry_set_gid(e.get(), i.gid.value_or(0));
    const auto split = [](TimeNs t) {
      return std::pair{t / kSecond - (t % kSecond < 0 ? 1 : 0), (t % kSecond + kSecond) % kSecond};
    };
    if (i.mtime)
      archive_entry_set_mtime(e.get(), split(*i.mtime).first, static_cast<long>(split(*i.mtime).second));
    for (const auto& [name, value] : i.xattrs)
      archive_entry_xattr_add_entry(e.get(), name.c_str(), value.data(), value.size());
    switch (i.op) {
      case Item::Op::dir:
        archive_entry_set_filetype(e.get(), AE_IFDIR);
        break;
      case Item::Op::symlink:
        archive_entry_set_filetype(e.get(), AE_IFLNK);
        archive_entry_set_symlink(e.get(), i.target.c_str());
        break;
      case Item::Op::link:
        archive_entry_set_hardlink(e.get(), i.target.c_str());
        break;
      case Item::Op::node:
        archive_entry_set_rdev(e.get(), i.rdev);
        break;
      default:
        archive_entry_set_filetype(e.get(), AE_IFREG);
        archive_entry_set_size(e.get(), static_cast<la_int64_t>(i.size));
        if (has_extents) {
          for (const auto& [at, n] : extents)
            archive_entry_sparse_add_entry(e.get(), static_cast<la_int64_t>(at), static_cast<la_int64_t>(n));
          if (extents.empty()) archive_entry_sparse_add_entry(e.get(), 0, 0);
        }
    }
    const int wrote = archive_write_header(a, e.get());
    left_out_ = wrote == ARCHIVE_FAILED;  // a socket: no archive can hold one
    if (left_out_) {
      failed_(i.path, {std::make_error_code(std::errc::not_supported), text(archive_error_string(a))});
      return {};
    }
    if (wrote < ARCHIVE_WARN) return fail(archive_error(a, i.path));
    at_ = 0;
    size_ = i.op == Item::Op::file ? i.size : 0;
    return write(i.body);
  }
  Result<void> finish() override {
    if (archive_write_close(archive_.get()) != ARCHIVE_OK)
      return fail(archive_error(archive_.get(), "archive"));
    return {};
  }

 private:
  Result<void> write(ByteView bytes) {
    while (!bytes.empty()) {
      const la_ssize_t n = archive_write_data(archive_.get(), bytes.data(), bytes.size());
      if (n < 0) return fail(archive_error(archive_.get(), "archive"));
      if (n == 0) break;  // longer than announced: cut off
      at_ += static_cast<std::uint64_t>(n);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
  }
  Result<void> zeros_to(std::uint64_t at) {
    static const Bytes zeros(kBodySize);
    while (at_ < at) {
      const std::uint64_t before = at_;
      INDRA_TRY(write(ByteView{zeros}.first(std::min<std::uint64_t>(zeros.size(), at - at_))));
      if (at_ == before) break;
    }
    return {};
  }

  std::unique_ptr<archive, EndWrite> archive_{archive_write_new()};
  const Failed failed_;
  bool left_out_ = false;
  std::uint64_t at_ = 0, size_ = 0;
};

}  // namespace

Result<std::unique_ptr<Sink>> tar_sink(const std::string& path,
                                       std::function<void(const std::string&, const Error&)> failed) {
  return TarSink::open(path, std::move(failed));
}

}  // namespace indra::cli
