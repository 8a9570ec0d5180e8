# bzip2, whose sources come from a crate, built by make with four jobs: once with the Makefile for the program and the static
# library, which tests itself, and once with that for the shared one. Recursive makes with one jobserver, compilers that make
# compilers by vfork, ar, links. Objects and what the tests say are the same every time.

set -e
dir=$1
from=$(dirname "$0")/../bzip2
if ! [ -d "$from" ]; then
    echo "the sources of bzip2 are not beside the tests, where cargo xtask test lays them"
    exit 77
fi
cd "$dir"
both=
for copy in $(seq "${ZAP_JOB_SCALE:-1}"); do
    mkdir static$copy shared$copy
    cp "$from"/* static$copy
    cp "$from"/* shared$copy
    both="$both static$copy shared$copy"
done
cat > Makefile <<'END'
all: $(BOTH)
static%: FORCE
	+$(MAKE) -C $@
shared%: FORCE
	+$(MAKE) -C $@ -f Makefile-libbz2_so
FORCE:
END
# What is built for a debugger names the directory, which is another one in each run.
make -s --no-print-directory -j4 BOTH="$both" CC="gcc -pipe -ffile-prefix-map=$dir=." > log
echo "make: $?"
sort log
for part in $both; do
    sha256sum $part/*.o
    case $part in
        static*) ar p $part/libbz2.a | sha256sum; sha256sum $part/bzip2 $part/bzip2recover $part/*.rb2 $part/*.tst ;;
        shared*)
            sha256sum $part/libbz2.so.1.0.8 $part/bzip2-shared
            LD_LIBRARY_PATH=$part $part/bzip2-shared -1 < $part/sample1.ref | cmp - $part/sample1.bz2 ;;
    esac
done
exit 46
