/* The library of thread_variables.c: a thread-local variable with a value, and one without. */

static __thread int counter = 42;
static __thread unsigned char space[5000];

int *counter_of_library(void) { return &counter; }
unsigned char *space_of_library(void) { return space; }
