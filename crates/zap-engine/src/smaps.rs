//! The text of /proc/self/smaps: mappings with what the kernel tells of them beside their place. Pure.

use zap_image::header::flags;
use zap_plugin::Refusal;
use zap_sys::maps::{self, Mapping};

/// What smaps says of a mapping beside its first line.
pub struct Details<'a> {
    /// The two-letter codes.
    pub flags: &'a [u8],
    /// Bytes in memory, but for huge pages (MAP_HUGETLB).
    pub resident: u64,
    /// Bytes of huge pages in memory.
    pub huge: u64,
    /// Bytes of a page.
    pub page: u64,
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
        let size = if self.has(b"ht") { flags::huge_pages(self.page) } else { 0 };
        region_flags(self.flags) | size
    }

    /// Why memory of this kind cannot be saved, if it cannot.
    pub fn unsupported(&self, mapping: &Mapping<'_>) -> Option<&'static str> {
        let (huge, private) = (self.has(b"ht"), !mapping.shared);
        let anonymous = crate::huge_pages::is_anonymous(mapping);
        [
            (huge && !anonymous, "files of huge pages (hugetlbfs, MFD_HUGETLB) are not supported"),
            (huge && !private, "shared huge pages (MAP_SHARED with MAP_HUGETLB) are not supported"),
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
    let (mut resident, mut huge, mut page, mut key) = (0, 0, 0, 0);
    let number = |text: &[u8]| zap_sys::text::decimal(zap_sys::text::skip_blanks(text)).0 as u64;
    for line in text.split(|c| *c == b'\n') {
        // A mapping's first line begins with a lower-case hexadecimal address, all others with a capital letter.
        if line.first().is_some_and(|c| c.is_ascii_digit() || c.is_ascii_lowercase()) {
            head = maps::parse(line).next();
            (resident, huge, page, key) = (0, 0, 0, 0);
        } else if let Some(value) = line.strip_prefix(b"Rss:") {
            resident = number(value) * 1024;
        } else if let Some(value) = line.strip_prefix(b"KernelPageSize:") {
            page = number(value) * 1024;
        } else if let Some(value) =
            line.strip_prefix(b"Private_Hugetlb:").or_else(|| line.strip_prefix(b"Shared_Hugetlb:"))
        {
            huge += number(value) * 1024;
        } else if let Some(value) = line.strip_prefix(b"ProtectionKey:") {
            key = number(value);
        } else if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            if let Some(mapping) = head.take() {
                each(&mapping, &Details { flags, resident, huge, page, key })?;
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
    fn huge_pages() {
        let of = |line: &str, codes: &str| {
            let text = alloc::format!(
                "{line}\nKernelPageSize:     2048 kB\nRss: 0 kB\nShared_Hugetlb: 4096 kB\nPrivate_Hugetlb: 2048 kB\n\
                 VmFlags: rd wr {codes} ht \n"
            );
            let mut seen = None;
            for_each_mapping(text.as_bytes(), |mapping, details| {
                seen = Some((details.region_flags(), details.huge, details.unsupported(mapping).is_some()));
                Ok(())
            })
            .unwrap();
            seen.unwrap()
        };
        let name = "00000000 00:11 7 /anon_hugepage (deleted)";
        let expected = flags::HUGE_PAGES | flags::NO_RESERVE | 21 << 26;
        assert_eq!(of(&alloc::format!("200000-800000 rw-p {name}"), "nr"), (expected, 6 << 20, false));
        assert!(of(&alloc::format!("200000-800000 rw-s {name}"), "sh").2);
        assert!(of("200000-800000 rw-p 00000000 00:11 7 /huge/anon_hugepage (deleted)", "").2);
        assert!(of("200000-800000 rw-p 00000000 00:11 7 /memfd:a (deleted)", "").2);
    }

    #[test]
    fn flags_of_regions() {
        assert_eq!(region_flags(b" rd wr mr gd dd "), flags::GROWS_DOWN | flags::DONT_DUMP);
    }
}
