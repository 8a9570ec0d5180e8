/* Memory of huge pages that a process has from its parent: some pages are still common to both, one was written to since.
 *
 * Wrong would be: contents of the one in the other, or a page that is not there for one of them.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/wait.h>

#define HUGE (2ul << 20)

int main(void) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << 26;
    unsigned char *memory = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    unsigned char *spare = mmap(NULL, 6 * HUGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED || spare == MAP_FAILED) {
        printf("huge pages: this machine has too few (%s): raise vm.nr_hugepages by 8\n", strerror(errno));
        return SKIPPED;
    }
    MAKE(munmap(spare, 6 * HUGE) == 0);
    fill(memory, HUGE, 1);
    fill(memory + HUGE, HUGE, 2);
    int ends[2], begun[2];
    char none;
    MAKE(pipe(ends) == 0 && pipe(begun) == 0);
    pid_t child = fork();
    MAKE(child >= 0);
    if (child == 0) {
        fill(memory + HUGE, HUGE, 3);
        if (write(begun[1], "x", 1) != 1) _exit(4);
        close(ends[1]);
        /* Until the parent has checked and closed its end. */
        while (read(ends[0], &none, 1) < 0) continue;
        if (!filled(memory, HUGE, 1)) _exit(1);
        if (!filled(memory + HUGE, HUGE, 3)) _exit(2);
        fill(memory, HUGE, 4);
        _exit(filled(memory, HUGE, 4) ? 0 : 3);
    }
    close(ends[0]);
    MAKE(read(begun[0], &none, 1) == 1);

    ready();

    CHECK(filled(memory, HUGE, 1) && filled(memory + HUGE, HUGE, 2), "the parent's contents");
    fill(memory, HUGE, 5);
    close(ends[1]);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %x", status);
    CHECK(filled(memory, HUGE, 5), "the parent's contents after the child's end");
    SAY("huge pages: parent and child have their own");
    return finish(7);
}
