//! The open frame and everything that waits until a frame is durable. Nothing that promises may pass it by.

use std::collections::VecDeque;

use super::io::{Change, Output, PluginOut};
use crate::ids::{CommandId, ConnId, FrameNo};

/// What happens once a frame is durable.
#[derive(Debug)]
pub(super) enum Held {
    /// The driver gets this.
    Output(Output),
    /// An accepted command of a server of this shard enters its queue.
    Accept(u32),
    /// The end of a command of an ordered order: the next one may go.
    Ended(u32),
    /// A command's new attempt: it may go out.
    Attempt(u32, u16),
    /// Commands of this shard's servers are resent.
    Resent(Vec<(CommandId, u32)>),
    /// A session begins, with its `Welcome`.
    Welcome(u32, ConnId, Box<Output>),
}

impl Held {
    /// It may come a moment later: a plugin remembers for so long what is not confirmed, and followers hear of an event then.
    fn is_patient(&self) -> bool {
        let Held::Output(output) = self else { return false };
        matches!(output, Output::Plugin { message: PluginOut::Confirm { .. }, .. } | Output::Event(_))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    changes: Vec<Change>,
    /// The open frame should be durable soon: something waits for it that is not patient.
    awaited: bool,
    sealed: FrameNo,
    durable: FrameNo,
    held: VecDeque<(FrameNo, Held)>,
    now: Vec<Output>,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox {
            changes: Vec::new(),
            awaited: false,
            sealed: FrameNo(0),
            durable: FrameNo(0),
            held: VecDeque::new(),
            now: Vec::new(),
        }
    }

    /// Recovery found this as the last frame.
    pub(super) fn restore_frame_no(&mut self, last: FrameNo) {
        self.sealed = self.sealed.max(last);
        self.durable = self.sealed;
    }

    /// Lends the driver's vector for the length of one step (and gives it back by the second call).
    pub(super) fn swap(&mut self, out: &mut Vec<Output>) {
        std::mem::swap(&mut self.now, out);
    }

    /// Adds a change to the open frame.
    pub(super) fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Whether the open frame holds anything.
    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The open frame should be durable soon, although nothing that waits for it says so.
    pub(super) fn hurry(&mut self) {
        self.awaited |= self.has_changes();
    }

    /// Whether somebody waits for what the open frame holds.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Closes the open frame; `None` when it is empty.
    pub(super) fn seal(&mut self) -> Option<(FrameNo, Vec<Change>)> {
        if self.changes.is_empty() {
            return None;
        }
        self.sealed.0 += 1;
        self.awaited = false;
        let room = self.changes.len().min(4096);
        Some((self.sealed, std::mem::replace(&mut self.changes, Vec::with_capacity(room))))
    }

    /// The latest frame that holds changes: everything known now is durable once it is.
    pub(super) fn latest(&self) -> FrameNo {
        if self.changes.is_empty() { self.sealed } else { FrameNo(self.sealed.0 + 1) }
    }

    /// Whether something known now is not durable yet.
    pub(super) fn is_ahead(&self) -> bool {
        self.latest() > self.durable
    }

    /// How much waits.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Once everything known now is durable.
    pub(super) fn hold(&mut self, held: Held) {
        self.awaited |= self.has_changes() && !held.is_patient();
        self.held.push_back((self.latest(), held));
    }

    /// To the driver once everything known now is durable; at once when it is.
    pub(super) fn send(&mut self, output: Output) {
        // Behind what is held already, even if that is about to be released: answers keep their order.
        if self.is_ahead() || !self.held.is_empty() {
            self.hold(Held::Output(output));
        } else {
            self.now.push(output);
        }
    }

    /// To the driver at once: promises nothing that is not durable.
    pub(super) fn send_now(&mut self, output: Output) {
        self.now.push(output);
    }

    /// All frames up to this one are durable.
    pub(super) fn on_durable(&mut self, upto: FrameNo) {
        self.durable = self.durable.max(upto.min(self.sealed));
    }

    /// What [`Outbox::take_released`] will give.
    pub(super) fn released(&self) -> impl Iterator<Item = &Held> {
        self.held.iter().take_while(|(frame, _)| *frame <= self.durable).map(|(_, held)| held)
    }

    /// The next that need not wait any longer.
    pub(super) fn take_released(&mut self) -> Option<Held> {
        let (frame, _) = self.held.front()?;
        if *frame > self.durable {
            return None;
        }
        self.held.pop_front().map(|(_, held)| held)
    }
}
