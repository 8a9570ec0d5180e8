//! Descriptors left open are closed. Alone in its process: what is noted there is every thread's.

use zap_sys::{fd, opened};

#[test]
fn what_is_open_is_closed() {
    assert!(!opened::note(true));
    let kept = fd::pipe2(libc::O_CLOEXEC).unwrap();
    let closed = fd::dup_above(kept.0, 0).unwrap();
    fd::close(closed).unwrap();
    opened::close_left();
    assert!(fd::fstat(kept.0).is_err() && fd::fstat(kept.1).is_err());
    assert!(!opened::note(false));
}
