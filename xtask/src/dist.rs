//! `cargo xtask dist`: the tree that is installed, with man pages and completions made from the tools' own definitions.

use crate::setup;
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Zap's tools and libraries.
pub const LIBRARIES: [&str; 2] = ["libzap.so", "libzap_restorer.so"];

/// Every tool's definition.
fn commands() -> [clap::Command; 5] {
    [
        zap_launch::command(),
        zap_coordinator::arguments::command_command(),
        zap_coordinator::arguments::coordinator_command(),
        zap_restart::arguments::Restart::command(),
        zap_restart::arguments::Image::command(),
    ]
}

pub fn run(words: &[String]) -> Result<ExitCode, String> {
    let target = match words {
        [] => setup::built().parent().map(|target| target.join("dist")).unwrap_or_default(),
        [directory] if !directory.starts_with('-') => PathBuf::from(directory),
        _ => return Err("usage: cargo xtask dist [DIR]".to_string()),
    };
    setup::build()?;
    install(&setup::built(), &target).map_err(|error| format!("{}: {error}", target.display()))?;
    println!("installed below {}", target.display());
    Ok(ExitCode::SUCCESS)
}

/// Installs what was built in `built` below `target`.
pub fn install(built: &Path, target: &Path) -> std::io::Result<()> {
    fs::create_dir_all(target.join("bin"))?;
    fs::create_dir_all(target.join("lib/zap"))?;
    for command in commands() {
        // A file that is in use cannot be written to, but replaced.
        replace(&built.join(command.get_name()), &target.join("bin").join(command.get_name()))?;
    }
    for name in LIBRARIES {
        replace(&built.join(name), &target.join("lib/zap").join(name))?;
    }
    generate(&target.join("share"))
}

fn replace(from: &Path, to: &Path) -> std::io::Result<()> {
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh)
        .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", from.display())))?;
    fs::rename(fresh, to)
}

/// Writes man pages and completions below `share`.
fn generate(share: &Path) -> std::io::Result<()> {
    let man = share.join("man/man1");
    fs::create_dir_all(&man)?;
    let shells = [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ];
    for command in commands() {
        clap_mangen::generate_to(command, &man)?;
    }
    for (shell, directory) in shells {
        let directory = share.join(directory);
        fs::create_dir_all(&directory)?;
        for mut command in commands() {
            let name = command.get_name().to_string();
            clap_complete::generate_to(shell, &mut command, name, &directory)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_help(command: &clap::Command) {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name} does not say what it is");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let help = argument.get_help().or(argument.get_long_help());
            assert!(help.is_some_and(|help| !help.to_string().is_empty()), "{name}: {} has no help", argument.get_id());
        }
        command.get_subcommands().for_each(check_help);
    }

    #[test]
    fn every_option_has_help() {
        commands().iter().for_each(check_help);
    }

    fn check_page(share: &Path, name: &str, command: &clap::Command) {
        let page = fs::read_to_string(share.join(format!("man/man1/{name}.1"))).unwrap();
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            if let Some(long) = argument.get_long() {
                let written = format!("\\-\\-{}", long.replace('-', "\\-"));
                assert!(page.contains(&written), "{name}.1 lacks --{long}");
            }
        }
    }

    #[test]
    fn man_pages_and_completions_are_made_for_every_tool() {
        let share = std::env::temp_dir().join(format!("zap-dist-test-{}", std::process::id()));
        generate(&share).unwrap();
        for command in commands() {
            let name = command.get_name();
            check_page(&share, name, &command);
            for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
                check_page(&share, &format!("{name}-{}", below.get_name()), below);
            }
            for path in [
                format!("bash-completion/completions/{name}.bash"),
                format!("zsh/site-functions/_{name}"),
                format!("fish/vendor_completions.d/{name}.fish"),
            ] {
                assert!(fs::metadata(share.join(&path)).unwrap().len() > 100, "{path}");
            }
        }
        fs::remove_dir_all(share).unwrap();
    }
}
