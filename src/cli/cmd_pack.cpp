// pack, unpack: a branch or snapshot as one portable file.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "cli/pack.h"
#include "cli/transfer.h"

namespace indra::cli {
namespace {

Result<void> write_all(int fd, ByteView b, const std::string& path) {
  while (!b.empty()) {
    const ssize_t n = ::write(fd, b.data(), b.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(errno, path);
    b = b.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

/// FILE, which is there whole or not at all; "-": standard output.
class PackFile {
 public:
  static Result<PackFile> open(const std::string& path) {
    PackFile f;
    f.path_ = path;
    if (path == "-") {
      if (::isatty(STDOUT_FILENO) == 1) throw Usage{"a pack on a terminal is of no use: name a file"};
      f.fd_ = STDOUT_FILENO;
      return f;
    }
    if (::access(path.c_str(), F_OK) == 0) return fail(EEXIST, path + " exists; name another file");
    f.temp_ = path + ".packing-" + std::to_string(::getpid());
    f.fd_ = ::open(f.temp_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (f.fd_ < 0) {
      const int err = errno;
      f.temp_.clear();
      return fail(err, path);
    }
    return f;
  }
  PackFile(PackFile&& o) noexcept
      : path_{std::move(o.path_)}, temp_{std::exchange(o.temp_, {})}, fd_{std::exchange(o.fd_, -1)} {}
  PackFile& operator=(PackFile&&) = delete;
  ~PackFile() {
    if (temp_.empty()) return;
    ::close(fd_);
    (void)::unlink(temp_.c_str());
  }
  Result<void> write(ByteView b) { return write_all(fd_, b, path_); }
  Result<void> keep() {
    if (temp_.empty()) return {};
    if (::fsync(fd_) != 0) return fail(errno, path_);
    // Not over what somebody made meanwhile.
    if (::renameat2(AT_FDCWD, temp_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) != 0 &&
        ((errno != EINVAL && errno != ENOSYS) || ::rename(temp_.c_str(), path_.c_str()) != 0))
      return fail(errno, path_);
    temp_.clear();
    ::close(fd_);
    return {};
  }

 private:
  PackFile() = default;
  std::string path_, temp_;
  int fd_ = -1;
};

class PackSink final : public Sink {
 public:
  explicit PackSink(PackWriter& w) : writer_{w} {}
  Result<void> take(Message m) override { return writer_.add(m); }
  Result<void> finish() override { return {}; }

 private:
  PackWriter& writer_;
};

void report(const Context& ctx, const char* did, const std::string& what, const Json& j, bool quiet) {
  if (ctx.json)
    fmt::print(quiet ? stderr : stdout, "{}\n", j.dump(2, ' ', false, Json::error_handler_t::replace));
  else if (!quiet)
    fmt::print("{} {}: {} items, {}\n", did, shown_name(what), int_field(j, "items"),
               size_text(static_cast<std::uint64_t>(int_field(j, "bytes"))));
}

Result<int> run_pack(Context& ctx, const std::string& branch, const std::string& snapshot,
                     const std::string& path) {
  INDRA_LET(Client * client, ctx.reach(ctx.vault()));
  INDRA_LET(PackFile file, PackFile::open(path));
  PackWriter writer{[&](ByteView b) { return file.write(b); }};
  INDRA_TRY(writer.begin(
      {{"format", 1},
       {snapshot.empty() ? "branch" : "snapshot", name_to_json(snapshot.empty() ? branch : snapshot)},
       {"made", system_clock().now()},
       {"by", std::string{"indrafs "} + INDRA_VERSION}}));
  PackSink sink{writer};
  Progress progress{"packed"};
  const std::uint64_t none = 0;
  INDRA_LET(const Sent sent,
            receive_items(
                ctx, *client,
                {{"verb", "pack"}, {"branch", name_to_json(branch)}, {"snapshot", name_to_json(snapshot)}},
                progress, sink, none));
  if (sent.failed > 0) return fail(EIO, path + " was not made; what is damaged cannot be packed");
  INDRA_TRY(writer.end());
  INDRA_TRY(file.keep());
  report(ctx, "Packed", snapshot.empty() ? branch : snapshot, sent.answer, path == "-");
  return 0;
}

Result<int> run_unpack(Context& ctx, const std::string& path, std::string branch) {
  int fd = STDIN_FILENO;
  if (path != "-" && (fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC)) < 0) return fail(errno, path);
  struct Closer {
    int fd;
    ~Closer() {
      if (fd != STDIN_FILENO) ::close(fd);
    }
  } const closer{fd};
  PackReader reader{[&](MutableBytes out) -> Result<std::size_t> {
    std::size_t done = 0;
    while (done < out.size()) {
      const ssize_t n = ::read(fd, out.data() + done, out.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail(errno, path);
      if (n == 0) break;
      done += static_cast<std::size_t>(n);
    }
    return done;
  }};
  const auto in_file = [&](Error e) {
    e.context = path + ": " + e.context;
    return e;
  };
  INDRA_LET(const Json about, reader.begin().map_error(in_file));
  if (branch.empty())
    branch = name_field(about, "branch").value_or(name_field(about, "snapshot").value_or(""));
  if (!valid_name(branch)) throw Usage{"the pack names no branch that can be: say one with --branch NAME"};
  INDRA_LET(Client * client, ctx.reach(ctx.vault()));
  Progress progress{"unpacked"};
  const bool root = ::geteuid() == 0;
  auto sent = send_items(
      ctx, *client, {{"verb", "unpack"}, {"branch", name_to_json(branch)}}, progress, true,
      [&](const ItemSinks& sinks) -> Result<void> {
        for (;;) {
          INDRA_LET(auto m, reader.next().map_error(in_file));
          if (!m) return {};
          if (bool_field(m->head, "abort"))
            return fail(Errc::corrupt, path + ": it holds a file that could not be read; pack it again");
          auto item = to_item(std::move(*m));
          if (!item)
            return fail(Errc::corrupt, path + ": " + item.error().context + "; nothing of it was taken");
          if (!root) {
            item->uid.reset();
            item->gid.reset();
            std::erase_if(item->xattrs, [](const auto& x) { return !x.first.starts_with("user."); });
          }
          INDRA_TRY(sinks.emit(std::move(*item)));
        }
      });
  if (!sent) {
    if (sent.error().code == std::errc::file_exists)
      return fail(EEXIST, "branch " + branch + " exists; say another name with --branch");
    return fail(sent.error());
  }
  Json j = sent->answer;
  j["branch"] = name_to_json(branch);
  report(ctx, "Unpacked", branch, j, false);
  return 0;
}

}  // namespace

void add_pack(CLI::App& app, Context& ctx) {
  struct Options {
    std::vector<std::string> arguments;
    std::string snapshot;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(app, ctx, "pack", "Make one portable file of a branch or snapshot, with its contents",
               "  indrafs pack main.pack\n  indrafs pack draft draft.pack\n"
               "  indrafs pack --snapshot monday - | ssh host indrafs unpack -",
               [&ctx, o]() -> Result<int> {
                 if (o->arguments.size() > 2 || (o->arguments.size() == 2 && !o->snapshot.empty()))
                   throw Usage{"say what to pack and one file: pack [BRANCH | --snapshot NAME] FILE"};
                 const std::string branch = o->arguments.size() == 2 ? o->arguments[0] : "main";
                 return run_pack(ctx, branch, o->snapshot, o->arguments.back());
               });
  verb->add_option("ARGUMENTS", o->arguments,
                   "[BRANCH] FILE: what (default: main), and where to (- = standard output)")
      ->required();
  verb->add_option("--snapshot", o->snapshot, "this snapshot instead of a branch");
  add_json(verb, ctx);
}

void add_unpack(CLI::App& app, Context& ctx) {
  struct Options {
    std::string file, branch;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(app, ctx, "unpack", "Make a branch of what `indrafs pack` wrote: all of it or nothing",
               "  indrafs unpack draft.pack\n  indrafs unpack main.pack --branch from-laptop",
               [&ctx, o] { return run_unpack(ctx, o->file, o->branch); });
  verb->add_option("FILE", o->file, "a pack (- = standard input)")->required();
  verb->add_option("--branch", o->branch, "the new branch's name (default: the pack's)");
  add_json(verb, ctx);
}

}  // namespace indra::cli
