/* Unix sockets and pipes that are full: nothing more can be sent until something has been received.
 *
 * Wrong would be: room where there was none, bytes that are lost or come in another order.
 */
#include "program.h"

#include <poll.h>
#include <sys/socket.h>

static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, 0 /* a pipe */};
static const int sizes[] = {1, 100, 1000, 5000, 30000};
enum { KINDS = sizeof kinds / sizeof *kinds, SIZES = sizeof sizes / sizeof *sizes };

/* The first end receives, the second sends. */
static int ends[KINDS][SIZES][2];
static long sent[KINDS][SIZES];
static char bytes[30000], received[30000];

static int has_room(int fd) {
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    return poll(&one, 1, 0) == 1;
}

static long receive_all(int fd, uint64_t seed) {
    long place = 0, result;
    while ((result = read(fd, received, sizeof received)) > 0) {
        for (long i = 0; i < result; i++)
            CHECK((unsigned char)received[i] == pattern_byte(seed, (uint64_t)(place + i)), "byte %ld", place + i);
        place += result;
    }
    CHECK(result == -1 && errno == EAGAIN, "the end of what had been sent");
    return place;
}

int main(void) {
    for (int k = 0; k < KINDS; k++)
        for (int s = 0; s < SIZES; s++) {
            int *end = ends[k][s];
            MAKE((kinds[k] ? socketpair(AF_UNIX, kinds[k] | SOCK_NONBLOCK, 0, end) : pipe2(end, O_NONBLOCK)) == 0);
            for (;;) {
                for (int i = 0; i < sizes[s]; i++)
                    bytes[i] = (char)pattern_byte((uint64_t)s, (uint64_t)(sent[k][s] + i));
                long result = write(end[1], bytes, (size_t)sizes[s]);
                if (result == -1) break;
                sent[k][s] += result;
            }
            MAKE(errno == EAGAIN && !has_room(end[1]));
        }

    ready();

    for (int k = 0; k < KINDS; k++)
        for (int s = 0; s < SIZES; s++) {
            int *end = ends[k][s];
            CHECK(!has_room(end[1]), "kind %d of %d bytes: room", kinds[k], sizes[s]);
            CHECK(write(end[1], bytes, (size_t)sizes[s]) == -1 && errno == EAGAIN, "kind %d of %d bytes: takes more", kinds[k], sizes[s]);
            CHECK(receive_all(end[0], (uint64_t)s) == sent[k][s], "kind %d of %d bytes: all that was sent", kinds[k], sizes[s]);
            CHECK(has_room(end[1]) && write(end[1], "x", 1) == 1 && read(end[0], received, 2) == 1, "and more");
        }
    SAY("full buffers: %d kinds of %d sizes, full as they were", KINDS, SIZES);
    return finish(7);
}
