# Tools of every day in a directory that may be the pod's own: private_tools.sh OWN OUTER.
# What it prints is the same whether or not OWN is private.
set -u
own=$1 outer=$2
export TMPDIR=$own LC_ALL=C.UTF-8
say() { printf '%s: ' "$1"; shift; "$@" 2>&1 | sed "s#tmp\.[A-Za-z0-9]*#tmp.X#g"; }

cd "$own" || exit 2
say pwd pwd
say physical /bin/pwd -P
mkdir -p tree/a/b && echo one > tree/a/one && echo two > tree/a/b/two && ln -s "$own/tree/a/one" tree/link && ln -s ../../a tree/a/b/up
ln -s "$own/tree" "$outer/in"
say cat cat tree/link "$outer/in/a/one" tree/a/b/up/one
cp -a tree copy && cp -rL tree/a/b/two flat && mv copy moved && mv flat "$outer/flat" && mv "$outer/flat" .
say find sh -c 'find "$0" | sort' "$own"
say follow sh -c 'find -L "$0/in/a" -name "o*" | sort' "$outer"
say grep sh -c 'grep -r o "$0/tree" | sort' "$own"
say ls ls -1 "$own" ../own "$own/../outer"
say du sh -c 'du -a "$0/tree" | cut -f2 | sort' "$own"
tar -C "$own" -cf all.tar tree && mkdir out && tar -C out -xf all.tar
say diff diff -r --no-dereference tree out/tree
say tar tar -tf "$own/all.tar"
say sed sed -i s/one/ONE/ tree/a/one
say sed cat tree/link
say sort sh -c 'seq 200000 | sort -T "$0" -S 100k -r | head -n 3' "$own"
say mktemp mktemp
say mktemp mktemp -d -p "$own"
say realpath realpath tree/link "$outer/in" "$own/tree/.." .
say readlink readlink -f tree/link
say self readlink /proc/self/cwd
say stat stat -c '%N %F' tree/link
say touch touch -h -d @1000 tree/link
say stat stat -c %Y tree/link
say install install -m 750 flat "$own/installed"
say stat stat -c '%a %s' installed
say chmod sh -c 'chmod -R go-rwx tree && stat -c %a tree/a/one'
say test sh -c 'test -x installed && echo yes; test -e none || echo no'
say flock flock "$own/lock" echo locked
say bash bash -c 'cat <<X
here $((1 + 1))
X
cat < <(echo process); echo "$PWD"; cd tree/..; pwd; for i in "$0"/tre*/*; do echo "$i"; done' "$own"
say xargs sh -c 'find tree -type f -print0 | sort -z | xargs -0 cat'
printf '#!/bin/sh\necho "script $0 $#"\n' > script && chmod +x script
say script ./script 1 2
say script "$own/script" 1
say script env PATH="$own:$PATH" script
cp /bin/echo program
say program "$own/program" runs
printf 'int main(void) { return 0; }\n' > main.c
if command -v gcc > /dev/null; then
    say gcc gcc -save-temps -o main main.c
    say gcc sh -c './main && ls main*'
    say gcc gcc -pipe -o "$own/main2" "$own/main.c" && ./main2
fi
if command -v python3 > /dev/null; then
    say python python3 - "$own" <<'X'
import os, shutil, socket, socketserver, sqlite3, subprocess, sys, tempfile, threading, glob, pathlib
own = sys.argv[1]
print(tempfile.gettempdir() == own, os.getcwd() == own, os.path.realpath(".") == own)
with tempfile.NamedTemporaryFile() as f, tempfile.TemporaryDirectory() as d, tempfile.TemporaryFile() as n:
    print(f.name.startswith(own + "/"), os.path.exists(f.name), os.path.isdir(d))
print(sorted(os.path.relpath(os.path.join(r, x), own) for r, _, fs in os.walk(own + "/tree") for x in fs))
print(sorted(glob.glob("tree/**", recursive=True)))
base = sqlite3.connect(own + "/base")
base.execute("create table t (x)"), base.execute("insert into t values (1)"), base.commit()
print(base.execute("select * from t").fetchall(), os.path.exists(own + "/base"))
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline().upper())
with socketserver.UnixStreamServer(own + "/socket", Handler) as server:
    threading.Thread(target=server.handle_request).start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(own + "/socket")
        client.sendall(b"hello\n")
        print(client.recv(100), server.server_address, client.getpeername())
print(subprocess.run(["script", "x"], env={"PATH": own}, capture_output=True, text=True).stdout)
print(subprocess.run(["sh", "-c", "pwd"], cwd=own + "/tree", capture_output=True, text=True).stdout)
shutil.copytree("tree", "again", symlinks=True), shutil.rmtree("again")
print(pathlib.Path("tree/link").resolve(), os.readlink("tree/link"), [e.name for e in sorted(os.scandir("tree"), key=lambda e: e.name)])
X
fi
rm -rf "$own"/* && say empty ls -A "$own"
