#!/usr/bin/env bash
# notify, listen, queue, stream, lock, rate, schedule; and the same from the sqlite3 shell and Python, with the extension.
. "$INDRA_SOURCE/tests/cli/common.sh"
expect 1 $i queue list
says "holds no vault"
expect 0 $i init

# Queues.
expect 1 $i queue push mail hello
says "there is no queue 'mail'"
expect 0 $i queue create mail --max-attempts 2 --backoff 0
expect 1 $i queue create mail --visibility 0
says "visibility must be more than 0"
same "$($i queue push mail hello)" 1
same "$(printf 'from a pipe' | $i queue push mail -)" 2
expect 1 $i queue push mail x --delay -1
says "delay is negative"
head -c 1100000 /dev/zero | tr '\0' x >huge
expect 1 $i queue push mail - <huge
says "a payload has at most 1048576 bytes"
expect 0 $i queue claim mail --worker me
grep -q '"payload":"hello"' out || die "claim"
expect 1 $i queue ack 1 --worker you
says "is claimed by 'me', not by 'you'"
expect 0 $i queue ack 1 --worker me --result fine
same "$($i queue result 1)" fine
expect 0 $i queue work mail --once -- sh -c 'cat >worked; echo $INDRA_JOB:$INDRA_ATTEMPT >>worked'
same "$(cat worked)" "from a pipe2:1"
$i queue push mail bad >/dev/null
expect 0 $i queue work mail --once -- false
same "$($i queue dead mail)" "       3 after 2 attempts: exit status 1"
expect 0 $i queue revive 3
expect 0 $i queue cancel 3
expect 1 $i queue cancel 3
expect 1 $i queue show 3
$i queue list | grep -q '^mail  *0 ready, 0 delayed, 0 claimed, 0 dead; 2 done' || die "queue list"
# A worker that waits is woken.
$i queue work mail --limit 1 -- sh -c 'cat >woken' &
waiting=$!
soon sleeps $waiting || true
$i queue push mail 'wake up' >/dev/null
wait $waiting
same "$(cat woken)" "wake up"

# Notify.
heard() { grep -q "$1" heard; }
call() { $i notify there now && heard '"there"'; }  # until it listens
: >heard
$i listen there news other --json >>heard &
waiting=$!
soon call || die "nobody listens"
$i notify nobody x
$i notify news one
$i notify other two
soon heard '"other"' || die "not heard: $(cat heard)"
kill $waiting
wait $waiting 2>/dev/null || true
sed -i /there/d heard
same "$(grep -o '"payload":"[a-z]*"' heard | tr '\n' ' ')" '"payload":"one" "payload":"two" '
expect 1 $i listen news --wait 0.1

# Streams.
for n in 1 2 3 4 5; do $i stream publish s "e$n" >/dev/null; done
same "$($i stream read s --consumer c --limit 2 | tr '\n' ' ')" "e1 e2 "
same "$($i stream read s --consumer c | tr '\n' ' ')" "e3 e4 e5 "
same "$($i stream read s --consumer c)" ""
same "$($i stream trim s 2)" 2
expect 1 $i stream read s --after 1
says "were trimmed"
expect 1 $i stream read nothing
says "there is no stream 'nothing'"

# Locks.
expect 0 $i lock acquire held --owner a --ttl 60
expect 1 $i lock acquire held --owner b
says "lock 'held' is held by 'a'"
token=$($i lock acquire l --owner a --ttl 0.3)
next=$($i lock acquire l --owner b --ttl 60 --wait 5)
((next > token)) || die "the token did not grow"
expect 1 $i lock check l "$token"
says "is stale"
expect 0 $i lock check l "$next"
expect 0 $i lock release l --owner b
expect 3 $i lock run l -- sh -c 'exit 3'
$i lock run l --ttl 3 -- sh -c 'echo $INDRA_LOCK_TOKEN; while [ ! -e enough ]; do sleep 0.1; done' >t1 &
soon test -s t1 || die "no lock"
sleep 3.3
expect 1 $i lock run l -- true  # it was renewed
: >enough
wait
expect 0 $i lock run l -- true

# Rates.
expect 0 $i rate r --limit 2 --per 1000000
expect 0 $i rate r --limit 2 --per 1000000
expect 1 $i rate r --limit 2 --per 1000000
says "'r' has no room for another"
expect 0 $i rate s --limit 1 --per 0.2
expect 0 $i rate s --limit 1 --per 0.2 --wait 10
expect 1 $i rate r --limit 0
expect 1 $i rate r --limit 1 --per -1

# The lock of a path, and writes that bring its token.
expect 0 $i lock run --path :/notes -- sh -c 'echo one | $INDRAFS put - :/notes --lock-token $INDRA_LOCK_TOKEN'
same "$($i cat :/notes)" one
expect 0 $i lock acquire --path :/notes --owner a --ttl 60
$i lock list | grep -q '^path:main:/notes ' || die "lock list"
expect 1 $i lock acquire --path main:/notes/ --owner b
says "lock 'path:main:/notes' is held by 'a'"
expect 0 $i lock release --path :/notes --owner a
token=$($i lock acquire --path :/notes --owner a --ttl 0.2)
expect 0 $i lock acquire --path :/notes --owner b --ttl 60 --wait 5
printf stale >new
expect 1 $i put new :/notes --lock-token "$token"
says "is stale"
same "$($i cat :/notes)" one
expect 1 $i put new :/other --lock-token 1
says "is stale"
expect 1 $i cat :/other

# Schedules fire while anybody waits for jobs.
expect 1 $i schedule add s mail '61 * * * *' x
says "minute 61 is not within 0-59"
expect 0 $i schedule add s mail '@every 100ms' tick
same "$($i queue work mail --limit 2 -- sh -c 'cat; echo' | tr '\n' ' ')" "tick tick "
expect 0 $i schedule pause s
$i schedule list | grep -q paused || die "schedule list"
expect 0 $i schedule remove s
same "$(stat -c %a vault/coord.db vault/coord.db-knock | sort -u)" 600

# The extension in other programs' SQLite, beside ours.
command -v sqlite3 >/dev/null || exit 77
sql() { sqlite3 -cmd '.timeout 10000' -cmd ".load $INDRA_BIN/indra_coord" vault/coord.db "$@"; }
expect 0 $i queue create jobs
sql "CREATE TABLE orders(id INTEGER PRIMARY KEY, what TEXT);
  BEGIN IMMEDIATE; INSERT INTO orders VALUES(1, 'tea'); SELECT indra_enqueue('jobs', 'order 1'); COMMIT;
  BEGIN IMMEDIATE; INSERT INTO orders VALUES(2, 'no'); SELECT indra_enqueue('jobs', 'order 2'); ROLLBACK;" >/dev/null
same "$(sql 'SELECT count(*) FROM orders')" 1
same "$($i queue work jobs --once -- cat)" "order 1"
: >heard
$i listen hello >>heard &
waiting=$!
call() { sql "SELECT indra_notify('hello', 'from the shell')" >/dev/null && test -s heard; }
soon call || die "not heard"
kill $waiting
wait $waiting 2>/dev/null || true
same "$(sort -u heard)" "from the shell"
[[ -x /usr/bin/python3 ]] || exit 77
cat >load.py <<'P'
# Four processes: each writes a table of its own and puts a job in, in one transaction; then they are killed.
import multiprocessing, os, signal, sqlite3, sys, time
def connect():
    db = sqlite3.connect("vault/coord.db", timeout=10, isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension(sys.argv[1])
    return db
def work(n, errors):
    try:
        db = connect()
        while True:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO written(who) VALUES(?)", (n,))
            db.execute("SELECT indra_enqueue('load', ?)", (str(n),)).fetchall()
            db.execute("COMMIT")
    except sqlite3.Error as e:
        errors.put(str(e))
db = connect()
db.execute("CREATE TABLE written(id INTEGER PRIMARY KEY, who INTEGER)")
db.execute("SELECT indra_queue_create('load')").fetchall()
errors = multiprocessing.Queue()
all = [multiprocessing.Process(target=work, args=(n, errors)) for n in range(4)]
for p in all: p.start()
time.sleep(float(sys.argv[2]))
until = time.monotonic() + 100
while db.execute("SELECT count(*) FROM written").fetchone()[0] <= 100 and errors.empty() and time.monotonic() < until:
    time.sleep(0.1)
for p in all: os.kill(p.pid, signal.SIGKILL)
for p in all: p.join()
written, = db.execute("SELECT count(*) FROM written").fetchone()
jobs, = db.execute("SELECT count(*) FROM indra_jobs WHERE queue = 'load'").fetchone()
assert errors.empty(), errors.get()
assert written == jobs and written > 100, (written, jobs)
assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
db.close()  # fails while statements are left open
print(written)
P
if ! /usr/bin/python3 -c 'import sqlite3; sqlite3.connect(":memory:").enable_load_extension(True)' 2>/dev/null; then exit 77; fi
$i queue create other >/dev/null
(for n in $(seq 30); do $i queue push other $n || echo "push failed"; done) >pushed 2>&1 &
pushing=$!
/usr/bin/python3 load.py "$INDRA_BIN/indra_coord" 2 >written || die "the load of Python failed"
wait $pushing
! grep -q failed pushed || { cat pushed; die "a push beside the load failed"; }
