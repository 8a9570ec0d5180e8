/* Address space that is reserved and hardly used: 2 TiB, or so many GiB as are asked for, with three pages, private; 16 GiB
 * with three pages, shared.
 *
 * Wrong would be: a checkpoint or a restart that takes time or room for what was never touched, a page lost or found
 * elsewhere, memory that is paid for now.
 */
#include "program.h"

#include <sys/mman.h>

#define GIBIBYTE (1ul << 30)

static unsigned char *reserve(size_t length, int flags) {
    unsigned char *memory =
        mmap(NULL, length, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MAKE(memory != MAP_FAILED);
    return memory;
}

/* Kilobytes of /proc/self/status. */
static long kilobytes(const char *name) {
    char line[256];
    long value = -1;
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file != NULL, "/proc/self/status");
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0) value = strtol(line + strlen(name), NULL, 10);
    fclose(file);
    return value;
}

int main(int argc, char **argv) {
    size_t page = sysconf(_SC_PAGESIZE);
    size_t gibibytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 2048, length = gibibytes * GIBIBYTE;
    size_t shared_length = 16 * GIBIBYTE;
    unsigned char *memory = reserve(length, MAP_PRIVATE), *shared = reserve(shared_length, MAP_SHARED);
    size_t places[] = {0, length / 3 / page * page, length - page};
    size_t shared_places[] = {page, shared_length / 3 / page * page, shared_length - page};
    for (int i = 0; i < 3; i++) {
        fill(memory + places[i], page, 20 + i);
        fill(shared + shared_places[i], page, 30 + i);
    }
    long resident = kilobytes("VmRSS:"), tables = kilobytes("VmPTE:");
    int64_t begun = nanoseconds(CLOCK_MONOTONIC);

    ready();

    CHECK(nanoseconds(CLOCK_MONOTONIC) - begun < 60 * SECONDS, "checkpoints and restarts were quick");
    for (int i = 0; i < 3; i++) {
        CHECK(filled(memory + places[i], page, 20 + i), "page %d of %zu GiB", i, gibibytes);
        CHECK(filled(shared + shared_places[i], page, 30 + i), "page %d of 16 GiB", i);
    }
    SAY("reserved memory: three pages of each");
    CHECK(zeroed(memory + places[1] + page, 1 << 20) && zeroed(memory + places[1] - (1 << 20), 1 << 20), "zeroes");
    CHECK(zeroed(shared + shared_places[1] + page, 1 << 20), "zeroes of shared memory");
    CHECK(kilobytes("VmRSS:") < resident + 16384 && kilobytes("VmPTE:") < tables + 4096, "memory in use: %ld, %ld kB",
          kilobytes("VmRSS:"), kilobytes("VmPTE:"));
    fill(memory + length / 2, page, 40);
    CHECK(filled(memory + length / 2, page, 40), "a fourth page");
    SAY("reserved memory: nothing else is in use");
    return finish(7);
}
