//! The registers beyond the general ones, as a signal frame holds them (XSAVE): which parts it has, and those parts that
//! the kernel gives a thread room for only when it first uses them (tiles).
//!
//! # Safety
//! The frame is the kernel's own, on the stack of a thread that stands in its handler.
#![allow(unsafe_code)]

use core::arch::naked_asm;

/// Part of the state: the data of tiles (AMX).
pub(super) const TILE_DATA: u32 = 18;

/// Offset, in the floating-point frame, of the words that tell of its extension: `struct _fpx_sw_bytes` of the kernel's
/// uapi/asm/sigcontext.h.
const SOFTWARE_WORDS: u64 = 464;

/// Its first word when there is an extension: FP_XSTATE_MAGIC1.
const MAGIC: u32 = 0x4650_5853;

/// The parts of the state that the signal frame at `context` (the kernel's ucontext) has room for, as bits.
///
/// # Safety
/// `context` is such a frame.
pub unsafe fn parts_of(context: u64) -> u64 {
    // SAFETY: the caller's promise; libc's type begins with the kernel's fields.
    let frame = unsafe { (*(context as *const libc::ucontext_t)).uc_mcontext.fpregs } as u64;
    if frame == 0 {
        return 0;
    }
    // SAFETY: the frame has 512 bytes at least.
    let magic = unsafe { *((frame + SOFTWARE_WORDS) as *const u32) };
    if magic != MAGIC {
        return 0;
    }
    // SAFETY: as above.
    unsafe { ((frame + SOFTWARE_WORDS + 8) as *const u64).read_unaligned() }
}

/// Makes the kernel give the calling thread room for all `parts`, which the process may use. A frame that is larger than
/// the thread's room loses all but its oldest registers when it is returned from (check_xstate_in_sigframe).
///
/// # Safety
/// The caller's registers of these parts are not needed.
pub unsafe fn make_room(parts: u64) {
    if parts & (1 << TILE_DATA) != 0 {
        /// 64 bytes for ldtilecfg: palette 1, one tile of one row and four columns.
        static SHAPE: [u64; 8] = [1, 0, 4, 0, 0, 0, 1, 0];
        // SAFETY: the shape is valid, and the process may use tiles.
        unsafe { use_tiles(SHAPE.as_ptr()) };
    }
}

#[unsafe(naked)]
unsafe extern "C" fn use_tiles(shape: *const u64) {
    naked_asm!(
        "ldtilecfg [rdi]", // names the shape
        "tilezero tmm0",   // the first use: the kernel takes the trap and makes room
        "tilerelease",     // back to the state in which tiles cost nothing
        "ret",
    )
}
