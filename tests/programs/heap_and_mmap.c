/* Memory of the program's own: heap, anonymous mappings of every kind, stack.
 *
 * Wrong would be: a byte that differs, a page that can be read where it must not, code that cannot run. After a restart
 * from a mapped image also: growing a mapping, growing a heap block, or dropping a page with MADV_DONTNEED shows bytes
 * of the image where zeroes must be; address space that was only reserved is now paid for.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/wait.h>

#define KIBIBYTE 1024ul
#define MEBIBYTE (1024 * KIBIBYTE)
#define GIBIBYTE (1024 * MEBIBYTE)

static int ends[2];

/* The kernel's answer to whether memory can be read or written, without a signal. */
static int can_read(const void *memory) {
    char byte;
    int can = write(ends[1], memory, 1) == 1;
    return can && read(ends[0], &byte, 1) == 1;
}

static int can_write(void *memory) {
    char byte = 0;
    if (can_read(memory)) byte = *(char *)memory;
    if (write(ends[1], &byte, 1) != 1) return 0;
    int can = read(ends[0], memory, 1) == 1;
    if (!can) can = read(ends[0], &byte, 1) != 1;
    return can;
}

static unsigned char *anonymous(size_t length, int protection, int flags) {
    unsigned char *memory = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    MAKE(memory != MAP_FAILED);
    return memory;
}

/* mov $number, %eax; ret */
static void write_code(unsigned char *memory, int number) {
#if defined __x86_64__
    memory[0] = 0xb8;
    memcpy(memory + 1, &number, 4);
    memory[5] = 0xc3;
#elif defined __aarch64__
    uint32_t code[] = {0x52800000u | (uint32_t)(number & 0xffff) << 5, 0xd65f03c0u};
    memcpy(memory, code, sizeof code);
    __builtin___clear_cache((char *)memory, (char *)memory + sizeof code);
#endif
}

static int run(unsigned char *memory) {
    int (*function)(void);
    memcpy(&function, &memory, sizeof function);
    return function();
}

/* Grows the stack by `depth` frames of 64 KiB and says whether each kept its bytes. */
__attribute__((noinline)) static int deep(int depth) {
    volatile unsigned char frame[64 * 1024];
    for (size_t i = 0; i < sizeof frame; i += 512) frame[i] = (unsigned char)(depth + i / 512);
    int good = depth == 0 || deep(depth - 1);
    for (size_t i = 0; i < sizeof frame; i += 512)
        if (frame[i] != (unsigned char)(depth + i / 512)) good = 0;
    return good;
}

static unsigned char uninitialized[3 * MEBIBYTE];
static unsigned char initialized[64 * KIBIBYTE] = {1, 2, 3};
static const unsigned char constant[16] = {7, 7, 7};

int main(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    unsigned char on_stack[256 * KIBIBYTE];
    fill(on_stack, sizeof on_stack, 29);
    fill(uninitialized + MEBIBYTE, MEBIBYTE, 30);
    fill(initialized, sizeof initialized, 31);

    enum { BLOCKS = 500 };
    unsigned char *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        MAKE((blocks[i] = malloc(100 + i * 37)) != NULL);
        fill(blocks[i], 100 + i * 37, 1000 + i);
    }
    for (int i = 0; i < BLOCKS; i += 3) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    unsigned char *large_block = malloc(40 * MEBIBYTE);
    MAKE(large_block != NULL);
    fill(large_block, 40 * MEBIBYTE, 32);

    unsigned char *sparse = anonymous(64 * MEBIBYTE, PROT_READ | PROT_WRITE, 0);
    for (int i = 0; i < 64; i += 2) fill(sparse + i * MEBIBYTE + (i * 4 % 256) * page, page, 2000 + i);
    unsigned char *only_read = anonymous(MEBIBYTE, PROT_READ | PROT_WRITE, 0);
    for (size_t i = 0; i < MEBIBYTE; i += page) MAKE(((volatile unsigned char *)only_read)[i] == 0);
    unsigned char *guarded = anonymous(5 * page, PROT_READ | PROT_WRITE, 0);
    fill(guarded, 5 * page, 33);
    MAKE(mprotect(guarded, page, PROT_NONE) == 0 && mprotect(guarded + 4 * page, page, PROT_NONE) == 0);
    MAKE(mprotect(guarded + 2 * page, page, PROT_READ) == 0);
    unsigned char *empty_guard = anonymous(16 * page, PROT_NONE, 0);
    unsigned char *code = anonymous(page, PROT_READ | PROT_WRITE, 0);
    write_code(code, 4711);
    MAKE(mprotect(code, page, PROT_READ | PROT_EXEC) == 0 && run(code) == 4711);
    unsigned char *reserved = anonymous(8 * GIBIBYTE, PROT_READ | PROT_WRITE, MAP_NORESERVE);
    size_t places[] = {0, 3 * GIBIBYTE + 5 * page, 8 * GIBIBYTE - page};
    for (int i = 0; i < 3; i++) fill(reserved + places[i], page, 40 + i);
    unsigned char *growing = anonymous(32 * MEBIBYTE, PROT_READ | PROT_WRITE, 0);
    fill(growing, 32 * MEBIBYTE, 34);
    unsigned char *dropped = anonymous(4 * MEBIBYTE, PROT_READ | PROT_WRITE, 0);
    fill(dropped, 4 * MEBIBYTE, 35);
    unsigned char *wiped = anonymous(2 * page, PROT_READ | PROT_WRITE, 0);
    fill(wiped, page, 36);
    fill(wiped + page, page, 47);
    MAKE(madvise(wiped, page, MADV_WIPEONFORK) == 0);
    unsigned char *unforked = anonymous(64 * page, PROT_READ | PROT_WRITE, 0);
    fill(unforked, 64 * page, 37);
    MAKE(madvise(unforked, 64 * page, MADV_DONTFORK) == 0);
    unsigned char *lazy = anonymous(MEBIBYTE, PROT_READ | PROT_WRITE, 0);
    unsigned char *at_break = sbrk(3 * 4096 + 100);
    MAKE(at_break != (void *)-1);
    fill(at_break, 3 * 4096 + 100, 38);
    unsigned char *end = sbrk(0);
    unsigned long long started = start_time();

    ready();

    CHECK(filled(on_stack, sizeof on_stack, 29), "stack");
    CHECK(filled(uninitialized + MEBIBYTE, MEBIBYTE, 30) && zeroed(uninitialized, MEBIBYTE) &&
              zeroed(uninitialized + 2 * MEBIBYTE, MEBIBYTE),
          "uninitialized data");
    CHECK(filled(initialized, sizeof initialized, 31) && constant[2] == 7, "initialized data");
    SAY("heap and mmap: stack and data");

    CHECK(sbrk(0) == end, "the break is where it was");
    CHECK(filled(at_break, 3 * 4096 + 100, 38), "memory below the break");
    unsigned char *more = sbrk(64 * 4096);
    CHECK(more == end && zeroed(more, 64 * 4096), "the break grows by zeroes");
    fill(more, 64 * 4096, 39);
    CHECK(filled(at_break, 3 * 4096 + 100, 38) && filled(more, 64 * 4096, 39), "both sides of the old break");
    SAY("heap and mmap: break, contents, growing");

    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i]) CHECK(filled(blocks[i], 100 + i * 37, 1000 + i), "block %d", i);
    for (int i = 0; i < BLOCKS; i++) {
        size_t old = blocks[i] ? 100 + i * 37 : 0, new = 50 + i * 91;
        blocks[i] = realloc(blocks[i], new);
        CHECK(blocks[i] != NULL && filled(blocks[i], old < new ? old : new, 1000 + i),
              "block %d, given another size", i);
    }
    for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
    SAY("heap and mmap: 500 heap blocks, freed and given other sizes");

    CHECK(filled(large_block, 40 * MEBIBYTE, 32), "a heap block of 40 MiB");
    large_block = realloc(large_block, 80 * MEBIBYTE);
    CHECK(large_block != NULL && filled(large_block, 40 * MEBIBYTE, 32), "grown to 80 MiB it keeps its 40 MiB");
    CHECK(zeroed(large_block + 41 * MEBIBYTE, 38 * MEBIBYTE), "fresh pages of a grown heap block are zero");
    fill(large_block, 80 * MEBIBYTE, 41);
    CHECK(filled(large_block, 80 * MEBIBYTE, 41), "all of it can be written");
    free(large_block);
    SAY("heap and mmap: a heap block of 40 MiB grows to 80 MiB");

    for (int i = 0; i < 64; i++) {
        unsigned char *start = sparse + i * MEBIBYTE, *touched = start + (i * 4 % 256) * page;
        if (i % 2)
            CHECK(zeroed(start, MEBIBYTE), "untouched MiB %d", i);
        else
            CHECK(filled(touched, page, 2000 + i) && zeroed(start, touched - start) &&
                      zeroed(touched + page, start + MEBIBYTE - touched - page),
                  "touched MiB %d", i);
    }
    CHECK(zeroed(only_read, MEBIBYTE), "pages that were only read");
    SAY("heap and mmap: 32 touched pages of a sparse 64 MiB");

    CHECK(pipe2(ends, O_NONBLOCK) == 0, "pipe");
    CHECK(!can_read(guarded) && !can_read(guarded + 4 * page) && !can_read(empty_guard + 7 * page), "PROT_NONE");
    CHECK(can_read(guarded + 2 * page) && !can_write(guarded + 2 * page) && can_write(guarded + page) &&
              can_write(guarded + 3 * page),
          "PROT_READ");
    CHECK(can_read(code) && !can_write(code), "code cannot be written");
    CHECK(mprotect(guarded, 5 * page, PROT_READ | PROT_WRITE) == 0 && filled(guarded, 5 * page, 33),
          "what stands behind the protections");
    CHECK(mprotect(empty_guard, 16 * page, PROT_READ) == 0 && zeroed(empty_guard, 16 * page), "an empty guard");
    SAY("heap and mmap: PROT_NONE and PROT_READ pages, and their contents");

    CHECK(run(code) == 4711, "code");
    CHECK(mprotect(code, page, PROT_READ | PROT_WRITE) == 0, "mprotect");
    write_code(code, 42);
    CHECK(mprotect(code, page, PROT_READ | PROT_EXEC) == 0 && run(code) == 42, "rewritten code");
    SAY("heap and mmap: generated code runs, and new one after it");

    for (int i = 0; i < 3; i++) CHECK(filled(reserved + places[i], page, 40 + i), "page %d of 8 GiB", i);
    CHECK(zeroed(reserved + page, MEBIBYTE) && zeroed(reserved + 5 * GIBIBYTE, MEBIBYTE), "between them");
    SAY("heap and mmap: 3 pages of reserved 8 GiB");

    growing = mremap(growing, 32 * MEBIBYTE, 64 * MEBIBYTE, MREMAP_MAYMOVE);
    CHECK(growing != MAP_FAILED, "mremap");
    CHECK(filled(growing, 32 * MEBIBYTE, 34), "the old part of a grown mapping");
    CHECK(zeroed(growing + 32 * MEBIBYTE, 32 * MEBIBYTE), "the new part of a grown mapping is zero");
    growing = mremap(growing, 64 * MEBIBYTE, 16 * MEBIBYTE, 0);
    CHECK(growing != MAP_FAILED && filled(growing, 16 * MEBIBYTE, 34), "a mapping made smaller");
    growing = mremap(growing, 16 * MEBIBYTE, 24 * MEBIBYTE, MREMAP_MAYMOVE);
    CHECK(growing != MAP_FAILED && zeroed(growing + 16 * MEBIBYTE, 8 * MEBIBYTE), "and grown again is zero there");
    SAY("heap and mmap: mremap from 32 to 64, to 16, to 24 MiB");

    CHECK(filled(dropped, 4 * MEBIBYTE, 35), "4 MiB");
    CHECK(madvise(dropped + MEBIBYTE, MEBIBYTE, MADV_DONTNEED) == 0, "MADV_DONTNEED");
    CHECK(zeroed(dropped + MEBIBYTE, MEBIBYTE), "dropped pages are zero");
    CHECK(filled(dropped, MEBIBYTE, 35), "and no others");
    fill(lazy, MEBIBYTE, 46);
    CHECK(madvise(lazy, MEBIBYTE, MADV_DONTNEED) == 0 && zeroed(lazy, MEBIBYTE), "pages first touched now, dropped");
    CHECK(mmap(dropped + 2 * MEBIBYTE, MEBIBYTE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) == dropped + 2 * MEBIBYTE &&
              zeroed(dropped + 2 * MEBIBYTE, MEBIBYTE),
          "mapped over, pages are zero");
    CHECK(munmap(dropped, 4 * MEBIBYTE) == 0 && !can_read(dropped), "munmap");
    SAY("heap and mmap: dropped pages are zero");

    /* A restart is a fork to it: its page is whole or wiped, as after fork(2), and no other is. */
    CHECK(start_time() == started ? filled(wiped, page, 36) : zeroed(wiped, page), "a MADV_WIPEONFORK page is zero after a restart");
    CHECK(filled(wiped + page, page, 47), "the page behind it is whole");
    CHECK(filled(unforked, 64 * page, 37), "MADV_DONTFORK pages are whole");
    fill(wiped, page, 36);
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) _exit(zeroed(wiped, page) && filled(wiped + page, page, 47) && !can_read(unforked) ? 0 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "a child finds the one zero and the others absent");
    SAY("heap and mmap: MADV_WIPEONFORK and MADV_DONTFORK still hold");

    CHECK(deep(60), "a stack that grows by 4 MiB");
    SAY("heap and mmap: the stack grows");
    return finish(7);
}
