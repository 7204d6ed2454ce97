// What the verbs share: which vault, which place in it, and how results and errors are shown.
//
// Exit status: 0 done, 1 failed (at least one thing did), 2 wrong usage.
// Source:      docs/design/daemon.md, docs/indrafs.1.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/client.h"

namespace indra::cli {

/// An error of usage: exit status 2.
struct Usage {
  std::string text;
};

struct Place {
  std::string vault;
  std::string branch = "main", snapshot;
  std::string path = "/";
  Json at;            ///< {"seq": N}: a moment of the branch; null for the head
  std::string shown;  ///< as the user wrote it
  [[nodiscard]] Json request(const char* verb) const;
};

class Context {
 public:
  std::string vault_option, player, verb;
  bool json = false;
  std::function<Result<int>()> run;

  /// --vault, then $INDRAFS_VAULT, then the default; absolute.
  [[nodiscard]] std::string vault() const;
  [[nodiscard]] bool default_vault() const;
  /// Where an argument means: a path in the vault, or a host path inside a mount. Throws Usage for a host
  /// path elsewhere.
  [[nodiscard]] Place place(const std::string& argument) const;
  /// Connected to the vault of `p`, waiting for whoever holds it. One connection is kept for the last vault
  /// asked for.
  [[nodiscard]] Result<Client*> reach(const std::string& vault);
  void close() { client_.reset(), client_vault_.clear(); }
  /// `p` as it was in a snapshot, or at a time (--at): then says which moment is kept.
  [[nodiscard]] Result<void> as_of(Place& p, const std::string& snapshot, const std::string& at);
  /// One line on standard error: "indrafs: VERB: THING: what is wrong; the way out".
  void complain(std::string_view thing, const Error& e) const;
  void say(std::string_view text) const;  ///< the same for what is no error

 private:
  std::string client_vault_;
  std::unique_ptr<Client> client_;
};

/// "[BRANCH]:/PATH". Nothing for a host path. Throws Usage for "..".
struct VaultPath {
  std::string branch, path;
};
[[nodiscard]] std::optional<VaultPath> parse_vault_path(std::string_view argument);
/// Names of branches and snapshots: 1-200 bytes, no '/', NUL, ':', no leading '.' or '-'.
[[nodiscard]] bool valid_name(std::string_view);

/// An indrafs mount of this machine, from /proc/self/mountinfo.
struct HostMount {
  std::string mountpoint, root, source, device;
};
[[nodiscard]] std::vector<HostMount> parse_mountinfo(std::string_view text);
[[nodiscard]] std::vector<HostMount> indrafs_mounts();
/// The mount that holds the absolute path, the innermost one.
[[nodiscard]] const HostMount* mount_of(const std::vector<HostMount>&, std::string_view path);
/// The mount of its daemon that `m` shows, or a part of which it shows at another place (a bind mount): where
/// the daemon made it.
[[nodiscard]] const HostMount* made_as(const std::vector<HostMount>&, const HostMount& m,
                                       const Json& daemons_mounts);
/// What a path below the mount point means: branch, snapshot and path. `mount` as Service lists it.
[[nodiscard]] std::optional<Place> place_in_mount(const Json& mount, std::string_view below);
/// Absolute, without symlinks where they can be resolved; a dead mount is not touched.
[[nodiscard]] std::string absolute(const std::string& path, bool follow_last);

/// The way out, to be put after an error's text; empty when there is none to name.
[[nodiscard]] std::string advice(const std::error_code&);

/// A verb's subcommand. `run` is called when it was chosen.
CLI::App* add_verb(CLI::App& app, Context& ctx, const std::string& name, const std::string& about,
                   const std::string& examples, std::function<Result<int>()> run);
void add_json(CLI::App* verb, Context& ctx);

/// What --at means: a moment as {"seq": N} or {"time": ns}. "2026-01-31 12:00[:05]", "12:00", "2h", "3 days
/// ago", "yesterday", "@SECONDS", "seq:N"; local time. Nothing when it is none of these.
[[nodiscard]] std::optional<Json> parse_when(std::string_view text, TimeNs now);
/// One place that a scrub found damaged: the files it concerns, and why.
[[nodiscard]] std::string damage_text(const Json& damage);
void add_as_of(CLI::App* verb, std::string& snapshot, std::string& at);

/// Every verb and option. Parsing sets `ctx.run`, and does nothing else.
void add_all(CLI::App&, Context& ctx);
void add_init(CLI::App&, Context&);
void add_mount(CLI::App&, Context&);
void add_unmount(CLI::App&, Context&);
void add_status(CLI::App&, Context&);
void add_stats(CLI::App&, Context&);
void add_ls(CLI::App&, Context&);
void add_tree(CLI::App&, Context&);
void add_stat(CLI::App&, Context&);
void add_cat(CLI::App&, Context&);
void add_get(CLI::App&, Context&);
void add_put(CLI::App&, Context&);
void add_rm(CLI::App&, Context&);
void add_mv(CLI::App&, Context&);
void add_cp(CLI::App&, Context&);
void add_import(CLI::App&, Context&);
void add_export(CLI::App&, Context&);
void add_sync(CLI::App&, Context&);
void add_diff(CLI::App&, Context&);
void add_log(CLI::App&, Context&);
void add_try(CLI::App&, Context&);
void add_restore(CLI::App&, Context&);
void add_undelete(CLI::App&, Context&);
void add_backup(CLI::App&, Context&);
/// restore --from: the vault that the backup in `from` holds, in the directory `vault`.
[[nodiscard]] Result<int> restore_from(Context&, const std::string& from, const std::string& vault);
void add_pack(CLI::App&, Context&);
void add_unpack(CLI::App&, Context&);
void add_branch(CLI::App&, Context&);
void add_snapshot(CLI::App&, Context&);
void add_merge(CLI::App&, Context&);
/// Sends a request to merge; its answer, with all steps and conflicts.
[[nodiscard]] Result<Json> merged(Client&, const Json& request);
void add_refresh(CLI::App& branch, Context&);
void add_watch(CLI::App&, Context&);
void add_notify(CLI::App&, Context&);  // and listen
void add_queue(CLI::App&, Context&);
void add_stream(CLI::App&, Context&);
void add_lock(CLI::App&, Context&);
void add_rate(CLI::App&, Context&);
void add_schedule(CLI::App&, Context&);
void add_fsck(CLI::App&, Context&);
void add_scrub(CLI::App&, Context&);
void add_config(CLI::App&, Context&);
void add_completion(CLI::App&, Context&);
void add_version(CLI::App&, Context&);

}  // namespace indra::cli
