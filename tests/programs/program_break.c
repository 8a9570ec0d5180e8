/* The heap that brk(2) makes: moved up and down before and after.
 *
 * Wrong would be: another break, bytes lost below it, old bytes above it where zeroes must be, a heap that is not
 * called [heap], an allocator that can no longer use it.
 */
#include "program.h"

#include <malloc.h>

#define KIBIBYTE 1024l

static int in_heap(const void *address) {
    char line[512];
    int found = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL, "/proc/self/maps");
    while (fgets(line, sizeof line, file)) {
        unsigned long start, end;
        if (strstr(line, "[heap]") && sscanf(line, "%lx-%lx", &start, &end) == 2)
            found |= start <= (unsigned long)address && (unsigned long)address < end;
    }
    fclose(file);
    return found;
}

int main(void) {
    /* The allocator shall keep to its own: small blocks first, whose place is not given back. */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_MMAP_THRESHOLD, 1 << 28);
    unsigned char *block = malloc(24 * 1024 * KIBIBYTE);
    MAKE(block != NULL);
    fill(block, 24 * 1024 * KIBIBYTE, 1);
    unsigned char *start = sbrk(0);
    MAKE(sbrk(900 * KIBIBYTE) == start);
    fill(start, 900 * KIBIBYTE, 2);
    MAKE(sbrk(-500 * KIBIBYTE + 123) != (void *)-1);
    unsigned char *end = sbrk(0);
    MAKE(end == start + 400 * KIBIBYTE + 123);

    ready();

    CHECK(sbrk(0) == end, "the break");
    CHECK(filled(start, end - start, 2) && filled(block, 24 * 1024 * KIBIBYTE, 1), "contents");
    CHECK(in_heap(start) && in_heap(block), "it is called [heap]");
    SAY("program break: where it was, with what is below it");
    CHECK(sbrk(1000 * KIBIBYTE) == end, "moved up");
    /* The rest of the page with the old break keeps what was written before it was moved down. */
    unsigned char *page = (unsigned char *)(((uintptr_t)end + 4095) & ~4095ul);
    CHECK(zeroed(page, 900 * KIBIBYTE), "zeroes above the old break");
    fill(end, 1000 * KIBIBYTE, 3);
    CHECK(in_heap(end + 999 * KIBIBYTE), "one heap");
    CHECK(sbrk(-1200 * KIBIBYTE) == end + 1000 * KIBIBYTE && filled(start, 200 * KIBIBYTE, 2), "moved down");
    unsigned char *low = sbrk(0);
    CHECK(sbrk(600 * KIBIBYTE) == low && zeroed(low + 4096, 590 * KIBIBYTE), "and up again: zeroes");
    CHECK(brk(start) == 0 && sbrk(0) == start, "brk to where it began");
    SAY("program break: up, down, up; fresh pages are zero");
    unsigned char *more = malloc(2 * 1024 * KIBIBYTE);
    CHECK(more != NULL && in_heap(more), "the allocator uses it");
    fill(more, 2 * 1024 * KIBIBYTE, 4);
    CHECK(filled(block, 24 * 1024 * KIBIBYTE, 1) && filled(more, 2 * 1024 * KIBIBYTE, 4), "its blocks");
    free(block);
    CHECK(malloc_trim(0) >= 0 && filled(more, 2 * 1024 * KIBIBYTE, 4), "malloc_trim");
    SAY("program break: malloc goes on with it");
    return finish(7);
}
