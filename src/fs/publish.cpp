// Sessions become rows: published with an event, persisted privately, or made durable by fsync.
#include <sys/stat.h>

#include "fs/internal/fs_impl.h"

namespace indra {

const Migration kSessionSchema{"fs: sessions", R"sql(
-- Bytes of files being written that are persisted but not published (S5). After a crash they are published as they are.
CREATE TABLE sessions(
  branch INTEGER NOT NULL,
  node   INTEGER NOT NULL,
  blob   INTEGER NOT NULL,    -- holds one reference
  mtime  INTEGER NOT NULL,    -- ns since 1970
  ctime  INTEGER NOT NULL,
  PRIMARY KEY(branch, node)
) WITHOUT ROWID;
)sql"};

namespace {
constexpr TimeNs kPublishGap =
    kSecond;  // a file that is fsynced all the time has one event in this long (S6)

Result<BlobId> put_session_row(Tx& tx, SessionKey key, BlobId blob, TimeNs mtime, TimeNs ctime) {
  Statement q{tx,
              "INSERT INTO sessions(branch, node, blob, mtime, ctime) VALUES(?1, ?2, ?3, ?4, ?5) "
              "ON CONFLICT(branch, node) DO UPDATE SET blob = ?3, mtime = ?4, ctime = ?5"};
  INDRA_TRY(q.bind(1, key.branch).bind(2, key.node).bind(3, blob).bind(4, mtime).bind(5, ctime).run());
  return blob;
}
}  // namespace

Result<void> FileSystemImpl::ensure_content(Session& s) {
  if (s.content) return {};
  INDRA_LET(auto state, branch_state(s.key.branch));
  INDRA_LET(const NodeRow row,
            writer_->read([&](Tx& tx) { return tree_->node(tx, state->head, s.key.node); }));
  INDRA_LET(s.content, store_->open_content(state->info.bucket, row.blob));
  return {};
}

void FileSystemImpl::touched(Session& s, const Who* who, TimeNs now) {
  s.size = s.content->size();
  s.stored = s.content->stored();
  s.mtime = now;
  s.ctime = now;
  s.ahead = true;
  if (who != nullptr) s.who = *who;
  const TimeNs steady = clock_->steady();
  TimeNs none = 0;
  const bool first = s.dirty_since.compare_exchange_strong(none, steady);
  none = 0;
  s.unpublished_since.compare_exchange_strong(none, steady);
  if (first) poke();
}

// Decided inside the transaction: the node may have been replaced while the session waited for it.
Result<void> FileSystemImpl::put_content(Tx& tx, const BranchView& state, Session& s,
                                         Content::Staged& staged) {
  const bool in_private = s.private_blob.has_value();
  if (const Seq before{s.replaced_before.load()}; before != Seq{}) {  // S13
    INDRA_LET(const BlobInfo info, staged.apply(tx, in_private));
    INDRA_LET(const NodeRow row,
              tree_->set_replaced_content(tx, s.who, state.head, s.key.node, before, info, s.mtime, s.ctime));
  } else {
    INDRA_LET(const bool rewritable, tree_->rewritable(tx, state.head, s.key.node));
    INDRA_LET(const BlobInfo info, staged.apply(tx, in_private || rewritable));
    INDRA_LET(const NodeRow row,
              tree_->set_content(tx, s.who, state.head, s.key.node, info, s.mtime, s.ctime, true));
  }
  return forget_private(tx, s);
}

Result<void> FileSystemImpl::forget_private(Tx& tx, Session& s) {
  return s.private_blob ? forget_persisted(tx, s.key) : Result<void>{};
}

Result<void> FileSystemImpl::forget_persisted(Tx& tx, SessionKey key) {
  Statement q{tx, "DELETE FROM sessions WHERE branch = ?1 AND node = ?2 RETURNING blob"};
  INDRA_LET(const bool row, q.bind(1, key.branch).bind(2, key.node).step());
  return row ? store_->drop_ref(tx, q.id_at<BlobId>(0)) : Result<void>{};
}

Result<void> FileSystemImpl::publish(Session& s) {
  if (!s.ahead && !s.synced_unpublished) return {};
  const WriteLock lock{s.mutex};
  return publish_locked(s);
}

Result<void> FileSystemImpl::publish_locked(Session& s) {
  if (s.dead()) {
    s.dirty_since = 0;
    s.unpublished_since = 0;
    return {};
  }
  if (!s.ahead) return {};
  INDRA_TRY(ensure_content(s));
  INDRA_LET(auto state, branch_state(s.key.branch));
  INDRA_LET(auto staged, s.content->stage(Content::For::publish));
  INDRA_TRY(
      writer_->mutate_content([&](Tx& tx) INDRA_NO_ANALYSIS { return put_content(tx, *state, s, *staged); }));
  staged->accept();
  published(s);
  poke();
  return {};
}

/// Its bytes are in rows now, and have waited since they were written (D2).
void FileSystemImpl::clean(Session& s) {
  if (const TimeNs since = s.dirty_since.exchange(0); since != 0) writer_->owes(since);
}

void FileSystemImpl::published(Session& s) {
  s.private_blob = {};
  clean(s);
  s.unpublished_since = 0;
  s.synced_unpublished = false;
  s.published_at = clock_->steady();
  s.ahead = false;
}

Result<void> FileSystemImpl::fsync(Session& s, bool data_only) {
  {
    const WriteLock lock{s.mutex};
    if (s.ahead && !s.dead()) {
      const bool recent = s.published_at != 0 && clock_->steady() - s.published_at < kPublishGap;
      if (!recent || s.private_blob || s.replaced_before != 0) {
        // Published at once; small parts go through the WAL all the same.
        INDRA_TRY(ensure_content(s));
        INDRA_LET(auto state, branch_state(s.key.branch));
        INDRA_LET(auto staged, s.content->stage(Content::For::sync));
        const auto rows = [&](Tx& tx) INDRA_NO_ANALYSIS { return put_content(tx, *state, s, *staged); };
        INDRA_TRY(staged->needs_content_sync() ? writer_->mutate_content(rows) : writer_->mutate(rows));
        staged->accept();
        published(s);
      } else if (s.dirty_since != 0 || !data_only) {
        // Durable now, its event within the second (S6). When neither size nor blob changes only the bytes
        // are written: the row's times follow with the event, as fdatasync allows.
        INDRA_LET(auto state, branch_state(s.key.branch));
        INDRA_TRY(ensure_content(s));
        INDRA_LET(auto staged, s.content->stage(Content::For::sync));
        const auto rows = [&](Tx& tx) INDRA_NO_ANALYSIS -> Result<void> {
          if (s.replaced_before != 0) return put_content(tx, *state, s, *staged);
          INDRA_LET(const bool rewritable, tree_->rewritable(tx, state->head, s.key.node));
          INDRA_LET(const BlobInfo info, staged->apply(tx, rewritable));
          INDRA_LET(const NodeRow row, tree_->node(tx, state->head, s.key.node));
          if (data_only && row.blob == info.id && row.size == info.size) return {};
          INDRA_LET(const NodeRow after,
                    tree_->set_content(tx, s.who, state->head, s.key.node, info, s.mtime, s.ctime, false));
          return {};
        };
        INDRA_TRY(staged->needs_content_sync() ? writer_->mutate_content(rows) : writer_->mutate(rows));
        staged->accept();
        s.synced_unpublished = true;
      }
      s.dirty_since = 0;
      poke();
    }
  }
  return writer_->barrier();
}

Result<void> FileSystemImpl::publish_owed_event(Session& s) {
  const WriteLock lock{s.mutex};
  if (!s.synced_unpublished || s.dead()) return {};
  INDRA_LET(auto state, branch_state(s.key.branch));
  INDRA_TRY(writer_->mutate([&](Tx& tx) INDRA_NO_ANALYSIS -> Result<void> {
    INDRA_LET(const NodeRow row, tree_->node(tx, state->head, s.key.node));
    INDRA_LET(const BlobInfo info, store_->info(tx, row.blob));
    if (const Seq before{s.replaced_before.load()}; before != Seq{}) {
      INDRA_LET(const NodeRow after, tree_->set_replaced_content(tx, s.who, state->head, s.key.node, before,
                                                                 info, s.mtime, s.ctime));
      return {};
    }
    INDRA_LET(const NodeRow after,
              tree_->set_content(tx, s.who, state->head, s.key.node, info, s.mtime, s.ctime, true));
    return {};
  }));
  s.synced_unpublished = false;
  s.published_at = clock_->steady();
  if (s.dirty_since == 0) {
    s.ahead = false;
    s.unpublished_since = 0;
  }
  return {};
}

Result<void> FileSystemImpl::persist_privately(Session& s) {
  const WriteLock lock{s.mutex};
  if (s.replaced_before != 0) return publish_locked(s);  // its place in the line is all it has
  if (s.dirty_since == 0 || !s.ahead || s.unlinked || !s.content) return {};
  INDRA_LET(auto state, branch_state(s.key.branch));
  INDRA_LET(auto staged, s.content->stage(Content::For::sync));
  std::optional<BlobId> blob;
  INDRA_TRY(writer_->mutate_content([&](Tx& tx) INDRA_NO_ANALYSIS -> Result<void> {
    if (s.replaced_before != 0) return put_content(tx, *state, s, *staged);
    INDRA_LET(const BlobInfo info, staged->apply(tx, s.private_blob.has_value()));
    blob = info.id;
    if (blob != s.private_blob) {
      INDRA_TRY(store_->add_ref(tx, *blob));
      if (s.private_blob) INDRA_TRY(store_->drop_ref(tx, *s.private_blob));
    }
    INDRA_TRY(put_session_row(tx, s.key, *blob, s.mtime, s.ctime));
    return {};
  }));
  staged->accept();
  s.private_blob = blob;
  clean(s);
  return {};
}

// Whoever has the file open for writing may have written to it, and may go on doing so (S13).
Result<void> FileSystemImpl::publish_before_replacing(BranchId branch, const Chain& chain, NodeId parent,
                                                      std::string_view name) {
  INDRA_LET(const auto there, writer_->read([&](Tx& tx) { return tree_->lookup(tx, chain, parent, name); }));
  if (!there) return {};
  const auto s = sessions_.find({branch, there->node});
  return s ? publish(*s) : Result<void>{};
}

Result<Seq> FileSystemImpl::pin_before_replacing(Tx& tx, const Chain& chain, const NodeRow& old) {
  if (!S_ISREG(old.mode) || old.nlink > 1) return Seq{};
  const auto s = sessions_.find({chain.branch(), old.node});
  return s && s->writers != 0 ? tree_->pin_before(tx, chain) : Result<Seq>{Seq{}};
}

void FileSystemImpl::was_replaced(BranchId branch, const NodeRow& after, Seq pinned) {
  if (after.nlink != 0) return;
  orphaned(branch, after.node, !S_ISDIR(after.mode));
  if (const auto s = sessions_.find({branch, after.node})) {
    s->replaced_before = pinned.raw();
    s->unlinked = true;
  }
}

Result<void> FileSystemImpl::recover_sessions() {
  struct Row {
    SessionKey key;
    BlobId blob;
    TimeNs mtime, ctime;
  };
  std::vector<Row> rows;
  INDRA_TRY(writer_->read([&](Tx& tx) -> Result<void> {
    Statement q{tx, "SELECT branch, node, blob, mtime, ctime FROM sessions"};
    for (;;) {
      INDRA_LET(const bool more, q.step());
      if (!more) return {};
      rows.push_back(
          {{q.id_at<BranchId>(0), q.id_at<NodeId>(1)}, q.id_at<BlobId>(2), q.int64_at(3), q.int64_at(4)});
    }
  }));
  for (const Row& r : rows) {
    auto known = branch_state(r.key.branch);
    if (!known && known.error().code == std::errc::no_such_file_or_directory) {  // the branch was deleted
      INDRA_TRY(writer_->mutate([&](Tx& tx) { return forget_persisted(tx, r.key); }));
      continue;
    }
    INDRA_LET(auto state, std::move(known));
    INDRA_TRY(writer_->mutate([&](Tx& tx) INDRA_NO_ANALYSIS -> Result<void> {
      const auto node = tree_->node(tx, state->head, r.key.node);
      if (node) {
        INDRA_LET(const BlobInfo info, store_->info(tx, r.blob));
        INDRA_LET(const NodeRow after,
                  tree_->set_content(tx, Who{0, 0, "recovery", "daemon"}, state->head.merging(), r.key.node,
                                     info, r.mtime, r.ctime, true));
      } else if (node.error().code != std::errc::no_such_file_or_directory) {
        return fail(node.error());
      }
      return forget_persisted(tx, r.key);
    }));
  }
  return {};
}

}  // namespace indra
