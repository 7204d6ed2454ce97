#include <fmt/format.h>

#include "cli/app.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

constexpr std::int64_t kRate = 64;  // MiB a second

struct Options {
  bool wait = false, again = false, stop = false;
  std::int64_t rate = kRate;
};

Result<Json> ask(Context& ctx, const Options& o) {
  INDRA_LET(Client * client, ctx.reach(ctx.vault()));
  Json request = {{"verb", "scrub"}, {"do", o.stop ? "stop" : "start"}};
  if (!o.stop) {
    request["wait"] = o.wait;
    request["again"] = o.again;
    request["rate"] = o.rate << 20;
  }
  Progress progress{"scrubbed"};
  return client->call(request, [&](Message m) -> Result<void> {
    progress.total = static_cast<std::uint64_t>(int_field(m.head, "total"));
    progress.bytes = static_cast<std::uint64_t>(int_field(m.head, "bytes"));
    return {};
  });
}

void print(const Json& j, bool stopped) {
  const auto bytes = static_cast<std::uint64_t>(int_field(j, "bytes")),
             total = static_cast<std::uint64_t>(int_field(j, "total"));
  if (text_field(j, "state") == "running")
    fmt::print("{}: {} of about {} read; `indrafs {}`\n", stopped ? "Left" : "Under way", size_text(bytes),
               size_text(total), stopped ? "scrub` goes on" : "status` shows more");
  else if (text_field(j, "state") == "never")
    fmt::print("Nothing was scrubbed yet\n");
  else
    fmt::print("Scrubbed: {} read, {}\n", size_text(bytes), bool_field(j, "clean") ? "all well" : "DAMAGED:");
  for (const Json& d : j.value("damage", Json::array())) fmt::print("  {}\n", damage_text(d));
}

}  // namespace

void add_scrub(CLI::App& app, Context& ctx) {
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(app, ctx, "scrub", "Read all that is stored and compare it with its hashes, in the background",
               "  indrafs scrub                 begin, or go on with one that was cut off\n"
               "  indrafs scrub --wait --rate 0 as fast as the disk can, and tell what was found",
               [&ctx, o]() -> Result<int> {
                 INDRA_LET(const Json j, ask(ctx, *o));
                 if (ctx.json)
                   fmt::print("{}\n", j.dump(2, ' ', false, Json::error_handler_t::replace));
                 else
                   print(j, o->stop);
                 return bool_field(j, "clean") ? 0 : 1;
               });
  verb->add_flag("--wait", o->wait, "until it is done (without a daemon always)");
  verb->add_option("--rate", o->rate, "MiB a second at most; 0: as fast as it can (default 64)")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 20));
  verb->add_flag("--again", o->again, "from the beginning, even where one is under way");
  verb->add_flag("--stop", o->stop, "leave it where it is")->excludes("--wait")->excludes("--again");
  add_json(verb, ctx);
}

}  // namespace indra::cli
