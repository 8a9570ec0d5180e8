/* Open directories: which one, and how far it has been read.
 *
 * Wrong would be: a listing that starts again or skips entries, a descriptor whose *at calls look in another place.
 */
#include "program.h"

#include <dirent.h>
#include <sys/syscall.h>

enum { FILES = 60 };

struct entry {
    uint64_t ino;
    int64_t off;
    unsigned short length;
    unsigned char type;
    char name[];
};

/* Adds the names that are left to `names`, each followed by a slash, through a buffer for very few of them. */
static int read_some(int fd, char *names, int calls) {
    int count = 0;
    while (calls-- != 0) {
        uint64_t space[16];
        char *buffer = (char *)space;
        long length = syscall(SYS_getdents64, fd, buffer, sizeof space);
        CHECK(length >= 0, "getdents64");
        if (length == 0) break;
        for (long at = 0; at < length;) {
            struct entry *entry = (struct entry *)(buffer + at);
            strcat(strcat(names, entry->name), "/");
            count++;
            at += entry->length;
        }
    }
    return count;
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: directory_descriptor DIRECTORY");
    char path[4096];
    snprintf(path, sizeof path, "%s", in(argv[1], "listed"));
    MAKE(mkdir(path, 0700) == 0);
    for (int i = 0; i < FILES; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%02d", i);
        int file = open(in(path, name), O_WRONLY | O_CREAT, 0600);
        MAKE(file >= 0 && write(file, name, 3) == 3 && close(file) == 0);
    }
    static char expected[4096], names[4096], rest_names[4096];
    int whole = open(path, O_RDONLY | O_DIRECTORY);
    MAKE(whole >= 0 && read_some(whole, expected, -1) == FILES + 2);
    int half = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MAKE(half >= 0 && read_some(half, names, 8) > 8);
    int half_copy = dup(half);
    MAKE(half_copy >= 0);
    DIR *stream = opendir(path);
    MAKE(stream != NULL);
    for (int i = 0; i < 7; i++) MAKE(readdir(stream) != NULL);
    long place = telldir(stream);
    struct flags flags = flags_of(half), stream_flags = flags_of(dirfd(stream));

    ready();

    CHECK(same_flags(half, flags) && same_flags(dirfd(stream), stream_flags), "flags");
    CHECK(read_some(whole, rest_names, -1) == 0, "a directory that was read to its end stays at its end");
    read_some(half_copy, names, 2);
    read_some(half, names, -1);
    CHECK(strcmp(names, expected) == 0, "the listing goes on where it was");
    SAY("directory: the listing goes on where it was, for both of two dup'ed descriptors");

    int count = 7;
    while (readdir(stream) != NULL) count++;
    CHECK(count == FILES + 2, "readdir gives %d names", count);
    seekdir(stream, place);
    for (count = 7; readdir(stream) != NULL;) count++;
    CHECK(count == FILES + 2, "seekdir to an earlier place gives %d names", count);
    SAY("directory: readdir and seekdir, %d names", count);

    char text[8] = "";
    int file = openat(half, "f17", O_RDONLY);
    CHECK(file >= 0 && read(file, text, 8) == 3 && strcmp(text, "f17") == 0, "openat looks in the directory");
    CHECK(lseek(half, 0, SEEK_SET) == 0 && read_some(half, rest_names, -1) == FILES + 2, "rewinding");
    CHECK(fchdir(half) == 0 && access("f59", F_OK) == 0, "fchdir");
    SAY("directory: openat, rewinding and fchdir");
    return finish(7);
}
