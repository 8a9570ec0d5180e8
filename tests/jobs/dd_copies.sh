# dd of a large file, that is forced to the disk, by several roads: with blocks that are collected from a pipe, into the
# middle of a file, with holes.

set -e
dir=$1
cd "$dir"
megabytes=$((700 * ${ZAP_JOB_SCALE:-1}))
dd if=/dev/zero bs=64k count=$((megabytes * 16)) status=none | tr '\0' 'x' | dd of=big bs=64k iflag=fullblock conv=fsync status=none
echo "written: $?, $(stat -c %s big) bytes"
dd if=big of=part bs=1M skip=100 count=200 seek=7 conv=notrunc,fdatasync status=none
dd if=/dev/zero of=part bs=1M seek=300 count=10 conv=notrunc,sparse oflag=append status=none
truncate -s 350M part
cksum part
dd if=big bs=32k count=6400 skip=3 status=none | cksum
dd if=big of=big bs=1M skip=500 count=50 seek=10 conv=notrunc,ucase,fsync status=none
cksum < big
rm big
exit 59
