//! Link arguments of libzap_restorer.so: nothing of libc or its start files, all symbols bound inside.

fn main() {
    for argument in ["-nostartfiles", "-nostdlib", "-Wl,-Bsymbolic", "-Wl,-z,now", "-Wl,-z,defs", "-Wl,-z,norelro"] {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
