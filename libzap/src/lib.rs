//! `libzap.so`: preloaded into every program of a pod.
//!
//! The root that names concrete things: which plugins there are, which libc functions are wrapped. All else is the
//! engine's. It links std only because redhook does; nothing of std runs after init but formatting into Zap's arena.
//!
//! # Safety
//! The constructor runs before main(), once, on the only thread.
#![allow(unsafe_code)]
// redhook's hook! expands to code that these lints dislike.
#![allow(clippy::missing_safety_doc, static_mut_refs, missing_abi)]

mod wrap;

use core::ffi::{c_char, c_int, CStr};
use zap_engine::init::{self, LibcFacts};
use zap_engine::{breakdown, registry};
use zap_plugin::Plugin;

zap_sys::define_no_unwinder!();
zap_sys::define_tls_look_up!();

#[global_allocator]
static ARENA: zap_engine::arena::Arena = zap_engine::arena::Arena::new();

/// The built-in plugins, in the order in which they are called before a checkpoint.
static PLUGINS: [&dyn Plugin; 4] =
    [&zap_plugin_fs::Fs, &zap_plugin_pid::Pid, &zap_plugin_socket::Socket, &zap_plugin_pty::Pty];

/// glibc calls the functions of `.init_array` with main()'s arguments.
#[used]
#[link_section = ".init_array"]
static CONSTRUCTOR: extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) = construct;

extern "C" fn construct(_count: c_int, _arguments: *mut *mut c_char, environment: *mut *mut c_char) {
    ARENA.become_own();
    registry::register(&PLUGINS);
    wrap::resolve();
    let facts = LibcFacts {
        rseq: rseq_facts(),
        // SAFETY: reads the auxiliary vector.
        vdso: unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) },
        smallest_stack: smallest_stack(),
    };
    // SAFETY: the loader passes the process's environment, and no thread exists yet.
    unsafe { init::begin(environment, &facts) };
    wrap::loader::begin();
    if zap_engine::state::active() {
        std::panic::set_hook(Box::new(panicked));
    }
}

/// Says in which pod this process is: see `zap_wire::environment::TABLE_FUNCTION`.
#[no_mangle]
extern "C" fn zap_pod_table() -> *const c_char {
    zap_engine::state::active_table_path().map_or(core::ptr::null(), CStr::as_ptr)
}

/// A panic of the agent must not end the program: see `zap_engine::breakdown`. Calls nothing of libc.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    // Before anything allocates.
    ARENA.give_up();
    let (file, line) = panic.location().map_or(("", 0), |place| (place.file(), place.line()));
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let message = text.or_else(|| payload.downcast_ref::<std::string::String>().map(std::string::String::as_str));
    breakdown::take_up(file, line, message.unwrap_or_default());
}

fn smallest_stack() -> u64 {
    // SAFETY: reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) }
}

/// glibc 2.35 and later register an rseq area for each thread and export where it is.
fn rseq_facts() -> Option<(i64, u32)> {
    /// Length that glibc registers whatever the kernel's own size is (sysdeps/unix/sysv/linux/rseq-internal.h).
    const REGISTERED_LENGTH: u32 = 32;
    let offset = wrap::optional(c"__rseq_offset").cast::<isize>();
    let size = wrap::optional(c"__rseq_size").cast::<u32>();
    if offset.is_null() || size.is_null() {
        return None;
    }
    // SAFETY: both symbols are constants of libc once it is initialized.
    let (offset, size) = unsafe { (*offset, *size) };
    (size != 0).then_some((offset as i64, REGISTERED_LENGTH))
}
