// The schema of coord.db: what `sqlite3 coord.db .schema` shows.
#include "events/internal/coord_state.h"

namespace indra::coord {

const char* const kSchema = R"sql(
-- Tables and functions named indra_* are ours; any other name is free for programs that work here.
-- Times are milliseconds since 1970. Write through the functions: they knock, and keep the figures right.
CREATE TABLE indra_meta(
  name  TEXT PRIMARY KEY,      -- 'version' of this schema; 'fence': the last fencing token; 'relayed': changes up to this seq were put through the rules
  value INTEGER NOT NULL       -- see name
) WITHOUT ROWID;

-- Messages to whoever listens now (E20). Kept for a while, for those who are only a little behind.
CREATE TABLE indra_notifications(
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  channel TEXT NOT NULL,       -- listeners name it
  payload,                     -- text or blob; NULL: none
  created INTEGER NOT NULL     -- when
);
CREATE INDEX indra_notifications_by_channel ON indra_notifications(channel, id);

-- Durable streams: each event once, in order; consumers keep their place (E21).
CREATE TABLE indra_streams(
  topic   TEXT PRIMARY KEY,    -- its name
  trimmed INTEGER NOT NULL     -- events up to this offset have been removed
) WITHOUT ROWID;
-- What was published.
CREATE TABLE indra_events(
  offset  INTEGER PRIMARY KEY AUTOINCREMENT, -- grows; one count for all topics
  topic   TEXT NOT NULL,       -- indra_streams
  key     TEXT,                -- what it is about, if the publisher says so
  payload,                     -- text or blob
  created INTEGER NOT NULL     -- when
);
CREATE INDEX indra_events_by_topic ON indra_events(topic, offset);
-- How far those who read them have come.
CREATE TABLE indra_consumers(
  topic    TEXT NOT NULL,      -- indra_streams
  consumer TEXT NOT NULL,      -- its name
  offset   INTEGER NOT NULL,   -- dealt with up to here; never goes back
  updated  INTEGER NOT NULL,   -- when
  PRIMARY KEY(topic, consumer)
) WITHOUT ROWID;

-- Queues: what their jobs get where they say nothing themselves, and their figures.
CREATE TABLE indra_queues(
  queue        TEXT PRIMARY KEY, -- its name
  max_attempts INTEGER NOT NULL, -- claims of a job before it is dead
  visibility   INTEGER NOT NULL, -- ms that a claim lasts
  backoff      INTEGER NOT NULL, -- ms before the second attempt; doubles for each further one
  backoff_max  INTEGER NOT NULL, -- ms, the longest
  priority     INTEGER NOT NULL, -- higher goes first
  expires      INTEGER,          -- ms after which a job that nobody claimed is dead; NULL: never
  paused       INTEGER NOT NULL DEFAULT 0, -- 1: nothing is claimed
  created      INTEGER NOT NULL, -- when
  enqueued     INTEGER NOT NULL DEFAULT 0, -- jobs put in so far
  done         INTEGER NOT NULL DEFAULT 0, -- acknowledged
  retried      INTEGER NOT NULL DEFAULT 0, -- given back, or their claim ended
  died         INTEGER NOT NULL DEFAULT 0, -- became dead letters
  cancelled    INTEGER NOT NULL DEFAULT 0  -- taken out
) WITHOUT ROWID;
-- Jobs that are not finished.
CREATE TABLE indra_jobs(
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  queue        TEXT NOT NULL,    -- indra_queues
  state        INTEGER NOT NULL, -- 0 ready, 1 claimed, 2 delayed
  priority     INTEGER NOT NULL, -- higher goes first
  run_at       INTEGER NOT NULL, -- not before
  payload,                       -- text or blob
  key          TEXT,             -- at most one unfinished job of a queue has it
  attempts     INTEGER NOT NULL, -- claims so far
  max_attempts INTEGER NOT NULL, -- then it is dead
  worker       TEXT,             -- who claimed it
  claim_until  INTEGER,          -- until when
  expires_at   INTEGER,          -- dead if nobody claimed it by then
  created      INTEGER NOT NULL, -- when
  error        TEXT              -- of the last attempt
);
CREATE INDEX indra_jobs_ready ON indra_jobs(queue, priority DESC, run_at, id) WHERE state = 0;
CREATE INDEX indra_jobs_claimed ON indra_jobs(queue, claim_until) WHERE state = 1;
CREATE INDEX indra_jobs_delayed ON indra_jobs(queue, run_at) WHERE state = 2;
CREATE INDEX indra_jobs_expiring ON indra_jobs(queue, expires_at) WHERE expires_at IS NOT NULL AND state <> 1;
CREATE UNIQUE INDEX indra_jobs_by_key ON indra_jobs(queue, key) WHERE key IS NOT NULL;

-- Dead letters: jobs that failed too often, failed for good, or expired.
CREATE TABLE indra_dead(
  id       INTEGER PRIMARY KEY,
  queue    TEXT NOT NULL,        -- indra_queues
  priority INTEGER NOT NULL,     -- as it was
  payload,                       -- as it was
  key      TEXT,                 -- as it was
  attempts INTEGER NOT NULL,     -- claims it had
  max_attempts INTEGER NOT NULL, -- as it was
  worker   TEXT,                 -- the last one
  created  INTEGER NOT NULL,     -- when it was put in
  died     INTEGER NOT NULL,     -- when
  error    TEXT NOT NULL         -- why
);
CREATE INDEX indra_dead_by_queue ON indra_dead(queue, id);
-- What workers said when they acknowledged.
CREATE TABLE indra_results(
  job     INTEGER PRIMARY KEY,   -- its id
  queue   TEXT NOT NULL,         -- indra_queues
  value,                         -- what the worker said
  created INTEGER NOT NULL,      -- when
  expires INTEGER                -- NULL: never
);
CREATE INDEX indra_results_expiring ON indra_results(expires) WHERE expires IS NOT NULL;

-- Named locks that end by themselves. A released one has no row.
CREATE TABLE indra_locks(
  name    TEXT PRIMARY KEY,
  owner   TEXT NOT NULL,         -- as it called itself
  token   INTEGER NOT NULL,      -- grows with each grant: who guards something refuses lower ones
  taken   INTEGER NOT NULL,      -- when
  expires INTEGER NOT NULL       -- when it ends unless renewed
) WITHOUT ROWID;

-- Rate limits: a count for the window that runs.
CREATE TABLE indra_rates(
  name    TEXT PRIMARY KEY,
  started INTEGER NOT NULL,      -- of the window
  per     INTEGER NOT NULL,      -- ms, its length
  count   INTEGER NOT NULL       -- taken in it
) WITHOUT ROWID;

-- Schedules put jobs into queues.
CREATE TABLE indra_schedules(
  name    TEXT PRIMARY KEY,
  queue   TEXT NOT NULL,         -- indra_queues
  expr    TEXT NOT NULL,         -- cron, five or six fields, @daily, @every 90s
  payload,                       -- of the jobs
  options TEXT NOT NULL,         -- of the jobs, as for indra_enqueue
  next_at INTEGER NOT NULL,      -- when it fires
  last_at INTEGER,               -- when it last did
  fired   INTEGER NOT NULL DEFAULT 0, -- how often so far
  missed  INTEGER NOT NULL DEFAULT 0, -- times left out because nobody was there for too long
  paused  INTEGER NOT NULL DEFAULT 0  -- 1: does not fire
) WITHOUT ROWID;
CREATE INDEX indra_schedules_next ON indra_schedules(next_at) WHERE paused = 0;

-- Rules put a job into a queue for each change of the vault that fits (E30).
CREATE TABLE indra_rules(
  name    TEXT PRIMARY KEY,
  queue   TEXT NOT NULL,         -- indra_queues
  bucket  TEXT NOT NULL,         -- of the changes
  branch  TEXT,                  -- NULL: any
  path    TEXT,                  -- it and all below; NULL: any
  kinds   TEXT NOT NULL,         -- 'create,write'; empty: all
  since   INTEGER NOT NULL,      -- changes after this seq
  made    INTEGER NOT NULL DEFAULT 0 -- jobs so far
) WITHOUT ROWID;

INSERT INTO indra_meta VALUES('version', 1), ('fence', 0), ('relayed', 0);
)sql";

}  // namespace indra::coord
