// The schema is the documentation: this text is what `sqlite3 vault.db .schema` shows.
#include "blob/collecting.h"

namespace indra {

const Migration kBlobSchema{"blob: blobs, pages, patches, segments, dead content", R"sql(
-- Numbers the store keeps. 'ids': blob, owner and page numbers up to this one may have been used; 'clean': 1 after
-- an orderly close, 0 while the vault is open.
CREATE TABLE content_state(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- Byte strings. A blob that may share chunks with others is in their family (C10).
CREATE TABLE blobs(
  id      INTEGER PRIMARY KEY,        -- BlobId; never reused
  bucket  INTEGER NOT NULL,
  family  INTEGER,                    -- blobs of one family may share chunks and pages; NULL: the family `id`
  owner   INTEGER,                    -- chunks and pages born under this number are this blob's alone; NULL: `id`
  refs    INTEGER NOT NULL,           -- node rows that name it; 0 = collected once nobody reads it
  size    INTEGER NOT NULL,           -- bytes
  stored  INTEGER,                    -- bytes that are not holes; NULL: all
  hash    BLOB,                       -- BLAKE3-256, 32 bytes; NULL: not known yet
  twin    INTEGER NOT NULL DEFAULT 0, -- 1: another blob of the bucket has this hash; its bytes were not compared
  form    INTEGER NOT NULL,           -- 0: `data` is the content; 1: `data` is the root page of its manifest
  data    BLOB NOT NULL               -- see form
);
CREATE UNIQUE INDEX blobs_by_hash ON blobs(bucket, hash) WHERE hash IS NOT NULL AND twin = 0;
CREATE INDEX blobs_by_family ON blobs(family) WHERE family IS NOT NULL;
CREATE INDEX blobs_unreferenced ON blobs(id) WHERE refs = 0;

-- Manifest pages below the root: 64 entries each (docs/formats/manifest-v1.md).
CREATE TABLE pages(
  id    INTEGER PRIMARY KEY,
  data  BLOB NOT NULL                 -- encoded entries
);

-- 4 KiB blocks of a blob, newer than the chunk under them, until they are folded into it (C20).
CREATE TABLE patches(
  blob    INTEGER NOT NULL,
  block   INTEGER NOT NULL,           -- offset / 4096
  seal    INTEGER NOT NULL,           -- first 8 bytes of the BLAKE3 of `data`
  data    BLOB NOT NULL,              -- 4096 bytes, fewer at the end of the file
  PRIMARY KEY(blob, block)
) WITHOUT ROWID;

-- Segment files: where the referred bytes end, and how many of them live.
CREATE TABLE segments(
  id    INTEGER PRIMARY KEY,
  end   INTEGER NOT NULL,             -- bytes; what lies behind is left over from a crash
  live  INTEGER NOT NULL              -- bytes that blobs refer to, in whole blocks from 4 KiB on
);

-- Runs of segment bytes that no blob refers to any more: punched after the next barrier (C30).
CREATE TABLE dead_extents(
  segment INTEGER NOT NULL,
  offset  INTEGER NOT NULL,           -- bytes from the segment's start
  length  INTEGER NOT NULL,           -- bytes
  PRIMARY KEY(segment, offset)
) WITHOUT ROWID;

-- What a living blob let go that another one of its family may still use: judged when the family is swept (C31).
CREATE TABLE loose(
  family  INTEGER NOT NULL,
  segment INTEGER NOT NULL,           -- 0: `place` is a page
  place   INTEGER NOT NULL,           -- offset in the segment, or id of the page
  length  INTEGER NOT NULL,           -- bytes
  PRIMARY KEY(family, segment, place)
) WITHOUT ROWID;

-- Chunk bytes of a vault in a single file: instead of segments.
CREATE TABLE chunks(
  id    INTEGER PRIMARY KEY,
  data  BLOB NOT NULL                 -- the chunk's bytes
);

-- What is stored.
CREATE VIEW v_blobs AS
  SELECT id, bucket, refs, size, coalesce(stored, size) AS stored, lower(hex(hash)) AS hash,
         CASE form WHEN 0 THEN 'inline' ELSE 'chunks' END AS form,
         (SELECT count(*) FROM patches WHERE blob = blobs.id) AS patches
  FROM blobs;
)sql"};

const Migration kBlobSchema2{"blob: folds under way", R"sql(
-- A chunk that patches are being written into, in place: what its CV will be (its hash, in a blob of at most 64 KiB).
-- Durable before the first byte is overwritten, gone with the patches. While it is here, the bytes below the patches
-- are checked against it, and no patch is added to the chunk (C23).
CREATE TABLE folds(
  blob  INTEGER NOT NULL,
  chunk INTEGER NOT NULL,             -- index
  cv    BLOB NOT NULL,                -- 32 bytes
  PRIMARY KEY(blob, chunk)
) WITHOUT ROWID;
)sql"};

const Migration kBlobSchema3{"blob: patches in slots", R"sql(
-- Bytes of patches. A row that is free is written over by the next patch: that costs the row's own two pages, where
-- a row that comes and goes costs those of the list of free pages and of the tree besides (C42).
CREATE TABLE patch_slots(
  slot   INTEGER PRIMARY KEY,         -- number
  owner  TEXT NOT NULL,               -- blob and block in 16 hexadecimal digits each: whose bytes these are, or were
  seal   INTEGER NOT NULL,            -- first 8 bytes of the BLAKE3 of `data`
  data   BLOB NOT NULL                -- 4096 bytes, fewer at the end of the file
);

-- Where the patches are. A slot that no row names is free.
CREATE TABLE patch_places(
  blob   INTEGER NOT NULL,            -- of blobs
  block  INTEGER NOT NULL,            -- offset / 4096
  slot   INTEGER NOT NULL,            -- of patch_slots
  PRIMARY KEY(blob, block)
) WITHOUT ROWID;

INSERT INTO patch_slots(slot, owner, seal, data)
  SELECT row_number() OVER (ORDER BY blob, block), printf('%016x%016x', blob, block), seal, data FROM patches;
INSERT INTO patch_places(blob, block, slot)
  SELECT blob, block, row_number() OVER (ORDER BY blob, block) FROM patches;
DROP VIEW v_blobs;
DROP TABLE patches;

-- 4 KiB blocks of a blob, newer than the chunk under them, until they are folded into it (C20). What a place names
-- and its slot does not hold has no data: damage.
CREATE VIEW patches(blob, block, seal, data) AS
  SELECT p.blob, p.block, s.seal, s.data FROM patch_places p
    LEFT JOIN patch_slots s ON s.slot = p.slot AND s.owner = printf('%016x%016x', p.blob, p.block);
CREATE TRIGGER patches_insert INSTEAD OF INSERT ON patches BEGIN
  INSERT INTO patch_slots(owner, seal, data) VALUES(printf('%016x%016x', new.blob, new.block), new.seal, new.data);
  INSERT INTO patch_places(blob, block, slot) VALUES(new.blob, new.block, last_insert_rowid());
END;
CREATE TRIGGER patches_update INSTEAD OF UPDATE ON patches BEGIN
  UPDATE patch_slots SET seal = new.seal, data = new.data
    WHERE slot = (SELECT slot FROM patch_places WHERE blob = old.blob AND block = old.block);
END;
CREATE TRIGGER patches_delete INSTEAD OF DELETE ON patches BEGIN
  DELETE FROM patch_slots
    WHERE slot = (SELECT slot FROM patch_places WHERE blob = old.blob AND block = old.block)
      AND owner = printf('%016x%016x', old.blob, old.block);
  DELETE FROM patch_places WHERE blob = old.blob AND block = old.block;
END;

-- What is stored.
CREATE VIEW v_blobs AS
  SELECT id, bucket, refs, size, coalesce(stored, size) AS stored, lower(hex(hash)) AS hash,
         CASE form WHEN 0 THEN 'inline' ELSE 'chunks' END AS form,
         (SELECT count(*) FROM patch_places WHERE blob = blobs.id) AS patches
  FROM blobs;
)sql"};

const Migration kBlobSchema4{"blob: dead parts of blocks that small extents share", R"sql(
-- Bytes of packed segments that nobody refers to, in blocks that others still live in: a block is freed when all of it
-- is dead (C8). A row lies within one block. 'parts' in content_state: they were looked for once, in all manifests.
CREATE TABLE dead_parts(
  segment INTEGER NOT NULL,
  offset  INTEGER NOT NULL,           -- bytes from the segment's start
  length  INTEGER NOT NULL,           -- bytes
  PRIMARY KEY(segment, offset)
) WITHOUT ROWID;
)sql"};

}  // namespace indra
