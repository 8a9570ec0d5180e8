/* Memory that is sealed with mseal(2): nobody may unmap it, move it or change its protection.
 *
 * Wrong would be: memory that is no longer sealed, or that was to be read-only and can be made writable.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

static int is_sealed(void *memory, size_t length) {
    return munmap(memory, length) == -1 && errno == EPERM && mprotect(memory, length, PROT_READ | PROT_WRITE) == -1 &&
           errno == EPERM;
}

int main(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    unsigned char *constant = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *variable = mmap(NULL, 20 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *shared = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned char *closed = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MAKE(constant != MAP_FAILED && variable != MAP_FAILED && shared != MAP_FAILED && closed != MAP_FAILED);
    fill(constant, 4 * page, 1);
    fill(variable, 20 << 20, 2);
    fill(shared, 4 * page, 3);
    fill(closed, 4 * page, 4);
    MAKE(mprotect(constant, 4 * page, PROT_READ) == 0 && mprotect(closed, 4 * page, PROT_NONE) == 0);
    if (syscall(SYS_mseal, constant, 4 * page, 0) != 0) {
        printf("sealed memory: this kernel has no mseal\n");
        return SKIPPED;
    }
    MAKE(syscall(SYS_mseal, variable, 20 << 20, 0) == 0 && syscall(SYS_mseal, shared, 4 * page, 0) == 0);
    MAKE(syscall(SYS_mseal, closed, 4 * page, 0) == 0);
    MAKE(is_sealed(constant, 4 * page) && is_sealed(closed, 4 * page));

    ready();

    CHECK(filled(constant, 4 * page, 1) && filled(variable, 20 << 20, 2) && filled(shared, 4 * page, 3), "contents");
    CHECK(is_sealed(constant, 4 * page) && is_sealed(variable, 20 << 20), "private memory is sealed");
    CHECK(is_sealed(shared, 4 * page) && is_sealed(closed, 4 * page), "and shared, and unreadable memory");
    fill(variable, 20 << 20, 5);
    CHECK(filled(variable, 20 << 20, 5), "sealed memory can be written to");
    SAY("sealed memory: contents and seals");
    return finish(7);
}
