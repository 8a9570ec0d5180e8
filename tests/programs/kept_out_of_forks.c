/* Memory that is kept out of forks (MADV_DONTFORK), between memory that is not.
 *
 * Wrong would be: neighbours that a child of the program lacks, kept-out memory that it has.
 */
#include "program.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static size_t page;

/* How a child ends that writes to the page `number` of `memory`. */
static int child_writing(unsigned char *memory, int number) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        memory[number * page]++;
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child, "waitpid");
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static void check(unsigned char *memory, const char *when) {
    static const int expected[] = {0, 0, SIGSEGV, 0, SIGSEGV, 0};
    for (int i = 0; i < 6; i++) {
        int status = child_writing(memory, i);
        CHECK(status == expected[i], "%s, a child that writes to page %d ends with %d", when, i, status);
    }
}

int main(void) {
    page = sysconf(_SC_PAGESIZE);
    unsigned char *memory = mmap(NULL, 6 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MAKE(memory != MAP_FAILED);
    fill(memory, 6 * page, 5);
    MAKE(madvise(memory + 2 * page, page, MADV_DONTFORK) == 0 && madvise(memory + 4 * page, page, MADV_DONTFORK) == 0);
    check(memory, "before");

    ready();

    CHECK(filled(memory, 6 * page, 5), "contents");
    check(memory, "after");
    SAY("kept out of forks: two pages of six");
    return finish(7);
}
