/* epoll: what is watched, how, with which data words, and which events stand ready.
 *
 * Wrong would be: a descriptor that is no longer watched (the server sleeps for ever), an edge that is told twice or
 * never, a one-shot watch that fires again without being armed, data words that are another program's pointers, a
 * watch that was under a dup'ed number and is now under another.
 */
#include "program.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static int epoll;

static void watch(int on, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    MAKE(epoll_ctl(on, EPOLL_CTL_ADD, fd, &event) == 0);
}

/* The data words of the events that are ready, in ascending order, each with its events in hex. */
static const char *ready_events(int from) {
    static char text[1024];
    struct epoll_event events[32];
    int count = epoll_wait(from, events, 32, 0);
    CHECK(count >= 0, "epoll_wait");
    for (int i = 0; i < count; i++)
        for (int k = i + 1; k < count; k++)
            if (events[k].data.u64 < events[i].data.u64) {
                struct epoll_event other = events[i];
                events[i] = events[k];
                events[k] = other;
            }
    text[0] = 0;
    for (int i = 0; i < count; i++)
        sprintf(text + strlen(text), "%s%llu:%x", i ? " " : "", (unsigned long long)events[i].data.u64,
                events[i].events);
    return text;
}

int main(void) {
    int level[2], edge_told[2], edge_new[2], once_told[2], once_new[2], quiet[2], copied[2], inner_pipe[2], pair[2];
    int exclusive[2];
    MAKE(pipe(level) == 0 && pipe(edge_told) == 0 && pipe(edge_new) == 0 && pipe(once_told) == 0);
    MAKE(pipe(once_new) == 0 && pipe(quiet) == 0 && pipe(copied) == 0 && pipe(inner_pipe) == 0);
    MAKE(pipe(exclusive) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int inner = epoll_create1(0);
    MAKE(epoll >= 0 && inner >= 0);

    watch(epoll, edge_told[0], EPOLLIN | EPOLLET, 2);
    watch(epoll, once_told[0], EPOLLIN | EPOLLONESHOT, 4);
    MAKE(write(edge_told[1], "x", 1) == 1 && write(once_told[1], "x", 1) == 1);
    MAKE(strcmp(ready_events(epoll), "2:1 4:1") == 0);
    MAKE(strcmp(ready_events(epoll), "") == 0);

    watch(epoll, level[0], EPOLLIN, 1);
    watch(epoll, edge_new[0], EPOLLIN | EPOLLET, 3);
    watch(epoll, once_new[0], EPOLLIN | EPOLLONESHOT, 5);
    watch(epoll, quiet[0], EPOLLIN, 0xfedcba9876543210u);
    int copy = dup2(copied[0], 170);
    MAKE(copy == 170);
    watch(epoll, copied[0], EPOLLIN, 7);
    watch(epoll, copy, EPOLLIN | EPOLLPRI, 8);
    watch(epoll, pair[0], EPOLLIN | EPOLLRDHUP | EPOLLOUT | EPOLLET, 9);
    MAKE(strcmp(ready_events(epoll), "9:4") == 0);
    watch(inner, inner_pipe[0], EPOLLIN, 100);
    watch(epoll, inner, EPOLLIN, 10);
    watch(epoll, exclusive[0], EPOLLIN | EPOLLEXCLUSIVE, 11);
    MAKE(write(level[1], "x", 1) == 1 && write(edge_new[1], "x", 1) == 1 && write(once_new[1], "x", 1) == 1);
    MAKE(write(copied[1], "x", 1) == 1 && write(inner_pipe[1], "x", 1) == 1);
    int epoll_copy = dup2(epoll, 171);
    MAKE(epoll_copy == 171);
    struct flags flags = flags_of(epoll), copy_flags = flags_of(171), inner_flags = flags_of(inner);

    ready();

    CHECK(same_flags(epoll, flags) && same_flags(171, copy_flags) && same_flags(inner, inner_flags), "flags");
    struct pollfd polled = {epoll, POLLIN, 0};
    CHECK(poll(&polled, 1, 0) == 1, "the epoll descriptor is readable itself");
    const char *first = ready_events(epoll_copy);
    CHECK(strcmp(first, "1:1 3:1 5:1 7:1 8:1 10:1") == 0, "ready events \"%s\"", first);
    SAY("epoll: ready are %s", first);
    const char *then = ready_events(epoll);
    CHECK(strcmp(then, "1:1 7:1 8:1 10:1") == 0, "then ready events \"%s\"", then);
    SAY("epoll: then ready are %s", then);
    const char *within = ready_events(inner);
    CHECK(strcmp(within, "100:1") == 0, "nested ready events \"%s\"", within);
    SAY("epoll: nested ready are %s", within);

    /* Edges and levels from here on. */
    CHECK(write(edge_told[1], "y", 1) == 1 && write(once_told[1], "y", 1) == 1 && write(quiet[1], "y", 1) == 1,
          "new bytes");
    CHECK(write(exclusive[1], "y", 1) == 1 && shutdown(pair[1], SHUT_WR) == 0, "new events");
    char byte;
    CHECK(read(level[0], &byte, 1) == 1, "read a byte");
    then = ready_events(epoll);
    CHECK(strcmp(then, "2:1 7:1 8:1 9:2005 10:1 11:1 18364758544493064720:1") == 0, "new events \"%s\"", then);
    SAY("epoll: new events are %s", then);

    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 44};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_MOD, once_told[0], &event) == 0, "EPOLL_CTL_MOD");
    errno = 0;
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, level[0], &event) == -1 && errno == EEXIST, "is watched already");
    CHECK(epoll_ctl(epoll, EPOLL_CTL_DEL, copied[0], NULL) == 0, "EPOLL_CTL_DEL of one of two numbers");
    CHECK(epoll_ctl(epoll, EPOLL_CTL_DEL, quiet[0], NULL) == 0, "EPOLL_CTL_DEL");
    CHECK(epoll_ctl(epoll, EPOLL_CTL_DEL, inner, NULL) == 0, "EPOLL_CTL_DEL of the nested one");
    then = ready_events(epoll);
    CHECK(strcmp(then, "8:1 11:1 44:1") == 0, "after changes \"%s\"", then);
    SAY("epoll: after changes %s", then);
    return finish(7);
}
