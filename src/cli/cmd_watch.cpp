// watch: the change feed, read from the database itself, beside a daemon or without one.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "cli/app.h"
#include "cli/terminal.h"
#include "events/event_json.h"
#include "events/feed.h"

namespace indra::cli {
namespace {

struct WatchArgs {
  std::vector<std::string> places, kinds;
  std::string branch, bucket = "main";
  std::int64_t from = -1, count = -1;
  bool once = false;
};

std::string event_line(const ChangeEvent& e) {
  const Tree::ChangeRow& c = e.row;
  std::string line = fmt::format("{:>8} {} {:<10}", c.seq.raw(), time_text(c.time), c.op);
  if (c.op == "epoch") return line + " after an unclean end: what came just before may have been lost";
  const std::string where = e.branch == "main" ? ":" : e.branch + ":";
  if (names_a_branch(c.op)) return line + " " + shown_name(c.name);
  line += " " + (e.path ? shown_name(where + *e.path) : fmt::format("node {}", c.node.raw()));
  if (e.from_path) line += (c.op == "exchange" ? " with " : " from ") + shown_name(where + *e.from_path);
  if (!e.attribute.empty()) line += " " + shown_name(e.attribute);
  if (!c.who.program.empty()) line += "  by " + shown_name(c.who.program);
  return line;
}

Result<int> watch(Context& ctx, const WatchArgs& a) {
  ChangeFilter filter;
  filter.bucket = a.bucket;
  filter.kinds = a.kinds;
  std::string vault;
  for (const std::string& argument : a.places) {
    Place p = ctx.place(argument);
    if (!p.snapshot.empty()) throw Usage{argument + " lies in a snapshot: nothing changes there"};
    if (!vault.empty() && vault != p.vault) throw Usage{"the places lie in different vaults"};
    vault = p.vault;
    while (p.path.size() > 1 && p.path.ends_with('/')) p.path.pop_back();
    filter.subtrees.push_back({p.branch, p.path});
  }
  if (vault.empty()) vault = ctx.vault();
  if (!a.branch.empty()) filter.branches.push_back(a.branch);
  // All there is, that is: also what a mount was answered a moment ago and has not committed yet.
  if (a.once)
    if (auto daemon = Client::daemon(vault))
      INDRA_TRY((*daemon)->call({{"verb", "sync"}, {"publish", false}}));
  auto opened = Feed::open(vault, filter, a.from < 0 ? std::nullopt : std::optional{Seq{a.from}});
  if (!opened && opened.error().code == std::errc::no_such_file_or_directory && filter.bucket == "main")
    return fail(ENOENT, vault + " holds no vault; make one with: indrafs init " + vault);
  if (!opened) return fail(opened.error());
  Feed& feed = **opened;
  std::int64_t left = a.count;
  for (;;) {
    INDRA_LET(const ChangeLog::Batch batch, feed.next());
    for (const ChangeEvent& e : batch.events) {
      const std::string line =
          ctx.json ? event_json(e).dump(-1, ' ', false, Json::error_handler_t::replace) : event_line(e);
      fmt::print("{}\n", line);
      if (left > 0 && --left == 0) return 0;
    }
    if (std::fflush(stdout) != 0) return fail(EPIPE);
    if (batch.more) continue;
    if (a.once) return 0;
    feed.wait();
  }
}

}  // namespace

void add_watch(CLI::App& app, Context& ctx) {
  auto a = std::make_shared<WatchArgs>();
  CLI::App* verb =
      add_verb(app, ctx, "watch", "Follow the changes of a vault, or resume where you were",
               "  indrafs watch\n  indrafs watch :/notes --kind write --kind create\n"
               "  indrafs watch --json --from 4711          # what came after change 4711, then what comes\n"
               "  indrafs watch --from 0 --once             # all that is kept",
               [&ctx, a]() -> Result<int> { return watch(ctx, *a); });
  verb->add_option("PLACE", a->places, "only these and what is below them (default: the whole bucket)");
  verb->add_option("--branch", a->branch, "only this branch");
  verb->add_option("--bucket", a->bucket, "of which bucket (default: main)");
  verb->add_option("--kind", a->kinds, "only changes of this kind: create, write, rename, ...")
      ->allow_extra_args(false);
  verb->add_option("--from", a->from, "what came after the change with this number (default: from now on)")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--count", a->count, "end after so many")->check(CLI::PositiveNumber);
  verb->add_flag("--once", a->once,
                 "end when nothing is left; a mounted vault commits first, so all there is is shown");
  add_json(verb, ctx);
}

}  // namespace indra::cli
