/* As many descriptors as the limit allows, up to 15,000: of one device, of one file, and duplicates of these.
 *
 * Wrong would be: a checkpoint for which each is compared with each, which takes longer than a process may stand; an offset that
 * is shared and was not, or the other way round.
 */
#include "program.h"

#include <sys/resource.h>

#define MOST 15000

static int fds[MOST];

int main(int argc, char **argv) {
    struct rlimit limit;
    MAKE(argc == 2 && getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    MAKE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int count = limit.rlim_max < MOST + 100 ? (int)limit.rlim_max - 100 : MOST;
    count -= count % 3;
    const char *path = in(argv[1], "file");
    MAKE(count > 0 && close(open(path, O_CREAT | O_RDWR, 0600)) == 0);
    for (int i = 0; i < count; i += 3) {
        fds[i] = open("/dev/null", O_RDWR);
        fds[i + 1] = open(path, O_RDWR);
        fds[i + 2] = dup(fds[i + 1]);
        MAKE(fds[i] >= 0 && fds[i + 1] >= 0 && fds[i + 2] >= 0 && lseek(fds[i + 1], i, SEEK_SET) == i);
    }

    ready();

    for (int i = 0; i < count; i += 3) {
        CHECK(lseek(fds[i + 1], 0, SEEK_CUR) == i, "the offset of descriptor %d", fds[i + 1]);
        CHECK(lseek(fds[i + 2], 1, SEEK_CUR) == i + 1 && lseek(fds[i + 1], 0, SEEK_CUR) == i + 1, "the duplicate's offset");
        CHECK(write(fds[i], "x", 1) == 1, "the device");
    }
    SAY("many descriptors: devices, files, duplicates");
    return finish(7);
}
