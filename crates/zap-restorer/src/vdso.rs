//! The vDSO: a small ELF library that the kernel maps into every process (vdso(7)).
//!
//! A restored program keeps the vDSO of its first kernel as ordinary memory, since addresses in it are remembered all
//! over the program. Its data pages are not there any more, so every entry becomes a jump to the same function of the
//! vDSO that this kernel supplies. Aliases (`clock_gettime` for `__vdso_clock_gettime`) are entries of their own.

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

/// Code for the entry `name` that reaches `target`, or does without it when the kernel has no such function.
pub fn entry(name: &[u8], target: Option<u64>) -> [u8; ENTRY_SIZE] {
    let mut code = [0xcc; ENTRY_SIZE];
    match (target, system_call(name)) {
        (Some(target), _) => {
            code[..2].copy_from_slice(&[0x48, 0xb8]); // movabs rax, target
            code[2..10].copy_from_slice(&target.to_le_bytes());
            code[10..].copy_from_slice(&[0xff, 0xe0]); // jmp rax
        }
        (None, Some(number)) => {
            code[0] = 0xb8; // mov eax, number
            code[1..5].copy_from_slice(&number.to_le_bytes());
            code[5..8].copy_from_slice(&[0x0f, 0x05, 0xc3]); // syscall; ret
        }
        (None, None) => {
            code[..3].copy_from_slice(&[0x48, 0xc7, 0xc0]); // mov rax, -ENOSYS
            code[3..7].copy_from_slice(&(-zap_sys::libc::ENOSYS).to_le_bytes());
            code[7] = 0xc3; // ret
        }
    }
    code
}

/// The system call that does what the vDSO's function does.
fn system_call(name: &[u8]) -> Option<u32> {
    let number = match name.strip_prefix(b"__vdso_").unwrap_or(name) {
        b"clock_gettime" => zap_sys::libc::SYS_clock_gettime,
        b"clock_getres" => zap_sys::libc::SYS_clock_getres,
        b"gettimeofday" => zap_sys::libc::SYS_gettimeofday,
        b"time" => zap_sys::libc::SYS_time,
        b"getcpu" => zap_sys::libc::SYS_getcpu,
        b"getrandom" => zap_sys::libc::SYS_getrandom,
        _ => return None,
    };
    Some(number as u32)
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
        let maps = std::fs::read("/proc/self/maps").unwrap();
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
        assert_eq!(entry(b"x", Some(0x1122_3344_5566)), *b"\x48\xb8\x66\x55\x44\x33\x22\x11\x00\x00\xff\xe0");
        assert_eq!(entry(b"__vdso_time", None), *b"\xb8\xc9\0\0\0\x0f\x05\xc3\xcc\xcc\xcc\xcc");
        assert_eq!(entry(b"unknown", None)[..8], *b"\x48\xc7\xc0\xda\xff\xff\xff\xc3");
    }
}
