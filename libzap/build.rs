//! How the preloaded library is linked: into as few mappings as can be, since every fork of every program copies them.
//! One for code and constants, one for data; the table of imported functions stays writable, and is filled at load.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=layout.ld");
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-cdylib-link-arg=-Wl,-T,{directory}/layout.ld");
    for option in ["-Wl,-z,norelro", "-Wl,--no-rosegment"] {
        println!("cargo::rustc-cdylib-link-arg={option}");
    }
}
