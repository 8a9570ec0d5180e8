//! The plugins of this process, in the order in which they are called before a checkpoint; after it, in reverse.

use crate::state::SetOnce;
use zap_plugin::Plugin;

/// The list that the root hands in.
pub type Plugins = &'static [&'static dyn Plugin];

static PLUGINS: SetOnce<Plugins> = SetOnce::new();

/// Registers the plugins, once.
pub fn register(plugins: Plugins) {
    PLUGINS.set(plugins);
}

/// The registered plugins.
pub fn plugins() -> Plugins {
    PLUGINS.get().copied().unwrap_or(&[])
}
