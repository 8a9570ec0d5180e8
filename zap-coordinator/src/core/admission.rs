//! How processes come into pods: by launch, and by restart.

use super::pod::{Member, Pod, PodState};
use super::{fail_reply, Action, Core, Now, Peer};
use zap_wire::message::{CheckpointRecord, Launch, PodSettings, Restart};
use zap_wire::PROTOCOL_VERSION;

/// Longest name of a pod in bytes.
const LONGEST_NAME: usize = 64;

/// Largest process id of Linux (PID_MAX_LIMIT).
const LARGEST_PID: i32 = 4 << 20;

impl Core {
    pub(super) fn launch(&mut self, now: Now, peer: Peer, pid: i32, request: Launch, out: &mut Vec<Action>) {
        if let Some(why) = objection(request.protocol, request.pod.as_deref(), &request.settings) {
            return fail_reply(out, peer, why);
        }
        if self.exiting {
            return fail_reply(out, peer, "zap-coordinator: is ending");
        }
        let joined = request.pod.as_ref().and_then(|name| self.pods.values().find(|pod| pod.name == *name));
        let (id, name) = match joined {
            Some(pod) if pod.state == PodState::Running && !pod.ending => (pod.id, pod.name.clone()),
            Some(pod) => return fail_reply(out, peer, format!("pod {}: is restarting or ending", pod.name)),
            None => {
                let id = self.free_id(now.random);
                let name = request.pod.clone().unwrap_or_else(|| self.free_name(&request.program));
                out.push(Action::Make { peer, pod: id, settings: request.settings.clone(), streams: request.streams });
                let pod = Pod::new(id, name.clone(), request.settings, now.millis);
                self.pods.insert(id, Pod { first: pid, ..pod });
                (id, name)
            }
        };
        // A process is in one pod only.
        let others =
            self.pods.values().filter(|pod| pod.id != id && pod.members.iter().any(|member| member.pid == pid));
        out.extend(others.map(|pod| Action::Leave { pod: pod.id, pid }));
        let virtual_pid = self.free_virtual_pid(id, pid);
        out.push(Action::Enter { pod: id, pid, virtual_pid, program: request.program });
        out.push(Action::Record { pod: id });
        out.push(Action::Welcome { peer, pod: id, name });
    }

    pub(super) fn restart(
        &mut self,
        now: Now,
        peer: Peer,
        pid: i32,
        request: Restart,
        record: CheckpointRecord,
        out: &mut Vec<Action>,
    ) {
        if let Some(why) = objection(request.protocol, request.name.as_deref(), &request.settings) {
            return fail_reply(out, peer, why);
        }
        if self.exiting {
            return fail_reply(out, peer, "zap-coordinator: is ending");
        }
        let name = match request.name {
            Some(name) if self.is_taken(&name) => {
                return fail_reply(out, peer, format!("pod {name}: the name is in use; choose another with --pod"))
            }
            Some(name) => name,
            None => self.free_name(&request.recorded_name),
        };
        let id = if request.pod_id == 0 || self.pods.contains_key(&request.pod_id) {
            self.free_id(now.random)
        } else {
            request.pod_id
        };
        let mut pod = Pod::new(id, name.clone(), request.settings.clone(), now.millis);
        pod.generation = request.generation;
        pod.last = Some(record);
        pod.ended = request.ended;
        let first = request.members.first().map_or(0, |(first, _)| *first);
        pod.state = PodState::Restarting { expected: request.members, first, requester_gone: false };
        self.pods.insert(id, pod);
        out.push(Action::Make { peer, pod: id, settings: request.settings, streams: request.streams });
        out.push(Action::Watch { pod: id, pid });
        out.push(Action::Record { pod: id });
        out.push(Action::Welcome { peer, pod: id, name });
    }

    pub(super) fn restarted(&mut self, peer: Peer, pid: i32, id: u64, virtual_pid: i32, out: &mut Vec<Action>) {
        // It waits until it is known, and has nothing else to say.
        out.push(Action::Close { peer });
        let Some(pod) = self.pods.get_mut(&id) else { return };
        if let PodState::Restarting { expected, first, .. } = &mut pod.state {
            if *first == virtual_pid && pod.ended.is_none() {
                pod.first = pid;
                out.push(Action::Record { pod: id });
            }
            if let Some(at) = expected.iter().position(|(expected, _)| *expected == virtual_pid) {
                let (_, program) = expected.remove(at);
                if !pod.members.iter().any(|member| member.pid == pid) {
                    let program = program.clone();
                    pod.members.push(Member { pid, virtual_pid, program, stopped: false, not_checkpointable: None });
                }
                out.push(Action::Enter { pod: id, pid, virtual_pid, program });
            }
        }
    }

    /// All that a restart makes is whole: until now zap-restart could have given up, or been stopped by its user.
    pub(super) fn runs(&mut self, now: Now, peer: Peer, id: u64, out: &mut Vec<Action>) {
        // It waits until this is known, and has nothing else to say.
        out.push(Action::Close { peer });
        if let Some(pod) = self.pods.get_mut(&id).filter(|pod| pod.is_restarting()) {
            pod.state = PodState::Running;
            pod.schedule(now.millis);
        }
    }

    pub(super) fn requester_gone(&mut self, now: Now, id: u64, out: &mut Vec<Action>) {
        if let Some(pod) = self.pods.get_mut(&id) {
            if let PodState::Restarting { requester_gone, .. } = &mut pod.state {
                *requester_gone = true;
                // Those that have come cannot be the whole pod any more, but they run: the user decides about them.
                if !pod.members.is_empty() {
                    pod.state = PodState::Running;
                    pod.schedule(now.millis);
                    out.push(Action::Record { pod: id });
                }
            }
        }
    }

    fn is_taken(&self, name: &str) -> bool {
        self.pods.values().any(|pod| pod.name == name)
    }

    fn free_name(&self, wanted: &str) -> String {
        let mut base: String = wanted.chars().map(|c| if c.is_control() || c == '/' { '_' } else { c }).collect();
        while base.len() > LONGEST_NAME - 8 {
            base.pop();
        }
        if base.is_empty() {
            base.push_str("pod");
        }
        if !self.is_taken(&base) {
            return base;
        }
        (2u64..).map(|number| format!("{base}-{number}")).find(|name| !self.is_taken(name)).unwrap_or(base)
    }

    fn free_id(&self, random: u64) -> u64 {
        (random.max(1)..).chain(1..).find(|id| !self.pods.contains_key(id)).unwrap_or(random)
    }

    /// The real pid, unless a restarted process of the pod bears it as its virtual one.
    fn free_virtual_pid(&self, id: u64, pid: i32) -> i32 {
        let taken = |candidate: i32| {
            self.pods.get(&id).is_some_and(|pod| {
                pod.members.iter().any(|member| member.virtual_pid == candidate && member.pid != pid)
            })
        };
        (pid..LARGEST_PID).chain(300..pid).find(|candidate| !taken(*candidate)).unwrap_or(pid)
    }
}

/// What is wrong with a request.
fn objection(protocol: u32, name: Option<&str>, settings: &PodSettings) -> Option<String> {
    if protocol != PROTOCOL_VERSION {
        return Some(format!(
            "zap-coordinator: speaks protocol {PROTOCOL_VERSION}, the tool {protocol}; \
             end the pods and the old coordinator (zap-command --quit) first"
        ));
    }
    if !zap_wire::can_be_zaps(settings.signal) {
        return Some(format!("signal {}: only 33, or 35 to 64, can be used", settings.signal));
    }
    let name = name?;
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(|c| c.is_control() || c == '/') {
        return Some(format!(
            "pod name {name:?}: must have 1 to {LONGEST_NAME} bytes, no slash, no control characters"
        ));
    }
    None
}
