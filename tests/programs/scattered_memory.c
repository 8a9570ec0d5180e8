/* 30,000 pages of memory that each lie alone, and 700 files that are mapped: an image of which the list is long.
 *
 * Wrong would be: another content; a process that has no room for the list, and is not checkpointed.
 */
#include "program.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { PAGES = 30000, APART = 16 * 4096, FILES = 700 };

int main(int count, char **words) {
    MAKE(count > 1 && chdir(words[1]) == 0);
    char *memory = mmap(NULL, (size_t)PAGES * APART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MAKE(memory != MAP_FAILED);
    for (int i = 0; i < PAGES; i++) *(int *)(memory + (size_t)i * APART) = i + 1;
    static char *files[FILES];
    char name[64], bytes[4096] = {0};
    mkdir("scattered", 0700);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "scattered/%d", i);
        int file = open(name, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
        snprintf(bytes, sizeof bytes, "file %d", i);
        MAKE(file >= 0 && write(file, bytes, sizeof bytes) == sizeof bytes);
        files[i] = mmap(NULL, sizeof bytes, PROT_READ, MAP_PRIVATE, file, 0);
        MAKE(files[i] != MAP_FAILED);
        close(file);
    }

    ready();

    for (int i = 0; i < PAGES; i++) {
        CHECK(*(int *)(memory + (size_t)i * APART) == i + 1, "page %d", i);
        if (i % 1000 == 0) CHECK(memory[(size_t)i * APART + APART / 2] == 0, "between pages, at %d", i);
    }
    for (int i = 0; i < FILES; i++) {
        snprintf(bytes, sizeof bytes, "file %d", i);
        CHECK(strcmp(files[i], bytes) == 0, "file %d", i);
    }
    SAY("scattered memory: %d pages, %d files", PAGES, FILES);
    return finish(7);
}
