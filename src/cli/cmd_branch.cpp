// branch, snapshot.
#include <fmt/format.h>

#include "cli/app.h"
#include "cli/coord.h"
#include "cli/not_empty.h"
#include "cli/terminal.h"
#include "events/own_work.h"

namespace indra::cli {
namespace {

void check_name(const std::string& name) {
  if (!valid_name(name))
    throw Usage{"a name has 1 to 200 bytes, no '/' or ':', and does not begin with '.' or '-': " + name};
}

std::string name_of(const Json& j, const char* key) { return shown_name(name_field(j, key).value_or("")); }

}  // namespace

void add_branch(CLI::App& app, Context& ctx) {
  CLI::App* group = app.add_subcommand("branch", "Branches: make, list, rename, protect, refresh, delete");
  group->require_subcommand(1);
  struct Options {
    std::string name, from = "main", snapshot, at;
    bool committed = false, follow = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* create =
      add_verb(*group, ctx, "create", "Fork a branch: at once, whatever its size",
               "  indrafs branch create agent\n  indrafs branch create fix --from agent --follow\n  indrafs "
               "branch create old --from-snapshot monday",
               [&ctx, o]() -> Result<int> {
                 check_name(o->name);
                 Place p;
                 p.vault = ctx.vault();
                 p.branch = o->from;
                 INDRA_TRY(ctx.as_of(p, {}, o->at));
                 INDRA_LET(Client * client, ctx.reach(p.vault));
                 INDRA_LET(const Json j, client->call({{"verb", "branch_create"},
                                                       {"name", name_to_json(o->name)},
                                                       {"from", name_to_json(o->from)},
                                                       {"from_snapshot", name_to_json(o->snapshot)},
                                                       {"at", p.at},
                                                       {"committed", o->committed},
                                                       {"follow", o->follow}}));
                 if (ctx.json) fmt::print("{}\n", j.dump(2));
                 return 0;
               });
  create->add_option("NAME", o->name, "of the new branch")->required();
  create->add_option("--from", o->from, "the branch to fork (default: main)")->check(not_empty);
  auto* snapshot = create->add_option("--from-snapshot", o->snapshot, "fork it as it was in this snapshot");
  snapshot->check(not_empty);
  auto* at = create->add_option("--at", o->at,
                                "fork it as it was then: '2026-01-31 12:00', '2h ago', yesterday, seq:N");
  at->excludes(snapshot)->check(not_empty);
  create->add_flag("--committed", o->committed, "without what files being written hold so far");
  create
      ->add_flag("--follow", o->follow, "it takes over what that branch changes later; its own changes stand")
      ->excludes(snapshot)
      ->excludes(at);
  add_json(create, ctx);
  CLI::App* list =
      add_verb(*group, ctx, "list", "List the branches", "  indrafs branch list", [&ctx]() -> Result<int> {
        INDRA_LET(Client * client, ctx.reach(ctx.vault()));
        INDRA_LET(const Json j, client->call({{"verb", "branch_list"}}));
        const Json rows = j.value("branches", Json::array());
        if (ctx.json)
          fmt::print("{}\n", rows.dump(2));
        else
          for (const Json& b : rows) {
            const std::string parent = name_of(b, "parent");
            fmt::print("{:<24} {}{}{}\n", name_of(b, "name"), time_text(int_field(b, "created")),
                       parent.empty() ? "" : (bool_field(b, "follows") ? "  follows " : "  from ") + parent,
                       bool_field(b, "protected") ? "  protected" : "");
          }
        return 0;
      });
  add_json(list, ctx);

  auto names = std::make_shared<std::vector<std::string>>();
  const auto send = [&ctx](Json request) -> Result<int> {
    INDRA_LET(Client * client, ctx.reach(ctx.vault()));
    INDRA_TRY(client->call(request));
    return 0;
  };
  add_verb(*group, ctx, "delete", "Delete branches: gone at once, their space comes back in the background",
           "  indrafs branch delete agent",
           [&ctx, names, send]() -> Result<int> {
             int status = 0;
             for (const std::string& name : *names)
               if (auto r = send({{"verb", "branch_delete"}, {"name", name_to_json(name)}}); !r) {
                 ctx.complain(name, r.error());
                 status = 1;
               }
             return status;
           })
      ->add_option("NAME", *names, "which")
      ->required();
  struct Rename {
    std::string name, to;
    bool off = false;
  };
  auto r = std::make_shared<Rename>();
  CLI::App* rename = add_verb(
      *group, ctx, "rename", "Give a branch another name", "  indrafs branch rename agent reviewed",
      [r, send]() -> Result<int> {
        check_name(r->to);
        return send(
            {{"verb", "branch_rename"}, {"name", name_to_json(r->name)}, {"to", name_to_json(r->to)}});
      });
  rename->add_option("NAME", r->name, "which")->required();
  rename->add_option("NEW", r->to, "its new name")->required();
  auto p = std::make_shared<Rename>();
  CLI::App* protect = add_verb(
      *group, ctx, "protect", "Make a branch read-only, also where it is mounted",
      "  indrafs branch protect release\n  indrafs branch protect --off release", [p, send]() -> Result<int> {
        return send({{"verb", "branch_protect"}, {"name", name_to_json(p->name)}, {"on", !p->off}});
      });
  protect->add_option("NAME", p->name, "which")->required();
  protect->add_flag("--off", p->off, "writable again");
  auto f = std::make_shared<Rename>();
  CLI::App* follow = add_verb(
      *group, ctx, "follow", "Let a fork take over what its parent changes; its own changes stand",
      "  indrafs branch follow agent\n  indrafs branch follow --off agent", [f, send]() -> Result<int> {
        return send({{"verb", "branch_follow"}, {"name", name_to_json(f->name)}, {"on", !f->off}});
      });
  follow->add_option("NAME", f->name, "which")->required();
  follow->add_flag("--off", f->off, "it stays as it is now");
  add_refresh(*group, ctx);
}

void add_snapshot(CLI::App& app, Context& ctx) {
  CLI::App* group = app.add_subcommand("snapshot", "Snapshots: make, schedule, list, delete");
  group->require_subcommand(1);
  struct Options {
    std::string name, branch = "main", message;
  };
  auto o = std::make_shared<Options>();
  CLI::App* create = add_verb(
      *group, ctx, "create", "Keep a branch as it is now, with what open files hold",
      "  indrafs snapshot create monday\n  indrafs snapshot create v1 --branch agent -m 'before the rewrite'",
      [&ctx, o]() -> Result<int> {
        check_name(o->name);
        INDRA_LET(Client * client, ctx.reach(ctx.vault()));
        INDRA_LET(const Json j, client->call({{"verb", "snapshot_create"},
                                              {"name", name_to_json(o->name)},
                                              {"branch", name_to_json(o->branch)},
                                              {"message", name_to_json(o->message)}}));
        if (ctx.json) fmt::print("{}\n", j.dump(2));
        return 0;
      });
  create->add_option("NAME", o->name, "of the snapshot")->required();
  create->add_option("--branch", o->branch, "of which branch (default: main)");
  create->add_option("-m,--message", o->message, "what it is for");
  add_json(create, ctx);
  CLI::App* list =
      add_verb(*group, ctx, "list", "List the snapshots", "  indrafs snapshot list", [&ctx]() -> Result<int> {
        INDRA_LET(Client * client, ctx.reach(ctx.vault()));
        INDRA_LET(const Json j, client->call({{"verb", "snapshot_list"}}));
        const Json rows = j.value("snapshots", Json::array());
        if (ctx.json)
          fmt::print("{}\n", rows.dump(2));
        else
          for (const Json& s : rows)
            fmt::print("{:<24} {}  {:<16} {}\n", name_of(s, "name"), time_text(int_field(s, "time")),
                       name_of(s, "branch"), name_of(s, "message"));
        return 0;
      });
  add_json(list, ctx);
  auto names = std::make_shared<std::vector<std::string>>();
  add_verb(*group, ctx, "delete", "Delete snapshots; what they alone held goes in the background",
           "  indrafs snapshot delete monday",
           [&ctx, names]() -> Result<int> {
             INDRA_LET(Client * client, ctx.reach(ctx.vault()));
             int status = 0;
             for (const std::string& name : *names)
               if (auto r = client->call({{"verb", "snapshot_delete"}, {"name", name_to_json(name)}}); !r) {
                 ctx.complain(name, r.error());
                 status = 1;
               }
             return status;
           })
      ->add_option("NAME", *names, "which")
      ->required();
  auto plan = std::make_shared<SnapshotPlan>();
  auto when = std::make_shared<std::string>();
  CLI::App* schedule = add_verb(
      *group, ctx, "schedule",
      "Snapshots by the clock while the vault is mounted, the newest kept; prints when first",
      "  indrafs snapshot schedule hourly @hourly --keep 24\n"
      "  indrafs snapshot schedule nightly '30 3 * * *' --keep 30 --branch agent",
      [&ctx, plan, when]() -> Result<int> {
        check_name(plan->name);
        {
          INDRA_LET(Client * client, ctx.reach(ctx.vault()));
          INDRA_LET(const Json all, client->call({{"verb", "branch_list"}}));
          const Json branches = all.value("branches", Json::array());
          if (std::none_of(branches.begin(), branches.end(),
                           [&](const Json& b) { return b["name"] == name_to_json(plan->branch); }))
            return fail(ENOENT, "there is no branch " + plan->branch + "; `indrafs branch list` shows them");
        }
        INDRA_LET(const auto coord, open_coord(ctx, true));
        INDRA_LET(const double first, schedule_snapshots(*coord, *plan, *when));
        fmt::print("{}\n", time_text(static_cast<TimeNs>(first) * kSecond));
        return 0;
      });
  schedule->add_option("NAME", plan->name, "they are named NAME-20261121T080000Z (UTC)")->required();
  schedule
      ->add_option("WHEN", *when, "@hourly, @daily, @weekly, @every 90m, or minute hour day month weekday")
      ->required();
  schedule->add_option("--keep", plan->keep, "so many, the newest; older ones of this NAME are deleted")
      ->required();
  schedule->add_option("--branch", plan->branch, "of which branch (default: main)");
  auto gone = std::make_shared<SnapshotPlan>();
  add_verb(*group, ctx, "unschedule", "No more snapshots of that name by the clock; those there are stay",
           "  indrafs snapshot unschedule hourly",
           [&ctx, gone]() -> Result<int> {
             INDRA_LET(const auto coord, open_coord(ctx));
             INDRA_TRY(coord->call("indra_unschedule", {gone->schedule()}));
             return 0;
           })
      ->add_option("NAME", gone->name, "as it was scheduled")
      ->required();
}

}  // namespace indra::cli
