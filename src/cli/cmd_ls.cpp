#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>

#include "cli/app.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

struct LsArgs {
  std::vector<std::string> places;
  std::string snapshot, at;
  bool l = false, all = false, recursive = false, itself = false;
};

std::uint32_t mode_of(const Json& row) { return static_cast<std::uint32_t>(int_field(row, "mode")); }

void print_rows(const std::vector<Json>& rows, bool details, const char* name_key) {
  std::size_t links = 1, uid = 1, gid = 1, size = 1;
  for (const Json& r : rows) {
    links = std::max(links, std::to_string(int_field(r, "nlink")).size());
    uid = std::max(uid, std::to_string(int_field(r, "uid")).size());
    gid = std::max(gid, std::to_string(int_field(r, "gid")).size());
    size = std::max(size, std::to_string(int_field(r, "size")).size());
  }
  for (const Json& r : rows) {
    const std::string name = coloured(shown_name(name_field(r, name_key).value_or("?")), mode_of(r));
    if (!details) {
      fmt::print("{}\n", name);
      continue;
    }
    const auto target = name_field(r, "target");
    fmt::print("{} {:>{}} {:>{}} {:>{}} {:>{}} {} {}{}\n", mode_text(mode_of(r)), int_field(r, "nlink"),
               links, int_field(r, "uid"), uid, int_field(r, "gid"), gid, int_field(r, "size"), size,
               time_text(int_field(r, "mtime")), name, target ? " -> " + shown_name(*target) : "");
  }
}

Result<int> ls(Context& ctx, const LsArgs& a) {
  int status = 0;
  Json all_rows = Json::array();
  bool first_group = true;
  for (const std::string& argument : a.places.empty() ? std::vector<std::string>{":/"} : a.places) {
    Place p = ctx.place(argument);
    INDRA_TRY(ctx.as_of(p, a.snapshot, a.at));
    INDRA_LET(Client * client, ctx.reach(p.vault));
    Json request = p.request("list");
    request["depth"] = a.itself ? 0 : a.recursive ? -1 : 1;
    request["follow"] = !a.itself && !a.l;
    // Grouped by directory, in the order they come: a directory's row is before those below it.
    std::vector<std::string> order;
    std::set<std::string> known;
    std::map<std::string, std::vector<Json>> groups;
    Json top;
    const auto done = client->call(request, [&](Message m) -> Result<void> {
      if (const auto path = name_field(m.head, "failed")) {
        ctx.complain(*path, error_of(m));
        status = 1;
        return {};
      }
      const auto rows = m.head.find("rows");
      if (rows == m.head.end() || !rows->is_array()) return {};
      for (Json& row : *rows) {
        const std::string path = name_field(row, "path").value_or("");
        if (top.is_null()) {
          top = std::move(row);
          if (S_ISDIR(mode_of(top)) && !a.itself) {
            order.push_back(path);
            known.insert(path);
          }
          continue;
        }
        const std::string dir = path.rfind('/') == 0 ? "/" : path.substr(0, path.rfind('/'));
        const std::string name = name_field(row, "name").value_or("");
        if (!a.all && name.starts_with('.')) continue;
        // Below a hidden directory nothing is shown either.
        if (!known.contains(dir)) continue;
        if (S_ISDIR(mode_of(row)) && a.recursive) {
          order.push_back(path);
          known.insert(path);
        }
        groups[dir].push_back(std::move(row));
      }
      return {};
    });
    if (!done) {
      ctx.complain(argument, done.error());
      status = 1;
      continue;
    }
    if (ctx.json) {
      if (order.empty() && !top.is_null()) all_rows.push_back(top);
      for (const auto& dir : order)
        for (Json& row : groups[dir]) all_rows.push_back(std::move(row));
      continue;
    }
    if (order.empty()) {
      top["name"] = name_to_json(argument);
      print_rows({top}, a.l, "name");
      continue;
    }
    for (const std::string& dir : order) {
      if (a.places.size() > 1 || a.recursive) {
        fmt::print("{}{}:\n", first_group ? "" : "\n",
                   shown_name(p.branch == "main" ? ":" + dir : p.branch + ":" + dir));
        first_group = false;
      }
      print_rows(groups[dir], a.l, "name");
    }
  }
  if (ctx.json) fmt::print("{}\n", all_rows.dump(2, ' ', false, Json::error_handler_t::replace));
  return status;
}

struct TreeRow {
  std::string name;
  std::uint32_t mode;
  int depth;
  std::string target;
};

}  // namespace

void add_ls(CLI::App& app, Context& ctx) {
  auto a = std::make_shared<LsArgs>();
  CLI::App* verb =
      add_verb(app, ctx, "ls", "List directories of a vault",
               "  indrafs ls :/notes\n  indrafs ls -laR agent:/\n  indrafs ls ~/indra/vault/notes",
               [&ctx, a] { return ls(ctx, *a); });
  verb->add_option("PLACE", a->places, "[BRANCH]:/PATH, or a path in a mount (default: :/)");
  verb->add_flag("-l", a->l, "with mode, owner, size and time");
  verb->add_flag("-a,--all", a->all, "names that begin with a dot, too");
  verb->add_flag("-R,--recursive", a->recursive, "and all below");
  verb->add_flag("-d", a->itself, "the place itself, not what is in it");
  add_as_of(verb, a->snapshot, a->at);
  add_json(verb, ctx);
}

void add_tree(CLI::App& app, Context& ctx) {
  struct Options {
    std::string place = ":/", snapshot, at;
    int depth = -1;
    bool all = false, dirs = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "tree", "Show a directory of a vault as a tree",
      "  indrafs tree\n  indrafs tree -L 2 :/notes", [&ctx, o]() -> Result<int> {
        Place p = ctx.place(o->place);
        INDRA_TRY(ctx.as_of(p, o->snapshot, o->at));
        INDRA_LET(Client * client, ctx.reach(p.vault));
        Json request = p.request("list");
        request["depth"] = o->depth;
        std::vector<TreeRow> rows;
        Json json_rows = Json::array();
        int status = 0, hidden = -1;  // depth of a hidden directory whose content is passed over
        const auto done = client->call(request, [&](Message m) -> Result<void> {
          if (const auto path = name_field(m.head, "failed")) {
            ctx.complain(*path, error_of(m));
            status = 1;
            return {};
          }
          const auto list = m.head.find("rows");
          if (list == m.head.end() || !list->is_array()) return {};
          for (Json& r : *list) {
            TreeRow row{name_field(r, "name").value_or("?"), mode_of(r),
                        static_cast<int>(int_field(r, "depth")), name_field(r, "target").value_or("")};
            if (hidden >= 0 && row.depth > hidden) continue;
            hidden = -1;
            if (row.depth > 0 && !o->all && row.name.starts_with('.')) {
              hidden = row.depth;
              continue;
            }
            if (o->dirs && !S_ISDIR(row.mode)) continue;
            if (ctx.json) json_rows.push_back(std::move(r));
            rows.push_back(std::move(row));
          }
          return {};
        });
        if (!done) return fail(done.error());
        if (ctx.json) {
          fmt::print("{}\n", json_rows.dump(2, ' ', false, Json::error_handler_t::replace));
          return status;
        }
        // From the end: whether a later row stands at the same depth before one that is higher up.
        std::vector<bool> last(rows.size(), true);
        std::vector<bool> open;
        for (std::size_t i = rows.size(); i-- > 0;) {
          const auto d = static_cast<std::size_t>(rows[i].depth);
          if (open.size() > d + 1) open.resize(d + 1);
          if (open.size() < d + 1) open.resize(d + 1, false);
          last[i] = !open[d];
          open[d] = true;
        }
        std::vector<bool> ended;
        std::size_t dirs = 0, files = 0;
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const TreeRow& r = rows[i];
          const auto d = static_cast<std::size_t>(r.depth);
          std::string line;
          for (std::size_t k = 1; k < d; ++k) line += ended[k] ? "    " : "│   ";
          if (d > 0) line += last[i] ? "└── " : "├── ";
          ended.resize(d + 1);
          ended[d] = last[i];
          line += d == 0 ? shown_name(o->place) : coloured(shown_name(r.name), r.mode);
          if (!r.target.empty()) line += " -> " + shown_name(r.target);
          fmt::print("{}\n", line);
          if (d > 0) ++(S_ISDIR(r.mode) ? dirs : files);
        }
        fmt::print("\n{} {}, {} {}\n", dirs, dirs == 1 ? "directory" : "directories", files,
                   files == 1 ? "file" : "files");
        return status;
      });
  verb->add_option("PLACE", o->place, "[BRANCH]:/PATH, or a path in a mount (default: :/)");
  verb->add_option("-L,--depth", o->depth, "at most so many levels")->check(CLI::PositiveNumber);
  verb->add_flag("-a,--all", o->all, "names that begin with a dot, too");
  verb->add_flag("-d", o->dirs, "directories only");
  add_as_of(verb, o->snapshot, o->at);
  add_json(verb, ctx);
}

void add_stat(CLI::App& app, Context& ctx) {
  struct Options {
    std::vector<std::string> places;
    std::string snapshot, at;
    bool follow = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = add_verb(
      app, ctx, "stat", "Show what a vault knows of a file or directory",
      "  indrafs stat :/notes/a.md\n  indrafs stat --json :/notes/a.md | jq -r .hash",
      [&ctx, o]() -> Result<int> {
        int status = 0;
        for (const std::string& argument : o->places) {
          Place p = ctx.place(argument);
          INDRA_TRY(ctx.as_of(p, o->snapshot, o->at));
          INDRA_LET(Client * client, ctx.reach(p.vault));
          Json request = p.request("stat");
          request["follow"] = o->follow;
          const auto j = client->call(request);
          if (!j) {
            ctx.complain(argument, j.error());
            status = 1;
            continue;
          }
          if (ctx.json) {
            fmt::print("{}\n", j->dump(2, ' ', false, Json::error_handler_t::replace));
            continue;
          }
          const auto target = name_field(*j, "target");
          fmt::print("Path:     {}{}\n", shown_name(argument), target ? " -> " + shown_name(*target) : "");
          fmt::print("Artifact: {}{}\n", text_field(*j, "artifact"),
                     j->contains("leaf_type")   ? " (" + text_field(*j, "leaf_type") + ")"
                     : j->contains("tree_type") ? " (" + text_field(*j, "tree_type") + ")"
                                                : "");
          if (j->contains("hash")) fmt::print("Hash:     {}\n", text_field(*j, "hash"));
          if (j->contains("doc_id")) fmt::print("Document: {}\n", text_field(*j, "doc_id"));
          if (j->contains("version")) fmt::print("Version:  {}\n", text_field(*j, "version"));
          fmt::print(
              "Node:     {}\nSize:     {} ({} on disk)\nMode:     {:04o} ({})  Links: {}  Owner: {}:{}\n",
              int_field(*j, "node"), int_field(*j, "size"),
              size_text(static_cast<std::uint64_t>(int_field(*j, "blocks")) * 512), mode_of(*j) & 07777,
              mode_text(mode_of(*j)), int_field(*j, "nlink"), int_field(*j, "uid"), int_field(*j, "gid"));
          fmt::print("Accessed: {}\nModified: {}\nChanged:  {}\nMade:     {}\n",
                     time_text(int_field(*j, "atime")), time_text(int_field(*j, "mtime")),
                     time_text(int_field(*j, "ctime")), time_text(int_field(*j, "btime")));
        }
        return status;
      });
  verb->add_option("PLACE", o->places, "[BRANCH]:/PATH, or a path in a mount")->required();
  add_as_of(verb, o->snapshot, o->at);
  verb->add_flag("-L,--follow", o->follow, "what a symlink leads to");
  add_json(verb, ctx);
}

}  // namespace indra::cli
