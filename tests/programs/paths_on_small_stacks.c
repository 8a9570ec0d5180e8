/* Calls with paths from a thread with the smallest stack there may be, and from a handler on an alternate stack of the usual size.
 *
 * Wrong would be: a program that is ended because Zap takes more of its stack than is there.
 */
#define _GNU_SOURCE
#include "program.h"
#include <limits.h>
#include <pthread.h>
#include <signal.h>

static const char *directory;
static char path[4096], other[4096];
static volatile int failed;

/* No CHECK: what it prints takes a stack of its own. */
static void use_paths(void) {
    struct stat known;
    char text[64];
    int file = open(path, O_RDWR | O_CREAT, 0600);
    failed |= file < 0 || close(file) != 0;
    failed |= (stat(path, &known) != 0) << 1;
    failed |= (rename(path, other) != 0 || rename(other, path) != 0) << 2;
    failed |= (symlink("a", other) != 0 || readlink(other, text, sizeof text) != 1 || unlink(other) != 0) << 3;
    failed |= (access(".", F_OK) != 0 || unlink(path) != 0) << 4;
}

static void *small(void *argument) {
    use_paths();
    return argument;
}

static void handler(int number) {
    (void)number;
    use_paths();
}

static void use_all(const char *when) {
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 16384) == 0, "attributes");
    CHECK(pthread_create(&thread, &attributes, small, NULL) == 0 && pthread_join(thread, NULL) == 0, "thread");
    CHECK(!failed, "%s: in a thread: %x", when, failed);
    CHECK(raise(SIGUSR1) == 0 && !failed, "%s: in a handler: %x", when, failed);
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: paths_on_small_stacks DIRECTORY");
    directory = argv[1];
    snprintf(path, sizeof path, "%s/file", directory);
    snprintf(other, sizeof other, "%s/other", directory);
    stack_t stack = {.ss_sp = malloc(8192), .ss_size = 8192};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    MAKE(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    use_all("before");

    ready();

    use_all("after");
    SAY("small stacks: enough");
    return finish(7);
}
