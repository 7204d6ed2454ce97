// Files that take a place whole or not at all: put, import, SFTP, merge (S7).
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "fs/internal/fs_impl.h"

namespace indra {

class IncomingFile final : public FileSystem::Incoming {
 public:
  IncomingFile(FileSystemImpl& fs, ViewImpl& view, NodeId parent, std::string name,
               std::unique_ptr<Content> content)
      : fs_{fs}, view_{view}, parent_{parent}, name_{std::move(name)}, content_{std::move(content)} {}

  Result<void> write(std::uint64_t at, ByteView bytes) override {
    if (at + bytes.size() > kMaxFileSize) return fail(EFBIG);
    INDRA_TRY(fs_.space().need(bytes.size()));
    return content_->write(at, bytes);
  }
  Result<void> truncate(std::uint64_t size) override {
    if (size > kMaxFileSize) return fail(EFBIG);
    return content_->truncate(size);
  }
  void guard(std::string lock, std::int64_t token) override { guard_ = {std::move(lock), token}; }
  Result<Attr> commit(const Caller& c, const SetAttr& set) override;

 private:
  /// With the guard: a write transaction on coord.db in which the token is good, so that it stays good.
  [[nodiscard]] Result<std::unique_ptr<Coord>> hold_lock() const;
  FileSystemImpl& fs_;
  ViewImpl& view_;
  NodeId parent_;
  std::string name_;
  std::unique_ptr<Content> content_;
  std::optional<std::pair<std::string, std::int64_t>> guard_;
};

Result<std::unique_ptr<Coord>> IncomingFile::hold_lock() const {
  if (!guard_) return nullptr;
  Coord::Options o;
  o.create = false;
  INDRA_LET(auto coord, Coord::open(fs_.dir() + "/coord.db", o));
  INDRA_TRY(coord->execute("BEGIN IMMEDIATE"));  // ends with the connection
  INDRA_TRY(coord->call("indra_lock_check", {guard_->first, guard_->second}));
  return coord;
}

Result<Attr> IncomingFile::commit(const Caller& c, const SetAttr& set) {
  const Chain& chain = view_.chain();
  const Who who = view_.who(c);
  INDRA_TRY(fs_.publish_before_replacing(view_.branch(), chain, parent_, name_));
  INDRA_LET(auto staged, content_->stage(Content::For::publish));
  INDRA_LET(const auto locked, hold_lock());
  INDRA_LET(const Tree::Renamed placed, fs_.writer().mutate_content([&](Tx& tx) -> Result<Tree::Renamed> {
    INDRA_LET(const auto old, fs_.tree().lookup_node(tx, chain, parent_, name_));
    if (old && S_ISDIR(old->mode)) return fail(EISDIR);
    INDRA_LET(const NodeRow dir, fs_.tree().node(tx, chain, parent_));
    NodeRow init;
    init.mode = S_IFREG | (set.mode ? *set.mode & 07777 : old ? old->mode & 07777 : 0644);
    init.uid = set.uid ? *set.uid : old ? old->uid : c.uid;
    init.gid = set.gid ? *set.gid : old ? old->gid : (dir.mode & S_ISGID) != 0 ? dir.gid : c.gid;
    const TimeNs now = fs_.now();
    init.mtime = set.mtime.value_or(now);
    init.atime = set.atime.value_or(now);
    init.ctime = init.btime = now;
    INDRA_LET(const BlobInfo info, staged->apply(tx, false));
    init.blob = info.id;
    init.size = info.size;
    if (info.stored != info.size) init.stored = info.stored;
    Seq pinned;
    if (old) {
      INDRA_LET(pinned, fs_.pin_before_replacing(tx, chain, *old));
    }
    auto r = fs_.tree().place(tx, who, chain, parent_, name_, init);
    if (r && r->replaced) fs_.was_replaced(view_.branch(), *r->replaced, pinned);
    if (r)
      fs_.did(view_.branch(), &view_,
              {.kind = old ? Deed::moved : Deed::made,
               .node = r->moved.node,
               .type = S_IFREG,
               .to = {parent_, name_},
               .other = r->replaced ? r->replaced->node : NodeId{},
               .other_type = r->replaced ? r->replaced->mode & S_IFMT : 0});
    return r;
  }));
  const NodeRow& row = placed.moved;
  const std::optional<NodeRow>& replaced = placed.replaced;
  staged->accept();
  fs_.poke();
  if (replaced) fs_.released(view_.branch(), replaced->node);
  fs_.notify(view_.branch(), &view_, Change::entry, replaced ? replaced->node : NodeId{}, parent_, name_);
  fs_.notify(view_.branch(), &view_, Change::attributes, parent_);
  if (replaced)
    fs_.notify(view_.branch(), &view_, Change::attributes, replaced->node);
  else
    fs_.did(view_.branch(), &view_, {.kind = Deed::closed, .node = row.node, .type = S_IFREG});
  Attr a;
  a.node = row.node;
  a.mode = row.mode;
  a.nlink = row.nlink;
  a.uid = row.uid;
  a.gid = row.gid;
  a.size = row.size;
  a.blocks = (row.stored.value_or(row.size) + 4095) / 4096 * 8;
  a.mtime = row.mtime;
  a.atime = row.atime;
  a.ctime = row.ctime;
  a.btime = row.btime;
  return a;
}

Result<std::unique_ptr<FileSystem::Incoming>> FileSystemImpl::incoming(View& view, NodeId parent,
                                                                       std::string_view name) {
  auto& v = static_cast<ViewImpl&>(view);
  if (!v.writable()) return fail(EROFS);
  if (writer_->failed()) return fail(make_error_code(Errc::failed));
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string_view::npos)
    return fail(EINVAL, "name " + std::string{name});
  if (name.size() > 255) return fail(ENAMETOOLONG);
  INDRA_TRY(space_.need(4096));
  INDRA_LET(auto content, store_->open_content(v.state().info.bucket, BlobId{}));
  return std::make_unique<IncomingFile>(*this, v, parent, std::string{name}, std::move(content));
}

}  // namespace indra
