# Two sqlite3 processes that write to one database, each waiting for the other's locks: first with a rollback journal, then
# with a write-ahead log, whose index is memory that both share.

dir=$1
cd "$dir"
count=$((3500 * ${ZAP_JOB_SCALE:-1}))

# A transaction reads what is there and writes rows of its own and one that both count in.
transactions() {
    echo ".bail on"
    echo ".timeout 60000"
    echo "pragma synchronous = off;"
    number=0
    while [ $number -lt $count ]; do
        number=$((number + 1))
        echo "begin immediate;"
        echo "insert into rows select '$1', $number, hex(zeroblob(100)) || $number;"
        echo "insert into rows select '$1', -$number, count(*) from rows where who = '$1';"
        echo "update total set value = value + $number;"
        echo "commit;"
    done
    echo "select '$1 is done';"
}

for mode in delete wal; do
    sqlite3 -batch $mode.db "pragma journal_mode = $mode; create table rows (who text, number integer, word text);
        create table total (value integer); insert into total values (0);"
    transactions one | sqlite3 -batch $mode.db > one.out &
    one=$!
    transactions two > two.sql
    sqlite3 -batch $mode.db < two.sql > two.out &
    two=$!
    wait $one
    echo "one: $?"
    wait $two
    echo "two: $?"
    cat one.out two.out
    sqlite3 -batch $mode.db "select who, count(*), sum(number), sum(length(word)) from rows group by who order by who;
        select who, sum(word) from rows where number < 0 group by who order by who;
        select value from total; pragma integrity_check;"
done
ls *.db*
exit 54
