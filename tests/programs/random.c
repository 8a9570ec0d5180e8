/* A program made from a number: kinds of state, how many of each, their sizes and their order follow from it.
 *
 * Each kind has a function that makes it and one that looks at it; both draw from the item's own numbers, so that what is
 * wrong can be named by seed, place and kind. Wrong would be anything that is not as it was made.
 */
#include "program.h"

#include <pthread.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <linux/futex.h>
#include <time.h>

struct item {
    const struct kind *kind;
    uint64_t seed, drawn;
    unsigned char *memory, *more;
    size_t length, done;
    int fd[4];
    int choice;
    int64_t number;
    struct flags flags;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    pthread_rwlock_t lock;
    sem_t semaphore;
    timer_t timer;
    struct sigaction action;
    uint32_t word;
    int may_go;
};

struct kind {
    const char *name;
    void (*make)(struct item *);
    void (*check)(struct item *);
};

static const char *directory;
static size_t page;
static sem_t standing;
static __thread uint64_t own[64];
static __thread volatile int taken, taken_on;

/* The next number of a sequence (splitmix64). */
static uint64_t draw_from(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The item's next number below `limit`. */
static uint64_t draw(struct item *item, uint64_t limit) { return draw_from(&item->drawn) % limit; }

/* As CHECK, with what is being looked at. */
#define HOLDS(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            int kept = errno;                                                                                          \
            printf("in %s (%d, %zu, %lld): ", item->kind->name, item->choice, item->length, (long long)item->number);  \
            errno = kept;                                                                                              \
            CHECK(0, __VA_ARGS__);                                                                                     \
        }                                                                                                              \
    } while (0)

static int new_file(struct item *item, int flags) {
    char path[4096];
    snprintf(path, sizeof path, "%s/file-%llx", directory, (unsigned long long)item->seed);
    int fd = open(path, flags | O_RDWR | O_CREAT | O_TRUNC, 0600);
    MAKE(fd >= 0);
    return fd;
}

/* Moves a descriptor to some other number, now and then. */
static int elsewhere(struct item *item, int fd) {
    if (draw(item, 3)) return fd;
    int high = fcntl(fd, draw(item, 2) ? F_DUPFD : F_DUPFD_CLOEXEC, 20 + (int)draw(item, 900));
    MAKE(high >= 0);
    close(fd);
    return high;
}

static void note_flags(struct item *item) { item->flags = flags_of(item->fd[0]); }
static void check_flags(struct item *item) { HOLDS(same_flags(item->fd[0], item->flags), "flags of the descriptor"); }

/* Memory. */

static void make_private(struct item *item) {
    item->length = (1 + draw(item, 64)) * page;
    item->memory = mmap(NULL, item->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MAKE(item->memory != MAP_FAILED);
    fill(item->memory, item->length, item->seed);
    item->choice = draw(item, 6);
    item->done = draw(item, item->length / page) * page;
    switch (item->choice) {
    case 1: MAKE(mprotect(item->memory + item->done, page, PROT_NONE) == 0); break;
    case 2: MAKE(mprotect(item->memory, item->length, PROT_READ) == 0); break;
    case 3: MAKE(munmap(item->memory + item->done, page) == 0); break;
    case 4: MAKE(madvise(item->memory, item->length, MADV_DONTFORK) == 0); break;
    case 5: MAKE(madvise(item->memory + item->done, page, MADV_DONTNEED) == 0); break;
    }
}

static void check_private(struct item *item) {
    if (item->choice == 1) {
        HOLDS(mprotect(item->memory + item->done, page, PROT_READ) == 0, "protection");
    }
    for (size_t at = 0; at < item->length; at += page) {
        /* What else is made may lie there. */
        if (at == item->done && item->choice == 3) continue;
        if (at == item->done && item->choice == 5) {
            HOLDS(zeroed(item->memory + at, page), "what was given back");
            continue;
        }
        for (size_t i = at; i < at + page; i++)
            HOLDS(item->memory[i] == pattern_byte(item->seed, i), "byte %zu", i);
    }
}

static void make_shared(struct item *item) {
    item->length = (1 + draw(item, 40)) * page;
    item->memory = mmap(NULL, item->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MAKE(item->memory != MAP_FAILED);
    item->choice = draw(item, 3);
    fill(item->memory, item->length, item->seed);
    if (item->choice == 1) {
        item->more = mremap(item->memory, 0, item->length, MREMAP_MAYMOVE);
        MAKE(item->more != MAP_FAILED);
    }
    if (item->choice == 2) MAKE(mprotect(item->memory, item->length, PROT_NONE) == 0);
}

static void check_shared(struct item *item) {
    if (item->choice == 2) MAKE(mprotect(item->memory, item->length, PROT_READ | PROT_WRITE) == 0);
    HOLDS(filled(item->memory, item->length, item->seed), "contents");
    if (item->choice == 1) {
        item->memory[5] ^= 255;
        HOLDS(item->more[5] == item->memory[5], "both show the same memory");
    }
}

static void make_mapped_file(struct item *item) {
    item->fd[0] = new_file(item, O_CLOEXEC);
    item->length = (1 + draw(item, 20)) * page;
    item->choice = draw(item, 2);
    MAKE(ftruncate(item->fd[0], item->length) == 0);
    item->memory = mmap(NULL, item->length, PROT_READ | PROT_WRITE, item->choice ? MAP_SHARED : MAP_PRIVATE, item->fd[0], 0);
    MAKE(item->memory != MAP_FAILED);
    fill(item->memory, item->length / 2, item->seed);
    if (draw(item, 2)) {
        close(item->fd[0]);
        item->fd[0] = -1;
    }
}

static void check_mapped_file(struct item *item) {
    HOLDS(filled(item->memory, item->length / 2, item->seed), "contents");
    HOLDS(zeroed(item->memory + item->length / 2, item->length - item->length / 2), "the rest");
}

static void make_heap(struct item *item) {
    item->length = 5 + draw(item, 200);
    unsigned char **blocks = calloc(item->length, sizeof *blocks);
    MAKE(blocks != NULL);
    for (size_t i = 0; i < item->length; i++) MAKE((blocks[i] = malloc(200 + i * 37)) != NULL);
    for (size_t i = 0; i < item->length; i += 3) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    for (size_t i = 0; i < item->length; i++)
        if (blocks[i]) fill(blocks[i], 200 + i * 37, item->seed + i);
    item->memory = (unsigned char *)blocks;
}

static void check_heap(struct item *item) {
    unsigned char **blocks = (unsigned char **)item->memory;
    for (size_t i = 0; i < item->length; i++) {
        if (!blocks[i]) continue;
        HOLDS(filled(blocks[i], 200 + i * 37, item->seed + i), "block %zu", i);
        blocks[i] = realloc(blocks[i], 4000 + i * 37);
        HOLDS(filled(blocks[i], 200 + i * 37, item->seed + i), "block %zu, grown", i);
        free(blocks[i]);
    }
    free(blocks);
}

static void make_own(struct item *item) {
    item->choice = draw(item, 64);
    item->number = own[item->choice] ? (int64_t)own[item->choice] : (int64_t)(item->seed | 1);
    own[item->choice] = item->number;
}

static void check_own(struct item *item) { HOLDS((int64_t)own[item->choice] == item->number, "the thread's variable"); }

/* Descriptors. */

static void make_pipe(struct item *item) {
    static const int flags[] = {0, O_NONBLOCK, O_CLOEXEC, O_NONBLOCK | O_CLOEXEC};
    MAKE(pipe2(item->fd, flags[draw(item, 4)]) == 0);
    item->number = fcntl(item->fd[1], F_GETPIPE_SZ);
    if (draw(item, 3) == 0) MAKE((item->number = fcntl(item->fd[1], F_SETPIPE_SZ, 1 << (12 + draw(item, 6)))) > 0);
    item->length = draw(item, item->number > 65536 ? 65536 : item->number);
    int one_write = draw(item, 2) || item->number < 65536;
    /* A pipe's buffers are pages, and a write may leave one half empty. */
    if (!one_write && item->length > 20000) item->length = 20000;
    unsigned char *bytes = malloc(item->length + 1);
    fill(bytes, item->length, item->seed);
    for (size_t at = 0; at < item->length;) {
        size_t part = one_write ? item->length : 4000 + draw(item, item->length);
        if (part > item->length - at) part = item->length - at;
        MAKE(write(item->fd[1], bytes + at, part) == (ssize_t)part);
        at += part;
    }
    free(bytes);
    item->choice = draw(item, 4);
    item->fd[0] = elsewhere(item, item->fd[0]);
    if (item->choice == 0) close(item->fd[1]);
    note_flags(item);
}

static void check_pipe(struct item *item) {
    check_flags(item);
    unsigned char *bytes = malloc(item->length + 1);
    size_t done = 0;
    while (done < item->length) {
        ssize_t count = read(item->fd[0], bytes + done, item->length - done);
        HOLDS(count > 0, "contents up to %zu", done);
        done += count;
    }
    HOLDS(filled(bytes, item->length, item->seed), "contents");
    if (item->choice == 0) {
        HOLDS(read(item->fd[0], bytes, 1) == 0, "the end");
    } else {
        HOLDS(fcntl(item->fd[1], F_GETPIPE_SZ) == item->number, "size");
        HOLDS(write(item->fd[1], "x", 1) == 1 && read(item->fd[0], bytes, 1) == 1, "a byte more");
    }
    free(bytes);
}

static void make_eventfd(struct item *item) {
    item->choice = draw(item, 2);
    item->number = draw(item, 100);
    item->fd[0] = elsewhere(item, eventfd(item->number, EFD_NONBLOCK | (item->choice ? EFD_SEMAPHORE : 0)));
    MAKE(item->fd[0] >= 0);
    note_flags(item);
}

static void check_eventfd(struct item *item) {
    check_flags(item);
    eventfd_t value;
    if (item->choice) {
        for (int64_t i = 0; i < item->number; i++) HOLDS(eventfd_read(item->fd[0], &value) == 0 && value == 1, "one");
    } else if (item->number) {
        HOLDS(eventfd_read(item->fd[0], &value) == 0 && (int64_t)value == item->number, "the count");
    }
    HOLDS(eventfd_read(item->fd[0], &value) == -1 && errno == EAGAIN, "empty");
    errno = 0;
}

static void make_timerfd(struct item *item) {
    static const int clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME};
    item->fd[0] = elsewhere(item, timerfd_create(clocks[draw(item, 3)], TFD_NONBLOCK));
    item->choice = draw(item, 3);
    item->number = item->choice ? 1000 + (int64_t)draw(item, 1000) : 0;
    struct itimerspec setting = {.it_value = {item->number, 0}, .it_interval = {item->choice == 2 ? 77 : 0, 5}};
    MAKE(item->fd[0] >= 0 && timerfd_settime(item->fd[0], 0, &setting, NULL) == 0);
    note_flags(item);
}

static void check_timerfd(struct item *item) {
    check_flags(item);
    struct itimerspec now;
    HOLDS(timerfd_gettime(item->fd[0], &now) == 0, "gettime");
    if (!item->number)
        HOLDS(now.it_value.tv_sec == 0 && now.it_value.tv_nsec == 0, "not armed");
    else
        HOLDS(now.it_value.tv_sec > item->number - 200 && now.it_value.tv_sec <= item->number &&
                  now.it_interval.tv_sec == (item->choice == 2 ? 77 : 0),
              "%ld s left", (long)now.it_value.tv_sec);
}

static void make_file(struct item *item) {
    item->choice = draw(item, 5);
    int flags[] = {0, O_APPEND, O_CLOEXEC, O_NONBLOCK, O_APPEND | O_CLOEXEC};
    item->fd[0] = elsewhere(item, new_file(item, flags[item->choice]));
    item->length = 1 + draw(item, 20000);
    unsigned char *bytes = malloc(item->length);
    fill(bytes, item->length, item->seed);
    MAKE(write(item->fd[0], bytes, item->length) == (ssize_t)item->length);
    free(bytes);
    item->number = draw(item, item->length);
    MAKE(lseek(item->fd[0], item->number, SEEK_SET) == item->number);
    item->fd[1] = draw(item, 2) ? dup(item->fd[0]) : -1;
    item->done = draw(item, 4);
    if (item->done == 1) MAKE(flock(item->fd[0], LOCK_EX) == 0);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20};
    if (item->done == 2) MAKE(fcntl(item->fd[0], F_SETLK, &lock) == 0);
    if (item->done == 3) MAKE(fcntl(item->fd[0], F_OFD_SETLK, &lock) == 0);
    note_flags(item);
}

static void check_file(struct item *item) {
    check_flags(item);
    HOLDS(lseek(item->fd[0], 0, SEEK_CUR) == item->number, "the offset");
    unsigned char byte;
    HOLDS(read(item->fd[0], &byte, 1) == 1 && byte == pattern_byte(item->seed, item->number), "a byte");
    if (item->fd[1] >= 0) HOLDS(lseek(item->fd[1], 0, SEEK_CUR) == item->number + 1, "the offset of both");
    char path[4096];
    snprintf(path, sizeof path, "%s/file-%llx", directory, (unsigned long long)item->seed);
    int other = open(path, O_RDWR);
    HOLDS(other >= 0, "opening it again");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};
    if (item->done == 1) HOLDS(flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK, "its lock");
    if (item->done == 3) HOLDS(fcntl(other, F_OFD_SETLK, &lock) == -1 && errno == EAGAIN, "its own lock");
    if (item->done == 2) {
        HOLDS(fcntl(other, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_start == 10, "the process's lock");
    }
    errno = 0;
    close(other);
}

static void make_sockets(struct item *item) {
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    item->choice = draw(item, 3);
    item->fd[2] = elsewhere(item, socket(AF_UNIX, kinds[item->choice], 0));
    MAKE(socketpair(AF_UNIX, kinds[item->choice] | (draw(item, 2) ? SOCK_NONBLOCK : 0), 0, item->fd) == 0);
    item->length = draw(item, 8);
    for (size_t i = 0; i < item->length; i++) {
        unsigned char message[300];
        fill(message, sizeof message, item->seed + i);
        MAKE(send(item->fd[i % 2], message, 10 + i * 30, 0) == (ssize_t)(10 + i * 30));
    }
    item->fd[1] = elsewhere(item, item->fd[1]);
    note_flags(item);
}

static void check_sockets(struct item *item) {
    check_flags(item);
    for (size_t i = 0; i < item->length; i++) {
        unsigned char message[300];
        size_t want = 10 + i * 30;
        ssize_t count = recv(item->fd[1 - i % 2], message, item->choice ? sizeof message : want, 0);
        HOLDS(count == (ssize_t)want && filled(message, want, item->seed + i), "message %zu: %zd", i, count);
    }
    char byte;
    HOLDS(send(item->fd[2], "z", 1, MSG_NOSIGNAL) == -1 && errno == ENOTCONN, "one that is not connected");
    errno = 0;
    HOLDS(send(item->fd[0], "y", 1, 0) == 1 && recv(item->fd[1], &byte, 1, 0) == 1 && byte == 'y', "a message more");
}

static void make_epoll(struct item *item) {
    item->fd[0] = epoll_create1(EPOLL_CLOEXEC);
    item->length = 1 + draw(item, 3);
    for (size_t i = 1; i <= item->length; i++) {
        item->fd[i] = elsewhere(item, eventfd(i % 2, EFD_NONBLOCK));
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = item->seed + i};
        MAKE(epoll_ctl(item->fd[0], EPOLL_CTL_ADD, item->fd[i], &event) == 0);
    }
    item->fd[0] = elsewhere(item, item->fd[0]);
    note_flags(item);
}

static void check_epoll(struct item *item) {
    check_flags(item);
    struct epoll_event events[8];
    int expected = (item->length + 1) / 2;
    int count = epoll_wait(item->fd[0], events, 8, 0);
    HOLDS(count == expected, "%d events", count);
    uint64_t sum = 0, wanted = 0;
    for (int i = 0; i < count; i++) sum += events[i].data.u64;
    for (size_t i = 1; i <= item->length; i += 2) wanted += item->seed + i;
    HOLDS(sum == wanted, "data of the events");
    for (size_t i = 1; i <= item->length; i++) eventfd_write(item->fd[i], 1);
    HOLDS(epoll_wait(item->fd[0], events, 8, 1000) == (int)item->length, "all are ready");
}

static void make_opened(struct item *item) {
    static const char *const paths[] = {"/dev/null", "/dev/zero", "/dev/urandom", "/", "/etc/passwd"};
    item->choice = draw(item, 5);
    item->fd[0] = elsewhere(item, open(paths[item->choice], O_RDONLY | (draw(item, 2) ? O_CLOEXEC : 0)));
    MAKE(item->fd[0] >= 0);
    note_flags(item);
}

static void check_opened(struct item *item) {
    check_flags(item);
    char byte = 7;
    ssize_t count = read(item->fd[0], &byte, 1);
    HOLDS(count == (item->choice == 0 ? 0 : item->choice == 3 ? -1 : 1), "read: %zd", count);
    errno = 0;
}

/* Signals and timers of the process. Every thread blocks the real-time signals from the sixth on. */

static void make_queued(struct item *item) {
    static int used;
    item->choice = used++;
    if (item->choice >= 16) return;
    item->length = 1 + draw(item, 4);
    for (size_t i = 0; i < item->length; i++)
        MAKE(sigqueue(getpid(), SIGRTMIN + 6 + item->choice, (union sigval){.sival_int = (int)(item->seed + i)}) == 0);
}

static void check_queued(struct item *item) {
    if (item->choice >= 16) return;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGRTMIN + 6 + item->choice);
    struct timespec none = {0, 0};
    for (size_t i = 0; i < item->length; i++) {
        siginfo_t info;
        int number = sigtimedwait(&one, &info, &none);
        HOLDS(number == SIGRTMIN + 6 + item->choice && info.si_value.sival_int == (int)(item->seed + i), "signal %zu", i);
    }
    HOLDS(sigtimedwait(&one, NULL, &none) == -1 && errno == EAGAIN, "none more");
    errno = 0;
}

static void count_signal(int number) {
    (void)number;
    taken++;
    char here;
    stack_t stack;
    sigaltstack(NULL, &stack);
    taken_on = &here >= (char *)stack.ss_sp && &here < (char *)stack.ss_sp + stack.ss_size;
}

static void make_handler(struct item *item) {
    static int used;
    static const int numbers[] = {SIGHUP, SIGWINCH, SIGURG, SIGXCPU, SIGPROF, SIGIO, SIGPWR, SIGTTIN};
    item->choice = used++;
    if (item->choice >= 8) return;
    item->number = numbers[item->choice];
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = draw(item, 2) ? SA_RESTART : 0};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < 3; i++) sigaddset(&action.sa_mask, 1 + draw(item, 30));
    MAKE(sigaction(item->number, &action, NULL) == 0 && sigaction(item->number, NULL, &item->action) == 0);
}

static void check_handler(struct item *item) {
    if (item->choice >= 8) return;
    struct sigaction now;
    HOLDS(sigaction(item->number, NULL, &now) == 0 && now.sa_handler == count_signal &&
              now.sa_flags == item->action.sa_flags && memcmp(&now.sa_mask, &item->action.sa_mask, 8) == 0,
          "the disposition");
    int before = taken;
    raise(item->number);
    HOLDS(taken == before + 1, "it is called");
}

static void make_timer(struct item *item) {
    struct sigevent event = {.sigev_notify = draw(item, 2) ? SIGEV_NONE : SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 5};
    item->number = 500 + draw(item, 1000);
    struct itimerspec setting = {.it_value = {item->number, 0}};
    MAKE(timer_create(CLOCK_MONOTONIC, &event, &item->timer) == 0);
    MAKE(timer_settime(item->timer, 0, &setting, NULL) == 0);
}

static void check_timer(struct item *item) {
    struct itimerspec now;
    HOLDS(timer_gettime(item->timer, &now) == 0, "gettime");
    HOLDS(now.it_value.tv_sec > item->number - 200 && now.it_value.tv_sec <= item->number, "%ld s left",
          (long)now.it_value.tv_sec);
    HOLDS(timer_delete(item->timer) == 0, "delete");
}

static void make_child(struct item *item) {
    item->choice = draw(item, 2);
    item->number = item->choice ? (draw(item, 2) ? SIGKILL : SIGTERM) : (int)draw(item, 256);
    pid_t child = fork();
    if (child == 0) {
        if (item->choice) {
            kill(getpid(), item->number);
            pause();
        }
        _exit(item->number);
    }
    MAKE(child > 0);
    item->fd[0] = child;
    siginfo_t info;
    MAKE(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0);
}

static void check_child(struct item *item) {
    int status;
    HOLDS(waitpid(item->fd[0], &status, 0) == item->fd[0], "waitpid");
    HOLDS(item->choice ? WIFSIGNALED(status) && WTERMSIG(status) == item->number
                       : WIFEXITED(status) && WEXITSTATUS(status) == item->number,
          "status %x", status);
}

/* Threads in calls that block. Each has variables, a name and a mask of its own. */

static void block_in_call(struct item *item) {
    char byte;
    struct timespec time = timespec_of(item->number);
    /* Time to a moment of the day passes while the program does not run. */
    clockid_t clock = item->choice == 15 || item->choice == 17 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    int64_t begun = nanoseconds(clock), end = begun + item->number;
    struct pollfd one = {.fd = item->fd[0], .events = POLLIN};
    fd_set set;
    switch (item->choice) {
    case 0: HOLDS(read(item->fd[0], &byte, 1) == 1 && byte == '!', "read"); break;
    case 1: HOLDS(poll(&one, 1, -1) == 1, "poll"); break;
    case 2: HOLDS(ppoll(&one, 1, NULL, NULL) == 1, "ppoll"); break;
    case 3:
        FD_ZERO(&set);
        FD_SET(item->fd[0], &set);
        HOLDS(select(item->fd[0] + 1, &set, NULL, NULL, NULL) == 1, "select");
        break;
    case 4: {
        int epoll = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN};
        HOLDS(epoll_ctl(epoll, EPOLL_CTL_ADD, item->fd[0], &event) == 0, "epoll_ctl");
        HOLDS(epoll_wait(epoll, &event, 1, -1) == 1, "epoll_wait");
        break;
    }
    case 5:
        pthread_mutex_lock(&item->mutex);
        while (!item->may_go) pthread_cond_wait(&item->condition, &item->mutex);
        pthread_mutex_unlock(&item->mutex);
        break;
    case 6: HOLDS(sem_wait(&item->semaphore) == 0, "sem_wait"); break;
    case 7:
        HOLDS(pthread_mutex_lock(&item->mutex) == 0, "lock");
        pthread_mutex_unlock(&item->mutex);
        break;
    case 8:
        HOLDS(pthread_rwlock_rdlock(&item->lock) == 0, "read lock");
        pthread_rwlock_unlock(&item->lock);
        break;
    case 9:
        while (!__atomic_load_n(&item->word, __ATOMIC_ACQUIRE)) syscall(SYS_futex, &item->word, FUTEX_WAIT, 0, NULL, NULL, 0);
        break;
    case 10:
        while (!__atomic_load_n(&item->may_go, __ATOMIC_ACQUIRE)) own[1] = item->seed + 1;
        break;
    /* From here on they end by themselves, no earlier than they should. */
    case 11: HOLDS(nanosleep(&time, NULL) == 0, "nanosleep"); break;
    case 12: HOLDS(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL) == 0, "clock_nanosleep"); break;
    case 13:
        time = timespec_of(end);
        HOLDS(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == 0, "clock_nanosleep to a time");
        break;
    case 14: HOLDS(poll(&one, 1, item->number / MILLISECONDS) == 0, "poll with a time-out"); break;
    case 15:
        time = timespec_of(end);
        HOLDS(sem_timedwait(&item->semaphore, &time) == -1 && errno == ETIMEDOUT, "sem_timedwait");
        break;
    case 16: {
        struct timeval interval = {item->number / SECONDS, item->number % SECONDS / 1000};
        HOLDS(select(0, NULL, NULL, NULL, &interval) == 0, "select with a time-out");
        break;
    }
    case 17:
        time = timespec_of(end);
        pthread_mutex_lock(&item->mutex);
        HOLDS(pthread_cond_timedwait(&item->condition, &item->mutex, &time) == ETIMEDOUT, "timed wait");
        pthread_mutex_unlock(&item->mutex);
        break;
    case 18:
        time = timespec_of(item->number);
        HOLDS(ppoll(&one, 1, &time, NULL) == 0, "ppoll with a time-out");
        break;
    }
    int64_t took = nanoseconds(clock) - begun;
    /* A time-out in milliseconds may be short of it by as much. */
    if (item->choice >= 11) HOLDS(took >= item->number - 2 * MILLISECONDS, "%lld ns", (long long)took);
}

static void *live(void *argument) {
    struct item *item = argument;
    own[0] = item->seed;
    own[1] = item->seed + 1;
    char name[16], now[16];
    snprintf(name, sizeof name, "t%llx", (unsigned long long)(item->seed & 0xffffffffff));
    pthread_setname_np(pthread_self(), name);
    sigset_t mask, before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (int i = 1; i < 15; i++)
        if (item->seed >> i & 1 && i != SIGSEGV && i != SIGBUS && i != SIGILL && i != SIGFPE && i != SIGUSR2)
            sigaddset(&mask, i);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    /* A stack for signals, and a signal that waits for this thread alone. */
    static __thread char space[32768];
    stack_t stack = {.ss_sp = space, .ss_size = sizeof space}, stack_now;
    int has_stack = item->seed >> 20 & 1, waits = item->seed >> 21 & 1;
    if (has_stack) sigaltstack(&stack, NULL);
    if (waits) pthread_kill(pthread_self(), SIGRTMIN + 22);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    pthread_t self = pthread_self();
    pid_t id = gettid();
    errno = 0;
    sem_post(&standing);
    block_in_call(item);
    HOLDS(own[0] == item->seed && own[1] == item->seed + 1, "own variables");
    HOLDS(pthread_equal(self, pthread_self()) && gettid() == id, "own ids");
    HOLDS(pthread_getname_np(self, now, sizeof now) == 0 && strcmp(now, name) == 0, "name");
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    HOLDS(memcmp(&before, &after, 8) == 0, "mask");
    sigaltstack(NULL, &stack_now);
    HOLDS(has_stack ? stack_now.ss_sp == space : stack_now.ss_flags == SS_DISABLE, "alternate stack");
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGRTMIN + 22);
    struct timespec none = {0, 0};
    HOLDS(sigtimedwait(&one, NULL, &none) == (waits ? SIGRTMIN + 22 : -1), "the signal that waits");
    int count = taken;
    pthread_kill(self, SIGUSR2);
    HOLDS(taken == count + 1 && taken_on == has_stack, "a signal on its stack");
    errno = 0;
    return item;
}

static void make_thread(struct item *item) {
    item->choice = draw(item, 19);
    item->number = (100 + (int64_t)draw(item, 500)) * MILLISECONDS;
    MAKE(pthread_mutex_init(&item->mutex, NULL) == 0 && pthread_cond_init(&item->condition, NULL) == 0);
    MAKE(pthread_rwlock_init(&item->lock, NULL) == 0 && sem_init(&item->semaphore, 0, 0) == 0);
    MAKE(pipe(item->fd) == 0);
    if (item->choice == 7) pthread_mutex_lock(&item->mutex);
    if (item->choice == 8) pthread_rwlock_wrlock(&item->lock);
    MAKE(pthread_create(&item->thread, NULL, live, item) == 0);
    MAKE(sem_wait(&standing) == 0);
}

static void check_thread(struct item *item) {
    switch (item->choice) {
    case 5:
        pthread_mutex_lock(&item->mutex);
        item->may_go = 1;
        pthread_cond_broadcast(&item->condition);
        pthread_mutex_unlock(&item->mutex);
        break;
    case 6: sem_post(&item->semaphore); break;
    case 7: HOLDS(pthread_mutex_unlock(&item->mutex) == 0, "unlock"); break;
    case 8: HOLDS(pthread_rwlock_unlock(&item->lock) == 0, "unlock"); break;
    case 9:
        __atomic_store_n(&item->word, 1, __ATOMIC_RELEASE);
        syscall(SYS_futex, &item->word, FUTEX_WAKE, 1, NULL, NULL, 0);
        break;
    case 10: __atomic_store_n(&item->may_go, 1, __ATOMIC_RELEASE); break;
    default:
        if (item->choice < 5) HOLDS(write(item->fd[1], "!", 1) == 1, "write");
    }
    void *result;
    HOLDS(pthread_join(item->thread, &result) == 0 && result == item, "join");
}

static const struct kind kinds[] = {
    {"private memory", make_private, check_private},
    {"shared memory", make_shared, check_shared},
    {"mapped file", make_mapped_file, check_mapped_file},
    {"heap", make_heap, check_heap},
    {"thread-local variable", make_own, check_own},
    {"pipe", make_pipe, check_pipe},
    {"eventfd", make_eventfd, check_eventfd},
    {"timerfd", make_timerfd, check_timerfd},
    {"file", make_file, check_file},
    {"socket pair", make_sockets, check_sockets},
    {"epoll", make_epoll, check_epoll},
    {"device, directory", make_opened, check_opened},
    {"queued signals", make_queued, check_queued},
    {"handler", make_handler, check_handler},
    {"timer", make_timer, check_timer},
    {"ended child", make_child, check_child},
    {"thread", make_thread, check_thread},
    {"thread", make_thread, check_thread},
    {"thread", make_thread, check_thread},
};

int main(int count, char **words) {
    CHECK(count == 3, "usage: random SEED DIRECTORY");
    uint64_t state = strtoull(words[1], NULL, 10);
    directory = words[2];
    page = sysconf(_SC_PAGESIZE);
    draw_from(&state);
    sigset_t blocked;
    sigemptyset(&blocked);
    for (int i = SIGRTMIN + 5; i < SIGRTMIN + 23; i++) sigaddset(&blocked, i);
    MAKE(pthread_sigmask(SIG_BLOCK, &blocked, NULL) == 0);
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_ONSTACK | SA_RESTART};
    MAKE(sigaction(SIGUSR2, &action, NULL) == 0 && sem_init(&standing, 0, 0) == 0);

    static struct item items[64];
    size_t length = 3 + draw_from(&state) % 40;
    for (size_t i = 0; i < length; i++) {
        struct item *item = &items[i];
        item->seed = item->drawn = draw_from(&state);
        item->kind = &kinds[draw_from(&state) % (sizeof kinds / sizeof *kinds)];
        item->kind->make(item);
    }

    ready();

    /* Looked at in another order than made: any permutation will do. */
    size_t order[64];
    for (size_t i = 0; i < length; i++) order[i] = i;
    for (size_t i = length; i-- > 1;) {
        size_t other = draw_from(&state) % (i + 1), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (size_t i = 0; i < length; i++) {
        struct item *item = &items[order[i]];
        item->kind->check(item);
        SAY("%zu: %s", order[i], item->kind->name);
    }
    return finish(30);
}
