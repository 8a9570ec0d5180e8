/* Code that a program writes for itself: pages that are made executable, and one page shown twice, once to write and
 * once to run (W^X through a memfd, as language runtimes do it).
 *
 * Wrong would be: code that cannot run or is another, two mappings that no longer show the same page.
 */
#include "program.h"

#include <sys/mman.h>

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

enum { FUNCTIONS = 3000 };

int main(int argc, char **argv) {
    size_t page = sysconf(_SC_PAGESIZE);
    int keep_open = argc > 1 && strcmp(argv[1], "open") == 0;
    unsigned char *both = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MAKE(both != MAP_FAILED);
    for (int i = 0; i < FUNCTIONS; i++) write_code(both + i * 2000, i);
    int file = memfd_create("code", MFD_CLOEXEC);
    MAKE(file >= 0 && ftruncate(file, 64 * page) == 0);
    unsigned char *writable = mmap(NULL, 64 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned char *executable = mmap(NULL, 64 * page, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    unsigned char *copied = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    MAKE(writable != MAP_FAILED && executable != MAP_FAILED && copied != MAP_FAILED);
    write_code(writable + 3 * page, 1234);
    MAKE(run(executable + 3 * page) == 1234);
    write_code(copied + page, 99);
    if (!keep_open) MAKE(close(file) == 0);

    ready();

    for (int i = 0; i < FUNCTIONS; i++) CHECK(run(both + i * 2000) == i, "function %d", i);
    write_code(both, 4321);
    CHECK(run(both) == 4321, "a function that is written now");
    SAY("generated code: 3000 functions, and one more");
    CHECK(run(executable + 3 * page) == 1234, "code that was written elsewhere");
    write_code(writable + 5 * page, 5678);
    CHECK(run(executable + 5 * page) == 5678, "code that is written elsewhere now");
    CHECK(copied[page] == writable[3 * page] && writable[page] == 0, "a private page is the program's own");
    SAY("generated code: written through one mapping, run through the other");
    return finish(7);
}
