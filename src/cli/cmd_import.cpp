#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "cli/transfer.h"

namespace indra::cli {

void add_import(CLI::App& app, Context& ctx) {
  struct Options {
    std::string src, dest, conflict = "fail";
    bool dry_run = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "import", "Bring a directory or a tar archive into a vault",
      "  indrafs import ~/Documents :/documents\n"
      "  indrafs import linux.tar.xz :/src\n"
      "  ssh host tar -c data | indrafs import - :/data\n"
      "  indrafs import --dry-run --on-conflict skip ~/notes :/notes",
      [&ctx, o]() -> Result<int> {
        const Place dest = ctx.place(o->dest);
        struct stat st {};
        if (o->src != "-" && ::stat(o->src.c_str(), &st) != 0) return fail(errno, o->src);
        INDRA_LET(Client * client, ctx.reach(dest.vault));
        Json request = dest.request("put");
        request["make"] = true;
        request["conflict"] = o->conflict;
        request["dry_run"] = o->dry_run;
        Progress progress{"imported"};
        INDRA_LET(const Sent sent,
                  send_items(ctx, *client, request, progress, !o->dry_run, [&](const ItemSinks& sinks) {
                    return looks_like_tar(o->src) ? read_tar(o->src, sinks)
                                                  : read_host(o->src, "", true, true, sinks);
                  }));
        Json report = sent.answer;
        report["failed"] = sent.failed;
        if (ctx.json)
          fmt::print("{}\n", report.dump(2));
        else
          fmt::print(
              "{} {} items, {}{}{}\n", o->dry_run ? "Would import" : "Imported", int_field(report, "items"),
              size_text(static_cast<std::uint64_t>(int_field(report, "bytes"))),
              int_field(report, "skipped") > 0 ? fmt::format(", {} skipped", int_field(report, "skipped"))
                                               : "",
              sent.failed > 0 ? fmt::format(", {} failed", sent.failed) : "");
        return sent.failed > 0 ? 1 : 0;
      });
  verb->add_option("SRC", o->src,
                   "a directory, a tar archive (any compression), or - for one on standard input")
      ->required();
  verb->add_option("DEST", o->dest, "a directory in the vault, made if missing")->required();
  verb->add_option("--on-conflict", o->conflict,
                   "what to do where a name is taken (default: fail); directories are merged")
      ->check(CLI::IsMember({"replace", "skip", "fail"}));
  verb->add_flag("--dry-run,-n", o->dry_run, "change nothing; show what would fail");
  add_json(verb, ctx);
}

void add_export(CLI::App& app, Context& ctx) {
  struct Options {
    std::string src, dest, snapshot, at, conflict = "fail";
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "export", "Write a part of a vault to a directory or a tar archive",
      "  indrafs export :/ /backup/today\n  indrafs export --snapshot monday :/notes notes.tar.zst\n  "
      "indrafs export :/src - | tar -t",
      [&ctx, o]() -> Result<int> {
        Place src = ctx.place(o->src);
        INDRA_TRY(ctx.as_of(src, o->snapshot, o->at));
        bool tar = o->dest == "-";
        for (const char* end :
             {".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz2"})
          tar = tar || o->dest.ends_with(end);
        struct stat st {};
        const bool is_dir = ::stat(o->dest.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
        tar = tar && !is_dir;
        if (o->dest == "-" && ::isatty(STDOUT_FILENO) == 1)
          throw Usage{"an archive on a terminal is of no use: send it to a file or a program"};
        if (tar && o->dest != "-" && o->conflict == "fail" && ::access(o->dest.c_str(), F_OK) == 0)
          return fail(EEXIST, o->dest + " exists; use --on-conflict replace");
        INDRA_LET(Client * client, ctx.reach(src.vault));
        std::uint64_t sink_failed = 0;
        Json request = src.request("get");
        request["paths"] = Json::array({name_to_json(src.path)});
        request["recursive"] = true;
        request["follow"] = true;
        std::unique_ptr<Sink> sink;
        // A directory's content goes straight into DEST, a file into it by its name.
        Json ask = src.request("stat");
        ask["follow"] = true;
        INDRA_LET(const Json what, client->call(ask));
        request["top"] = S_ISDIR(static_cast<std::uint32_t>(int_field(what, "mode")));
        const auto failed = [&](const std::string& path, const Error& e) {
          ++sink_failed;
          ctx.complain(o->dest + "/" + path, e);
        };
        if (tar) {
          INDRA_LET(sink, tar_sink(o->dest, failed));
        } else {
          if (!is_dir && ::mkdir(o->dest.c_str(), 0777) != 0) return fail(errno, o->dest);
          const Existing existing = !is_dir || o->conflict == "replace" ? Existing::replace
                                    : o->conflict == "skip"             ? Existing::skip
                                                                        : Existing::fail;
          INDRA_LET(sink, directory_sink(o->dest, "", existing, ::geteuid() == 0, failed));
        }
        Progress progress{"exported"};
        INDRA_LET(const Sent sent, receive_items(ctx, *client, request, progress, *sink, sink_failed));
        Json report = sent.answer;
        report["failed"] = sent.failed;
        if (ctx.json)
          fmt::print(o->dest == "-" ? stderr : stdout, "{}\n", report.dump(2));
        else if (o->dest != "-")
          fmt::print("Exported {} items, {}{}\n", int_field(report, "items"),
                     size_text(static_cast<std::uint64_t>(int_field(report, "bytes"))),
                     sent.failed > 0 ? fmt::format(", {} failed", sent.failed) : "");
        return sent.failed > 0 ? 1 : 0;
      });
  verb->add_option("SRC", o->src, "[BRANCH]:/PATH, or a path in a mount")->required();
  verb->add_option("DEST", o->dest,
                   "a directory (made if missing), a file with a tar name, or - for a tar on standard output")
      ->required();
  add_as_of(verb, o->snapshot, o->at);
  verb->add_option("--on-conflict", o->conflict, "what to do where a name is taken (default: fail)")
      ->check(CLI::IsMember({"replace", "skip", "fail"}));
  add_json(verb, ctx);
}

}  // namespace indra::cli
