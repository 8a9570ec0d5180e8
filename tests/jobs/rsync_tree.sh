# rsync from one directory to another, several times: three processes that are connected by socket pairs.

set -e
dir=$1
cd "$dir"
export LC_ALL=C
mkdir -p from/a/b from/empty
split -b 60000 -a 3 -d input from/a/part-
cp input from/a/b/whole
ln -s ../part-000 from/a/b/link
ln from/a/part-001 from/a/b/hard
chmod 640 from/a/part-002
find from -exec touch -h -d @1000000000 {} +
for round in $(seq $((3 * ${ZAP_JOB_SCALE:-1}))); do
    rm -rf to
    rsync -aH --out-format='%i %n%L' from/ to/ | sort | sha256sum
    # The second run compares by blocks, of a file that has changed in the middle.
    for part in 0 1 2 3 4 5 6 7; do
        printf 'round %s, part %s' $round $part | dd of=to/a/b/whole bs=1 seek=$((part * 3000000 + 1000)) conv=notrunc status=none
    done
    rm to/a/part-0[3-7]*
    touch to/extra
    rsync -aH --checksum --no-whole-file --delete --out-format='%i %n%L' from/ to/ | sort | sha256sum
    rsync -aH -z --no-whole-file --checksum --copy-dest=../to --out-format='%n' from/ third/ | sort | sha256sum
    diff -r from to && diff -r from third && echo "the same"
    rm -rf third
done
find to ! -type d -printf '%p %s %m %n %l\n' | sort | sha256sum
find to ! -type d ! -name "part-*" | sort
exit 57
