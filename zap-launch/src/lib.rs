//! zap-launch's command line and its steps towards exec; `main.rs` only runs them.

pub mod arguments;
pub mod launch;
mod private;
mod script;
pub mod search;
mod view;

pub use arguments::command;
