/* Open regular files: path, offset, flags, and which descriptors share one open file.
 *
 * Wrong would be: an offset that starts at 0 again or that dup'ed descriptors no longer share, two separate opens that
 * now do share one, a descriptor under another number, close-on-exec lost or given to the whole open file instead of
 * one descriptor, O_APPEND lost (the log is overwritten), a file created anew, a number of the program's taken by Zap.
 */
#include "program.h"

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: regular_file DIRECTORY");
    const char *directory = argv[1];
    char path[4096], log_path[4096];
    snprintf(path, sizeof path, "%s", in(directory, "data"));
    snprintf(log_path, sizeof log_path, "%s", in(directory, "log"));

    int data = open(path, O_RDWR | O_CREAT | O_TRUNC, 0640);
    MAKE(data >= 0);
    MAKE(write(data, "0123456789abcdef", 16) == 16);
    MAKE(lseek(data, 5, SEEK_SET) == 5);
    int copy = dup(data);
    int cloexec_copy = fcntl(data, F_DUPFD_CLOEXEC, 100);
    MAKE(copy >= 0 && cloexec_copy == 100 && dup2(data, 200) == 200);
    int separate = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    MAKE(separate >= 0 && lseek(separate, 2, SEEK_SET) == 2);
    int log = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_DSYNC, 0600);
    MAKE(log >= 0 && write(log, "one\n", 4) == 4);
    /* Flags that were changed after the open, and a number that is free again. */
    int changed = open(path, O_RDWR | O_APPEND);
    MAKE(changed >= 0 && fcntl(changed, F_SETFL, O_NONBLOCK) == 0 && fcntl(changed, F_SETFD, FD_CLOEXEC) == 0);
    MAKE(lseek(changed, 1000, SEEK_SET) == 1000);
    int hole = open("/dev/null", O_RDONLY);
    int above_hole = open(path, O_RDONLY);
    MAKE(hole >= 0 && above_hole > hole && close(hole) == 0);

    int all[] = {data, copy, 100, 200, separate, log, changed, above_hole};
    enum { COUNT = sizeof all / sizeof *all };
    struct flags flags[COUNT];
    struct stat stats[COUNT];
    char links[COUNT][4096];
    for (int i = 0; i < COUNT; i++) {
        char name[64];
        flags[i] = flags_of(all[i]);
        MAKE(fstat(all[i], &stats[i]) == 0);
        snprintf(name, sizeof name, "/proc/self/fd/%d", all[i]);
        memset(links[i], 0, sizeof links[i]);
        MAKE(readlink(name, links[i], sizeof links[i] - 1) > 0);
    }

    ready();

    for (int i = 0; i < COUNT; i++) {
        struct stat now;
        char name[64], link[4096] = "";
        CHECK(same_flags(all[i], flags[i]), "flags of descriptor %d: F_GETFL %o, was %o; F_GETFD %d, was %d", i,
              flags_of(all[i]).status, flags[i].status, flags_of(all[i]).descriptor, flags[i].descriptor);
        CHECK(fstat(all[i], &now) == 0, "fstat of descriptor %d", i);
        CHECK(now.st_dev == stats[i].st_dev && now.st_ino == stats[i].st_ino, "descriptor %d is the same file", i);
        CHECK(now.st_size == stats[i].st_size && now.st_mode == stats[i].st_mode, "size and mode of descriptor %d", i);
        snprintf(name, sizeof name, "/proc/self/fd/%d", all[i]);
        CHECK(readlink(name, link, sizeof link - 1) > 0 && strcmp(link, links[i]) == 0, "link of descriptor %d", i);
    }
    SAY("regular file: 8 descriptors with their numbers, files, F_GETFL and F_GETFD");

    errno = 0;
    CHECK(fcntl(hole, F_GETFD) == -1 && errno == EBADF, "the closed number is still free");
    CHECK(dup(0) == hole && close(hole) == 0, "the lowest free number is the same");
    SAY("regular file: the lowest free number is the same");

    CHECK(lseek(data, 0, SEEK_CUR) == 5, "the offset is 5");
    CHECK(lseek(separate, 0, SEEK_CUR) == 2, "the separate open's offset is 2");
    CHECK(lseek(changed, 0, SEEK_CUR) == 1000, "the offset behind the end is 1000");
    CHECK(lseek(above_hole, 0, SEEK_CUR) == 0, "the untouched offset is 0");
    char text[64] = "";
    CHECK(read(copy, text, 2) == 2 && memcmp(text, "56", 2) == 0, "reading goes on at the offset");
    for (int i = 0; i < 4; i++) CHECK(lseek(all[i], 0, SEEK_CUR) == 7, "descriptor %d shares the offset", i);
    CHECK(lseek(separate, 0, SEEK_CUR) == 2, "the separate open shares no offset");
    SAY("regular file: offset 5 shared by four dup'ed descriptors, and by no other");

    CHECK(write(200, "XY", 2) == 2, "writing through the dup'ed number");
    errno = 0;
    CHECK(write(separate, "no", 2) == -1 && errno == EBADF, "O_RDONLY cannot be written");
    errno = 0;
    CHECK(read(log, text, 2) == -1 && errno == EBADF, "O_WRONLY cannot be read");
    CHECK(lseek(log, 0, SEEK_SET) == 0 && write(log, "two\n", 4) == 4, "writing to the log");
    CHECK(lseek(changed, 15, SEEK_SET) == 15 && write(changed, "Z", 1) == 1, "writing where O_APPEND was taken away");
    CHECK(fcntl(data, F_SETFL, O_APPEND) == 0 && (fcntl(200, F_GETFL) & O_APPEND), "flags are the open file's");

    int again = open(path, O_RDONLY);
    ssize_t length = read(again, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    SAY("regular file: data \"%s\"", text);
    again = open(log_path, O_RDONLY);
    length = read(again, text, sizeof text - 1);
    CHECK(length == 8 && memcmp(text, "one\ntwo\n", 8) == 0, "O_APPEND appends");
    SAY("regular file: log \"one, two\"");
    return finish(7);
}
