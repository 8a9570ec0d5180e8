# vim without a screen, which edits by commands of a file that is its standard input; what it has not written is in a swap
# file, from which another vim recovers in the end.

set -e
dir=$1
cd "$dir"
export HOME="$dir" TERM=dumb LC_ALL=C.UTF-8
seq 1 3000 | sed 's/$/ words to be changed, some of them twice/' > text
{
    echo "set nocompatible directory=. updatecount=10 undolevels=1000 nofsync"
    for number in $(seq $((90 * ${ZAP_JOB_SCALE:-1}))); do
        echo "%s/\\(\\d\\+\\)\\(.*\\)changed/\\=(submatch(1) * 7 % 100003) . submatch(2) . 'changed'/"
        echo "g/3 words/m0"
        echo "undo"
        [ $((number % 10)) != 0 ] || echo "w"
    done
    echo "w! copy"
    echo "1,10d"
    echo "preserve"
    echo "!ls -A .text.sw? > swap; cp .text.swp kept"
    echo "w"
    echo "q!"
} > commands
status=0
vim -u NONE -N -es text < commands > said || status=$?
echo "vim: $status"
cat swap
wc -l text copy
sha256sum text copy
ls -A | grep sw || true
exit 62
