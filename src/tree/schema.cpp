// The schema is the documentation: this text is what `sqlite3 vault.db .schema` shows.
#include "tree/tree.h"

namespace indra {

const Migration kTreeSchema{"tree: nodes, edges, xattrs, branches, pins, changes", R"sql(
-- Numbers that must never be given twice. `reserved` is durable before any number below it is used (T10).
CREATE TABLE counters(
  name     TEXT PRIMARY KEY,   -- 'seq' or 'node'
  reserved INTEGER NOT NULL,   -- numbers up to this one may have been used
  clean    INTEGER NOT NULL    -- 1: the vault was closed in order and `reserved` is the last number used
) WITHOUT ROWID;

-- What this vault is. 'vault_id' (32 random bytes, hex), 'created' (ns), 'changes_removed': changes up to this seq are no longer kept.
CREATE TABLE properties(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Tenants. Everything of one is invisible in another.
CREATE TABLE buckets(
  id      INTEGER PRIMARY KEY, -- 1 = main
  name    TEXT NOT NULL UNIQUE,
  created INTEGER NOT NULL     -- ns since 1970
);

-- Writable lines of a bucket's tree. What a branch lacks it takes from `parent` as of `fork_seq`, and so on up (T1, T2).
CREATE TABLE branches(
  id       INTEGER PRIMARY KEY,
  bucket   INTEGER NOT NULL REFERENCES buckets(id),
  name     TEXT NOT NULL,
  parent   INTEGER,            -- branch it was forked from; NULL for a bucket's first
  fork_seq INTEGER NOT NULL DEFAULT 0,
  root     INTEGER NOT NULL,   -- node of its root directory
  created  INTEGER NOT NULL,   -- ns
  follow   INTEGER NOT NULL DEFAULT 0,  -- 1: shows its parent's later changes too
  protect  INTEGER NOT NULL DEFAULT 0,  -- 1: read-only but for merges
  hidden   INTEGER NOT NULL DEFAULT 0   -- 1: deleted, kept because others fork from it
);
CREATE UNIQUE INDEX branches_by_name ON branches(bucket, name) WHERE hidden = 0;

-- Moments that must stay readable (T4).
CREATE TABLE pins(
  id      INTEGER PRIMARY KEY,
  branch  INTEGER NOT NULL,
  seq     INTEGER NOT NULL,    -- rows with seq <= this are what the moment shows
  kind    INTEGER NOT NULL,    -- 0 snapshot, 1 fork, 2 merge base, 3 automatic; 4 given up: its past rows are being removed (T9)
  name    TEXT,                -- snapshots
  message TEXT,
  time    INTEGER NOT NULL     -- ns
);
CREATE INDEX pins_by_branch ON pins(branch, seq);
CREATE INDEX pins_automatic ON pins(branch, time) WHERE kind = 3;
CREATE INDEX pins_given_up ON pins(branch, seq) WHERE kind = 4;
CREATE UNIQUE INDEX snapshots_by_name ON pins(name, branch) WHERE kind = 0;

-- Nodes as they are now, one row for each branch that has its own.
CREATE TABLE nodes(
  node    INTEGER NOT NULL,    -- NodeId
  branch  INTEGER NOT NULL,
  seq     INTEGER NOT NULL,    -- the mutation that made this row
  mode    INTEGER NOT NULL,    -- type and permission bits; 0 = the node is gone in this branch
  nlink   INTEGER NOT NULL,    -- 0 = an orphan: open or referred to, without a name
  uid     INTEGER NOT NULL,
  gid     INTEGER NOT NULL,
  size    INTEGER NOT NULL,    -- bytes
  stored  INTEGER,             -- bytes that are not holes; NULL: all
  blob    INTEGER,             -- content of a regular file; NULL = empty
  mtime   INTEGER NOT NULL,    -- ns since 1970
  atime_d INTEGER NOT NULL,    -- atime - mtime
  ctime_d INTEGER NOT NULL,    -- ctime - mtime
  btime_d INTEGER NOT NULL,    -- btime - mtime
  parent  INTEGER,             -- the directory it is in; of several names of a file that of one, NULL = nobody knows which
  line    INTEGER,             -- number of the line, mostly its first node's; NULL = this one's
  flags   INTEGER NOT NULL,    -- 1 no automatic versions, 2 may have xattrs
  rdev    INTEGER,             -- devices
  target  BLOB,                -- symlinks
  PRIMARY KEY(node, branch)
) WITHOUT ROWID;
CREATE INDEX nodes_of_forks ON nodes(branch, node) WHERE branch <> 1;
CREATE INDEX orphans ON nodes(node, branch) WHERE nlink = 0 AND mode <> 0;

-- Rows that a pin needs, as they were from `seq` until `until` (exclusive).
CREATE TABLE nodes_past(
  node INTEGER NOT NULL, branch INTEGER NOT NULL, seq INTEGER NOT NULL, until INTEGER NOT NULL,
  mode INTEGER NOT NULL, nlink INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, size INTEGER NOT NULL,
  stored INTEGER, blob INTEGER, mtime INTEGER NOT NULL, atime_d INTEGER NOT NULL, ctime_d INTEGER NOT NULL,
  btime_d INTEGER NOT NULL, parent INTEGER, line INTEGER, flags INTEGER NOT NULL, rdev INTEGER, target BLOB,
  PRIMARY KEY(node, branch, seq)
) WITHOUT ROWID;
CREATE INDEX nodes_past_by_until ON nodes_past(branch, until);

-- Directory entries as they are now. `cookie` orders a directory's entries: a keyed 63-bit hash of the name, so that
-- listing is stable while others change the directory, and survives everything.
CREATE TABLE edges(
  parent INTEGER NOT NULL,
  cookie INTEGER NOT NULL,
  name   BLOB NOT NULL,        -- 1..255 bytes, any but '/' and NUL
  branch INTEGER NOT NULL,
  seq    INTEGER NOT NULL,
  node   INTEGER,              -- NULL = tombstone: the name is gone in this branch
  type   INTEGER NOT NULL,     -- type bits of the node's mode, shifted right by 12
  PRIMARY KEY(parent, cookie, name, branch)
) WITHOUT ROWID;
CREATE INDEX edges_of_forks ON edges(branch, parent, cookie, name) WHERE branch <> 1;

CREATE TABLE edges_past(
  parent INTEGER NOT NULL, cookie INTEGER NOT NULL, name BLOB NOT NULL, branch INTEGER NOT NULL,
  seq INTEGER NOT NULL, until INTEGER NOT NULL, node INTEGER, type INTEGER NOT NULL,
  PRIMARY KEY(parent, cookie, name, branch, seq)
) WITHOUT ROWID;
CREATE INDEX edges_past_by_until ON edges_past(branch, until);

-- Extended attributes as they are now.
CREATE TABLE xattrs(
  node   INTEGER NOT NULL,
  name   BLOB NOT NULL,        -- with its namespace: user.colour
  branch INTEGER NOT NULL,
  seq    INTEGER NOT NULL,
  value  BLOB,                 -- NULL = tombstone
  PRIMARY KEY(node, name, branch)
) WITHOUT ROWID;
CREATE INDEX xattrs_of_forks ON xattrs(branch, node, name) WHERE branch <> 1;
CREATE TABLE xattrs_past(
  node INTEGER NOT NULL, name BLOB NOT NULL, branch INTEGER NOT NULL, seq INTEGER NOT NULL, until INTEGER NOT NULL, value BLOB,
  PRIMARY KEY(node, name, branch, seq)
) WITHOUT ROWID;
CREATE INDEX xattrs_past_by_until ON xattrs_past(branch, until);

-- Who made changes: one row for each different (uid, program, front end, pid).
CREATE TABLE actors(
  id INTEGER PRIMARY KEY, uid INTEGER NOT NULL, pid INTEGER NOT NULL, program TEXT NOT NULL, front_end TEXT NOT NULL
);

-- The audit log and the feed that watchers resume from: one row for each mutation, in its own transaction.
CREATE TABLE changes(
  seq    INTEGER PRIMARY KEY,
  branch INTEGER NOT NULL,
  op     INTEGER NOT NULL,     -- see v_changes
  node   INTEGER,
  parent INTEGER,              -- the directory concerned: of the name, or where the node was
  name   BLOB,                 -- the name concerned, where there is one; xattr: the attribute's
  time   INTEGER NOT NULL,     -- ms since 1970
  actor  INTEGER NOT NULL,
  extra  BLOB                  -- rename, exchange: old parent, the other node (8 bytes each, little-endian; 0 = none), old name; write: blob id
);

CREATE VIEW v_changes AS SELECT seq, b.name AS branch,
  CASE op WHEN 1 THEN 'create' WHEN 2 THEN 'mkdir' WHEN 3 THEN 'symlink' WHEN 4 THEN 'link' WHEN 5 THEN 'unlink'
    WHEN 6 THEN 'rmdir' WHEN 7 THEN 'rename' WHEN 8 THEN 'write' WHEN 9 THEN 'attributes' WHEN 10 THEN 'xattr'
    WHEN 11 THEN 'exchange' WHEN 12 THEN 'branch' WHEN 13 THEN 'snapshot' WHEN 14 THEN 'epoch' ELSE op END AS op,
  node, c.parent, CAST(c.name AS TEXT) AS name, datetime(time / 1000, 'unixepoch') AS time, a.uid, a.pid, a.program, a.front_end
  FROM changes c JOIN branches b ON b.id = c.branch LEFT JOIN actors a ON a.id = c.actor;

CREATE VIEW v_branches AS SELECT u.name AS bucket, b.name, p.name AS parent, b.fork_seq,
  datetime(b.created / 1000000000, 'unixepoch') AS created FROM branches b JOIN buckets u ON u.id = b.bucket
  LEFT JOIN branches p ON p.id = b.parent WHERE b.hidden = 0;

-- The tree of branch main, as paths.
CREATE VIEW v_tree AS WITH RECURSIVE t(node, path) AS (
    SELECT root, '' FROM branches WHERE id = 1
    UNION ALL SELECT e.node, t.path || '/' || CAST(e.name AS TEXT) FROM t JOIN edges e ON e.parent = t.node AND e.branch = 1 WHERE e.node IS NOT NULL)
  SELECT CASE path WHEN '' THEN '/' ELSE path END AS path, n.node, n.mode, n.nlink, n.uid, n.gid, n.size, n.blob,
    datetime(n.mtime / 1000000000, 'unixepoch') AS mtime FROM t JOIN nodes n ON n.node = t.node AND n.branch = 1;

-- Every version of a node that is still there.
CREATE VIEW v_history AS
  SELECT node, branch, seq, NULL AS until, mode, size, blob, mtime FROM nodes UNION ALL
  SELECT node, branch, seq, until, mode, size, blob, mtime FROM nodes_past;
)sql"};

const Migration kTreeSchema2{"tree: merges; changes of branches by name", R"sql(
-- Which moments of one branch another has taken in: where the next merge of the two starts from (docs/branches.md).
CREATE TABLE merges(
  target     INTEGER NOT NULL,  -- branch that took them in
  seq        INTEGER NOT NULL,  -- its moment just after
  source     INTEGER NOT NULL,  -- branch they came from
  source_seq INTEGER NOT NULL,  -- its moment: pinned until the next merge of the same two
  PRIMARY KEY(target, seq, source)
) WITHOUT ROWID;

DROP VIEW v_changes;
CREATE VIEW v_changes AS SELECT seq, b.name AS branch,
  CASE op WHEN 1 THEN 'create' WHEN 2 THEN 'mkdir' WHEN 3 THEN 'symlink' WHEN 4 THEN 'link' WHEN 5 THEN 'unlink'
    WHEN 6 THEN 'rmdir' WHEN 7 THEN 'rename' WHEN 8 THEN 'write' WHEN 9 THEN 'attributes' WHEN 10 THEN 'xattr'
    WHEN 11 THEN 'exchange' WHEN 12 THEN 'branch' WHEN 13 THEN 'snapshot' WHEN 14 THEN 'epoch'
    WHEN 15 THEN 'branch_delete' WHEN 16 THEN 'branch_rename' WHEN 17 THEN 'snapshot_delete' WHEN 18 THEN 'merge'
    ELSE op END AS op,
  node, c.parent, CAST(c.name AS TEXT) AS name, datetime(time / 1000, 'unixepoch') AS time, a.uid, a.pid, a.program, a.front_end
  FROM changes c JOIN branches b ON b.id = c.branch LEFT JOIN actors a ON a.id = c.actor;
)sql"};

const Migration kTreeSchema3{"tree: what followers keep of their own", R"sql(
-- Where a branch that follows its parent left its own standing against a change of the parent (docs/branches.md, O4), and
-- what has come of it into other branches.
CREATE TABLE kept(
  branch     INTEGER NOT NULL,  -- the follower, or one that has merged it
  node       INTEGER NOT NULL,  -- as the parent has it
  seq        INTEGER NOT NULL,  -- the branch's moment just after
  source     INTEGER NOT NULL,  -- the parent
  source_seq INTEGER NOT NULL,  -- its moment
  origin     INTEGER NOT NULL,  -- the follower that decided so
  origin_seq INTEGER NOT NULL,  -- its moment just after
  what       INTEGER NOT NULL,  -- bits: 1 content, 2 place, 4 mode, 8 owner, 16 attributes, 32 the follower deleted it,
                                -- 64 it never showed there
  PRIMARY KEY(branch, node, seq, source)
) WITHOUT ROWID;
CREATE INDEX kept_by_source ON kept(source);
CREATE INDEX merges_by_source ON merges(source, source_seq);
)sql"};

}  // namespace indra
