//! The task behind a plugin client: keeps one connection up, runs what is delivered once, reports until confirmed.
//!
//! ```text
//! connect ─▶ hello (what the ledger knows) ─▶ welcome ─▶ results not yet confirmed ─▶ deliver, run, report ...
//!    ▲                                                                                    │
//!    └───────────── wait: jittered, or as the broker asks ◀── lost, go-away, error ◀───────┘
//! ```
//! What must stay true: a command reaches the handler only after its intent is durable in the ledger, and an entry
//! leaves the ledger only when the broker answers for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::blocking::blocking;
use super::error::ClientError;
use super::gathering::Gathering;
use super::ledger::{Entry, Ledger, LedgerError};
use super::online::Online;
use super::options::PluginOptions;
use super::plugin::{ClientState, DeliveredCommand, PluginHandler, Shared, stop_timeout};
use super::report::Report;
use super::session::{End, GATHER_BYTES, Silence, send_frames};
use super::socket::{Arrived, Socket, Target};
use super::ticket::Ticket;
use crate::ids::{Seq, ServerId, SessionEpoch};
use crate::limits::{FRAME_BYTES_MAX, HELLO_IDS_MAX};
use crate::protocol::{
    CAPABILITIES, Code, Credential, DeliveryRef, List, PlayerRef, PluginHello, Request, Response, VERSION,
    encode_results,
};

pub(super) struct PluginTask<H> {
    handler: H,
    shared: Arc<Shared>,
    target: Target,
    server: ServerId,
    connect_timeout: Duration,
    window: u32,
    instance: [u8; 16],
    online: Online,
    ledger: Ledger,
    backoff: Backoff,
    /// The latest; shown at the next login, with the token beside it.
    ticket: Option<Ticket>,
    /// Reports that wait to be written to the ledger and sent.
    reports: Vec<Report>,
    /// Of the ledger's outcomes, those that are not on this connection yet.
    unsent: VecDeque<Seq>,
    gathering: Gathering,
    session: Session,
    stopping: Option<Instant>,
}

/// What belongs to one connection.
#[derive(Default)]
struct Session {
    welcomed: bool,
    batch: u64,
    /// Sent and not confirmed, by rising batch.
    unconfirmed: VecDeque<Sent>,
    /// In doubt when the hello was sent.
    in_doubt: Vec<Seq>,
    out: BytesMut,
    silence: Silence,
}

/// A report that was sent in this batch.
struct Sent {
    batch: u64,
    seq: Seq,
    attempt: u16,
}

impl<H: PluginHandler> PluginTask<H> {
    /// Checks the options and opens the ledger.
    pub(super) async fn open(
        options: PluginOptions,
        handler: H,
        shared: Arc<Shared>,
    ) -> Result<PluginTask<H>, ClientError> {
        options.check()?;
        let server = options.server()?;
        let target = Target::new(options.route())?;
        let ledger = match options.ledger {
            None => Ledger::in_memory(),
            Some(path) => blocking(move || Ledger::open(&path, server)).await?,
        };
        let mut instance = [0; 16];
        // Without a random source the broker only loses a label for its log.
        let _ = getrandom::fill(&mut instance);
        Ok(PluginTask {
            handler,
            shared,
            target,
            server,
            connect_timeout: options.connect_timeout,
            window: options.window,
            instance,
            online: Online::new(options.players),
            ledger,
            backoff: Backoff::new(options.backoff),
            ticket: None,
            reports: Vec::new(),
            unsent: VecDeque::new(),
            gathering: Gathering::new(options.gather_reports),
            session: Session::default(),
            stopping: None,
        })
    }

    /// Runs until it is stopped or cannot go on.
    pub(super) async fn run(mut self) {
        let error = loop {
            self.shared.state.send_replace(ClientState::Connecting);
            let end = self.connection().await;
            let end = self.without_ticket(end);
            let (reason, asked) = match end {
                End::Fatal(error) => break error,
                End::Retry { reason, after } => (reason, after),
            };
            let wait = self.backoff.next_wait(asked);
            tracing::debug!(server = %self.server, reason, ?wait, "plugin connection ended");
            self.shared.state.send_replace(ClientState::Waiting { reason: reason.into(), wait });
            if let Err(error) = self.pause(wait).await {
                break error;
            }
        };
        tracing::debug!(server = %self.server, %error, "plugin client ended");
        self.shared.state.send_replace(ClientState::Ended(Arc::new(error)));
    }

    /// A login that was refused with a ticket is tried once more without: a broker may have looked at the ticket alone.
    fn without_ticket(&mut self, end: End) -> End {
        match end {
            End::Fatal(ClientError::Refused { code: Code::InvalidCredentials, .. })
                if self.ticket.is_some() =>
            {
                self.ticket = None;
                End::lost("the resume ticket was refused")
            }
            end => end,
        }
    }

    /// Waits, and still writes down what is reported meanwhile.
    async fn pause(&mut self, wait: Duration) -> Result<(), ClientError> {
        let until = sleep(wait);
        tokio::pin!(until);
        loop {
            self.take_queue();
            self.write_down().await?;
            if self.stopping.is_some() {
                return Err(ClientError::Stopped);
            }
            tokio::select! {
                () = &mut until => return Ok(()),
                () = self.shared.wake.notified() => {}
            }
        }
    }

    async fn connection(&mut self) -> End {
        let started = Instant::now();
        let dialled = timeout(self.connect_timeout, Socket::dial(&mut self.target)).await;
        let mut socket = match dialled {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return error.into(),
            Err(_) => return End::lost("connecting took too long"),
        };
        self.session = Session::default();
        self.gathering.begin_anew();
        self.unsent.clear();
        self.take_queue();
        if let Err(error) = self.write_down().await {
            return End::Fatal(error.into());
        }
        self.hello(socket.has_shown_credential());
        let login_by = started + self.connect_timeout;
        let end = match self.serve(&mut socket, login_by).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let _ = timeout(Duration::from_secs(1), socket.close()).await;
        end
    }

    async fn serve(&mut self, socket: &mut Socket, login_by: Instant) -> Result<Infallible, End> {
        let tick = sleep(self.session.silence.tick_length());
        tokio::pin!(tick);
        tick.as_mut().reset(Instant::now() + self.session.silence.tick_length());
        let mut gathered = pin!(sleep(Duration::ZERO));
        let shared = Arc::clone(&self.shared);
        // One that goes on waiting from turn to turn: getting in line and out again costs two locks.
        let mut woken = pin!(shared.wake.notified());
        loop {
            // Not left to the branch below, which a broker that is never silent keeps from its turn.
            if tick.is_elapsed() {
                if self.session.welcomed {
                    self.session.silence.on_tick()?;
                } else if Instant::now() >= login_by {
                    return Err(End::lost("logging in took too long"));
                }
                tick.as_mut().reset(Instant::now() + self.session.silence.tick_length());
            }
            // Asked once a turn: what is not sent because it is held has a timer, whatever the clock says in between.
            let held = self.held_until();
            if !socket.is_writing() {
                self.fill(held.is_some());
                send_frames(socket, &mut self.session.out).await?;
            }
            // A timer that is early is set again when it fires: to do so for each report would cost more.
            let is_due =
                |until: Instant| until < gathered.deadline() || gathered.deadline() <= Instant::now();
            if let Some(until) = held.filter(|until| is_due(*until)) {
                gathered.as_mut().reset(until);
            }
            tokio::select! {
                // What there is most of first.
                biased;
                arrived = socket.step() => {
                    self.session.silence.on_heard();
                    if let Arrived::Frames(frames) = arrived? {
                        self.on_frames(frames).await?;
                    }
                }
                () = &mut woken => woken.set(shared.wake.notified()),
                () = &mut gathered, if held.is_some() => {}
                () = &mut tick => {}
            }
            self.take_queue();
            self.write_down().await.map_err(|error| End::Fatal(error.into()))?;
            self.check_stop()?;
        }
    }

    /// Takes what the handle was told since.
    fn take_queue(&mut self) {
        let mut queue = self.shared.queue.lock();
        self.reports.append(&mut queue.reports);
        queue.players.drain(..).for_each(|change| self.online.apply(change));
        let window = queue.window.take();
        if queue.stopping && self.stopping.is_none() {
            self.stopping = Some(Instant::now() + stop_timeout());
        }
        drop(queue);
        if let Some(window) = window {
            self.window = window;
            if self.session.welcomed {
                self.put(Request::Credit { window });
            }
        }
    }

    /// Ends the session once a stop was asked for and nothing waits for a confirmation any more.
    fn check_stop(&mut self) -> Result<(), End> {
        let Some(deadline) = self.stopping else { return Ok(()) };
        let waits = !self.unsent.is_empty() || !self.session.unconfirmed.is_empty();
        if waits && Instant::now() < deadline { Ok(()) } else { Err(End::Fatal(ClientError::Stopped)) }
    }

    fn hello(&mut self, token_is_shown: bool) {
        let (mut started, mut finished, mut in_doubt) = (Vec::new(), Vec::new(), Vec::new());
        for (seq, entry) in self.ledger.entries() {
            match entry {
                Entry::Started(_) => started.push(seq.0),
                Entry::Finished(_) => finished.push(seq.0),
                Entry::InDoubt(_) => in_doubt.push(seq.0),
            }
        }
        // Rising seq: the oldest ones are named, the others are settled by later hellos or deadlines.
        for ids in [&mut started, &mut finished, &mut in_doubt] {
            ids.truncate(HELLO_IDS_MAX);
        }
        self.session.in_doubt = in_doubt.iter().copied().map(Seq).collect();
        let players = self.online.for_hello();
        // The token always goes along, here or in the upgrade request, so that this frame may be as long as the lists
        // need, and so that the broker takes the token when the ticket is of no use.
        let token = self.target.credential();
        let credential = match (&self.ticket, token_is_shown) {
            (Some(ticket), true) => ticket.credential(),
            (Some(ticket), false) => ticket.with_token(token),
            (None, true) => Credential::None,
            (None, false) => Credential::Token(token),
        };
        let hello = PluginHello {
            version_min: VERSION,
            version_max: VERSION,
            capabilities: CAPABILITIES,
            instance: self.instance,
            window: self.window,
            credential,
            started: List::from(&started),
            finished: List::from(&finished),
            in_doubt: List::from(&in_doubt),
            players: players.as_ref().map(List::from),
            ..PluginHello::default()
        };
        Request::PluginHello(hello)
            .encode(&mut self.session.out)
            .expect("lists are cut to what a hello may hold");
    }

    async fn on_frames(&mut self, message: Bytes) -> Result<(), End> {
        for frame in Response::decode_all(&message, FRAME_BYTES_MAX) {
            let frame = frame.map_err(|error| End::lost(format!("the broker sent a bad frame: {error}")))?;
            match frame {
                Response::PluginWelcome(welcome) => {
                    self.session.silence = Silence::new(welcome.heartbeat_ms);
                    self.ticket = Ticket::from_broker(welcome.ticket);
                    let forget: Vec<Seq> = welcome.forget.iter().map(Seq).collect();
                    self.on_welcome(SessionEpoch(welcome.epoch), forget).await?;
                }
                Response::Deliver { commands } => self.on_deliver(commands).await?,
                Response::Confirm { batch } => self.on_confirm(batch).await?,
                Response::Ticket { ticket } => self.ticket = Ticket::from_broker(ticket),
                Response::Ping { nonce } => self.put(Request::Pong { nonce }),
                Response::Pong { .. } | Response::Skipped { .. } => {}
                Response::GoAway { code, delay_ms } => return Err(End::go_away(code, delay_ms)),
                Response::Error { code, retry_after_ms, detail } => {
                    return Err(End::refused(code, retry_after_ms, detail));
                }
                _ => return Err(End::lost("the broker sent a publisher's frame")),
            }
        }
        Ok(())
    }

    /// The broker has taken note of everything that the hello said.
    async fn on_welcome(&mut self, epoch: SessionEpoch, mut forget: Vec<Seq>) -> Result<(), End> {
        let is_finished = |seq: &Seq| matches!(self.ledger.entry(*seq), Some(Entry::Finished(_)));
        let finished: Vec<Seq> = forget.iter().copied().filter(is_finished).collect();
        if !finished.is_empty() {
            self.handler.confirmed(&finished);
        }
        forget.append(&mut self.session.in_doubt);
        self.with_ledger(move |ledger| ledger.forget(&forget)).await?;
        let finished = |(seq, entry): (Seq, &Entry)| matches!(entry, Entry::Finished(_)).then_some(seq);
        self.unsent = self.ledger.entries().filter_map(finished).collect();
        self.session.welcomed = true;
        self.backoff.on_success();
        self.shared.state.send_replace(ClientState::Connected(epoch));
        Ok(())
    }

    async fn on_deliver(&mut self, deliveries: List<'_, DeliveryRef<'_>>) -> Result<(), End> {
        if self.stopping.is_some() {
            // Not written down, not run: the broker offers them again.
            return Ok(());
        }
        let fresh = |delivery: &DeliveryRef<'_>| self.ledger.is_new(Seq(delivery.id), delivery.attempt);
        let commands: Vec<DeliveredCommand> = deliveries
            .iter()
            .filter(fresh)
            .map(|delivery| DeliveredCommand::new(self.server, &delivery))
            .collect();
        if commands.is_empty() {
            return Ok(());
        }
        // Of one that comes again what was said before is over: its confirmation is not one of what is said next.
        let again = |seq: &Seq| commands.iter().any(|command| command.id.seq == *seq);
        if commands.iter().any(|command| self.ledger.entry(command.id.seq).is_some()) {
            self.unsent.retain(|seq| !again(seq));
            self.session.unconfirmed.retain(|sent| !again(&sent.seq));
        }
        let intents: Vec<(Seq, u16)> =
            commands.iter().map(|command| (command.id.seq, command.attempt)).collect();
        self.with_ledger(move |ledger| ledger.begin(&intents)).await?;
        self.handler.run(commands, &mut self.reports);
        Ok(())
    }

    async fn on_confirm(&mut self, batch: u64) -> Result<(), End> {
        let mut confirmed = Vec::new();
        while let Some(sent) = self.session.unconfirmed.pop_front_if(|sent| sent.batch <= batch) {
            // A later attempt may run by now: that one is not confirmed.
            if matches!(self.ledger.entry(sent.seq), Some(Entry::Finished(report)) if report.attempt == sent.attempt)
            {
                confirmed.push(sent.seq);
            }
        }
        self.handler.confirmed(&confirmed);
        self.with_ledger(move |ledger| ledger.forget(&confirmed)).await
    }

    /// Writes the reports to the ledger; from there they are sent.
    async fn write_down(&mut self) -> Result<(), LedgerError> {
        if self.reports.is_empty() {
            return Ok(());
        }
        self.gathering.on_joined(Instant::now());
        self.ledger.finish(self.reports.drain(..), &mut self.unsent)
    }

    /// Until when the reports that are not sent wait for others to go with.
    fn held_until(&self) -> Option<Instant> {
        let sends = self.session.welcomed && self.stopping.is_none() && !self.unsent.is_empty();
        sends.then(|| self.gathering.held_until(self.unsent.len(), self.window, Instant::now())).flatten()
    }

    /// Appends everything that can be sent now; reports not while they are held.
    fn fill(&mut self, held: bool) {
        if !self.session.welcomed {
            return;
        }
        while let Some((kind, players)) = self.online.next_change() {
            let players: Vec<PlayerRef<'_>> = players.iter().map(|player| player.as_ref()).collect();
            let frame = Request::Players { kind, players: List::from(&players) };
            frame.encode(&mut self.session.out).expect("names and counts are checked on the way in");
        }
        if self.unsent.is_empty() || held {
            return;
        }
        self.gathering.on_sent(Instant::now());
        let ledger = &self.ledger;
        let finished = |seq: &Seq| match ledger.entry(*seq) {
            Some(Entry::Finished(report)) => Some(report),
            _ => None,
        };
        while self.session.out.len() < GATHER_BYTES {
            while self.unsent.pop_front_if(|seq| finished(seq).is_none()).is_some() {}
            if self.unsent.is_empty() {
                break;
            }
            self.session.batch += 1;
            let batch = self.session.batch;
            let reports = self.unsent.iter().filter_map(finished).map(Report::as_ref);
            let mut count = encode_results(&mut self.session.out, batch, reports)
                .expect("the ledger cuts texts to what a frame holds");
            while count > 0 {
                let seq = self.unsent.pop_front().expect("counted just now");
                if let Some(report) = finished(&seq) {
                    self.session.unconfirmed.push_back(Sent { batch, seq, attempt: report.attempt });
                    count -= 1;
                }
            }
        }
    }

    fn put(&mut self, request: Request<'_>) {
        request.encode(&mut self.session.out).expect("frames without lists always fit");
    }

    /// Runs a change of the ledger, off the async threads if it touches a disk.
    async fn with_ledger(
        &mut self,
        change: impl FnOnce(&mut Ledger) -> Result<(), LedgerError> + Send + 'static,
    ) -> Result<(), End> {
        let result = if self.ledger.has_file() {
            let mut ledger = std::mem::replace(&mut self.ledger, Ledger::in_memory());
            let (ledger, result) = blocking(move || {
                let result = change(&mut ledger);
                (ledger, result)
            })
            .await;
            self.ledger = ledger;
            result
        } else {
            change(&mut self.ledger)
        };
        result.map_err(|error| End::Fatal(error.into()))
    }
}
