/* A private mapping of a file that is truncated under it, and then deleted.
 *
 * Wrong would be: a checkpoint that dies of the SIGBUS behind the file's end, other contents, memory where there was
 * none.
 */
#include "program.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

enum { PAGES = 64, LEFT = 21 };

static sigjmp_buf back;
static volatile int code_of_fault;

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    code_of_fault = info->si_code;
    siglongjmp(back, 1);
}

/* Whether reading the byte is a SIGBUS. */
static int is_behind(const unsigned char *byte) {
    if (sigsetjmp(back, 1) == 0) {
        (void)*(const volatile unsigned char *)byte;
        return 0;
    }
    return code_of_fault == BUS_ADRERR;
}

int main(int argc, char **argv) {
    char path[4096];
    long page = sysconf(_SC_PAGESIZE);
    unsigned char *contents = malloc(PAGES * page);
    CHECK(argc > 1, "a directory is needed");
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    MAKE(sigaction(SIGBUS, &action, NULL) == 0);
    snprintf(path, sizeof path, "%s/file.%d", argv[1], (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    fill(contents, PAGES * page, 11);
    MAKE(fd >= 0 && write(fd, contents, PAGES * page) == PAGES * page);
    unsigned char *memory = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    unsigned char *nothing = mmap(NULL, PAGES * page, PROT_NONE, MAP_PRIVATE, fd, LEFT * page);
    MAKE(memory != MAP_FAILED && nothing != MAP_FAILED);
    memory[5 * page] = 99;
    memory[40 * page] = 98;
    MAKE(ftruncate(fd, LEFT * page - 100) == 0 && close(fd) == 0 && unlink(path) == 0);

    ready();

    CHECK(memory[5 * page] == 99, "a page that was written");
    memory[5 * page] = contents[5 * page];
    CHECK(memcmp(memory, contents, LEFT * page - 100) == 0, "what is left of the file");
    CHECK(zeroed(memory + LEFT * page - 100, 100), "the rest of its last page");
    for (int i = LEFT; i < PAGES; i++) CHECK(is_behind(memory + i * page), "page %d is behind the end", i);
    CHECK(mprotect(nothing, PAGES * page, PROT_READ) == 0 && is_behind(nothing), "a mapping behind the end");
    memory[7] = 5;
    CHECK(memory[7] == 5, "it can be written");
    SAY("shorter_file: 21 pages are left, behind them there is nothing");
    return finish(7);
}
