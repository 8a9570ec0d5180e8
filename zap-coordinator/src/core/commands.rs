//! Commands of the user: checkpoint, status, kill, interval, quit.

use super::{fail_reply, reply, Action, Core, Inquiry, InquiryKind, Millis, Now, Peer};
use zap_wire::message::{CheckpointRecord, CheckpointResult, Selection, Status};
use zap_wire::FromCoordinator;

impl Core {
    pub(super) fn checkpoint(
        &mut self,
        now: Now,
        peer: Peer,
        selection: &Selection,
        kill: bool,
        out: &mut Vec<Action>,
    ) {
        let pods = match self.select(selection) {
            Ok(pods) => pods,
            Err(answer) => return reply(out, peer, *answer),
        };
        let number = self.inquire(peer, InquiryKind::Checkpoint, &pods, None);
        for pod in pods {
            self.want_checkpoint(now, pod, Some(number), kill, out);
        }
    }

    /// Writes the outcome of a pod's checkpoint into the request that waits for it.
    pub(super) fn conclude(&mut self, number: u64, id: u64, outcome: Result<CheckpointRecord, String>) {
        let Some(inquiry) = self.inquiries.iter_mut().find(|inquiry| inquiry.number == number) else { return };
        let pod = self.pods.get(&id).map(|pod| pod.name.clone()).unwrap_or_default();
        inquiry.results.push(CheckpointResult { pod, outcome });
        inquiry.open.retain(|open| *open != id);
    }

    pub(super) fn status(&self) -> Status {
        Status { pods: self.pods.values().map(|pod| pod.status()).collect() }
    }

    pub(super) fn kill(&mut self, now: Now, peer: Peer, selection: &Selection, out: &mut Vec<Action>) {
        match self.select(selection) {
            Ok(pods) => self.end_pods(now, peer, InquiryKind::Kill, &pods, out),
            Err(answer) => reply(out, peer, *answer),
        }
    }

    pub(super) fn quit(&mut self, now: Now, peer: Peer, kill: bool, out: &mut Vec<Action>) {
        let pods: Vec<u64> = self.pods.keys().copied().collect();
        if !pods.is_empty() && !kill {
            let names: Vec<&str> = self.pods.values().map(|pod| pod.name.as_str()).collect();
            let why = format!("pods are running ({}); end them too with --quit --kill", names.join(", "));
            return fail_reply(out, peer, why);
        }
        self.end_pods(now, peer, InquiryKind::Quit, &pods, out);
    }

    pub(super) fn interval(
        &mut self,
        now: Now,
        peer: Peer,
        selection: &Selection,
        seconds: u64,
        out: &mut Vec<Action>,
    ) {
        let pods = match self.select(selection) {
            Ok(pods) => pods,
            Err(answer) => return reply(out, peer, *answer),
        };
        let mut names = Vec::new();
        for id in pods {
            if let Some(pod) = self.pods.get_mut(&id) {
                pod.settings.interval = seconds;
                pod.schedule(now.millis);
                names.push(pod.name.clone());
                out.push(Action::Record { pod: id });
            }
        }
        reply(out, peer, FromCoordinator::Done { pods: names });
    }

    pub(super) fn tick_inquiries(&mut self, now: Now, out: &mut Vec<Action>) {
        let late = |inquiry: &Inquiry| inquiry.deadline.is_some_and(|deadline| now.millis >= deadline);
        for inquiry in self.inquiries.extract_if(.., |inquiry| late(inquiry)) {
            let open = inquiry.open.iter().filter_map(|id| self.pods.get(id)).map(|pod| pod.name.as_str());
            let why = format!("pod {}: was killed but has not ended yet", open.collect::<Vec<_>>().join(", "));
            fail_reply(out, inquiry.peer, why);
        }
    }

    fn end_pods(&mut self, now: Now, peer: Peer, kind: InquiryKind, pods: &[u64], out: &mut Vec<Action>) {
        self.inquire(peer, kind, pods, Some(now.millis + self.limits.ending));
        for id in pods {
            if let Some(pod) = self.pods.get_mut(id) {
                pod.ending = true;
                out.extend(pod.members.iter().map(|member| Action::Kill { pod: *id, pid: member.pid }));
            }
        }
    }

    fn inquire(&mut self, peer: Peer, kind: InquiryKind, pods: &[u64], deadline: Option<Millis>) -> u64 {
        self.next_inquiry += 1;
        let number = self.next_inquiry;
        let names = pods.iter().filter_map(|id| self.pods.get(id)).map(|pod| pod.name.clone()).collect();
        let inquiry = Inquiry { number, peer, kind, open: pods.to_vec(), names, results: Vec::new(), deadline };
        self.inquiries.push(inquiry);
        number
    }
}
