//! The unwinder that nobody needs.
//!
//! The precompiled standard library names the functions of libgcc_s, though nothing unwinds in code built with
//! `panic = "abort"`. Loading libgcc_s would cost every program of a pod 0.13 ms and five mappings; with these in their
//! place it is not linked. They are hidden: a program's own unwinder is not touched.

/// Defines the unwinder's functions for a cdylib: each returns 0, which ends a backtrace before its first frame.
#[macro_export]
macro_rules! define_no_unwinder {
    () => {
        core::arch::global_asm!(
            ".macro zap_no_unwinder name", // one hidden name for the code below
            ".globl \\name",
            ".hidden \\name",
            ".type \\name,@function",
            "\\name:",
            ".endm",
            ".text",
            "zap_no_unwinder _Unwind_Backtrace",
            "zap_no_unwinder _Unwind_DeleteException",
            "zap_no_unwinder _Unwind_FindEnclosingFunction",
            "zap_no_unwinder _Unwind_GetCFA",
            "zap_no_unwinder _Unwind_GetDataRelBase",
            "zap_no_unwinder _Unwind_GetIP",
            "zap_no_unwinder _Unwind_GetIPInfo",
            "zap_no_unwinder _Unwind_GetLanguageSpecificData",
            "zap_no_unwinder _Unwind_GetRegionStart",
            "zap_no_unwinder _Unwind_GetTextRelBase",
            "zap_no_unwinder _Unwind_RaiseException",
            "zap_no_unwinder _Unwind_Resume",
            "zap_no_unwinder _Unwind_SetGR",
            "zap_no_unwinder _Unwind_SetIP",
            "xor eax, eax", // nothing was unwound
            "ret",
        );
    };
}
