/* Private memory of huge pages (MAP_HUGETLB), on a host that has no more of them than the program takes.
 *
 * Wrong would be: contents, protection, advice or place that are lost, memory of ordinary pages in its place, a page in
 * memory that was only reserved, a fork that gets what it must not or lacks what it must have; and a program that is killed
 * because a copy of it has its pages: it writes to them meanwhile, and there are no others.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/wait.h>

#define HUGE (2ul << 20)
#define SIZE (21 << 26)

/* As many more are reserved at most, so that none is left. */
#define MOST 64

static unsigned char *map(size_t pages, int flags) {
    flags |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | SIZE;
    return mmap(NULL, pages * HUGE, PROT_READ | PROT_WRITE, flags, -1, 0);
}

/* Of the mapping in which `memory` lies: a number that /proc/self/smaps tells, and whether it has a flag. */
static long told(const void *memory, const char *key, const char *flag) {
    char line[512], permissions[8];
    unsigned long start, end;
    int here = 0;
    long value = -1;
    FILE *smaps = fopen("/proc/self/smaps", "r");
    CHECK(smaps != NULL, "/proc/self/smaps");
    while (fgets(line, sizeof line, smaps)) {
        if (sscanf(line, "%lx-%lx %4s", &start, &end, permissions) == 3)
            here = start <= (unsigned long)memory && (unsigned long)memory < end;
        else if (here && key && strncmp(line, key, strlen(key)) == 0)
            value = strtol(line + strlen(key), NULL, 10);
        else if (here && flag && strncmp(line, "VmFlags:", 8) == 0)
            value = strstr(line, flag) != NULL;
    }
    fclose(smaps);
    return value;
}

#define NUMBER(memory, key) told(memory, key ":", NULL)
#define HAS(memory, flag) (told(memory, NULL, " " flag " ") == 1)

static unsigned char *reserved, *lazy, *closed, *kept, *written;

/* The pages that are in memory, and those that are not. */
static void check_presence(void) {
    CHECK(NUMBER(reserved, "Private_Hugetlb") == 2048, "one of two reserved pages is in memory");
    CHECK(NUMBER(lazy, "Private_Hugetlb") == 0, "no page is in memory that was not touched");
    CHECK(NUMBER(lazy + HUGE, "Private_Hugetlb") == 2048, "the one behind it is");
    unsigned char *all[] = {reserved, lazy, lazy + HUGE, closed, kept, written};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK(NUMBER(all[i], "KernelPageSize") == 2048 && HAS(all[i], "ht"), "huge pages (%zu)", i);
        CHECK(HAS(all[i], "nr") == (i == 1 || i == 2 || i == 5), "MAP_NORESERVE (%zu)", i);
        CHECK(HAS(all[i], "dd") == (i == 2), "MADV_DONTDUMP (%zu)", i);
        CHECK(HAS(all[i], "dc") == (i == 4), "MADV_DONTFORK (%zu)", i);
    }
    CHECK(HAS(lazy, "wr") && !HAS(lazy + HUGE, "wr") && HAS(lazy + HUGE, "rd"), "read-only");
    CHECK(!HAS(closed, "rd") && !HAS(closed, "wr"), "neither to be read nor written");
}

int main(void) {
    reserved = map(2, 0);
    lazy = map(2, MAP_NORESERVE);
    closed = map(1, 0);
    kept = map(1, 0);
    written = map(1, MAP_NORESERVE);
    unsigned char *spare = map(2, 0), *rest[MOST];
    if (spare == MAP_FAILED || kept == MAP_FAILED || closed == MAP_FAILED || reserved == MAP_FAILED ||
        lazy == MAP_FAILED || written == MAP_FAILED) {
        printf("huge pages: this machine has too few (%s): raise vm.nr_hugepages by 8\n", strerror(errno));
        return SKIPPED;
    }
    MAKE(munmap(spare, 2 * HUGE) == 0);

    fill(reserved, HUGE, 1);
    fill(lazy + HUGE + 12345, 100, 2);
    fill(lazy + 2 * HUGE - 100, 100, 3);
    fill(closed + 4096, 8192, 4);
    fill(kept, HUGE, 5);
    fill(written, HUGE, 6);
    MAKE(madvise(lazy + HUGE, HUGE, MADV_DONTDUMP) == 0 && mprotect(lazy + HUGE, HUGE, PROT_READ) == 0);
    MAKE(mprotect(closed, HUGE, PROT_NONE) == 0);
    MAKE(madvise(kept, HUGE, MADV_DONTFORK) == 0);
    int taken = 0;
    while (taken < MOST && (rest[taken] = map(1, 0)) != MAP_FAILED) taken++;
    check_presence();

    uint64_t count = 0;
    volatile uint64_t *first = (uint64_t *)written, *last = (uint64_t *)(written + HUGE) - 1;
    *first = *last = 0;
    say_ready();
    while (!told_to_go_on()) {
        struct timespec pause = {0, 200000};
        CHECK(*first == count && *last == count, "what was written last: %lu", (unsigned long)count);
        *first = *last = ++count;
        reserved[0] = pattern_byte(1, 0);
        nanosleep(&pause, NULL);
    }

    check_presence();
    SAY("huge pages: place, size, protection, advice; what was reserved is in no memory");
    CHECK(filled(reserved, HUGE, 1) && filled(kept, HUGE, 5), "contents");
    CHECK(filled(lazy + HUGE + 12345, 100, 2) && filled(lazy + 2 * HUGE - 100, 100, 3), "contents of a page in part");
    CHECK(zeroed(lazy + HUGE, 12345) && zeroed(lazy + HUGE + 12445, HUGE - 12545), "zeroes of a page in part");
    CHECK(*first == count && *last == count, "what was written last: %lu", (unsigned long)count);
    for (size_t i = 8; i < HUGE - 8; i++) CHECK(written[i] == pattern_byte(6, i), "contents that stay, %zu", i);
    MAKE(mprotect(closed, HUGE, PROT_READ) == 0);
    CHECK(zeroed(closed, 4096) && filled(closed + 4096, 8192, 4) && zeroed(closed + 12288, HUGE - 12288), "closed");
    SAY("huge pages: contents");

    for (int i = 0; i < taken; i++) {
        CHECK(NUMBER(rest[i], "Private_Hugetlb") == 0, "reserved only (%d)", i);
        CHECK(munmap(rest[i], HUGE) == 0, "munmap");
    }
    CHECK(zeroed(reserved + HUGE, HUGE), "zeroes");
    reserved[HUGE] = 1;
    SAY("huge pages: what was reserved can be had");
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        unsigned char there;
        if (!filled(reserved, HUGE, 1) || !filled(closed + 4096, 8192, 4)) _exit(1);
        _exit(mincore(kept, HUGE, &there) == 0 || errno != ENOMEM ? 2 : 0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %x", status);
    SAY("huge pages: a fork has them, and lacks what it is not to have");
    return finish(7);
}
