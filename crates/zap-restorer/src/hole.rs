//! The hole: memory that is free both in the fresh exec and in the image's map, where the restorer works.
//!
//! ```text
//! restorer's code and data | its stack | plan | room for the kernel's vDSO and its data
//! ```
//!
//! The last part stays in the restored program for as long as it lives; the engine unmaps the others.

use zap_sys::page_up;

/// Room for a copy of libzap_restorer.so.
pub const CODE_ROOM: u64 = 1 << 20;

/// Room for the restorer's stack.
pub const STACK_ROOM: u64 = 256 << 10;

/// Room for `[vvar]`, `[vvar_vclock]` and `[vdso]` at their relative distances.
pub const VDSO_ROOM: u64 = 256 << 10;

/// Where the parts of a hole lie, by its first address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    pub start: u64,
    pub plan_length: u64,
}

impl Hole {
    /// End of the restorer's stack, aligned as the ABI wants it at a call.
    pub fn stack_top(&self) -> u64 {
        self.start + CODE_ROOM + STACK_ROOM
    }

    /// First address of the plan's copy.
    pub fn plan(&self) -> u64 {
        self.stack_top()
    }

    /// First address of the room for the vDSO.
    pub fn vdso(&self) -> u64 {
        self.plan() + page_up(self.plan_length)
    }

    /// One past the hole's last address.
    pub fn end(&self) -> u64 {
        self.vdso() + VDSO_ROOM
    }

    /// Length of the whole hole.
    pub fn length(&self) -> u64 {
        self.end() - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other() {
        let hole = Hole { start: 0x6000_0000_0000, plan_length: 5000 };
        assert_eq!(hole.plan(), hole.stack_top());
        assert_eq!(hole.vdso() - hole.plan(), 8192);
        assert_eq!(hole.length(), CODE_ROOM + STACK_ROOM + 8192 + VDSO_ROOM);
        assert_eq!(hole.stack_top() % 16, 0);
    }
}
