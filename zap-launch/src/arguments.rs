//! The command line of zap-launch: parser, help, man page and completions come from this one definition.

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::path::PathBuf;
use zap_wire::Compress;

/// Run a program in a pod, so that it can be checkpointed and restarted.
///
/// The program runs just as if it had been started directly: same standard streams, signals, terminal and exit status. What
/// is launched inside a pod stays in it.
#[derive(Debug, Parser)]
#[command(
    name = "zap-launch",
    version = zap_client::VERSION,
    after_help = "Exit status: the program's; 125 if zap-launch itself fails, 126 if the program cannot be run under \
                  Zap, 127 if it is not found."
)]
pub struct Arguments {
    /// Create or join the pod NAME; otherwise a new pod is named after the program
    #[arg(long, value_name = "NAME")]
    pub pod: Option<String>,
    /// Directory for the images [default: the current directory]
    #[arg(long, value_name = "DIR", env = "ZAP_CKPT_DIR", hide_env_values = true)]
    pub ckpt_dir: Option<PathBuf>,
    /// Checkpoint every SECONDS seconds; 0: only when asked
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true, value_parser = seconds)]
    pub interval: u64,
    /// Generations of images to keep
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: u32,
    /// Compress the images; zstd takes a level from 1 to 22
    #[arg(long, value_name = "none|lz4|zstd[:LEVEL]", default_value_t)]
    pub compress: Compress,
    /// Zap's own signal in the pod; another than libc's (33) is a real-time signal that the program does without, from 35 to 64
    #[arg(long, value_name = "N", default_value_t = zap_wire::DEFAULT_SIGNAL,
          value_parser = signal)]
    pub signal: i32,
    /// Keep files that are open for writing with each checkpoint, for zap-restart --files snapshot
    ///
    /// They are copied while the program stands, in no time where the file system can share blocks (btrfs, XFS).
    #[arg(long)]
    pub snapshot_files: bool,
    /// Give the pod a directory DIR of its own, empty or a copy of the host's; may be given several times
    ///
    /// What is in it is saved with each checkpoint, and restored with it.
    #[arg(long, value_name = "DIR[=copy]")]
    pub private: Vec<OsString>,
    /// Give the pod the root directory DIR
    ///
    /// DIR stays where it is and what it is, and may be shared; what it does not have of its own the pod has by --private.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true, num_args = 1..)]
    pub program: Vec<OsString>,
    /// Options on the command line, not in the environment, that say what a new pod is to be like.
    #[arg(skip)]
    pub of_the_pod: Vec<String>,
}

/// Names of these options, as the parser knows them.
const OF_THE_POD: [&str; 8] =
    ["ckpt_dir", "interval", "keep", "compress", "signal", "snapshot_files", "private", "root"];

impl Arguments {
    /// The arguments that `words` say, the tool's name first.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(words)?;
        let given = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        let of_the_pod =
            OF_THE_POD.iter().filter(|name| given(name)).map(|name| format!("--{}", name.replace('_', "-")));
        Ok(Self { of_the_pod: of_the_pod.collect(), ..Self::from_arg_matches(&matches)? })
    }

    /// The option that says which directories the pod is to have for itself, if one does.
    pub fn of_directories(&self) -> Option<&'static str> {
        let private = (!self.private.is_empty()).then_some("--private");
        private.or(self.root.is_some().then_some("--root"))
    }
}

/// What follows --interval.
fn seconds(word: &str) -> Result<u64, &'static str> {
    word.parse().map_err(|_| "is not a whole number of seconds from 0 on")
}

/// What follows --signal: libc's own number, or a real-time signal.
fn signal(word: &str) -> Result<i32, &'static str> {
    word.parse()
        .ok()
        .filter(|number| zap_wire::can_be_zaps(*number))
        .ok_or("is not 33, nor a real-time signal from 35 to 64")
}

/// The definition, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::read([&["zap-launch"], words].concat().into_iter().map(OsString::from))
    }

    #[test]
    fn definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn options_after_the_program_are_the_programs() {
        for words in
            [&["--pod", "p", "ls", "--pod", "-l", "--", "x"][..], &["--pod", "p", "--", "ls", "--pod", "-l", "--", "x"]]
        {
            let arguments = parse(words).unwrap();
            assert_eq!(arguments.pod.as_deref(), Some("p"));
            assert_eq!(arguments.program, ["ls", "--pod", "-l", "--", "x"]);
        }
        assert!(parse(&["--no-such", "ls"]).is_err());
        assert!(parse(&[]).is_err());
    }

    #[test]
    fn what_a_pod_is_like_is_known_by_the_command_line() {
        assert!(parse(&["--pod", "p", "true", "--signal", "40"]).unwrap().of_the_pod.is_empty());
        let words = [
            "--signal=62",
            "--ckpt-dir",
            "/tmp",
            "--interval",
            "0",
            "--keep",
            "1",
            "--compress",
            "none",
            "--snapshot-files",
            "--private=/tmp",
            "--root=/",
            "true",
        ];
        let all =
            ["--ckpt-dir", "--interval", "--keep", "--compress", "--signal", "--snapshot-files", "--private", "--root"];
        assert_eq!(parse(&words).unwrap().of_the_pod, all);
    }

    #[test]
    fn compression() {
        assert_eq!(parse(&["true"]).unwrap().compress, Compress::None);
        assert_eq!(parse(&["--compress", "zstd:9", "true"]).unwrap().compress, Compress::Zstd(9));
        let error = parse(&["--compress", "gzip", "true"]).unwrap_err().to_string();
        assert!(error.contains("none, lz4, zstd"), "{error}");
    }

    #[test]
    fn only_free_real_time_signals() {
        assert_eq!(parse(&["true"]).unwrap().signal, 33);
        assert_eq!(parse(&["--signal", "33", "true"]).unwrap().signal, 33);
        assert_eq!(parse(&["--signal", "35", "true"]).unwrap().signal, 35);
        for wrong in ["32", "34", "65", "10", "x"] {
            assert!(parse(&["--signal", wrong, "true"]).is_err(), "{wrong}");
        }
    }
}
