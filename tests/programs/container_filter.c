/* Runs a command under a seccomp filter that refuses what the default profiles of Docker and others refuse to a container
 * without capabilities: EPERM, for clone3 ENOSYS, and for clone with a namespace EPERM. Older ones also refused ptrace and
 * process_vm_readv; so does this.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FORBID(number)                                                                                                 \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

/* CLONE_NEWTIME is a bit of the exit signal in clone's flags, and cannot be asked for by it. */
#define NAMESPACES                                                                                                     \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))

int main(int argc, char **argv) {
    struct sock_filter filter[] = {
        LOAD(nr),
        FORBID(SYS_kcmp),
        FORBID(SYS_ptrace),
        FORBID(SYS_process_vm_readv),
        FORBID(SYS_process_vm_writev),
        FORBID(SYS_userfaultfd),
        FORBID(SYS_pidfd_getfd),
        FORBID(SYS_process_madvise),
        FORBID(SYS_unshare),
        FORBID(SYS_setns),
        FORBID(SYS_mount),
        FORBID(SYS_umount2),
        FORBID(SYS_pivot_root),
        FORBID(SYS_mount_setattr),
        FORBID(SYS_move_mount),
        FORBID(SYS_open_tree),
        FORBID(SYS_fsopen),
        FORBID(SYS_fsmount),
        FORBID(SYS_bpf),
        FORBID(SYS_perf_event_open),
        FORBID(SYS_add_key),
        FORBID(SYS_request_key),
        FORBID(SYS_keyctl),
        FORBID(SYS_open_by_handle_at),
        FORBID(SYS_io_uring_setup),
        FORBID(SYS_io_uring_enter),
        FORBID(SYS_io_uring_register),
        FORBID(SYS_fanotify_init),
        FORBID(SYS_quotactl),
        FORBID(SYS_acct),
        FORBID(SYS_swapon),
        FORBID(SYS_reboot),
        FORBID(SYS_syslog),
        FORBID(SYS_vhangup),
        FORBID(SYS_mbind),
        FORBID(SYS_set_mempolicy),
        FORBID(SYS_get_mempolicy),
        FORBID(SYS_move_pages),
        FORBID(SYS_clock_settime),
        FORBID(SYS_clock_adjtime),
        FORBID(SYS_settimeofday),
        FORBID(SYS_iopl),
        FORBID(SYS_ioperm),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (argc < 2) return 2;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("seccomp");
        return 1;
    }
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}
