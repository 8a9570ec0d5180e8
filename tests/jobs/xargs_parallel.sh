# xargs -P4: four processes at any time, as many as there are lines in the end.

count=$(awk "BEGIN { print int(900 * ${ZAP_JOB_SCALE:-1}) }")
seq 1 $count | xargs -P4 -n1 sh -c 'echo "$0 $(seq 1 $0 | cksum)"' | sort -n | sha256sum
# One that fails is told in xargs's own status.
seq 1 $count | xargs -P4 -n3 sh -c 'for n; do echo $n; done; [ $1 != 100 ]' sh | sort -n | cksum
seq 1 200 | xargs -P4 -I{} sh -c 'echo {}; [ {} != 17 ]' | sort -n | cksum
seq 1 200 | xargs -P4 -I{} sh -c '[ {} != 17 ]'
echo "status of xargs: $?"
exit 45
