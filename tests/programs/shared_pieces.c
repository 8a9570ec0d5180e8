/* One object of shared anonymous memory, seen through several mappings none of which shows all of it.
 *
 * Wrong would be: mappings that fell apart, that show other pages than they did, or that got each other's protections;
 * contents that are lost because the mapping at the object's beginning is gone; a crash on the pages behind the
 * object's end, which can be mapped and not be read.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/wait.h>

#define PAGES 64

static size_t page;
static unsigned char *object;

/* A second mapping of `length` pages from page `from` on. */
static unsigned char *piece(int from, int length) {
    return mremap(object + from * page, 0, length * page, MREMAP_MAYMOVE);
}

int main(void) {
    page = sysconf(_SC_PAGESIZE);
    object = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(object != MAP_FAILED);
    for (int k = 0; k < PAGES; k++) {
        fill(object + k * page, page, k);
    }
    memset(object + 30 * page, 0, 2 * page);
    unsigned char *low = piece(8, 24);          /* 8 … 31 */
    unsigned char *middle = piece(20, 20);      /* 20 … 39 */
    unsigned char *behind = piece(36, 2 * PAGES); /* 36 … 63, and behind the end */
    MAKE(low != MAP_FAILED && middle != MAP_FAILED && behind != MAP_FAILED);
    MAKE(munmap(object, PAGES * page) == 0);
    MAKE(mprotect(middle + 2 * page, 3 * page, PROT_READ) == 0);
    MAKE(mprotect(middle + 5 * page, page, PROT_NONE) == 0);

    ready();

    for (int k = 8; k < 30; k++) {
        CHECK(filled(low + (k - 8) * page, page, k), "the lower part");
    }
    CHECK(zeroed(low + 22 * page, 2 * page), "pages of zeroes");
    for (int k = 36; k < PAGES; k++) {
        CHECK(filled(behind + (k - 36) * page, page, k), "the upper part");
    }
    SAY("shared pieces: contents");

    low[13 * page] = 1;
    CHECK(middle[page] == 1, "lower and middle part are one");
    middle[17 * page] = 2;
    CHECK(behind[page] == 2, "middle and upper part are one");
    behind[3 * page + 5] = 3;
    CHECK(middle[19 * page + 5] == 3, "upper and middle part are one");
    low[17 * page + 1] = 4;
    MAKE(mprotect(middle + 5 * page, page, PROT_READ) == 0);
    CHECK(middle[5 * page + 1] == 4, "a page that could not be read");
    SAY("shared pieces: mappings of one object are one");

    int zero = open("/dev/zero", O_RDONLY);
    for (int k = 0; k < 20; k++) {
        errno = 0;
        int sealed = read(zero, middle + k * page, 1) == -1 && errno == EFAULT;
        CHECK(sealed == (k >= 2 && k <= 5), "protections");
    }
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        behind[9] = 'c';
        low[9] = 'd';
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ends well");
    CHECK(middle[16 * page + 9] == 'c' && low[9] == 'd', "what a child writes is seen");
    SAY("shared pieces: protections, what a child writes is seen");
    return finish(7);
}
