/* What of the kernel's asynchronous I/O cannot be saved: a request that waits for a descriptor which has been closed
 * since (IOCB_CMD_POLL), and a context that was made by a system call of the program's own, of whose requests nothing is known.
 */
#include "program.h"

#include "aio.h"

#include <poll.h>

static long own_call(long number, long first, long second) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(first), "S"(second) : "rcx", "r11", "memory");
    return result;
}

int main(int count, char **arguments) {
    struct iocb polling, *list = &polling;
    struct io_event event;
    int ends[2], closed;
    aio_context_t context = 0;

    MAKE(count > 1 && pipe2(ends, O_CLOEXEC) == 0);
    MAKE((closed = dup(ends[0])) >= 0);
    int polls = strcmp(arguments[1], "poll") == 0;
    if (polls) {
        context = setup(8);
        polling = request(IOCB_CMD_POLL, closed, NULL, 0, 0, 77);
        polling.aio_buf = POLLIN;
        MAKE(submit(context, 1, &list) == 1 && close(closed) == 0);
    } else {
        MAKE(own_call(SYS_io_setup, 8, (long)&context) == 0);
    }
    ready();

    if (polls) {
        MAKE(write(ends[1], "x", 1) == 1);
        long result = getevents(context, 1, 1, &event, NULL);
        CHECK(result == 1 && event.data == 77 && (event.res & POLLIN), "the poll: %ld, %lld", result, (long long)event.res);
    } else {
        CHECK(destroy(context) == 0, "io_destroy");
        context = setup(8);
    }
    ready();

    submit_read(context, &polling, ends[0], NULL, 0, 78);
    CHECK(getevents(context, 1, 1, &event, NULL) == 1 && event.data == 78, "a request after all");
    CHECK(destroy(context) == 0, "io_destroy at the end");
    return finish(7);
}
