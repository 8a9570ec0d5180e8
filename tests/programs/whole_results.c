/* Threads in calls that bring much, or wait: each brings all that it was asked for. getrandom(2) and reads of /dev/zero and
 * /dev/urandom, which the kernel ends early at any signal; recvmmsg(2) and sendmmsg(2) on sockets with a time-out, which it
 * ends with EINTR; poll(2) and epoll_wait(2) that do not wait, which end so too when a signal comes just then.
 *
 * Wrong would be: fewer bytes, EINTR.
 */
#include "program.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

enum { LARGE = 48 << 20, MESSAGE = 1000 };

static atomic_int over;
static atomic_long rounds[3];

static void *ask(void *unused) {
    char *buffer = malloc(LARGE);
    MAKE(buffer != NULL);
    while (!over) {
        ssize_t got = getrandom(buffer, LARGE, 0);
        CHECK(got == LARGE, "getrandom: %zd", got);
        rounds[0]++;
    }
    free(buffer);
    return unused;
}

static void *read_device(void *path) {
    char *buffer = malloc(LARGE);
    int device = open(path, O_RDONLY), zero = strcmp(path, "/dev/zero") == 0;
    MAKE(buffer != NULL && device >= 0);
    while (!over) {
        if (zero) memset(buffer, 1, LARGE);
        ssize_t got = read(device, buffer, LARGE);
        CHECK(got == LARGE, "%s: %zd", (char *)path, got);
        if (zero) CHECK(buffer[0] == 0 && buffer[LARGE - 1] == 0 && memchr(buffer, 1, LARGE) == NULL, "what is read");
        rounds[zero ? 1 : 2]++;
    }
    free(buffer);
    close(device);
    return NULL;
}

static int receiving[2], sending[2];

static void *look(void *unused) {
    struct epoll_event event = {.events = EPOLLIN};
    struct pollfd none = {.fd = sending[0], .events = POLLIN};
    int set = epoll_create1(EPOLL_CLOEXEC);
    MAKE(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, sending[0], &event) == 0);
    while (!over) {
        int polled = poll(&none, 1, 0);
        CHECK(polled == 0, "poll: %d", polled);
        int waited = epoll_wait(set, &event, 1, 0);
        CHECK(waited == 0, "epoll_wait: %d", waited);
    }
    close(set);
    return unused;
}

static void *receive(void *unused) {
    char buffers[2][MESSAGE];
    struct iovec parts[2] = {{buffers[0], MESSAGE}, {buffers[1], MESSAGE}};
    struct mmsghdr messages[2] = {{.msg_hdr = {.msg_iov = &parts[0], .msg_iovlen = 1}},
                                  {.msg_hdr = {.msg_iov = &parts[1], .msg_iovlen = 1}}};
    int got = recvmmsg(receiving[0], messages, 2, MSG_WAITFORONE, NULL);
    CHECK(got == 1 && messages[0].msg_len == MESSAGE, "recvmmsg: %d", got);
    return unused;
}

static void *send_more(void *unused) {
    static char text[MESSAGE];
    struct iovec part = {text, MESSAGE};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    int sent = sendmmsg(sending[0], &message, 1, 0);
    CHECK(sent == 1 && message.msg_len == MESSAGE, "sendmmsg: %d", sent);
    return unused;
}

int main(void) {
    static char text[MESSAGE];
    struct timeval limit = {.tv_sec = 100};
    MAKE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, receiving) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sending) == 0);
    MAKE(setsockopt(receiving[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    MAKE(setsockopt(sending[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    int filled = 0;
    while (send(sending[0], text, MESSAGE, MSG_DONTWAIT) == MESSAGE) filled++;
    pthread_t threads[6];
    MAKE(pthread_create(&threads[0], NULL, ask, NULL) == 0);
    MAKE(pthread_create(&threads[1], NULL, read_device, "/dev/zero") == 0);
    MAKE(pthread_create(&threads[2], NULL, read_device, "/dev/urandom") == 0);
    MAKE(pthread_create(&threads[3], NULL, receive, NULL) == 0);
    MAKE(pthread_create(&threads[4], NULL, send_more, NULL) == 0);
    MAKE(pthread_create(&threads[5], NULL, look, NULL) == 0);
    while (rounds[0] == 0 || rounds[1] == 0 || rounds[2] == 0) usleep(1000);

    ready();

    long then[3] = {rounds[0], rounds[1], rounds[2]};
    while (rounds[0] < then[0] + 2 || rounds[1] < then[1] + 2 || rounds[2] < then[2] + 2) usleep(1000);
    over = 1;
    MAKE(send(receiving[1], text, MESSAGE, 0) == MESSAGE);
    for (int i = 0; i <= filled; i++) MAKE(recv(sending[1], text, MESSAGE, 0) == MESSAGE);
    for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    SAY("whole results: all that was asked for");
    return finish(7);
}
