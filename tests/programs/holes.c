/* Pages between mappings at which nothing is mapped.
 *
 * Wrong would be: something in such a place afterwards, where the program may want to map something itself. Of larger places any
 * library may take a part, by mmap(2) without an address, and so does Zap.
 */
#include "program.h"

#include <sys/mman.h>

enum { PIECES = 64, PIECE = 3 };

static size_t page;

static int is_mapped(unsigned char *address) {
    unsigned char resident;
    if (mincore(address, page, &resident) == 0) return 1;
    CHECK(errno == ENOMEM, "mincore");
    return 0;
}

/* Pieces of three pages, of which the last one is no more. */
static void check(unsigned char *memory, const char *when) {
    for (size_t i = 0; i < PIECES * PIECE; i++) {
        int expected = i % PIECE != PIECE - 1;
        CHECK(is_mapped(memory + i * page) == expected, "%s: page %zu is %smapped", when, i, expected ? "not " : "");
        if (expected) CHECK(filled(memory + i * page, page, i), "%s: contents of page %zu", when, i);
    }
}

int main(void) {
    page = sysconf(_SC_PAGESIZE);
    unsigned char *memory = mmap(NULL, PIECES * PIECE * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MAKE(memory != MAP_FAILED);
    for (size_t i = 0; i < PIECES * PIECE; i++) {
        if (i % PIECE == PIECE - 1) MAKE(munmap(memory + i * page, page) == 0);
        else fill(memory + i * page, page, i);
    }
    check(memory, "before");

    ready();

    check(memory, "after");
    SAY("holes: nothing is in them");
    for (size_t i = PIECE - 1; i < PIECES * PIECE; i += PIECE) {
        unsigned char *own = mmap(memory + i * page, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        CHECK(own == memory + i * page && zeroed(own, page), "a new page in a hole");
    }
    SAY("holes: the program fills them");
    return finish(7);
}
