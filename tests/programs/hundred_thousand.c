/* 100,000 open descriptors in one pod: as many processes as the limit makes necessary, each with files of its own, an end of a pipe
 * that all have, and duplicates.
 *
 * Wrong would be: descriptions of different processes compared each with each; one that is taken for another.
 */
#include "program.h"

#include <sys/resource.h>
#include <sys/wait.h>

#define ALL 100000

static int said(const char *directory, int number, int count) {
    int *fds = calloc((size_t)count, sizeof *fds);
    char name[32];
    snprintf(name, sizeof name, "file%d", number);
    const char *path = in(directory, name);
    MAKE(fds != NULL && close(open(path, O_CREAT | O_RDWR, 0600)) == 0);
    for (int i = 0; i + 1 < count; i += 2) {
        fds[i] = open(path, O_RDWR);
        fds[i + 1] = i % 4 == 0 ? dup(fds[i]) : open("/dev/null", O_RDWR);
        MAKE(fds[i] >= 0 && fds[i + 1] >= 0 && lseek(fds[i], number * ALL + i, SEEK_SET) >= 0);
    }
    ready();
    for (int i = 0; i + 1 < count; i += 2) {
        off_t offset = number * ALL + i;
        CHECK(lseek(fds[i], 0, SEEK_CUR) == offset, "offset of descriptor %d of process %d", fds[i], number);
        if (i % 4 == 0) CHECK(lseek(fds[i + 1], 1, SEEK_CUR) == offset + 1 && lseek(fds[i], 0, SEEK_CUR) == offset + 1, "duplicate");
    }
    return 0;
}

int main(int argc, char **argv) {
    struct rlimit limit;
    int through[2];
    MAKE(argc == 2 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && pipe(through) == 0);
    limit.rlim_cur = limit.rlim_max;
    MAKE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int each = limit.rlim_max > ALL ? ALL : (int)limit.rlim_max - 200;
    if (each < 4000) {
        printf("the limit of descriptors is %ld\n", (long)limit.rlim_max);
        return SKIPPED;
    }
    each -= each % 4;
    int processes = (ALL + each - 1) / each;
    for (int number = 1; number < processes; number++) {
        pid_t child = fork();
        MAKE(child >= 0);
        if (child == 0) {
            // Only the first one says READY; it does when all others have what they are to have.
            freopen("/dev/null", "w", stdout);
            return said(argv[1], number, each) || write(through[1], "x", 1) != 1;
        }
    }
    // The first one's are made last, which takes as long as the others' take.
    said(argv[1], 0, each);
    close(through[1]);
    int count = 0, status;
    char byte;
    while (read(through[0], &byte, 1) == 1) count++;
    while (wait(&status) > 0) CHECK(status == 0, "a child's status %x", status);
    CHECK(count == processes - 1, "%d of %d processes", count, processes - 1);
    SAY("100,000 descriptors: offsets, duplicates");
    return finish(7);
}
