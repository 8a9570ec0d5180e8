/* Counts real-time signals that others queue to it, and looks at their values: 1, 2, 3 ...
 *
 * Wrong would be: one that is lost, comes twice, or before one that was sent earlier.
 */
#include "program.h"

#include <signal.h>

static volatile sig_atomic_t count, last, out_of_order;

static void note(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    count++;
    if (info->si_value.sival_int != last + 1 || info->si_code != SI_QUEUE) out_of_order++;
    last = info->si_value.sival_int;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    MAKE(sigaction(SIGRTMIN + 3, &action, NULL) == 0);

    ready();

    SAY("%d signals, the last with %d, %d out of order", (int)count, (int)last, (int)out_of_order);
    return finish(7);
}
