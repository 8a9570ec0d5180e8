# A daemon that forks twice, with a pid file and a log, and the script that starts it, asks it things by signals, has it
# begin a new log, and ends it.

dir=$1
cd "$dir"
python3 "$(dirname "$0")/daemon.py" "$dir" || exit 1
pid=$(cat daemon.pid)
asked=0
while [ $asked -lt 30 ]; do
    asked=$((asked + 1))
    kill -USR1 $pid || { echo "FAIL: the daemon is gone"; exit 1; }
    tries=0
    until [ "$(grep -c answer daemon.log)" -ge $((asked % 10 ? asked % 10 : 10)) ]; do
        sleep 0.02
        tries=$((tries + 1))
        [ $tries -lt 1000 ] || { echo "FAIL: no answer to $asked"; exit 1; }
    done
    if [ $((asked % 10)) = 0 ]; then
        tail -1 daemon.log
        mv daemon.log daemon.log.$asked
        kill -HUP $pid
        until [ -e daemon.log ]; do sleep 0.01; done
    fi
done
[ "$(cat daemon.pid)" = $pid ] || echo "FAIL: the pid file has changed"
kill -TERM $pid
# Whoever has adopted it may leave it a zombie, which kill finds.
until grep -q "^end" daemon.log; do sleep 0.01; done
[ -e daemon.pid ] && echo "FAIL: the pid file is there"
cat daemon.log.10 daemon.log.20 daemon.log.30 daemon.log
exit 49
