/* A file whose pages are mapped in another order (remap_file_pages, which has been many mappings since Linux 4.0).
 *
 * Wrong would be: pages in the file's order, a page that is no longer the file's.
 */
#include "program.h"

#include <sys/mman.h>

enum { PAGES = 32 };

int main(int argc, char **argv) {
    size_t page = sysconf(_SC_PAGESIZE);
    MAKE(argc == 2);
    int file = open(in(argv[1], "pages"), O_RDWR | O_CREAT, 0600);
    unsigned char *space = malloc(page);
    MAKE(file >= 0 && space != NULL);
    for (int i = 0; i < PAGES; i++) {
        fill(space, page, 100 + i);
        MAKE(write(file, space, page) == (ssize_t)page);
    }
    unsigned char *memory = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned char *anonymous =
        mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(memory != MAP_FAILED && anonymous != MAP_FAILED);
    for (int i = 0; i < PAGES; i++) fill(anonymous + i * page, page, 200 + i);
    for (int i = 0; i < PAGES; i++) {
        int of = (i * 7 + 3) % PAGES;
        MAKE(remap_file_pages(memory + i * page, page, 0, of, 0) == 0);
        MAKE(remap_file_pages(anonymous + i * page, page, 0, of, 0) == 0);
    }

    ready();

    for (int i = 0; i < PAGES; i++) {
        int of = (i * 7 + 3) % PAGES;
        CHECK(filled(memory + i * page, page, 100 + of), "page %d of the file", i);
        CHECK(filled(anonymous + i * page, page, 200 + of), "page %d of anonymous memory", i);
    }
    SAY("nonlinear mapping: pages in their order");
    memory[0] ^= 0xff;
    CHECK(pread(file, space, 1, 3 * page) == 1 && space[0] == memory[0], "a write reaches the file's page 3");
    SAY("nonlinear mapping: they are the file's");
    return finish(7);
}
