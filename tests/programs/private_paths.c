/* Every function of libc that takes a path or answers with one, with a directory that may be the pod's own: by absolute and relative
 * paths, from descriptors, by links into the directory, in it and out of it, by `..`. What is said is the same whether or not the
 * directory is private; the harness looks that nothing of it is in the host's.
 *
 * private_paths OWN OUTER: two empty directories beside each other. What is wrong is said; the last line is OK if nothing was.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

static int wrong;
static const char *style = "";

#define IS(condition)                                                                                                  \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        if (!(condition)) {                                                                                            \
            printf("WRONG %s, line %d: %s (%s)\n", style, __LINE__, #condition, strerror(errno));                      \
            wrong++;                                                                                                   \
        }                                                                                                              \
    } while (0)

static char own[PATH_MAX], outer[PATH_MAX];

/* A few results at a time. */
static const char *in(const char *directory, const char *name) {
    static char results[8][PATH_MAX + 512];
    static int next;
    char *result = results[next++ % 8];
    snprintf(result, sizeof results[0], "%s/%s", directory, name);
    return result;
}

static int writes(const char *path, const char *text) {
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int fine = descriptor >= 0 && write(descriptor, text, strlen(text)) == (ssize_t)strlen(text);
    close(descriptor);
    return fine;
}

static int holds(const char *path, const char *text) {
    char buffer[256] = "";
    FILE *stream = fopen(path, "re");
    if (!stream) return 0;
    size_t length = fread(buffer, 1, sizeof buffer - 1, stream);
    fclose(stream);
    return length == strlen(text) && !memcmp(buffer, text, length);
}

static int exists(const char *path) {
    struct stat stat;
    return lstat(path, &stat) == 0;
}

static int fails(int result, int error) { return result == -1 && errno == error; }

static ino_t number(const char *path) {
    struct stat known;
    return stat(path, &known) == 0 ? known.st_ino : 0;
}

/* Everything by paths below `d`, which is OWN by some way. */
static void by_path(const char *d) {
    char buffer[PATH_MAX], file[PATH_MAX];
    struct stat known;
    struct statx extended;
    snprintf(file, sizeof file, "%s", in(d, "file"));
    IS(writes(file, "text") && holds(in(own, "file"), "text"));
    int made = creat(in(d, "created"), 0600);
    IS(made >= 0 && close(made) == 0 && exists(in(own, "created")));
    IS(fails(open(file, O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST));
    IS(fails(open(in(d, "none"), O_RDONLY), ENOENT));
    IS(fails(open(in(d, "file/"), O_RDONLY), ENOTDIR));
    IS(fails(open(in(d, "file/../file"), O_RDONLY), ENOTDIR));
    IS(fails(open(in(d, "none/../file"), O_RDONLY), ENOENT));
    IS(fails(mkdir(d, 0700), EEXIST));
    FILE *stream = fopen(in(d, "created"), "w");
    IS(stream && (stream = freopen(file, "r", stream)) && fgetc(stream) == 't' && fclose(stream) == 0);
    IS(stat(file, &known) == 0 && known.st_size == 4 && lstat(file, &known) == 0 && number(file) == number(in(own, "file")));
    IS(fstatat(AT_FDCWD, file, &known, AT_SYMLINK_NOFOLLOW) == 0 && known.st_size == 4);
    IS(statx(AT_FDCWD, file, 0, STATX_SIZE, &extended) == 0 && extended.stx_size == 4);
    IS(access(file, R_OK) == 0 && faccessat(AT_FDCWD, file, W_OK, 0) == 0 && eaccess(file, R_OK) == 0);
    IS(chmod(file, 0640) == 0 && stat(file, &known) == 0 && (known.st_mode & 07777) == 0640);
    IS(fchmodat(AT_FDCWD, file, 0600, 0) == 0 && stat(file, &known) == 0 && (known.st_mode & 07777) == 0600);
    IS(chown(file, getuid(), -1) == 0 && lchown(file, -1, getgid()) == 0 && fchownat(AT_FDCWD, file, -1, -1, 0) == 0);
    IS(truncate(file, 2) == 0 && holds(file, "te") && truncate(file, 0) == 0 && writes(file, "text"));
    struct utimbuf old = {1000, 2000};
    IS(utime(file, &old) == 0 && stat(file, &known) == 0 && known.st_mtime == 2000);
    struct timeval times[2] = {{3000, 0}, {4000, 0}};
    IS(utimes(file, times) == 0 && stat(file, &known) == 0 && known.st_mtime == 4000);
    struct timespec exact[2] = {{5000, 0}, {6000, 0}};
    IS(utimensat(AT_FDCWD, file, exact, 0) == 0 && stat(file, &known) == 0 && known.st_mtime == 6000);
    IS(futimesat(AT_FDCWD, file, times) == 0 && stat(file, &known) == 0 && known.st_mtime == 4000);
    struct statfs system;
    struct statvfs volume;
    IS(statfs(file, &system) == 0 && statvfs(file, &volume) == 0 && pathconf(file, _PC_NAME_MAX) > 0);
    if (setxattr(file, "user.zap", "value", 5, 0) == 0) {
        IS(getxattr(file, "user.zap", buffer, sizeof buffer) == 5 && listxattr(file, buffer, sizeof buffer) > 0);
        IS(lgetxattr(file, "user.zap", buffer, sizeof buffer) == 5 && removexattr(file, "user.zap") == 0);
    }

    /* Links: what they say stays as it is, and leads where the pod sees that. */
    IS(link(file, in(d, "hard")) == 0 && number(in(own, "hard")) == number(file));
    IS(linkat(AT_FDCWD, file, AT_FDCWD, in(d, "hard2"), 0) == 0 && unlink(in(d, "hard2")) == 0 && !exists(in(own, "hard2")));
    IS(symlink(in(own, "file"), in(d, "absolute")) == 0 && holds(in(d, "absolute"), "text"));
    ssize_t length = readlink(in(d, "absolute"), buffer, sizeof buffer - 1);
    IS(length > 0 && (buffer[length] = 0, !strcmp(buffer, in(own, "file"))));
    IS(symlinkat("file", AT_FDCWD, in(d, "relative")) == 0 && holds(in(d, "relative"), "text"));
    IS(symlink(in(own, "absolute"), in(d, "twice")) == 0 && holds(in(d, "twice"), "text") && lstat(in(d, "twice"), &known) == 0);
    IS(S_ISLNK(known.st_mode) && stat(in(d, "twice"), &known) == 0 && S_ISREG(known.st_mode));
    IS(fails(open(in(d, "twice"), O_RDONLY | O_NOFOLLOW), ELOOP));
    IS(fails(open(in(d, "twice"), O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST));
    IS(symlink(in(own, "later"), in(d, "dangling")) == 0 && fails(open(in(d, "dangling"), O_RDONLY), ENOENT));
    IS(writes(in(d, "dangling"), "late") && holds(in(own, "later"), "late") && unlink(in(d, "later")) == 0);
    IS(symlink(in(own, "circle"), in(d, "circle")) == 0 && fails(open(in(d, "circle"), O_RDONLY), ELOOP));
    IS(symlink(in(outer, "file"), in(d, "out")) == 0 && writes(in(outer, "file"), "outer") && holds(in(d, "out"), "outer"));
    IS(fails(linkat(AT_FDCWD, in(d, "dangling"), AT_FDCWD, in(d, "x"), AT_SYMLINK_FOLLOW), ENOENT));
    IS(lchown(in(d, "dangling"), -1, -1) == 0 && lutimes(in(d, "dangling"), times) == 0);
    IS(fchownat(AT_FDCWD, in(d, "dangling"), -1, -1, AT_SYMLINK_NOFOLLOW) == 0);

    /* Names that come and go. */
    IS(rename(in(d, "hard"), in(d, "renamed")) == 0 && exists(in(own, "renamed")) && !exists(in(own, "hard")));
    IS(renameat(AT_FDCWD, in(d, "renamed"), AT_FDCWD, in(d, "hard")) == 0 && exists(in(own, "hard")));
    IS(renameat2(AT_FDCWD, in(d, "hard"), AT_FDCWD, in(d, "renamed"), RENAME_NOREPLACE) == 0);
    /* In a mount namespace they are two file systems. */
    if (rename(in(d, "created"), in(outer, "created")) == 0) IS(rename(in(outer, "created"), in(d, "created")) == 0);
    IS(mkdir(in(d, "made"), 0700) == 0 && mkdirat(AT_FDCWD, in(d, "made/deeper"), 0700) == 0);
    IS(exists(in(own, "made/deeper")) && fails(rmdir(in(d, "made")), ENOTEMPTY) && fails(rmdir(in(d, "made/.")), EINVAL));
    IS(fails(rename(in(d, "made/deeper/.."), in(d, "x")), EBUSY));
    IS(mkfifo(in(d, "fifo"), 0600) == 0 && lstat(in(own, "fifo"), &known) == 0 && S_ISFIFO(known.st_mode));
    IS(mkfifoat(AT_FDCWD, in(d, "fifo2"), 0600) == 0 && mknod(in(d, "fifo3"), S_IFIFO | 0600, 0) == 0);
    IS(mknodat(AT_FDCWD, in(d, "fifo4"), S_IFIFO | 0600, 0) == 0 && exists(in(own, "fifo4")));
    IS(unlink(in(d, "fifo")) == 0 && remove(in(d, "fifo2")) == 0 && unlinkat(AT_FDCWD, in(d, "fifo3"), 0) == 0);
    IS(remove(in(d, "fifo4")) == 0 && rmdir(in(d, "made/deeper")) == 0 && unlinkat(AT_FDCWD, in(d, "made"), AT_REMOVEDIR) == 0);

    /* Temporary files. */
    char template[PATH_MAX];
    snprintf(template, sizeof template, "%s", in(d, "t1XXXXXX"));
    made = mkstemp(template);
    IS(made >= 0 && exists(template) && !strstr(template, "XXXXXX") && strstr(template, "/t1") && close(made) == 0);
    IS(exists(in(own, strrchr(template, '/') + 1)) && unlink(template) == 0);
    snprintf(template, sizeof template, "%s", in(d, "t2XXXXXX.c"));
    made = mkostemps(template, 2, O_CLOEXEC);
    IS(made >= 0 && exists(template) && !strcmp(template + strlen(template) - 2, ".c") && close(made) == 0 && unlink(template) == 0);
    snprintf(template, sizeof template, "%s", in(d, "t3XXXXXX"));
    IS(mkdtemp(template) == template && exists(in(own, strrchr(template, '/') + 1)) && rmdir(template) == 0);
    snprintf(template, sizeof template, "%s", in(d, "none/t4XXXXXX"));
    IS(fails(mkstemp(template), ENOENT) && fails(mkstemp(strcpy(template, "short")), EINVAL));
    char *name = tempnam(in(d, "."), "five");
    IS(name && !strncmp(name, d, strlen(d)) && strstr(name, "/five") && !exists(name));
    free(name);

    /* Lists. */
    struct dirent **entries;
    int count = scandir(d, &entries, NULL, alphasort), found = 0;
    for (int i = 0; i < count; i++) {
        found += !strcmp(entries[i]->d_name, "file");
        free(entries[i]);
    }
    IS(count > 5 && found == 1);
    if (count >= 0) free(entries);
    DIR *listing = opendir(d);
    IS(listing != NULL && closedir(listing) == 0);
    glob_t globbed;
    IS(glob(in(d, "f[i]le*"), 0, NULL, &globbed) == 0 && globbed.gl_pathc == 1 && !strcmp(globbed.gl_pathv[0], in(d, "file")));
    globfree(&globbed);
    IS(glob(in(d, "*/none"), 0, NULL, &globbed) == GLOB_NOMATCH);

    /* Answers. */
    IS(realpath(file, buffer) == buffer && !strcmp(buffer, in(own, "file")));
    IS(realpath(in(d, "twice"), buffer) && !strcmp(buffer, in(own, "file")));
    IS(realpath(in(d, "out"), buffer) && !strcmp(buffer, in(outer, "file")));
    IS(realpath(in(d, ".."), buffer) && !strncmp(own, buffer, strlen(buffer)) && own[strlen(buffer)] == '/');
    IS(!realpath(in(d, "none"), buffer) && errno == ENOENT);
    IS(!realpath(in(d, "file/"), buffer) && errno == ENOTDIR);
    name = canonicalize_file_name(d);
    IS(name && !strcmp(name, own));
    free(name);
    int opened = open(file, O_RDONLY);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", opened);
    length = readlink(link, buffer, sizeof buffer - 1);
    IS(length > 0 && (buffer[length] = 0, !strcmp(buffer, in(own, "file"))));
    IS(readlink(link, buffer, 3) == 3 && !strncmp(buffer, own, 3));
    IS(realpath(link, buffer) && !strcmp(buffer, in(own, "file")) && holds(link, "text"));
    snprintf(link, sizeof link, "/proc/%d/fd/%d", getpid(), opened);
    length = readlink(link, buffer, sizeof buffer - 1);
    IS(length > 0 && (buffer[length] = 0, !strcmp(buffer, in(own, "file"))));
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, opened, 0);
    close(opened);
    FILE *maps = fopen("/proc/self/maps", "r");
    found = 0;
    while (maps && fgets(buffer, sizeof buffer, maps)) {
        buffer[strcspn(buffer, "\n")] = 0;
        const char *path = strchr(buffer, '/');
        found += path && !strcmp(path, in(own, "file"));
    }
    IS(mapped != MAP_FAILED && found == 1 && fclose(maps) == 0 && munmap(mapped, 4096) == 0);
    IS(ftok(file, 'z') != -1);

    /* What the kernel tells of: a watch, and the names of sockets. */
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    IS(inotify_add_watch(watch, d, IN_CREATE) > 0 && writes(in(own, "watched"), "") && read(watch, buffer, sizeof buffer) > 0);
    IS(close(watch) == 0 && unlink(in(d, "watched")) == 0);
    /* By number. */
    IS(syscall(SYS_mkdir, in(d, "number"), 0700) == 0 && exists(in(own, "number")) && syscall(SYS_rmdir, in(d, "number")) == 0);
    opened = syscall(SYS_openat, AT_FDCWD, file, O_RDONLY);
    IS(opened >= 0 && close(opened) == 0 && syscall(SYS_access, in(d, "none"), F_OK) == -1 && errno == ENOENT);
    struct {
        unsigned long flags, mode, resolve;
    } how = {O_RDONLY, 0, 0};
    opened = syscall(SYS_openat2, AT_FDCWD, file, &how, sizeof how);
    IS(opened >= 0 && close(opened) == 0);
    how.resolve = 4; /* RESOLVE_NO_SYMLINKS */
    IS(fails(syscall(SYS_openat2, AT_FDCWD, in(own, "twice"), &how, sizeof how), ELOOP));
    IS(syscall(SYS_renameat2, AT_FDCWD, in(d, "created"), AT_FDCWD, in(d, "created2"), 0) == 0);

    /* Pointers that lead nowhere. */
    IS(fails(open((char *)1, O_RDONLY), EFAULT) && fails(unlink((char *)1), EFAULT) && fails(chdir((char *)1), EFAULT));
    IS(fails(rename(file, (char *)1), EFAULT) && fails(open("", O_RDONLY), ENOENT));
    char *long_path = malloc(PATH_MAX + 2);
    snprintf(long_path, PATH_MAX + 1, "%s/", d);
    memset(long_path + strlen(long_path), 'x', PATH_MAX - strlen(d));
    long_path[PATH_MAX + 1] = 0;
    IS(fails(open(long_path, O_RDONLY), ENAMETOOLONG));
    long_path[strlen(d) + 300] = 0;
    IS(fails(open(long_path, O_RDONLY), ENAMETOOLONG));
    free(long_path);

    const char *names[] = {"file",     "absolute", "relative", "twice",    "dangling", "circle",  "out", "renamed", "created2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) IS(unlink(in(d, names[i])) == 0);
    IS(unlink(in(outer, "file")) == 0);
    listing = opendir(own);
    found = 0;
    for (struct dirent *entry; listing && (entry = readdir(listing));)
        if (strcmp(entry->d_name, "sub")) found++;
    IS(listing && closedir(listing) == 0 && found == 2);
}

/* The same by a descriptor of OWN. */
static void by_descriptor(int d) {
    struct stat known;
    char buffer[PATH_MAX];
    int made = openat(d, "file", O_RDWR | O_CREAT | O_EXCL, 0600);
    IS(made >= 0 && write(made, "text", 4) == 4 && close(made) == 0 && holds(in(own, "file"), "text"));
    IS(fstatat(d, "file", &known, 0) == 0 && faccessat(d, "file", R_OK, 0) == 0 && fchmodat(d, "file", 0640, 0) == 0);
    IS(symlinkat(in(own, "file"), d, "absolute") == 0 && fstatat(d, "absolute", &known, 0) == 0 && S_ISREG(known.st_mode));
    IS(fstatat(d, "absolute", &known, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(known.st_mode));
    IS(readlinkat(d, "absolute", buffer, sizeof buffer) == (ssize_t)strlen(own) + 5);
    IS(linkat(d, "absolute", d, "hard", AT_SYMLINK_FOLLOW) == 0 && number(in(own, "hard")) == number(in(own, "file")));
    IS(renameat(d, "hard", d, "renamed") == 0 && unlinkat(d, "renamed", 0) == 0);
    IS(mkdirat(d, "made", 0700) == 0 && mkfifoat(d, "made/fifo", 0600) == 0 && unlinkat(d, "made/fifo", 0) == 0);
    IS(unlinkat(d, "made", AT_REMOVEDIR) == 0 && !exists(in(own, "made")));
    /* Out of it, and in again. */
    const char *outer_name = strrchr(outer, '/') + 1, *own_name = strrchr(own, '/') + 1;
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "../%s/out", outer_name);
    made = openat(d, path, O_RDWR | O_CREAT | O_EXCL, 0600);
    IS(made >= 0 && close(made) == 0 && exists(in(outer, "out")) && unlinkat(d, path, 0) == 0);
    snprintf(path, sizeof path, "../%s/../%s/file", outer_name, own_name);
    made = openat(d, path, O_RDONLY);
    IS(made >= 0 && close(made) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d/../%s/file", d, own_name);
    IS(holds(path, "text"));
    made = openat(d, "absolute", O_RDONLY);
    IS(made >= 0 && fstatat(made, "", &known, AT_EMPTY_PATH) == 0 && known.st_size == 4 && close(made) == 0);
    struct dirent **entries;
    int count = scandirat(d, ".", &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) free(entries[i]);
    IS(count == 5);
    free(entries);
    IS(unlinkat(d, "absolute", 0) == 0 && unlinkat(d, "file", 0) == 0);
    IS(fails(openat(d, "file/x", O_RDONLY), ENOENT) && fails(openat(-5, "x", O_RDONLY), EBADF));
}

static int visited, deepest;

static int visit(const char *path, const struct stat *stat, int kind, struct FTW *level) {
    visited += !strncmp(path, own, strlen(own)) && kind != FTW_NS && kind != FTW_DNR && stat->st_ino;
    if (level->level > deepest) deepest = level->level;
    return 0;
}

static int visit_inside(const char *path, const struct stat *stat, int kind, struct FTW *level) {
    (void)kind;
    struct stat here;
    visited += lstat(path + level->base, &here) == 0 && here.st_ino == stat->st_ino;
    return 0;
}

static void walks(void) {
    style = "walks";
    IS(mkdir(in(own, "sub/a"), 0700) == 0 && mkdir(in(own, "sub/a/b"), 0700) == 0 && writes(in(own, "sub/a/b/c"), "c"));
    IS(symlink(in(own, "sub/a"), in(own, "sub/link")) == 0);
    IS(nftw(own, visit, 8, FTW_PHYS) == 0 && visited == 6 && deepest == 4);
    visited = 0;
    IS(nftw(own, visit, 8, FTW_PHYS | FTW_DEPTH) == 0 && visited == 6);
    visited = 0;
    IS(nftw(own, visit_inside, 8, FTW_PHYS | FTW_CHDIR) == 0 && visited == 6);
    visited = 0;
    IS(nftw(in(own, "sub/link"), visit, 8, 0) == 0 && visited == 3);
    IS(unlink(in(own, "sub/link")) == 0 && unlink(in(own, "sub/a/b/c")) == 0 && rmdir(in(own, "sub/a/b")) == 0);
    IS(rmdir(in(own, "sub/a")) == 0);
}

static void working_directory(void) {
    style = "working directory";
    char buffer[PATH_MAX], small[3];
    IS(chdir(own) == 0 && getcwd(buffer, sizeof buffer) && !strcmp(buffer, own));
    IS(!getcwd(small, sizeof small) && errno == ERANGE && getcwd(buffer, strlen(own) + 1) == buffer && !getcwd(buffer, strlen(own)));
    char *found = getcwd(NULL, 0);
    IS(found && !strcmp(found, own));
    free(found);
    found = get_current_dir_name();
    IS(found && !strcmp(found, own));
    free(found);
    IS(syscall(SYS_getcwd, buffer, sizeof buffer) == (long)strlen(own) + 1 && !strcmp(buffer, own));
    ssize_t length = readlink("/proc/self/cwd", buffer, sizeof buffer - 1);
    IS(length > 0 && (buffer[length] = 0, !strcmp(buffer, own)));
    IS(chdir("sub") == 0 && getcwd(buffer, sizeof buffer) && !strcmp(buffer, in(own, "sub")));
    IS(chdir("..") == 0 && chdir("..") == 0 && getcwd(buffer, sizeof buffer) && !strncmp(own, buffer, strlen(buffer)));
    IS(chdir(strrchr(own, '/') + 1) == 0 && getcwd(buffer, sizeof buffer) && !strcmp(buffer, own));
    int directory = open("sub", O_RDONLY | O_DIRECTORY);
    IS(directory >= 0 && fchdir(directory) == 0 && getcwd(buffer, sizeof buffer) && !strcmp(buffer, in(own, "sub")));
    IS(close(directory) == 0 && realpath(".", buffer) && !strcmp(buffer, in(own, "sub")));
    IS(chdir(outer) == 0 && getcwd(buffer, sizeof buffer) && !strcmp(buffer, outer));
}

static socklen_t address(struct sockaddr_un *name, const char *path) {
    memset(name, 0, sizeof *name);
    name->sun_family = AF_UNIX;
    snprintf(name->sun_path, sizeof name->sun_path, "%s", path);
    return sizeof(sa_family_t) + strlen(name->sun_path) + 1;
}

static int is_named(const struct sockaddr_un *name, socklen_t length, const char *path) {
    return length == sizeof(sa_family_t) + strlen(path) + 1 && !strcmp(name->sun_path, path);
}

static void sockets(const char *path) {
    style = path;
    struct sockaddr_un name, told;
    socklen_t length = address(&name, path), told_length = sizeof told;
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    IS(bind(server, (struct sockaddr *)&name, length) == 0 && listen(server, 1) == 0);
    IS(getsockname(server, (struct sockaddr *)&told, &told_length) == 0 && is_named(&told, told_length, path));
    IS(connect(client, (struct sockaddr *)&name, length) == 0);
    told_length = sizeof told;
    IS(getpeername(client, (struct sockaddr *)&told, &told_length) == 0 && is_named(&told, told_length, path));
    int accepted = accept(server, NULL, NULL);
    told_length = sizeof told;
    IS(getsockname(accepted, (struct sockaddr *)&told, &told_length) == 0 && is_named(&told, told_length, path));
    IS(close(accepted) == 0 && close(client) == 0 && close(server) == 0);
    struct stat known;
    IS(lstat(path, &known) == 0 && S_ISSOCK(known.st_mode) && unlink(path) == 0);
    int one = socket(AF_UNIX, SOCK_DGRAM, 0), other = socket(AF_UNIX, SOCK_DGRAM, 0);
    IS(bind(one, (struct sockaddr *)&name, length) == 0);
    IS(sendto(other, "a", 1, 0, (struct sockaddr *)&name, length) == 1);
    char byte;
    struct iovec part = {"b", 1}, room = {&byte, 1};
    struct msghdr message = {.msg_name = &name, .msg_namelen = length, .msg_iov = &part, .msg_iovlen = 1};
    IS(sendmsg(other, &message, 0) == 1);
    struct mmsghdr messages[1] = {{message, 0}};
    IS(sendmmsg(other, messages, 1, 0) == 1);
    IS(recv(one, &byte, 1, 0) == 1 && byte == 'a' && recv(one, &byte, 1, 0) == 1 && recv(one, &byte, 1, 0) == 1 && byte == 'b');
    close(other);
    other = socket(AF_UNIX, SOCK_DGRAM, 0);
    /* From one that has a name. */
    IS(connect(other, (struct sockaddr *)&name, length) == 0 && unlink(path) == 0);
    IS(bind(other, (struct sockaddr *)&name, length) == 0 && send(other, "c", 1, 0) == 1 && send(other, "d", 1, 0) == 1);
    told_length = sizeof told;
    IS(recvfrom(one, &byte, 1, 0, (struct sockaddr *)&told, &told_length) == 1 && is_named(&told, told_length, path));
    struct msghdr answer = {.msg_name = &told, .msg_namelen = sizeof told, .msg_iov = &room, .msg_iovlen = 1};
    memset(&told, 0, sizeof told);
    IS(recvmsg(one, &answer, 0) == 1 && byte == 'd' && is_named(&told, answer.msg_namelen, path));
    IS(close(one) == 0 && close(other) == 0 && unlink(path) == 0);
}

static void programs(void) {
    style = "programs";
    static char script[PATH_MAX], out[PATH_MAX], text[3 * PATH_MAX], line[3 * PATH_MAX];
    snprintf(script, sizeof script, "%s", in(own, "script"));
    snprintf(out, sizeof out, "%s", in(own, "out"));
    IS(writes(script, "#!/bin/sh\necho \"$0 $1 $(pwd)\"\n") && chmod(script, 0700) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    IS(posix_spawn_file_actions_addopen(&actions, 1, out, O_WRONLY | O_CREAT, 0600) == 0);
    IS(posix_spawn_file_actions_addchdir_np(&actions, own) == 0);
    char *words[] = {"script", "word", NULL}, *none[] = {NULL};
    pid_t child;
    int status;
    IS(posix_spawn(&child, script, &actions, NULL, words, none) == 0 && waitpid(child, &status, 0) == child && status == 0);
    snprintf(text, sizeof text, "%s word %s\n", script, own);
    IS(holds(out, text));
    setenv("PATH", own, 1);
    IS(posix_spawnp(&child, "script", &actions, NULL, words, none) == 0 && waitpid(child, &status, 0) == child && status == 0);
    IS(holds(out, text) && posix_spawnp(&child, "none", NULL, NULL, words, none) == ENOENT);
    posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; i < 3; i++) {
        int ends[2];
        IS(pipe(ends) == 0);
        child = i == 2 ? vfork() : fork();
        if (child == 0) {
            dup2(ends[1], 1);
            if (i == 0) execvp("script", words);
            if (i == 1) execl(script, "script", "word", NULL);
            execve(script, words, none);
            _exit(9);
        }
        close(ends[1]);
        FILE *stream = fdopen(ends[0], "r");
        snprintf(text, sizeof text, "%s word %s\n", script, outer);
        IS(fgets(line, sizeof line, stream) && !strcmp(line, text) && waitpid(child, &status, 0) == child && status == 0);
        fclose(stream);
    }
    IS(fails(execl(in(own, "none"), "none", NULL), ENOENT) && chmod(script, 0600) == 0 && fails(execl(script, "x", NULL), EACCES));
    setenv("PATH", "/usr/bin:/bin", 1);
    IS(unlink(script) == 0 && unlink(out) == 0);
    snprintf(line, sizeof line, "echo here > '%s'", out);
    IS(system(line) == 0 && holds(out, "here\n") && unlink(out) == 0);
}

/* A library is copied to OWN. */
static void libraries(void) {
    style = "libraries";
    Dl_info info;
    char command[2 * PATH_MAX + 16];
    void *known = dlopen("libutil.so.1", RTLD_NOW), *symbol = known ? dlsym(known, "__libutil_version_placeholder") : NULL;
    (void)symbol;
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[PATH_MAX], *path = NULL;
    while (maps && !path && fgets(line, sizeof line, maps))
        if (strstr(line, "libutil")) path = strchr(line, '/');
    if (maps) fclose(maps);
    if (!path || !dladdr((void *)dlopen, &info)) return;
    path[strcspn(path, "\n")] = 0;
    snprintf(command, sizeof command, "cp '%s' '%s'", path, in(own, "library.so"));
    IS(system(command) == 0);
    void *own_copy = dlopen(in(own, "library.so"), RTLD_NOW);
    IS(own_copy && dlclose(own_copy) == 0 && !dlopen(in(own, "none.so"), RTLD_NOW) && unlink(in(own, "library.so")) == 0);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 3 || !realpath(argv[1], own) || !realpath(argv[2], outer)) return 2;
    int sub = mkdir(in(own, "sub"), 0700);
    style = "begin";
    IS(sub == 0 && symlink(own, in(outer, "into")) == 0 && symlink("into/sub", in(outer, "deeper")) == 0);
    char relative[PATH_MAX + 64];
    snprintf(relative, sizeof relative, "../%s", strrchr(own, '/') + 1);
    IS(symlink(relative, in(outer, "relative")) == 0 && symlink(outer, in(own, "sub/back")) == 0);
    struct {
        const char *style, *from, *path;
    } ways[] = {
        {"absolute", "/", own},
        {"relative", own, "."},
        {"from the root directory", "/", own + 1},
        {"from beside it", outer, relative},
        {"by a link into it", "/", strdup(in(outer, "into"))},
        {"by a relative link", outer, "relative"},
        {"by a link of links", outer, "deeper/.."},
        {"out and in", strdup(in(own, "sub")), "back/into"},
        {"by dots", "/", strdup(in(own, "sub/.."))},
        {"by more dots", strdup(in(own, "sub")), "./..//sub/../"},
        {"by /proc", own, "/proc/self/cwd"},
        {"by /proc and dots", strdup(in(own, "sub")), "/proc/self/cwd/.."},
        {"by the root of /proc", own, strdup(in("/proc/self/root", own + 1))},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char from[PATH_MAX], path[PATH_MAX];
        strcpy(from, ways[i].from), strcpy(path, ways[i].path);
        style = ways[i].style;
        IS(chdir(from) == 0);
        by_path(path);
    }
    style = "by a descriptor";
    int directory = open(own, O_RDONLY | O_DIRECTORY);
    by_descriptor(directory);
    close(directory);
    style = "by a descriptor of O_PATH";
    directory = open(in(outer, "into"), O_PATH);
    by_descriptor(directory);
    close(directory);
    IS(unlink(in(own, "sub/back")) == 0);
    walks();
    working_directory();
    sockets(in(own, "socket"));
    char path[PATH_MAX];
    /* As long as a name can be: that on the host is longer. */
    snprintf(path, sizeof path, "%s", in(own, "sub/"));
    memset(path + strlen(path), 'n', sizeof path - strlen(path));
    path[100] = 0;
    if (strlen(own) < 80) {
        IS(mkdir(path, 0700) == 0);
        sockets(strdup(in(path, "socket")));
        IS(rmdir(path) == 0);
    }
    programs();
    libraries();
    style = "end";
    IS(rmdir(in(own, "sub")) == 0 && fails(rmdir(in(outer, "into")), ENOTDIR));
    puts(wrong ? "NOT OK" : "OK");
    return wrong ? 1 : 0;
}
