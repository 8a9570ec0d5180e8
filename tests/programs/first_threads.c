/* Processes whose first thread is made by libc in one of its several ways: by pthread_create, C11's thrd_create, a timer's
 * notification, asynchronous input, a list of it, a name's resolution.
 *
 * Wrong would be: a process that can no longer be stopped, a thread that does not work afterwards, a second one that cannot be
 * made.
 */
#include "program.h"

#include <aio.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <threads.h>

static volatile int notified;
static int told[2];

static void notify(union sigval value) { __atomic_store_n(&notified, value.sival_int, __ATOMIC_SEQ_CST); }

static void *wait_there(void *argument) {
    char byte;
    CHECK(read(told[0], &byte, 1) == 0, "the end of the pipe");
    return argument;
}

static int wait_in_c11(void *argument) {
    wait_there(NULL);
    return *(int *)argument;
}

static void threads_are_made(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_there, NULL) == 0 && pthread_join(thread, NULL) == 0, "a later thread");
}

static void until_notified(int value) {
    while (notified != value) poll(NULL, 0, 1);
}

static struct sigevent by_thread(int value) {
    return (struct sigevent){
        .sigev_notify = SIGEV_THREAD, .sigev_notify_function = notify, .sigev_value.sival_int = value};
}

static void by_pthread(int made) {
    pthread_t thread;
    int done;
    CHECK(pthread_create(&thread, NULL, wait_there, &done) == 0 && write(made, "x", 1) == 1, "a thread");
    void *result;
    CHECK(pthread_join(thread, &result) == 0 && result == &done, "its result");
}

static void by_c11(int made) {
    thrd_t thread;
    int status = 42, result;
    CHECK(thrd_create(&thread, wait_in_c11, &status) == thrd_success && write(made, "x", 1) == 1, "a thread");
    CHECK(thrd_join(thread, &result) == thrd_success && result == 42, "its result");
    /* And one of a process that has been restarted. */
    CHECK(thrd_create(&thread, wait_in_c11, &status) == thrd_success, "another thread");
    CHECK(thrd_join(thread, &result) == thrd_success && result == 42, "its result");
}

static void by_timer(int made) {
    struct sigevent event = by_thread(1);
    timer_t timer;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && write(made, "x", 1) == 1, "a timer");
    wait_there(NULL);
    struct itimerspec soon = {.it_value.tv_nsec = 1000};
    CHECK(timer_settime(timer, 0, &soon, NULL) == 0, "setting it");
    until_notified(1);
}

static void by_aio(int made) {
    int file = open("/dev/zero", O_RDONLY);
    char bytes[10] = "xxxxxxxxx";
    struct aiocb control = {.aio_fildes = file, .aio_buf = bytes, .aio_nbytes = sizeof bytes};
    const struct aiocb *list[] = {&control};
    CHECK(aio_read(&control) == 0 && aio_suspend(list, 1, NULL) == 0, "asynchronous input");
    CHECK(aio_error(&control) == 0 && aio_return(&control) == sizeof bytes && bytes[9] == 0, "its result");
    CHECK(write(made, "x", 1) == 1, "made");
    wait_there(NULL);
    control.aio_sigevent = by_thread(2);
    CHECK(aio_read(&control) == 0, "more of it");
    until_notified(2);
}

/* The call itself waits, as long as the program is looked at. */
static void by_list(int made) {
    char byte;
    struct aiocb control = {.aio_fildes = told[0], .aio_buf = &byte, .aio_nbytes = 1, .aio_lio_opcode = LIO_READ};
    struct aiocb *list[] = {&control};
    CHECK(write(made, "x", 1) == 1, "made");
    CHECK(lio_listio(LIO_WAIT, list, 1, NULL) == 0 && aio_return(&control) == 0, "a list");
}

static void by_name(int made) {
    struct gaicb request = {.ar_name = "127.0.0.1"};
    struct gaicb *list[] = {&request};
    CHECK(getaddrinfo_a(GAI_WAIT, list, 1, NULL) == 0 && gai_error(&request) == 0, "a name");
    CHECK(write(made, "x", 1) == 1, "made");
    wait_there(NULL);
    freeaddrinfo(request.ar_result);
}

int main(void) {
    void (*const ways[])(int) = {by_pthread, by_c11, by_timer, by_aio, by_list, by_name};
    enum { WAYS = sizeof ways / sizeof *ways };
    pid_t children[WAYS];
    int made[2];
    MAKE(pipe(told) == 0 && pipe(made) == 0);
    for (int i = 0; i < WAYS; i++) {
        MAKE((children[i] = fork()) != -1);
        if (children[i] == 0) {
            close(told[1]);
            ways[i](made[1]);
            threads_are_made();
            _exit(i);
        }
    }
    for (int i = 0; i < WAYS; i++) {
        char byte;
        MAKE(read(made[0], &byte, 1) == 1);
    }

    ready();

    CHECK(close(told[1]) == 0, "telling them");
    for (int i = 0; i < WAYS; i++) {
        int status;
        CHECK(waitpid(children[i], &status, 0) == children[i], "waiting");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == i, "way %d: status %x", i, status);
    }
    SAY("first threads: made in %d ways, all work", WAYS);
    return finish(7);
}
