/* 60,000 mappings, near the most that a process may have (vm.max_map_count is 65,530).
 *
 * Wrong would be: a checkpoint or a restart that fails for mappings of its own or takes minutes; a mapping that is gone,
 * has lost its bytes or has another protection.
 */
#include "program.h"

#include <sys/mman.h>

enum { MAPPINGS = 60000 };

static int count_mappings(void) {
    int count = 0, c;
    FILE *file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL, "/proc/self/maps");
    while ((c = getc(file)) != EOF) count += c == '\n';
    fclose(file);
    return count;
}

int main(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    unsigned char *memory =
        mmap(NULL, MAPPINGS * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MAKE(memory != MAP_FAILED);
    for (int i = 0; i < MAPPINGS; i += 3) memory[i * page + i % page] = (unsigned char)(i / 3 + 1);
    /* Every second page another protection: none of them can be one mapping. */
    for (int i = 0; i < MAPPINGS; i += 2) MAKE(mprotect(memory + i * page, page, PROT_READ) == 0);
    MAKE(count_mappings() >= MAPPINGS);
    int64_t begun = nanoseconds(CLOCK_MONOTONIC);

    ready();

    CHECK(nanoseconds(CLOCK_MONOTONIC) - begun < 60 * SECONDS, "checkpoints and restarts were quick");
    CHECK(count_mappings() >= MAPPINGS, "%d mappings", count_mappings());
    for (int i = 0; i < MAPPINGS; i++) {
        unsigned char expected = i % 3 == 0 ? (unsigned char)(i / 3 + 1) : 0;
        CHECK(memory[i * page + i % page] == expected, "mapping %d", i);
        if (i % 2) memory[i * page] = 1;
    }
    SAY("many mappings: 60000, with their bytes");
    CHECK(read(open("/dev/zero", O_RDONLY), memory, 1) == -1 && errno == EFAULT, "pages that cannot be written");
    CHECK(munmap(memory, MAPPINGS * page) == 0, "munmap");
    SAY("many mappings: with their protections");
    return finish(7);
}
