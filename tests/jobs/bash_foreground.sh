# bash with job control, as at a terminal, and jobs in the foreground: subshells, pipelines, a loop that reads from one.
#
# Wrong would be: a shell that is not suspended while it waits for its job, a status that is lost.

rounds=$(awk "BEGIN { print int(40 * ${ZAP_JOB_SCALE:-1}) }")
set -m
sum=0
for ((round = 1; round <= rounds; round++)); do
    (sleep 0.03; exit $((round % 7)))
    sum=$((sum * 3 % 10007 + $?))
    seq $round | (sleep 0.03; sort -rn; exit $((round % 5))) | while read number; do
        echo $number
    done | (sleep 0.02; tail -1) > /dev/null
    sum=$((sum + ${PIPESTATUS[1]:-0}))
    seq 3 | while read number; do sleep 0.01; done
    ((round % 10)) || echo "round $round: $sum"
done
echo "result: $sum"
exit 43
