/* A program that may not have more address space than it uses (ulimit -v).
 *
 * Wrong would be: a checkpoint or a restart for which it does not suffice, a limit that is another one afterwards.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/resource.h>

static long size_in_bytes(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    MAKE(file != NULL && fscanf(file, "%ld", &pages) == 1 && fclose(file) == 0);
    return pages * sysconf(_SC_PAGESIZE);
}

int main(void) {
    unsigned char *memory = malloc(20 << 20);
    MAKE(memory != NULL);
    fill(memory, 20 << 20, 8);
    /* What is in use, and 24 MiB; as ulimit sets it, so that the program itself cannot raise it again. */
    struct rlimit limit, now;
    limit.rlim_cur = limit.rlim_max = size_in_bytes() + (24 << 20);
    MAKE(setrlimit(RLIMIT_AS, &limit) == 0);

    ready();

    CHECK(filled(memory, 20 << 20, 8), "contents");
    CHECK(getrlimit(RLIMIT_AS, &now) == 0 && now.rlim_cur == limit.rlim_cur && now.rlim_max == limit.rlim_max,
          "the limit is %lu, was %lu", (unsigned long)now.rlim_cur, (unsigned long)limit.rlim_cur);
    CHECK(mmap(NULL, 40 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED, "it is kept to");
    unsigned char *more = malloc(8 << 20);
    CHECK(more != NULL, "8 MiB more");
    fill(more, 8 << 20, 9);
    SAY("address limit: kept, and memory below it");
    return finish(7);
}
