/* All that a program can have of a directory: its own executable, the working directory, files that are open and mapped, a
 * FIFO, a socket. Nothing is named by an absolute path afterwards, so that the directory may have moved meanwhile.
 *
 * Wrong would be: anything that leads to the old place, or is lost.
 */
#include "program.h"

#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

static void same(int fd, const char *path) {
    struct stat open_one, there;
    CHECK(fstat(fd, &open_one) == 0 && stat(path, &there) == 0, "%s", path);
    CHECK(open_one.st_ino == there.st_ino && open_one.st_dev == there.st_dev, "%s is what is open", path);
}

int main(int argc, char **argv) {
    MAKE(argc == 2 && chdir(argv[1]) == 0 && mkdir("sub", 0700) == 0 && chdir("sub") == 0);
    int file = open(in(argv[1], "file"), O_RDWR | O_CREAT, 0644), directory = open(argv[1], O_RDONLY | O_DIRECTORY);
    int deleted = open(in(argv[1], "deleted"), O_RDWR | O_CREAT, 0644);
    MAKE(file >= 0 && directory >= 0 && write(file, "in the file", 11) == 11 && ftruncate(file, 8192) == 0);
    MAKE(deleted >= 0 && write(deleted, "deleted", 7) == 7 && unlink(in(argv[1], "deleted")) == 0);
    char *shared = (char *)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *private = (char *)mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, file, 0);
    MAKE(shared != MAP_FAILED && private != MAP_FAILED && mkfifo(in(argv[1], "fifo"), 0600) == 0);
    int reader = open(in(argv[1], "fifo"), O_RDONLY | O_NONBLOCK), writer = open(in(argv[1], "fifo"), O_WRONLY);
    MAKE(reader >= 0 && writer >= 0 && write(writer, "in the FIFO", 11) == 11);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    MAKE(bind(listener, (struct sockaddr *)&name, sizeof name) == 0 && listen(listener, 3) == 0);
    int watcher = inotify_init();
    MAKE(watcher >= 0 && inotify_add_watch(watcher, argv[1], IN_CREATE) == 1);

    ready();

    char path[4096], text[64] = {0};
    CHECK(getcwd(path, sizeof path) && strcmp(strrchr(path, '/'), "/sub") == 0, "works in %s", path);
    same(file, "../file");
    same(directory, "..");
    CHECK(memcmp(shared, "in the file", 11) == 0 && memcmp(private, "in the file", 11) == 0, "mappings");
    memcpy(shared, "IN", 2);
    CHECK(pread(file, text, 11, 0) == 11 && memcmp(text, "IN the file", 11) == 0, "the mapping is the file's: %s", text);
    CHECK(pread(deleted, text, 7, 0) == 7 && memcmp(text, "deleted", 7) == 0, "the deleted file");
    SAY("moved files: working directory, descriptors, mappings");
    CHECK(read(reader, text, sizeof text) == 11 && memcmp(text, "in the FIFO", 11) == 0, "the FIFO's contents");
    same(reader, "../fifo");
    int caller = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(caller, (struct sockaddr *)&name, sizeof name) == 0 && accept(listener, NULL, NULL) >= 0, "the socket");
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    CHECK(length > 0 && (path[length] = 0, 1) && access(path, X_OK) == 0, "executable %s", path);
    struct stat own, there;
    CHECK(stat("/proc/self/exe", &own) == 0 && stat("../moved_files", &there) == 0, "executable");
    CHECK(own.st_ino == there.st_ino, "the executable is that of the directory");
    struct inotify_event event[8];
    CHECK(mkdir("../new", 0700) == 0 && read(watcher, event, sizeof event) > 0, "what is watched");
    CHECK(event->wd == 1 && strcmp(event->name, "new") == 0, "watch %d tells of %s", event->wd, event->name);
    SAY("moved files: FIFO, socket, executable, watch");
    return finish(7);
}
