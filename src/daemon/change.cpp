// rm, mv, cp.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <unordered_set>

#include "daemon/internal/verbs.h"
#include "daemon/items.h"
#include "fs/space.h"

namespace indra {

Result<void> remove_tree(Call& c, View& v, NodeId dir, const std::string& name, const Attr& a,
                         const std::string& shown, std::uint64_t& removed, std::uint64_t& failed, int depth) {
  const auto note = [&](const Result<void>& r) -> Result<void> {
    if (r) {
      ++removed;
      return {};
    }
    ++failed;
    return report(c, shown, r.error());
  };
  if (!S_ISDIR(a.mode)) return note(v.unlink(c.caller, dir, name));
  if (depth > kDeepest) return note(fail(ENAMETOOLONG));
  auto all = children(v, a.node);
  if (!all) return note(fail(all.error()));
  const std::uint64_t before = failed;
  for (const Child& child : *all)
    INDRA_TRY(remove_tree(c, v, a.node, child.name, child.attr, join_path(shown, child.name), removed, failed,
                          depth + 1));
  return failed == before ? note(v.rmdir(c.caller, dir, name)) : Result<void>{};
}

// {"path", "recursive", "force"}
Result<Json> verb_remove(Call& c) {
  INDRA_LET(const auto view, view_of(c, true));
  INDRA_LET(const std::string path, path_of(c));
  INDRA_LET(const PathParent p, find_parent(*view, path));
  INDRA_LET(const auto a, look(*view, p.parent, p.name));
  if (!a)
    return bool_field(c.request, "force") ? Result<Json>{Json{{"removed", 0}, {"failed", 0}}}
                                          : fail(ENOENT, path);
  if (S_ISDIR(a->mode) && !bool_field(c.request, "recursive")) return fail(EISDIR, path);
  std::uint64_t removed = 0, failed = 0;
  INDRA_TRY(remove_tree(c, *view, p.parent, p.name, *a, path, removed, failed));
  return Json{{"removed", removed}, {"failed", failed}};
}

namespace {

/// Where SRC goes: into `to` when that is a directory, else to be `to` itself.
Result<PathParent> destination(View& v, const std::string& to, const std::string& name) {
  auto there = find(v, to, true);
  if (there && S_ISDIR(there->attr.mode)) return PathParent{there->attr.node, name};
  if (to.ends_with('/')) return there ? fail(ENOTDIR, to) : fail(there.error());
  return find_parent(v, to);
}

}  // namespace

// {"path", "to", "to_branch", "no_clobber"}
Result<Json> verb_move(Call& c) {
  INDRA_LET(const std::string path, path_of(c));
  INDRA_LET(const std::string to, path_of(c, "to"));
  if (name_field(c.request, "branch").value_or("main") != name_field(c.request, "to_branch").value_or("main"))
    return fail(EXDEV, path + " cannot move to another branch; use cp, then rm");
  INDRA_LET(const auto view, view_of(c, true));
  INDRA_LET(const PathParent from, find_parent(*view, path));
  INDRA_LET(const PathParent dest, destination(*view, to, from.name));
  if (auto r = view->rename(c.caller, from.parent, from.name, dest.parent, dest.name,
                            bool_field(c.request, "no_clobber") ? RENAME_NOREPLACE : 0);
      !r)
    return fail(r.error().code, path + " to " + to);
  return Json::object();
}

namespace {

class Copier {
 public:
  Copier(Call& c, View& from, View& to) : c_{c}, from_{from}, to_{to} {}

  Result<void> node(const std::string& shown, const Attr& a, NodeId parent, const std::string& name,
                    bool no_clobber, int depth = 1) {
    auto r =
        depth > kDeepest ? Result<void>{fail(ENAMETOOLONG)} : one(shown, a, parent, name, no_clobber, depth);
    if (r) return {};
    if (r.error().code == std::errc::broken_pipe) return r;
    ++failed;
    return report(c_, shown, r.error());
  }
  std::uint64_t items = 0, bytes = 0, failed = 0;

 private:
  Result<void> one(const std::string& shown, const Attr& a, NodeId parent, const std::string& name,
                   bool no_clobber, int depth) {
    INDRA_LET(const auto there, look(to_, parent, name));
    if (there && there->node == a.node && &from_ == &to_) return fail(EINVAL, "the same file");
    SetAttr set;
    set.mode = a.mode & 07777;
    set.mtime = a.mtime;
    set.atime = a.atime;
    if (c_.caller.uid == 0) {
      set.uid = a.uid;
      set.gid = a.gid;
    }
    if (S_ISDIR(a.mode)) {
      // Listed before the copy exists: a directory copied into itself does not see its copy.
      INDRA_LET(const auto all, children(from_, a.node));
      NodeId dir;
      if (there) {
        if (!S_ISDIR(there->mode)) return fail(ENOTDIR, "the place is taken by a file");
        dir = there->node;
      } else {
        INDRA_LET(const Attr made, to_.mkdir(c_.caller, parent, name, a.mode & 07777));
        to_.forget(made.node, 1);
        dir = made.node;
      }
      made_.insert(dir);
      for (const Child& child : all) {
        if (&from_ != &to_ || !made_.contains(child.attr.node))
          INDRA_TRY(node(join_path(shown, child.name), child.attr, dir, child.name, no_clobber, depth + 1));
      }
      ++items;
      if (!there) INDRA_TRY(settle(dir, set, a.node));
      return {};
    }
    if (there && no_clobber) return fail(EEXIST);
    if (there && S_ISDIR(there->mode)) return fail(EISDIR);
    ++items;
    // Made beside the place and renamed over it: whole or not at all, and the document goes on.
    const std::string temp =
        there ? ".indrafs-copy-" + std::to_string(c_.caller.pid) + "-" + std::to_string(++counter_) : name;
    auto made = make(a, parent, temp);
    if (!made) return fail(made.error());
    auto r = settle(*made, S_ISLNK(a.mode) ? without_mode(set) : set, a.node);
    if (r && there) r = to_.rename(c_.caller, parent, temp, parent, name, 0);
    if (!r) (void)to_.unlink(c_.caller, parent, temp);
    return r;
  }

  static SetAttr without_mode(SetAttr s) {
    s.mode.reset();
    return s;
  }

  Result<void> settle(NodeId node, const SetAttr& set, NodeId source) {
    if (auto names = from_.listxattr(source))
      for (const std::string& n : *names)
        if (auto value = from_.getxattr(source, n)) INDRA_TRY(to_.setxattr(c_.caller, node, n, *value, 0));
    INDRA_LET(const Attr done, to_.setattr(c_.caller, node, set));
    (void)done;
    return {};
  }

  Result<NodeId> make(const Attr& a, NodeId parent, const std::string& name) {
    if (S_ISLNK(a.mode)) {
      INDRA_LET(const std::string target, from_.readlink(a.node));
      INDRA_LET(const Attr made, to_.symlink(c_.caller, parent, name, target));
      to_.forget(made.node, 1);
      return made.node;
    }
    if (!S_ISREG(a.mode)) {
      INDRA_LET(const Attr made, to_.mknod(c_.caller, parent, name, a.mode, a.rdev));
      to_.forget(made.node, 1);
      return made.node;
    }
    INDRA_LET(const Handle source, from_.open(c_.caller, a.node, O_RDONLY));
    const HandleGuard in{from_, source};
    INDRA_LET(const Opened made, to_.create(c_.caller, parent, name, 0600, O_RDWR));
    to_.forget(made.attr.node, 1);
    const HandleGuard out{to_, made.handle};
    auto r = fill(in.get(), out.get());
    if (r) r = to_.flush(c_.caller, out.get());
    if (!r) {
      (void)to_.unlink(c_.caller, parent, name);
      return fail(r.error());
    }
    return made.attr.node;
  }

  Result<void> fill(Handle in, Handle out) {
    std::uint64_t at = 0;
    for (;;) {
      INDRA_LET(const std::uint64_t n, to_.copy_file_range(c_.caller, in, at, out, at, 64ull << 20));
      if (n == 0) return {};
      at += n;
      bytes += n;
      Message m;
      m.head = {{"copied", bytes}};
      INDRA_TRY(c_.io.send(std::move(m)));
    }
  }

  Call& c_;
  View& from_;
  View& to_;
  std::unordered_set<NodeId> made_;
  std::uint64_t counter_ = 0;
};

}  // namespace

// {"branch", "snapshot", "path", "to_branch", "to", "recursive", "no_clobber"}
Result<Json> verb_copy(Call& c) {
  INDRA_LET(const std::string path, path_of(c));
  INDRA_LET(const std::string to, path_of(c, "to"));
  INDRA_LET(const auto from, view_of(c, false));
  INDRA_LET(const auto target, branch_view(c, name_field(c.request, "to_branch").value_or("main")));
  // One branch: one view, so that nodes can be compared.
  const bool same =
      name_field(c.request, "snapshot").value_or("").empty() && !c.request.contains("at") &&
      name_field(c.request, "branch").value_or("main") == name_field(c.request, "to_branch").value_or("main");
  View& source = same ? *target : *from;
  INDRA_LET(const Found f, find(source, path, bool_field(c.request, "follow", true)));
  if (S_ISDIR(f.attr.mode) && !bool_field(c.request, "recursive")) return fail(EISDIR, path);
  const std::string name = f.path.substr(f.path.rfind('/') + 1);
  INDRA_LET(const PathParent dest, destination(*target, to, name));
  if (dest.name.empty()) return fail(EINVAL, to + " must name the root's copy itself; add a name");
  Copier copier{c, source, *target};
  INDRA_TRY(copier.node(f.path, f.attr, dest.parent, dest.name, bool_field(c.request, "no_clobber")));
  INDRA_TRY(still_kept(c.fs, source));
  return Json{{"items", copier.items}, {"bytes", copier.bytes}, {"failed", copier.failed}};
}

}  // namespace indra
