//! x86-64: system calls, the per-thread block, and the few control transfers that no compiler can express.

pub mod context;
pub mod extended_state;
mod jump;
pub mod memory;
pub mod syscall;
pub mod tls;
mod unwind;

use extended_state::TILE_DATA;
pub use jump::stack_of_jump;

/// The architecture's number in an image's prelude (the ELF machine number, `EM_X86_64`).
pub const ELF_MACHINE: u32 = 62;

/// Length of the `syscall` instruction in bytes: stepping `rip` back by this repeats the call.
pub const SYSCALL_LENGTH: u64 = 2;

/// Offset of `rip` in the `struct user` of PTRACE_PEEKUSER (sys/user.h).
pub const USER_INSTRUCTION_POINTER: usize = 16 * 8;

/// Bytes in the largest possible signal frame for state that this process has not asked for: the matrix unit's
/// (AMX; component 18 of XSAVE). Its permission is asked for by arch_prctl(2), ARCH_REQ_XCOMP_PERM.
pub fn dynamic_state() -> u64 {
    let permitted = crate::process::permitted_state();
    if permitted == 0 || permitted & (1 << TILE_DATA) != 0 {
        return 0;
    }
    // A kernel that knows permissions (5.16) runs on processors that have this leaf, or say zero.
    let component = core::arch::x86_64::__cpuid_count(0xd, TILE_DATA);
    u64::from(component.eax)
}
