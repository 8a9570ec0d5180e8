/* Paths that are as long as a path may be, and names that are no text: a newline, bytes that are not UTF-8, blanks, the end that
 * the kernel gives to what is deleted. Files, a private mapping, directories, a FIFO, the working directory.
 *
 * Wrong would be: a checkpoint that is refused, a file that is taken for a deleted one, or for another.
 */
#include "program.h"

#include <limits.h>
#include <sys/mman.h>

static const char *const names[] = {"a\nb\n", "\xff\xfe\x80", " ", "x (deleted)", "\x1b[7m\x7f", "\\", "x (deleted) (deleted)",
                                    "a\\012b"};

enum { NAMES = sizeof names / sizeof *names };

static void compare(int descriptor, const char *name, const char *what) {
    struct stat own, there;
    CHECK(fstat(descriptor, &own) == 0 && stat(name, &there) == 0, "%s: stat", what);
    CHECK(own.st_ino == there.st_ino && own.st_dev == there.st_dev, "%s: another file", what);
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: odd_paths DIRECTORY");
    int directories[NAMES], files[NAMES], fifos[NAMES];
    char *mapped[NAMES];
    for (int i = 0; i < NAMES; i++) {
        char name[64], inner[64];
        snprintf(name, sizeof name, "directory%s", names[i]);
        snprintf(inner, sizeof inner, "fifo%s", names[i]);
        MAKE(chdir(argv[1]) == 0 && mkdir(name, 0700) == 0 && (directories[i] = open(name, O_RDONLY)) >= 0);
        MAKE(chdir(name) == 0 && (files[i] = open(names[i], O_RDWR | O_CREAT | O_EXCL, 0600)) >= 0);
        MAKE(ftruncate(files[i], 8192) == 0 && pwrite(files[i], "here", 4, 4096) == 4 && lseek(files[i], 10 + i, SEEK_SET) > 0);
        MAKE(mkfifo(inner, 0600) == 0 && (fifos[i] = open(inner, O_RDWR)) >= 0 && write(fifos[i], "waits", 5) == 5);
        mapped[i] = (char *)mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, files[i], 0);
        MAKE(mapped[i] != MAP_FAILED);
    }
    /* Of a file, and of the working directory. */
    char path[PATH_MAX + 1], step[201];
    MAKE(chdir(argv[1]) == 0);
    size_t left = PATH_MAX - 1 - strlen(argv[1]);
    while (left > 202) {
        size_t length = left - 202 < 201 ? left - 202 : 200;
        if (length == 0) length = 1;
        memset(step, 'd', length);
        step[length] = 0;
        MAKE((mkdir(step, 0700) == 0 || errno == EEXIST) && chdir(step) == 0);
        left -= length + 1;
    }
    memset(step, 'f', left - 1);
    step[left - 1] = 0;
    int file = open(step, O_RDWR | O_CREAT | O_EXCL, 0600);
    MAKE(file >= 0 && write(file, "hello", 5) == 5);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    char link[PATH_MAX + 1];
    ssize_t length = readlink(path, link, sizeof link);
    MAKE(length == PATH_MAX - 1);
    step[0] = 'w';
    MAKE(mkdir(step, 0700) == 0 && chdir(step) == 0);

    ready();

    char word[8] = "";
    CHECK(pread(file, word, 8, 0) == 5 && strcmp(word, "hello") == 0 && lseek(file, 0, SEEK_CUR) == 5, "the long path");
    CHECK(readlink("/proc/self/cwd", path, sizeof path) == PATH_MAX - 1, "the long working directory");
    step[0] = 'f';
    CHECK(chdir("..") == 0, "the way up");
    compare(file, step, "the long path");
    SAY("a path of %d bytes", PATH_MAX - 1);
    for (int i = 0; i < NAMES; i++) {
        char name[64], inner[64];
        snprintf(name, sizeof name, "directory%s", names[i]);
        snprintf(inner, sizeof inner, "fifo%s", names[i]);
        CHECK(chdir(argv[1]) == 0, "chdir");
        compare(directories[i], name, "a directory");
        CHECK(fchdir(directories[i]) == 0, "fchdir");
        compare(files[i], names[i], "a file");
        compare(fifos[i], inner, "a FIFO");
        CHECK(lseek(files[i], 0, SEEK_CUR) == 10 + i, "offset %d", i);
        CHECK(memcmp(mapped[i] + 4096, "here", 4) == 0, "mapping %d", i);
        CHECK(read(fifos[i], word, 8) == 5 && memcmp(word, "waits", 5) == 0, "FIFO %d", i);
    }
    SAY("%d odd names", NAMES);
    return finish(7);
}
