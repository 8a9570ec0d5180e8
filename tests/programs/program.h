/* What every program in this folder does in the same way: say READY, wait to be told to go on, check, say OK.
 *
 *     make the state, and note what must still be true
 *     ready();            prints READY, returns when the file named by ZAP_TEST_GO is there
 *     CHECK(...);         compares with what was noted; the first wrong one prints FAIL and ends the program with 1
 *     SAY(...);           says what is right, without ids, addresses or times
 *     return finish(7);   prints OK
 *
 * Waiting is done by polling for a file, since nothing that could be waited for (a descriptor, a signal, a clock) is
 * free of the state that is under test. Nothing is written between READY and the file, so that a program that was
 * killed at any moment in between prints each line once.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* The status for "this machine does not offer what the program needs": not run, and not counted as passed. */
#define SKIPPED 77

#define UNUSED __attribute__((unused))

UNUSED static void program_fail(const char *file, int line, int error, const char *format, ...) {
    va_list list;
    printf("FAIL: ");
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    printf(" (%s:%d, errno %d %s)\n", file, line, error, strerror(error));
    fflush(stdout);
    _exit(1);
}

/* Ends the program unless `condition` holds; the rest is a printf format that says what had to hold. */
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) program_fail(__FILE__, __LINE__, errno, __VA_ARGS__);                                        \
    } while (0)

/* As CHECK, for a step that makes the state: its text is its own name. */
#define MAKE(condition) CHECK(condition, "cannot make the state: %s", #condition)

#define SAY(...)                                                                                                       \
    do {                                                                                                               \
        printf(__VA_ARGS__);                                                                                           \
        putchar('\n');                                                                                                 \
    } while (0)

/* Which round of waiting this is, what ZAP_TEST_GO said (or main's arguments, where the environment is emptied), and
 * the file that ends this round. */
UNUSED static int program_round;
UNUSED static const char *program_go;
UNUSED static char program_path[4096];

/* Prints READY. The n-th round waits for the file $ZAP_TEST_GO, from the second on with ".n" after its name. */
UNUSED static void say_ready(void) {
    const char *go = program_go ? program_go : getenv("ZAP_TEST_GO");
    CHECK(go != NULL, "ZAP_TEST_GO is not set");
    program_go = go;
    program_round++;
    if (program_round == 1)
        snprintf(program_path, sizeof program_path, "%s", go);
    else
        snprintf(program_path, sizeof program_path, "%s.%d", go, program_round);
    printf("READY\n");
    fflush(stdout);
}

/* Whether the program has been told to go on. */
UNUSED static int told_to_go_on(void) {
    int kept = errno;
    int there = access(program_path, F_OK) == 0;
    errno = kept;
    return there;
}

UNUSED static void wait_for_go(void) {
    while (!told_to_go_on()) {
        struct timespec pause = {0, 2000000};
        nanosleep(&pause, NULL);
    }
}

UNUSED static void ready(void) {
    say_ready();
    wait_for_go();
}

UNUSED static int finish(int status) {
    printf("OK\n");
    fflush(stdout);
    return status;
}

/* `directory`/`name`; never freed. */
UNUSED static const char *in(const char *directory, const char *name) {
    char *path;
    CHECK(asprintf(&path, "%s/%s", directory, name) > 0, "no memory for a path");
    return path;
}

/* Bytes that can be told from those of any other place or seed. */
UNUSED static unsigned char pattern_byte(uint64_t seed, uint64_t place) {
    uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15u + place * 0xbf58476d1ce4e5b9u;
    x ^= x >> 29;
    x *= 0x94d049bb133111ebu;
    return (unsigned char)(x >> 56);
}

UNUSED static void fill(void *memory, size_t length, uint64_t seed) {
    unsigned char *bytes = (unsigned char *)memory;
    for (size_t i = 0; i < length; i++) bytes[i] = pattern_byte(seed, i);
}

UNUSED static int filled(const void *memory, size_t length, uint64_t seed) {
    const unsigned char *bytes = (const unsigned char *)memory;
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != pattern_byte(seed, i)) return 0;
    return 1;
}

UNUSED static int zeroed(const void *memory, size_t length) {
    const unsigned char *bytes = (const unsigned char *)memory;
    for (size_t i = 0; i < length; i++)
        if (bytes[i]) return 0;
    return 1;
}

UNUSED static int64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

UNUSED static struct timespec timespec_of(int64_t ns) {
    return (struct timespec){ns / 1000000000LL, ns % 1000000000LL};
}

UNUSED static int64_t nanoseconds_of(struct timespec time) { return time.tv_sec * 1000000000LL + time.tv_nsec; }

/* When this process began, to the kernel: the one thing in which a restarted program is another one. */
UNUSED static unsigned long long start_time(void) {
    char text[1024], *at;
    int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0, "/proc/self/stat");
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    CHECK(length > 0, "/proc/self/stat");
    text[length] = 0;
    at = strrchr(text, ')');
    /* The 22nd field; the name is the second. */
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    CHECK(at != NULL, "/proc/self/stat: %s", text);
    return strtoull(at, NULL, 10);
}

#define MILLISECONDS 1000000LL
#define SECONDS 1000000000LL

/* The flags of an open descriptor, as they must still be later. */
struct flags {
    int status, descriptor;
};

UNUSED static struct flags flags_of(int fd) {
    return (struct flags){fcntl(fd, F_GETFL), fcntl(fd, F_GETFD)};
}

UNUSED static int same_flags(int fd, struct flags flags) {
    struct flags now = flags_of(fd);
    return now.status == flags.status && now.descriptor == flags.descriptor;
}

#endif
