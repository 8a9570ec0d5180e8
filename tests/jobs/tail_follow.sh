# Three tails that follow a log which grows, and is replaced in between: by its name, and twice by its descriptor. inotify tells
# them, or the clock, as the second argument says; the third always goes by the clock.

dir=$1
how=$2
cd "$dir"
count=$((36 * ${ZAP_JOB_SCALE:-1}))
: > log
tail $how -s 0.05 -n +1 -F log > by_name 2> by_name.said &
by_name=$!
tail $how -s 0.05 -n +1 -f log > by_descriptor &
by_descriptor=$!
tail -s 0.05 -n +1 ---disable-inotify -f log > by_clock &
by_clock=$!

# Waits until a file has so many lines.
lines() {
    tries=0
    until [ "$(wc -l < $1)" -eq $2 ]; do
        sleep 0.01
        tries=$((tries + 1))
        [ $tries -lt 3000 ] || { echo "FAIL: $1 has $(wc -l < $1) lines, not $2"; exit 1; }
    done
}

written=0
followed=0
for part in first second; do
    number=0
    while [ $number -lt $count ]; do
        number=$((number + 1))
        seq $number $((number + 20)) | while read -r word; do echo "$part $word $(echo $word | cksum)"; done >> log
        written=$((written + 21))
        lines by_name $written
        if [ $part = first ]; then
            followed=$written
        fi
        lines by_descriptor $followed
        lines by_clock $followed
    done
    if [ $part = first ]; then
        mv log log.1
        : > log
        tries=0
        until grep -q "following new file" by_name.said; do
            sleep 0.01
            tries=$((tries + 1))
            [ $tries -lt 3000 ] || { echo "FAIL: the new file is not seen"; exit 1; }
        done
    fi
done
kill $by_name $by_descriptor $by_clock
wait $by_name 2> /dev/null
echo "by name: $?"
wait $by_descriptor 2> /dev/null
echo "by descriptor: $?"
wait $by_clock 2> /dev/null
echo "by the clock: $?"
cat log.1 log | cmp - by_name && cmp log.1 by_descriptor && cmp log.1 by_clock && echo "the same"
cat by_name by_descriptor | sha256sum
exit 55
