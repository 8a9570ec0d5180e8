# A repository with a long history, made by fast-import; commits by hand, clone by file://, gc, a bundle, fsck: git makes
# processes for most of it, which are connected by pipes, and threads for packs.

set -e
dir=$1
cd "$dir"
export HOME="$dir" GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL="$dir/settings" LC_ALL=C
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
export GIT_AUTHOR_DATE='1000000000 +0000' GIT_COMMITTER_DATE='1000000000 +0000'
count=$((1200 * ${ZAP_JOB_SCALE:-1}))
git config --file settings init.defaultBranch main
git init -q work
awk -v count=$count 'BEGIN {
    x = 12345
    for (n = 1; n <= count; n++) {
        print "commit refs/heads/main\nmark :" n "\ncommitter C <c@example.org> " 900000000 + n * 60 " +0000"
        text = "commit " n "\n"
        print "data " length(text) "\n" text
        text = ""
        for (line = 0; line < 60; line++) { x = (x * 16807) % 2147483647; text = text x "\n" }
        print "M 100644 inline part-" n % 40 "/file-" n % 7 "\ndata " length(text) "\n" text
    }
    print "done"
}' | git -C work fast-import --quiet --done
git -C work reset -q --hard main
git -C work rev-parse main
number=0
while [ $number -lt 12 ]; do
    number=$((number + 1))
    seq $number $((number * 50)) > work/by-hand
    git -C work add by-hand
    git -C work commit -q -m "by hand $number"
done
git -C work rev-parse HEAD
git clone -q "file://$dir/work" copy
git -C copy log --format='%H %s' | sha256sum
git -C copy switch -q -c side HEAD~5
seq 7 > copy/on-the-side
git -C copy add on-the-side
git -C copy commit -q -m side
git -C copy rebase -q main
git -C copy rev-parse side
git -C copy gc -q --aggressive --prune=now
git -C copy count-objects -v | grep -E 'count|packs|garbage|in-pack'
git -C copy fsck --full --strict 2>&1 | grep -v -i 'checking\|^notice'  || true
git -C copy bundle create -q ../all.bundle --all
git clone -q -b side all.bundle third
git -C third rev-list --objects side | sha256sum
git -C work push -q ../copy HEAD:refs/heads/pushed
git -C copy rev-parse pushed
find work copy third -name '*.lock' -o -name 'tmp_*'
exit 58
