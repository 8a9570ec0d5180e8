//! What a test is: a name, and a function that fails with a text or is skipped with a reason.

use crate::place::{Place, User};
use crate::scene::Scene;
use std::time::Duration;

/// Why a test did not pass.
#[derive(Debug)]
pub enum Stop {
    /// What was expected and what was seen.
    Failed(String),
    /// What this machine lacks.
    Skipped(String),
}

pub type Result<T = ()> = std::result::Result<T, Stop>;

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::Failed(format!("the test itself: {error}"))
    }
}

/// A failure with this text.
pub fn failed<T>(text: impl Into<String>) -> Result<T> {
    Err(Stop::Failed(text.into()))
}

/// Skipped for this reason.
pub fn skipped<T>(text: impl Into<String>) -> Result<T> {
    Err(Stop::Skipped(text.into()))
}

/// Adds what was being done to an error.
pub trait Doing<T> {
    fn doing(self, what: impl std::fmt::Display) -> Result<T>;
}

impl<T> Doing<T> for Result<T> {
    fn doing(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|stop| match stop {
            Stop::Failed(text) => Stop::Failed(format!("{what}: {text}")),
            skipped => skipped,
        })
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| Stop::Failed(format!("{what}: {error}")))
    }
}

/// Fails unless the condition holds; the rest is a format.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($format:tt)+) => {
        if !$condition {
            return $crate::case::failed(format!($($format)+));
        }
    };
}

type Run = Box<dyn Fn(&Scene) -> Result>;

/// A row in a table of tests.
pub type Row = (&'static str, fn(&Scene) -> Result);

/// A test.
pub struct Case {
    pub name: String,
    /// Who runs the programs in it.
    pub user: User,
    pub limit: Duration,
    /// Debian packages without which it is skipped.
    pub packages: Vec<String>,
    /// As [`Program::huge_pages`](crate::manifest::Program).
    pub huge_pages: u64,
    /// Whether ids differ from the kernel's from the start.
    pub virtual_ids: bool,
    /// Runs in `--long` only.
    pub long: bool,
    /// Where a lower number comes first: what others can build on.
    pub order: u8,
    pub run: Run,
}

impl Case {
    /// A test that runs as the user who started the tests.
    pub fn new(name: impl Into<String>, run: impl Fn(&Scene) -> Result + 'static) -> Self {
        Self {
            name: name.into(),
            user: User::Own,
            limit: Duration::from_secs(120),
            packages: Vec::new(),
            huge_pages: 0,
            virtual_ids: false,
            long: false,
            order: 5,
            run: Box::new(run),
        }
    }

    /// The same as an ordinary user; only for root.
    pub fn by_ordinary_user(mut self) -> Self {
        self.user = User::Nobody;
        self.name = format!("ordinary-user/{}", self.name);
        self
    }

    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    pub fn packages(mut self, packages: &[String]) -> Self {
        self.packages = packages.to_vec();
        self
    }

    pub fn huge_pages(mut self, count: u64) -> Self {
        self.huge_pages = count;
        self
    }

    /// The same with ids that differ from the kernel's from the start.
    pub fn virtual_ids(mut self) -> Self {
        self.virtual_ids = true;
        self.name.push_str("/virtual-ids");
        self
    }

    pub fn long(mut self) -> Self {
        self.long = true;
        self
    }

    pub fn order(mut self, order: u8) -> Self {
        self.order = order;
        self
    }

    /// Runs it in a scene of its own.
    pub fn run(&self, place: &Place) -> Result {
        for package in &self.packages {
            if !installed(package) {
                return skipped(format!("the package {package} is not installed"));
            }
        }
        let scene = Scene::new(place, self.user)?;
        if self.virtual_ids {
            scene.use_virtual_ids();
        }
        (self.run)(&scene).map_err(|stop| match stop {
            Stop::Failed(text) => Stop::Failed(format!("{text}{}", scene.context())),
            skipped => skipped,
        })
    }
}

/// Whether dpkg knows the package as installed, or, elsewhere than on Debian, whether its program is there.
pub fn installed(package: &str) -> bool {
    if let Ok(status) = std::fs::read_to_string("/var/lib/dpkg/status") {
        return status.split("\n\n").any(|entry| {
            entry.lines().any(|line| line.strip_prefix("Package: ") == Some(package))
                && entry.lines().any(|line| line == "Status: install ok installed")
        });
    }
    true
}
