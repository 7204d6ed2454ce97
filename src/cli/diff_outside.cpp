// A place in a vault against a directory of the host: paired by name, files compared by their hashes.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <map>

#include "blob/hash.h"
#include "cli/diff.h"
#include "daemon/items.h"

namespace indra::cli {
namespace {

namespace stdfs = std::filesystem;

struct Entry {
  std::uint32_t mode = 0;
  std::int64_t size = 0;
  std::string hash, target;  // of the vault's
};
using Entries = std::map<std::string, Entry>;  // by path below the top: "/a/b"

class HostFile {
 public:
  static Result<HostFile> open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return fail(errno, path);
    return HostFile{fd};
  }
  HostFile(HostFile&& o) noexcept : fd_{std::exchange(o.fd_, -1)} {}
  HostFile& operator=(HostFile&&) = delete;
  ~HostFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  /// Fills `out` as far as the file goes.
  Result<std::size_t> read(MutableBytes out) const {
    std::size_t n = 0;
    while (n < out.size()) {
      const ssize_t got = ::read(fd_, out.data() + n, out.size() - n);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail(errno);
      if (got == 0) break;
      n += static_cast<std::size_t>(got);
    }
    return n;
  }

 private:
  explicit HostFile(int fd) : fd_{fd} {}
  int fd_;
};

Result<std::string> hash_of(const std::string& path) {
  INDRA_LET(const HostFile f, HostFile::open(path));
  Bytes chunk(kChunkSize);
  std::vector<Cv> cvs;
  for (std::uint64_t i = 0;; ++i) {
    INDRA_LET(const std::size_t n, f.read(chunk));
    const ByteView got{chunk.data(), n};
    if (i == 0 && n < kChunkSize) return BlobHash::of(got).hex();
    if (n > 0) cvs.push_back(chunk_cv(i, got));
    if (n == kChunkSize) continue;
    if (cvs.size() > 1) return root_of(cvs).hex();
    INDRA_LET(const HostFile again, HostFile::open(path));  // one chunk has no chaining value
    INDRA_LET(const std::size_t all, again.read(chunk));
    return BlobHash::of({chunk.data(), all}).hex();
  }
}

Result<Entries> outside(Context& ctx, const std::string& dir, int& failed) {
  Entries all;
  const auto add = [&](const std::string& path) -> Result<bool> {
    struct stat st {};
    if (::lstat((dir + path).c_str(), &st) != 0) return fail(errno, dir + path);
    Entry e{st.st_mode, st.st_size, {}, {}};
    if (S_ISDIR(st.st_mode)) e.size = 0;
    if (S_ISLNK(st.st_mode)) {
      std::array<char, 4096> target{};
      const ssize_t n = ::readlink((dir + path).c_str(), target.data(), target.size());
      if (n < 0) return fail(errno, dir + path);
      e.target.assign(target.data(), static_cast<std::size_t>(n));
    }
    all[path.empty() ? "/" : path] = e;
    return S_ISDIR(st.st_mode);
  };
  INDRA_LET(const bool is_dir, add(""));
  if (!is_dir) return fail(ENOTDIR, dir);
  std::vector<std::string> todo{""};
  while (!todo.empty()) {
    const std::string at = std::move(todo.back());
    todo.pop_back();
    std::error_code bad;
    for (stdfs::directory_iterator i{dir + at, bad}, end; !bad && i != end; i.increment(bad)) {
      const std::string path = at + "/" + i->path().filename().native();
      const auto deeper = add(path);
      if (!deeper && deeper.error().code == std::errc::no_such_file_or_directory) continue;
      if (!deeper) {
        ctx.complain({}, deeper.error());
        ++failed;
      } else if (*deeper) {
        todo.push_back(path);
      }
    }
    if (bad) {
      ctx.complain(dir + at, Error{bad, {}});
      ++failed;
    }
  }
  return all;
}

Result<Entries> inside(Context& ctx, Client& client, const Place& p, int& failed) {
  Entries all;
  Json request = p.request("list");
  request["depth"] = -1;
  request["hash"] = true;
  std::optional<std::string> top;
  INDRA_TRY(client.call(request, [&](Message m) -> Result<void> {
    if (const auto bad = name_field(m.head, "failed")) {
      ctx.complain(*bad, error_of(m));
      ++failed;
      return {};
    }
    for (const Json& row : m.head["rows"]) {
      const std::string path = name_field(row, "path").value_or("");
      if (!top) top = path == "/" ? "" : path;
      Entry e{static_cast<std::uint32_t>(int_field(row, "mode")), int_field(row, "size"),
              text_field(row, "hash"), name_field(row, "target").value_or("")};
      if (S_ISDIR(e.mode)) e.size = 0;
      const std::string below = path.substr(std::min(path.size(), top->size()));
      all[below.empty() ? "/" : below] = std::move(e);
    }
    return {};
  }));
  return all;
}

/// A file of the vault, of at most kTextMost bytes.
Result<std::string> content_of(Client& client, const Place& p, const std::string& below) {
  Json request = p.request("get");
  request["paths"] = Json::array({name_to_json((p.path == "/" ? "" : p.path) + below)});
  std::string out;
  INDRA_TRY(client.call(request, [&](Message m) -> Result<void> {
    if (m.head.contains("failed")) return fail(error_of(m));
    if (m.type != FrameType::data) return {};
    INDRA_LET(const Item item, to_item(std::move(m)));
    if (item.op != Item::Op::file && item.op != Item::Op::chunk) return {};
    const std::size_t at = item.op == Item::Op::chunk ? item.at : 0;
    if (out.size() < at) out.resize(at);
    out += as_text(item.body);
    return {};
  }));
  return out;
}

Result<std::string> host_content(const std::string& path, std::int64_t size) {
  INDRA_LET(const HostFile f, HostFile::open(path));
  std::string out(static_cast<std::size_t>(size), '\0');
  INDRA_LET(const std::size_t n, f.read({reinterpret_cast<std::byte*>(out.data()), out.size()}));
  out.resize(n);
  return out;
}

Json side_json(const std::string& path, const Entry& e) {
  return {{"path", name_to_json(path)}, {"mode", e.mode}, {"size", e.size}};
}

}  // namespace

Result<int> diff_outside(Context& ctx, Client& client, const Place& p, const std::string& dir,
                         bool outside_is_a, DiffPrinter& out) {
  int failed = 0;
  INDRA_LET(const Entries theirs, outside(ctx, dir, failed));
  INDRA_LET(const Entries ours, inside(ctx, client, p, failed));
  std::map<std::string, bool> paths;
  for (const auto& [path, e] : theirs) paths[path] = true;
  for (const auto& [path, e] : ours) paths[path] = true;
  const auto entry = [&](const std::string& path) -> Result<void> {
    const auto i = ours.find(path), j = theirs.find(path);
    const Entry* in = i == ours.end() ? nullptr : &i->second;
    const Entry* host = j == theirs.end() ? nullptr : &j->second;
    bool content = in == nullptr || host == nullptr, mode = false;
    if (!content) {
      content = (in->mode & S_IFMT) != (host->mode & S_IFMT) || in->target != host->target ||
                (S_ISREG(in->mode) && in->size != host->size);
      mode = !S_ISLNK(in->mode) && (in->mode & 07777) != (host->mode & 07777);
      if (!content && S_ISREG(in->mode) && in->size > 0) {
        if (in->hash == "pending")
          return fail(EAGAIN, path + " has no hash yet, so it was not compared; try again later");
        INDRA_LET(const std::string hash, hash_of(dir + path));
        content = hash != in->hash;
      }
      if (!content && !mode) return {};
    }
    std::string of_in, of_host;
    if (out.patch() && content) {
      if (in != nullptr && S_ISREG(in->mode) && in->size <= kTextMost) {
        INDRA_LET(of_in, content_of(client, p, path));
      }
      if (host != nullptr && S_ISREG(host->mode) && host->size <= kTextMost) {
        INDRA_LET(of_host, host_content(dir + path, host->size));
      }
      if (in != nullptr && S_ISLNK(in->mode)) of_in = in->target;
      if (host != nullptr && S_ISLNK(host->mode)) of_host = host->target;
    }
    Json a = in != nullptr ? side_json(path, *in) : Json{},
         b = host != nullptr ? side_json(path, *host) : Json{};
    if (outside_is_a) {
      std::swap(a, b);
      std::swap(of_in, of_host);
    }
    return out.entry({{"a", std::move(a)},
                      {"b", std::move(b)},
                      {"moved", false},
                      {"content", content},
                      {"mode", mode},
                      {"owner", false},
                      {"xattrs", false}},
                     std::move(of_in), std::move(of_host));
  };
  for (const auto& [path, is] : paths)
    if (const auto r = entry(path); !r) {
      if (r.error().code == std::errc::broken_pipe) return fail(r.error());
      ctx.complain(path, r.error());
      ++failed;
    }
  return failed;
}

}  // namespace indra::cli
