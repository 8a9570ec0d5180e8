/* Guard pages that madvise(MADV_GUARD_INSTALL) made: they are in no list of mappings, but whoever touches one dies.
 *
 * Wrong would be: a checkpoint that reads one, a guard that has become an ordinary page of zeroes, a neighbour that has
 * lost its bytes, a guard that cannot be removed.
 */
#include "program.h"

#include <sys/mman.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

enum { PAGES = 64, LARGE_PAGES = 24 * 256 };

static int ends[2];

/* The kernel's answer to whether memory can be read, without a signal. */
static int can_read(const void *memory) {
    char byte;
    int can = write(ends[1], memory, 1) == 1;
    return can && read(ends[0], &byte, 1) == 1;
}

static unsigned char *anonymous(size_t length, int flags) {
    unsigned char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    MAKE(memory != MAP_FAILED);
    return memory;
}

static int is_guard(int i) { return i == 0 || (i >= 7 && i < 10) || i == PAGES - 1; }

int main(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    MAKE(pipe2(ends, O_NONBLOCK) == 0);
    unsigned char *written = anonymous(PAGES * page, MAP_PRIVATE), *untouched = anonymous(PAGES * page, MAP_PRIVATE);
    unsigned char *large = anonymous(LARGE_PAGES * page, MAP_PRIVATE);
    if (madvise(untouched + 5 * page, page, MADV_GUARD_INSTALL) != 0) {
        printf("guard pages: this kernel has no MADV_GUARD_INSTALL\n");
        return SKIPPED;
    }
    fill(written, PAGES * page, 50);
    for (int i = 0; i < PAGES; i++)
        if (is_guard(i)) MAKE(madvise(written + i * page, page, MADV_GUARD_INSTALL) == 0);
    fill(large, LARGE_PAGES * page, 51);
    MAKE(madvise(large + (LARGE_PAGES - 1) * page, page, MADV_GUARD_INSTALL) == 0);
    MAKE(!can_read(written) && can_read(written + page) && !can_read(untouched + 5 * page));

    ready();

    for (int i = 0; i < PAGES; i++) {
        CHECK(can_read(written + i * page) == !is_guard(i), "page %d %s", i, is_guard(i) ? "is a guard" : "is none");
        CHECK(can_read(untouched + i * page) == (i != 5), "untouched page %d", i);
    }
    CHECK(!can_read(large + (LARGE_PAGES - 1) * page) && can_read(large), "the guard behind 24 MiB");
    SAY("guard pages: all guards, and no others");
    CHECK(madvise(written, PAGES * page, MADV_GUARD_REMOVE) == 0, "MADV_GUARD_REMOVE");
    for (int i = 0; i < PAGES; i++) {
        unsigned char expected[16384];
        fill(expected, page, 1);
        for (size_t k = 0; k < page; k++) expected[k] = is_guard(i) ? 0 : pattern_byte(50, i * page + k);
        CHECK(memcmp(written + i * page, expected, page) == 0, "page %d", i);
    }
    CHECK(filled(large, (LARGE_PAGES - 1) * page, 51), "24 MiB");
    CHECK(madvise(untouched, PAGES * page, MADV_GUARD_REMOVE) == 0 && zeroed(untouched, PAGES * page), "zeroes");
    SAY("guard pages: removed, they are zeroes; the pages between them kept their bytes");
    return finish(7);
}
