# inotifywait tells of what happens in a directory that others work in; one event at a time, so that none waits unread for long.

dir=$1
cd "$dir"
mkdir watched
mkfifo events
inotifywait -q -m -r --format '%w%f %e' -e create -e close_write -e moved_to -e moved_from -e delete watched > events 2> said &
watcher=$!
exec 5< events
# It watches when it tells of something.
while :; do
    touch watched/first
    read -r -t 0.1 line <&5 && break
done
until [ "$line" = "watched/first CLOSE_WRITE,CLOSE" ]; do read -r line <&5; done
until ! read -r -t 0.3 line <&5; do :; done
number=0
while [ $number -lt $((160 * ${ZAP_JOB_SCALE:-1})) ]; do
    number=$((number + 1))
    seq $number $((number * 100)) | sha256sum > watched/file
    read -r line <&5
    [ $number != 1 ] || { echo "$line"; read -r line <&5; }
    echo "$line $(cut -c 1-16 watched/file)"
    if [ $((number % 5)) = 0 ]; then
        mv watched/file watched/moved-$number
        read -r line <&5
        echo "$line"
        read -r line <&5
        echo "$line"
        seq 1 20000 | cksum > watched/file
        read -r line <&5
        echo "$line"
        read -r line <&5
        echo "$line"
        rm watched/moved-$number
        read -r line <&5
        echo "$line"
    fi
done
kill $watcher
wait $watcher
echo "status of inotifywait: $?"
cat said
ls watched
exit 56
