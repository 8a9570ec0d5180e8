//! The command lines of zap-coordinator and zap-command: parser, help, man pages and completions come from here.

use clap::{ArgGroup, CommandFactory, Parser};

/// Coordinate the checkpoints of the user's pods. Started by zap-launch and zap-restart as needed.
///
/// There is one per runtime directory (ZAP_RUNTIME_DIR, by default /tmp/zap-UID). It ends when its last pod has ended
/// and it has been idle for a while.
#[derive(Debug, Parser)]
#[command(name = "zap-coordinator", version = zap_client::VERSION, after_help = "Exit status: 0 done, 1 it failed, 2 usage.")]
pub struct CoordinatorArguments {
    /// Stay in the foreground, in the caller's session
    #[arg(long)]
    pub foreground: bool,
    /// Descriptor on which to say that the socket listens
    #[arg(long, value_name = "FD", hide = true)]
    pub ready_descriptor: Option<i32>,
}

/// Give orders to running pods.
///
/// Without --pod it acts on the only pod; with several it names them and ends with exit status 2.
#[derive(Debug, Parser)]
#[command(
    name = "zap-command",
    version = zap_client::VERSION,
    group(ArgGroup::new("action").required(true).multiple(true).args(["checkpoint", "status", "kill", "interval", "quit"])),
    after_help = "Exit status: 0 done, 1 it failed, 2 usage."
)]
pub struct CommandArguments {
    /// Act on the pod NAME
    #[arg(long, value_name = "NAME", conflicts_with_all = ["all", "quit"])]
    pub pod: Option<String>,
    /// Act on every pod
    #[arg(long, conflicts_with = "quit")]
    pub all: bool,
    /// Take a checkpoint and print the paths of its images; with --kill the pod ends at the snapshot
    #[arg(long, conflicts_with_all = ["status", "interval", "quit"])]
    pub checkpoint: bool,
    /// List the pods
    #[arg(long, conflicts_with_all = ["kill", "interval", "quit"])]
    pub status: bool,
    /// End the pod
    #[arg(long, conflicts_with = "interval")]
    pub kill: bool,
    /// Checkpoint every SECONDS seconds from now on; 0: only when asked
    #[arg(long, value_name = "SECONDS", conflicts_with = "quit", allow_negative_numbers = true, value_parser = seconds)]
    pub interval: Option<u64>,
    /// End the coordinator; refuses while pods run, unless --kill ends them too
    #[arg(long)]
    pub quit: bool,
    /// List as JSON
    #[arg(long, requires = "status", conflicts_with_all = ["checkpoint", "kill", "interval", "quit"])]
    pub json: bool,
}

/// What follows --interval.
fn seconds(word: &str) -> Result<u64, &'static str> {
    word.parse().map_err(|_| "is not a whole number of seconds from 0 on")
}

/// zap-coordinator's definition.
pub fn coordinator_command() -> clap::Command {
    CoordinatorArguments::command()
}

/// zap-command's definition.
pub fn command_command() -> clap::Command {
    CommandArguments::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_sound() {
        coordinator_command().debug_assert();
        command_command().debug_assert();
    }

    #[test]
    fn actions_by_table() {
        let table = [
            ("--checkpoint", true),
            ("--checkpoint --kill --pod a", true),
            ("--checkpoint --all", true),
            ("--kill", true),
            ("--quit --kill", true),
            ("--status --json", true),
            ("--interval 5 --pod a", true),
            ("", false),
            ("--pod a", false),
            ("--checkpoint --quit", false),
            ("--checkpoint --json", false),
            ("--interval x", false),
            ("--interval -1", false),
            ("--interval 5 --kill", false),
            ("--kill --pod a --all", false),
        ];
        for (line, valid) in table {
            let words = ["zap-command"].into_iter().chain(line.split_whitespace());
            assert_eq!(CommandArguments::try_parse_from(words).is_ok(), valid, "{line}");
        }
    }
}
