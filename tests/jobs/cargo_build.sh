# A small package of two crates and a build script, built by cargo without a network, and run.

command -v cargo > /dev/null && cargo --version > /dev/null 2>&1 || { echo "there is no cargo here"; exit 77; }
dir=$1
mkdir -p "$dir/package/src" "$dir/package/part/src"
cd "$dir/package"
export CARGO_HOME="$dir/home" CARGO_TARGET_DIR="$dir/target" CARGO_TERM_COLOR=never
cat > Cargo.toml <<'END'
[package]
name = "whole"
version = "0.1.0"
edition = "2021"
build = "build.rs"
[dependencies]
part = { path = "part" }
[workspace]
members = ["part"]
END
cat > part/Cargo.toml <<'END'
[package]
name = "part"
version = "0.1.0"
edition = "2021"
END
cat > part/src/lib.rs <<'END'
use std::collections::BTreeMap;
pub fn count(text: &str) -> BTreeMap<char, usize> {
    let mut all = BTreeMap::new();
    text.chars().for_each(|letter| *all.entry(letter).or_default() += 1);
    all
}
#[test]
fn counts() {
    assert_eq!(count("abca")[&'a'], 2);
}
END
cat > build.rs <<'END'
fn main() {
    println!("cargo:rustc-env=BUILT=by the build script");
}
END
cat > src/main.rs <<'END'
fn main() {
    let text = env!("BUILT");
    println!("{text}: {:?}", part::count(text));
    std::process::exit(6);
}
END
cargo build --offline -q -j2 || exit 1
"$CARGO_TARGET_DIR/debug/whole"
echo "program: $?"
cargo test --offline -q -j2 -p part > tested 2>&1
grep -c "1 passed" tested || cat tested
exit 52
