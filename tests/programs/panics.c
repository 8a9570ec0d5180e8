/* What a failure of Zap in the middle of a checkpoint must leave as it was.
 *
 * Wrong would be: a descriptor, thread, child or mapping more or less, another protection or another behaviour at a fork
 * of memory, another mask of a thread, another alternate stack, a signal that waited and is lost, an attribute of the
 * process that has changed; a fork, an exec, a new thread or an allocation that hangs afterwards.
 */
#include "program.h"

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define ROOM (1 << 20)

/* Texts from before and after. No allocation may happen in between: it could be a mapping. */
static char before[ROOM], after[ROOM], work[ROOM];
static sem_t standing;
static int pipe_ends[2], may_end;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static timer_t timer;

static size_t add(char *text, size_t length, const char *more) {
    size_t size = strlen(more);
    CHECK(length + size < ROOM, "room for the text");
    memcpy(text + length, more, size + 1);
    return length + size;
}

static size_t read_text(const char *path, char *into) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0, "%s", path);
    size_t length = 0;
    ssize_t count;
    while ((count = read(file, into + length, ROOM - 1 - length)) > 0) length += count;
    into[length] = 0;
    close(file);
    return length;
}

/* The lines of `text` that begin as one of `wanted` do. */
static size_t add_lines(char *to, size_t length, char *text, const char *const *wanted) {
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n"))) {
        int take = 0;
        for (int i = 0; wanted[i]; i++) take |= strncmp(line, wanted[i], strlen(wanted[i])) == 0;
        if (take) {
            unsigned long pending;
            /* Zap's own signal may wait in a thread that blocks everything: nobody sees it. */
            if (sscanf(line, "SigPnd: %lx", &pending) == 1) {
                static char masked[64];
                snprintf(masked, sizeof masked, "SigPnd: %lx", pending & ~(1ul << 32));
                line = masked;
            }
            length = add(to, length, line);
            length = add(to, length, "\n");
        }
    }
    return length;
}

static void describe(char *text) {
    static const char *const of_thread[] = {"SigBlk:", "SigPnd:", "ShdPnd:", "SigIgn:", "SigCgt:", "Threads:", NULL};
    char line[512], path[300], link[200];
    size_t length = 0;
    /* Directories are read by system calls of our own: opendir allocates. */
    for (int which = 0; which < 2; which++) {
        int directory = open(which ? "/proc/self/task" : "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        static char entries[32768];
        long count = syscall(SYS_getdents64, directory, entries, sizeof entries);
        CHECK(count > 0, "the list of what is open");
        for (long at = 0; at < count;) {
            unsigned short size;
            memcpy(&size, entries + at + 16, 2);
            const char *name = entries + at + 19;
            at += size;
            if (name[0] == '.' || (!which && atoi(name) == directory)) continue;
            snprintf(path, sizeof path, which ? "/proc/self/task/%s/status" : "/proc/self/fd/%s", name);
            if (which) {
                read_text(path, work);
                snprintf(line, sizeof line, "thread %s\n", name);
                length = add(text, length, line);
                length = add_lines(text, length, work, of_thread);
            } else {
                ssize_t end = readlink(path, link, sizeof link - 1);
                link[end > 0 ? end : 0] = 0;
                snprintf(line, sizeof line, "descriptor %s %s %d %d\n", name, link, fcntl(atoi(name), F_GETFL),
                         fcntl(atoi(name), F_GETFD));
                length = add(text, length, line);
            }
        }
        close(directory);
    }
    /* Mappings with their flags; the stack may have grown. */
    read_text("/proc/self/smaps", work);
    char *rest = work, *one;
    int take = 0;
    while ((one = strsep(&rest, "\n"))) {
        int head = (one[0] >= '0' && one[0] <= '9') || (one[0] >= 'a' && one[0] <= 'f');
        if (head) take = strstr(one, "[stack]") == NULL;
        if (take && (head || strncmp(one, "VmFlags:", 8) == 0)) {
            length = add(text, length, one);
            length = add(text, length, "\n");
        }
    }
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    stack_t stack;
    sigaltstack(NULL, &stack);
    int subreaper = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
    mode_t creation = umask(0);
    umask(creation);
    int status;
    struct itimerspec left;
    CHECK(timer_gettime(timer, &left) == 0, "the timer");
    snprintf(line, sizeof line, "mask %lx stack %p %zu %d subreaper %d umask %o child %d timer %d\n",
             *(unsigned long *)&mask, stack.ss_sp, stack.ss_size, stack.ss_flags, subreaper, creation,
             waitpid(-1, &status, WNOHANG | __WALL), left.it_value.tv_sec > 1000);
    length = add(text, length, line);
}

/* Threads that were suspended leave Zap's handler one by one: describes when nothing changes any more. */
static void describe_settled(char *text) {
    static char again[ROOM];
    int same = 0;
    describe(text);
    for (int i = 0; i < 400 && same < 5; i++) {
        usleep(5000);
        describe(again);
        same = strcmp(text, again) == 0 ? same + 1 : 0;
        strcpy(text, again);
    }
}

static void *stand(void *argument) {
    char byte;
    sem_post(&standing);
    CHECK(read(pipe_ends[0], &byte, 1) == 1, "read of the pipe");
    return argument;
}

static void *spin(void *argument) {
    static volatile unsigned long turns;
    sem_post(&standing);
    while (!__atomic_load_n(&may_end, __ATOMIC_ACQUIRE)) turns++;
    return argument;
}

/* Blocks every signal by a system call, as a library may: it must be helped to take one. */
static void *block_all(void *argument) {
    unsigned long all = ~0ul;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    sem_post(&standing);
    while (!__atomic_load_n(&may_end, __ATOMIC_ACQUIRE)) usleep(1000);
    return argument;
}

static void *wait_for_lock(void *argument) {
    sem_post(&standing);
    pthread_mutex_lock(&held);
    pthread_mutex_unlock(&held);
    return argument;
}

static void on_segment(int number) { (void)number; }

static void *nothing(void *argument) { return argument; }

int main(void) {
    void *(*const functions[])(void *) = {stand, spin, block_all, wait_for_lock};
    pthread_t threads[4];
    static unsigned char stack_bytes[65536];
    stack_t stack = {.ss_sp = stack_bytes, .ss_size = sizeof stack_bytes};
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGRTMIN + 3);
    struct sigaction action = {.sa_handler = on_segment, .sa_flags = SA_ONSTACK};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    struct itimerspec setting = {.it_value = {10000, 0}};

    MAKE(sem_init(&standing, 0, 0) == 0 && pipe(pipe_ends) == 0);
    MAKE(sigaltstack(&stack, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
    MAKE(sigaction(SIGUSR2, &action, NULL) == 0);
    MAKE(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    MAKE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &setting, NULL) == 0);
    umask(027);
    size_t page = sysconf(_SC_PAGESIZE);
    unsigned char *kept_out = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *shared = mmap(NULL, 100 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(kept_out != MAP_FAILED && shared != MAP_FAILED);
    fill(kept_out, 8 * page, 1);
    fill(shared, 100 * page, 2);
    MAKE(madvise(kept_out, 8 * page, MADV_DONTFORK) == 0 && mprotect(shared, 100 * page, PROT_NONE) == 0);
    int event_descriptor = eventfd(7, EFD_NONBLOCK);
    int many[40];
    for (int i = 0; i < 40; i++) MAKE((many[i] = dup(event_descriptor)) >= 0);
    MAKE(pthread_sigmask(SIG_BLOCK, &blocked, NULL) == 0);
    pthread_mutex_lock(&held);
    for (int i = 0; i < 4; i++) MAKE(pthread_create(&threads[i], NULL, functions[i], &threads[i]) == 0);
    for (int i = 0; i < 4; i++) MAKE(sem_wait(&standing) == 0);
    MAKE(kill(getpid(), SIGUSR1) == 0);
    for (int i = 0; i < 3; i++) MAKE(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 10 + i}) == 0);
    describe(before);

    /* A checkpoint that must work comes first: what Zap needs for ever is there then. */
    ready();
    describe_settled(before);
    ready();
    describe_settled(after);

    if (strcmp(before, after) != 0) {
        char *a = before, *b = after, *x, *y;
        while ((x = strsep(&a, "\n")) && (y = strsep(&b, "\n")))
            CHECK(strcmp(x, y) == 0, "before: %s; after: %s", x, y);
        CHECK(0, "more or fewer lines");
    }
    SAY("panics: descriptors, threads, children, mappings, masks and attributes are what they were");
    CHECK(mprotect(shared, 100 * page, PROT_READ) == 0 && filled(shared, 100 * page, 2) && filled(kept_out, 8 * page, 1),
          "memory");
    int number;
    CHECK(sigwait(&blocked, &number) == 0 && number == SIGUSR1, "the signal that waited");
    for (int i = 0; i < 3; i++) {
        siginfo_t info;
        CHECK(sigwaitinfo(&blocked, &info) == SIGRTMIN + 3 && info.si_value.sival_int == 10 + i, "queued signal %d", i);
    }
    SAY("panics: memory and signals that waited");

    for (int i = 0; i < 20; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            free(malloc(100000));
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child that execs");
        CHECK(system("exit 3") == 3 << 8, "a shell");
        pthread_t fresh;
        CHECK(pthread_create(&fresh, NULL, nothing, NULL) == 0 && pthread_join(fresh, NULL) == 0, "a new thread");
        stack_t small = {.ss_sp = stack_bytes, .ss_size = 4096 + i};
        CHECK(sigaltstack(&small, NULL) == 0 && raise(SIGUSR2) == 0, "a small alternate stack");
    }
    SAY("panics: processes, threads and alternate stacks can be made");

    __atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
    CHECK(write(pipe_ends[1], "!", 1) == 1, "write");
    pthread_mutex_unlock(&held);
    for (int i = 0; i < 4; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0 && result == &threads[i], "thread %d", i);
    }
    SAY("panics: threads");
    return finish(29);
}
