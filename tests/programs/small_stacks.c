/* Alternate signal stacks that are as small as the kernel allows.
 *
 * Wrong would be: a program that dies because a signal frame did not fit, one that is told another stack than its own,
 * another errno than the manual page's, stacks that pile up as threads come and go, a handler that is interrupted on its
 * alternate stack and finds it overwritten.
 */
#include "program.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

enum { TINY, IN_HANDLER, DISARMED, COUNT };

static const size_t sizes[] = {2048, 8192, 8192};
static pthread_t threads[COUNT];
static char *stacks[COUNT];
static sem_t standing, may_go;
static volatile int spin_on = 1, jumped;
static sigjmp_buf jump_back;

static int own_stack(const char *stack, size_t size, int flags) {
    stack_t now;
    return sigaltstack(NULL, &now) == 0 && now.ss_sp == (void *)stack && now.ss_size == size && now.ss_flags == flags;
}

/* Stays on the alternate stack until the program goes on, with a part of it in use. */
static void stay(int number) {
    (void)number;
    unsigned char local[1500];
    stack_t other = {.ss_sp = stacks[TINY], .ss_size = 65536, .ss_flags = 0};
    fill(local, sizeof local, 3);
    CHECK(own_stack(stacks[IN_HANDLER], sizes[IN_HANDLER], SS_ONSTACK), "the stack as seen in its handler");
    CHECK(sigaltstack(&other, NULL) == -1 && errno == EPERM, "a stack in use cannot be changed");
    sem_post(&standing);
    while (spin_on) continue;
    CHECK(filled(local, sizeof local, 3), "variables of a handler");
    CHECK(own_stack(stacks[IN_HANDLER], sizes[IN_HANDLER], SS_ONSTACK), "the stack as seen in its handler, later");
}

static void disarmed(int number) {
    (void)number;
    stack_t now;
    CHECK(sigaltstack(NULL, &now) == 0 && now.ss_flags == SS_DISABLE, "SS_AUTODISARM has taken the stack away");
}

static void jump(int number) {
    (void)number;
    jumped++;
    siglongjmp(jump_back, 1);
}

static void *run(void *argument) {
    long i = (long)argument;
    int flags = i == DISARMED ? (int)SS_AUTODISARM : 0;
    stack_t stack = {.ss_sp = stacks[i], .ss_size = sizes[i], .ss_flags = flags}, old;
    CHECK(sigaltstack(&stack, &old) == 0 && old.ss_flags == SS_DISABLE, "a new thread has no stack");
    CHECK(own_stack(stacks[i], sizes[i], flags), "the stack that was set");
    if (i == DISARMED) CHECK(raise(SIGUSR2) == 0 && own_stack(stacks[i], sizes[i], flags), "the stack is back");
    if (i == IN_HANDLER) {
        raise(SIGUSR1);
    } else {
        sem_post(&standing);
        sem_wait(&may_go);
    }
    CHECK(own_stack(stacks[i], sizes[i], flags), "the stack at the end");
    if (i == DISARMED) CHECK(raise(SIGUSR2) == 0 && own_stack(stacks[i], sizes[i], flags), "the stack is back again");
    stack.ss_size = 1024;
    CHECK(syscall(SYS_sigaltstack, &stack, NULL) == -1 && errno == ENOMEM, "a stack below MINSIGSTKSZ");
    stack.ss_size = 4096;
    stack.ss_flags = 77;
    CHECK(sigaltstack(&stack, NULL) == -1 && errno == EINVAL, "flags that do not exist");
    stack.ss_flags = SS_DISABLE;
    CHECK(syscall(SYS_sigaltstack, &stack, &stack) == 0 && stack.ss_sp == (void *)stacks[i], "disabling tells the old one");
    CHECK(sigaltstack(NULL, &old) == 0 && old.ss_flags == SS_DISABLE, "disabled");
    return NULL;
}

static void *set_and_end(void *argument) {
    stack_t stack = {.ss_sp = malloc(4096), .ss_size = 4096, .ss_flags = 0};
    CHECK(sigaltstack(&stack, NULL) == 0 && own_stack(stack.ss_sp, 4096, 0), "stack of a short thread");
    free(stack.ss_sp);
    return argument;
}

static int mappings(void) {
    int lines = 0, c;
    FILE *file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL, "maps");
    while ((c = getc(file)) != EOF) lines += c == '\n';
    fclose(file);
    return lines;
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_flags = SA_ONSTACK | SA_RESTART;
    action.sa_handler = stay;
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0);
    action.sa_handler = disarmed;
    MAKE(sigaction(SIGUSR2, &action, NULL) == 0);
    action.sa_handler = jump;
    MAKE(sigaction(SIGWINCH, &action, NULL) == 0);
    MAKE(sem_init(&standing, 0, 0) == 0 && sem_init(&may_go, 0, 0) == 0);
    for (long i = 0; i < COUNT; i++) {
        MAKE((stacks[i] = malloc(65536)) != NULL);
        MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
        MAKE(sem_wait(&standing) == 0);
    }
    char *own = malloc(8192), *other = malloc(4096);
    stack_t stack = {.ss_sp = own, .ss_size = 8192, .ss_flags = 0}, second = {.ss_sp = other, .ss_size = 4096, .ss_flags = 0};
    MAKE(sigaltstack(&stack, NULL) == 0 && own_stack(own, 8192, 0));

    ready();

    CHECK(own_stack(own, 8192, 0), "the main thread's stack");
    spin_on = 0;
    sem_post(&may_go);
    sem_post(&may_go);
    for (int i = 0; i < COUNT; i++) CHECK(pthread_join(threads[i], NULL) == 0, "join");
    SAY("small_stacks: three threads with stacks of 2048 and 8192 bytes, one in a handler");
    for (volatile int i = 0; i < 200; i++)
        if (sigsetjmp(jump_back, 1) == 0) raise(SIGWINCH);
    CHECK(jumped == 200 && own_stack(own, 8192, 0), "jumps out of a handler");
    pid_t child = fork();
    if (child == 0) {
        int right = own_stack(own, 8192, 0) && sigaltstack(&second, NULL) == 0 && own_stack(other, 4096, 0);
        _exit(right ? 5 : 6);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5, "a forked child");
    int before = mappings();
    for (int i = 0; i < 20000; i++) CHECK(sigaltstack(i % 2 ? &stack : &second, NULL) == 0, "sigaltstack");
    for (int i = 0; i < 3000; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, set_and_end, NULL) == 0 && pthread_join(thread, NULL) == 0, "a thread");
    }
    CHECK(mappings() < before + 100, "%d mappings instead of %d", mappings(), before);
    SAY("small_stacks: jumps, a child, 20000 changes, 3000 threads");
    return finish(7);
}
