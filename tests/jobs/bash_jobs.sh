# What bash alone has: job control with process groups, coprocesses, process substitution, `wait -n`, traps for children,
# PIPESTATUS, mapfile from a command.
#
# Wrong would be: a job whose status is lost or told twice, a job that is not where the shell put it.

rounds=$(awk "BEGIN { print int(36 * ${ZAP_JOB_SCALE:-1}) }")
fail() {
    echo "FAIL: $*"
    exit 1
}
coproc ADDER { while read a b; do echo $((a + b)); done; }
sum=0
for ((round = 1; round <= rounds; round++)); do
    echo $sum $round >&${ADDER[1]}
    read sum <&${ADDER[0]} || fail "the coprocess has ended in round $round"
    mapfile -t lines < <(for n in 1 2 3 4; do echo "$round $n"; /bin/true; done)
    [ ${#lines[@]} = 4 ] || fail "${#lines[@]} lines"
    /bin/true | (exit 3) | /bin/false | (exit $((round % 5)))
    [ "${PIPESTATUS[*]}" = "0 3 1 $((round % 5))" ] || fail "statuses of a pipeline: ${PIPESTATUS[*]}"
    # Jobs that end in any order, each once. In a subshell, which has no other child: bash 5.2 waits for any child there is
    # when it has heard of the last job's end just before, and with the coprocess it would wait for ever, also without Zap.
    (
        for n in 1 2 3 4; do (sleep 0.0$n; exit $n) & done
        seen=0
        for n in 1 2 3 4; do
            wait -n
            seen=$((seen + $?))
        done
        exit $seen
    )
    seen=$?
    [ $seen = 10 ] || fail "statuses of jobs: $seen in round $round"
    # A job of several processes, in a group of its own, stopped, continued and ended as a whole.
    set -m
    (sleep 60 | sleep 60) &
    job=$!
    kill -STOP -- -$job
    until [ -n "$(jobs -s)" ]; do sleep 0.01; done
    kill -CONT -- -$job
    kill -TERM -- -$job
    wait $job
    status=$?
    set +m
    [ $status = 143 ] || fail "the job has ended with $status in round $round"
    diff <(seq 1 $round) <(seq 1 $round | tee >(cat > /dev/null)) > /dev/null || fail "process substitution"
    ((round % 9 == 0)) && echo "round $round: $sum"
done
exec {ADDER[1]}>&-
wait $ADDER_PID
echo "coprocess: $?, sum $sum"
exit 42
