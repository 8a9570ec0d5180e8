//! The text of /proc/self/smaps: mappings with what the kernel tells of them beside their place. Pure.

use zap_image::header::flags;
use zap_plugin::Refusal;
use zap_sys::maps::{self, Mapping};

/// What smaps says of a mapping beside its first line.
pub struct Details<'a> {
    /// The two-letter codes.
    pub flags: &'a [u8],
    /// Bytes in memory.
    pub resident: u64,
    /// Protection key; 0 is everybody's.
    pub key: u64,
}

impl Details<'_> {
    /// Whether the mapping has this two-letter code.
    pub fn has(&self, code: &[u8]) -> bool {
        has_flag(self.flags, code)
    }

    /// The flags that it gets in an image.
    pub fn region_flags(&self) -> u32 {
        region_flags(self.flags)
    }

    /// Why memory of this kind cannot be saved, if it cannot.
    pub fn unsupported(&self) -> Option<&'static str> {
        [
            (self.has(b"ht"), "huge pages (MAP_HUGETLB) are not supported"),
            (self.has(b"io"), "memory of a device is not supported"),
            (self.has(b"ss"), "shadow stacks are not supported"),
            (self.key != 0, "protection keys are not supported"),
        ]
        .into_iter()
        .find_map(|(is, reason)| is.then_some(reason))
    }
}

/// Calls `each` for every mapping in the text of a smaps file.
pub fn for_each_mapping(
    text: &[u8],
    mut each: impl FnMut(&Mapping<'_>, &Details<'_>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut head: Option<Mapping<'_>> = None;
    let (mut resident, mut key) = (0, 0);
    let number = |text: &[u8]| zap_sys::text::decimal(zap_sys::text::skip_blanks(text)).0 as u64;
    for line in text.split(|c| *c == b'\n') {
        // A mapping's first line begins with a lower-case hexadecimal address, all others with a capital letter.
        if line.first().is_some_and(|c| c.is_ascii_digit() || c.is_ascii_lowercase()) {
            head = maps::parse(line).next();
            (resident, key) = (0, 0);
        } else if let Some(value) = line.strip_prefix(b"Rss:") {
            resident = number(value) * 1024;
        } else if let Some(value) = line.strip_prefix(b"ProtectionKey:") {
            key = number(value);
        } else if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            if let Some(mapping) = head.take() {
                each(&mapping, &Details { flags, resident, key })?;
            }
        }
    }
    Ok(())
}

fn has_flag(vm_flags: &[u8], flag: &[u8]) -> bool {
    vm_flags.split(|c| *c == b' ').any(|word| word == flag)
}

/// The flags of an image's region from the two-letter codes of proc_pid_smaps(5).
fn region_flags(vm_flags: &[u8]) -> u32 {
    [
        (&b"gd"[..], flags::GROWS_DOWN),
        (b"wf", flags::WIPE_ON_FORK),
        (b"dc", flags::DONT_FORK),
        (b"dd", flags::DONT_DUMP),
        (b"hg", flags::HUGE),
        (b"nh", flags::NO_HUGE),
        (b"nr", flags::NO_RESERVE),
        (b"mg", flags::MERGEABLE),
        (b"sr", flags::SEQUENTIAL),
        (b"rr", flags::RANDOM),
        (b"dp", flags::DROPPABLE),
        (b"sl", flags::SEALED),
    ]
    .into_iter()
    .filter(|(code, _)| has_flag(vm_flags, code))
    .fold(0, |all, (_, flag)| all | flag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn details_of_mappings() {
        let text = b"1000-3000 rw-p 00000000 00:00 0 \nRss:                   8 kB\nProtectionKey:         3\n\
                     VmFlags: rd lo\n4000-5000 r--p 00000000 00:00 0 \nRss: 0 kB\nVmFlags: rd\n";
        let mut seen = Vec::new();
        for_each_mapping(text, |mapping, details| {
            seen.push((mapping.start, details.resident, details.key, details.has(b"lo")));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(0x1000, 8192, 3, true), (0x4000, 0, 0, false)]);
    }

    #[test]
    fn flags_of_regions() {
        assert_eq!(region_flags(b" rd wr mr gd dd "), flags::GROWS_DOWN | flags::DONT_DUMP);
    }
}
