/* Device and inode numbers of files, by everything that tells them: open files, closed ones, links, directories, mappings, locks.
 *
 * Wrong would be: a file that has another number than before, by whichever call; two files of one number, also when one of them is
 * made later; another program that sees other numbers; another key of ftok.
 */
#define _GNU_SOURCE
#include "program.h"
#include <dirent.h>
#include <ftw.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

enum { OPEN, CLOSED, DIRECTORY, LINK, COUNT };
static const char *const NAMES[COUNT] = {"open", "closed", "directory", "link"};
static struct stat before[COUNT];
static int directory;

static int same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* What one call tells must be what all tell. */
static struct stat numbers(const char *name) {
    struct stat all[5];
    struct statx extended[2];
    MAKE(stat(name, &all[0]) == 0 || lstat(name, &all[0]) == 0);
    int links = S_ISLNK(all[0].st_mode) ? AT_SYMLINK_NOFOLLOW : 0;
    MAKE(fstatat(AT_FDCWD, name, &all[0], links) == 0 && fstatat(directory, name, &all[1], links) == 0);
    MAKE((links ? lstat : stat)(name, &all[2]) == 0 && syscall(SYS_newfstatat, directory, name, &all[3], links) == 0);
    int fd = open(name, O_PATH | (links ? O_NOFOLLOW : 0));
    MAKE(fd >= 0 && fstat(fd, &all[4]) == 0);
    for (int i = 1; i < 5; i++) CHECK(same(&all[0], &all[i]), "%s: call %d tells other numbers", name, i);
    MAKE(syscall(SYS_fstat, fd, &all[1]) == 0);
    CHECK(same(&all[0], &all[1]), "%s: fstat by its number", name);
    MAKE(statx(AT_FDCWD, name, links, STATX_INO, &extended[0]) == 0);
    MAKE(syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_INO, &extended[1]) == 0);
    for (int i = 0; i < 2; i++) {
        dev_t device = makedev(extended[i].stx_dev_major, extended[i].stx_dev_minor);
        CHECK(device == all[0].st_dev && extended[i].stx_ino == all[0].st_ino, "%s: statx %d", name, i);
    }
    close(fd);
    return all[0];
}

static ino_t listed(struct dirent *(*next)(DIR *), const char *name) {
    DIR *stream = opendir(".");
    ino_t found = 0;
    for (struct dirent *entry; (entry = next(stream));) found = strcmp(entry->d_name, name) ? found : entry->d_ino;
    closedir(stream);
    return found;
}

static ino_t scanned(const char *name) {
    struct dirent **entries;
    ino_t found = 0;
    int count = scandir(".", &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        found = strcmp(entries[i]->d_name, name) ? found : entries[i]->d_ino;
        free(entries[i]);
    }
    free(entries);
    return found;
}

static ino_t read_by(int number, const char *name) {
    static char room[1 << 16] __attribute__((aligned(8)));
    int fd = open(".", O_RDONLY | O_DIRECTORY);
    ino_t found = 0;
    for (long length; (length = number ? syscall(SYS_getdents64, fd, room, sizeof room) : getdents64(fd, room, sizeof room)) > 0;) {
        for (char *at = room; at < room + length; at += ((struct dirent64 *)at)->d_reclen) {
            struct dirent64 *entry = (struct dirent64 *)at;
            found = strcmp(entry->d_name, name) ? found : entry->d_ino;
        }
    }
    close(fd);
    return found;
}

static struct stat walked[COUNT];

static int visit(const char *path, const struct stat *stat, int kind, struct FTW *level) {
    (void)kind;
    for (int i = 0; i < COUNT; i++) {
        if (strcmp(path + level->base, NAMES[i]) == 0) walked[i] = *stat;
    }
    return 0;
}

/* Device and inode of what is mapped at the address, as /proc/self/maps tells. */
static struct stat mapped(void *address) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[8192];
    struct stat found = {0};
    unsigned long start, inode;
    unsigned major, minor;
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%*x %*s %*x %x:%x %lu", &start, &major, &minor, &inode) != 4) continue;
        if (start == (unsigned long)address) found.st_dev = makedev(major, minor), found.st_ino = inode;
    }
    fclose(maps);
    return found;
}

/* The inode in the description of a descriptor; 0 before Linux 5.14. */
static unsigned long described(int fd) {
    char path[64], line[256];
    unsigned long inode = 0;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FILE *info = fopen(path, "r");
    while (fgets(line, sizeof line, info)) sscanf(line, "ino: %lu", &inode);
    fclose(info);
    return inode;
}

/* What the kernel tells in two reads is of two moments: locks of others may hide a line. */
static int shows_lock(const struct stat *file) {
    FILE *locks = fopen("/proc/locks", "r");
    char line[256];
    int found = 0, pid;
    unsigned major, minor;
    unsigned long inode;
    while (fgets(line, sizeof line, locks)) {
        if (sscanf(line, "%*s FLOCK %*s WRITE %d %x:%x:%lu", &pid, &major, &minor, &inode) != 4) continue;
        found += pid == getpid() && makedev(major, minor) == file->st_dev && inode == file->st_ino;
    }
    fclose(locks);
    return found;
}

static int has_lock(const struct stat *file) {
    int found = 0;
    for (int round = 0; !found && round < 20; round++) found = shows_lock(file) > 0;
    return found;
}

/* What another program sees. */
static void told(const char *name, const struct stat *file) {
    char command[256], line[256] = "", expected[256];
    snprintf(command, sizeof command, "exec stat -c '%%d %%i' %s", name);
    snprintf(expected, sizeof expected, "%lu %lu\n", file->st_dev, file->st_ino);
    FILE *output = popen(command, "r");
    CHECK(output && fgets(line, sizeof line, output) && strcmp(line, expected) == 0, "stat %s: %s, not %s", name, line, expected);
    pclose(output);
}

static int made(const char *path) {
    int file = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    MAKE(file >= 0 && write(file, path, strlen(path)) == (ssize_t)strlen(path));
    return file;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 || argc == 3, "usage: file_numbers DIRECTORY [open]");
    MAKE(chdir(argv[1]) == 0);
    /* Only what is open keeps its number where the directory is not the pod's own, and has been copied. */
    int count = argc == 3 ? CLOSED : COUNT;
    int file = made(NAMES[OPEN]), sharer = made("sharer");
    close(made(NAMES[CLOSED]));
    MAKE(link(NAMES[OPEN], "other-name") == 0 && mkdir(NAMES[DIRECTORY], 0700) == 0 && symlink("nowhere", NAMES[LINK]) == 0);
    directory = open(".", O_RDONLY | O_DIRECTORY);
    MAKE(directory >= 0 && flock(file, LOCK_EX) == 0);
    void *memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    MAKE(memory != MAP_FAILED);
    for (int i = 0; i < COUNT; i++) before[i] = numbers(NAMES[i]);
    /* Some file systems have other devices there than stat(2) tells. */
    struct stat map_before = mapped(memory);
    unsigned long described_before = described(file);
    int locked_before = has_lock(&before[OPEN]);
    /* Of which libc has read all, and the program none but one. */
    DIR *half_read = opendir(".");
    MAKE(half_read && readdir(half_read));
    key_t key = ftok(NAMES[OPEN], 7);
    MAKE(key != -1 && locked_before == 1);

    ready();

    for (int i = 0; i < count; i++) {
        struct stat now = numbers(NAMES[i]);
        CHECK(same(&now, &before[i]), "%s: %lx %lu, was %lx %lu", NAMES[i], now.st_dev, now.st_ino, before[i].st_dev,
              before[i].st_ino);
        CHECK(listed(readdir, NAMES[i]) == now.st_ino && scanned(NAMES[i]) == now.st_ino, "%s in lists", NAMES[i]);
        CHECK(read_by(0, NAMES[i]) == now.st_ino && read_by(1, NAMES[i]) == now.st_ino, "%s by getdents64", NAMES[i]);
    }
    int listed_later = 0;
    for (struct dirent *entry; (entry = readdir(half_read));) {
        struct stat file;
        if (strcmp(entry->d_name, "..") == 0) continue;
        CHECK(lstat(entry->d_name, &file) == 0 && file.st_ino == entry->d_ino, "%s in a list that was half read", entry->d_name);
        listed_later++;
    }
    CHECK(listed_later >= COUNT, "a list that was half read: %d", listed_later);
    SAY("numbers: by every call");
    struct stat own, map_now = mapped(memory);
    CHECK(fstat(file, &own) == 0 && same(&own, &before[OPEN]), "the descriptor");
    CHECK(described(file) == described_before, "fdinfo");
    CHECK(same(&map_now, &map_before), "maps: %lx %lu, was %lx %lu", map_now.st_dev, map_now.st_ino, map_before.st_dev,
          map_before.st_ino);
    CHECK(has_lock(&before[OPEN]) == locked_before, "/proc/locks");
    CHECK(ftok(NAMES[OPEN], 7) == key, "ftok");
    CHECK(nftw(".", visit, 8, FTW_PHYS) == 0, "nftw");
    for (int i = 0; i < count; i++) {
        CHECK(same(&walked[i], &before[i]), "%s by nftw", NAMES[i]);
        told(NAMES[i], &before[i]);
    }
    if (count == COUNT) CHECK(stat("other-name", &own) == 0 && same(&own, &before[OPEN]), "the other name");
    SAY("numbers: mappings, descriptors, locks, keys, walks, other programs");

    /* The kernel takes the numbers that are free, which files may have here by other means. */
    struct stat all[200];
    for (int i = 0; i < 200; i++) {
        char name[32];
        snprintf(name, sizeof name, "new-%d", i);
        close(made(name));
        all[i] = numbers(name);
        for (int k = 0; k < i; k++) CHECK(!same(&all[i], &all[k]), "new files %d and %d are one", i, k);
        for (int k = 0; k < count; k++) CHECK(!same(&all[i], &before[k]), "new file %d and %s are one", i, NAMES[k]);
    }
    MAKE(fstat(sharer, &own) == 0 && rename("sharer", "renamed") == 0);
    struct stat renamed = numbers("renamed");
    CHECK(same(&own, &renamed), "what has been renamed");
    MAKE(link("renamed", "linked") == 0);
    struct stat linked = numbers("linked");
    CHECK(same(&own, &linked) && linked.st_nlink == 2, "what has been linked");
    told("new-100", &all[100]);
    SAY("numbers: of new files");
    return finish(7);
}
