/* The kernel's asynchronous I/O: by syscall(2), or by libaio's functions as a program finds them that is linked with it. Errors
 * are negative numbers, as libaio has them.
 */
#ifndef AIO_H
#define AIO_H

#include <dlfcn.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <sys/syscall.h>

static int (*libaio_setup)(int, aio_context_t *);
static int (*libaio_submit)(aio_context_t, long, struct iocb **);
static int (*libaio_getevents)(aio_context_t, long, long, struct io_event *, struct timespec *);
static int (*libaio_pgetevents)(aio_context_t, long, long, struct io_event *, struct timespec *, sigset_t *);
static int (*libaio_destroy)(aio_context_t);

/* 0 where there is none. */
UNUSED static int use_libaio(void) {
    if (!dlopen("libaio.so.1", RTLD_NOW | RTLD_GLOBAL) && !dlopen("libaio.so.1t64", RTLD_NOW | RTLD_GLOBAL)) return 0;
    *(void **)&libaio_setup = dlsym(RTLD_DEFAULT, "io_setup");
    *(void **)&libaio_submit = dlsym(RTLD_DEFAULT, "io_submit");
    *(void **)&libaio_getevents = dlsym(RTLD_DEFAULT, "io_getevents");
    *(void **)&libaio_pgetevents = dlsym(RTLD_DEFAULT, "io_pgetevents");
    *(void **)&libaio_destroy = dlsym(RTLD_DEFAULT, "io_destroy");
    return libaio_setup && libaio_submit && libaio_getevents && libaio_pgetevents && libaio_destroy;
}

UNUSED static long result_of(long result) { return result < 0 ? -errno : result; }

UNUSED static aio_context_t setup(int events) {
    aio_context_t context = 0;
    long result = libaio_setup ? libaio_setup(events, &context) : result_of(syscall(SYS_io_setup, events, &context));
    CHECK(result == 0, "io_setup: %ld", result);
    return context;
}

UNUSED static long submit(aio_context_t context, long count, struct iocb **list) {
    if (libaio_submit) return libaio_submit(context, count, list);
    return result_of(syscall(SYS_io_submit, context, count, list));
}

UNUSED static long getevents(aio_context_t context, long least, long most, struct io_event *events, struct timespec *time) {
    if (libaio_getevents) return libaio_getevents(context, least, most, events, time);
    return result_of(syscall(SYS_io_getevents, context, least, most, events, time));
}

UNUSED static long pgetevents(aio_context_t context, long least, long most, struct io_event *events, struct timespec *time,
                              sigset_t *mask) {
    if (libaio_pgetevents) return libaio_pgetevents(context, least, most, events, time, mask);
    struct {
        sigset_t *set;
        size_t length;
    } masked = {mask, 8};
    return result_of(syscall(SYS_io_pgetevents, context, least, most, events, time, &masked));
}

UNUSED static long destroy(aio_context_t context) {
    return libaio_destroy ? libaio_destroy(context) : result_of(syscall(SYS_io_destroy, context));
}

UNUSED static struct iocb request(int operation, int file, void *buffer, size_t length, long offset, uint64_t data) {
    struct iocb made;
    memset(&made, 0, sizeof made);
    made.aio_lio_opcode = (uint16_t)operation;
    made.aio_fildes = (uint32_t)file;
    made.aio_buf = (uintptr_t)buffer;
    made.aio_nbytes = length;
    made.aio_offset = offset;
    made.aio_data = data;
    return made;
}

/* Submits a request that ends at once: reads as many bytes from the beginning of `file`. */
UNUSED static void submit_read(aio_context_t context, struct iocb *place, int file, void *buffer, size_t length, uint64_t data) {
    *place = request(IOCB_CMD_PREAD, file, buffer, length, 0, data);
    long result = submit(context, 1, &place);
    CHECK(result == 1, "io_submit: %ld", result);
}

#endif
