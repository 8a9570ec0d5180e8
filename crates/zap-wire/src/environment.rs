//! Names in the environment and below the runtime directory.

/// Path of the pod's table: what makes a process a member of a pod. Set by zap-launch, carried along by exec, taken out
/// of the program's own environment by libzap's init.
pub const POD_TABLE: &str = "ZAP_POD_TABLE";

/// Name of the coordinator's door, for a program that cannot reach the pod's table any more: see
/// [`crate::ToCoordinator::Table`]. Carried along and taken out as [`POD_TABLE`] is.
pub const POD_DOOR: &str = "ZAP_POD_DOOR";

/// Says nothing. Carried along and taken out as [`POD_TABLE`] is, so that an even number of variables is taken out: the auxiliary
/// vector, whose entries are pairs, can then be led to behind the environment.
pub const EVEN: &str = "ZAP_EVEN";

/// Function that libzap exports for Zap's own tools, which look it up by dlsym(3): `const char *zap_pod_table(void)`, the path
/// of the table of the pod that the process is a member of, null if it is in none.
pub const TABLE_FUNCTION: &core::ffi::CStr = c"zap_pod_table";

/// Where the coordinator's socket and the pod tables are.
pub const RUNTIME_DIR: &str = "ZAP_RUNTIME_DIR";

/// Default directory for images.
pub const CKPT_DIR: &str = "ZAP_CKPT_DIR";

/// The loader's variable that names preloaded libraries (ld.so(8)).
pub const LD_PRELOAD: &str = "LD_PRELOAD";

/// Where a program stops itself, for tests that kill it there: see [`crate::fault`].
pub const FAULT: &str = "ZAP_FAULT";

/// `1`: virtual ids differ from real ones in a new pod from the start, for tests of their translation.
pub const FORCE_VIRTUAL: &str = "ZAP_FORCE_VIRTUAL";

/// `names` or `namespaces`: how a pod sees directories of its own ([`crate::private::By`]); else the second where the host allows it.
pub const PRIVATE_BY: &str = "ZAP_PRIVATE_BY";

/// Descriptor of the plan, for the restorer. Set for the last exec of a restart only.
pub const PLAN: &str = "ZAP_PLAN";

/// File name of the coordinator's socket in the runtime directory.
pub const SOCKET_NAME: &str = "coordinator.sock";

/// Directory of the pods in the runtime directory.
pub const PODS_DIRECTORY: &str = "pods";

/// Ending of a pod table's file name.
pub const TABLE_SUFFIX: &str = ".table";

/// The coordinator's socket that belongs to the pod table `table`: `<runtime>/pods/<id>.table` → `<runtime>/coordinator.sock`.
pub fn socket_of_table(table: &[u8]) -> Option<alloc::vec::Vec<u8>> {
    let pods = &table[..table.iter().rposition(|c| *c == b'/')?];
    let runtime = &pods[..pods.iter().rposition(|c| *c == b'/')?];
    let mut path = runtime.to_vec();
    path.push(b'/');
    path.extend_from_slice(SOCKET_NAME.as_bytes());
    Some(path)
}

#[cfg(test)]
mod tests {
    #[test]
    fn socket_lies_two_levels_up() {
        assert_eq!(super::socket_of_table(b"/tmp/zap-0/pods/1f.table").unwrap(), b"/tmp/zap-0/coordinator.sock");
        assert_eq!(super::socket_of_table(b"x"), None);
    }
}
