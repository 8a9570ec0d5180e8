//! What the tools say of a command line: help and version, or what is wrong with it.

use std::io::Write;

/// Prints what the parser says to the user of `tool`: what was asked for on standard output, anything else on standard error
/// and in the form of all messages. Whether it was the latter, a wrong usage.
pub fn print(tool: &str, said: &clap::Error) -> bool {
    if said.use_stderr() {
        let _ = write!(std::io::stderr(), "{}", in_our_form(tool, &said.render().to_string()));
        true
    } else {
        let _ = said.print();
        false
    }
}

/// The tool's name in place of the parser's word for an error; a help that is shown for want of arguments has none.
fn in_our_form(tool: &str, text: &str) -> String {
    match text.strip_prefix("error: ") {
        Some(rest) => format!("{tool}: {rest}"),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_tool() {
        assert_eq!(
            in_our_form("zap-image", "error: no such thing\n\nUsage: x\n"),
            "zap-image: no such thing\n\nUsage: x\n"
        );
        assert_eq!(in_our_form("zap-image", "Look at images\n"), "Look at images\n");
    }
}
