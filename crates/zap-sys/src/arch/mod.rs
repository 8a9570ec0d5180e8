//! Everything that depends on the processor. One folder per architecture; the rest of Zap sees only this façade.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("Zap supports x86-64 only so far: another architecture needs a folder of its own under arch/");
