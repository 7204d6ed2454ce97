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
    INDRA_LET(Chain c, tree.chain_at(tx, info.parent, info.fork_seq));
    return Seen{std::move(c), info.root, info.bucket};
  }
  if (m.seq) {
    INDRA_LET(Chain c, tree.chain_at(tx, info.id, *m.seq));
    return Seen{std::move(c), info.root, info.bucket};
  }
  INDRA_LET(Chain c, tree.chain(tx, info.id));
  return Seen{std::move(c), info.root, info.bucket};
}

}  // namespace

Result<std::vector<DiffEntry>> diff_moments(FileSystem& f, std::string_view bucket, const Moment& a,
                                            const Moment& b) {
  auto& fs = static_cast<FileSystemImpl&>(f);
  return fs.writer().read([&](Tx& tx) -> Result<std::vector<DiffEntry>> {
    INDRA_LET(const Seen x, seen(fs, tx, bucket, a));
    INDRA_LET(const Seen y, seen(fs, tx, bucket, b));
    INDRA_LET(auto all, diff_views(tx, x.chain, y.chain, x.root));
    for (DiffEntry& e : all) {
      if (!e.content || !e.a || !e.b || e.a->row.size != e.b->row.size || !e.a->row.blob || !e.b->row.blob)
        continue;
      INDRA_LET(const BlobInfo p, fs.store().info(tx, e.a->row.blob));
      INDRA_LET(const BlobInfo q, fs.store().info(tx, e.b->row.blob));
      if (p.hash && q.hash && *p.hash == *q.hash) e.content = false;
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
  return fs.writer().read([&](Tx& tx) -> Result<std::vector<Version>> {
    INDRA_LET(const Seen s, seen(fs, tx, bucket, m));
    NodeId dir = s.root;
    std::string_view rest = path;
    while (rest.starts_with('/')) rest.remove_prefix(1);
    while (rest.ends_with('/')) rest.remove_suffix(1);
    for (;;) {
      const std::size_t slash = rest.find('/');
      const std::string_view name = rest.substr(0, slash);
      INDRA_LET(const auto row, fs.tree().lookup_node(tx, s.chain, dir, name));
      if (!row) return fail(ENOENT, std::string{path});
      if (slash == rest.npos) {
        if (!S_ISREG(row->mode)) return fail(S_ISDIR(row->mode) ? EISDIR : EINVAL, std::string{path});
        return line_versions(tx, s.chain, dir, name);
      }
      dir = row->node;
      rest.remove_prefix(slash + 1);
    }
  });
}

}  // namespace indra
