/* Shared anonymous memory: MAP_SHARED | MAP_ANONYMOUS.
 *
 * Wrong would be: memory that became private. Nothing looks wrong until a child is made and what it writes is never
 * seen (a database that loses what it has acknowledged). Also wrong: two mappings of one object that fell apart, and
 * untouched pages that are not zero.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/wait.h>

#define MEBIBYTE (1024 * 1024)

int main(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    unsigned char *memory = mmap(NULL, 4 * MEBIBYTE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned char *sparse = mmap(NULL, 64 * MEBIBYTE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned char *sealed = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(memory != MAP_FAILED && sparse != MAP_FAILED && sealed != MAP_FAILED);
    /* An old size of 0 makes a second mapping of the same object. */
    unsigned char *second = mremap(memory, 0, 4 * MEBIBYTE, MREMAP_MAYMOVE);
    MAKE(second != MAP_FAILED && second != memory);
    fill(memory, 4 * MEBIBYTE, 2);
    fill(sparse + 32 * MEBIBYTE, page, 3);
    fill(sealed, page, 4);
    MAKE(mprotect(sealed, page, PROT_READ) == 0);

    ready();

    CHECK(filled(memory, 4 * MEBIBYTE, 2), "contents");
    CHECK(filled(second, 4 * MEBIBYTE, 2), "contents through the second mapping");
    CHECK(filled(sparse + 32 * MEBIBYTE, page, 3), "the touched page among untouched ones");
    CHECK(zeroed(sparse, 32 * MEBIBYTE) && zeroed(sparse + 32 * MEBIBYTE + page, 32 * MEBIBYTE - page),
          "untouched pages are zero");
    CHECK(filled(sealed, page, 4) && zeroed(sealed + page, page), "the read-only page");
    SAY("shared anonymous: contents of 4 MiB, of a touched page in 64 MiB, of a read-only page");

    memory[12345] = 77;
    CHECK(second[12345] == 77, "two mappings show the same bytes");
    second[3 * MEBIBYTE] = 78;
    CHECK(memory[3 * MEBIBYTE] == 78, "two mappings show the same bytes, the other way");
    SAY("shared anonymous: two mappings of one object are one");

    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        memory[99] = 'c';
        sparse[5] = 'd';
        sealed[page + 1] = 'e';
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ends well");
    CHECK(memory[99] == 'c' && second[99] == 'c' && sparse[5] == 'd' && sealed[page + 1] == 'e',
          "what a child writes is seen");
    SAY("shared anonymous: what a child writes is seen");

    int zero = open("/dev/zero", O_RDONLY);
    errno = 0;
    CHECK(read(zero, sealed, 1) == -1 && errno == EFAULT, "the read-only page cannot be written");
    CHECK(madvise(memory, MEBIBYTE, MADV_DONTNEED) == 0 && memory[99] == 'c' && memory[0] == pattern_byte(2, 0),
          "MADV_DONTNEED does not empty shared memory");
    SAY("shared anonymous: protections kept, MADV_DONTNEED loses nothing");
    return finish(7);
}
