# Loops of fish that make a process for each step.

function fail
    echo "FAIL: $argv"
    exit 1
end

set total 0
for step in (seq 1 180)
    set square (expr $step \* $step)
    set total (math $total + $square)
    set word (echo "step $step" | tr a-z A-Z | sed 's/ /-/' | cat)
    sh -c "exit "(math $step % 7)
    test $status = (math $step % 7); or fail "status of step $step"
    sh -c 'exit 2' | sh -c 'exit 3' | cat > /dev/null
    test "$pipestatus" = "2 3 0"; or fail "statuses of a pipeline: $pipestatus"
    sleep 60 &
    set job $last_pid
    kill -TERM $job
    wait $job
    if test (math $step % 45) = 0
        echo "$word: $total"
    end
end
exit 43
