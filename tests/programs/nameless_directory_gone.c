/* Files without a name whose directory has gone too (a temporary directory that was removed at once), or into which the program
 * may not write any more.
 *
 * Wrong would be: a checkpoint that succeeds and cannot be restarted.
 */
#include "program.h"

#include <sys/mman.h>

static int made(const char *directory) {
    MAKE(mkdir(directory, 0700) == 0);
    int file = open(in(directory, "file"), O_RDWR | O_CREAT | O_EXCL, 0600);
    MAKE(file >= 0 && write(file, "hello", 5) == 5 && unlink(in(directory, "file")) == 0);
    return file;
}

static void check(int file, const char *what) {
    char word[8] = "";
    struct stat own;
    CHECK(fstat(file, &own) == 0 && own.st_nlink == 0, "%s has a name", what);
    CHECK(pread(file, word, 8, 0) == 5 && strcmp(word, "hello") == 0 && write(file, "!", 1) == 1, "%s: %s", what, word);
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: nameless_directory_gone DIRECTORY");
    MAKE(chdir(argv[1]) == 0);
    int gone = made("gone"), barred = made("barred"), replaced = made("replaced"), mapped = made("mapped");
    char *memory = (char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
    MAKE(memory != MAP_FAILED && rmdir("mapped") == 0);
    MAKE(rmdir("gone") == 0 && chmod("barred", 0500) == 0);
    MAKE(rmdir("replaced") == 0 && close(creat("replaced", 0600)) == 0);

    ready();

    check(gone, "the one in a directory that has gone");
    check(barred, "the one in a directory that may not be written to");
    check(replaced, "the one whose directory is a file now");
    check(mapped, "the one that is mapped");
    CHECK(memcmp(memory, "hello!", 6) == 0, "the mapping");
    MAKE(chmod("barred", 0700) == 0);
    SAY("nameless files: without their directories");
    return finish(7);
}
