# Programs that start another one: timeout, nohup, setsid, nice, env -i, chains of them, and what they say of its end.

fail() {
    echo "FAIL: $*"
    exit 1
}
expect() {
    wanted=$1
    shift
    "$@"
    status=$?
    [ $status = $wanted ] || fail "$* has ended with $status instead of $wanted"
}
work='n=0; while [ $n -lt 15 ]; do n=$((n + 1)); /bin/true; done; echo "$1 $n"; exit 5'
round=0
while [ $round -lt 4 ]; do
    round=$((round + 1))
    expect 5 timeout 60 sh -c "$work" sh timeout
    expect 124 timeout 0.3 sleep 60
    expect 137 timeout -s KILL 0.2 sleep 60
    expect 5 nohup sh -c "$work" sh nohup 2>/dev/null
    expect 5 setsid -w sh -c "$work" sh setsid
    expect 5 nice -n 3 sh -c "$work; " sh nice
    [ "$(nice -n 4 nice)" = $(($(nice) + 4)) ] || fail "nice"
    expect 5 env -i sh -c "$work" sh env
    expect 5 env -i PATH=/usr/bin:/bin nohup timeout 60 nice -n 1 setsid -w sh -c "$work" sh all 2>/dev/null
    [ "$(env -i /usr/bin/env)" = "" ] || fail "the environment is not empty: $(env -i /usr/bin/env)"
    echo "round $round"
done
exit 50
