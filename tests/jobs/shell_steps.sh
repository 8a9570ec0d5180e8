# Loops that make a process for each step, in what every POSIX shell knows: command substitution, pipelines, background
# jobs and their statuses, subshells, here-documents, traps.
#
# Wrong would be: a step whose output or status is lost, a signal that comes twice or never.

steps=$(awk "BEGIN { print int(180 * ${ZAP_JOB_SCALE:-1}) }")
signals=0
trap 'signals=$((signals + 1))' USR1

total=0
step=1
while [ $step -le $steps ]; do
    square=$(expr $step \* $step)
    total=$((total + square))
    word=$(echo "step $step" | tr a-z A-Z | sed 's/ /-/' | cat)
    # Statuses of three jobs in the background, and of one that a signal ends.
    (exit $((step % 7))) & a=$!
    /bin/sh -c "exit $((step % 11))" & b=$!
    sleep 60 & c=$!
    kill -TERM $c
    # A signal that comes to wait ends it: it is asked again, as scripts do.
    wait $a; sa=$?
    wait $b; sb=$?
    wait $c; sc=$?
    case $sa/$sb/$sc in
        $((step % 7))/$((step % 11))/143) ;;
        *) echo "FAIL: step $step: statuses $sa $sb $sc"; exit 1 ;;
    esac
    kill -USR1 $$
    lines=$(cat <<END | wc -l
one $step
two $(echo $total)
END
)
    (false || exit 3)
    seen=$?
    [ $seen = 3 ] || { echo "FAIL: step $step: status $seen of a subshell"; exit 1; }
    [ $((step % 45)) -eq 0 ] && echo "$word: $total, $((lines)) lines"
    step=$((step + 1))
done
seq 1 $steps | while read number; do
    echo $((number % 10))
done | sort -n | uniq -c | awk '{ sum += $1 * $2 } END { print "digits " sum }'
[ $signals -eq $steps ] || { echo "FAIL: $signals of $steps signals"; exit 1; }
trap 'echo "end: $signals signals"' EXIT
exit 41
