# tar | xz | tee | sha256sum, twice, in a script that looks at what came out.

set -e
dir=$1
mkdir -p "$dir/tree/a/b"
# Nothing of the archive may depend on when and by whom it was made.
for part in 1 2 3 4 5 6; do
    split -b 100000 -d "$dir/input" "$dir/tree/a/part-$part-"
done
cp "$dir/input" "$dir/tree/a/b/whole"
pack="tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C $dir -cf - tree"
$pack | xz -T1 -1 | tee "$dir/first.tar.xz" | sha256sum
echo "packed: $?"
xz -dc < "$dir/first.tar.xz" | tee "$dir/plain.tar" | tar -tf - | sort | sha256sum
$pack | cmp - "$dir/plain.tar" && echo "the same"
gzip -n -c < "$dir/plain.tar" | tee "$dir/second.tar.gz" | gzip -dc | sha256sum
rm "$dir/plain.tar"
exit 44
