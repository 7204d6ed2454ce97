# What the scripts of this folder share.
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO of ${BASH_SOURCE[0]##*/}, status $?: $BASH_COMMAND" >&2' ERR  # no script ends without a word
i=$INDRAFS
die() { echo "FAILED: $*" >&2; exit 1; }
# expect STATUS COMMAND...: its output and errors go to ./out and ./err
expect() {
  local want=$1 got=0
  shift
  "$@" >out 2>err || got=$?
  [[ $got == "$want" ]] || { cat out err >&2; die "exit status $got, not $want: $*"; }
}
# says TEXT: ./err is one line and holds TEXT; that a busy machine had it wait is no error
says() {
  sed -i '/^indrafs: [a-z]*: waiting: /d' err
  [[ $(wc -l <err) == 1 ]] || { cat err >&2; die "not one line of error"; }
  grep -qF -- "$1" err || { cat err >&2; die "the error does not say: $1"; }
}
# soon COMMAND...: it succeeds within two minutes; for what happens by itself, on a busy machine too
soon() {
  local until=$((SECONDS + 120))
  while ! "$@"; do
    ((SECONDS < until)) || return 1
    sleep 0.05
  done
}
ended() { [[ ! -e /proc/$1 ]]; }   # ended PID
lines() { (($(wc -l <"$1") >= $2)); }  # lines FILE N
sleeps() { grep -q futex "/proc/$1/wchan" 2>/dev/null; }  # sleeps PID: perhaps it waits to be told; where that cannot be seen, no
same() { [[ $1 == "$2" ]] || die "$1 is not $2"; }
export INDRAFS_VAULT=$PWD/vault
