/* Threads and processes that ask for their own ids again and again: in the first thread and another, before and after a
 * restart, in children of every kind (fork, one past libc, vfork, vfork in the child of a vfork, clone with and without
 * shared memory) and in a handler.
 *
 * Wrong would be: an id of the parent's in a child, of the child's in the parent, of another thread's, or of another life.
 */
#include "program.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { OFTEN = 300 };

/* What a thread has for its ids, always the same. */
struct own {
    pid_t process, thread;
};

static struct own ask(const char *who) {
    struct own own = {getpid(), gettid()};
    for (int i = 0; i < OFTEN; i++) {
        pid_t process = getpid(), thread = gettid();
        CHECK(process == own.process && thread == own.thread, "%s: %d %d, then %d %d", who, own.process, own.thread,
              process, thread);
    }
    return own;
}

static void expect(const char *who, struct own wanted) {
    struct own own = ask(who);
    CHECK(own.process == wanted.process && own.thread == wanted.thread, "%s: %d %d instead of %d %d", who, own.process,
          own.thread, wanted.process, wanted.thread);
}

static struct own first, second, *told;
static pthread_barrier_t barrier;

/* In a child: its ids are told to the parent, which knows its number. */
static void in_child(void) {
    *told = ask("child");
    CHECK(told->process == told->thread && told->process != first.process, "child: %d %d", told->process, told->thread);
    CHECK(getppid() == first.process, "child: parent %d", getppid());
    CHECK(kill(told->process, 0) == 0, "child: is nobody");
}

static void after_child(const char *kind, pid_t child) {
    int status;
    CHECK(child > 0 && waitpid(child, &status, __WALL) == child && status == 0, "%s: status %x", kind, status);
    CHECK(told->process == child, "%s: %d says that it is %d", kind, child, told->process);
    expect(kind, first);
}

static pid_t fork_past_libc(void) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_fork) : "rcx", "r11", "memory");
    return (pid_t)result;
}

static int start(void *unused UNUSED) {
    told->process = getpid();
    told->thread = gettid();
    for (int i = 0; i < OFTEN; i++)
        if (getpid() != told->process || gettid() != told->thread) return 1;
    return told->process == first.process;
}

static char stack[2][65536] __attribute__((aligned(16)));

static void children(void) {
    pid_t child = fork();
    if (child == 0) {
        in_child();
        _exit(0);
    }
    after_child("fork", child);
    child = fork_past_libc();
    if (child == 0) {
        /* libc, and Zap, know nothing of it. */
        *told = (struct own){getpid(), gettid()};
        for (int i = 0; i < OFTEN; i++)
            if (getpid() != told->process || gettid() != told->thread) _exit(1);
        _exit(told->process == first.process);
    }
    {
        int status;
        CHECK(child > 0 && waitpid(-1, &status, 0) > 0 && status == 0, "fork past libc: status %x", status);
        expect("fork past libc", first);
    }
    child = vfork();
    if (child == 0) _exit(start(NULL));
    after_child("vfork", child);
    child = vfork();
    if (child == 0) {
        struct own outer = {getpid(), gettid()};
        pid_t inner = vfork();
        if (inner == 0) _exit(getpid() == outer.process);
        int status;
        waitpid(inner, &status, 0);
        _exit(start(NULL) || status != 0 || told->process != outer.process);
    }
    after_child("vfork in a vfork", child);
    child = clone(start, stack[0] + sizeof stack[0], CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    after_child("clone like vfork", child);
    child = clone(start, stack[0] + sizeof stack[0], SIGCHLD, NULL);
    after_child("clone like fork", child);
    child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        in_child();
        _exit(0);
    }
    after_child("clone by number", child);
}

static volatile sig_atomic_t in_handler;

static void handle(int signal UNUSED) {
    in_handler = getpid() == first.process ? gettid() : -1;
}

static void *other(void *unused) {
    second = ask("second thread");
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    expect("second thread later", second);
    return unused;
}

int main(void) {
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(told != MAP_FAILED);
    struct sigaction action = {.sa_handler = handle};
    MAKE(sigaction(SIGUSR1, &action, NULL) == 0);
    MAKE(pthread_barrier_init(&barrier, NULL, 2) == 0);
    first = ask("first thread");
    pthread_t thread;
    MAKE(pthread_create(&thread, NULL, other, NULL) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(second.process == first.process && second.thread != first.thread && first.process == first.thread, "%d %d, %d %d",
          first.process, first.thread, second.process, second.thread);
    children();
    ready();
    expect("first thread later", first);
    children();
    MAKE(pthread_kill(pthread_self(), SIGUSR1) == 0);
    CHECK(in_handler == first.thread, "handler: %d", (int)in_handler);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    /* From here on the first thread has a child in its own memory for a while, and asks the kernel. */
    pid_t beside = clone(start, stack[1] + sizeof stack[1], CLONE_VM | SIGCHLD, NULL);
    expect("beside a child", first);
    after_child("clone in one memory", beside);
    SAY("own ids: the same in every life, others in every child");
    return finish(9);
}
