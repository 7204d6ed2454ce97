// A View is a branch, or a moment of one, as one front end sees it: the filesystem as an API in node ids.
// FUSE, SFTP, the CLI and the web page all work on Views and hold no rules of their own.
//
// Shapes:   a name is 1..255 bytes without '/' and NUL, any bytes else; "." and ".." never reach a View.
// Units:    sizes and offsets are bytes; times are nanoseconds since 1970.
// Threads:  every member may be called from any thread, without outside locking.
// Durable:  after fsync(), sync(), or at the latest 5 s later (docs/durability.md).
// Errors:   errno codes as POSIX names them for the call of that name, and EIO for damage, EROFS for a
//           view that cannot be written. An error leaves everything as it was.
// Source:   docs/design/fs.md.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/strong.h"
#include "base/time.h"
#include "tree/deed.h"

namespace indra {

/// Who asks. Permission bits are checked by the kernel (default_permissions); a View uses this for
/// ownership of new nodes, setgid rules and the change feed.
struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;  ///< 0 = the daemon itself
};

struct Attr {
  NodeId node;
  std::uint32_t mode = 0;  ///< type and permission bits, as st_mode
  std::uint32_t nlink = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::uint64_t size = 0;
  std::uint64_t blocks = 0;  ///< in 512 bytes
  std::uint64_t rdev = 0;
  TimeNs atime = 0, mtime = 0, ctime = 0, btime = 0;
};

/// Absent members stay as they are.
struct SetAttr {
  std::optional<std::uint32_t> mode;  ///< permission bits only
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::optional<std::uint64_t> size;
  std::optional<TimeNs> atime, mtime, ctime;
  bool kill_suid_sgid = false;  ///< clear setuid, and setgid where group-executable
};

/// An open file or directory. Given by open(), create(), opendir(); ended by release(), releasedir().
using Handle = std::uint64_t;

struct Opened {
  Attr attr;
  Handle handle = 0;
};

struct DirEntry {
  std::string_view name;  ///< valid during the callback
  NodeId node;
  std::uint32_t mode = 0;      ///< type bits at least
  std::uint64_t cookie = 0;    ///< 63 bits; passing it to readdir() continues after this entry
  const Attr* attr = nullptr;  ///< with readdir(plus)
};
/// Returns false when the entry did not fit; it is then not consumed.
using DirSink = std::function<bool(const DirEntry&)>;

struct FsStat {
  std::uint64_t block_size = 4096, blocks = 0, free = 0, available = 0, files = 0, files_free = 0;
};

/// A change that did not come through the front end that is told of it.
struct Change {
  enum Kind {
    attributes,  ///< of `node`
    data,        ///< content and attributes of `node`
    entry,  ///< (parent, name) now means something else, or nothing; `node` = what it meant, 0 if nothing
  } kind;
  NodeId node, parent;
  std::string name;
};

/// What a front end that caches must implement. Called after the change is visible, with no lock held,
/// in the thread that made it: it must only enqueue.
class FrontEnd {
 public:
  virtual ~FrontEnd() = default;
  virtual void changed(const Change&) = 0;
  /// Deeds upon names come in the order of their mutations, from inside them: it must only enqueue, and take
  /// nothing but leaves of the lock order. The front end's `own` come too, its own other deeds do not.
  virtual void did(const Deed&, bool /*own*/) {}
  [[nodiscard]] virtual std::string_view name()
      const = 0;  ///< "fuse", "cli", "sftp": goes into the change feed
};

class View {
 public:
  virtual ~View() = default;

  [[nodiscard]] virtual NodeId root() const = 0;
  [[nodiscard]] virtual bool writable() const = 0;
  /// True once somebody else can write here too: caches of written data must then be off.
  [[nodiscard]] virtual bool shared() const = 0;
  /// FileLocks::File::space of what this shows: the same for all views of one branch.
  [[nodiscard]] virtual std::uint64_t lock_space() const = 0;
  /// Its branch or snapshot was deleted or renamed since: what bears the name now is another one.
  [[nodiscard]] virtual bool stale() const { return false; }

  /// Success counts one reference on the node, as do create, mkdir, link and readdirplus entries; the front
  /// end gives them back with forget(). A referenced node stays answerable after its last name is gone.
  /// "." is `parent` itself, of any type, while it has a name; ".." the directory that this directory is in:
  /// so a node is found by its number, for file handles.
  [[nodiscard]] virtual Result<Attr> lookup(NodeId parent, std::string_view name) = 0;
  virtual void forget(NodeId node, std::uint64_t n) = 0;
  /// One more reference on a node, named or not. ENOENT when there is none any more.
  [[nodiscard]] virtual Result<Attr> refer(NodeId node) = 0;
  /// A directory in which the node has a name; 0 = none, or not known.
  [[nodiscard]] virtual Result<NodeId> parent_of(NodeId node) = 0;

  [[nodiscard]] virtual Result<Attr> getattr(NodeId node) = 0;
  [[nodiscard]] virtual Result<Attr> setattr(const Caller&, NodeId node, const SetAttr&) = 0;
  [[nodiscard]] virtual Result<std::string> readlink(NodeId node) = 0;

  /// `mode` has the umask applied. Any type but directory and symlink.
  [[nodiscard]] virtual Result<Attr> mknod(const Caller&, NodeId parent, std::string_view name,
                                           std::uint32_t mode, std::uint64_t rdev) = 0;
  [[nodiscard]] virtual Result<Attr> mkdir(const Caller&, NodeId parent, std::string_view name,
                                           std::uint32_t mode) = 0;
  [[nodiscard]] virtual Result<Attr> symlink(const Caller&, NodeId parent, std::string_view name,
                                             std::string_view target) = 0;
  [[nodiscard]] virtual Result<Attr> link(const Caller&, NodeId node, NodeId parent,
                                          std::string_view name) = 0;
  [[nodiscard]] virtual Result<void> unlink(const Caller&, NodeId parent, std::string_view name) = 0;
  [[nodiscard]] virtual Result<void> rmdir(const Caller&, NodeId parent, std::string_view name) = 0;
  /// `flags`: 0, RENAME_NOREPLACE or RENAME_EXCHANGE.
  [[nodiscard]] virtual Result<void> rename(const Caller&, NodeId from_parent, std::string_view from,
                                            NodeId to_parent, std::string_view to, unsigned flags) = 0;

  /// `flags` as open(2). O_TRUNC is honoured. Several handles of a node share one session.
  [[nodiscard]] virtual Result<Handle> open(const Caller&, NodeId node, int flags) = 0;
  /// Makes a regular file and opens it. EEXIST when the name is taken.
  [[nodiscard]] virtual Result<Opened> create(const Caller&, NodeId parent, std::string_view name,
                                              std::uint32_t mode, int flags) = 0;
  /// Makes a regular file without a name and opens it (O_TMPFILE); link() may give it one.
  [[nodiscard]] virtual Result<Opened> tmpfile(const Caller&, NodeId parent, std::uint32_t mode,
                                               int flags) = 0;
  [[nodiscard]] virtual Result<std::size_t> read(Handle, std::uint64_t at, MutableBytes out) = 0;
  /// All bytes or an error. A handle with O_APPEND writes at the end, unless `from_page_cache`.
  [[nodiscard]] virtual Result<void> write(const Caller&, Handle, std::uint64_t at, ByteView bytes,
                                           bool from_page_cache, bool kill_suid_sgid) = 0;
  /// One close(2) of a descriptor: publishes what was written. May come several times for one handle.
  [[nodiscard]] virtual Result<void> flush(const Caller&, Handle) = 0;
  virtual void release(Handle) = 0;
  [[nodiscard]] virtual Result<void> fsync(const Caller&, Handle, bool data_only) = 0;
  /// `mode` as fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE; EOPNOTSUPP else.
  [[nodiscard]] virtual Result<void> fallocate(const Caller&, Handle, int mode, std::uint64_t at,
                                               std::uint64_t n) = 0;
  [[nodiscard]] virtual Result<std::uint64_t> lseek(Handle, std::uint64_t at,
                                                    int whence) = 0;  ///< SEEK_DATA, SEEK_HOLE
  [[nodiscard]] virtual Result<std::uint64_t> copy_file_range(const Caller&, Handle from,
                                                              std::uint64_t from_at, Handle to,
                                                              std::uint64_t to_at, std::uint64_t n) = 0;

  [[nodiscard]] virtual Result<Handle> opendir(NodeId node) = 0;
  /// Up to 512 entries after `cookie` (0: the first; no "." and ".."), until the sink refuses; none: the end.
  [[nodiscard]] virtual Result<void> readdir(Handle, std::uint64_t cookie, bool plus, const DirSink&) = 0;
  virtual void releasedir(Handle) = 0;
  /// What was done in the directory (all of the vault, in fact) survives a power cut.
  [[nodiscard]] virtual Result<void> sync() = 0;

  [[nodiscard]] virtual Result<FsStat> statfs() = 0;

  /// `flags`: 0, XATTR_CREATE or XATTR_REPLACE.
  [[nodiscard]] virtual Result<void> setxattr(const Caller&, NodeId node, std::string_view name,
                                              ByteView value, int flags) = 0;
  [[nodiscard]] virtual Result<Bytes> getxattr(NodeId node,
                                               std::string_view name) = 0;  ///< ENODATA when absent
  [[nodiscard]] virtual Result<std::vector<std::string>> listxattr(NodeId node) = 0;
  [[nodiscard]] virtual Result<void> removexattr(const Caller&, NodeId node, std::string_view name) = 0;
};

/// What a View shows.
struct ViewSpec {
  std::string bucket = "main";
  std::string branch = "main";
  std::string snapshot{};    ///< a snapshot's name instead of the branch's head: read-only
  std::optional<Seq> seq{};  ///< the moment kept at or before this one instead: read-only
  bool read_only = false;
  /// A mount is live: every write is seen at once. Others see published versions, whole.
  bool live = true;
  bool operator==(const ViewSpec&) const = default;
};

class FileLocks;

/// Where a mount gets its views from.
class Views {
 public:
  virtual ~Views() = default;
  /// `front` is told of others' changes until the View is destroyed; it outlives the View. May be null.
  /// Errors: ENOENT (no such branch or snapshot).
  [[nodiscard]] virtual Result<std::shared_ptr<View>> open_view(const ViewSpec&, FrontEnd* front) = 0;
  /// The locks of all front ends together.
  [[nodiscard]] virtual FileLocks& locks() = 0;
  [[nodiscard]] virtual std::vector<std::string> branch_names(std::string_view bucket) = 0;
  [[nodiscard]] virtual std::vector<std::string> snapshot_names(std::string_view bucket) = 0;
};

}  // namespace indra
