#!/usr/bin/env python3
"""A database under load, forked again and again: each fork is a database that is sound and holds the last row that was
acknowledged before it was made.   database_forks.py INDRAFS MOUNT wal|delete FORKS"""
import os, random, sqlite3, subprocess, sys, threading

indrafs, mount, mode, forks = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
name = f'{mode}.db'
acked, stop, trouble = 0, threading.Event(), []


def write():
    global acked
    try:
        db = sqlite3.connect(f'{mount}/vault/{name}', isolation_level=None)
        assert db.execute(f'PRAGMA journal_mode={mode}').fetchone()[0] == mode
        db.execute('PRAGMA wal_autocheckpoint=50')
        db.execute('CREATE TABLE t(id INTEGER PRIMARY KEY, key TEXT, value BLOB)')
        db.execute('CREATE INDEX by_key ON t(key)')
        row = 0
        while not stop.is_set():
            db.execute('BEGIN IMMEDIATE')
            for _ in range(random.randint(1, 8)):
                row += 1
                db.execute('INSERT INTO t VALUES(?, ?, ?)', (row, os.urandom(8).hex(), os.urandom(random.randint(1, 6000))))
            db.execute('UPDATE t SET key = ? WHERE id = ?', (os.urandom(8).hex(), random.randint(1, row)))
            db.execute('DELETE FROM t WHERE id BETWEEN ? AND ?', (row - 400, row - 300))
            db.execute('COMMIT')
            acked = row
        db.close()
    except Exception as e:
        trouble.append(e)
        stop.set()


writer = threading.Thread(target=write)
writer.start()
while acked < 50 and not stop.is_set():
    stop.wait(0.01)
wanted = []
for n in range(forks):
    if stop.is_set():
        break
    last = acked
    subprocess.run([indrafs, 'branch', 'create', f'{mode}-{n}'], check=True, stdout=subprocess.DEVNULL)
    wanted.append(last)
stop.set()
writer.join()
if trouble:
    sys.exit(f'the writer: {trouble[0]}')
for n, last in enumerate(wanted):
    db = sqlite3.connect(f'{mount}/branches/{mode}-{n}/{name}')
    said = db.execute('PRAGMA integrity_check').fetchone()[0]
    found = db.execute('SELECT max(id) FROM t').fetchone()[0]
    db.close()
    if said != 'ok':
        sys.exit(f'fork {n}: {said}')
    if found < last:
        sys.exit(f'fork {n} has rows up to {found}; {last} was acknowledged before it was made')
    subprocess.run([indrafs, 'branch', 'delete', f'{mode}-{n}'], check=True, stdout=subprocess.DEVNULL)
if len(wanted) != forks or wanted[-1] <= wanted[0]:
    sys.exit('nothing was written meanwhile')
print(f'{mode}: {forks} forks, {wanted[-1] - wanted[0]} rows written meanwhile: each sound, none lacks an acknowledged row')
