/* What madvise(2), mlock(2) and mmap(2) have said of mappings, as /proc/self/smaps tells it (VmFlags).
 *
 * Wrong would be: a mapping that is dumped, forked, merged or made of huge pages where it was not to be, or the other
 * way round; memory that is no longer locked although the limit allows it; droppable memory that has become ordinary.
 */
#include "program.h"

#include <sys/mman.h>
#include <sys/resource.h>

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

enum { PAGES = 8, KINDS = 11 };

struct kind {
    const char *what;
    int advice;
    /* Which two-letter flag of VmFlags it sets. */
    const char *flag;
};

static const struct kind kinds[KINDS] = {
    {"MADV_HUGEPAGE", MADV_HUGEPAGE, "hg"},
    {"MADV_NOHUGEPAGE", MADV_NOHUGEPAGE, "nh"},
    {"MADV_DONTDUMP", MADV_DONTDUMP, "dd"},
    {"MADV_DONTFORK", MADV_DONTFORK, "dc"},
    {"MADV_WIPEONFORK", MADV_WIPEONFORK, "wf"},
    {"MADV_MERGEABLE", MADV_MERGEABLE, "mg"},
    {"MADV_SEQUENTIAL", MADV_SEQUENTIAL, "sr"},
    {"MADV_RANDOM", MADV_RANDOM, "rr"},
    {"mlock", -1, "lo"},
    {"mlock2 on fault", -2, "lo"},
    {"MAP_DROPPABLE", -3, "dp"},
};

/* The flags of the mapping at `address`, without those that tell of its pages. */
static void flags_of_mapping(const void *address, char *flags, size_t space) {
    char line[1024];
    int inside = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    CHECK(file != NULL, "/proc/self/smaps");
    flags[0] = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && strchr(line, '-') < strchr(line, ' '))
            inside = start <= (unsigned long)address && (unsigned long)address < end;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            for (char *word = strtok(line + 8, " \n"); word; word = strtok(NULL, " \n"))
                /* Soft-dirty bits, and whether pages have been accounted for, are the kernel's affair. */
                if (strcmp(word, "sd") != 0 && strcmp(word, "ac") != 0)
                    snprintf(flags + strlen(flags), space - strlen(flags), " %s", word);
    }
    fclose(file);
}

static int has(const char *flags, const char *flag) {
    char word[8];
    snprintf(word, sizeof word, " %s", flag);
    return strstr(flags, word) != NULL;
}

int main(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    unsigned char *memory[KINDS];
    char before[KINDS][256], now[256];
    int there[KINDS];
    for (int i = 0; i < KINDS; i++) {
        int advice = kinds[i].advice;
        int flags = MAP_ANONYMOUS | (advice == -3 ? MAP_DROPPABLE : MAP_PRIVATE);
        /* Between pages without access, so that no two mappings become one. */
        unsigned char *room = mmap(NULL, (PAGES + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MAKE(room != MAP_FAILED);
        memory[i] = mmap(room + page, PAGES * page, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0);
        there[i] = memory[i] != MAP_FAILED;
        if (!there[i]) continue;
        fill(memory[i], PAGES * page, i);
        int result = advice >= 0 ? madvise(memory[i], PAGES * page, advice)
                     : advice == -1 ? mlock(memory[i], PAGES * page)
                     : advice == -2 ? mlock2(memory[i], PAGES * page, MLOCK_ONFAULT)
                                    : 0;
        flags_of_mapping(memory[i], before[i], sizeof before[i]);
        there[i] = result == 0 && has(before[i], kinds[i].flag);
    }
    struct rlimit limit, limit_now;
    MAKE(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    /* What a child would find empty, a restarted process does. */
    unsigned long long started = start_time();

    ready();

    for (int i = 0; i < KINDS; i++) {
        if (!there[i]) {
            SAY("advice: %s: not on this machine", kinds[i].what);
            continue;
        }
        flags_of_mapping(memory[i], now, sizeof now);
        CHECK(strcmp(now, before[i]) == 0, "%s: flags are \"%s\", were \"%s\"", kinds[i].what, now, before[i]);
        int may_be_empty = kinds[i].advice == -3, wiped = kinds[i].advice == MADV_WIPEONFORK && start_time() != started;
        CHECK(wiped ? zeroed(memory[i], PAGES * page)
                    : filled(memory[i], PAGES * page, i) || (may_be_empty && zeroed(memory[i], PAGES * page)),
              "%s: contents", kinds[i].what);
        SAY("advice: %s", kinds[i].what);
    }
    CHECK(getrlimit(RLIMIT_MEMLOCK, &limit_now) == 0 && limit_now.rlim_cur == limit.rlim_cur, "RLIMIT_MEMLOCK");
    return finish(7);
}
