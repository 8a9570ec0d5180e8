/* A program that is stopped and continued, with a handler for SIGCONT or without one.
 *
 * Wrong would be: code that runs while the program is stopped (it would see the file and print), a handler for SIGCONT
 * that runs more often than somebody has continued the program, threads or a sleep that are not as they were.
 */
#include "program.h"

#include <pthread.h>
#include <signal.h>

static volatile int continued, spin_on = 1;
static volatile uint64_t turns;
static int pipe_ends[2];

static void on_continue(int number) {
    (void)number;
    continued++;
}

static void *spin(void *argument) {
    while (spin_on) turns++;
    return argument;
}

static void *wait_for_byte(void *argument) {
    char byte;
    CHECK(read(pipe_ends[0], &byte, 1) == 1, "read");
    return argument;
}

int main(int argc, char **argv) {
    pthread_t spinner, reader;
    void *result;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_continue;
    action.sa_flags = SA_RESTART;
    if (argc > 1 && strcmp(argv[1], "handler") == 0) MAKE(sigaction(SIGCONT, &action, NULL) == 0);
    MAKE(pipe(pipe_ends) == 0);
    MAKE(pthread_create(&spinner, NULL, spin, (void *)1) == 0);
    MAKE(pthread_create(&reader, NULL, wait_for_byte, (void *)2) == 0);

    ready();

    CHECK(continued <= 1, "the handler of SIGCONT ran %d times", continued);
    for (uint64_t before = turns; turns == before;) continue;
    spin_on = 0;
    CHECK(write(pipe_ends[1], "!", 1) == 1, "write");
    CHECK(pthread_join(spinner, &result) == 0 && result == (void *)1, "the spinning thread");
    CHECK(pthread_join(reader, &result) == 0 && result == (void *)2, "the reading thread");
    SAY("continued: at most one SIGCONT was handled, both threads went on");
    return finish(7);
}
