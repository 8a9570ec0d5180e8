/* Registers of threads in the middle of a computation that makes no system call, each with its own: x87 control word,
 * MXCSR, general, vector and mask registers, tiles where the processor has them.
 *
 * Wrong would be: a register of another thread, a half of one that is zero, a control word at its default.
 */
#include "program.h"

#include <pthread.h>
#include <sys/syscall.h>

#if defined __x86_64__
#include <immintrin.h>

enum { THREADS = 6, NARROW = 3 };

#ifndef ARCH_REQ_XCOMP_PERM
#define ARCH_REQ_XCOMP_PERM 0x1023
#endif

static volatile int go;
static int standing, has_512, has_tiles;

/* All 16 narrow vector registers hold the thread's values while `go` is awaited. */
__attribute__((noinline)) static int hold_narrow(uint64_t seed) {
    uint64_t in[32], out[32];
    for (int i = 0; i < 32; i++) in[i] = seed * 1000 + i;
    __atomic_add_fetch(&standing, 1, __ATOMIC_SEQ_CST);
    __asm__ volatile("movdqu 0(%0), %%xmm0; movdqu 16(%0), %%xmm1; movdqu 32(%0), %%xmm2; movdqu 48(%0), %%xmm3;"
                     "movdqu 64(%0), %%xmm4; movdqu 80(%0), %%xmm5; movdqu 96(%0), %%xmm6; movdqu 112(%0), %%xmm7;"
                     "movdqu 128(%0), %%xmm8; movdqu 144(%0), %%xmm9; movdqu 160(%0), %%xmm10; movdqu 176(%0), %%xmm11;"
                     "movdqu 192(%0), %%xmm12; movdqu 208(%0), %%xmm13; movdqu 224(%0), %%xmm14; movdqu 240(%0), %%xmm15;"
                     "1: pause; cmpl $0, %2; je 1b;"
                     "movdqu %%xmm0, 0(%1); movdqu %%xmm1, 16(%1); movdqu %%xmm2, 32(%1); movdqu %%xmm3, 48(%1);"
                     "movdqu %%xmm4, 64(%1); movdqu %%xmm5, 80(%1); movdqu %%xmm6, 96(%1); movdqu %%xmm7, 112(%1);"
                     "movdqu %%xmm8, 128(%1); movdqu %%xmm9, 144(%1); movdqu %%xmm10, 160(%1); movdqu %%xmm11, 176(%1);"
                     "movdqu %%xmm12, 192(%1); movdqu %%xmm13, 208(%1); movdqu %%xmm14, 224(%1); movdqu %%xmm15, 240(%1);"
                     :
                     : "r"(in), "r"(out), "m"(go)
                     : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    return memcmp(in, out, sizeof in) == 0;
}

/* Wide registers 0, 15, 16, 31 and the masks. */
__attribute__((noinline, target("avx512f,avx512bw"))) static int hold_wide(uint64_t seed) {
    uint64_t in[32], out[32], masks[2] = {seed * 0x123456789abcdu, ~seed}, masks_out[2];
    for (int i = 0; i < 32; i++) in[i] = seed * 1000 + i;
    __atomic_add_fetch(&standing, 1, __ATOMIC_SEQ_CST);
    __asm__ volatile("vmovdqu64 0(%0), %%zmm0; vmovdqu64 64(%0), %%zmm15; vmovdqu64 128(%0), %%zmm16;"
                     "vmovdqu64 192(%0), %%zmm31; kmovq 0(%3), %%k1; kmovq 8(%3), %%k7;"
                     "1: pause; cmpl $0, %2; je 1b;"
                     "vmovdqu64 %%zmm0, 0(%1); vmovdqu64 %%zmm15, 64(%1); vmovdqu64 %%zmm16, 128(%1);"
                     "vmovdqu64 %%zmm31, 192(%1); kmovq %%k1, 0(%4); kmovq %%k7, 8(%4);"
                     :
                     : "r"(in), "r"(out), "m"(go), "r"(masks), "r"(masks_out)
                     : "memory", "xmm0", "xmm15", "xmm16", "xmm31", "k1", "k7");
    return memcmp(in, out, sizeof in) == 0 && memcmp(masks, masks_out, sizeof masks) == 0;
}

__attribute__((noinline, target("amx-tile"))) static int hold_tiles(uint64_t seed) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t columns[16];
        uint8_t rows[16];
    } __attribute__((packed)) shape = {.palette = 1};
    static __thread unsigned char in[2][1024], out[2][1024];
    for (int i = 0; i < 2; i++) {
        shape.columns[i] = 64;
        shape.rows[i] = 16;
        fill(in[i], 1024, seed * 10 + i);
    }
    _tile_loadconfig(&shape);
    _tile_loadd(0, in[0], 64);
    _tile_loadd(1, in[1], 64);
    __atomic_add_fetch(&standing, 1, __ATOMIC_SEQ_CST);
    __asm__ volatile("1: pause; cmpl $0, %0; je 1b" : : "m"(go) : "memory");
    _tile_stored(0, out[0], 64);
    _tile_stored(1, out[1], 64);
    _tile_release();
    return memcmp(in, out, sizeof in) == 0;
}

static void *run(void *argument) {
    long i = (long)argument;
    uint16_t control = 0x037f & ~(i % 4 << 10), now; /* one of the four ways to round */
    control = (uint16_t)(control | (i % 4) << 10);
    unsigned mxcsr = 0x1f80u | (unsigned)(i % 4) << 13 | (i % 2 ? 0x8040u : 0);
    __asm__ volatile("fldcw %0" : : "m"(control));
    __builtin_ia32_ldmxcsr(mxcsr);
    int right = i == 5 && has_tiles ? hold_tiles(i) : i >= NARROW && has_512 ? hold_wide(i) : hold_narrow(i);
    __asm__ volatile("fnstcw %0" : "=m"(now));
    CHECK(right, "thread %ld: its registers", i);
    CHECK(now == control, "thread %ld: the x87 control word is %x, was %x", i, now, control);
    CHECK((__builtin_ia32_stmxcsr() & ~0x3fu) == mxcsr, "thread %ld: MXCSR", i);
    return argument;
}

int main(void) {
    pthread_t threads[THREADS];
    has_512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    /* Feature 18: the data of tiles. */
    has_tiles = __builtin_cpu_supports("amx-tile") && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, 18) == 0;
    for (long i = 0; i < THREADS; i++) MAKE(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    while (__atomic_load_n(&standing, __ATOMIC_SEQ_CST) != THREADS) sched_yield();

    ready();

    go = 1;
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
    SAY("thread registers: six threads kept theirs; wide ones: %s; tiles: %s", has_512 ? "yes" : "not on this machine",
        has_tiles ? "yes" : "not on this machine");
    return finish(7);
}
#else
int main(void) {
    printf("thread registers: not written for this processor\n");
    return SKIPPED;
}
#endif
