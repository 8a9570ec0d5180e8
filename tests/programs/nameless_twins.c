/* Two files without a name that have the same inode number, on two file systems.
 *
 * Wrong would be: files that are one after a restart, and the contents of the other gone.
 */
#include "program.h"

int main(int argc, char **argv) {
    int fds[2];
    struct stat stats[2];
    MAKE(argc >= 2);
    for (int i = 0; i < 2; i++) {
        const char *path = in(argv[argc == 3 ? i + 1 : 1], i ? "other" : "one");
        fds[i] = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
        MAKE(fds[i] >= 0 && unlink(path) == 0 && write(fds[i], i ? "other" : "one", i ? 5 : 3) > 0);
        MAKE(fstat(fds[i], &stats[i]) == 0);
    }
    MAKE(argc == 2 || (stats[0].st_ino == stats[1].st_ino && stats[0].st_dev != stats[1].st_dev));

    ready();

    char text[8] = {0};
    CHECK(pread(fds[0], text, 7, 0) == 3 && strcmp(text, "one") == 0, "the one: %s", text);
    CHECK(pread(fds[1], text, 7, 0) == 5 && strcmp(text, "other") == 0, "the other: %s", text);
    SAY("nameless twins: two files");
    return finish(7);
}
