/* A program that sets the modes of the terminal that it was started from, as those do that read single keys, and is told when
 * that gets another size.
 *
 * Wrong would be: modes of the terminal that the restart was given; a size that has changed without a word, a word for none.
 */
#include "program.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile sig_atomic_t told;

static void handle(int number) {
    (void)number;
    told++;
}

int main(void) {
    struct termios modes, found;
    struct winsize before, after;
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    MAKE(sigaction(SIGWINCH, &action, NULL) == 0);
    MAKE(tcgetattr(0, &modes) == 0 && ioctl(0, TIOCGWINSZ, &before) == 0);
    modes.c_lflag &= ~(tcflag_t)(ICANON | IEXTEN);
    modes.c_iflag &= ~(tcflag_t)(ICRNL | IXON);
    modes.c_oflag |= OPOST | OLCUC;
    modes.c_cc[VMIN] = 3;
    modes.c_cc[VTIME] = 7;
    modes.c_cc[VINTR] = 'x';
    MAKE(tcsetattr(0, TCSANOW, &modes) == 0);
    ready();
    CHECK(tcgetattr(0, &found) == 0, "tcgetattr");
    CHECK(found.c_iflag == modes.c_iflag && found.c_oflag == modes.c_oflag && found.c_lflag == modes.c_lflag, "modes: %x %x %x",
          found.c_iflag, found.c_oflag, found.c_lflag);
    CHECK(memcmp(found.c_cc, modes.c_cc, sizeof found.c_cc) == 0, "characters");
    CHECK(ioctl(0, TIOCGWINSZ, &after) == 0, "TIOCGWINSZ");
    int changed = before.ws_row != after.ws_row || before.ws_col != after.ws_col;
    for (int i = 0; i < 5000 && !told && changed; i++) usleep(1000);
    // Nor a second time.
    usleep(20000);
    CHECK(told == changed, "told %d times, size %dx%d, then %dx%d", told, before.ws_row, before.ws_col, after.ws_row,
          after.ws_col);
    printf("size: %dx%d\n", after.ws_row, after.ws_col);
    return finish(7);
}
