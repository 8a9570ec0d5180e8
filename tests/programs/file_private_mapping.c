/* Files mapped MAP_PRIVATE: pages that were written, pages that still are the file's.
 *
 * Wrong would be: a written page that is the file's again, a write that reached the file, clean pages that are not the
 * file's. MADV_DONTNEED must show the file again, not what the image holds.
 */
#include "program.h"

#include <sys/mman.h>

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: file_private_mapping DIRECTORY");
    size_t page = sysconf(_SC_PAGESIZE);
    enum { PAGES = 64 };
    unsigned char *content = malloc(PAGES * page);
    MAKE(content != NULL);
    fill(content, PAGES * page, 50);
    int file = open(in(argv[1], "private"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    MAKE(file >= 0 && write(file, content, PAGES * page - 100) == (ssize_t)(PAGES * page - 100));
    unsigned char *mapped = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    unsigned char *part = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 10 * page);
    unsigned char *reading = mmap(NULL, PAGES * page, PROT_READ, MAP_PRIVATE, file, 0);
    MAKE(mapped != MAP_FAILED && part != MAP_FAILED && reading != MAP_FAILED && close(file) == 0);
    for (int i = 0; i < PAGES; i++) {
        if (i % 8 == 3) fill(mapped + i * page, page, 100 + i);
        if (i % 8 == 4) mapped[i * page + 1000] ^= 0xff;
    }
    fill(part + page, page, 300);
    /* Written once, and then no longer writable. */
    fill(mapped + 40 * page, page, 140);
    MAKE(mprotect(mapped + 40 * page, 2 * page, PROT_READ) == 0);
    size_t last = PAGES * page - 100;

    ready();

    for (int i = 0; i < PAGES; i++) {
        unsigned char *at = mapped + i * page, *original = content + i * page;
        if (i % 8 == 3 || i == 40)
            CHECK(filled(at, page, 100 + i), "written page %d", i);
        else if (i % 8 == 4)
            CHECK(at[1000] == (unsigned char)(original[1000] ^ 0xff) && memcmp(at, original, 1000) == 0 &&
                      memcmp(at + 1001, original + 1001, page - 1001) == 0,
                  "page %d with one byte written", i);
        else
            CHECK(memcmp(at, original, i == PAGES - 1 ? page - 100 : page) == 0, "clean page %d", i);
    }
    CHECK(zeroed(mapped + last, 100), "behind the file's end");
    CHECK(filled(part + page, page, 300) && memcmp(part, content + 10 * page, page) == 0 &&
              memcmp(part + 2 * page, content + 12 * page, 6 * page) == 0,
          "the mapping at an offset");
    CHECK(memcmp(reading, content, last) == 0, "the read-only mapping");
    SAY("file private mapping: 17 written and 47 clean pages, a mapping at an offset, a read-only one");

    file = open(in(argv[1], "private"), O_RDONLY);
    unsigned char *now = malloc(PAGES * page);
    CHECK(read(file, now, PAGES * page) == (ssize_t)last && memcmp(now, content, last) == 0, "the file is untouched");
    mapped[0] = 1;
    CHECK(pread(file, now, 1, 0) == 1 && now[0] == content[0], "new writes do not reach the file");
    CHECK(reading[0] == content[0], "nor another mapping");
    SAY("file private mapping: no write reaches the file");

    errno = 0;
    CHECK(pread(file, mapped + 40 * page, 1, 0) == -1 && errno == EFAULT, "the read-only page cannot be written");
    CHECK(madvise(mapped, 8 * page, MADV_DONTNEED) == 0, "MADV_DONTNEED");
    CHECK(memcmp(mapped, content, 8 * page) == 0, "dropped pages are the file's again");
    CHECK(filled(mapped + 11 * page, page, 111), "and no others");
    SAY("file private mapping: dropped pages are the file's again");
    return finish(7);
}
