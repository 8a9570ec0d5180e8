//! File names of images: `ckpt_<program>_<pod id>_<virtual pid>_<generation>.zimg`.

use alloc::format;
use alloc::string::{String, ToString};

/// Ending of an image's name.
pub const SUFFIX: &str = ".zimg";

/// The parts of an image's file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    pub program: String,
    pub pod_id: u64,
    pub virtual_pid: i32,
    pub generation: u32,
}

impl ImageName {
    /// The file name. What a file name cannot hold becomes `_`.
    pub fn format(&self) -> String {
        let program: String = self
            .program
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+') { c } else { '_' })
            .take(64)
            .collect();
        format!("ckpt_{program}_{:016x}_{}_{}{SUFFIX}", self.pod_id, self.virtual_pid, self.generation)
    }

    /// Reads a file name (no directories). The program may hold underscores, so the other parts are read from the end.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("ckpt_")?.strip_suffix(SUFFIX)?.rsplitn(4, '_');
        let generation = parts.next()?.parse().ok()?;
        let virtual_pid = parts.next()?.parse().ok()?;
        let pod_id = u64::from_str_radix(parts.next()?, 16).ok()?;
        Some(Self { program: parts.next()?.to_string(), pod_id, virtual_pid, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let name = ImageName { program: "my_app".into(), pod_id: 0xab, virtual_pid: 12, generation: 3 };
        assert_eq!(name.format(), "ckpt_my_app_00000000000000ab_12_3.zimg");
        assert_eq!(ImageName::parse(&name.format()), Some(name));
        assert_eq!(ImageName::parse("ckpt_x.zimg"), None);
        let strange = ImageName { program: "a/b c".into(), pod_id: 1, virtual_pid: 1, generation: 1 };
        assert!(strange.format().starts_with("ckpt_a_b_c_"));
    }
}
