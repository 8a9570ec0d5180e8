//! The conversation with the coordinator, from inside the signal handler: connect, say, hear, hang up.
//!
//! The connection exists only while the program is suspended (and in the frozen copy, until its image is written), so
//! that the program never sees its descriptor.

use crate::state;
use alloc::format;
use core::sync::atomic::{AtomicI32, Ordering};
use zap_plugin::Refusal;
use zap_sys::{fd, libc, net, RawFd};
use zap_wire::{environment, FromCoordinator, ToCoordinator};

/// Seconds that the coordinator may stay silent before the program resumes on its own.
const PATIENCE_SECONDS: i64 = 120;

/// The open connection, -1 for none: a panic skips the code that would close it.
static OPEN: AtomicI32 = AtomicI32::new(-1);

/// Hangs up what a panic has left open.
pub fn hang_up_abandoned() {
    let left = OPEN.swap(-1, Ordering::Relaxed);
    if left >= 0 {
        let _ = fd::close(left);
    }
}

/// The connection that a panic has left open.
pub fn left_open() -> Option<Agent> {
    let socket = OPEN.load(Ordering::Relaxed);
    (socket >= 0).then_some(Agent { socket })
}

/// In the frozen copy: says why it cannot write, and ends.
pub fn fail_writing(refusal: Refusal) -> ! {
    let told = left_open().map(|agent| agent.say(&ToCoordinator::WriteFailed { refusal: on_wire(refusal) }));
    zap_sys::process::exit_process(i32::from(!matches!(told, Some(Ok(())))))
}

/// After a restart the connection's number means nothing.
pub fn forget() {
    OPEN.store(-1, Ordering::Relaxed);
}

/// A connection to the coordinator.
pub struct Agent {
    socket: RawFd,
}

impl Agent {
    /// Connects to the coordinator of this process's pod.
    pub fn connect() -> zap_sys::Result<Self> {
        let path = state::TABLE_PATH
            .with(|table| environment::socket_of_table(table))
            .ok_or(zap_sys::SysError::new("connect", libc::ENOENT))?;
        let socket = net::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0)?;
        let patience = libc::timeval { tv_sec: PATIENCE_SECONDS, tv_usec: 0 };
        // SO_SNDTIMEO bounds connect(2) too.
        let connected = net::set_option(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &patience)
            .and_then(|()| net::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &patience))
            .and_then(|()| net::connect_unix(socket, &path).or_else(|error| by_the_door(socket).map_err(|_| error)));
        if let Err(error) = connected {
            let _ = fd::close(socket);
            return Err(error);
        }
        crate::fault::point(zap_wire::fault::AGENT_CONNECTING);
        OPEN.store(socket, Ordering::Relaxed);
        Ok(Self { socket })
    }

    /// The connection's descriptor.
    pub fn socket(&self) -> RawFd {
        self.socket
    }

    /// Says `message`. A coordinator that has gone is an error, never a SIGPIPE.
    pub fn say(&self, message: &ToCoordinator) -> Result<(), Refusal> {
        let bytes = zap_wire::encode(message).map_err(|why| Refusal::new("coordinator", why))?;
        restarting(|| net::send(self.socket, &bytes, libc::MSG_NOSIGNAL))
            .map(|_| ())
            .map_err(|error| Refusal::new("coordinator", error))
    }

    /// Hears the next message, with the descriptors that came along.
    pub fn hear(&self) -> Result<(FromCoordinator, Given), Refusal> {
        let mut buffer = alloc::vec![0u8; zap_wire::LONGEST_MESSAGE];
        let (length, descriptors, _) = restarting(|| net::receive_with_descriptors(self.socket, &mut buffer, 0))
            .map_err(|error| Refusal::new("coordinator", error))?;
        if length == 0 {
            return Err(Refusal::new("coordinator", "hung up"));
        }
        let mut numbers = descriptors.as_slice().iter().copied();
        let given = Given([numbers.next(), numbers.next()]);
        numbers.for_each(|number| {
            let _ = fd::close(number);
        });
        match zap_wire::decode(&buffer[..length]) {
            Ok(message) => Ok((message, given)),
            Err(why) => {
                given.close();
                Err(Refusal::new("coordinator", format!("said something else: {why}")))
            }
        }
    }

    /// Waits until the coordinator has taken up a refusal: whoever hangs up before may be taken for one that has ended.
    /// Needs no memory.
    pub fn await_abandon(&self) {
        /// [`FromCoordinator::Abandon`] on the wire.
        const ABANDON: &[u8] = b"\xa7Abandon";
        let mut buffer = [0u8; 64];
        // Longer messages are cut, and a descriptor that comes with one is dropped by the kernel.
        while let Ok(length @ 1..) = restarting(|| net::receive(self.socket, &mut buffer, 0)) {
            if &buffer[..length] == ABANDON {
                return;
            }
        }
    }

    /// Waits until the coordinator hangs up.
    pub fn await_end(&self) {
        let mut buffer = [0u8; 64];
        while let Ok(1..) = restarting(|| net::receive(self.socket, &mut buffer, 0)) {}
    }

    /// Hangs up.
    pub fn close(self) {
        OPEN.store(-1, Ordering::Relaxed);
        let _ = fd::close(self.socket);
    }
}

/// Descriptors that came with a message; its hearer closes them.
#[derive(Clone, Copy, Debug)]
pub struct Given(pub [Option<RawFd>; 2]);

impl Given {
    /// Closes all.
    pub fn close(&self) {
        self.0.iter().flatten().for_each(|number| {
            let _ = fd::close(*number);
        });
    }
}

/// Seconds that a new program waits for the pod's table.
const TABLE_PATIENCE_SECONDS: i64 = 10;

/// The pod's table, by the coordinator's door: for a new program of another user's, before it runs.
pub fn table_by_the_door(door: &[u8]) -> Option<RawFd> {
    let socket = net::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0).ok()?;
    let patience = libc::timeval { tv_sec: TABLE_PATIENCE_SECONDS, tv_usec: 0 };
    let ask = || {
        net::set_option(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &patience).ok()?;
        net::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &patience).ok()?;
        net::connect_abstract(socket, door).ok()?;
        let agent = Agent { socket };
        agent.say(&ToCoordinator::Table).ok()?;
        match agent.hear().ok()? {
            (FromCoordinator::Table, Given([table, None])) => table,
            (_, given) => {
                given.close();
                None
            }
        }
    };
    let table = ask();
    let _ = fd::close(socket);
    table
}

/// Connects where a process does that has become another user, or been confined since it joined the pod.
fn by_the_door(socket: RawFd) -> zap_sys::Result<()> {
    let name = state::agents_table().map(|table| table.door()).unwrap_or_default();
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    if length == 0 {
        return Err(zap_sys::SysError::new("connect", libc::ENOENT));
    }
    net::connect_abstract(socket, &name[..length])?;
    // The name comes from the table, into which every member may write, and anybody may listen under it.
    let listener = net::peer_user(socket)?;
    if listener == 0 || listener == state::table_owner() {
        return Ok(());
    }
    Err(zap_sys::SysError::new("connect", libc::EPERM))
}

/// Repeats a call that was interrupted: no signal can be, but the kernel's own work for the process (closing an io_uring)
/// and a stop that ends interrupt calls on sockets with a time-out too (signal(7)).
fn restarting<T>(mut call: impl FnMut() -> zap_sys::Result<T>) -> zap_sys::Result<T> {
    loop {
        match call() {
            Err(error) if error.is(libc::EINTR) => {}
            other => return other,
        }
    }
}

/// The wire's form of a refusal.
pub fn on_wire(refusal: Refusal) -> zap_wire::message::Refusal {
    zap_wire::message::Refusal { object: refusal.object, reason: refusal.reason }
}
