/* Working directory and file creation mask.
 *
 * Wrong would be: relative paths that lead elsewhere, files with other permissions than the program asked for.
 */
#include "program.h"

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: cwd_umask DIRECTORY");
    char before[4096], now[4096];
    MAKE(mkdir(in(argv[1], "inner"), 0755) == 0 && chdir(in(argv[1], "inner")) == 0);
    MAKE(mkdir("deeper", 0755) == 0 && getcwd(before, sizeof before) != NULL);
    umask(027);

    ready();

    CHECK(getcwd(now, sizeof now) != NULL && strcmp(now, before) == 0, "getcwd");
    memset(now, 0, sizeof now);
    CHECK(readlink("/proc/self/cwd", now, sizeof now - 1) > 0 && strcmp(now, before) == 0, "/proc/self/cwd");
    CHECK(access("deeper", F_OK) == 0 && access("../inner/deeper", F_OK) == 0, "relative paths");
    struct stat made;
    int file = open("made", O_WRONLY | O_CREAT | O_EXCL, 0666);
    CHECK(file >= 0 && fstat(file, &made) == 0 && (made.st_mode & 0777) == 0640, "mode %o", made.st_mode & 0777);
    CHECK(umask(0) == 027, "umask");
    CHECK(access(in(argv[1], "inner/made"), F_OK) == 0, "made in the working directory");
    SAY("cwd and umask: the same directory, mode 0640");
    return finish(7);
}
