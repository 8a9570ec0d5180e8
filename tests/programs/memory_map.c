/* /proc/self/maps, as a program reads it that looks for its own parts there.
 *
 * Wrong would be: another address, protection, offset, inode or name of a mapping that it knows: executable, libraries,
 * files, shared memory, heap, stack, vDSO.
 */
#include "program.h"

#include <link.h>
#include <math.h>
#include <sys/auxv.h>
#include <sys/mman.h>

enum { MOST = 100 };

struct line {
    unsigned long start, end, offset, inode;
    char protection[8], device[16], name[512];
};

static int find(const void *address, struct line *found) {
    char text[1024];
    int there = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL, "/proc/self/maps");
    while (!there && fgets(text, sizeof text, file)) {
        struct line line = {0};
        int count = sscanf(text, "%lx-%lx %7s %lx %15s %lu %511[^\n]", &line.start, &line.end, line.protection,
                           &line.offset, line.device, &line.inode, line.name);
        CHECK(count >= 6, "a line of maps: %s", text);
        there = line.start <= (unsigned long)address && (unsigned long)address < line.end;
        *found = line;
    }
    fclose(file);
    return there;
}

static const char *what[MOST];
static const void *where[MOST];
static struct line before[MOST];
static int count;

static void note(const char *name, const void *address) {
    MAKE(count < MOST && find(address, &before[count]));
    what[count] = name;
    where[count++] = address;
}

/* Every segment of every library, but for Zap's own, which the program does not know of. */
static int note_library(struct dl_phdr_info *info, size_t size, void *argument) {
    (void)size, (void)argument;
    if (strstr(info->dlpi_name, "zap")) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            note(*info->dlpi_name ? strdup(info->dlpi_name) : "the executable",
                 (void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr));
    return 0;
}

static int initialized = 5;
static int uninitialized[10000];

int main(int argc, char **argv) {
    size_t page = sysconf(_SC_PAGESIZE);
    MAKE(argc == 2);
    int file = open(in(argv[1], "a file"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    MAKE(file >= 0 && ftruncate(file, 10 * page) == 0);
    initialized = (int)sqrt(argc * 18);
    unsigned char *heap = malloc(100);
    dl_iterate_phdr(note_library, NULL);
    note("data", &initialized);
    note("uninitialized data", &uninitialized[5000]);
    note("heap", heap);
    note("stack", &file);
    if (getauxval(AT_SYSINFO_EHDR)) note("vDSO", (void *)getauxval(AT_SYSINFO_EHDR));
    note("a file, private", mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 2 * page));
    *(unsigned char *)where[count - 1] = 1;
    note("a file, shared", mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 3 * page));
    note("a file, to be read", mmap(NULL, 10 * page, PROT_READ, MAP_SHARED, file, 0));
    note("a file, to be run", mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, page));
    note("shared memory", mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    note("without access", mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    close(file);

    ready();

    for (int i = 0; i < count; i++) {
        struct line now;
        CHECK(find(where[i], &now), "%s is mapped", what[i]);
        CHECK(strcmp(now.protection, before[i].protection) == 0, "%s: protection %s, was %s", what[i], now.protection,
              before[i].protection);
        /* Neighbours of the same kind may become one mapping, or the stack have grown. */
        if (before[i].inode == 0) continue;
        CHECK(now.start == before[i].start && now.end == before[i].end && now.offset == before[i].offset,
              "%s: place %lx-%lx %lx, was %lx-%lx %lx", what[i], now.start, now.end, now.offset, before[i].start,
              before[i].end, before[i].offset);
    }
    SAY("memory map: addresses, protections, offsets");
    for (int i = 0; i < count; i++) {
        struct line now;
        /* The program's vDSO is a copy of the kernel's after a restart, and bears no name. */
        if (strcmp(before[i].name, "[vdso]") == 0) continue;
        CHECK(find(where[i], &now) && strcmp(now.name, before[i].name) == 0, "%s: name \"%s\", was \"%s\"", what[i],
              now.name, before[i].name);
        /* The number of shared memory without a name is the kernel's. */
        if (strcmp(what[i], "shared memory") == 0) continue;
        CHECK(now.inode == before[i].inode && strcmp(now.device, before[i].device) == 0, "%s: inode %lu, was %lu",
              what[i], now.inode, before[i].inode);
    }
    SAY("memory map: names and inodes");
    return finish(uninitialized[5000] + 7);
}
