//! The vDSO: a small ELF library that the kernel maps into every process (vdso(7)), and the clocks that it reads.
//!
//! A restarted program keeps the vDSO of its first life as ordinary memory, since addresses in it are remembered all
//! over the program. Every entry of it becomes a jump to a function here, which asks the vDSO that this kernel supplies
//! and adds what makes the clock go on from where it stood ([`crate::clocks`]). Aliases (`clock_gettime` for
//! `__vdso_clock_gettime`) are entries of their own.
//!
//! A thread may stand inside a vDSO's code when it is suspended. In the first life it is asked again a moment later
//! ([`must_leave`]), since its reading would lack the offset. Frames below a handler of the program's cannot be seen:
//! they find zeroes where the kernel's data was, which to the vDSO means a clock that only the kernel can read, and make
//! the system call (`VDSO_CLOCKMODE_NONE`, lib/vdso/gettimeofday.c since Linux 5.6).
//!
//! # Safety
//! The copy is private memory of the program's, changed while no thread runs; the kernel's functions are called with
//! the arguments of the caller.
#![allow(unsafe_code)]

use crate::clocks;
use crate::memory;
use crate::state;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use zap_plugin::Refusal;
use zap_sys::arch::syscall::syscall;
use zap_sys::maps::{self, Mapping};
use zap_sys::{libc, mem, time};

/// Bytes of code that replace the head of an entry.
pub const ENTRY_SIZE: usize = 12;

/// Bytes of an Elf64_Sym.
const SYMBOL_SIZE: usize = 24;

/// A vDSO's dynamic symbol table, read in place.
#[derive(Clone, Copy)]
pub struct Vdso<'a> {
    bytes: &'a [u8],
    /// Address for which the library is linked; 0 but for old kernels.
    base: u64,
    symbols: usize,
    strings: usize,
    count: usize,
}

impl<'a> Vdso<'a> {
    /// Finds the dynamic symbols of the vDSO whose memory is `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..5)? != b"\x7fELF\x02" {
            return None;
        }
        let headers = word(bytes, 32)?;
        let header_size = usize::from(half(bytes, 54)?);
        let (mut base, mut dynamic) = (None, None);
        for index in 0..usize::from(half(bytes, 56)?) {
            let at = usize::try_from(headers).ok()?.checked_add(index * header_size)?;
            match quarter(bytes, at)? {
                // PT_LOAD: the first one says where the library thinks it lies.
                1 if base.is_none() => base = Some(word(bytes, at + 16)?.wrapping_sub(word(bytes, at + 8)?)),
                // PT_DYNAMIC.
                2 => dynamic = Some(word(bytes, at + 8)?),
                _ => {}
            }
        }
        let base = base?;
        let place = |address: u64| usize::try_from(address.wrapping_sub(base)).ok();
        let mut at = usize::try_from(dynamic?).ok()?;
        let (mut symbols, mut strings, mut hash, mut gnu_hash) = (None, None, None, None);
        loop {
            let value = word(bytes, at.checked_add(8)?)?;
            match word(bytes, at)? {
                0 => break,
                4 => hash = place(value),
                5 => strings = place(value),
                6 => symbols = place(value),
                0x6fff_fef5 => gnu_hash = place(value),
                _ => {}
            }
            at += 16;
        }
        let count = match (hash, gnu_hash) {
            // DT_HASH: the second word is the number of symbols.
            (Some(hash), _) => quarter(bytes, hash.checked_add(4)?)? as usize,
            (None, Some(gnu_hash)) => gnu_hash_count(bytes, gnu_hash)?,
            (None, None) => return None,
        };
        // No more than there is room for, whatever the table says.
        let count = count.min(bytes.len() / SYMBOL_SIZE);
        Some(Self { bytes, base, symbols: symbols?, strings: strings?, count })
    }

    /// Every function that the library exports: name and distance from the library's start.
    pub fn functions(self) -> impl Iterator<Item = (&'a [u8], u64)> {
        (1..self.count).filter_map(move |index| self.function(index))
    }

    /// Distance of the function `name` from the library's start.
    pub fn find(self, name: &[u8]) -> Option<u64> {
        self.functions().find(|(other, _)| *other == name).map(|(_, offset)| offset)
    }

    fn function(&self, index: usize) -> Option<(&'a [u8], u64)> {
        // Elf64_Sym: name u32, info u8, other u8, section u16, value u64, size u64.
        let at = self.symbols.checked_add(index.checked_mul(SYMBOL_SIZE)?)?;
        let kind = self.bytes.get(at.checked_add(4)?)? & 0xf;
        let section = half(self.bytes, at + 6)?;
        // STT_NOTYPE or STT_FUNC, defined, and not absolute (the version's own symbol is).
        if !matches!(kind, 0 | 2) || section == 0 || section >= 0xff00 {
            return None;
        }
        let name = self.bytes.get(self.strings.checked_add(quarter(self.bytes, at)? as usize)?..)?;
        let name = &name[..name.iter().position(|c| *c == 0)?];
        Some((name, word(self.bytes, at + 8)?.wrapping_sub(self.base)))
    }
}

/// Code that jumps to `target`.
fn jump(target: u64) -> [u8; ENTRY_SIZE] {
    let mut code = [0; ENTRY_SIZE];
    code[..2].copy_from_slice(&[0x48, 0xb8]); // movabs rax, target
    code[2..10].copy_from_slice(&target.to_le_bytes());
    code[10..].copy_from_slice(&[0xff, 0xe0]); // jmp rax
    code
}

/// Code that fails with ENOSYS, upon which libc makes the system call.
fn absent() -> [u8; ENTRY_SIZE] {
    let mut code = [0xcc; ENTRY_SIZE];
    code[..3].copy_from_slice(&[0x48, 0xc7, 0xc0]); // mov rax, -ENOSYS
    code[3..7].copy_from_slice(&(-libc::ENOSYS).to_le_bytes());
    code[7] = 0xc3; // ret
    code
}

/// The kernel's functions in this life; 0 for one that its vDSO lacks.
struct Functions {
    clock_gettime: AtomicU64,
    gettimeofday: AtomicU64,
    time: AtomicU64,
    getcpu: AtomicU64,
    clock_getres: AtomicU64,
}

static KERNEL: Functions = Functions {
    clock_gettime: AtomicU64::new(0),
    gettimeofday: AtomicU64::new(0),
    time: AtomicU64::new(0),
    getcpu: AtomicU64::new(0),
    clock_getres: AtomicU64::new(0),
};

/// Where a call of the vDSO's function `name` goes, with the place that holds the kernel's own. getrandom is not
/// there: its state belongs to the vDSO that laid it out, and without it libc asks the kernel.
fn replacement(name: &[u8]) -> Option<(u64, &'static AtomicU64)> {
    Some(match name.strip_prefix(b"__vdso_").unwrap_or(name) {
        b"clock_gettime" => (clock_gettime as *const () as u64, &KERNEL.clock_gettime),
        b"gettimeofday" => (gettimeofday as *const () as u64, &KERNEL.gettimeofday),
        b"time" => (seconds as *const () as u64, &KERNEL.time),
        b"getcpu" => (getcpu as *const () as u64, &KERNEL.getcpu),
        b"clock_getres" => (clock_getres as *const () as u64, &KERNEL.clock_getres),
        _ => return None,
    })
}

/// Calls the kernel's function in `place`, or makes the system call `number` where its vDSO has none.
///
/// # Safety
/// The arguments are those of a caller of the vDSO's function.
#[inline(always)]
unsafe fn ask_kernel(place: &AtomicU64, number: i64, arguments: [usize; 3]) -> i64 {
    let function = place.load(Ordering::Relaxed);
    let [a, b, c] = arguments;
    if function != 0 {
        // SAFETY: a function of the kernel's vDSO; those with fewer parameters ignore the rest.
        let function: extern "C" fn(usize, usize, usize) -> i64 = unsafe { core::mem::transmute(function) };
        return function(a, b, c);
    }
    // SAFETY: the caller's arguments.
    match unsafe { syscall(number, [a, b, c, 0, 0, 0]) } {
        Ok(result) => result as i64,
        Err(errno) => -i64::from(errno.0),
    }
}

/// clock_gettime(2), with the clocks of the program's own time. An offset that a restart has changed meanwhile is not
/// mixed with a time of before: then the clock is read again.
unsafe extern "C" fn clock_gettime(clock: i32, into: *mut libc::timespec) -> i32 {
    loop {
        let generation = clocks::generation();
        let (real_clock, offset) = clocks::translate(clock);
        // SAFETY: the caller's arguments.
        let result = unsafe {
            ask_kernel(&KERNEL.clock_gettime, libc::SYS_clock_gettime, [real_clock as usize, into as usize, 0])
        };
        if clocks::generation() != generation {
            continue;
        }
        if result == 0 && offset != 0 {
            // SAFETY: the kernel has written there.
            let time = unsafe { &mut *into };
            *time = time::shifted(time, offset);
        }
        return result as i32;
    }
}

unsafe extern "C" fn gettimeofday(into: *mut libc::timeval, zone: *mut libc::c_void) -> i32 {
    // SAFETY: the caller's arguments.
    unsafe { ask_kernel(&KERNEL.gettimeofday, libc::SYS_gettimeofday, [into as usize, zone as usize, 0]) as i32 }
}

unsafe extern "C" fn seconds(into: *mut libc::time_t) -> libc::time_t {
    // SAFETY: the caller's argument.
    unsafe { ask_kernel(&KERNEL.time, libc::SYS_time, [into as usize, 0, 0]) }
}

unsafe extern "C" fn getcpu(cpu: *mut u32, node: *mut u32, unused: *mut libc::c_void) -> i32 {
    // SAFETY: the caller's arguments.
    unsafe { ask_kernel(&KERNEL.getcpu, libc::SYS_getcpu, [cpu as usize, node as usize, unused as usize]) as i32 }
}

unsafe extern "C" fn clock_getres(clock: i32, into: *mut libc::timespec) -> i32 {
    let (clock, _) = clocks::translate(clock);
    // SAFETY: the caller's arguments.
    unsafe { ask_kernel(&KERNEL.clock_getres, libc::SYS_clock_getres, [clock as usize, into as usize, 0]) as i32 }
}

/// Notes where the program's vDSO is: at init, `address` from the auxiliary vector (AT_SYSINFO_EHDR), 0 for none.
pub fn learn(address: u64) {
    if address != 0 {
        // SAFETY: the kernel maps at least a page there, with the headers in it.
        let head = unsafe { core::slice::from_raw_parts(address as *const u8, zap_sys::PAGE_SIZE) };
        state::set_vdso((address, loaded_length(head).unwrap_or(0)));
    }
}

/// Length of the mapping of a vDSO that begins with `head`, by its PT_LOAD.
fn loaded_length(head: &[u8]) -> Option<u64> {
    let (headers, size) = (word(head, 32)?, usize::from(half(head, 54)?));
    (0..usize::from(half(head, 56)?)).find_map(|index| {
        let at = usize::try_from(headers).ok()?.checked_add(index * size)?;
        (quarter(head, at)? == 1).then(|| word(head, at + 40).map(zap_sys::page_up))?
    })
}

/// Whether a thread that is to go on at `instruction` must not be suspended yet: it reads a clock without the offset
/// that a restart would make it need.
pub fn must_leave(instruction: u64) -> bool {
    let (start, length) = state::vdso();
    state::kernel_vdso().1 == 0 && instruction >= start && instruction < start + length
}

/// After a restart: finds the kernel's vDSO, whose mappings lie in `kernel` (start, length), and makes the program's
/// copy lead here. No thread runs.
pub fn settle(kernel: (u64, u64)) -> Result<(), Refusal> {
    let maps = memory::read_all(c"/proc/thread-self/maps")?;
    let within = |mapping: &Mapping<'_>| mapping.start >= kernel.0 && mapping.start < kernel.0 + kernel.1;
    let mappings: Vec<(u64, u64)> =
        maps::parse(&maps).filter(within).map(|mapping| (mapping.start, mapping.end)).collect();
    let library = maps::parse(&maps).find(|mapping| within(mapping) && mapping.name == b"[vdso]");
    let library = library.map_or((0, 0), |mapping| (mapping.start, mapping.length()));
    let home = go_home(kernel, library, &mappings)?;
    let library = (library.0.wrapping_add(home.wrapping_sub(kernel.0)), library.1);
    state::set_kernel_vdso((home, kernel.1));
    redirect(library)
}

/// Moves the kernel's vDSO to where it was in the program's last life, if it is the same one: a thread may stand inside
/// it. Returns where its first mapping is now.
fn go_home(kernel: (u64, u64), library: (u64, u64), mappings: &[(u64, u64)]) -> Result<u64, Refusal> {
    let (home, length) = state::kernel_vdso();
    let home_library = home.wrapping_add(library.0 - kernel.0.min(library.0));
    if length == 0 || length != kernel.1 || library.1 == 0 {
        return Ok(kernel.0);
    }
    // SAFETY: the kernel's library, which is mapped there.
    let now = unsafe { core::slice::from_raw_parts(library.0 as *const u8, library.1 as usize) };
    let mut before = alloc::vec![0u8; now.len()];
    let same = mem::read_own(home_library, &mut before).is_ok_and(|count| count == now.len() && before == now);
    let overlaps = home < kernel.0 + kernel.1 && home + length > kernel.0;
    if !same || overlaps {
        return Ok(kernel.0);
    }
    for (start, end) in mappings {
        // SAFETY: there lies what the image had of these same mappings; nobody runs who could be in them.
        match unsafe { mem::move_mapping(*start, end - start, home + (start - kernel.0)) } {
            Ok(()) => {}
            // A kernel that seals them (CONFIG_MSEAL_SYSTEM_MAPPINGS, Linux 6.15) keeps them where they are.
            Err(error) if error.is(libc::EPERM) && *start == kernel.0 => return Ok(kernel.0),
            Err(error) => return Err(Refusal::new("vDSO", error)),
        }
    }
    Ok(home)
}

/// Writes the jumps into the program's copy. `library` is the kernel's.
fn redirect(library: (u64, u64)) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new("vDSO", error);
    let (start, length) = state::vdso();
    if length == 0 {
        return Ok(());
    }
    // SAFETY: the program's copy, which nobody runs in.
    let old = unsafe { core::slice::from_raw_parts(start as *const u8, length as usize) };
    // SAFETY: the kernel's library, mapped for good and never written.
    let new = unsafe { core::slice::from_raw_parts(library.0.max(1) as *const u8, library.1 as usize) };
    let (Some(old), new) = (Vdso::parse(old), Vdso::parse(new)) else {
        return Err(Refusal::new("vDSO", "the program's cannot be read"));
    };
    // Collected first: what is parsed must not change under the parser.
    let mut entries: Vec<(u64, [u8; ENTRY_SIZE])> = Vec::new();
    for (name, offset) in old.functions() {
        let room = old.functions().all(|(_, other)| other <= offset || other - offset >= ENTRY_SIZE as u64);
        if !room || offset + ENTRY_SIZE as u64 > length {
            return Err(Refusal::new("vDSO", "an entry of the program's is too short"));
        }
        let code = replacement(name).map_or_else(absent, |(function, place)| {
            let own = new.and_then(|new| new.find(name)).map_or(0, |at| library.0 + at);
            place.store(own, Ordering::Relaxed);
            jump(function)
        });
        entries.push((offset, code));
    }
    // SAFETY: private memory of the program's, which does not run.
    unsafe { mem::protect(start, length, libc::PROT_READ | libc::PROT_WRITE) }.map_err(refusal)?;
    for (offset, code) in &entries {
        // SAFETY: inside the copy, as checked above.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), (start + offset) as *mut u8, ENTRY_SIZE) };
    }
    // SAFETY: as it was.
    unsafe { mem::protect(start, length, libc::PROT_READ | libc::PROT_EXEC) }.map_err(refusal)
}

/// The number of symbols by DT_GNU_HASH: one past the highest index in any chain.
fn gnu_hash_count(bytes: &[u8], table: usize) -> Option<usize> {
    let buckets = quarter(bytes, table)? as usize;
    let first = quarter(bytes, table.checked_add(4)?)? as usize;
    let bloom = quarter(bytes, table.checked_add(8)?)? as usize;
    let bucket_at = table.checked_add(16)?.checked_add(bloom.checked_mul(8)?)?;
    let chain_at = bucket_at.checked_add(buckets.checked_mul(4)?)?;
    let mut last = 0;
    for index in 0..buckets {
        last = last.max(quarter(bytes, bucket_at.checked_add(index * 4)?)? as usize);
    }
    if last < first {
        return Some(first);
    }
    // The lowest bit marks a chain's end.
    while quarter(bytes, chain_at.checked_add((last - first).checked_mul(4)?)?)? & 1 == 0 {
        last += 1;
    }
    Some(last + 1)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn quarter(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_vdso() -> Vec<u8> {
        let maps = std::fs::read("/proc/thread-self/maps").unwrap();
        let vdso = zap_sys::maps::parse(&maps).find(|mapping| mapping.name == b"[vdso]").unwrap();
        let mut bytes = vec![0; vdso.length() as usize];
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&memory, &mut bytes, vdso.start).unwrap();
        bytes
    }

    #[test]
    fn this_kernels_functions_are_found() {
        let bytes = own_vdso();
        let vdso = Vdso::parse(&bytes).unwrap();
        for name in [&b"__vdso_clock_gettime"[..], b"clock_gettime", b"__vdso_time", b"__vdso_getcpu"] {
            assert!(vdso.find(name).is_some_and(|offset| offset < bytes.len() as u64), "{name:?}");
        }
        assert_eq!(vdso.find(b"__vdso_clock_gettime"), vdso.find(b"clock_gettime"));
        assert_eq!(vdso.find(b"nothing"), None);
    }

    #[test]
    fn entries_leave_room_for_the_jump() {
        let bytes = own_vdso();
        let vdso = Vdso::parse(&bytes).unwrap();
        for (_, one) in vdso.functions() {
            assert!(vdso.functions().all(|(_, other)| other <= one || other - one >= ENTRY_SIZE as u64));
        }
    }

    #[test]
    fn damaged_bytes_are_no_vdso_or_a_harmless_one() {
        let bytes = own_vdso();
        for length in 0..bytes.len() {
            if let Some(vdso) = Vdso::parse(&bytes[..length]) {
                vdso.functions().for_each(drop);
            }
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            if let Some(vdso) = Vdso::parse(&damaged) {
                vdso.functions().take(1000).for_each(drop);
            }
        }
    }

    #[test]
    fn code_of_entries() {
        assert_eq!(jump(0x1122_3344_5566), *b"\x48\xb8\x66\x55\x44\x33\x22\x11\x00\x00\xff\xe0");
        assert_eq!(absent()[..8], *b"\x48\xc7\xc0\xda\xff\xff\xff\xc3");
    }

    #[test]
    fn the_length_is_the_mappings() {
        let bytes = own_vdso();
        assert_eq!(loaded_length(&bytes), Some(bytes.len() as u64));
    }

    #[test]
    fn every_function_of_this_kernel_is_known() {
        let bytes = own_vdso();
        for (name, _) in Vdso::parse(&bytes).unwrap().functions() {
            let text = String::from_utf8_lossy(name).into_owned();
            assert!(replacement(name).is_some() || text.ends_with("getrandom") || text.contains("sgx"), "{text}");
        }
    }
}
