# A shell that makes processes as fast as it can, and counts how they end.
#
# Wrong would be: a child that is lost, or ends otherwise than it was to.

made=0
seen=0
wanted=0
got=0
echo READY
until [ -e "$ZAP_TEST_GO" ]; do
    (exit $((made % 5))) &
    first=$!
    /bin/true &
    second=$!
    wait $first
    status=$?
    [ $status = $((made % 5)) ] || { echo "FAIL: a child has ended with $status instead of $((made % 5))"; exit 1; }
    wait $second || { echo "FAIL: /bin/true has ended with $?"; exit 1; }
    made=$((made + 2))
    seen=$((seen + $(echo 1 | cat) + 1))
    (exit 3) | (exit 4) | (exit $((made % 3)))
    [ $? = $((made % 3)) ] || { echo "FAIL: status of a pipeline"; exit 1; }
done
[ $made = $seen ] || { echo "FAIL: $seen of $made"; exit 1; }
echo "shell forks: every child was counted"
echo OK
exit 7
