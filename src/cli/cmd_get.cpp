#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "cli/transfer.h"

namespace indra::cli {
namespace {

Result<int> stream(Context& ctx, const std::vector<std::string>& places, const std::string& snapshot,
                   const std::string& at, Sink& sink) {
  int status = 0;
  for (const std::string& argument : places) {
    Place p = ctx.place(argument);
    INDRA_TRY(ctx.as_of(p, snapshot, at));
    INDRA_LET(Client * client, ctx.reach(p.vault));
    Json request = p.request("get");
    request["paths"] = Json::array({name_to_json(p.path)});
    request["follow"] = true;
    std::optional<Progress> progress;
    if (::isatty(STDOUT_FILENO) != 1) progress.emplace("read");
    Progress quiet{""};
    const std::uint64_t none = 0;
    auto r = receive_items(ctx, *client, request, progress ? *progress : quiet, sink, none);
    if (!r) return fail(r.error());
    if (r->failed > 0) status = 1;
  }
  return status;
}

}  // namespace

void add_cat(CLI::App& app, Context& ctx) {
  struct Options {
    std::vector<std::string> places;
    std::string snapshot, at;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(app, ctx, "cat", "Print files of a vault: their last published versions",
                            "  indrafs cat :/notes/a.md\n  indrafs cat --snapshot monday :/notes/a.md",
                            [&ctx, o]() -> Result<int> {
                              const auto sink = byte_sink(STDOUT_FILENO);
                              return stream(ctx, o->places, o->snapshot, o->at, *sink);
                            });
  verb->add_option("PLACE", o->places, "[BRANCH]:/PATH, or a path in a mount")->required();
  add_as_of(verb, o->snapshot, o->at);
}

void add_get(CLI::App& app, Context& ctx) {
  struct Options {
    std::vector<std::string> places;
    std::string snapshot, at, conflict = "replace";
    bool recursive = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "get", "Copy files out of a vault, with mode and time",
      "  indrafs get :/notes/a.md .\n  indrafs get -r :/notes ~/notes-copy\n  indrafs get :/data.bin - | wc "
      "-c",
      [&ctx, o]() -> Result<int> {
        std::vector<std::string> from = o->places;
        if (from.size() < 2) throw Usage{"say what to get and where to put it: get PLACE... DEST"};
        const std::string dest = from.back();
        from.pop_back();
        if (dest == "-") {
          const auto sink = byte_sink(STDOUT_FILENO);
          return stream(ctx, from, o->snapshot, o->at, *sink);
        }
        // Into a directory that is there, else to be the last name itself.
        struct stat st {};
        std::string dir = dest, top;
        if (::stat(dest.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) {
          if (from.size() > 1) return fail(ENOTDIR, dest);
          std::string trimmed = dest;
          while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
          const std::size_t slash = trimmed.rfind('/');
          dir = slash == std::string::npos ? "." : slash == 0 ? "/" : trimmed.substr(0, slash);
          top = trimmed.substr(slash == std::string::npos ? 0 : slash + 1);
        }
        std::uint64_t sink_failed = 0;
        const Existing existing = o->conflict == "skip"   ? Existing::skip
                                  : o->conflict == "fail" ? Existing::fail
                                                          : Existing::replace;
        std::uint64_t failed = 0;
        for (const std::string& argument : from) {
          Place p = ctx.place(argument);
          INDRA_TRY(ctx.as_of(p, o->snapshot, o->at));
          INDRA_LET(Client * client, ctx.reach(p.vault));
          // An open file of the host: made new for each place, so that one's failures are its own.
          sink_failed = 0;
          INDRA_LET(const auto sink, directory_sink(dir, top, existing, ::geteuid() == 0,
                                                    [&](const std::string& path, const Error& e) {
                                                      ++sink_failed;
                                                      ctx.complain(dir + "/" + path, e);
                                                    }));
          Json request = p.request("get");
          request["paths"] = Json::array({name_to_json(p.path)});
          request["follow"] = !o->recursive;
          request["recursive"] = o->recursive;
          request["top"] = p.path == "/" && top.empty();
          Progress progress{"got"};
          INDRA_LET(const Sent sent, receive_items(ctx, *client, request, progress, *sink, sink_failed));
          failed += sent.failed;
        }
        return failed > 0 ? 1 : 0;
      });
  verb->add_option("PLACE", o->places, "[BRANCH]:/PATH..., then where to on the host (- = standard output)")
      ->required();
  verb->add_flag("-r,-R,--recursive", o->recursive, "directories with all in them");
  add_as_of(verb, o->snapshot, o->at);
  verb->add_option("--on-conflict", o->conflict, "what to do where a name is taken (default: replace)")
      ->check(CLI::IsMember({"replace", "skip", "fail"}));
}

}  // namespace indra::cli
