/* The memory devices: /dev/null, zero, full, random, urandom, and a mapping of /dev/zero.
 *
 * Wrong would be: a device that became a file or another device, flags or access mode lost, a private mapping of
 * /dev/zero that is zero again.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/sysmacros.h>

int main(void) {
    static const struct {
        const char *path;
        int flags;
    } devices[] = {{"/dev/null", O_RDWR},
                   {"/dev/zero", O_RDONLY | O_CLOEXEC},
                   {"/dev/full", O_RDWR | O_NONBLOCK},
                   {"/dev/random", O_RDONLY | O_NONBLOCK | O_CLOEXEC},
                   {"/dev/urandom", O_RDONLY}};
    enum { COUNT = sizeof devices / sizeof *devices };
    int fds[COUNT];
    struct flags flags[COUNT];
    struct stat stats[COUNT];
    size_t page = sysconf(_SC_PAGESIZE);
    for (int i = 0; i < COUNT; i++) {
        fds[i] = open(devices[i].path, devices[i].flags);
        MAKE(fds[i] >= 0 && fstat(fds[i], &stats[i]) == 0);
        flags[i] = flags_of(fds[i]);
    }
    int writing = open("/dev/null", O_WRONLY | O_APPEND);
    struct flags writing_flags = flags_of(writing);
    int copy = dup2(fds[0], 77);
    MAKE(writing >= 0 && copy == 77);
    unsigned char *private = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fds[1], 0);
    MAKE(private != MAP_FAILED);
    fill(private, page, 5);

    ready();

    for (int i = 0; i < COUNT; i++) {
        struct stat now;
        CHECK(fstat(fds[i], &now) == 0 && S_ISCHR(now.st_mode), "%s is a device", devices[i].path);
        CHECK(now.st_rdev == stats[i].st_rdev, "%s is device %u:%u", devices[i].path, major(stats[i].st_rdev),
              minor(stats[i].st_rdev));
        CHECK(same_flags(fds[i], flags[i]), "flags of %s", devices[i].path);
    }
    CHECK(same_flags(writing, writing_flags), "flags of the second /dev/null");
    char bytes[64], others[64];
    errno = 0;
    CHECK(write(writing, "x", 1) == 1 && read(writing, bytes, 1) == -1 && errno == EBADF, "/dev/null, write-only");
    CHECK(read(fds[0], bytes, 1) == 0 && write(fds[0], "x", 1) == 1 && write(copy, "x", 1) == 1, "/dev/null");
    memset(bytes, 1, sizeof bytes);
    CHECK(read(fds[1], bytes, sizeof bytes) == sizeof bytes && zeroed(bytes, sizeof bytes), "/dev/zero");
    errno = 0;
    CHECK(write(fds[2], "x", 1) == -1 && errno == ENOSPC, "/dev/full");
    for (int i = 3; i < 5; i++) {
        CHECK(read(fds[i], bytes, 64) == 64 && read(fds[i], others, 64) == 64, "%s gives bytes", devices[i].path);
        CHECK(memcmp(bytes, others, 64) != 0, "%s gives other bytes each time", devices[i].path);
    }
    SAY("devices: null, zero, full, random, urandom are themselves, with their flags");
    CHECK(filled(private, page, 5) && zeroed(private + page, 3 * page), "the mapping of /dev/zero");
    SAY("devices: a private mapping of /dev/zero keeps what was written");
    return finish(7);
}
