//! The memory functions that the compiler calls on its own, for a program that has no libc: the restorer.
//!
//! In assembly, since a loop in Rust would be recognised as the very function it implements and call itself. Hidden,
//! so that no call goes through a table that the loader fills. A macro, so that only who has no libc gets them.

/// Defines `memcpy`, `memmove`, `memset`, `memcmp` and `bcmp` in the crate that invokes it.
#[macro_export]
macro_rules! define_memory_functions {
    () => {
        ::core::arch::global_asm!(
            ".text",
            ".globl memcpy",
            ".hidden memcpy",
            ".type memcpy,@function",
            "memcpy:",
            "mov rax, rdi", // returns the destination
            "mov rcx, rdx",
            "rep movsb",
            "ret",
            ".size memcpy, . - memcpy",
            ".globl memmove",
            ".hidden memmove",
            ".type memmove,@function",
            "memmove:",
            "mov rax, rdi",
            "mov rcx, rdx",
            "mov r8, rdi",
            "sub r8, rsi", // distance; below the length (unsigned) when the destination's head overlaps the source
            "cmp r8, rdx",
            "jb 2f",
            "rep movsb",
            "ret",
            "2:",
            "lea rdi, [rdi + rdx - 1]", // backwards, from the last byte on
            "lea rsi, [rsi + rdx - 1]",
            "std",
            "rep movsb",
            "cld", // the ABI wants the direction flag clear
            "ret",
            ".size memmove, . - memmove",
            ".globl memset",
            ".hidden memset",
            ".type memset,@function",
            "memset:",
            "mov r8, rdi",
            "mov eax, esi",
            "mov rcx, rdx",
            "rep stosb",
            "mov rax, r8",
            "ret",
            ".size memset, . - memset",
            ".globl memcmp",
            ".hidden memcmp",
            ".type memcmp,@function",
            ".globl bcmp",
            ".hidden bcmp",
            ".type bcmp,@function",
            "memcmp:",
            "bcmp:",
            "xor ecx, ecx",
            "3:",
            "cmp rcx, rdx",
            "je 4f",
            "movzx eax, byte ptr [rdi + rcx]",
            "movzx r8d, byte ptr [rsi + rcx]",
            "inc rcx",
            "sub eax, r8d",
            "je 3b",
            "ret", // difference of the first unequal bytes
            "4:",
            "xor eax, eax",
            "ret",
            ".size memcmp, . - memcmp",
            ".size bcmp, . - bcmp",
        );
    };
}
