# gcc without -pipe on one small file after the other: a driver that waits for cc1, as, collect2 and ld in turn, and hands
# what one has made to the next in temporary files.

set -e
dir=$1
cd "$dir"
mkdir temporary
export TMPDIR="$dir/temporary"
count=$((40 * ${ZAP_JOB_SCALE:-1}))
number=0
while [ $number -lt $count ]; do
    number=$((number + 1))
    cat > unit$number.c <<EOF
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static unsigned long step$number(unsigned long x) { return x * 6364136223846793005ul + $number; }
int main(int argc, char **argv) {
    unsigned long x = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    for (int i = 0; i < 1000 * $number; i++) x = step$number(x);
    printf("unit $number: %lu, %zu\n", x, strlen(argv[0]));
    return $number % 7;
}
EOF
    # The object has a temporary name; only the linker sees it.
    gcc -Wall -O2 -o unit$number unit$number.c
    gcc -O1 -c -o unit$number.o unit$number.c
    status=0
    ./unit$number $number || status=$?
    echo "status $status"
done
sha256sum unit*.o
ls -A temporary
exit 53
