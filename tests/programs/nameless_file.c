/* Files without a name: one made with O_TMPFILE, one that was deleted while open, through two descriptions and a dup.
 *
 * Wrong would be: a checkpoint that succeeds and an image that cannot be restarted; contents, offset or sharing lost; a
 * description that comes back as a file of its own.
 */
#include "program.h"

#include <fcntl.h>
#include <sys/stat.h>

static void check_text(int fd, const char *text, const char *what) {
    char space[64] = {0};
    ssize_t length = pread(fd, space, sizeof space - 1, 0);
    CHECK(length == (ssize_t)strlen(text) && strcmp(space, text) == 0, "%s holds \"%s\"", what, space);
}

int main(int argc, char **argv) {
    char *path;
    MAKE(argc == 2 && asprintf(&path, "%s/deleted", argv[1]) > 0);
    int temporary = open(argv[1], O_TMPFILE | O_RDWR, 0600);
    int deleted = open(path, O_CREAT | O_RDWR, 0640);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    MAKE(temporary >= 0 && deleted >= 0 && reader >= 0 && unlink(path) == 0);
    MAKE(write(temporary, "temporary", 9) == 9 && write(deleted, "deleted file", 12) == 12);
    int copy = dup(deleted);
    MAKE(copy >= 0 && lseek(reader, 3, SEEK_SET) == 3);

    ready();

    struct stat one, other;
    check_text(temporary, "temporary", "the temporary file");
    check_text(reader, "deleted file", "the deleted file");
    CHECK(lseek(temporary, 0, SEEK_CUR) == 9 && lseek(deleted, 0, SEEK_CUR) == 12 && lseek(reader, 0, SEEK_CUR) == 3,
          "offsets");
    CHECK(fcntl(reader, F_GETFD) == FD_CLOEXEC && (fcntl(reader, F_GETFL) & O_ACCMODE) == O_RDONLY, "flags");
    SAY("nameless file: contents, offsets, flags");

    CHECK(write(copy, " goes on", 8) == 8 && lseek(deleted, 0, SEEK_CUR) == 20, "the dup shares its offset");
    check_text(reader, "deleted file goes on", "the other description");
    CHECK(fstat(deleted, &one) == 0 && fstat(reader, &other) == 0 && one.st_ino == other.st_ino, "they are one file");
    CHECK(one.st_nlink == 0 && (one.st_mode & 07777) == 0640, "no name, mode %o", one.st_mode & 07777);
    CHECK(ftruncate(temporary, 4) == 0, "ftruncate");
    check_text(temporary, "temp", "the temporary file");
    SAY("nameless file: still one file, still without a name");
    return finish(7);
}
