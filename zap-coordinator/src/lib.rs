//! The coordinator of a user's pods. [`core`] decides and knows no I/O; [`server`] acts and decides nothing.
//!
//! Also here: both command lines of the package, so that man pages and completions can be made from them.

pub mod arguments;
pub mod command;
pub mod core;
pub mod server;
