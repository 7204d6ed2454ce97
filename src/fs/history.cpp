#include "fs/history.h"

#include <sys/stat.h>

#include "fs/internal/fs_impl.h"

namespace indra {
namespace {

struct Seen {
  Chain chain;
  NodeId root;
  BucketId bucket;
};

Result<Seen> seen(FileSystemImpl& fs, Tx& tx, std::string_view bucket, const Moment& m) {
  Tree& tree = fs.tree();
  if (!m.snapshot.empty()) {
    INDRA_LET(const auto pins, tree.pins(tx, bucket, PinKind::snapshot));
    for (const PinInfo& p : pins) {
      if (p.name != m.snapshot) continue;
      INDRA_LET(const BranchInfo info, tree.branch(tx, p.branch));
      INDRA_LET(Chain c, tree.chain_at(tx, p.branch, p.seq));
      return Seen{std::move(c), info.root, info.bucket};
    }
    return fail(ENOENT, "snapshot " + m.snapshot);
  }
  INDRA_LET(const BranchInfo info, tree.branch(tx, bucket, m.branch));
  if (m.fork_point) {
    if (!info.parent) return fail(EINVAL, "branch " + info.name + " was forked from nothing");
    Seq at = info.fork_seq;
    if (info.follow) {  // what it has taken over is not its own
      INDRA_LET(const Tree::Ancestry all, tree.ancestry(tx, info.id, kSeqMax));
      at = all.at(info.parent);
    }
    INDRA_LET(Chain c, tree.chain_at(tx, info.parent, at));
    return Seen{std::move(c), info.root, info.bucket};
  }
  if (m.seq) {
    INDRA_LET(Chain c, tree.chain_at(tx, info.id, *m.seq));
    return Seen{std::move(c), info.root, info.bucket};
  }
  INDRA_LET(Chain c, tree.chain(tx, info.id));
  return Seen{std::move(c), info.root, info.bucket};
}

/// A follower is looked at with all that its parent has published.
void look_at(FileSystemImpl& fs, std::string_view bucket, const Moment& m) {
  if (m.snapshot.empty() && !m.seq) (void)fs.branch_state(bucket, m.branch);
}

bool below(std::string_view path, std::string_view top) {
  return top == "/" || (path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/'));
}

/// Where a path leads, symlinks not followed. ENOENT.
struct At {
  NodeId parent;
  std::string name;
  NodeRow row;
};
Result<At> walk(FileSystemImpl& fs, Tx& tx, const Seen& s, std::string_view path) {
  At at;
  INDRA_LET(at.row, fs.tree().node(tx, s.chain, s.root));
  for (std::size_t i = 0; i < path.size();) {
    const std::size_t end = std::min(path.find('/', i), path.size());
    const std::string_view name = path.substr(i, end - i);
    i = end + 1;
    if (name.empty()) continue;
    at.parent = at.row.node;
    at.name = name;
    INDRA_LET(auto row, fs.tree().lookup_node(tx, s.chain, at.parent, name));
    if (!row) return fail(ENOENT, std::string{path});
    at.row = std::move(*row);
  }
  return at;
}

/// Its blob is another one, its bytes are the same.
Result<bool> same_bytes(FileSystemImpl& fs, Tx& tx, const NodeRow& a, const NodeRow& b) {
  if (a.size != b.size || !a.blob || !b.blob || !S_ISREG(a.mode) || !S_ISREG(b.mode)) return false;
  INDRA_LET(const BlobInfo p, fs.store().info(tx, a.blob));
  INDRA_LET(const BlobInfo q, fs.store().info(tx, b.blob));
  return p.hash && q.hash && *p.hash == *q.hash;
}

}  // namespace

Result<Chain> chain_of_moment(FileSystemImpl& fs, Tx& tx, std::string_view bucket, const Moment& m) {
  INDRA_LET(Seen s, seen(fs, tx, bucket, m));
  return std::move(s.chain);
}

Result<std::vector<DiffEntry>> diff_moments(FileSystem& f, std::string_view bucket, const Moment& a,
                                            const Moment& b, std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  auto& fs = static_cast<FileSystemImpl&>(f);
  look_at(fs, bucket, a);
  look_at(fs, bucket, b);
  return fs.writer().read([&](Tx& tx) -> Result<std::vector<DiffEntry>> {
    INDRA_LET(const Seen x, seen(fs, tx, bucket, a));
    INDRA_LET(const Seen y, seen(fs, tx, bucket, b));
    INDRA_LET(auto all, diff_views(tx, x.chain, y.chain, x.root));
    std::erase_if(all, [&](const DiffEntry& e) {
      return !(e.a && below(e.a->path, path)) && !(e.b && below(e.b->path, path));
    });
    if (all.empty()) {
      const auto in_a = walk(fs, tx, x, path);
      if (!in_a) INDRA_TRY(walk(fs, tx, y, path));
    }
    for (DiffEntry& e : all) {
      if (!e.content || !e.a || !e.b) continue;
      INDRA_LET(const bool same, same_bytes(fs, tx, e.a->row, e.b->row));
      e.content = !same;
    }
    std::erase_if(all, [](const DiffEntry& e) {
      return e.a && e.b && !e.moved && !e.content && !e.mode && !e.owner && !e.xattrs;
    });
    return all;
  });
}

Result<Bytes> content_of(FileSystem& f, std::string_view bucket, const NodeRow& row, std::uint64_t most) {
  auto& fs = static_cast<FileSystemImpl&>(f);
  Bytes out;
  if (S_ISLNK(row.mode)) {
    const ByteView t = as_view(row.target);
    out.assign(t.begin(), t.end());
    return out;
  }
  if (!S_ISREG(row.mode) || !row.blob) return out;
  if (row.size > most) return fail(EFBIG);
  INDRA_LET(const auto main, fs.branch_state(bucket, "main"));
  INDRA_LET(const auto content, fs.store().open_frozen(main->info.bucket, row.blob));
  out.resize(row.size);
  INDRA_LET(const std::size_t n, content->read(0, out));
  out.resize(n);
  return out;
}

Result<std::vector<Version>> versions_of(FileSystem& f, std::string_view bucket, const Moment& m,
                                         std::string_view path) {
  auto& fs = static_cast<FileSystemImpl&>(f);
  look_at(fs, bucket, m);
  return fs.writer().read([&](Tx& tx) -> Result<std::vector<Version>> {
    INDRA_LET(const Seen s, seen(fs, tx, bucket, m));
    INDRA_LET(const At at, walk(fs, tx, s, path));
    if (!S_ISREG(at.row.mode))
      return fail(S_ISDIR(at.row.mode) ? EISDIR : EINVAL,
                  std::string{path} + " is no file; only files have versions");
    return line_versions(tx, s.chain, at.parent, at.name);
  });
}

}  // namespace indra
