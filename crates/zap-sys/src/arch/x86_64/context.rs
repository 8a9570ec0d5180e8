//! Control transfers: snapshots, helpers, threads made by hand, return from a signal frame, a stack of our own.
//!
//! # Safety
//! Each function is a short stretch of assembly with a comment on every line; what its caller owes is said there.
#![allow(unsafe_code)]

use core::arch::naked_asm;
use core::ffi::c_int;
use core::sync::atomic::AtomicU32;

/// Where a saved process can be taken up again: filled by [`call_in_snapshot`] before its call, and so part of what is saved.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SnapshotContext {
    /// Stack pointer with the callee-saved registers on top of it.
    pub stack_pointer: u64,
    /// Address at which execution continues with that stack pointer.
    pub instruction_pointer: u64,
}

/// What [`call_in_snapshot`] returns when a restorer jumped into the context.
pub const RESTARTED: isize = -0x10000;

/// Fills `context`, and calls `function(argument)`, which saves the memory, here or in a fork of the process. Returns 0 when
/// it has come back, and [`RESTARTED`] when a restorer has rebuilt that memory in another process.
///
/// # Safety
/// `context` is valid for writes. Every other thread is suspended, so that the memory is consistent. `function` leaves
/// all memory above its own frame that a restart needs as it is. In a fork it never returns: it would write over the very
/// frames that a restart returns through, before it has saved them.
#[unsafe(naked)]
pub unsafe extern "C" fn call_in_snapshot(
    context: *mut SnapshotContext,
    function: extern "C" fn(usize),
    argument: usize,
) -> isize {
    naked_asm!(
        "push rbp",           // the six callee-saved registers: the only ones a caller expects to survive
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",         // room for the two floating-point control words, which are callee-saved too
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov [rdi], rsp",     // context.stack_pointer
        "lea rax, [rip + 2f]",
        "mov [rdi + 8], rax", // context.instruction_pointer
        "mov rdi, rdx",
        "call rsi",           // rsp is 16-byte aligned here: return address, six registers, eight bytes
        "xor eax, eax",
        "jmp 3f",
        "2:",                 // a restorer jumps here with rsp = context.stack_pointer
        "mov rax, {restarted}",
        "3:",
        "ldmxcsr [rsp]",
        "fldcw [rsp + 4]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        restarted = const RESTARTED,
    )
}

/// Flags of clone(2) with which [`run_beside`] makes a process at least.
pub const BESIDE: c_int = libc::CLONE_VM | libc::CLONE_VFORK;

/// Runs `function(argument)` in a short-lived process made with `flags` (those of [`BESIDE`] among them), and waits.
///
/// Returns the helper's process id (to be reaped with `__WALL`) or a negative errno.
///
/// # Safety
/// `function` must not return into its caller's frames by unwinding, must not use thread-local state that it leaves
/// changed, and may only make system calls whose effect on a process of its own is wanted.
#[unsafe(naked)]
pub unsafe extern "C" fn run_beside(function: extern "C" fn(usize), argument: usize, flags: c_int) -> isize {
    naked_asm!(
        "push rbx",     // callee-saved, and keeps the stack aligned for the call below
        "mov rbx, rdi", // the function
        "mov r9, rsi",  // its argument: survives the system call
        "mov eax, 56",  // clone
        "mov edi, edx", // the helper runs below our frame while we sleep
        "xor esi, esi",
        "xor edx, edx",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "syscall",
        "test rax, rax",
        "jnz 2f",
        "mov rdi, r9",
        "call rbx",
        "mov eax, 60", // exit: never returns into frames that the original still uses
        "xor edi, edi",
        "syscall",
        "ud2",
        "2:",
        "pop rbx",
        "ret",
    )
}

/// Makes a thread of this process that runs `entry(argument)` on a stack of ours and never returns.
///
/// Returns the new thread's id or a negative errno.
///
/// # Safety
/// `flags` are those of a thread (`CLONE_VM | CLONE_THREAD …`); `stack_top` is 16-byte aligned with writable room
/// below it; `parent_tid`, `child_tid` and `tls` are what clone(2) asks for; `entry` never returns.
#[unsafe(naked)]
pub unsafe extern "C" fn spawn_thread(
    flags: u64,
    stack_top: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
    entry: extern "C" fn(usize) -> !,
    argument: usize,
) -> isize {
    naked_asm!(
        "mov r10, rcx",       // child_tid: fourth argument of the system call
        "mov rax, [rsp + 8]", // argument: seventh parameter, on the stack
        "mov [rsi - 8], rax", // left on the new stack for the child to pop
        "mov [rsi - 16], r9", // entry likewise
        "sub rsi, 16",
        "mov eax, 56", // clone(flags rdi, stack rsi, parent_tid rdx, child_tid r10, tls r8)
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",
        "xor ebp, ebp", // end of the frame chain
        "pop rax",      // entry
        "pop rdi",      // argument
        "call rax",     // rsp is 16-byte aligned here
        "ud2",
    )
}

/// Continues a thread from the signal frame whose `ucontext` lies at `ucontext`: the kernel restores all registers,
/// the signal mask and the alternate stack (sigreturn(2)). `on_stack` is one less when the calling stack is not used any
/// more.
///
/// # Safety
/// `ucontext` is the third argument of a handler that has not returned; the calling stack is not needed any more.
#[unsafe(naked)]
pub unsafe extern "C" fn return_from_signal(ucontext: u64, on_stack: &AtomicU32) -> ! {
    naked_asm!(
        "mov rsp, rdi", // rt_sigreturn finds the frame just below rsp: the pretcode word is already popped
        "lock dec dword ptr [rsi]", // from here on the stack may be another thread's
        "mov eax, 15",  // rt_sigreturn
        "syscall",
        "ud2",
    )
}

/// The `sa_restorer` of Zap's own handler (the kernel demands one on x86-64).
///
/// # Safety
/// Called by the return of a signal handler only.
#[unsafe(naked)]
pub unsafe extern "C" fn signal_restorer() {
    naked_asm!("mov eax, 15", "syscall", "ud2")
}

/// Calls `function(argument)` on the stack whose end is `stack_top`, and comes back to the present one: when the
/// function returns, or when somebody on that stack calls [`abandon_stack`] with the word stored at `way_back`.
///
/// # Safety
/// `stack_top` is 16-byte aligned with enough writable room below it that nobody else uses; `way_back` is writable.
#[unsafe(naked)]
pub unsafe extern "C" fn call_on_stack(
    stack_top: u64,
    function: extern "C" fn(usize),
    argument: usize,
    way_back: *mut u64,
) {
    naked_asm!(
        "push rbp", // everything a caller expects to survive, since abandon_stack skips the callee's restores
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rcx], rsp", // the way back
        "mov rbx, rsp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbx",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Calls `function(argument)` on the present stack, and comes back when it returns or when somebody calls
/// [`abandon_stack`] with the word stored at `way_back`.
///
/// # Safety
/// `way_back` is writable.
#[unsafe(naked)]
pub unsafe extern "C" fn call_with_way_back(function: extern "C" fn(usize), argument: usize, way_back: *mut u64) {
    naked_asm!(
        "push rbp", // as in call_on_stack
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdx], rsp", // the way back
        "mov rax, rdi",
        "mov rdi, rsi",
        "sub rsp, 8", // aligned to 16 for the call
        "call rax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Leaves the stack entered by [`call_on_stack`] or [`call_with_way_back`] from anywhere on it, without running what is in between.
///
/// # Safety
/// `way_back` is the word that the matching call stored; nothing that is skipped holds a lock.
#[unsafe(naked)]
pub unsafe extern "C" fn abandon_stack(way_back: u64) -> ! {
    naked_asm!(
        "mov rsp, rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret", // returns from call_on_stack
    )
}

/// Switches to the stack `stack_top` for good and calls `function(argument)`, which never returns.
///
/// # Safety
/// As [`call_on_stack`]; the present stack may be gone afterwards.
#[unsafe(naked)]
pub unsafe extern "C" fn leave_for_stack(stack_top: u64, function: u64, argument: u64) -> ! {
    naked_asm!(
        "mov rsp, rdi",
        "xor ebp, ebp", // end of the frame chain
        "mov rdi, rdx",
        "call rsi",
        "ud2",
    )
}

/// Jumps into a [`SnapshotContext`]: the end of a restorer's work.
///
/// # Safety
/// The memory is what was saved, and the FS base is the thread's that saved it.
#[unsafe(naked)]
pub unsafe extern "C" fn resume_snapshot(stack_pointer: u64, instruction_pointer: u64) -> ! {
    naked_asm!("mov rsp, rdi", "jmp rsi")
}

/// Defines the exported variadic function `$name`, which calls `$target(first, list)`: its first argument, and the
/// address of all the others, as one array. Stable Rust cannot define C-variadic functions.
#[macro_export]
macro_rules! variadic_shim {
    ($name:ident, $target:path) => {
        /// Makes one list of its variable arguments and passes it on.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() -> i32 {
            core::arch::naked_asm!(
                "pop rax", // the return address makes room: registers and stack arguments become one array
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rsi, rsp", // the list
                "push rax",     // the return address; keeps the stack aligned for the call, too
                "call {target}",
                "pop rdx", // the return address goes back to its place
                "add rsp, 40",
                "push rdx",
                "ret",
                target = sym $target,
            )
        }
    };
}

/// Defines the exported function `$name`, of at most three arguments: `$before` may change them, and says where the real function is,
/// which then is called by the same caller and returns to it.
#[macro_export]
macro_rules! passing_shim {
    ($name:ident, $before:path) => {
        /// Passes the call on.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "push rdx", // the arguments become one array; the stack is aligned for the call then
                "push rsi",
                "push rdi",
                "mov rdi, rsp", // the array
                "call {before}",
                "pop rdi", // the arguments as they are now
                "pop rsi",
                "pop rdx",
                "jmp rax", // the return address is the caller's
                before = sym $before,
            )
        }
    };
}

/// Defines the exported function `$name` as vfork(2): `$prepare()` is called before it, and `$after(result, before)` says in
/// the parent, and where it fails, what is returned; `before` is what the static `$before` of 32 bits held at the call.
/// Parent and child return from it one after the other, on one stack: no function of a compiler's can.
#[macro_export]
macro_rules! vfork_shim {
    ($name:ident, $prepare:path, $before:path, $after:path) => {
        /// vfork(2).
        ///
        /// # Safety
        /// As the libc function.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() -> i32 {
            core::arch::naked_asm!(
                "sub rsp, 8", // the stack is aligned to 16 at a call
                "call {prepare}",
                "add rsp, 8",
                "pop rdi", // the return address, since the child's calls write over its place; the kernel keeps rdi
                "mov esi, dword ptr [rip + {before}]",
                "mov eax, 58", // SYS_vfork
                "syscall",
                "push rdi",
                "test rax, rax",
                "jz 2f", // the child
                "mov rdi, rax",
                "sub rsp, 8",
                "call {after}",
                "add rsp, 8",
                "2: ret",
                prepare = sym $prepare,
                before = sym $before,
                after = sym $after,
            )
        }
    };
}
