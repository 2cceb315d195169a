//! When a shard's thread brings its open frame to the journal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use redb::backends::InMemoryBackend;

use super::PATIENCE;
use crate::broker::{Mailbox, Settings, Stepped, ToPeer};
use crate::engine::{CommandResult, Hello, Input, NewCommand, NewOrder, OnDoubt, Outcome, PluginOut, Reply};
use crate::ids::{ConnId, Seq, ServerId, ShardNo, StoreId};
use crate::time::{Millis, UnixMs};

const SERVER: ServerId = ServerId(1);
const STORE: StoreId = StoreId(1);
const SHARD: ShardNo = ShardNo(0);
const WINDOW: u32 = 8;

/// A broker with a publisher and a plugin.
struct World {
    broker: Stepped,
    now: UnixMs,
    publisher: ConnId,
    plugin: ConnId,
    mail: Arc<Mailbox>,
}

impl World {
    fn new() -> World {
        World::with_window(WINDOW)
    }

    fn with_window(window: u32) -> World {
        let now = UnixMs(1_000_000);
        let settings = Settings { shards: 1, ..Settings::new("unused".into()) };
        let (journal, store) = (InMemoryBackend::new(), InMemoryBackend::new());
        let mut broker =
            Stepped::open(journal, store, &settings, [(SERVER, STORE)], now).expect("an empty disk is sound");
        let mail = Arc::new(Mailbox::default());
        let publisher = broker.connect_publisher(STORE, Arc::default());
        let hello = Hello { window, ..Hello::default() };
        let plugin = broker.connect_plugin(SERVER, hello, Arc::clone(&mail));
        let mut world = World { broker, now, publisher, plugin, mail };
        world.step();
        assert_eq!(world.broker.journal_waiting(), 0);
        world
    }

    fn step(&mut self) {
        self.broker.step_shard(SHARD, self.now, usize::MAX);
    }

    fn commit(&mut self) {
        assert_eq!(self.broker.journal_waiting(), 1, "a frame waits for the journal");
        self.broker.step_journal(Some(SHARD), self.now, usize::MAX);
    }

    fn publish(&mut self, ordered: bool, texts: &[&str]) {
        self.send(ordered, texts);
        self.step();
    }

    fn send(&mut self, ordered: bool, texts: &[&str]) {
        let command = |text: &&str| NewCommand {
            server: SERVER,
            text: (*text).into(),
            player: None,
            require_online: false,
            not_before: None,
            expires_at: None,
            on_doubt: OnDoubt::Hold,
            labels: None,
        };
        let commands = texts.iter().map(command).collect();
        let order = NewOrder { store: STORE, key: None, reference: None, player: None, ordered, commands };
        self.broker.publish(self.publisher, 1, order);
    }

    fn completed(seq: Seq) -> CommandResult {
        CommandResult { seq, attempt: Some(1), outcome: Outcome::Completed, error: None, output: None }
    }

    fn report(&mut self, seq: Seq) {
        let results = vec![World::completed(seq)];
        self.broker.tell(SERVER, Input::Results { conn: self.plugin, batch: 1, results });
        self.step();
    }

    /// What the plugin got: commands, and whether anything was confirmed.
    fn received(&self) -> (Vec<Seq>, bool) {
        let mut mail = VecDeque::new();
        self.mail.drain(&mut mail);
        let (mut commands, mut confirmed) = (Vec::new(), false);
        for message in mail {
            match message {
                ToPeer::Plugin(PluginOut::Deliver(deliveries)) => {
                    commands.extend(deliveries.iter().map(|delivery| delivery.seq));
                }
                ToPeer::Plugin(PluginOut::Confirm { .. }) => confirmed = true,
                _ => {}
            }
        }
        (commands, confirmed)
    }

    /// The texts of commands that the plugin got.
    fn received_texts(&self) -> Vec<String> {
        let mut mail = VecDeque::new();
        self.mail.drain(&mut mail);
        let deliveries = mail.into_iter().filter_map(|message| match message {
            ToPeer::Plugin(PluginOut::Deliver(deliveries)) => Some(deliveries),
            _ => None,
        });
        deliveries.flatten().map(|delivery| delivery.text.to_string()).collect()
    }

    /// Publishes, commits, and gives what was delivered.
    fn delivered(&mut self, ordered: bool, texts: &[&str]) -> Vec<Seq> {
        self.publish(ordered, texts);
        self.commit();
        self.received().0
    }
}

#[test]
fn what_nobody_waits_for_has_a_commit_of_its_own_only_in_the_end() {
    let mut world = World::new();
    let delivered = world.delivered(false, &["say hi"]);
    assert_eq!(delivered.len(), 1);
    assert_eq!(world.broker.journal_waiting(), 0, "nobody waits for the delivery to be durable");
    world.report(delivered[0]);
    assert_eq!(world.broker.journal_waiting(), 0, "nor for the result");
    assert!(world.broker.sleep(SHARD, world.now) <= Duration::from_millis(PATIENCE.0));
    world.now = world.now + Millis(PATIENCE.0 - 1);
    world.step();
    assert_eq!(world.broker.journal_waiting(), 0);
    assert!(!world.received().1, "what is not durable is not confirmed");
    world.now = world.now + Millis(1);
    world.step();
    world.commit();
    assert!(world.received().1);
    world.now = world.now + PATIENCE;
    world.step();
    assert_eq!(world.broker.journal_waiting(), 0, "nothing is left");
}

#[test]
fn it_goes_with_what_somebody_waits_for() {
    let mut world = World::new();
    let delivered = world.delivered(false, &["say hi"]);
    world.report(delivered[0]);
    world.publish(false, &["say again"]);
    world.commit();
    let (again, confirmed) = world.received();
    assert!(again.len() == 1 && confirmed);
}

#[test]
fn what_came_during_a_commit_has_patience_after_it() {
    let mut world = World::new();
    let delivered = world.delivered(false, &["say hi"]);
    world.publish(false, &["say again"]);
    world.report(delivered[0]);
    world.now = world.now + PATIENCE;
    world.step();
    world.commit();
    assert_eq!(world.broker.journal_waiting(), 0, "it begins when the next frame could go");
    world.now = world.now + PATIENCE;
    world.step();
    world.commit();
    world.publish(false, &["say more"]);
    world.publish(false, &["say the most"]);
    world.commit();
    world.commit();
    assert_eq!(
        world.received().0.len(),
        3,
        "an answer that waits for the second frame is not forgotten with the first"
    );
}

#[test]
fn what_a_poll_hands_out_is_waited_for() {
    let mut world = World::new();
    world.broker.tell(SERVER, Input::Disconnect { conn: world.plugin });
    world.publish(false, &["say hi"]);
    world.commit();
    assert_eq!(world.broker.journal_waiting(), 0);
    let mut answer = world.broker.call(SHARD, |from| Input::Poll { from, server: SERVER });
    world.step();
    assert!(matches!(answer.try_recv(), Ok(Reply::Polled { commands, .. }) if commands.len() == 1));
    assert_eq!(world.broker.journal_waiting(), 1);
}

#[test]
fn the_last_part_of_a_checkpoint_waits_for_no_company() {
    let mut world = World::new();
    let mut running = world.delivered(false, &["say hi"; WINDOW as usize]);
    let mut keeper = world.broker.take_keeper().expect("it is there");
    let (now, plugin, broker) = (world.now, world.plugin, &mut world.broker);
    // Without a moment that passes: a frame that had patience would never come. Results do: they are in the frame behind the one
    // that was open when the checkpoint began.
    let mut steps = 0;
    let mut step = || {
        steps += 1;
        if let Some(seq) = running.pop() {
            let results = vec![World::completed(seq)];
            broker.tell(SERVER, Input::Results { conn: plugin, batch: steps, results });
        }
        broker.step_shard(SHARD, now, usize::MAX);
        broker.step_journal(Some(SHARD), now, usize::MAX);
        steps < 100
    };
    assert!(!keeper.look(now, true, &mut step), "it was its last look");
    assert!(steps < 100, "the checkpoint is made");
}

#[test]
fn the_next_command_of_an_order_is_waited_for() {
    let mut world = World::new();
    let first = world.delivered(true, &["first", "second"]);
    assert_eq!(first.len(), 1);
    world.report(first[0]);
    world.commit();
    let (second, _) = world.received();
    assert_eq!(second.len(), 1, "it goes as soon as the end of the one before is durable");
}

#[test]
fn an_answer_over_rest_is_waited_for() {
    let mut world = World::new();
    let delivered = world.delivered(false, &["say hi"]);
    let results = vec![World::completed(delivered[0])];
    let mut answer = world.broker.call(SHARD, |from| Input::PollResults { from, server: SERVER, results });
    world.step();
    assert!(answer.try_recv().is_err(), "nothing is promised yet");
    world.commit();
    assert!(answer.try_recv().is_ok());
}

#[test]
fn a_turn_handles_so_many_messages_and_in_their_order_however_many_are_taken_together() {
    const TURNS: u64 = 8;
    let mut world = World::with_window(256);
    for most in [1, 5, 20] {
        let before = world.broker.counters(SHARD).orders;
        let texts: Vec<String> = (0..TURNS * most).map(|n| n.to_string()).collect();
        texts.iter().for_each(|text| world.send(false, &[text.as_str()]));
        for turn in 1..=TURNS {
            let most = usize::try_from(most).unwrap();
            world.broker.step_shard(SHARD, world.now, most);
            assert_eq!(world.broker.counters(SHARD).orders - before, turn * most as u64);
        }
        while world.broker.journal_waiting() > 0 {
            world.broker.step_journal(Some(SHARD), world.now, usize::MAX);
            world.step();
        }
        assert_eq!(world.received_texts(), texts);
    }
}
