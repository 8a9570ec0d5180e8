/* Files that are open for more than their permissions give anew: made for writing with mode 0444 (git's objects and packs, cp and
 * tar of files that are read-only), made unwritable or unreadable since.
 *
 * Wrong would be: a checkpoint that succeeds and cannot be restarted by an ordinary user.
 */
#include "program.h"

static void check(int file, const char *path, mode_t mode) {
    struct stat own, there;
    CHECK(fstat(file, &own) == 0 && stat(path, &there) == 0 && own.st_ino == there.st_ino, "%s: another file", path);
    CHECK((own.st_mode & 07777) == mode, "%s: mode %o", path, own.st_mode);
    CHECK(lseek(file, 0, SEEK_CUR) == 5, "%s: offset", path);
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: unwritable_files DIRECTORY");
    MAKE(chdir(argv[1]) == 0);
    int made = open("made", O_RDWR | O_CREAT | O_EXCL, 0444);
    MAKE(made >= 0 && write(made, "hello", 5) == 5);
    int barred = open("barred", O_WRONLY | O_CREAT | O_EXCL, 0600);
    MAKE(barred >= 0 && write(barred, "hello", 5) == 5 && fchmod(barred, 0400) == 0);
    int hidden = open("hidden", O_RDWR | O_CREAT | O_EXCL, 0600);
    MAKE(hidden >= 0 && write(hidden, "hello", 5) == 5 && fchmod(hidden, 0) == 0);

    ready();

    check(made, "made", 0444);
    check(barred, "barred", 0400);
    check(hidden, "hidden", 0);
    CHECK(write(made, "!", 1) == 1 && write(barred, "!", 1) == 1 && pread(hidden, argv[1], 1, 0) == 1, "they are not as they were");
    SAY("unwritable files: open as before");
    return finish(7);
}
